"""Which files each pattern of a recipe matches, and which images none does."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from batchfuse.imagery.files import DICOM_REMEDY, is_dicom_name
from batchfuse.imagery.folders import list_files
from batchfuse.imagery.wildcards import Pattern
from batchfuse.system.words import printable

__all__ = ["Catch", "Matches", "Values", "is_there", "like", "matched_files", "names_in", "nearest"]

IMAGES = (".tif", ".tiff", ".png", ".jp2", ".nii", ".nii.gz", ".jpg")
"""Files that are told of where no source takes them: the others are sidecars and notes."""
MOST_NAMES = 2000
"""Names that a misspelt one is compared with."""

Values = tuple[str, ...]
"""What the wildcards of a pattern stand for, in their order."""


@dataclass(slots=True)
class Matches:
    """One pattern of a role, and the files it matched."""

    role: str
    """The source that the files belong to."""
    pattern: Pattern
    """What they are called."""
    files: dict[Values, list[Path]] = field(default_factory=dict)
    """By the values of the wildcards; more than one file where stars stand for the difference."""

    @property
    def count(self) -> int:
        """Files matched."""
        return sum(len(paths) for paths in self.files.values())


@dataclass(slots=True)
class Catch:
    """All that the walk through the folders found."""

    matches: list[Matches]
    """A pattern each, in the recipe's order."""
    strays: list[Path]
    """Images that lie where a pattern looked, and match none."""
    unreadable: list[tuple[Path, str]]
    """Folders that could not be listed, each with the reason."""


def matched_files(patterns: Mapping[str, Sequence[str]], folder: Path, left_out: Path | None) -> Catch:
    """Walk once through each folder that patterns begin in, and match every file with each of them."""
    matches = [
        Matches(role, Pattern.parse(text, folder)) for role, texts in patterns.items() for text in texts
    ]
    catch = Catch(matches, [], [])
    matched: set[str] = set()
    strays: dict[str, Path] = {}
    for one in matches:
        if one.pattern.is_literal and is_there(one.pattern.literal):
            one.files[()] = [one.pattern.literal]
            matched.add(_key(one.pattern.literal))
    for base in dict.fromkeys(one.pattern.base for one in matches if not one.pattern.is_literal):
        here = [one for one in matches if one.pattern.base == base and not one.pattern.is_literal]
        if base.is_dir():
            _walk(base, here, left_out, matched, strays, catch.unreadable)
    catch.strays += [path for key, path in strays.items() if key not in matched]
    return catch


def _walk(
    base: Path,
    here: Sequence[Matches],
    left_out: Path | None,
    matched: set[str],
    strays: dict[str, Path],
    unreadable: list[tuple[Path, str]],
) -> None:
    """Match the files below one folder; ``matched`` and ``strays`` are keyed by the real paths."""
    listing = list_files(
        base,
        depth=max(one.pattern.depth for one in here),
        any_depth=any(one.pattern.any_depth for one in here),
        hidden=any(one.pattern.names_hidden for one in here),
        left_out=left_out,
    )
    unreadable += [(base / below, reason) for below, reason in listing.unreadable]
    once: set[tuple[int, str]] = set()
    for below, real in _real_first(base, listing.files):
        found = [(one, values) for one in here if (values := one.pattern.values(below)) is not None]
        for one, values in found:
            if one.pattern.any_depth and (id(one), real) in once:
                continue
            once.add((id(one), real))
            one.files.setdefault(values, []).append(base / below)
        if found:
            matched.add(real)
        elif below.lower().endswith(IMAGES) and _is_looked_at(here, below):
            strays.setdefault(real, base / below)


def _real_first(base: Path, files: Sequence[str]) -> list[tuple[str, str]]:
    """Files below a folder, each with its real path: those that no link to a folder led to come first."""
    root = os.path.realpath(base)
    split = [(below, *below.rpartition("/")[::2]) for below in files]
    folders = {folder: os.path.realpath(base / folder) for folder in {folder for _, folder, _ in split}}
    plain = {folder for folder, real in folders.items() if real == os.path.normpath(f"{root}/{folder}")}
    split.sort(key=lambda parts: parts[1] not in plain)
    return [(below, f"{folders[folder]}/{name}") for below, folder, name in split]


def _is_looked_at(here: Iterable[Matches], below: str) -> bool:
    depth = below.count("/") + 1
    return any(one.pattern.looks_at(depth) for one in here)


def _key(path: Path) -> str:
    return f"{os.path.realpath(path.parent)}/{path.name}"


def is_there(path: Path) -> bool:
    """Whether there is a file (or a broken link, which is for whoever opens it to complain of)."""
    try:
        return path.is_file() or (path.is_symlink() and not path.exists())
    except (OSError, ValueError):
        return False


def nearest(pattern: Pattern) -> str:
    """What there is in place of the files that a pattern wants, in words."""
    folder = pattern.base
    if not folder.is_dir():
        while not folder.parent.is_dir() and folder.parent != folder:
            folder = folder.parent
        kind = "is no folder" if folder.exists() else "does not exist"
        return f"the folder {printable(folder)} {kind}{like(folder.name, names_in(folder.parent))}"
    if pattern.is_literal:
        names: Sequence[str] = names_in(folder)
    else:
        names = list_files(folder, pattern.depth, pattern.any_depth, pattern.names_hidden, None).files
    if slices := _folder_of_slices(pattern):
        return f"{printable(slices)} is a folder of DICOM slices: {DICOM_REMEDY}"
    if not names:
        return f"the folder {printable(folder)} is empty"
    twin = next((name for name in names if pattern.differs_in_case(name)), None)
    if twin:
        return f"{printable(folder / twin)} differs in upper and lower case"
    wanted = "/".join(pattern.text.split("/")[-pattern.depth :])
    return f"nothing like it in {printable(folder)}{like(wanted, names)}"


def _folder_of_slices(pattern: Pattern) -> Path | None:
    """The first folder that the pattern would match were it a file, and that holds DICOM slices."""
    if pattern.is_literal:
        listed: Sequence[str] = [f"{pattern.literal.name}/{name}" for name in names_in(pattern.literal)]
    else:
        listed = list_files(
            pattern.base, pattern.depth + 1, pattern.any_depth, pattern.names_hidden, None
        ).files
    for below in listed:
        above, _, name = below.rpartition("/")
        if above and is_dicom_name(name) and pattern.values(above) is not None:
            return pattern.base / above
    return None


def like(wanted: str, names: Iterable[str]) -> str:
    """The name that is nearest to the wanted one, as a remark in brackets, or nothing."""
    by_lower = {name.lower(): name for name in islice(names, MOST_NAMES)}
    found = difflib.get_close_matches(wanted.lower(), by_lower, n=1, cutoff=0.3)
    return f" (nearest: {printable(by_lower[found[0]])})" if found else ""


def names_in(folder: Path) -> list[str]:
    """The names in a folder, or none where it can't be listed."""
    try:
        return sorted(path.name for path in folder.iterdir())
    except (OSError, ValueError):
        return []
