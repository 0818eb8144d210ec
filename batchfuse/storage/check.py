"""Whether a store is what it says: every file there, whole, and no other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import zarr

from batchfuse.errors import StoreError
from batchfuse.geometry.tiling import Tile
from batchfuse.storage.files import said
from batchfuse.storage.pyramid import Level, levels_of
from batchfuse.storage.store import Store, is_store

__all__ = ["Checked", "Fault", "check_store", "stores_in"]

AGAIN = "run its recipe again"
"""The remedy for what the next run repairs."""

Mapped = Callable[[Callable[[Tile], "Fault | None"], Iterable[Tile]], Iterable["Fault | None"]]
"""Calls a function on each tile, such as ``map``, in any order."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with a store."""

    path: Path
    """The file, or the store as a whole."""
    kind: str
    """missing, empty, damaged, foreign, disagrees or incomplete."""
    what: str
    """One line with the remedy."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found of a store, its reduced levels included."""

    path: Path
    """The store."""
    complete: bool
    """Whether it is sealed."""
    tiles: int
    """Its tiles, those of the levels included; 0 where it can't be opened."""
    levels: int
    """Its reduced levels."""
    faults: tuple[Fault, ...]
    """Everything that is wrong."""


def stores_in(path: Path) -> list[Path]:
    """The store at ``path``, or those in a folder, readable or not; StoreError where there is none."""
    if not path.is_dir():
        raise StoreError(f"{path} is not a folder" if path.exists() else f"{path} is not there")
    if _may_be_store(path):
        return [path]
    shown = [entry for entry in sorted(path.iterdir()) if not entry.name.startswith(".")]
    found = [entry for entry in shown if entry.is_dir() and _may_be_store(entry)]
    if not found:
        raise StoreError(f"{path} holds no store: give a store, or the folder of a recipe's `output.path`")
    return found


def check_store(path: Path, mapped: Mapped = map) -> Checked:
    """Read every file of the store and of its levels, and name all that is wrong."""
    try:
        store = Store.open(path)
    except StoreError as error:
        return Checked(path, False, 0, 0, (Fault(path, "damaged", str(error)),))
    faults = list(_faults(store, mapped))
    checked = [check_store(level.path, mapped) for level in _pyramid(store) if level.path.exists()]
    faults += [
        Fault(level.path, "missing", "a level that is not there: run its recipe with `pyramid: true`")
        for level in _pyramid(store)
        if not level.path.exists()
    ]
    return Checked(
        path,
        store.complete,
        len(store.tiling) + sum(level.tiles for level in checked),
        len(checked),
        (*faults, *(fault for level in checked for fault in level.faults)),
    )


def _may_be_store(path: Path) -> bool:
    """What looks like a store by its name counts, too: it may be one that is damaged."""
    if path.name.startswith(".") or path.name.endswith(".levels.zarr"):
        return is_store(path)
    return path.suffix == ".zarr" or is_store(path)


def _pyramid(store: Store) -> list[Level]:
    """The levels that the store should have: all, where it has any or was told to."""
    levels = list(levels_of(store)) if "level" not in store.record else []
    wanted = store.record.get("recipe", {}).get("output", {}).get("pyramid") is True and store.complete
    return levels if wanted or any(level.path.exists() for level in levels) else []


def _faults(store: Store, mapped: Mapped) -> Iterator[Fault]:
    yield from (fault for fault in mapped(partial(_chunk_fault, store), store.tiling) if fault is not None)
    yield from _file_faults(store)
    yield from _constant_faults(store)
    if not store.complete:
        yield Fault(store.path, "incomplete", f"not sealed: {AGAIN} to complete it")
        return
    try:
        for path in store.disagreeing():
            yield Fault(path, "disagrees", f"not what the other metadata says: {AGAIN}")
    except (OSError, ValueError, KeyError, TypeError, StoreError) as error:
        yield Fault(store.path, "damaged", f"its metadata can't be read ({said(error)}): {AGAIN}")


def _chunk_fault(store: Store, tile: Tile) -> Fault | None:
    path = store.chunk_path(tile.index)
    if not path.is_file():
        return Fault(path, "missing", f"tile {tile.index} is not there: {AGAIN}")
    if not path.stat().st_size:
        return Fault(path, "empty", f"tile {tile.index} has no bytes: {AGAIN}")
    try:
        store.read(tile.core)
    except StoreError as error:
        what = str(error).removeprefix(f"{store.path}: ").partition(f"; {path.name}")[0]
        return Fault(path, "damaged", f"{what}): {AGAIN}")
    return None


def _file_faults(store: Store) -> Iterator[Fault]:
    """Files that are missing but for chunks of the image, and files that are not the store's."""
    path, layout = store.path, store.layout
    form = layout.form
    needed = set(store.files_beside_chunks())
    for file in sorted(needed):
        if not file.is_file():
            yield Fault(file, "missing", f"not there: {AGAIN}")
    known = needed | {store.chunk_path(tile.index) for tile in store.tiling}
    if form.number == 2 and layout.arrays:
        known.add(path / ".zmetadata")
    levels = {level.path for level in levels_of(store)} if "level" not in store.record else set()
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if Path(folder, name) not in levels)
        for file in sorted(Path(folder, name) for name in files):
            if file not in known:
                yield Fault(file, "foreign", "not a file of this store: delete it")


def _constant_faults(store: Store) -> Iterator[Fault]:
    """Arrays beside the image that can't be read, or say something else than the layout."""
    form = store.layout.form
    for name, expected in store.layout.constants().items():
        file = form.chunk(store.path, name, (0,) * expected.ndim)
        try:
            found = np.asarray(zarr.open_array(store.path / name, mode="r", zarr_format=form.number)[...])
        except Exception as error:  # each codec has its own error for damaged bytes
            yield Fault(file, "damaged", f"{name} can't be read ({said(error)}): {AGAIN}")
            continue
        if file.is_file() and not np.array_equal(found, expected):
            yield Fault(file, "damaged", f"{name} is not what the grid says: {AGAIN}")
