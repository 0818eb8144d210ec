"""Whether a store is what it says: every file there, with the bytes it was sealed with, and no other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import zarr

from batchfuse.errors import StoreAwayError, StoreError, said
from batchfuse.geometry.tiling import Tile
from batchfuse.storage.digests import Digest, Digests, digest_of, read_digests
from batchfuse.storage.files import refusals
from batchfuse.storage.pyramid import Level, levels_of
from batchfuse.storage.removal import is_litter
from batchfuse.storage.store import Store, is_store

__all__ = ["Checked", "Chunk", "Fault", "check_chunks", "check_store", "seal_faults", "stores_in"]

AGAIN = "run its recipe again"
"""The remedy for what the next run repairs."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with a store."""

    path: Path
    """The file, or the store as a whole."""
    kind: str
    """missing, empty, damaged, foreign, disagrees or incomplete; unread where nothing could be found out."""
    what: str
    """One line with the remedy."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk that was read."""

    path: Path
    """Its file."""
    digest: Digest | None
    """What it holds, where that is right."""
    fault: Fault | None = None
    """Else what is wrong."""


Item = tuple[Tile, Digest | None]
"""A tile, and what its chunk is by the digests."""
Mapped = Callable[[Callable[[Item], Chunk], Iterable[Item]], Iterable[Chunk]]
"""Calls a function on each item, such as ``map``, in any order."""


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
    chunks: Mapping[Path, Digest] = field(default_factory=dict)
    """The digest of each chunk that is right, by its file."""


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


def check_store(path: Path, mapped: Mapped = map, known: Mapping[Path, Digest] | None = None) -> Checked:
    """Read every file of the store and of its levels, and name all that is wrong.

    Chunks whose digests are ``known``, by their files, were just written and are not read. Raises
    StoreAwayError where the file system doesn't answer.
    """
    try:
        store = Store.open(path)
    except StoreError as error:
        return Checked(path, False, 0, 0, (Fault(path, "damaged", str(error)),))
    faults: list[Fault] = []
    chunks: dict[Path, Digest] = {}
    tiles: list[Tile] = []
    sizes = store.sizes()
    for tile in store.tiling:
        file, size = store.chunk_path(tile.index), sizes.get(tile.index)
        if size is None:
            faults.append(Fault(file, "missing", f"tile {tile.index} is not there: {AGAIN}"))
        elif not size:
            faults.append(Fault(file, "empty", f"tile {tile.index} has no bytes: {AGAIN}"))
        elif known and (digest := known.get(file)) is not None and digest.size == size:
            chunks[file] = digest
        else:
            tiles.append(tile)
    for chunk in check_chunks(store, tiles, mapped):
        if chunk.fault is not None:
            faults.append(chunk.fault)
        elif chunk.digest is not None:
            chunks[chunk.path] = chunk.digest
    faults += _file_faults(store)
    found = [
        (level, check_store(level.path, mapped, known)) for level in _pyramid(store) if level.path.exists()
    ]
    for level, checked in found:
        faults += [*_level_faults(store, level), *checked.faults]
        chunks |= checked.chunks
    faults += [
        Fault(level.path, "missing", "a level that is not there: run its recipe with `pyramid: true`")
        for level in _pyramid(store)
        if not level.path.exists()
    ]
    every = len(store.tiling) + sum(checked.tiles for _, checked in found)
    return Checked(path, store.complete, every, len(found), tuple(faults), chunks)


def check_chunks(store: Store, tiles: Iterable[Tile], mapped: Mapped = map) -> Iterable[Chunk]:
    """Read the chunks of these tiles, which are there: each is compared with its digest, or decoded without.

    Raises StoreAwayError where the file system doesn't answer.
    """
    digests = store.digests()
    files = digests.files if digests is not None else {}
    items = [(tile, files.get(store.named(store.chunk_path(tile.index)))) for tile in tiles]
    return mapped(partial(_chunk, store), items)


def seal_faults(store: Store, digests: Digests | None) -> Iterator[Fault]:
    """What is wrong with a sealed store beside its chunks, by the ``digests`` in it: small files are read."""
    path = store.digests_path
    if digests is None and not path.is_file():
        yield Fault(path, "missing", f"not there: {AGAIN}")
        return
    if digests is None:
        yield Fault(path, "damaged", f"not what the seal has written: {AGAIN}")
        return
    if digests.record != store.record:
        # which of the two is right, a run finds out
        root = store.path / store.layout.form.metadata
        what = f"says otherwise than {store.named(path)} how the store was made"
        yield Fault(root, "disagrees", f"{what}: {AGAIN}")
        return
    for file in sorted(store.files_beside_chunks()):
        with refusals(f"{file} can't be read"):
            if not file.is_file():
                yield Fault(file, "missing", f"not there: {AGAIN}")
            elif digest_of(file) != digests.files.get(store.named(file)):
                yield Fault(file, "damaged", f"not the bytes that the store was sealed with: {AGAIN}")


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


def _chunk(store: Store, item: Item) -> Chunk:
    """A task: what a chunk is."""
    tile, expected = item
    path = store.chunk_path(tile.index)
    try:
        with refusals(f"tile {tile.index} can't be read"):
            found = digest_of(path)
        if found != expected:
            store.read(tile.core)
    except StoreAwayError:
        raise
    except StoreError as error:
        what = str(error).removeprefix(f"{store.path}: ").partition(f"; {path.name}")[0]
        closed = f"{what})" if what.count("(") > what.count(")") else what
        return Chunk(path, None, Fault(path, "damaged", f"{closed}: {AGAIN}"))
    if expected not in (None, found):
        what = f"tile {tile.index} is whole, and another than the store was sealed with: {AGAIN}"
        return Chunk(path, None, Fault(path, "foreign", what))
    return Chunk(path, found)


def _file_faults(store: Store) -> Iterator[Fault]:
    """What is wrong with files other than chunks of the image, and files that are not the store's."""
    needed = set(store.files_beside_chunks())
    if store.complete:
        yield from seal_faults(store, read_digests(store.digests_path.parent))
    else:
        yield from (Fault(f, "missing", f"not there: {AGAIN}") for f in sorted(needed) if not f.is_file())
        yield from _constant_faults(store)
        yield Fault(store.path, "incomplete", f"not sealed: {AGAIN} to complete it")
    known = {*needed, store.digests_path, *(store.chunk_path(tile.index) for tile in store.tiling)}
    levels = {level.path for level in levels_of(store)} if "level" not in store.record else set()
    for folder, folders, files in os.walk(store.path):
        folders[:] = sorted(name for name in folders if Path(folder, name) not in levels)
        for file in sorted(Path(folder, name) for name in files):
            if file not in known and not is_litter(file.name):
                yield Fault(file, "foreign", "not a file of this store: delete it")


def _level_faults(store: Store, level: Level) -> Iterator[Fault]:
    """A level that was reduced from another image."""
    try:
        found = Store.open(level.path)
    except StoreError:  # which is told of the level itself
        return
    if found.record != {**store.record, "level": level.number}:
        yield Fault(found.path, "disagrees", f"a level of another image: {AGAIN}")


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
