"""A store: one fused image or volume as a Zarr folder (format 2 or 3) that other programs open.

What arrays there are and where their chunks lie is the layout's affair (``raster.py``, ``volume.py``).

A chunk (or shard) that is there is a tile that is done: they are written whole, under a temporary
name, and renamed. Nothing in a store depends on when, where or in which order it was written.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray

from batchfuse.errors import DamagedError, StoreAwayError, StoreError, may_pass, said
from batchfuse.files import replace_file
from batchfuse.geometry.grid import Grid
from batchfuse.geometry.tiling import Tile, Tiling
from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.geometry.window import Window
from batchfuse.storage.digests import (
    NAME,
    Digest,
    Digests,
    digest_of,
    digest_of_bytes,
    encoded,
    read_digests,
)
from batchfuse.storage.files import refusals, sync_tree
from batchfuse.storage.formats import Format, format_of
from batchfuse.storage.layout import FORMAT, RECORD, Layout, array_of, attributes_of
from batchfuse.storage.raster import RasterLayout
from batchfuse.storage.volume import VolumeLayout
from batchfuse.system.notes import check_readable
from batchfuse.system.partials import is_partial, partial_path, remove

__all__ = [
    "REPLACE",
    "Layout",
    "RasterLayout",
    "Store",
    "VolumeLayout",
    "is_half_written",
    "is_store",
    "refuse_links",
    "refuse_within_store",
    "stores_within",
]

REPLACE = "--overwrite replaces the store"
"""The remedy for what can't be mended tile by tile."""
ZARRS = re.compile(r"(\d+(\.\d+)*|\.z(attrs|array|group|metadata)|zarr)\.[0-9a-f]{32}\.partial")
"""What zarr's LocalStore calls a file until it is whole: no other name of a user's is so."""
SEEN, LOOK = 90.0, 1.0  # seconds within which a host sees what another wrote; between two looks

if zarr.config.get("threading.max_workers") is None:
    # the tiles are the parallelism: zarr's own threads would only oversubscribe the cores
    zarr.config.set({"threading.max_workers": 2, "async.concurrency": 2})


class Store:
    """One store on disk, of a raster or a volume. Threads may write different tiles of it at once.

    Pixels are (bands, y, x) of rasters and (1, z, y, x) of volumes, whose array has no axis for the band.
    A reduced level of a volume is a store, too: an array inside the volume's.
    """

    def __init__(self, path: Path, node: zarr.Group | zarr.Array[Any]) -> None:
        """Use ``create`` or ``open``."""
        self.path = path
        """The store's folder."""
        self.layout = _layout_of(node)
        """Grid, bands and type of the image."""
        self._form = self.layout.form
        record = dict(attributes_of(node)[RECORD])
        self.complete = bool(record.pop("complete")) and self._form.is_sealed(path)
        """Whether the store is sealed."""
        record.pop("format")
        self.record: dict[str, Any] = record
        """What made the store, as given to ``create``."""
        image = array_of(node, self.layout.image) if isinstance(node, zarr.Group) else node
        # at every open, because it is not kept in the metadata: a tile of fill values is done too
        self._image = image.with_config({"write_empty_chunks": True})
        self.tiling = self.layout.tiling
        """The cores of the chunks."""

    @classmethod
    def create(cls, path: Path, layout: Layout, record: Mapping[str, Any]) -> Store:
        """Make an empty store at ``path``, which must not exist, and open it.

        ``record`` is any JSON; it is kept under the attribute ``batchfuse`` with sorted keys.
        Raises StoreError where the path is taken or can't be written, or the CRS can't be read.
        """
        if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
            raise StoreError(f"{path} is there already: give another output path, or --overwrite")
        partial = partial_path(path)
        try:
            with refusals(f"{path} can't be created"):
                partial.mkdir(parents=True)
                layout.write_tree(partial, record)
                # renamed when whole, so that what lies at the path is never half a store
                partial.replace(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open the store at ``path``, sealed or not.

        Raises StoreError where there is none, or it is damaged or of a newer format.
        """
        number = _checked_format(path)
        try:
            if format_of(path).is_array(path):
                return cls(path, zarr.open_array(path, mode="r+", zarr_format=number))
            return cls(path, zarr.open_group(path, mode="r+", zarr_format=number, use_consolidated=False))
        except Exception as error:  # zarr has no one error for damaged metadata
            raise StoreError(
                f"{path} is damaged: its metadata can't be read ({said(error)}): {REPLACE}"
            ) from None

    def __reduce__(self) -> tuple[Callable[[Path], Store], tuple[Path]]:
        return Store.open, (self.path,)

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    @property
    def grid(self) -> Grid | VolumeGrid:
        """Where the pixels lie."""
        return self.layout.grid

    @property
    def bands(self) -> tuple[str, ...]:
        """Name of each band."""
        return self.layout.bands

    @property
    def dtype(self) -> str:
        """Type of the pixels."""
        return self.layout.dtype

    @property
    def fill(self) -> float:
        """What invalid pixels hold."""
        return self.layout.fill

    @property
    def shape(self) -> tuple[int, ...]:
        """Bands, then rows and columns, or slices, rows and columns."""
        return self.layout.shape

    def is_written(self, index: tuple[int, ...]) -> bool:
        """Whether the tile's chunk is there."""
        try:
            # a power cut can leave an empty file under the final name
            return self.chunk_path(index).stat().st_size > 0
        except OSError:
            return False

    def unwritten(self, tiling: Tiling) -> list[Tile]:
        """List the tiles whose chunks are not there, in the tiling's order."""
        self._check_tiling(tiling)
        there = self._written()
        return [tile for tile in tiling if tile.index not in there]

    def sizes(self) -> dict[tuple[int, ...], int]:
        """Bytes of each chunk that is there, by the tile's index: a listing in place of a stat for each tile.

        A power cut can leave an empty file under the final name.
        """
        with refusals(f"{self.path} can't be listed"):
            return self._form.written(self.path, self.layout.image, self.layout.lead, len(self.tiling.shape))

    def write(self, tile: Tile, pixels: NDArray[Any]) -> Digest:
        """Write the tile's core, one whole chunk, and tell the file's digest.

        ``pixels`` are (bands, *core) of the store's type. What was in the chunk before is replaced unread.
        Raises StoreError where the disk refuses.
        """
        expected = (len(self.bands), *tile.core.shape)
        if (
            pixels.shape != expected
            or pixels.dtype.name != self.dtype
            or self.tiling[tile.index].core != tile.core
        ):
            raise ValueError(
                f"tile {tile.index} takes {self.dtype} {expected}, not {pixels.dtype.name} {pixels.shape}"
            )
        with refusals(f"{self.path}: tile {tile.index} can't be written"):
            if self.layout.inner is not None:
                # zarr would read a shard first that the tile doesn't fill
                self.chunk_path(tile.index).unlink(missing_ok=True)
            self._image[self.layout.selection(tile.core)] = pixels if self.layout.band_axis else pixels[0]
            return digest_of(self.chunk_path(tile.index))

    def read(self, window: Window) -> NDArray[Any]:
        """Pixels (bands, *window) of a window, from the chunks it touches only.

        Raises StoreError naming the tile whose chunk is missing or damaged.
        """
        pixels = np.empty((len(self.bands), *window.shape), self.dtype)
        for tile in self._tiles_in(window):
            part = tile.core.intersection(window)
            assert part is not None
            pixels[(slice(None), *part.relative_to(window).slices)] = self._read_part(tile, part)
        return pixels

    def sweep(self) -> int:
        """Remove what a killed process left inside under temporary names, and say how many there were.

        Not while another process writes to this store. What lies beside it, a run sweeps when it begins.
        """
        with refusals(f"{self.path} can't be swept"):
            left = list(_half_written(self.path))
            for path in left:
                remove(path)
            return len(left)

    def seal(self, digests: Mapping[Path, Digest] | None = None) -> None:
        """Declare the store complete, durably; of a sealed one, levels that it didn't have are added.

        Args:
            digests: what ``write`` has told, by the chunk's file, whoever wrote it. Others are those of the
                last seal; what neither tells is read.

        Raises:
            StoreError: chunks are missing, or the disk refuses.
        """
        there = self._seen(digests or {})
        missing = sum(tile.index not in there for tile in self.tiling)
        if missing:
            raise StoreError(f"{self.path}: {missing} of {len(self.tiling)} tiles are missing: run it again")
        levels = self._levels()
        same = self.complete and list(levels) == self._sealed_levels()
        if same and not digests:
            return
        before = self.digests() if self.complete else None
        known = before.files if before is not None else {}
        told = self._told(digests or {}, known)
        if same and not told:
            return
        with refusals(f"{self.path} can't be sealed"):
            sync_tree(self.path)
            files = self._sealing(levels)
            kept = encoded(Digests(self.record, self._digests({**known, **told}, files)))
            # what the last of them calls sealed has its digests already
            for path, content in (*files[:-1], (self.digests_path, kept), files[-1]):
                replace_file(path, content)
        self.complete = True

    def _seen(self, told: Mapping[Path, Digest]) -> set[tuple[int, ...]]:
        """Indices of the chunks that are there.

        Those that other hosts have ``told`` of are waited for: a network file system may show them late.
        """
        end = time.monotonic() + SEEN
        while True:
            there = self._written()
            late = any(t.index not in there and self.chunk_path(t.index) in told for t in self.tiling)
            if not late or time.monotonic() > end:
                return there
            time.sleep(LOOK)

    @property
    def digests_path(self) -> Path:
        """The file of the digests, whether it is there or not."""
        return self.path / self.layout.image / NAME

    def digests(self) -> Digests | None:
        """What the last seal kept of each file; None where that is not there, damaged or of another store.

        Raises StoreError where the file system refuses.
        """
        found = read_digests(self.digests_path.parent)
        return found if found is not None and found.record == self.record else None

    def files_beside_chunks(self) -> list[Path]:
        """Every file that the store needs beside the chunks of its image and the digests.

        What only a seal writes is one of them where the store is sealed.
        """
        form, layout = self._form, self.layout
        constants = layout.constants().items()
        chunks = [form.chunk(self.path, name, (0,) * values.ndim) for name, values in constants]
        sealing = [self.path / ".zmetadata"] if self.complete and form.number == 2 and layout.arrays else []
        return [*form.metadata_files(self.path, layout.arrays), *chunks, *sealing]

    def every_file(self) -> Iterator[Path]:
        """Every file that the store may have, there or not; not those of reduced levels."""
        yield from self.files_beside_chunks()
        yield from (self.path / ".zmetadata", self.digests_path)
        yield from (self.chunk_path(tile.index) for tile in self.tiling)

    def named(self, path: Path) -> str:
        """A file's name within the store, as the digests have it."""
        return path.relative_to(self.path).as_posix()

    def _told(self, digests: Mapping[Path, Digest], known: Mapping[str, Digest]) -> dict[str, Digest]:
        """By name, the digests of the store's chunks that are not ``known`` from the last seal."""
        paths = (self.chunk_path(tile.index) for tile in self.tiling)
        told = {self.named(path): digests[path] for path in paths if path in digests}
        return {name: digest for name, digest in told.items() if known.get(name) != digest}

    def _digests(
        self, known: Mapping[str, Digest], sealing: Sequence[tuple[Path, bytes]]
    ) -> dict[str, Digest]:
        """The digests of every file; ``sealing`` are those that are about to be written."""
        found = {}
        for tile in self.tiling:
            path = self.chunk_path(tile.index)
            found[self.named(path)] = known.get(self.named(path)) or digest_of(path)
        written = dict(sealing)
        for path in (*self.files_beside_chunks(), *written):
            content = written.get(path)
            found[self.named(path)] = digest_of(path) if content is None else digest_of_bytes(content)
        return found

    def _sealing(self, levels: Mapping[str, Any]) -> list[tuple[Path, bytes]]:
        layout = self.layout
        attributes = layout.with_levels(self._form.attributes(self.path), levels)
        attributes[RECORD]["complete"] = True
        inside = [node for name in levels for node in layout.level_nodes(name)]
        return self._form.sealing(self.path, attributes, [*layout.arrays, *inside])

    def _sealed_levels(self) -> list[str]:
        """Names of the levels that the metadata tells of."""
        return self.layout.told_levels(self._form.attributes(self.path))

    def _levels(self) -> dict[str, Any]:
        """Attributes of each complete reduced level that lies inside, by its folder's name, finest first."""
        found: dict[str, Any] = {}
        while True:
            path = self.layout.level_path(self.path, len(found) + 1)
            if not self.layout.level_nodes(path.name):
                break
            try:
                if not Store.open(path).complete:
                    break
            except StoreError:
                break
            found[path.name] = self._form.attributes(path)
        return found

    def chunk_path(self, index: tuple[int, ...]) -> Path:
        """The file of the tile's chunk or shard, whether it is there or not."""
        return self._form.chunk(self.path, self.layout.image, (*self.layout.lead, *index))

    def _written(self) -> set[tuple[int, ...]]:
        """Indices of the chunks that are there."""
        return {index for index, size in self.sizes().items() if size > 0}

    def _check_tiling(self, tiling: Tiling) -> None:
        first = (0,) * len(self.tiling.shape)
        if tiling.shape != self.tiling.shape or tiling[first].core != self.tiling[first].core:
            raise ValueError(f"{tiling} doesn't cut {self.path} into its chunks of {self.layout.chunk}")

    def _tiles_in(self, window: Window) -> Iterator[Tile]:
        if window.intersection(Window.whole(self.grid.shape)) != window:
            raise ValueError(f"{window} is empty or leaves the image of {self.grid.shape}")
        ranges = (
            range(a // size, -(-b // size))
            for a, b, size in zip(window.start, window.stop, self.tiling.sizes, strict=True)
        )
        for index in itertools.product(*ranges):
            yield self.tiling[index]

    def _read_part(self, tile: Tile, part: Window) -> NDArray[Any]:
        if not self.is_written(tile.index):
            raise StoreError(f"{self.path}: tile {tile.index} is missing: run it again")
        try:
            found = np.asarray(self._image[self.layout.selection(part)])
            return found if self.layout.band_axis else found[None]
        except Exception as error:  # each codec has its own error for damaged bytes
            if may_pass(error):
                raise StoreAwayError(f"{self.path}: tile {tile.index} can't be read: {said(error)}") from None
            path = self.chunk_path(tile.index)
            raise DamagedError(
                f"{self.path}: tile {tile.index} is damaged ({said(error)}; {path.name}): `batchfuse verify` "
                "the store, then run its recipe again: that fuses this tile anew"
            ) from None


def _layout_of(node: zarr.Group | zarr.Array[Any]) -> Layout:
    """The layout of what was opened: rasters alone have an array ``fused``."""
    if isinstance(node, zarr.Group) and "fused" in node:
        return RasterLayout.of(node)
    return VolumeLayout.of(node)


def is_store(path: Path) -> bool:
    """Whether a store of ours lies at ``path``, readable or not."""
    try:
        return not path.is_symlink() and RECORD in format_of(path).attributes(path)
    except (OSError, ValueError, TypeError):
        return False


def stores_within(folder: Path) -> list[Path]:
    """The stores that lie in a folder; not the hidden ones, which a kill left half made or half deleted."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith(".") and is_store(entry))


def refuse_links(path: Path) -> None:
    """StoreError where the store at ``path``, or a folder in it, is a link that leads writing elsewhere."""
    linked = [path] if path.is_symlink() else []
    for folder, folders, _ in os.walk(path):
        linked += [found for name in folders if (found := Path(folder, name)).is_symlink()]
    if linked:
        raise StoreError(
            f"{linked[0]} is a symbolic link, and nothing is written through it: put the store itself there, "
            "or make `output.path` the link"
        )


def refuse_within_store(path: Path) -> None:
    """StoreError where a path lies in a store, which holds nothing but what its own run puts there."""
    above = next(filter(is_store, path.absolute().parents), None)
    if above is not None:
        raise StoreError(f"{path} lies in the store {above}: name a place outside of it")


def is_half_written(name: str) -> bool:
    """Whether a file in a store is called so that we or zarr, which writes chunks beside, were writing it."""
    return is_partial(name) or ZARRS.fullmatch(name) is not None


def _half_written(path: Path) -> Iterator[Path]:
    """Everything in a store that is called so."""
    for folder, folders, files in os.walk(path):
        yield from (Path(folder, name) for name in files if is_half_written(name))
        yield from (Path(folder, name) for name in folders if is_partial(name))
        folders[:] = [name for name in folders if not is_partial(name)]


def _checked_format(path: Path) -> Literal[2, 3]:
    """The Zarr format of the store at ``path``; StoreError where there is none that can be read."""
    if not path.is_dir():
        raise StoreError(
            f"{path} is not a folder: there is no store" if path.exists() else f"{path} is not there"
        )
    form = format_of(path)
    try:
        attributes = form.attributes(path)
    except FileNotFoundError:
        raise StoreError(
            f"{path} is not a store of batchfuse: it has no {form.metadata}{_stores_inside(path)}"
        ) from None
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path} is damaged: {form.metadata} can't be read ({said(error)}): delete it and run again"
        ) from None
    record = attributes.get(RECORD) if isinstance(attributes, dict) else None
    if not isinstance(record, dict):
        raise StoreError(
            f"{path} is not a store of batchfuse: {form.metadata} has no `{RECORD}`{_stores_inside(path)}"
        )
    number = record.get("format")
    if not isinstance(number, int) or number > FORMAT:
        raise StoreError(f"{path} has format {number}, this version of batchfuse reads {FORMAT}: update it")
    _check_metadata(path, form)
    return form.number


def _check_metadata(path: Path, form: Format) -> None:
    """StoreError where zarr would wait for a file of the metadata, or fill the memory with it."""
    try:
        with os.scandir(path) as entries:
            arrays = [] if form.is_array(path) else [entry.name for entry in entries if entry.is_dir()]
        for file in form.metadata_files(path, arrays):
            with suppress(FileNotFoundError):
                check_readable(file)
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path} is damaged: its metadata can't be read ({said(error)}): {REPLACE}"
        ) from None


def _stores_inside(path: Path) -> str:
    """A hint at what was meant by a folder that isn't a store."""
    inside = stores_within(path)
    return f"; name one within it, such as {inside[0]}" if inside else ""
