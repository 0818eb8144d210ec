"""A picture of a scene: its sources and the fused image side by side."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["Mosaic", "write_quicklook"]

PANEL = 640  # longest edge of a panel in pixels
MARGIN = 8
TITLE = 24
STRETCH = (1.0, 99.0)  # percentiles shown as black and white


class Piece(Protocol):
    """Sums and counts of the blocks a tile touches."""

    @property
    def first(self) -> tuple[int, int]:
        """Row and column of the first block."""

    @property
    def total(self) -> NDArray[np.float64]:
        """(band, block row, block column)."""

    @property
    def many(self) -> NDArray[np.int64]:
        """The same shape."""


@dataclass
class Mosaic:
    """Images of a scene in blocks of ``step`` pixels, gathered tile by tile in any order."""

    shape: tuple[int, int]
    """Rows and columns of blocks."""
    step: int
    """Pixels a block is wide."""
    totals: list[NDArray[np.float64]] = field(default_factory=list)
    counts: list[NDArray[np.int64]] = field(default_factory=list)

    @classmethod
    def of(cls, shape: tuple[int, int]) -> Mosaic:
        """Of a scene of this shape: as fine as fits a panel."""
        step = max(1, math.ceil(max(shape) / PANEL))
        return cls((math.ceil(shape[0] / step), math.ceil(shape[1] / step)), step)

    def add(self, pieces: Iterable[Piece]) -> None:
        """One tile's pieces, one an image."""
        for i, piece in enumerate(pieces):
            if i == len(self.totals):
                whole = (len(piece.total), *self.shape)
                self.totals.append(np.zeros(whole))
                self.counts.append(np.zeros(whole, np.int64))
            rows, columns = piece.total.shape[1:]
            top, left = piece.first
            place = (slice(None), slice(top, top + rows), slice(left, left + columns))
            self.totals[i][place] += piece.total
            self.counts[i][place] += piece.many

    def is_empty(self) -> bool:
        """Whether the last image has no valid pixel at all."""
        return not self.counts[-1].any()

    def images(self) -> list[NDArray[np.float64]]:
        """The mean of each block, (band, y, x); NaN where none of its pixels is valid."""
        pairs = zip(self.totals, self.counts, strict=True)
        return [np.where(n > 0, t / np.maximum(n, 1), np.nan) for t, n in pairs]


def write_quicklook(images: Sequence[NDArray[np.float64]], titles: Sequence[str], path: Path) -> None:
    """Writes the images, (1 or 3, y, x) with NaN for invalid, side by side as a PNG.

    Each is stretched between percentiles of its own for the eye alone; invalid pixels are transparent.
    """
    panels = [_enlarged(_panel(image)) for image in images]
    width = sum(panel.width for panel in panels) + MARGIN * (len(panels) + 1)
    sheet = Image.new(
        "RGBA", (width, max(p.height for p in panels) + TITLE + 2 * MARGIN), (255, 255, 255, 255)
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    left = MARGIN
    for panel, title in zip(panels, titles, strict=True):
        draw.text((left, MARGIN), title, fill=(0, 0, 0, 255), font=font)
        sheet.paste(panel, (left, MARGIN + TITLE))  # paste keeps the panel's transparency
        left += panel.width + MARGIN
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    sheet.save(partial, "PNG", optimize=True)
    partial.replace(path)


def _panel(image: NDArray[np.float64]) -> Image.Image:
    valid = np.isfinite(image).all(0)
    shown = np.zeros((*valid.shape, 4), np.uint8)
    if valid.any():
        low, high = np.percentile(image[:, valid], STRETCH)
        gray: NDArray[Any] = (image - low) / (high - low) if high > low else np.full(image.shape, 0.5)
        shown[..., :3] = np.moveaxis(np.clip(np.nan_to_num(gray) * 255, 0, 255), 0, -1)
        shown[..., 3] = np.where(valid, 255, 0)
    return Image.fromarray(shown, "RGBA")


def _enlarged(panel: Image.Image) -> Image.Image:
    """Tiny scenes are shown with their pixels enlarged."""
    factor = max(1, PANEL // 2 // max(panel.size))
    return panel.resize((panel.width * factor, panel.height * factor), Image.Resampling.NEAREST)
