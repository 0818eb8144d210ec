"""Whose images these are and in which space they lie, as far as BIDS names and NIfTI headers tell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from batchfuse.imagery.scene import Source
from batchfuse.imagery.volume_header import header_of
from batchfuse.system.words import printable

__all__ = ["difference", "entities", "in_other_spaces", "unlike"]

ENTITY = re.compile(r"(?:^|[/_])(sub|ses|space|chunk)-([A-Za-z0-9+]+)(?=[/_.]|$)")
NATIVE = frozenset(
    (
        *("t1w", "t2w", "flair", "anat", "individual", "subject", "orig", "native", "scanner"),
        *("func", "bold", "boldref", "dwi", "pet", "petref", "ct"),
    )
)
"""Values of ``space-`` that mean the subject's own anatomy, as a name without ``space-`` does."""
MEANS = {
    "sub": "another person",
    "ses": "another visit",
    "space": "another space, whose millimetres are no places of this one",
    "chunk": "another part of one image",
}
"""What another value of an entity means."""
SPACES = {1: "the scanner's own coordinates", 3: "Talairach's space", 4: "MNI152", 5: "a template's space"}
"""Of the codes of sform and qform those that say which space is meant; 2 says only: another image's."""


def entities(path: str) -> Mapping[str, str]:
    """The values of ``sub-``, ``ses-``, ``space-`` and ``chunk-`` in a path; the last of each counts."""
    return dict(ENTITY.findall(path))


def difference(first: str, second: str) -> tuple[str, str, str] | None:
    """The entity that keeps two paths' images apart, and its values, "" for none; None where all is one.

    An image without ``space-`` lies in its subject's own space: ``space-T1w`` goes with it, no template does.
    """
    ours, theirs = entities(first), entities(second)
    for name in MEANS:
        one, other = ours.get(name, ""), theirs.get(name, "")
        if one == other:
            continue
        if (one and other) or (name == "space" and (one or other).lower() not in NATIVE):
            return name, one, other
    return None


def unlike(sources: Sequence[Source]) -> list[str]:
    """A sentence for each two sources of different persons, visits or spaces, by their names or headers."""
    told = []
    for one, other in combinations(sources, 2):
        paths = one.files[0].path, other.files[0].path
        if found := difference(*(path.as_posix() for path in paths)):
            told.append(_by_names(found, (one.role, other.role), paths))
        elif told_by_codes := in_other_spaces(one, other):
            told.append(told_by_codes)
    return told


def in_other_spaces(one: Source, other: Source) -> str | None:
    """A sentence where the headers of two volumes say that they lie in different spaces; else None."""
    if not (one.is_volume and other.is_volume):
        return None
    codes = [header_of(source.files[0]).space for source in (one, other)]
    if codes[0] == codes[1] or not set(codes) <= set(SPACES):
        return None
    first, second = (SPACES[code] for code in codes)
    names = ", ".join(printable(source.files[0].path.name) for source in (one, other))
    return (
        f"{one.role} lies in {first} and {other.role} in {second}, as the codes of their headers tell "
        f"({codes[0]} and {codes[1]}: {names}): the same millimetres are other places; "
        "bring both into one space first"
    )


def _by_names(found: tuple[str, str, str], roles: tuple[str, str], paths: tuple[Path, Path]) -> str:
    name, *values = found
    first, second = (f"{name}-{value}" if value else f"no {name}-" for value in values)
    names = ", ".join(printable(path.name) for path in paths)
    return (
        f"{roles[0]} has {first} and {roles[1]} has {second} in its name ({names}): "
        f"{MEANS[name]}; pair images of one"
    )
