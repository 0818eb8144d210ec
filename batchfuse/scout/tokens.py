"""Names that share a date, a tile or a number and nothing else, such as those of two sensors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from batchfuse.scout.series import Key, Option, Series
from batchfuse.scout.templates import escaped

__all__ = ["Links", "shared_tokens"]

TOKEN = re.compile(r"[A-Za-z]+|[0-9]+|[^A-Za-z0-9]+")
MOST_FILES = 2000
"""Of each source, compared with each other."""

Shape = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Links:
    """Two sources that are joined by some of the tokens of their names."""

    paths: tuple[tuple[str, ...], ...]
    """The patterns of each source."""
    files: tuple[str, ...]
    """The files of one scene."""
    scenes: int
    """How many are complete."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """The names of one source, cut into tokens; only those of the commonest shape."""

    keys: tuple[Key, ...]
    """Their keys."""
    tokens: tuple[tuple[str, ...], ...]
    """The tokens of each, all parts of the key one after the other."""

    def column(self, place: int) -> list[str]:
        return [row[place] for row in self.tokens]


def shared_tokens(pair: Sequence[Option]) -> Links | None:
    """The tokens that join two sources to the most scenes, none of them ambiguous; None where none do."""
    first, second = (_rows(option) for option in pair)
    candidates = _candidates(first, second)
    chosen: list[tuple[int, int]] = []
    best: dict[tuple[str, ...], tuple[Key, Key]] = {}
    while candidates:
        tried = [(_join(first, second, [*chosen, link]), link) for link in candidates]
        joined, link = max(tried, key=lambda one: len(one[0]))
        if len(joined) <= len(best):
            break
        best, chosen = joined, [*chosen, link]
        candidates = [one for one in candidates if one[0] != link[0] and one[1] != link[1]]
    if not best:
        return None
    keys = best[min(best)]
    names = _names(first, [place for place, _ in chosen])
    paths = tuple(
        tuple(_pattern(series, rows, dict(zip(places, names, strict=True))) for series in option.series)
        for option, rows, places in zip(pair, (first, second), zip(*chosen, strict=True), strict=True)
    )
    files = tuple(s.files[key] for option, key in zip(pair, keys, strict=True) for s in option.series)
    return Links(paths, files, len(best))


def _rows(option: Option) -> _Rows:
    by_shape: dict[Shape, list[Key]] = {}
    for key in sorted(option.keys)[:MOST_FILES]:
        by_shape.setdefault(_shape(key), []).append(key)
    keys = max(by_shape.values(), key=len)
    return _Rows(
        tuple(keys), tuple(tuple(token for part in key for token in TOKEN.findall(part)) for key in keys)
    )


def _shape(key: Key) -> Shape:
    """The kinds of a name's tokens, with the signs between them."""
    kinds = []
    for part in key:
        kinds += ["0" if t[0].isdigit() else "a" if t.isalpha() else t for t in TOKEN.findall(part)]
        kinds.append("/")
    return tuple(kinds)


def _candidates(first: _Rows, second: _Rows) -> list[tuple[int, int]]:
    """Places in the two names that hold the same tokens now and then, and not by chance."""
    found = []
    for i in range(len(first.tokens[0])):
        ours = set(first.column(i))
        for j in range(len(second.tokens[0])):
            shared = ours & set(second.column(j))
            telling = len(shared) > 1 or any(len(token) >= 4 and token.isdigit() for token in shared)
            if shared and all(token.isalnum() for token in shared) and telling:
                found.append((i, j))
    return found


def _join(
    first: _Rows, second: _Rows, links: Sequence[tuple[int, int]]
) -> dict[tuple[str, ...], tuple[Key, Key]]:
    """The keys that the links join, where they are one to one; nothing if they are not throughout."""
    ours = [tuple(row[i] for i, _ in links) for row in first.tokens]
    theirs = [tuple(row[j] for _, j in links) for row in second.tokens]
    counts = Counter(ours), Counter(theirs)
    shared = set(ours) & set(theirs)
    once = {values for values in shared if counts[0][values] == counts[1][values] == 1}
    places = {values: k for k, values in enumerate(theirs)}
    return {
        values: (first.keys[k], second.keys[places[values]])
        for k, values in enumerate(ours)
        if values in once
    }


def _names(rows: _Rows, places: Sequence[int]) -> list[str]:
    names: list[str] = []
    for place in places:
        dates = all(re.fullmatch(r"(?:19|20)\d{6}", token) for token in rows.column(place))
        name = "date" if dates and "date" not in names else "scene"
        names.append(name if name not in names else f"part{len(names)}")
    return names


def _pattern(series: Series, rows: _Rows, names: dict[int, str]) -> str:
    """A series' path with wildcards at the linked tokens and stars at others that vary."""
    text, place = escaped(series.skeleton[0]), 0
    for part, behind in zip(rows.keys[0], series.skeleton[1:], strict=True):
        for token in TOKEN.findall(part):
            if place in names:
                text += f"{{{names[place]}}}"
            elif len(set(rows.column(place))) == 1:
                text += escaped(token)
            elif not text.endswith("*"):
                text += "*"
            place += 1
        text += escaped(behind)
    return text
