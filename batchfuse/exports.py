"""Exports: what a store's values become in a file for other programs, and where that file lies."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchfuse.errors import StoreError
from batchfuse.geometry.window import Window
from batchfuse.imagery.scene import can_hold
from batchfuse.imagery.tally import Tally, is_counted, refined, tallied, values_of
from batchfuse.recipe import Export
from batchfuse.storage.export import WORLD, Picture, signature_of, write_cog, write_png
from batchfuse.storage.store import RasterLayout, Store, VolumeLayout, refuse_within_store

__all__ = ["Exported", "export", "export_again", "outdated", "refuse_foreign_export"]

PERCENTILES = (2.0, 98.0)
"""What `stretch: percentiles` shows as the ends of the type."""
FEW = 16  # whole numbers that an image can hardly be told by
MANY = 0.5  # share of the values that may be cut without a word


@dataclass(frozen=True, slots=True)
class Exported:
    """An export that is there."""

    path: Path
    """The file."""
    dtype: str
    """Type of its pixels."""
    warnings: tuple[str, ...] = ()
    """What a person should look at."""
    kept: bool = False
    """Whether it was there before."""


def export(
    store: Store, wanted: Export, path: Path, *, overwrite: bool = False, threads: int = 1
) -> Exported:
    """Writes a complete store as one file, window by window; the file appears when it is whole.

    Args:
        store: what is exported.
        wanted: format, type and stretch.
        path: the file.
        overwrite: whether an export that is there is replaced; a file that is none never is.
        threads: that compress at a time.

    Raises:
        StoreError: the store is not complete or damaged, has bands that the format can't hold, ``path`` is
            taken or lies in a store, or can't be written.
    """
    if not store.complete:
        raise StoreError(f"{store.path} is not complete: run its recipe again, then export it")
    if refused := wanted.refusal(len(store.bands), isinstance(store.layout, VolumeLayout)):
        raise StoreError(f"{store.path}: {refused}")
    if path.is_dir():
        raise StoreError(f"{path} is a folder: name a file")
    if os.path.lexists(path) and not overwrite:
        raise StoreError(f"{path} is there already: name another file, or --overwrite to replace it")
    refuse_foreign_export(path, wanted, "name another file")
    if isinstance(store.layout, VolumeLayout) and not store.layout.header:
        raise StoreError(f"{store.path} is a reduced level: export the store that it is part of")
    rendering = Rendering(store, wanted)
    if wanted.to == "nifti":
        from batchfuse.storage.nifti_file import write_nifti

        header = rendering.header()
        write_nifti(header, store.grid.shape, rendering.dtype, rendering.pieces(), path)
    elif wanted.to == "png":
        write_png(rendering.picture(), rendering.pieces(), path)
    else:
        write_cog(rendering.picture(), rendering.pieces(), path, threads)
    return Exported(path, rendering.dtype, tuple(rendering.doubts()))


def export_again(path: Path, wanted: Export, anew: bool) -> Exported:
    """Makes what a recipe wants beside the store at ``path``, or keeps what an earlier run made alike.

    Raises StoreError as ``export`` does; a file that is no export of ours is left alone.
    """
    store = Store.open(path)
    place = wanted.beside(path)
    refuse_foreign_export(place, wanted, "give another `output.path`")
    if not anew and _signature_of(place, wanted) == _signature(store, wanted):
        return Exported(place, Rendering(store, wanted).dtype, kept=True)
    return export(store, wanted, place, overwrite=True)


def refuse_foreign_export(path: Path, wanted: Export, remedy: str) -> None:
    """StoreError where what lies at ``path`` is no export of ours, or the path lies in a store."""
    refuse_within_store(path)
    if os.path.lexists(path) and (path.is_symlink() or _signature_of(path, wanted) is None):
        raise StoreError(f"{path} is there and is no export of batchfuse: move it away, or {remedy}")


def outdated(path: Path, wanted: Sequence[Export]) -> list[str]:
    """Names of exports beside the store at ``path`` that are not wanted now and show an earlier image."""
    store = Store.open(path)
    kinds = {export.to for export in wanted}
    others = [Export(to=to) for to in ("cog", "png", "nifti") if to not in kinds]
    found = [(other, other.beside(path)) for other in others]
    return [
        place.name
        for other, place in found
        if place.exists()
        and (made := _signature_of(place, other)) is not None
        and made.get("store") != _signature(store, other)["store"]
    ]


def _signature_of(path: Path, wanted: Export) -> dict[str, Any] | None:
    """What the file at ``path`` was made of, or None where it is no export of ours."""
    if wanted.to != "nifti":
        found = signature_of(path)
        return found and {key: value for key, value in found.items() if key != WORLD}
    from batchfuse.storage.nifti_file import nifti_signature_of

    return nifti_signature_of(path)


def _signature(store: Store, wanted: Export) -> dict[str, Any]:
    """What decides the bytes of an export: equal signatures, equal files."""
    record = hashlib.sha256(json.dumps(store.record, sort_keys=True).encode()).hexdigest()
    made = {"dtype": wanted.dtype, "stretch": wanted.stretch, "store": record}
    return {**made, "keep_text": wanted.keep_text} if wanted.to == "nifti" else made


class Rendering:
    """What the values of a store become in a file.

    Whatever depends on the whole image is found over all of it first: the result does not depend on tiles.
    """

    def __init__(self, store: Store, wanted: Export) -> None:
        self.store = store
        self.wanted = wanted
        plain = "uint8" if wanted.to == "png" or wanted.stretch != "none" else store.dtype
        # NIfTI has no float16, and GDAL none in GeoTIFFs before 3.11
        self.dtype = (wanted.dtype or plain).replace("float16", "float32")
        """Type of the file's pixels."""
        self._real = np.dtype(self.dtype).kind == "f"
        self._unit = store.record.get("recipe", {}).get("output", {}).get("units") == "unit"
        self._scale, self._offset = store.layout.packing
        self._tiling = store.tiling
        same = store.dtype.replace("float16", "float32") == self.dtype
        self._as_is = wanted.to != "png" and wanted.stretch == "none" and same

    def picture(self) -> Picture:
        """All that the file says but for its pixels."""
        png, layout = self.wanted.to == "png", self.store.layout
        assert isinstance(layout, RasterLayout)
        scale, offset = self._packing
        return Picture(
            grid=layout.grid,
            bands=layout.bands,
            dtype=self.dtype,
            nodata=None if png else self._fill,
            alpha=self._alpha,
            scale=scale,
            offset=offset,
            units=layout.units if self._keeps_values else None,
            signature=_signature(self.store, self.wanted),
        )

    def header(self) -> bytes:
        """The header of a NIfTI file."""
        from batchfuse.storage.nifti_header import export_header

        layout = self.store.layout
        assert isinstance(layout, VolumeLayout)
        return export_header(
            layout.header,
            self.dtype,
            self._packing,
            _description(self.store.record),
            _signature(self.store, self.wanted),
            keep_text=self.wanted.keep_text,
            keep_display=self._keeps_values and not self._unit,
        )

    @property
    def _keeps_values(self) -> bool:
        """Whether the file's values mean what the store's do."""
        return self.wanted.to != "png" and self.wanted.stretch == "none"

    @property
    def _packing(self) -> tuple[float | None, float | None]:
        """Scale and offset of the file's values."""
        if not self._keeps_values:
            return None, None
        if not self._as_is and self._unit:
            return (None, None) if self._real else (1 / self._top, 0.0)
        return self._scale, self._offset

    def pieces(self) -> Iterator[tuple[Window, NDArray[Any]]]:
        """The file's pixels, tile by tile."""
        for tile in self._tiling:
            stored = self.store.read(tile.core)
            if self._as_is:
                yield tile.core, stored.astype(self.dtype, copy=False)
                continue
            missing = self._missing(stored)
            pixels = self._rendered(stored, missing)
            if self._alpha:
                opaque = np.where(missing, 0, self._top).astype(self.dtype)
                pixels = np.concatenate([pixels, opaque[None]])
            yield tile.core, pixels

    def doubts(self) -> Iterator[str]:
        """What the type can't hold, in sentences for people."""
        if (self.wanted.dtype or self.store.dtype) == "float16" and self._real:
            lacking = "NIfTI" if self.wanted.to == "nifti" else "GDAL's GeoTIFF before GDAL 3.11"
            yield f"{lacking} has no float16: the values are written as float32"
        if self._as_is or self._tally.valid == 0:
            return
        if self.wanted.stretch != "none":
            if self._ends[0] == self._ends[1]:
                yield f"the image is constant where it is stretched ({self._ends[0]:g}): nothing shows"
            return
        low, high = (self._values(np.array([end]))[0] for end in (self._tally.low, self._tally.high))
        if not self._real and (share := self._cut()) > MANY:
            info = np.iinfo(self.dtype)
            yield (
                f"{share:.0%} of the values lie beyond {info.min} to {info.max} and are cut (they reach from "
                f"{low:.6g} to {high:.6g}): stretch them (minmax, percentiles), or take a wider type"
            )
        elif not self._real and np.dtype(self.store.dtype).kind == "f" and 0 < high - low < FEW:
            yield (
                f"the values reach from {low:.6g} to {high:.6g}, which {self.dtype} rounds to a few whole "
                "numbers: stretch them (minmax, percentiles)"
            )

    @cached_property
    def _alpha(self) -> bool:
        """Whether the file tells invalid pixels by a band of its own: a picture that has some."""
        return self.wanted.to == "png" and self._tally.valid < self._tally.pixels

    @property
    def _top(self) -> float:
        """The type's value for white."""
        return 1.0 if self._real else float(np.iinfo(self.dtype).max)

    @property
    def _fill(self) -> float:
        """What invalid pixels hold."""
        if self._real:
            return math.nan
        fill = self.store.fill
        return fill if not math.isnan(fill) and can_hold(self.dtype, fill) else int(np.iinfo(self.dtype).min)

    def _missing(self, stored: NDArray[Any]) -> NDArray[np.bool_]:
        """Where the stored pixels (band, …) are invalid, without the axis of bands."""
        fill = self.store.fill
        return np.asarray((np.isnan(stored) if math.isnan(fill) else stored == fill).any(0))

    def _rendered(self, stored: NDArray[Any], missing: NDArray[np.bool_]) -> NDArray[Any]:
        with np.errstate(invalid="ignore"):  # what is missing is NaN
            values = self._values(stored)
        if self._real:
            values[:, missing] = np.nan
            return values.astype(self.dtype)
        # the authors of the network truncate what they stretch
        values = np.rint(values) if self.wanted.stretch == "none" else np.floor(values)
        info = np.iinfo(self.dtype)
        values[:, missing] = 0
        pixels = np.clip(values, info.min, info.max)
        if self.wanted.to != "png":
            # a valid value must not read as nodata: it moves by one
            pixels[pixels == self._fill] += 1 if self._fill < info.max else -1
            pixels[:, missing] = self._fill
        return pixels.astype(self.dtype)

    def _values(self, stored: NDArray[Any]) -> NDArray[np.float64]:
        """Stored values in the file's numbers, neither rounded nor cut to the type."""
        values = stored.astype(np.float64)
        if self.wanted.stretch == "none":
            # 0..1 fills the type; every other number stays what it is
            return values * ((self._scale or 1.0) * self._top) if self._unit else values
        low, high = self._ends
        if low == high:
            return np.zeros_like(values)
        # divided first: the highest value is exactly the type's
        return np.clip((values - low) / (high - low), 0.0, 1.0) * self._top

    @cached_property
    def _tally(self) -> Tally:
        """How often each value is there, over all bands."""
        return Tally.merged(tallied(stored, valid) for stored, valid in self._read())

    def _read(self) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]:
        for tile in self._tiling:
            stored = self.store.read(tile.core)
            yield stored, ~self._missing(stored)

    @cached_property
    def _ends(self) -> tuple[float, float]:
        """The stored values that are stretched to the ends of the type."""
        if self._tally.valid == 0:
            return 0.0, 0.0
        if self.wanted.stretch == "minmax":
            return self._tally.low, self._tally.high
        places = [(self._tally.valid - 1) * q / 100 for q in PERCENTILES]
        at = self._ranked({int(end(place)) for place in places for end in (math.floor, math.ceil)})
        low, high = (
            at[math.floor(p)] + (at[math.ceil(p)] - at[math.floor(p)]) * (p - math.floor(p)) for p in places
        )
        return low, high

    def _ranked(self, ranks: set[int]) -> dict[int, float]:
        """The values that stand at these ranks among all valid ones, exactly."""
        keys, ends = self._tally.keys, np.cumsum(self._tally.counts)
        bins = {rank: int(np.searchsorted(ends, rank, side="right")) for rank in ranks}
        if is_counted(np.dtype(self.store.dtype)):
            return {rank: float(keys[place]) for rank, place in bins.items()}
        # a bin of the first pass is 1/128 of a power of two wide: the second looks within
        within = {int(keys[place]): Tally.empty() for place in bins.values()}
        for stored, valid in self._read():
            for key, found in refined(stored, valid, within).items():
                within[key] = within[key].merge(found)
        values = {}
        for rank, place in bins.items():
            key, before = int(keys[place]), int(ends[place] - self._tally.counts[place])
            inner = within[key]
            lower = inner.keys[np.searchsorted(np.cumsum(inner.counts), rank - before, side="right")]
            values[rank] = float(values_of((key << 16) | np.array([lower], np.int64))[0])
        return values

    def _cut(self) -> float:
        """The share of the values that lie beyond the type; near enough for a warning."""
        tally, info = self._tally, np.iinfo(self.dtype)
        known = (
            tally.keys.astype(np.float64)
            if is_counted(np.dtype(self.store.dtype))
            else np.nan_to_num(values_of(tally.keys << 16))
        )
        values = self._values(known)
        beyond = (values < info.min - 0.5) | (values > info.max + 0.5)
        return float(tally.counts[beyond].sum() / tally.valid)


def _description(record: Mapping[str, Any]) -> str:
    """What made a volume, for a field of 79 bytes."""
    fusion = record.get("recipe", {}).get("fusion", {})
    strategy = fusion.get("strategy")
    strategy = next(iter(strategy)) if isinstance(strategy, Mapping) else strategy
    roles = " + ".join(str(source["role"]) for source in record.get("sources", ()))
    return f"batchfuse {record.get('version')}: {fusion.get('method')} {strategy}, {roles}"
