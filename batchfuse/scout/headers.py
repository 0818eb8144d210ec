"""What the files of a source say of themselves, and which keys of a recipe it takes to use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from batchfuse.errors import SourceError
from batchfuse.imagery.geotiff import open_source, visible_bands
from batchfuse.imagery.nifti import open_volumes
from batchfuse.imagery.scene import Source, can_hold
from batchfuse.scout.series import Option
from batchfuse.scout.words import DETAIL, NUMBERS

__all__ = ["Setting", "Settings", "settings_of"]

BLUE_FIRST = (("analytic", 4, [3, 2, 1]), ("analytic", 8, [6, 4, 2]), ("mul", 8, [5, 3, 2]))
"""Where the bands begin with the blue one: a word of the path, the number of bands, and red, green, blue."""

COLOUR_NAMES = (
    ("red", "green", "blue"),
    ("b4", "b3", "b2"),
    ("b04", "b03", "b02"),
    ("sr_b4", "sr_b3", "sr_b2"),
)
"""What bands that are red, green and blue are called, in lower case."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A key of a source, beside its path."""

    key: str
    """As in docs/recipes.md."""
    value: Any
    """Its value."""
    comment: str
    """Why."""
    is_remark: bool = False
    """Whether it is only written as a comment."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a source wants."""

    source: Source
    """As it opens with them."""
    settings: tuple[Setting, ...] = field(default=())
    """Keys and remarks."""
    volumes: int = 1
    """How many a file holds: each is a scene."""

    @property
    def values(self) -> Mapping[str, Any]:
        """The keys that count."""
        return {one.key: one.value for one in self.settings if not one.is_remark}


def settings_of(role: str, option: Option, paths: Sequence[Path]) -> Settings:
    """The keys that make these files of one scene a source, and those that the files don't know.

    Raises SourceError where they can't be one.
    """
    if option.is_volume:
        return _of_volume(role, paths[0])
    made = list(_bands(option, paths))
    source = open_source(role, paths, bands=made[0].value if made else None)
    return Settings(source, (*made, *_numbers(option, source)))


def _of_volume(role: str, path: Path) -> Settings:
    """A NIfTI file says all of itself; where it holds several volumes, one may be meant."""
    first, *others = open_volumes(role, path)
    if not others:
        return Settings(first)
    comment = (
        f"It holds {1 + len(others)} volumes, and each is a scene of its own; one alone, counted from 0:"
    )
    return Settings(first, (Setting("volume", 0, comment, is_remark=True),), 1 + len(others))


def _bands(option: Option, paths: Sequence[Path]) -> list[Setting]:
    """The bands to take, where it isn't all of them."""
    bands = [visible_bands(path) for path in paths]
    if len(paths) > 1:
        many = next((path for path, found in zip(paths, bands, strict=True) if len(found) > 1), None)
        if many:
            raise SourceError(f"{many} has several bands where one colour was expected")
        return []
    (found,) = bands
    if len(found) in (1, 3):
        return []
    if named := _named_colours(found):
        return [Setting("bands", named, f"Those of its {len(found)} that are called red, green, blue.")]
    if option.role in DETAIL and len(found) > 3:
        path = str(paths[0]).lower()
        known = (colours for word, number, colours in BLUE_FIRST if word in path and number == len(found))
        colours = next(known, list(found)[:3])
        return [Setting("bands", colours, f"Red, green, blue of its {len(found)}: see whether they are.")]
    return [Setting("bands", [next(iter(found))], f"The first of its {len(found)} bands.")]


def _named_colours(bands: Mapping[int, str]) -> list[int]:
    """The bands that a file calls red, green and blue, by the words or as Sentinel-2 and Landsat 8 do."""
    numbers = {name.lower(): number for number, name in reversed(list(bands.items()))}
    for names in COLOUR_NAMES:
        if set(names) <= set(numbers):
            return [numbers[name] for name in names]
    return []


def _numbers(option: Option, source: Source) -> list[Setting]:
    """Scale, offset and nodata that are known of the product and not stated by its files."""
    known = NUMBERS.get(option.series[0].example.numbers)
    band = source.bands[0]
    if known is None or np.dtype(source.dtype).kind not in "iu":
        return []
    made = []
    if known.scale is not None and (band.scale, band.offset) == (1.0, 0.0):
        made.append(
            Setting(
                "scale",
                known.scale,
                f"{known.meaning}, is file value * scale + offset; the files don't say so.",
            )
        )
        if known.offset is not None:
            made.append(Setting("offset", known.offset, ""))
        if known.optional_offset is not None:
            comment = "Products of processing baseline 04.00 and later (25 January 2022) have this offset:"
            made.append(Setting("offset", known.optional_offset, comment, is_remark=True))
    if band.nodata is None and can_hold(source.dtype, known.nodata):
        made.append(Setting("nodata", known.nodata, "Outside of the image; the files don't say so."))
    return made
