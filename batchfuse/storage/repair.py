"""What is wrong with a store: kept beside it for the next run, and taken out of it to be made again.

The note is a hint and no more: a run that finds one reads the whole store itself before it touches a file.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchfuse.errors import StoreAwayError, StoreError, said
from batchfuse.files import replace_file
from batchfuse.storage.beside import faults_path
from batchfuse.storage.check import Checked, Fault, seal_faults
from batchfuse.storage.digests import NAME, digest_of_bytes, read_digests
from batchfuse.storage.files import refusals
from batchfuse.storage.formats import format_of
from batchfuse.storage.layout import FORMAT, RECORD, Layout
from batchfuse.storage.pyramid import Level, levels_of
from batchfuse.storage.removal import refuse_foreign_inside
from batchfuse.storage.store import Store
from batchfuse.system.notes import (
    Kind,
    UnreadableError,
    bytes_of,
    encoded,
    forget_notes,
    found_note,
    place_of,
    read,
)
from batchfuse.system.partials import partial_path

__all__ = [
    "TakenOut",
    "forget_faults",
    "has_noted_faults",
    "is_whole",
    "is_worth_noting",
    "note_faults",
    "record_of",
    "restore_metadata",
    "take_out",
    "was_sealed",
]

UNFINISHED = ("missing", "empty", "incomplete")
"""Faults of a store that is not sealed: a run finishes it without being told."""
IMAGES = ("fused", "0")
"""Folders of a store's image, where its digests lie, whatever else tells what the store is."""


FAULTS = Kind("faults", lambda values: isinstance(values.get("faults"), list))
"""The note of them: of what it says, only that it is there counts."""


@dataclass(frozen=True, slots=True)
class TakenOut:
    """What was done about the faults of a store."""

    repaired: tuple[str, ...]
    """A phrase for each fault that the run now mends."""
    left: tuple[str, ...]
    """A line for each file that is not the store's and was left alone: it may be somebody's."""
    levels: bool
    """Whether reduced levels have to be made again, in part or whole."""


def has_noted_faults(store: Path) -> bool:
    """Whether somebody has read this store and found something wrong; StoreError where that can't be told."""
    path = faults_path(store)
    with refusals(f"{path} can't be read"):
        return found_note(path, FAULTS) is not None


def note_faults(store: Path, faults: Sequence[Fault]) -> None:
    """Keep what is wrong with a store for the next run; StoreError where nothing can be written there."""
    told = [{"kind": f.kind, "path": _inside(store, f.path), "what": f.what} for f in faults]
    path = faults_path(store)
    with refusals(f"{path} can't be written"):
        replace_file(place_of(path, FAULTS).path, encoded(FAULTS, {"store": store.name, "faults": told}))


def forget_faults(store: Path) -> None:
    """Remove the note, if there is one; a folder that may only be read keeps it, which does no harm."""
    path = faults_path(store)
    try:
        forget_notes(path, FAULTS)
    except OSError as error:
        raise StoreError(f"{path} can't be deleted: {said(error)}") from None


def is_worth_noting(checked: Checked) -> bool:
    """Whether a run would not find these faults by itself."""
    return any(checked.complete or fault.kind not in UNFINISHED for fault in checked.faults)


def is_whole(path: Path) -> bool:
    """Whether a store and its levels are sealed, and every file but chunks has the bytes of the seal.

    Of chunks only the size is compared, in a listing; of those that are missing or empty ``Store.unwritten``
    tells. A level that is not sealed, or not there, was not finished, which is no damage.
    """
    try:
        store = Store.open(path)
        return store.complete and _holds(store) and all(map(_level_holds, levels_of(store)))
    except StoreAwayError:
        raise
    except StoreError:
        return False


def was_sealed(path: Path) -> bool:
    """Whether a store says that it is complete, or can't be asked any more."""
    try:
        return Store.open(path).complete
    except StoreError:
        return True


def record_of(path: Path) -> dict[str, Any] | None:
    """What made the store, from whatever of its files still says it; None where that is not certain.

    The digests say it once more, and whether they are whole themselves: where all differ, they are right.
    """
    digests = [read_digests(path / image) for image in IMAGES]
    kept = [dict(one.record) for one in digests if one is not None]
    found = [*kept, *(record for record in _records(path) if record is not None)]
    if not found:
        return None
    most = max(found, key=found.count)
    if not kept and any(record != most for record in found):
        return None
    return most


def restore_metadata(path: Path, layout: Layout, record: Mapping[str, Any], sealed: bool) -> list[str]:
    """Write anew whatever the store holds beside its chunks and is not as it should be, and break the seal.

    ``sealed`` is whether it had one. The digests are left: what is in the chunks is compared with them.
    Returns the names of the files that were not right. Raises StoreError where the disk refuses.
    """
    fresh = partial_path(path)
    root = layout.form.metadata
    try:
        with refusals(f"{path} can't be repaired"):
            wrong = {name for name, content in _roots(path) if content is None}
            wrong |= _unlike_their_digests(path, layout, record) if sealed else set()
            fresh.mkdir()
            layout.write_tree(fresh, record)
            # not sealed any more, and sure of its own record, before anything else changes
            replace_file(path / root, (fresh / root).read_bytes())
            (path / ".zmetadata").unlink(missing_ok=True)
            for file in sorted(file for file in fresh.rglob("*") if file.is_file()):
                place = path / file.relative_to(fresh)
                content = file.read_bytes()
                if place == path / root or _content(place) == content:
                    continue
                place.parent.mkdir(parents=True, exist_ok=True)
                replace_file(place, content)
                wrong.add(_inside(path, place))
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return sorted(wrong)


def take_out(store: Store, faults: Sequence[Fault], sealed: bool = True) -> TakenOut:
    """Delete what is wrong with the chunks of a store and of its levels: what is missing then is made again.

    A level whose own metadata is damaged goes as a whole; a file that is not the store's stays. Of a store
    that was not ``sealed`` nothing is said of tiles and levels that are not there yet. Raises StoreError
    where the disk refuses, or files of others lie in such a level.
    """
    levels = [level.path for level in levels_of(store)]
    tiles = {store.chunk_path(tile.index): tile.index for tile in store.tiling}
    reduced = {path for level in levels for path in _chunks(level)}
    repaired: list[str] = []
    left: list[str] = []
    doomed: list[Path] = []
    touched = False
    for fault in faults:
        name = _inside(store.path, fault.path)
        level = next((path for path in levels if path in (fault.path, *fault.path.parents)), None)
        mine = fault.path in tiles or fault.path in reduced or fault.path in levels
        if mine and not sealed and fault.kind in UNFINISHED:
            continue
        if fault.path in tiles:
            _unlink(fault.path)
            repaired.append(f"tile {tiles[fault.path]} was {fault.kind}")
        elif fault.path in reduced:
            _unlink(fault.path)
            touched = True
            repaired.append(f"{name} was {fault.kind}")
        elif fault.kind == "foreign":
            left.append(f"{name} is not a file of the store and was left alone: move it away")
        elif level is not None and fault.kind != "incomplete":
            doomed.append(level)
            touched = True
            repaired.append(f"{name} was {fault.kind}" if fault.kind != "disagrees" else f"{name} disagreed")
    for path in dict.fromkeys(doomed):
        _remove_level(store.path, path)
    return TakenOut(tuple(repaired), tuple(left), touched)


def _holds(store: Store) -> bool:
    """Whether a sealed store is what its digests say, as far as that can be seen without reading chunks."""
    digests = read_digests(store.digests_path.parent)
    if digests is None or any(seal_faults(store, digests)):
        return False
    sizes = ((store.chunk_path(index), size) for index, size in store.sizes().items() if size)
    known = ((digests.files.get(store.named(path)), size) for path, size in sizes)
    # of a chunk that no tile has, only ``verify`` tells
    return all(digest is None or digest.size == size for digest, size in known)


def _level_holds(level: Level) -> bool:
    if not level.path.exists():
        return True
    store = Store.open(level.path)
    return not store.complete or _holds(store)


def _unlike_their_digests(path: Path, layout: Layout, record: Mapping[str, Any]) -> set[str]:
    """Names of the files beside the chunks that are not what the digests say, or of the digests."""
    folder = path / layout.image
    digests = read_digests(folder)
    if digests is None or digests.record != record:
        return {_inside(path, folder / NAME)}
    lead, form = layout.lead, layout.form
    chunks = {_inside(path, form.chunk(path, layout.image, (*lead, *t.index))) for t in layout.tiling}
    beside = {name: digest for name, digest in digests.files.items() if name not in chunks}
    return {
        name
        for name, digest in beside.items()
        if (content := _content(path / name)) is None or digest_of_bytes(content) != digest
    }


def _inside(store: Path, path: Path) -> str:
    """A file's name as it is told: within the store, or beside it."""
    return path.relative_to(store if path.is_relative_to(store) else store.parent).as_posix()


def _roots(path: Path) -> Iterator[tuple[str, Any]]:
    """The attributes of the store as each file that has them says it; None where one can't be read."""
    form = format_of(path)
    try:
        yield form.metadata, form.attributes(path)
    except (OSError, ValueError):
        yield form.metadata, None
    together = path / ".zmetadata"
    if form.number == 2 and together.exists():
        try:
            yield together.name, read(together)["metadata"][form.metadata]
        except (OSError, ValueError, KeyError, TypeError):
            yield together.name, None


def _records(path: Path) -> Iterator[dict[str, Any] | None]:
    for _, attributes in _roots(path):
        stored = attributes.get(RECORD) if isinstance(attributes, dict) else None
        if not isinstance(stored, dict) or stored.get("format") != FORMAT:
            yield None
            continue
        # whether it is sealed is not of the record: a kill between the two files leaves them at odds
        yield {key: value for key, value in stored.items() if key not in ("format", "complete")}


def _content(path: Path) -> bytes | None:
    try:
        return bytes_of(path)
    except (OSError, UnreadableError):
        return None


def _chunks(level: Path) -> set[Path]:
    """The files of a level's chunks; none where it can't be opened."""
    try:
        store = Store.open(level)
    except StoreError:
        return set()
    return {store.chunk_path(tile.index) for tile in store.tiling}


def _unlink(path: Path) -> None:
    with refusals(f"{path} can't be deleted"):
        path.unlink(missing_ok=True)


def _remove_level(store: Path, level: Path) -> None:
    """Delete a level, under a name that a sweep finds where a kill leaves half of it."""
    if not level.exists():
        return
    refuse_foreign_inside(level)
    doomed = partial_path(store)
    with refusals(f"{level} can't be deleted"):
        level.replace(doomed)
        shutil.rmtree(doomed)
