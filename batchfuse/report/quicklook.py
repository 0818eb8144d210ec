"""A picture of a scene: its sources and the fused image side by side."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from batchfuse.report.colours import Stretch
from batchfuse.report.lettering import lettering
from batchfuse.report.mosaic import AREA, LONGEST
from batchfuse.report.rulers import length_of, round_below, ticks

__all__ = ["Panel", "Ruler", "write_quicklook"]

SMALL = 320 * 320  # pixels of a panel below which a scene is shown with its pixels enlarged
THINNEST = 12  # pixels: a scene of a few rows or columns is drawn thicker than it is
CELL = 230  # pixels across that a panel's text wants
SHEET = 2240  # pixels across that panels side by side have
LEAST = 0.3  # of the contrast that an image must keep where it shares another's stretch
GAP = 16
BAR = (9, 230)  # pixels down and across of a colour bar
TITLE, TEXT = 16, 12  # sizes of letters
LINE = 16  # pixels from a line of text to the next
BLACK, GRAY, PALE = (20, 20, 20, 255), (95, 95, 95, 255), (190, 190, 190, 255)


@dataclass(frozen=True, slots=True)
class Panel:
    """One image of the sheet."""

    image: NDArray[np.float64]
    """Scaled values, (1 or 3, y, x), NaN where invalid."""
    title: str
    """Its role."""
    about: tuple[str, ...]
    """Lines below the title: file, size."""
    values: str
    """The line below its colour bar."""
    low: float
    """Physical value of scaled 0."""
    high: float
    """Physical value of scaled 1."""
    unit: str
    """Of the physical values; empty where nothing is known."""
    heat: bool
    """Whether it shows temperatures: in the colours of glowing iron."""
    like: int | None = None
    """Number of the panel in whose values it is: the two are to be compared by eye."""


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
    sheet.heading(*heading)
    for number, (panel, stretch) in enumerate(zip(*_stretched(panels), strict=True)):
        sheet.cell(number, panel, stretch)
    sheet.footer(notes)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    sheet.image.save(partial, "PNG")
    partial.replace(path)


def _stretched(panels: Sequence[Panel]) -> tuple[list[Panel], list[Stretch]]:
    """Each panel's stretch: one for two that are alike, unless it would hide what is in one of them."""
    told, stretches = list(panels), [Stretch.of(panel.image) for panel in panels]
    for number, panel in enumerate(panels):
        if panel.like is None:
            continue
        other = panels[panel.like]
        both = Stretch.of(other.image, panel.image)
        if min(stretches[number].span, stretches[panel.like].span) >= LEAST * both.span:
            stretches[number] = stretches[panel.like] = both
            told[number] = replace(panel, values=f"same stretch as {other.title}")
        else:
            told[number] = replace(panel, values=f"its own stretch, not that of {other.title}")
    return told, stretches


class _Sheet:
    """The page that is drawn on: panels in rows, each with its lines above and its bar below."""

    def __init__(self, panels: Sequence[Panel], ruler: Ruler) -> None:
        self.ruler = ruler
        self.panel, self.reach = _drawn(panels[0].image.shape[1:], ruler)
        self.above = TITLE + 6 + LINE * max(len(panel.about) for panel in panels)
        self.cell_size = (
            max(self.panel[0], CELL) + GAP,
            self.above + self.panel[1] + 2 + BAR[0] + 2 * LINE + 2 * GAP,
        )
        side_by_side = max(1, min(len(panels), (SHEET + GAP) // self.cell_size[0]))
        rows = math.ceil(len(panels) / side_by_side)
        self.columns = math.ceil(len(panels) / rows)
        self.top = GAP + TITLE + 2 * LINE + GAP // 2
        self.bottom = self.top + rows * self.cell_size[1]
        self.width = GAP + self.columns * self.cell_size[0]
        self.image = Image.new("RGBA", (self.width, self.bottom + LINE + GAP), (255, 255, 255, 255))
        self.draw = ImageDraw.Draw(self.image)

    def text(
        self, at: tuple[float, float], text: str, size: int, fill: tuple[int, ...], width: float
    ) -> float:
        """One line, shortened to the width; where it ends."""
        line = lettering(text, size, width)
        self.draw.text(at, line.text, fill=fill, font=line.font)
        return at[0] + line.width

    def heading(self, name: str, grid: str) -> None:
        """The scene."""
        self.text((GAP, GAP), name, TITLE, BLACK, self.width - 2 * GAP)
        self.text((GAP, GAP + TITLE + 4), grid, TEXT, GRAY, self.width - 2 * GAP)

    def cell(self, number: int, panel: Panel, stretch: Stretch) -> None:
        """A panel with its text and bar."""
        row, column = divmod(number, self.columns)
        x, y = GAP + column * self.cell_size[0], self.top + row * self.cell_size[1]
        width = self.cell_size[0] - GAP
        self.text((x, y), panel.title, TITLE, BLACK, width)
        for i, line in enumerate(panel.about):
            self.text((x, y + TITLE + 4 + i * LINE), line, TEXT, GRAY, width)
        y += self.above
        right, below = x + self.panel[0], y + self.panel[1]
        self.draw.rectangle((x - 1, y - 1, right, below), outline=PALE)
        pixels = Image.fromarray(stretch.coloured(panel.image, panel.heat))
        # paste keeps the panel's transparency
        self.image.paste(pixels.resize(self.panel, Image.Resampling.NEAREST), (x, y))
        self._bar(panel, stretch, (x, below + 8), width)

    def _bar(self, panel: Panel, stretch: Stretch, at: tuple[int, int], width: int) -> None:
        """The colour bar of a single band, its ticks in physical values, and the line below."""
        x, y = at
        gain = panel.high - panel.low
        least = panel.low + stretch.low[0] * gain
        most = least + stretch.span * gain
        if len(panel.image) == 1 and most > least:
            rows, columns = BAR[0], min(BAR[1], width)
            self.draw.rectangle((x - 1, y - 1, x + columns, y + rows), outline=PALE)
            self.image.paste(Image.fromarray(stretch.bar(panel.heat, (rows, columns))), (x, y))
            self._ticks(least, most, (x, y + rows), columns)
            if panel.unit:
                self.text((x + columns + 6, y - 3), panel.unit, TEXT, GRAY, width - columns - 6)
            y += rows + LINE + 4
        self.text((x, y), panel.values, TEXT, GRAY, width)

    def _ticks(self, least: float, most: float, at: tuple[int, int], columns: int) -> None:
        x, y = at
        for value, label in ticks(least, most, 5):
            place = x + (value - least) / (most - least) * (columns - 1)
            self.draw.line((place, y, place, y + 3), fill=GRAY)
            line = lettering(label, TEXT - 1, columns)
            left = min(max(x, place - line.width / 2), x + columns - line.width)
            self.draw.text((left, y + 3), line.text, fill=GRAY, font=line.font)

    def footer(self, notes: str) -> None:
        """The scale bar, and notes to its right."""
        y = self.bottom + 4
        room = max(1.0, min(0.4 * max(self.panel), 300.0))
        length = round_below(room * self.reach)
        if not self.ruler.metres:
            length = max(1.0, length)
        right = GAP + max(1, round(length / self.reach))
        self.draw.line((GAP, y, right, y), fill=BLACK, width=3)
        for x in (GAP, right):
            self.draw.line((x, y - 4, x, y + 4), fill=BLACK)
        end = self.text((right + 8, y - 8), self.ruler.label(length), TEXT, BLACK, self.width - right - 8)
        self.text((end + GAP, y - 8), notes, TEXT, GRAY, self.width - end - 2 * GAP)


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
