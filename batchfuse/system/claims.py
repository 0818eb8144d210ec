"""What a command will write, compared with what it reads before anything starts: neither may be the other."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from batchfuse.errors import RecipeError

__all__ = ["Claims"]


@dataclass(frozen=True, slots=True)
class _Claim:
    path: Path
    """As the user says it."""
    what: str
    """What it is, as in "the source"."""
    real: str
    """The same path without links and dots in its folders."""
    key: str
    """The same in one case."""


@dataclass
class _Paths:
    """Paths that are read, or written, by their real names in one case."""

    named: dict[str, _Claim] = field(default_factory=dict)
    inside: dict[str, tuple[str, _Claim]] = field(default_factory=dict)
    """By folder: its name as it is, and one of the paths that lie in it, at whatever depth."""

    def add(self, claim: _Claim) -> None:
        self.named.setdefault(claim.key, claim)
        for folder in _folders(claim.real):
            if self.inside.setdefault(_in_one_case(folder), (folder, claim))[1] is not claim:
                return  # those above it are there, too


class Claims:
    """All paths that a command reads, and all that it may create, replace or delete.

    Names count as one where a file system can take them for one: through links to folders and to files, hard
    links, and, where it ignores case, in any case.
    """

    def __init__(self, remedy: str) -> None:
        """``remedy`` ends the lines of refusals."""
        self._remedy = remedy
        self._read, self._written = _Paths(), _Paths()
        self._linked: dict[tuple[int, int], _Claim] = {}  # files that are read and have several names
        self._folders: dict[str, tuple[str, str]] = {}  # what is real of each, and its key

    def read(self, path: Path, what: str) -> None:
        """Claim a file that is read, such as "the source"; RecipeError where it is or will be written."""
        self._read_as(claim := self._claim(path, what))
        try:
            found = path.lstat()
            if stat.S_ISLNK(found.st_mode):
                real = os.path.realpath(path)
                self._read_as(claim := _Claim(path, what, real, _in_one_case(real)))
                found = path.stat()
        except OSError:  # which is told by whoever opens it
            return
        if found.st_nlink > 1:
            self._linked[found.st_dev, found.st_ino] = claim

    def write(self, path: Path, what: str) -> None:
        """Claim a path that is written, or a folder in which something is, such as "the store of a".

        Raises RecipeError where a file that is read is it, or lies in it, or something else is written there.
        """
        claim = self._claim(path, what)
        for read in (self._read.named.get(claim.key), self._linked_with(claim)):
            if read is not None:
                self._refuse_over(read, claim)
        self._refuse_inside(self._read, claim)
        other = self._written.named.get(claim.key)
        if other is not None and _are_one(claim.real, other.real):
            raise RecipeError(f"{other.what} and {what} would both be written to {path}: rename one")
        self._refuse_inside(self._written, claim)
        if os.path.dirname(claim.key) not in self._written.inside:  # noqa: PTH120 (text, of 100,000 paths)
            for folder in _folders(claim.real):
                other = self._written.named.get(_in_one_case(folder))
                if other is not None and _are_one(folder, other.real):
                    self._refuse_within(other, claim)
        self._written.add(claim)

    def _read_as(self, claim: _Claim) -> None:
        for path in (claim.real, *_folders(claim.real)) if self._written.named else ():
            written = self._written.named.get(_in_one_case(path))
            if written is not None and _are_one(path, written.real):
                (self._refuse_over if path == claim.real else self._refuse_within)(claim, written)
        self._read.add(claim)

    def _linked_with(self, claim: _Claim) -> _Claim | None:
        """The file that is read and that a hard link of this name is, too."""
        if not self._linked:
            return None
        try:
            found = claim.path.lstat()
        except OSError:
            return None
        return self._linked.get((found.st_dev, found.st_ino))

    def _refuse_over(self, read: _Claim, written: _Claim) -> None:
        linked = self._linked_with(written) is read
        if linked or _are_one(written.real, read.real):
            same = "" if written.path == read.path else f", which is {written.path},"
            raise RecipeError(
                f"{written.what} would be written over {read.what} {read.path}{same}: {self._remedy}"
            )

    def _refuse_inside(self, others: _Paths, claim: _Claim) -> None:
        """Refuse a path that is a folder in which one of the others lies."""
        folder, other = others.inside.get(claim.key, (None, None))
        if other is not None and folder is not None and _are_one(claim.real, folder):
            self._refuse_within(claim, other)

    def _refuse_within(self, outer: _Claim, inner: _Claim) -> None:
        raise RecipeError(f"{inner.what} {inner.path} lies in {outer.path}, {outer.what}: {self._remedy}")

    def _claim(self, path: Path, what: str) -> _Claim:
        folder, name = os.path.split(path)
        if name in ("", ".", ".."):
            folder, name = os.path.split(os.path.realpath(path))
        if folder not in self._folders:
            real = os.path.realpath(folder or ".")
            self._folders[folder] = real, _in_one_case(real)
        real, key = self._folders[folder]
        slash = "" if real.endswith(os.sep) else os.sep
        return _Claim(path, what, f"{real}{slash}{name}", f"{key}{slash}{_in_one_case(name)}")


def _folders(path: str) -> Iterator[str]:
    """The folders that a path lies in, from its own upwards."""
    while (folder := os.path.dirname(path)) != path:  # noqa: PTH120 (text, of 100,000 paths)
        yield folder
        path = folder


def _in_one_case(path: str) -> str:
    return unicodedata.normalize("NFC", path.casefold())


def _are_one(one: str, other: str) -> bool:
    """Whether two paths that differ in case at most lead to the same, or would."""
    if one == other:
        return True
    there = [os.path.lexists(path) for path in (one, other)]
    if all(there):
        return os.path.samestat(os.lstat(one), os.lstat(other))
    return not any(there) and _ignores_case(Path(one).parent)


def _ignores_case(folder: Path) -> bool:
    """Whether names that differ in case are one to the file system, by the nearest folder that is there."""
    for path in (folder, *folder.parents):
        turned = path.with_name(path.name.swapcase()) if path.name else path
        if path.exists() and turned != path:
            return turned.exists() and turned.samefile(path)
    return False
