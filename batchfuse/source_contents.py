"""What size and ends of a source don't tell: checksums of all its bytes, kept beside the store.

They are not in the store: it has the same bytes whether or not they were asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from batchfuse.errors import StoreError
from batchfuse.files import replace_file
from batchfuse.imagery.files import content_of
from batchfuse.imagery.scene import Source, SourceFile
from batchfuse.storage.files import refusals

__all__ = ["changed_contents", "contents_path", "forget_contents", "keep_contents"]

KEYS = ("sha256", "size", "changed")
"""What is kept of a file: the checksum of its bytes, how many they are, its time of change in ns."""


def contents_path(store: Path) -> Path:
    """Where the checksums of the sources of a store are kept: ``<scene>.checksums.json`` beside it."""
    return store.with_suffix(".checksums.json")


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
    try:
        contents_path(store).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{contents_path(store)} can't be deleted: {error.strerror}") from None


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
    try:
        found = json.loads(path.read_bytes())
        return {str(key): {name: one[name] for name in KEYS} for key, one in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} can't be read ({error}): delete it and run with --checksum again") from None


def _write(store: Path, contents: dict[str, Any]) -> None:
    path = contents_path(store)
    with refusals(f"{path} can't be written"):
        replace_file(path, f"{json.dumps(contents, indent=2, ensure_ascii=False)}\n".encode())
