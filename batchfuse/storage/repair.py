"""What is wrong with a store: kept beside it for the next run, and taken out of it to be made again.

The note is a hint and no more: a run that finds one reads the whole store itself before it touches a file.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchfuse.errors import StoreError
from batchfuse.files import replace_file
from batchfuse.storage.check import Checked, Fault
from batchfuse.storage.files import refusals, said
from batchfuse.storage.formats import format_of
from batchfuse.storage.layout import FORMAT, RECORD, Layout
from batchfuse.storage.pyramid import levels_of
from batchfuse.storage.store import Store

__all__ = [
    "TakenOut",
    "forget_faults",
    "has_noted_faults",
    "is_whole",
    "is_worth_noting",
    "note_faults",
    "noted_path",
    "record_of",
    "restore_metadata",
    "take_out",
]

UNFINISHED = ("missing", "empty", "incomplete")
"""Faults of a store that is not sealed: a run finishes it without being told."""
STRAY = re.compile(r"\d+(\.\d+)*|.+\.partial")
"""Names that only a chunk has, or what a killed run was writing."""


@dataclass(frozen=True, slots=True)
class TakenOut:
    """What was done about the faults of a store."""

    repaired: tuple[str, ...]
    """A phrase for each fault that the run now mends."""
    left: tuple[str, ...]
    """A line for each file that is not the store's and was left alone: it may be somebody's."""
    levels: bool
    """Whether reduced levels have to be made again, in part or whole."""


def noted_path(store: Path) -> Path:
    """Where the faults of a store are noted: ``<scene>.faults.json`` beside it."""
    return store.with_suffix(".faults.json")


def has_noted_faults(store: Path) -> bool:
    """Whether somebody has read this store and found something wrong."""
    return noted_path(store).exists()


def note_faults(store: Path, faults: Sequence[Fault]) -> None:
    """Keep what is wrong with a store for the next run; StoreError where nothing can be written there."""
    told = [{"kind": f.kind, "path": _inside(store, f.path), "what": f.what} for f in faults]
    text = json.dumps({"store": store.name, "faults": told}, indent=2, ensure_ascii=False)
    with refusals(f"{noted_path(store)} can't be written"):
        replace_file(noted_path(store), f"{text}\n".encode())


def forget_faults(store: Path) -> None:
    """Remove the note, if there is one; a folder that may only be read keeps it, which does no harm."""
    try:
        noted_path(store).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{noted_path(store)} can't be deleted: {said(error)}") from None


def is_worth_noting(checked: Checked) -> bool:
    """Whether a run would not find these faults by itself."""
    return any(checked.complete or fault.kind not in UNFINISHED for fault in checked.faults)


def is_whole(path: Path) -> bool:
    """Whether the metadata of a store can be read, and no file but chunks is missing: a few stats.

    Of chunks that are missing or empty, ``Store.unwritten`` tells.
    """
    try:
        store = Store.open(path)
    except StoreError:
        return False
    return all(file.is_file() for file in store.files_beside_chunks())


def record_of(path: Path) -> dict[str, Any] | None:
    """What made the store, from whatever of its metadata still says it; None where that is not certain."""
    found = [record for record in _records(path) if record is not None]
    if not found or any(record != found[0] for record in found):
        return None
    return found[0]


def restore_metadata(path: Path, layout: Layout, record: Mapping[str, Any]) -> list[str]:
    """Write anew whatever the store holds beside its chunks and is not as it should be, and break the seal.

    Returns the names of the files that were not right. Raises StoreError where the disk refuses.
    """
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    root = layout.form.metadata
    wrong = [name for name, content in _roots(path) if content is None]
    try:
        with refusals(f"{path} can't be repaired"):
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
                place.parent.mkdir(exist_ok=True)
                replace_file(place, content)
                wrong.append(_inside(path, place))
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return sorted(wrong)


def take_out(store: Store, faults: Sequence[Fault]) -> TakenOut:
    """Delete what is wrong with the chunks of a store and of its levels: what is missing then is made again.

    A level whose own metadata is damaged goes as a whole. A file that is not the store's goes where it is
    called as a chunk is, or as what a killed run was writing; any other is left. Raises StoreError where the
    disk refuses.
    """
    levels = [level.path for level in levels_of(store)]
    tiles = {store.chunk_path(tile.index): tile.index for tile in store.tiling}
    repaired: list[str] = []
    left: list[str] = []
    doomed: list[Path] = []
    touched = False
    for fault in faults:
        name = _inside(store.path, fault.path)
        level = next((path for path in levels if path in (fault.path, *fault.path.parents)), None)
        if fault.kind == "foreign" and not STRAY.fullmatch(fault.path.name):
            left.append(f"{name} is not a file of the store and was left alone: move it away")
        elif fault.kind == "foreign":
            _unlink(fault.path)
            repaired.append(f"{name} was no file of the store")
        elif level is not None and fault.kind != "incomplete":
            touched = True
            repaired.append(f"{name} was {fault.kind}")
            if fault.path in _chunks(level):
                _unlink(fault.path)
            else:
                doomed.append(level)
        elif fault.path in tiles:
            _unlink(fault.path)
            repaired.append(f"tile {tiles[fault.path]} was {fault.kind}")
    for path in dict.fromkeys(doomed):
        _remove_level(store.path, path)
    return TakenOut(tuple(repaired), tuple(left), touched)


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
            yield together.name, json.loads(together.read_bytes())["metadata"][form.metadata]
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
        return path.read_bytes()
    except OSError:
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
    doomed = store.with_name(f".{store.name}.{uuid.uuid4().hex}.partial")
    with refusals(f"{level} can't be deleted"):
        level.replace(doomed)
        shutil.rmtree(doomed)
