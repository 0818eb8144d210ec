"""A picture of a scene: its sources and the fused image side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from batchfuse.report.colours import Stretch
from batchfuse.report.mosaic import AREA, LONGEST
from batchfuse.report.page import BAR, GAP, LINE, TITLE, Legend, Page, stretched
from batchfuse.report.rulers import length_of, round_below

__all__ = ["Panel", "Ruler", "write_quicklook"]

SMALL = 320 * 320  # pixels of a panel below which a scene is shown with its pixels enlarged
THINNEST = 12  # pixels: a scene of a few rows or columns is drawn thicker than it is
CELL = 230  # pixels across that a panel's text wants
SHEET = 2240  # pixels across that panels side by side have


@dataclass(frozen=True, slots=True)
class Panel:
    """One image of the sheet."""

    image: NDArray[np.float64]
    """Scaled values, (1 or 3, y, x), NaN where invalid."""
    legend: Legend
    """What stands around it."""


@dataclass(frozen=True, slots=True)
class Ruler:
    """What the scale bar measures."""

    down: float
    """Metres (or pixels) that a pixel of the panels reaches down."""
    across: float
    """The same, across."""
    metres: bool
    """Metres, not pixels."""

    def label(self, length: float) -> str:
        """A length, with its unit."""
        return length_of(length) if self.metres else f"{length:g} pixel{'' if length == 1 else 's'}"


def write_quicklook(
    panels: Sequence[Panel], heading: tuple[str, str], ruler: Ruler, notes: str, path: Path
) -> None:
    """Writes the panels, all of one shape, side by side as a PNG; in rows where they are many or wide.

    Stretched between percentiles for the eye alone. Invalid pixels are transparent, all else is not.
    ``heading`` is the scene's name and what is known of its grid; ``notes`` stand beside the scale bar.
    """
    sheet = _Sheet(panels, ruler)
    sheet.page.heading(*heading)
    images = [panel.image for panel in panels]
    for number, parts in enumerate(zip(images, *stretched([p.legend for p in panels], images), strict=True)):
        sheet.cell(number, *parts)
    sheet.footer(notes)
    sheet.page.save(path)


class _Sheet:
    """Panels in rows on a page, each with its lines above and its bar below."""

    def __init__(self, panels: Sequence[Panel], ruler: Ruler) -> None:
        self.ruler = ruler
        self.panel, self.reach = _drawn(panels[0].image.shape[1:], ruler)
        self.above = TITLE + 6 + LINE * max(len(panel.legend.about) for panel in panels)
        self.cell_size = (
            max(self.panel[0], CELL) + GAP,
            self.above + self.panel[1] + 2 + BAR[0] + 2 * LINE + 2 * GAP,
        )
        side_by_side = max(1, min(len(panels), (SHEET + GAP) // self.cell_size[0]))
        rows = math.ceil(len(panels) / side_by_side)
        self.columns = math.ceil(len(panels) / rows)
        self.top = GAP + TITLE + 2 * LINE + GAP // 2
        self.bottom = self.top + rows * self.cell_size[1]
        self.page = Page(GAP + self.columns * self.cell_size[0], self.bottom + LINE + GAP)

    def cell(self, number: int, image: NDArray[np.float64], legend: Legend, stretch: Stretch) -> None:
        """An image with its text and bar."""
        row, column = divmod(number, self.columns)
        x, y = GAP + column * self.cell_size[0], self.top + row * self.cell_size[1]
        width = self.cell_size[0] - GAP
        self.page.above(legend, (x, y), width)
        y += self.above
        pixels = Image.fromarray(stretch.coloured(image, legend.heat))
        self.page.picture(pixels.resize(self.panel, Image.Resampling.NEAREST), (x, y))
        self.page.below(legend, stretch, len(image), (x, y + self.panel[1] + 8), width)

    def footer(self, notes: str) -> None:
        """The scale bar, and notes to its right."""
        room = max(1.0, min(0.4 * max(self.panel), 300.0))
        length = round_below(room * self.reach)
        if not self.ruler.metres:
            length = max(1.0, length)
        self.page.scale_bar(self.bottom + 4, length / self.reach, self.ruler.label(length), notes)


def _drawn(shape: tuple[int, ...], ruler: Ruler) -> tuple[tuple[int, int], float]:
    """Size of a panel, (across, down), and what one of its pixels measures on the ruler.

    True to the ground: where a pixel is not square there, the picture's are not.
    """
    ratio = min(max(ruler.down / ruler.across, 0.1), 10.0)
    if abs(ratio - 1) < 0.03:
        ratio = 1.0
    down, across = shape[0] * max(1.0, ratio), shape[1] * max(1.0, 1 / ratio)
    factor = min(LONGEST / max(down, across), math.sqrt(AREA / (down * across)))
    if factor > 1:
        factor = max(1, math.floor(min(factor, math.sqrt(SMALL / (down * across)))))
    size = (max(THINNEST, round(across * factor)), max(THINNEST, round(down * factor)))
    return size, ruler.across / (max(1.0, 1 / ratio) * factor)
