"""A raster store: one fused image as a Zarr (format 2) folder that GDAL, xarray and odc-geo open.

A chunk that is there is a tile that is done: chunks are written whole, under a temporary name, and
renamed. Nothing in a store depends on when, where or in which order it was written.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from batchfuse.errors import StoreError
from batchfuse.geometry.grid import Grid
from batchfuse.geometry.tiling import Tile, Tiling
from batchfuse.geometry.window import Window
from batchfuse.storage.layout import Layout
from batchfuse.storage.tree import (
    FORMAT,
    RECORD,
    array_of,
    attributes_of,
    completed,
    consolidated,
    layout_of,
    write_tree,
)

__all__ = ["Layout", "Store", "is_store", "remove_store"]

if zarr.config.get("threading.max_workers") is None:
    # the tiles are the parallelism: zarr's own threads would only oversubscribe the cores
    zarr.config.set({"threading.max_workers": 2, "async.concurrency": 2})


class Store:
    """One raster store on disk. Threads may write different tiles of it at once."""

    def __init__(self, path: Path, group: zarr.Group) -> None:
        """Use ``create`` or ``open``."""
        self.path = path
        """The store's folder."""
        record = dict(attributes_of(group)[RECORD])
        self.complete = bool(record.pop("complete")) and (path / ".zmetadata").is_file()
        """Whether the store is sealed."""
        record.pop("format")
        self.record: dict[str, Any] = record
        """What made the store, as given to ``create``."""
        # at every open, because it is not kept in the metadata: a tile of fill values is done too
        self._fused = array_of(group, "fused").with_config({"write_empty_chunks": True})
        self.layout = layout_of(group)
        """Grid, bands and type of the image."""
        self._tiling = Tiling(self.layout.grid.shape, self.layout.tile_size, halo=0)

    @classmethod
    def create(cls, path: Path, layout: Layout, record: Mapping[str, Any]) -> Store:
        """Make an empty store at ``path``, which must not exist, and open it.

        ``record`` is any JSON; it is kept under the attribute ``batchfuse`` with sorted keys.
        Raises StoreError where the path is taken or can't be written, or the CRS can't be read.
        """
        if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
            raise StoreError(f"{path} is there already: give another output path, or --overwrite")
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
        try:
            with _refusals(f"{path} can't be created"):
                partial.mkdir(parents=True)
                write_tree(partial, layout, record)
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
        _check_is_ours(path)
        try:
            return cls(path, zarr.open_group(path, mode="r+", zarr_format=2, use_consolidated=False))
        except Exception as error:  # zarr has no one error for damaged metadata
            raise StoreError(f"{path} is damaged: its metadata can't be read ({_said(error)})") from None

    def __reduce__(self) -> tuple[Callable[[Path], Store], tuple[Path]]:
        return Store.open, (self.path,)

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    @property
    def grid(self) -> Grid:
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
    def tile_size(self) -> int:
        """Edge of a tile's core; of an image of one tile, its longer side."""
        return self.layout.tile_size

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, rows and columns."""
        return self.layout.shape

    def is_written(self, index: tuple[int, ...]) -> bool:
        """Whether the tile's chunk is there."""
        try:
            # a power cut can leave an empty file under the final name
            return self._chunk_path(index).stat().st_size > 0
        except OSError:
            return False

    def unwritten(self, tiling: Tiling) -> list[Tile]:
        """List the tiles whose chunks are not there, in the tiling's order."""
        self._check_tiling(tiling)
        there = self._written_names()
        return [tile for tile in tiling if self._chunk_path(tile.index).name not in there]

    def write(self, tile: Tile, pixels: NDArray[Any]) -> int:
        """Write the tile's core, one whole chunk, and say how many bytes it takes on disk.

        ``pixels`` are (bands, y, x) of the core's shape and the store's type. What was in the
        chunk before is replaced unread. Raises StoreError where the disk refuses.
        """
        expected = (len(self.bands), *tile.core.shape)
        if (
            pixels.shape != expected
            or pixels.dtype.name != self.dtype
            or self._tiling[tile.index].core != tile.core
        ):
            raise ValueError(
                f"tile {tile.index} takes {self.dtype} {expected}, not {pixels.dtype.name} {pixels.shape}"
            )
        with _refusals(f"{self.path}: tile {tile.index} can't be written"):
            self._fused[(slice(None), *tile.core.slices)] = pixels
            return self._chunk_path(tile.index).stat().st_size

    def read(self, window: Window) -> NDArray[Any]:
        """Pixels (bands, y, x) of a window, from the chunks it touches only.

        Raises StoreError naming the tile whose chunk is missing or damaged.
        """
        pixels = np.empty((len(self.bands), *window.shape), self.dtype)
        for tile in self._tiles_in(window):
            part = tile.core.intersection(window)
            assert part is not None
            pixels[(slice(None), *part.relative_to(window).slices)] = self._read_part(tile, part)
        return pixels

    def sweep(self) -> int:
        """Remove what a killed run left under temporary names, and say how many there were.

        Not while another process writes to this store.
        """
        with _refusals(f"{self.path} can't be swept"):
            left = [*self.path.rglob("*.partial"), *_partial_siblings(self.path)]
            for path in left:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        return len(left)

    def seal(self) -> None:
        """Declare the store complete, durably; does nothing to a sealed one.

        Raises StoreError while chunks are missing.
        """
        missing = len(self._tiling) - len(self._written_names())
        if missing:
            raise StoreError(f"{self.path}: {missing} of {len(self._tiling)} tiles are missing: run it again")
        if self.complete:
            return
        with _refusals(f"{self.path} can't be sealed"):
            _sync_tree(self.path)
            _replace_file(self.path / ".zattrs", completed(self.path))
            _replace_file(self.path / ".zmetadata", consolidated(self.path))
        self.complete = True

    def _chunk_path(self, index: tuple[int, ...]) -> Path:
        return self.path / "fused" / ".".join(map(str, (0, *index)))

    def _written_names(self) -> set[str]:
        """Names of the chunk files that are there: one listing in place of a stat for each tile."""
        with _refusals(f"{self.path} can't be listed"), os.scandir(self.path / "fused") as entries:
            return {e.name for e in entries if re.fullmatch(r"0\.\d+\.\d+", e.name) and e.stat().st_size > 0}

    def _check_tiling(self, tiling: Tiling) -> None:
        if tiling.shape != self._tiling.shape or tiling[(0, 0)].core != self._tiling[(0, 0)].core:
            raise ValueError(f"{tiling} doesn't cut {self.path} into its chunks of {self.layout.chunk}")

    def _tiles_in(self, window: Window) -> Iterator[Tile]:
        if window.intersection(Window.whole(self.grid.shape)) != window:
            raise ValueError(f"{window} is empty or leaves the image of {self.grid.shape}")
        rows, columns = (
            range(a // self.tile_size, -(-b // self.tile_size))
            for a, b in zip(window.start, window.stop, strict=True)
        )
        for row in rows:
            for column in columns:
                yield self._tiling[(row, column)]

    def _read_part(self, tile: Tile, part: Window) -> NDArray[Any]:
        if not self.is_written(tile.index):
            raise StoreError(f"{self.path}: tile {tile.index} is missing: run it again")
        try:
            return np.asarray(self._fused[(slice(None), *part.slices)])
        except Exception as error:  # each codec has its own error for damaged bytes
            path = self._chunk_path(tile.index)
            raise StoreError(
                f"{self.path}: tile {tile.index} is damaged ({_said(error)}): delete {path} and run it again"
            ) from None


def is_store(path: Path) -> bool:
    """Whether a store of ours lies at ``path``, readable or not."""
    try:
        return not path.is_symlink() and RECORD in json.loads((path / ".zattrs").read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def remove_store(path: Path) -> None:
    """Delete the store at ``path``, if there is one; StoreError where something else lies there."""
    if not path.exists() and not path.is_symlink():
        return
    if not is_store(path):
        raise StoreError(f"{path} is not a store of batchfuse and is left alone: delete it yourself")
    # renamed first, so that a kill in between leaves no half store under the name
    doomed = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    with _refusals(f"{path} can't be deleted"):
        path.replace(doomed)
        shutil.rmtree(doomed)


def _partial_siblings(path: Path) -> list[Path]:
    """Folders a killed ``create`` or ``remove_store`` left beside the store."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{32}}\.partial")
    return [p for p in path.parent.iterdir() if pattern.fullmatch(p.name)]


def _check_is_ours(path: Path) -> None:
    if not path.is_dir():
        raise StoreError(
            f"{path} is not a folder: there is no store" if path.exists() else f"{path} is not there"
        )
    if (path / "zarr.json").exists():
        raise StoreError(f"{path} is in Zarr format 3: this version of batchfuse reads format 2")
    try:
        attributes = json.loads((path / ".zattrs").read_bytes())
    except FileNotFoundError:
        inside = sorted(entry.name for entry in path.iterdir() if is_store(entry))
        hint = f"; name one within it, such as {path / inside[0]}" if inside else ""
        raise StoreError(f"{path} is not a store of batchfuse: it has no .zattrs{hint}") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is damaged: .zattrs can't be read ({_said(error)})") from None
    record = attributes.get(RECORD) if isinstance(attributes, dict) else None
    if not isinstance(record, dict):
        raise StoreError(f"{path} is not a store of batchfuse: .zattrs has no `{RECORD}`")
    number = record.get("format")
    if not isinstance(number, int) or number > FORMAT:
        raise StoreError(f"{path} has format {number}, this version of batchfuse reads {FORMAT}: update it")


def _replace_file(path: Path, content: bytes) -> None:
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    partial.write_bytes(content)
    _sync(partial)
    partial.replace(path)
    _sync(path.parent)


def _sync_tree(path: Path) -> None:
    """Wait until everything in the folder is on the disk: zarr itself never asks for it."""
    for folder, _, files in os.walk(path):
        for name in files:
            _sync(Path(folder, name))
        _sync(Path(folder))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Turn what the file system refuses into a StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{what}: {_said(error)}") from None


def _said(error: BaseException) -> str:
    """Put an error's own words on one line."""
    return " ".join(str(error).split()) or type(error).__name__
