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


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to be listed."""

    below: str
    """Its path below the base, with a / at the end."""
    above: tuple[Identity | None, ...]
    """The folders from the base down to itself."""
    once: bool = False
    """Whether it is listed only where nothing else led to it."""


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
    followed, but never to one that they are in: no walk is endless. Below ``depth`` segments they come last,
    in order, and only where they lead to folders that nothing else led to: there each is listed once.
    """
    closed = {_identity(one) for one in (*base.absolute().parents, left_out) if one is not None} - {None}
    files: list[str] = []
    unreadable: list[tuple[str, str]] = []
    waiting = [_Folder("", (_identity(base),))]
    links: list[_Folder] = []
    seen: set[Identity | None] = set()
    while (waiting or links) and len(files) <= most:
        links.sort(key=lambda folder: folder.below, reverse=True)
        here = waiting.pop() if waiting else links.pop()
        if here.once and here.above[-1] in seen:
            continue
        seen.add(here.above[-1])
        level = here.below.count("/") + 1
        try:
            for entry in _entries(base / here.below):
                if entry.name.startswith(".") and not hidden:
                    continue
                if not _is_folder(entry):
                    if _is_file(entry):
                        files.append(here.below + entry.name)
                elif not entry.name.lower().endswith(".zarr") and (level < depth or any_depth):
                    identity = _identity(Path(entry.path))
                    if identity in here.above or identity in closed:
                        continue
                    is_last = entry.is_symlink() and level >= depth
                    inside = _Folder(
                        f"{here.below}{entry.name}/", (*here.above, identity), here.once or is_last
                    )
                    (links if is_last else waiting).append(inside)
        except OSError as error:
            unreadable.append((here.below.rstrip("/"), error.strerror or str(error)))
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


def _identity(folder: Path) -> Identity | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
