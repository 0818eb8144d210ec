"""Names that share a date, a tile or a number and nothing else, such as those of two sensors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from batchfuse.scout.series import Key, Option, Series
from batchfuse.scout.templates import escaped

__all__ = ["Links", "shared_tokens"]

WORD = re.compile(r"(?<!\d)\d{4}-\d\d-\d\d(?!\d)|[A-Za-z0-9]+|[^A-Za-z0-9]+")
TOKEN = re.compile(r"\d{4}-\d\d-\d\d|[A-Za-z]+|[0-9]+|[^A-Za-z0-9]+")
DATE = re.compile(r"(?:19|20)\d{6}|(?:19|20)\d\d-\d\d-\d\d")
TIME = re.compile(r"[0-2]\d{5}")
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
    """The names of one source, cut into tokens; only those of the commonest frame."""

    keys: tuple[Key, ...]
    """Their keys."""
    cut: tuple[tuple[tuple[str, ...], ...], ...]
    """The tokens of each part of each key."""
    tokens: tuple[tuple[str, ...], ...]
    """The same, those of all parts one after the other."""

    def column(self, place: int) -> list[str]:
        return [row[place] for row in self.tokens]


def shared_tokens(pair: Sequence[Option]) -> Links | None:
    """The tokens that join two sources to the most scenes, none of them ambiguous; None where none do."""
    first, second = (_rows(option) for option in pair)
    candidates = _candidates(first, second)
    chosen: list[tuple[int, int]] = []
    best: dict[tuple[str, ...], tuple[Key, Key]] = {}
    while candidates:
        tried = [(_join(first, second, [*chosen, *links]), links) for links in candidates]
        joined, links = max(tried, key=lambda one: len(one[0]))
        if len(joined) <= len(best):
            break
        best, chosen = joined, [*chosen, *links]
        ours, theirs = (set(places) for places in zip(*chosen, strict=True))
        candidates = [one for one in candidates if not any(i in ours or j in theirs for i, j in one)]
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
    by_frame: dict[Shape, list[Key]] = {}
    for key in sorted(option.keys)[:MOST_FILES]:
        by_frame.setdefault(_frame(key), []).append(key)
    keys = max(by_frame.values(), key=len)
    parts = [_cut([key[place] for key in keys]) for place in range(len(keys[0]))]
    cut = tuple(tuple(part[row] for part in parts) for row in range(len(keys)))
    return _Rows(tuple(keys), cut, tuple(sum(row, ()) for row in cut))


def _frame(key: Key) -> Shape:
    """The signs between a name's words."""
    return tuple(
        sign for part in key for sign in (*("" if w[0].isalnum() else w for w in WORD.findall(part)), "/")
    )


def _cut(texts: Sequence[str]) -> list[tuple[str, ...]]:
    """The tokens of the same part of several names.

    A word is cut into letters and digits where all names have them in the same order there, as T32TPT; else
    it is one token, as the numbers of satellites such as 2486 and 24a4.
    """
    columns = []
    for words in zip(*(WORD.findall(text) for text in texts), strict=True):
        tokens = [tuple(TOKEN.findall(word)) for word in words]
        alike = {tuple(token[0].isdigit() for token in each) for each in tokens}
        columns.append(tokens if len(alike) == 1 else [(word,) for word in words])
    return [sum(row, ()) for row in zip(*columns, strict=True)] if columns else [() for _ in texts]


def _candidates(first: _Rows, second: _Rows) -> list[tuple[tuple[int, int], ...]]:
    """Places in the two names that hold the same tokens now and then, and not by chance.

    A time of the day joins with the date before it, not alone: a satellite comes at the same time again.
    """
    found: list[tuple[tuple[int, int], ...]] = []
    for i in range(len(first.tokens[0])):
        ours = set(first.column(i))
        for j in range(len(second.tokens[0])):
            shared = ours & set(second.column(j))
            telling = len(shared) > 1 or any(len(token) >= 4 and token[-1].isdigit() for token in shared)
            if shared and all(token.isalnum() or DATE.fullmatch(token) for token in shared) and telling:
                times = _is_time(first, i), _is_time(second, j)
                if all(times):
                    found.append(((i - 2, j - 2), (i, j)))
                elif not any(times):
                    found.append(((i, j),))
    return found


def _is_time(rows: _Rows, place: int) -> bool:
    """Whether there is a time of the day at a place of the names: six digits behind a date and a sign."""
    behind_dates = place >= 2 and all(DATE.fullmatch(token) for token in rows.column(place - 2))
    return behind_dates and all(TIME.fullmatch(token) for token in rows.column(place))


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
        dates = all(DATE.fullmatch(token) for token in rows.column(place))
        name = "date" if dates and "date" not in names else "scene"
        names.append(name if name not in names else f"part{len(names)}")
    return names


def _pattern(series: Series, rows: _Rows, names: dict[int, str]) -> str:
    """A series' path with wildcards at the linked tokens and stars at others that vary."""
    text, place = escaped(series.skeleton[0]), 0
    for part, behind in zip(rows.cut[0], series.skeleton[1:], strict=True):
        for token in part:
            if place in names:
                text += f"{{{names[place]}}}"
            elif len(set(rows.column(place))) == 1:
                text += escaped(token)
            elif not text.endswith("*"):
                text += "*"
            place += 1
        text += escaped(behind)
    return text
