"""Reduced levels of a fused image or volume: each half as fine as the one before, each a store itself.

Those of a raster in format 3 lie inside the store (``ovr_2x``, ``ovr_4x``, …, the names by which GDAL knows
them for overviews). In format 2, where GDAL 3.10 shows no band when a folder holds two images, they lie
beside it: ``<scene>.levels.zarr/1``, ``2``, …. Those of a volume are arrays inside it: ``1``, ``2``, ….
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from batchfuse.errors import StoreError
from batchfuse.geometry.tiling import Tile
from batchfuse.geometry.window import Window
from batchfuse.storage.digests import Digest
from batchfuse.storage.files import refusals
from batchfuse.storage.removal import remove_store
from batchfuse.storage.store import Layout, Store, is_store
from batchfuse.system.partials import sweep

__all__ = ["Level", "begun_level", "halved", "levels_of", "write_level"]


@dataclass(frozen=True, slots=True)
class Level:
    """One reduced level of a store."""

    number: int
    """From 1."""
    path: Path
    """Its own store."""
    layout: Layout
    """What it holds, and where: the corner is the store's, and its last pixels may reach beyond the image."""


def levels_of(store: Store) -> Iterator[Level]:
    """Every level that a pyramid of the store has, finest first, whether it is there or not."""
    number, layout = 1, store.layout.reduced()
    while layout is not None:
        yield Level(number, store.layout.level_path(store.path, number), layout)
        number, layout = number + 1, layout.reduced()


def begun_level(store: Store, level: Level) -> Store:
    """The level's store, as an earlier run left it, or new and empty.

    One that was reduced from another image, lacks a file, or can't be opened, is replaced. Raises StoreError
    where something else lies there.
    """
    record = {**store.record, "level": level.number}
    if level.path.parent != store.path:
        _make_folder(level.path.parent)
    with refusals(f"{level.path.parent} can't be swept"):
        sweep(level.path.parent, of=level.path.name)
    found = _opened(level.path)
    same = found is not None and found.record == record and found.grid == level.layout.grid
    if found is not None and same and all(path.is_file() for path in found.files_beside_chunks()):
        found.sweep()
        return found
    if is_store(level.path):
        remove_store(level.path)
    return Store.create(level.path, level.layout, record)


def write_level(below: Store, level: Store, tile: Tile) -> Digest:
    """Write a tile of a level from the level below it, and tell its file's digest."""
    factors = tuple(
        1 if coarse == fine else 2 for coarse, fine in zip(level.grid.shape, below.grid.shape, strict=True)
    )
    start = tuple(factor * n for factor, n in zip(factors, tile.core.start, strict=True))
    ends = (factor * n for factor, n in zip(factors, tile.core.stop, strict=True))
    stop = tuple(min(pair) for pair in zip(ends, below.grid.shape, strict=True))
    return level.write(tile, halved(below.read(Window(start, stop)), level.fill, factors))


def halved(pixels: NDArray[Any], fill: float, factors: tuple[int, ...]) -> NDArray[Any]:
    """The mean of the valid pixels in each block, of the same type; (band, y, x) or (band, z, y, x).

    A block has 2 or 1 pixels along each axis, as ``factors`` say, and is valid where any of its pixels is.
    Integers are rounded (halves to the even number), and moved by one off the fill value. The last block
    along an odd edge is cut.
    """
    edges = pixels.shape[1:]
    shape = tuple(-(-n // factor) for n, factor in zip(edges, factors, strict=True))
    total = np.zeros((len(pixels), *shape))
    many = np.zeros(total.shape, np.uint8)
    for first in itertools.product(*map(range, factors)):
        steps = (slice(a, None, factor) for a, factor in zip(first, factors, strict=True))
        part = pixels[(slice(None), *steps)]
        there = ~np.isnan(part) if np.isnan(fill) else part != fill
        place = tuple(map(slice, part.shape))
        total[place] += np.where(there, part, 0)
        many[place] += there
    mean = total / np.maximum(many, 1)
    if pixels.dtype.kind != "f":
        mean = np.rint(mean)
        mean[mean == fill] += 1 if fill < np.iinfo(pixels.dtype).max else -1
    return np.where(many > 0, mean, fill).astype(pixels.dtype)


def _opened(path: Path) -> Store | None:
    try:
        return Store.open(path)
    except StoreError:
        return None


def _make_folder(folder: Path) -> None:
    """The group that holds the levels: it says nothing of them, since each is a store by itself."""
    if folder.exists() and not _holds_levels(folder):
        raise StoreError(f"{folder} is in the way of the levels: move it, or say `pyramid: false`")
    with refusals(f"{folder} can't be created"):
        zarr.open_group(folder, mode="a", zarr_format=2)


def _holds_levels(folder: Path) -> bool:
    """Whether nothing but levels lies there, hidden files left aside."""
    if folder.is_symlink() or not folder.is_dir() or is_store(folder):
        return False
    shown = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    return all(entry.name.isdecimal() and is_store(entry) for entry in shown)
