"""Why images are no pair after all: what their names tell of persons, spaces, parts, flights and days."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import combinations

from batchfuse.imagery.dates import acquired
from batchfuse.imagery.entities import MEANS, difference
from batchfuse.scout.marks import Marked, ending_of, words_of_roles
from batchfuse.scout.words import MEDICAL, PROCESSING, TIMES, VOLUME_ROLES
from batchfuse.system.words import printable

__all__ = ["objection", "shard"]

PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
"""Endings of files that have no georeference, most of the time."""
NEAR = timedelta(days=1)
"""Between two images whose names share a place, a tile or a number."""
SAME_DAY = timedelta(hours=6)
"""On one day: further apart, one may be of the day and one of the night."""
MOMENT = timedelta(minutes=10)
"""Between two images that nothing but a guess brings together."""
CLOCK = re.compile(r"(?:[T_\-]?)([01]\d|2[0-3])[_\-:.]?([0-5]\d)(?:[_\-:.]?([0-5]\d))?(?!\d)")
COUNTED = re.compile(
    r"(?:^|[^a-z])(flight|mission|sortie|campaign|session|visit|timepoint|day|week|month|patient|subject|case"
    r"|site|field|plot|area|parcel|tile|block)"
    r"[_\-]?(\d+|[a-h](?![a-z]))"
)
"""What is counted, by numbers or the first letters: flight_T and flight_W are one flight's."""
SHARD = re.compile(r"-(\d{10})-(\d{10})$")
"""Where in an image a part of it begins, as Google Earth Engine writes it at the end of a name."""
TILE = re.compile(r"(?<![A-Za-z0-9])T?(\d\d[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V])(?![A-Za-z0-9])")
"""Of Sentinel-2's grid (MGRS)."""
DAY = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")
"""A date wherever it stands: cam20230701, 2023-07-01T10-15."""
STAMP = re.compile(r"(?:19|20)\d{2}-?\d\d-?\d\d(?:[t_-]?\d{6})?")
YEAR = re.compile(r"(?<![\dx])(19[7-9]\d|20[0-4]\d)(?![\dA-Za-z])")
"""A number with a unit behind it is none: 2048px, 2000m, 1990x1080."""
LETTERS = re.compile(r"[^\W\d_]+")
WORD = re.compile(r"[a-z]+\d*|\d+")


def shard(path: str) -> tuple[str, str] | None:
    """The name of the image that a file is a part of, and which part; None of a whole one."""
    stem = path.removesuffix(ending_of(path))
    found = SHARD.search(stem)
    return (stem[: found.start()], found[0]) if found else None


def objection(files: Sequence[Marked], guessed: bool, lone: bool) -> str | None:
    """Why images, one of each source, should not be fused with each other; None where no name says so.

    Args:
        files: what the names tell of them.
        guessed: whether no shared part of the names brings them together.
        lone: whether they are the only scene.
    """
    for first, second in combinations(files, 2):
        for why in _objections(first, second, guessed, lone):
            names = " and ".join(printable(file.path) for file in (first, second))
            return f"{names}: {why}"
    return None


def _objections(first: Marked, second: Marked, guessed: bool, lone: bool) -> Iterator[str]:
    yield from _entities(first, second)
    yield from _parts(first, second)
    yield from _one_role(first, second)
    yield from _when(first, second, guessed or not (_role(first) and _role(second)))
    yield from _counters(first, second)
    yield from _persons(first, second, guessed, lone)


def _role(file: Marked) -> str:
    return file.meaning.role if file.meaning else ""


def _one_role(first: Marked, second: Marked) -> Iterator[str]:
    if _role(first) and _role(first) == _role(second):
        yield f"both are {_role(first)}"


def _entities(first: Marked, second: Marked) -> Iterator[str]:
    found = difference(first.path, second.path)
    if found is None:
        return
    name, one, other = found
    if name == "ses" and all(re.sub(r"\d+$", "", value.lower()) in VOLUME_ROLES for value in (one, other)):
        return  # ses-pet and ses-mri: named by the scanner, and so meant for each other
    told = " and ".join(f"{name}-{value}" if value else f"no {name}-" for value in (one, other))
    yield f"{told}: {MEANS[name]}"


def _parts(first: Marked, second: Marked) -> Iterator[str]:
    ours, theirs = shard(first.path), shard(second.path)
    if ours and theirs and ours[1] != theirs[1]:
        yield f"{ours[1][1:]} and {theirs[1][1:]} look like two parts of one image"
    tiles = TILE.findall(first.path)[-1:], TILE.findall(second.path)[-1:]
    if all(tiles) and tiles[0] != tiles[1]:
        yield f"{tiles[0][0]} and {tiles[1][0]} are two tiles"


# --- flights, days and times --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Taken:
    """When an image was taken."""

    moment: datetime
    has_time: bool


@lru_cache(maxsize=4096)
def _taken(path: str) -> _Taken | None:
    """By its name, else by the innermost folder that tells a day."""
    for part in reversed(path.split("/")):
        stem = part.removesuffix(ending_of(part))
        day = acquired(stem) or acquired(part) or _lone_day(stem)
        if day is None:
            continue
        found = re.search(day.strftime(r"%Y[-_.]?%m[-_.]?%d|%Y%j"), stem)
        clock = CLOCK.match(stem, found.end()) if found else None
        hour, minute, second = (int(text or 0) for text in clock.groups()) if clock else (0, 0, 0)
        return _Taken(datetime(day.year, day.month, day.day, hour, minute, second), clock is not None)
    return None


def _lone_day(text: str) -> date | None:
    """The only date in a name."""
    found = {(int(year), int(month), int(day)) for year, _, month, day in DAY.findall(text)}
    if len(found) != 1:
        return None
    try:
        return date(*found.pop())
    except ValueError:  # the 31st of June
        return None


def _when(first: Marked, second: Marked, guessed: bool) -> Iterator[str]:
    one, other = _taken(first.path), _taken(second.path)
    if one and other:
        days = abs(one.moment.date() - other.moment.date())
        if days > (timedelta(0) if guessed else NEAR):
            yield f"taken on {one.moment.date()} and {other.moment.date()}"
        elif one.has_time and other.has_time:
            apart = abs(one.moment - other.moment)
            if apart > (MOMENT if guessed else SAME_DAY) and (guessed or not days):
                yield f"taken at {one.moment:%H:%M} and {other.moment:%H:%M}"
    else:
        ours, theirs = (set(YEAR.findall(file.path)) for file in (first, second))
        if ours and theirs and not ours & theirs:
            yield f"of {min(ours)} and {min(theirs)}"


def _counters(first: Marked, second: Marked) -> Iterator[str]:
    """Months, seasons, times of the day as words; flights, visits and patients by number."""
    ours, theirs = first.path.lower(), second.path.lower()
    for group in TIMES:
        one, other = (
            {group[word] for word in LETTERS.findall(text) if word in group} for text in (ours, theirs)
        )
        if one - other and other - one:
            yield f"{min(one - other)} and {min(other - one)}"
    counted, others = (dict(COUNTED.findall(text)) for text in (ours, theirs))
    for noun in sorted(counted.keys() & others.keys()):
        one, other = (each[noun].lstrip("0") for each in (counted, others))
        if one != other:
            yield f"{noun} {one} and {noun} {other}"


# --- persons ------------------------------------------------------------------------------------


def _persons(first: Marked, second: Marked, guessed: bool, lone: bool) -> Iterator[str]:
    """Names that begin differently, of images that only their subject brings together."""
    medical = all(file.is_volume or _role(file) in MEDICAL for file in (first, second))
    pictures = guessed and all(file.path.lower().endswith(PICTURES) for file in (first, second))
    known = first.family == second.family == "BIDS"
    if known or not (medical or pictures) or not (_role(first) or _role(second)):
        return
    ours, theirs = (_residue(file, lone) for file in (first, second))
    for one, other in zip(ours, theirs, strict=False):
        if one in theirs and other in ours:
            continue
        if one not in theirs and other not in ours:
            what = "person" if medical else "scene"
            yield f"{one} and {other}: not the same {what}, as far as the names tell"
        return


def _residue(file: Marked, lone: bool) -> list[str]:
    """The words of a name, and of its folders if it is a ``lone`` one, that say nothing of what it shows."""
    text = words_of_roles(file).sub(" ", file.path.removesuffix(ending_of(file.path)))
    parts = text.lower().split("/") if lone else [text.lower().rpartition("/")[2]]
    parts = [STAMP.sub(" ", part) for part in parts]
    return [word for part in parts for word in WORD.findall(part) if word not in PROCESSING]
