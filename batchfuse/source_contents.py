"""What size and ends of a source don't tell: checksums of all its bytes, kept beside the store.

They are not in the store: it has the same bytes whether or not they were asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from batchfuse.errors import StoreError
from batchfuse.files import replace_file
from batchfuse.imagery.files import content_of
from batchfuse.imagery.scene import Source, SourceFile
from batchfuse.storage.files import refusals
from batchfuse.system.notes import Kind, encoded, forget_notes, found_note, place_of

__all__ = ["changed_contents", "contents_path", "foreign_contents", "forget_contents", "keep_contents"]

KEYS = ("sha256", "size", "changed")
"""What is kept of a file: the checksum of its bytes, how many they are, its time of change in ns."""


def contents_path(store: Path) -> Path:
    """Where the checksums of the sources of a store are kept: ``<scene>.checksums.json`` beside it."""
    return store.with_suffix(".checksums.json")


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


def changed_contents(store: Path, sources: Sequence[Source], every: bool) -> list[str]:
    """The sources whose bytes are others than those kept, one phrase each; none where none were kept.

    Files whose time of change is another are read; with ``every``, all. Raises as ``keep_contents`` does.
    """
    kept = _kept(store)
    now: dict[str, Any] = {}
    changed = []
    for key, file in _files(sources):
        found = kept.get(key)
        if found is not None and found["changed"] == file.stamp and not every:
            now[key] = found
            continue
        if found is None and not every:
            continue
        now[key] = _described(file, content_of(file))
        if found is not None and found["sha256"] != now[key]["sha256"]:
            changed.append(f"{key.partition('/')[0]}: the content of {file.path.name} has changed since")
    if not changed and now != kept:
        _write(store, now)
    return changed


def forget_contents(store: Path) -> None:
    """Remove the checksums, if there are any: they are of a store that is no more."""
    path = contents_path(store)
    try:
        forget_notes(path, CHECKSUMS)
    except OSError as error:
        raise StoreError(f"{path} can't be deleted: {error.strerror}") from None


def _files(sources: Sequence[Source]) -> Iterator[tuple[str, SourceFile]]:
    """Each file with a key: role and name."""
    for source in sources:
        masks = [source.quality.file] if source.quality else []
        for file in (*source.files, *masks):
            yield f"{source.role}/{file.path.name}", file


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
