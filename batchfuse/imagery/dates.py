"""When images were taken, as far as their names tell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, timedelta
from itertools import combinations
from pathlib import Path

from batchfuse.imagery.scene import Source

__all__ = ["acquired", "far_apart"]

FAR = 30  # days: vegetation, water and snow change within a season
FIRST, LAST = 1972, 2049  # years: the first Landsat, and what a name of today can mean

# names whose rules are known: the date of acquisition, never those of processing that some have behind it
KNOWN = (
    re.compile(r"(?<![0-9A-Za-z])L[CEMOT]0\d_L\w{3}_\d{6}_(?P<ymd>\d{8})(?!\d)"),  # Landsat collections
    re.compile(r"(?<![0-9A-Za-z])L[CEMOT]\d\d{6}(?P<yj>\d{7})[A-Z]{3}\d\d(?!\d)"),  # Landsat before them
    re.compile(r"(?<![0-9A-Za-z])HLS\.[LS]30\.T\w{5}\.(?P<yj>\d{7})T\d{6}(?!\d)"),
    re.compile(r"(?<![0-9A-Za-z])(?:MOD|MYD|MCD|VNP|VJ1)\w{2,6}\.A(?P<yj>\d{7})(?!\d)"),  # MODIS, VIIRS
)
STAMP = re.compile(r"(?<![0-9A-Za-z])(?P<ymd>\d{8})T\d{6}(?!\d)")  # Sentinel, ECOSTRESS: the first is sensing
PROCESSED = re.compile(r"_OPER_")  # old Sentinel-2 files: the first stamp is when they were made

# any other name: a date that stands alone, and is the only one
PLAIN = re.compile(
    r"(?<![0-9A-Za-z])(?:"
    r"(?P<dashed>\d{4}-\d\d-\d\d)|(?P<lined>\d{4}_\d\d_\d\d)|(?P<ymd>\d{8})|(?P<timed>\d{8})(?:[01]\d|2[0-3])(?:[0-5]\d){2}"
    r")(?![0-9A-Za-z])"
)


def acquired(name: str) -> date | None:
    """The day of acquisition that a file's name tells, None where it tells none, or several.

    Known are the names of Landsat, Sentinel-2, HLS, MODIS and VIIRS, and those that hold one plain date, such
    as 2024-06-15, 20240615 or 20240615103031.
    """
    for pattern in KNOWN:
        found = pattern.search(name)
        if found:
            return _day(found)
    stamps = [day for found in STAMP.finditer(name) if (day := _day(found)) is not None]
    if stamps:
        return None if PROCESSED.search(name) else stamps[0]
    days = {day for found in PLAIN.finditer(name) if (day := _day(found)) is not None}
    return days.pop() if len(days) == 1 else None


def far_apart(sources: Sequence[Source]) -> list[str]:
    """A sentence for each two sources whose names tell dates more than a month apart."""
    days = [(source, day) for source in sources if (day := _taken(source)) is not None]
    return [
        f"{one.role} was taken on {first} and {other.role} on {second}, {abs((first - second).days)} days "
        f"apart, as {Path(one.files[0].path).name} and {Path(other.files[0].path).name} tell: what changed "
        "meanwhile is fused as if it were seen at once; pair images of closer dates"
        for (one, first), (other, second) in combinations(days, 2)
        if abs(first - second) > timedelta(days=FAR)
    ]


def _taken(source: Source) -> date | None:
    """The day of a source; None where its files tell several."""
    days = {acquired(file.path.name) for file in source.files}
    return days.pop() if len(days) == 1 else None


def _day(found: re.Match[str]) -> date | None:
    """The day in the group that matched: year, month, day, or year and day of the year."""
    ((kind, text),) = ((k, t) for k, t in found.groupdict().items() if t is not None)
    digits = re.sub(r"\D", "", text)
    year = int(digits[:4])
    if not FIRST <= year <= LAST:
        return None
    try:
        if kind != "yj":
            return date(year, int(digits[4:6]), int(digits[6:8]))
        day = date(year, 1, 1) + timedelta(days=int(digits[4:]) - 1)
    except ValueError:
        return None
    return day if day.year == year else None
