"""Our notes: JSON files that a run keeps beside and in its stores, and what is ours among files so named.

Whatever lies under the name of a note, to read it neither hangs nor fails but in one way, and costs no more
memory than a note may take. A file that is no note of ours is left alone: ours goes under the next free name,
such as ``report-1.json`` beside a ``report.json`` of somebody else's, or beside one of ours that is cut off.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from batchfuse.system.words import json_text

__all__ = [
    "Kind",
    "Note",
    "Place",
    "UnreadableError",
    "bytes_of",
    "check_readable",
    "decoded",
    "encoded",
    "forget_notes",
    "found_note",
    "place_of",
    "read",
    "read_note",
]

MARKER = "batchfuse"
"""The key that every note of ours has; its value is the note's kind."""
MOST = 512 * 1024 * 1024
"""Bytes of the largest file that is read: a report of 100,000 scenes has a quarter of it."""
NOT_OURS = {errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV}
"""What the system says of a file that can't be one of ours: we keep no link to itself, and none secret."""


class UnreadableError(ValueError):
    """What a file or text holds can't be read as JSON of ours; its text is a phrase that says why."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What is noted in a file, and how such a note is known."""

    name: str
    """report, campaign, checksums, faults or lease: what stands under ``MARKER``."""
    fits: Callable[[Mapping[str, Any]], bool]
    """Whether the values have the types that readers of the note rely on."""


@dataclass(frozen=True, slots=True)
class Note:
    """A note of ours that was found."""

    path: Path
    """Its file."""
    values: Mapping[str, Any]
    """What it says, but for the marker."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a note is to be written."""

    path: Path
    """The name that is ours, or free."""
    note: Note | None = field(default=None, compare=False)
    """The newest note of ours that is there; it is what will be written over."""
    left: tuple[str, ...] = ()
    """A line for each file that has an earlier name, is no note of ours, and is left alone."""


def found_note(path: Path, kind: Kind) -> Note | None:
    """The newest note of ours among ``path`` and its numbered names; None where there is none.

    Raises OSError where the disk doesn't answer.
    """
    return place_of(path, kind).note


def place_of(path: Path, kind: Kind) -> Place:
    """Where a run writes its note: over the newest of ours, else under the first name that is free.

    Raises OSError where the disk doesn't answer.
    """
    there = _there(path, kind)
    newest = _newest([found for found in there if isinstance(found, Note)])
    place = newest.path if newest is not None else _free(path)
    return Place(place, newest, tuple(found for found in there if isinstance(found, str)))


def forget_notes(path: Path, kind: Kind) -> None:
    """Delete every note of ours among ``path`` and its numbered names; OSError where that can't be."""
    for found in _there(path, kind):
        if isinstance(found, Note):
            found.path.unlink(missing_ok=True)


def read_note(path: Path, kind: Kind, most: int = MOST) -> Note:
    """The note of ours at ``path``.

    Raises:
        OSError: it isn't there, or the system refuses.
        UnreadableError: it is no such note.
    """
    values = read(path, most)
    if not isinstance(values, dict) or values.pop(MARKER, None) != kind.name:
        raise UnreadableError(f'it has no "{MARKER}": "{kind.name}"')
    if not kind.fits(values):
        raise UnreadableError("its values are not those of one")
    return Note(path, values)


def read(path: Path, most: int = MOST) -> Any:
    """What a JSON file holds: only a regular file of ``most`` bytes, and never waiting for one.

    Raises:
        OSError: it isn't there, or the system refuses.
        UnreadableError: it is no such file, or no JSON.
    """
    return decoded(bytes_of(path, most))


def decoded(text: str | bytes) -> Any:
    """What a JSON text says; numbers are finite, and none is beyond what a float can hold.

    Raises UnreadableError where it is no JSON, or nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_finite, parse_float=_finite, parse_int=_whole)
    except RecursionError:
        raise UnreadableError("nested too deeply") from None
    except UnicodeDecodeError:
        raise UnreadableError("no UTF-8") from None
    except json.JSONDecodeError as error:
        raise UnreadableError(f"no JSON in line {error.lineno}, column {error.colno}") from None


def encoded(kind: Kind, values: Mapping[str, Any]) -> bytes:
    """The bytes of a note."""
    return f"{json_text({MARKER: kind.name, **values})}\n".encode()


def _there(path: Path, kind: Kind) -> list[Note | str]:
    """What lies under each name that is taken: a note of ours, or a line that says why it is none."""
    found = (_ours(name, kind) for name in _names(path))
    return [one for one in found if one is not None]


def _newest(notes: Sequence[Note]) -> Note | None:
    if len(notes) < 2:  # as nearly always: nothing more is asked of the disk
        return notes[0] if notes else None
    return max(notes, key=lambda note: note.path.stat().st_mtime_ns)


def _names(path: Path) -> Iterator[Path]:
    """The names that are taken: the note's own, and those numbered from 1 without a gap."""
    if os.path.lexists(path):
        yield path
    yield from takewhile(os.path.lexists, (_numbered(path, number) for number in count(1)))


def _free(path: Path) -> Path:
    return next(name for number in count() if not os.path.lexists(name := _numbered(path, number)))


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number}{path.suffix}") if number else path


def _ours(path: Path, kind: Kind) -> Note | str | None:
    """The note at ``path``, or a line that says why it is none of ours; None where it is gone by now."""
    try:
        return read_note(path, kind)
    except FileNotFoundError:
        if not path.is_symlink():
            return None
        why = "a link to nothing"
    except UnreadableError as error:
        why = str(error)
    except OSError as error:
        if error.errno not in NOT_OURS:
            raise
        why = str(error.strerror)
    return f"{path} holds no {kind.name} of batchfuse ({why}) and is left alone"


def bytes_of(path: Path, most: int = MOST) -> bytes:
    """The bytes of a file; raises as ``read`` does."""
    # looked at before it is opened, since to open a tape or a fifo does something
    check_readable(path, most)
    flags = (
        os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    )
    with os.fdopen(os.open(path, flags), "rb") as file:
        _check(os.fstat(file.fileno()), most)
        content = file.read(most + 1)
    if len(content) > most:
        raise UnreadableError(f"larger than {most} bytes")
    return content


def check_readable(path: Path, most: int = MOST) -> None:
    """Look whether a file can be read without waiting, and is of ``most`` bytes; raises as ``read`` does."""
    _check(path.stat(), most)


def _check(about: os.stat_result, most: int) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise UnreadableError("a folder" if stat.S_ISDIR(about.st_mode) else "no regular file")
    if about.st_size > most:
        raise UnreadableError(f"larger than {most} bytes")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise UnreadableError(f"no JSON: the number {text[:20]}")
    return number


def _whole(text: str) -> int:
    if len(text) > 300:  # digits: a float takes 308, and to read millions takes minutes
        raise UnreadableError(f"a number of {len(text)} digits")
    return int(text)
