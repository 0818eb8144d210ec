"""The section ``grid`` of a recipe: onto which pixels the sources are brought."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import ValidationInfo, field_validator

from batchfuse.geometry.grid import oversize
from batchfuse.recipe_file import shown
from batchfuse.recipe_mistakes import wrong
from batchfuse.recipe_values import Box, Crs, PixelSize, Settings

__all__ = ["TargetGrid"]

WHOLE = 1e-3  # of a pixel: bounds that miss a whole number of pixels by less are meant to be one


class TargetGrid(Settings):
    """The grid that the sources of a scene are brought onto."""

    resampling: Literal["nearest", "bilinear", "cubic", "average"] = "bilinear"
    """How the sources come onto the grid."""
    extent: Literal["reference", "intersection", "union"] = "reference"
    """Which part of the world the output covers: the reference, what all sources cover, or what any does."""
    mismatch: Literal["align", "error"] = "align"
    """align: resample what is not on the grid; error: refuse it."""
    crs: Crs | None = None
    """The CRS of an explicit target grid, such as EPSG:32632. Default: the reference's."""
    resolution: PixelSize | None = None
    """The pixel size of an explicit target grid in units of its CRS: one number, or `[x, y]`. Default: the
    reference's."""
    bounds: Box | None = None
    """`[left, bottom, right, top]` of an explicit target grid in its CRS, x (east) before y (north), in place
    of the extent."""

    @field_validator("bounds")
    @classmethod
    def _one_extent(cls, bounds: Any, info: ValidationInfo) -> Any:
        extent = info.data.get("extent", "reference")
        if bounds is not None and extent != "reference":
            raise wrong(f"given beside `extent: {extent}`: keep one of the two")
        return bounds

    @field_validator("bounds")
    @classmethod
    def _whole_pixels(cls, bounds: Any, info: ValidationInfo) -> Any:
        size = info.data.get("resolution")
        if bounds is None or size is None:
            return bounds
        left, bottom, right, top = bounds
        counts = (right - left) / size[0], (top - bottom) / size[1]
        excess = oversize(*counts)
        if excess:
            raise wrong(f"{shown(list(bounds))} in pixels of {size[0]:g} x {size[1]:g}: {excess}")
        if all(round(n) >= 1 and abs(n - round(n)) <= WHOLE for n in counts):
            return bounds
        fits = [
            [left, top - size[1] * rows, left + size[0] * columns, top]
            for columns, rows in dict.fromkeys(zip(*map(_whole_around, counts), strict=True))
        ]
        raise wrong(
            f"{shown(list(bounds))} is {counts[0]:.6g} x {counts[1]:.6g} pixels of {size[0]:g} x "
            f"{size[1]:g}: give a whole number of them, such as {' or '.join(map(shown, fits))}"
        )


def _whole_around(number: float) -> Iterator[int]:
    """The whole numbers below and above, from 1 on; twice the nearest where that is meant."""
    nearest = round(number)
    meant = abs(number - nearest) <= WHOLE
    yield max(1, nearest if meant else math.floor(number))
    yield max(1, nearest if meant else math.ceil(number))
