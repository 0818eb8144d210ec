"""Reduced levels of a fused image: each half as fine as the one before, each a raster store itself.

In format 3 they lie inside the store (``ovr_2x``, ``ovr_4x``, …, the names by which GDAL knows them for
overviews). In format 2, where GDAL 3.10 shows no band when a folder holds two images, they lie beside it:
``<scene>.levels.zarr/1``, ``2``, ….
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from affine import Affine
from numpy.typing import NDArray

from batchfuse.errors import StoreError
from batchfuse.geometry.grid import Grid
from batchfuse.geometry.tiling import Tile
from batchfuse.geometry.window import Window
from batchfuse.storage.files import refusals
from batchfuse.storage.store import Store, is_store, remove_store

__all__ = ["Level", "begun_level", "halved", "levels_folder", "levels_of", "remove_levels", "write_level"]

SMALLEST = 256
"""The longer edge of the coarsest level is at most this."""


@dataclass(frozen=True, slots=True)
class Level:
    """One reduced level of a store."""

    number: int
    """From 1; a pixel is 2 ** number pixels of the store wide."""
    path: Path
    """Its own store."""
    grid: Grid
    """Where its pixels lie: the corner is the store's, and its last pixels may reach beyond the image."""


def levels_of(store: Store) -> Iterator[Level]:
    """Every level that a pyramid of the store has, finest first, whether it is there or not."""
    grid, number = store.grid, 0
    while max(grid.shape) > SMALLEST:
        grid, number = _coarser(grid), number + 1
        inside = store.layout.zarr_format == 3
        path = store.path / f"ovr_{2**number}x" if inside else levels_folder(store.path) / str(number)
        yield Level(number, path, grid)


def levels_folder(path: Path) -> Path:
    """The folder beside a store of format 2 that holds its levels."""
    return path.with_name(f"{path.name.removesuffix('.zarr')}.levels.zarr")


def begun_level(store: Store, level: Level) -> Store:
    """The level's store, as an earlier run left it, or new and empty.

    One that was reduced from another image, or can't be opened, is replaced. Raises StoreError where
    something else lies there.
    """
    record = {**store.record, "level": level.number}
    if level.path.parent != store.path:
        _make_folder(level.path.parent)
    found = _opened(level.path)
    if found is not None and found.record == record and found.grid == level.grid:
        found.sweep()
        return found
    if is_store(level.path):
        remove_store(level.path)
    made = Store.create(level.path, replace(store.layout, grid=level.grid), record)
    made.sweep()
    return made


def write_level(below: Store, level: Store, tile: Tile) -> int:
    """Write a tile of a level from the level below it, and say how many bytes it takes on disk."""
    start = tuple(2 * n for n in tile.core.start)
    stop = tuple(min(2 * n, end) for n, end in zip(tile.core.stop, below.grid.shape, strict=True))
    return level.write(tile, halved(below.read(Window(start, stop)), level.fill))


def halved(pixels: NDArray[Any], fill: float) -> NDArray[Any]:
    """The mean of the valid pixels in each block of 2 x 2, of the same type; (band, y, x).

    A block is valid where any of its pixels is. Integers are rounded (halves to the even number), and moved
    by one off the fill value. The last blocks of an odd edge have two pixels, or one.
    """
    bands, rows, columns = pixels.shape
    total = np.zeros((bands, -(-rows // 2), -(-columns // 2)))
    many = np.zeros(total.shape, np.uint8)
    for row in (0, 1):
        for column in (0, 1):
            part = pixels[:, row::2, column::2]
            there = ~np.isnan(part) if np.isnan(fill) else part != fill
            place = (slice(None), slice(part.shape[1]), slice(part.shape[2]))
            total[place] += np.where(there, part, 0)
            many[place] += there
    mean = total / np.maximum(many, 1)
    if pixels.dtype.kind != "f":
        mean = np.rint(mean)
        mean[mean == fill] += 1 if fill < np.iinfo(pixels.dtype).max else -1
    return np.where(many > 0, mean, fill).astype(pixels.dtype)


def remove_levels(path: Path) -> None:
    """Delete the levels beside the store at ``path``, if there are any; anything else is left alone."""
    folder = levels_folder(path)
    if not _holds_levels(folder):
        return
    # the store's own name, so that its sweep finds what a kill in between leaves
    doomed = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    with refusals(f"{folder} can't be deleted"):
        folder.replace(doomed)
        shutil.rmtree(doomed)


def _opened(path: Path) -> Store | None:
    try:
        return Store.open(path)
    except StoreError:
        return None


def _coarser(grid: Grid) -> Grid:
    rows, columns = grid.shape
    return Grid((-(-rows // 2), -(-columns // 2)), grid.affine @ Affine.scale(2), grid.crs)


def _make_folder(folder: Path) -> None:
    """The group that holds the levels: it says nothing of them, since each is a store by itself."""
    if folder.exists() and not _holds_levels(folder):
        raise StoreError(f"{folder} is in the way of the levels: move it, or say `pyramid: false`")
    with refusals(f"{folder} can't be created"):
        zarr.open_group(folder, mode="a", zarr_format=2)


def _holds_levels(folder: Path) -> bool:
    """Whether nothing but levels lies there."""
    if folder.is_symlink() or not folder.is_dir() or is_store(folder):
        return False
    shown = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    return all(entry.name.isdecimal() and is_store(entry) for entry in shown)
