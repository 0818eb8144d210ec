"""What size and ends of a source don't tell: checksums of all its bytes, kept beside the store.

They are not in the store: it has the same bytes whether or not they were asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchfuse.changes import files_of
from batchfuse.errors import StoreError
from batchfuse.files import replace_file
from batchfuse.imagery.files import SAMPLES, content_of, sample_of
from batchfuse.imagery.scene import Source, SourceFile
from batchfuse.storage.beside import contents_path
from batchfuse.storage.files import refusals
from batchfuse.system.notes import Kind, encoded, forget_notes, found_note, place_of

__all__ = [
    "Compared",
    "compared_contents",
    "foreign_contents",
    "forget_contents",
    "keep_contents",
    "sampled",
]

KEYS = ("sha256", "size", "changed")
"""What is kept of a file: the checksum of its bytes, how many they are, its time of change in ns."""


def foreign_contents(store: Path) -> tuple[str, ...]:
    """A line for each file that lies where the checksums belong, holds none, and is left alone."""
    path = contents_path(store)
    with refusals(f"{path} can't be read"):
        return place_of(path, CHECKSUMS).left


def keep_contents(store: Path, sources: Sequence[Source]) -> None:
    """Read all bytes of the sources and keep their checksums.

    Raises SourceAwayError where they can't be read, StoreError where the checksums can't be written.
    """
    _write(store, {key: _described(file, content_of(file)) for key, file in _files(sources)})


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of comparing the contents of sources with those that a store was made from."""

    changed: tuple[str, ...]
    """The files whose bytes are others, one phrase each."""
    told: tuple[str, ...]
    """What was compared of files that lie elsewhere now, and what could not be, one phrase each."""


def sampled(record: Mapping[str, Any], sources: Sequence[Source]) -> list[dict[str, Any]]:
    """The sources of a record with a sample of each file's content, which tells it from others of its ends.

    Raises SourceAwayError where one can't be read.
    """
    made = []
    for told, source in zip(record["sources"], sources, strict=True):
        samples = [{"content": sample_of(file)[0]} for file in source.every_file]
        files = [{**file, **sample} for file, sample in zip(files_of(told), samples, strict=True)]
        mask = {"mask": files.pop()} if source.quality else {}
        made.append({**told, "files": files, **mask})
    return made


def compared_contents(
    store: Path,
    stored: Mapping[str, Any],
    wanted: Mapping[str, Any],
    sources: Sequence[Source],
    every: bool,
    elsewhere: bool = False,
) -> Compared:
    """Compare the bytes of sources whose sizes and ends are those in a store's record.

    Files that lie elsewhere than the record says are compared by sample, with ``elsewhere`` all; files of
    which sums were kept are read whole where their time of change is another, with ``every`` all. Raises as
    ``keep_contents`` does.
    """
    changed, told = [], []
    kept, now = _kept(store), {}
    for (key, file), (before, after) in zip(_files(sources), _pairs(stored, wanted), strict=True):
        role, found = key.partition("/")[0], kept.get(key)
        moved = before["path"] != after["path"]
        words = f"made from {before.get('path')}, now {after['path']}" if moved else f"{after['path']}"
        if moved or elsewhere or (every and found is None):
            content, whole = sample_of(file)
            extent = "all bytes" if whole else f"both ends and {SAMPLES} samples"
            if content != before.get("content"):
                changed.append(f"{role}: {words}, of another content ({extent} compared)")
            elif moved:
                told.append(f"{role}: {words}, of the same content ({extent} compared)")
            if every and found is None and not whole:
                why = "can't be compared whole, as the store was begun without --checksum"
                told.append(f"{role}: {after['path']} {why} ({extent} were compared)")
        if found is not None:
            same_time = found["changed"] == file.stamp and not every
            now[key] = found if same_time else _described(file, content_of(file))
            if found["sha256"] != now[key]["sha256"]:
                changed.append(f"{role}: the content of {file.path.name} has changed since")
    if not changed and now != kept:
        _write(store, now)
    return Compared(tuple(changed), tuple(told))


def _pairs(
    stored: Mapping[str, Any], wanted: Mapping[str, Any]
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Each file as the store's record has it, and as it is now."""
    before = {source["role"]: files_of(source) for source in stored["sources"]}
    for source in wanted["sources"]:
        yield from zip(before[source["role"]], files_of(source), strict=True)


def forget_contents(store: Path) -> None:
    """Remove the checksums, if there are any: they are of a store that is no more."""
    path = contents_path(store)
    try:
        forget_notes(path, CHECKSUMS)
    except OSError as error:
        raise StoreError(f"{path} can't be deleted: {error.strerror}") from None


def _files(sources: Sequence[Source]) -> Iterator[tuple[str, SourceFile]]:
    """Each file with a key: role and number, as it may be called otherwise later."""
    for source in sources:
        for number, file in enumerate(source.every_file, start=1):
            yield f"{source.role}/{number}", file


def _described(file: SourceFile, checksum: str) -> dict[str, Any]:
    return dict(zip(KEYS, (checksum, file.size, file.stamp), strict=True))


def _kept(store: Path) -> dict[str, Any]:
    path = contents_path(store)
    with refusals(f"{path} can't be read"):
        found = found_note(path, CHECKSUMS)
    return {} if found is None else dict(found.values["sources"])


def _write(store: Path, contents: dict[str, Any]) -> None:
    path = contents_path(store)
    with refusals(f"{path} can't be written"):
        replace_file(place_of(path, CHECKSUMS).path, encoded(CHECKSUMS, {"sources": contents}))


def _are_checksums(values: Mapping[str, Any]) -> bool:
    sources = values.get("sources")
    return isinstance(sources, dict) and all(
        isinstance(one, dict)
        and one.keys() == set(KEYS)
        and isinstance(one["sha256"], str)
        and type(one["size"]) is type(one["changed"]) is int
        for one in sources.values()
    )


CHECKSUMS = Kind("checksums", _are_checksums)
