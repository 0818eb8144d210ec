"""The page of a picture: lines of text, colour bars, a scale bar, and what they say of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from batchfuse.report.colours import Stretch
from batchfuse.report.lettering import lettering
from batchfuse.report.rulers import ticks
from batchfuse.report.signed import save_signed

__all__ = ["BAR", "BLACK", "GAP", "GRAY", "LINE", "PALE", "TEXT", "TITLE", "Legend", "Page", "stretched"]

LEAST = 0.3  # of the contrast that an image must keep where it shares another's stretch
GAP = 16
BAR = (9, 230)  # pixels down and across of a colour bar
TITLE, TEXT = 16, 12  # sizes of letters
LINE = 16  # pixels from a line of text to the next
WHITE, BLACK = (255, 255, 255, 255), (20, 20, 20, 255)
GRAY, PALE = (95, 95, 95, 255), (190, 190, 190, 255)


@dataclass(frozen=True, slots=True)
class Legend:
    """What stands around one image of a page."""

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
    """Whether it is drawn in the colours of glowing iron, as temperatures and the uptake of tracers are."""
    like: int | None = None
    """Number of the image in whose values it is: the two are to be compared by eye."""


def stretched(
    legends: Sequence[Legend], images: Sequence[NDArray[np.float64]]
) -> tuple[list[Legend], list[Stretch]]:
    """Each image's stretch, and its legend saying so: one for two alike, unless it would hide one of them."""
    told, stretches = list(legends), [Stretch.of(image) for image in images]
    for number, legend in enumerate(legends):
        if legend.like is None:
            continue
        both = Stretch.of(images[legend.like], images[number])
        other = legends[legend.like].title
        if min(stretches[number].span, stretches[legend.like].span) >= LEAST * both.span:
            stretches[number] = stretches[legend.like] = both
            told[number] = replace(legend, values=f"same stretch as {other}")
        else:
            told[number] = replace(legend, values=f"its own stretch, not that of {other}")
    return told, stretches


class Page:
    """A white page that is drawn on."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.image = Image.new("RGBA", (width, height), WHITE)
        self.draw = ImageDraw.Draw(self.image)

    def text(
        self, at: tuple[float, float], text: str, size: int, fill: tuple[int, ...], width: float
    ) -> float:
        """One line, shortened to the width; where it ends."""
        line = lettering(text, size, width)
        self.draw.text(at, line.text, fill=fill, font=line.font)
        return at[0] + line.width

    def heading(self, name: str, grid: str) -> None:
        """The scene, and what is known of its grid."""
        self.text((GAP, GAP), name, TITLE, BLACK, self.width - 2 * GAP)
        self.text((GAP, GAP + TITLE + 4), grid, TEXT, GRAY, self.width - 2 * GAP)

    def above(self, legend: Legend, at: tuple[int, int], width: int) -> None:
        """The title of an image and the lines below it."""
        x, y = at
        self.text((x, y), legend.title, TITLE, BLACK, width)
        for i, line in enumerate(legend.about):
            self.text((x, y + TITLE + 4 + i * LINE), line, TEXT, GRAY, width)

    def picture(self, pixels: Image.Image, at: tuple[int, int]) -> None:
        """An RGBA image in a thin frame; it stays transparent where it is."""
        x, y = at
        self.draw.rectangle((x - 1, y - 1, x + pixels.width, y + pixels.height), outline=PALE)
        self.image.paste(pixels, (x, y))  # paste keeps the transparency

    def below(self, legend: Legend, stretch: Stretch, bands: int, at: tuple[int, int], width: int) -> None:
        """The colour bar of a single band, its ticks in physical values, and the line below."""
        x, y = at
        gain = legend.high - legend.low
        least = legend.low + stretch.low[0] * gain
        most = least + stretch.span * gain
        if bands == 1 and most > least:
            rows, columns = BAR[0], min(BAR[1], width)
            self.picture(Image.fromarray(stretch.bar(legend.heat, (rows, columns))), (x, y))
            self._ticks(least, most, (x, y + rows), columns)
            if legend.unit:
                self.text((x + columns + 6, y - 3), legend.unit, TEXT, GRAY, width - columns - 6)
            y += rows + LINE + 4
        self.text((x, y), legend.values, TEXT, GRAY, width)

    def _ticks(self, least: float, most: float, at: tuple[int, int], columns: int) -> None:
        x, y = at
        for value, label in ticks(least, most, 5):
            place = x + (value - least) / (most - least) * (columns - 1)
            self.draw.line((place, y, place, y + 3), fill=GRAY)
            line = lettering(label, TEXT - 1, columns)
            left = min(max(x, place - line.width / 2), x + columns - line.width)
            self.draw.text((left, y + 3), line.text, fill=GRAY, font=line.font)

    def scale_bar(self, y: int, pixels: float, label: str, notes: str) -> None:
        """A bar of so many pixels at the left, its length beside it, and notes to the right."""
        right = GAP + max(1, round(pixels))
        self.draw.line((GAP, y, right, y), fill=BLACK, width=3)
        for x in (GAP, right):
            self.draw.line((x, y - 4, x, y + 4), fill=BLACK)
        end = self.text((right + 8, y - 8), label, TEXT, BLACK, self.width - right - 8)
        self.text((end + GAP, y - 8), notes, TEXT, GRAY, self.width - end - 2 * GAP)

    def save(self, path: Path) -> None:
        """Write it as a quicklook: see ``save_signed``."""
        save_signed(self.image, path, "quicklook")
