"""Any file before a library knows its format: what tells it from others, and what is wrong with it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from errno import ENOENT, ENOTDIR
from functools import lru_cache
from itertools import islice
from pathlib import Path

from batchfuse.errors import ChangedError, SourceAwayError, SourceError, may_pass
from batchfuse.imagery.foreign import DICOM, HEAD, RAW, kind_of, pointed_at
from batchfuse.imagery.picture_marks import holds_raw
from batchfuse.imagery.scene import SourceFile

__all__ = [
    "DICOM_REMEDY",
    "changed_part",
    "content_of",
    "fault_of",
    "holds_dicom",
    "identified",
    "is_away",
    "is_dicom_name",
    "is_gone",
    "sample_of",
    "told_if_away",
]

ENDS = 128 * 1024  # bytes of each end of a file that go into its checksum
WHOLE = 16 * 1024 * 1024  # bytes of a file that are compared whole where it may be another of its name
SAMPLES, SAMPLE = 256, 64 * 1024  # of a larger one
PIECE = 4 * 1024 * 1024  # bytes read at a time
LOOKED_AT = 1000  # names in a folder that are asked whether they are slices
AWAY = "is its disk or network there?"
DICOM_REMEDY = DICOM.remedy
"""What to do with DICOM slices."""


def identified(path: Path, sidecars: Sequence[Path] = (), said: str = "") -> SourceFile:
    """A file with what tells it from another of its name; sidecars count with it.

    An .aux.xml doesn't: viewers write statistics into it. What it says of pixels is in ``said``.
    """
    sidecars = [part for part in sidecars if not part.name.lower().endswith(".aux.xml")]
    digest = hashlib.sha256()
    states = []
    for part in (path, *sidecars):
        found = part.stat()
        states.append((found.st_size, found.st_mtime_ns))
        with part.open("rb") as stream:
            digest.update(stream.read(ENDS))
            stream.seek(max(ENDS, found.st_size - ENDS))
            digest.update(stream.read(ENDS))
    size = sum(size for size, _ in states)
    return SourceFile(path, size, digest.hexdigest(), tuple(states), tuple(sidecars), said)


def content_of(file: SourceFile) -> str:
    """SHA-256 over all bytes of a file and its sidecars; SourceAwayError where they can't be read now."""
    digest = hashlib.sha256()
    try:
        for part in (file.path, *file.sidecars):
            with part.open("rb") as stream:
                while piece := stream.read(PIECE):
                    digest.update(piece)
    except OSError as error:
        raise SourceAwayError(f"{file.path} can't be read: {error.strerror}") from error
    return digest.hexdigest()


@lru_cache(maxsize=1024)
def sample_of(file: SourceFile) -> tuple[str, bool]:
    """SHA-256 over a file and its sidecars, and whether over all their bytes.

    Of those larger than 16 MiB over both ends and 256 samples of 64 KiB spread by the size. SourceAwayError
    where they can't be read now.
    """
    digest, whole = hashlib.sha256(), True
    try:
        for part in (file.path, *file.sidecars):
            with part.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                if size <= WHOLE:
                    digest.update(stream.read())
                    continue
                whole = False
                for start, length in _spread(size):
                    stream.seek(start)
                    digest.update(stream.read(length))
    except OSError as error:
        raise SourceAwayError(f"{file.path} can't be read: {error.strerror}") from error
    return digest.hexdigest(), whole


def _spread(size: int) -> Iterator[tuple[int, int]]:
    """Where in a large file samples begin, and their lengths."""
    yield 0, ENDS
    yield size - ENDS, ENDS
    yield from (((size - SAMPLE) * i // (SAMPLES - 1), SAMPLE) for i in range(SAMPLES))


def changed_part(file: SourceFile) -> Path | None:
    """Which of a file and its sidecars is gone, or has another size or content than it was identified by.

    Two machines may tell the time of one change differently: where times differ, the ends are compared.
    Raises OSError where the file itself can't be looked at: it may be away.
    """
    later = []
    for part, (size, changed) in zip((file.path, *file.sidecars), file.states, strict=True):
        try:
            found = part.stat()
        except OSError as error:
            if part == file.path or may_pass(error):
                raise
            return part
        if found.st_size != size:
            return part
        if found.st_mtime_ns != changed:
            later.append(part)
    if later and identified(file.path, file.sidecars).checksum != file.checksum:
        return later[0]
    return None


def is_away(path: Path) -> bool:
    """Whether the system refuses to read the ends of a file, for a reason that may pass."""
    try:
        identified(path)
    except OSError as error:
        return may_pass(error)
    return False


@contextmanager
def told_if_away(file: SourceFile) -> Iterator[None]:
    """Tells a file that can't be read now from one whose bytes are no image: a SourceAwayError for the first.

    GDAL says the same of both; so the file is read once more, all of it, as plain bytes.
    """
    try:
        yield
    except ChangedError:
        raise
    except SourceError as refused:
        if (part := _changed_now(file)) is not None:
            raise ChangedError.of(part) from refused
        raise


def _changed_now(file: SourceFile) -> Path | None:
    """Which part of a file that was not read is another by now; SourceAwayError where none can be read."""
    try:
        if (part := changed_part(file)) is None:
            content_of(file)
        return part
    except (OSError, SourceAwayError) as refused:
        error = refused.__cause__ if isinstance(refused, SourceAwayError) else refused
        # it was there when the scene was planned: a mount that went away leaves an empty folder
        if isinstance(error, OSError) and (may_pass(error) or error.errno in (ENOENT, ENOTDIR)):
            told = f"{file.path} can't be read: {error.strerror}: {_doubt(file.path, error)}"
            raise SourceAwayError(told) from error
    return None


def _doubt(path: Path, error: OSError) -> str:
    """What a person should look at: a folder that holds other files is no mount that went away."""
    try:
        moved = error.errno == ENOENT and any(path.parent.iterdir())
    except OSError:
        moved = False
    return f"{'it was moved or deleted while the scene was fused, or ' if moved else ''}{AWAY}"


def fault_of(path: Path, error: Exception | None = None) -> str | None:
    """What keeps any library from reading an image here, in one line with the remedy, None if nothing does.

    ``error`` is what a library said of it.
    """
    try:
        if not path.exists():
            return _why_absent(path)
        if path.is_dir():
            if holds_dicom(path):
                return f"{path} is a folder of DICOM slices: {DICOM_REMEDY}"
            return f"{path} is a folder, not an image"
        if not path.is_file():  # it could be waited for in vain, or never end
            return f"{path} is a pipe or a device, not an image: save what comes from it as a file"
        with path.open("rb") as stream:
            head = stream.read(HEAD)
    except PermissionError:
        return f"{path} can't be read: you have no permission (ask its owner, or chmod u+r)"
    except OSError as refused:
        return f"{path} can't be read: {refused.strerror}"
    if not head:
        return f"{path} is empty (0 bytes): copy or download it again"
    kind = kind_of(path.name, head)
    if kind and not (kind == RAW and head.startswith(RAW.within) and not holds_raw(path)):
        return f"{path} is {kind.noun}: {kind.remedy}"
    if error is not None and "Too many open files" in str(error):
        return f"{path} can't be opened, too many files are open: raise `ulimit -n`"
    return None


def is_gone(path: Path) -> bool:
    """Whether a file isn't there, and may come back: not a link whose content was never fetched."""
    try:
        return not path.exists() and not (path.is_symlink() and pointed_at(str(path.readlink())))
    except OSError:
        return True


def _why_absent(path: Path) -> str:
    """The line for a file that is not there, though something may be in its place."""
    if path.is_symlink():
        target = path.readlink()
        if kind := pointed_at(str(target)):
            return f"{path} is {kind.noun}: {kind.remedy}"
        return f"{path} is a link to {target}, which does not exist"
    if path.with_name(f"{path.name}.dvc").is_file():
        return f"{path} is not here, only its DVC pointer: run `dvc pull`"
    return f"{path} does not exist"


def is_dicom_name(name: str) -> bool:
    """Whether files are called so that are DICOM slices."""
    return name.lower().endswith(DICOM.endings)


def holds_dicom(path: Path) -> bool:
    """Whether this is a folder of DICOM slices, by the names in it."""
    try:
        return path.is_dir() and any(is_dicom_name(one.name) for one in islice(path.iterdir(), LOOKED_AT))
    except OSError:
        return False
