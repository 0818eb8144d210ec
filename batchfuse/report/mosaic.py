"""Images of a scene, reduced tile by tile to what a picture can show."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["AREA", "LONGEST", "TOGETHER", "Mosaic"]

LONGEST = 1600  # blocks along the longer edge, at most
AREA = 720 * 720  # blocks of an image, at most
TOGETHER = 4 * AREA  # blocks of all images: so many sources share the sheet, and the memory


class Piece(Protocol):
    """Sums and counts of the blocks a tile touches."""

    @property
    def first(self) -> tuple[int, int]:
        """Row and column of the first block."""

    @property
    def total(self) -> NDArray[np.float64]:
        """(band, block row, block column)."""

    @property
    def many(self) -> NDArray[np.int32]:
        """(block row, block column)."""


@dataclass
class Mosaic:
    """Images of a scene in blocks of ``step`` x ``step`` pixels, gathered tile by tile in any order."""

    shape: tuple[int, int]
    """Rows and columns of blocks."""
    step: int
    """Pixels a block is wide."""
    totals: list[NDArray[np.float64]] = field(default_factory=list)
    """An image: the sum of the valid values of each block, (band, y, x)."""
    counts: list[NDArray[np.int32]] = field(default_factory=list)
    """An image: in how many pixels, (y, x)."""

    @classmethod
    def of(cls, shape: tuple[int, int], images: int) -> Mosaic:
        """Of so many images of a scene of this shape: as fine as a sheet shows, bounded in memory."""
        area = min(AREA, TOGETHER / images)
        step = max(1, math.ceil(math.sqrt(shape[0] * shape[1] / area)), math.ceil(max(shape) / LONGEST))
        return cls((math.ceil(shape[0] / step), math.ceil(shape[1] / step)), step)

    def add(self, pieces: Iterable[Piece]) -> None:
        """One tile's pieces, one an image."""
        for i, piece in enumerate(pieces):
            if i == len(self.totals):
                whole = (len(piece.total), *self.shape)
                self.totals.append(np.zeros(whole))
                self.counts.append(np.zeros(self.shape, np.int32))
            rows, columns = piece.total.shape[1:]
            top, left = piece.first
            place = (slice(top, top + rows), slice(left, left + columns))
            self.totals[i][(slice(None), *place)] += piece.total
            self.counts[i][place] += piece.many

    def is_empty(self) -> bool:
        """Whether the last image has no valid pixel at all."""
        return not self.counts[-1].any()

    def images(self) -> list[NDArray[np.float64]]:
        """The mean of each block, (band, y, x); NaN where none of its pixels is valid."""
        pairs = zip(self.totals, self.counts, strict=True)
        return [np.where(n > 0, t / np.maximum(n, 1), np.nan) for t, n in pairs]
