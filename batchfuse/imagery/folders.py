"""The files in and below a folder, listed without opening any."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Listing", "list_files"]

Identity = tuple[int, int]
"""Device and inode of a folder: what it is, whatever path led there."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What one walk through a folder found."""

    base: Path
    """Where the walk began."""
    files: tuple[str, ...]
    """Paths below the base, segments joined by /, in order."""
    unreadable: tuple[tuple[str, str], ...]
    """Folders that could not be listed, each with the reason."""


def list_files(
    base: Path,
    depth: int,
    any_depth: bool,
    hidden: bool,
    left_out: Path | None,
    most: float = math.inf,
) -> Listing:
    """List the files below a folder, in ``depth`` segments or, if ``any_depth``, in any number.

    The walk ends once it has found more than ``most`` files.

    Left out are hidden entries (unless ``hidden``), Zarr stores, the folder ``left_out``, and what is neither
    a file nor a broken link (a broken link is for whoever opens it to complain of). Links to folders are
    followed through ``depth`` segments only, and never to a folder that they are in: no walk is endless.
    """
    excluded = None if left_out is None else _identity(left_out)
    files: list[str] = []
    unreadable: list[tuple[str, str]] = []
    waiting: list[tuple[str, tuple[Identity | None, ...]]] = [("", (_identity(base),))]
    while waiting and len(files) <= most:
        below, above = waiting.pop()
        level = below.count("/") + 1
        try:
            for entry in _entries(base / below):
                if entry.name.startswith(".") and not hidden:
                    continue
                if not _is_folder(entry):
                    if _is_file(entry):
                        files.append(below + entry.name)
                elif _is_entered(entry, level, depth, any_depth):
                    identity = _identity(Path(entry.path))
                    if identity not in above and (excluded is None or identity != excluded):
                        waiting.append((f"{below}{entry.name}/", (*above, identity)))
        except OSError as error:
            unreadable.append((below.rstrip("/"), error.strerror or str(error)))
    return Listing(base, tuple(sorted(files)), tuple(unreadable))


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from entries


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file or a broken link; not a pipe or a device, which could be waited for in vain."""
    try:
        return entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())
    except OSError:
        return True


def _is_entered(entry: os.DirEntry[str], level: int, depth: int, any_depth: bool) -> bool:
    if entry.name.lower().endswith(".zarr"):
        return False
    return level < depth or (any_depth and not entry.is_symlink())


def _identity(folder: Path) -> Identity | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
