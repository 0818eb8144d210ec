"""What a source and the reference have in common, found at some hundred points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from batchfuse.imagery.mapping import QUANTUM, FloatArray, Mapping

__all__ = ["Overlap", "carried", "samples"]

SAMPLES = 25  # points across the grid
MEASURED = 100  # of them, where the footprint is measured
Points = tuple[FloatArray, FloatArray]
"""Rows and columns, counted from the centre of the first pixel."""


@dataclass(frozen=True)
class Overlap:
    """How much of the reference a source covers, and how finely."""

    footprint: tuple[float, float]
    """Source (rows, columns) under a reference pixel."""
    coverage: float
    """Share of the reference under the source, 0..1."""

    @classmethod
    def of(cls, mapping: Mapping, affine: Affine | None) -> Overlap | None:
        """None where they are disjoint."""
        way = mapping if affine is None else carried(affine)
        rows, columns = samples(mapping.reference.shape)
        inside = _inside(way(rows, columns), mapping.source.shape)
        share = float(inside[: SAMPLES**2].mean())
        if inside.any():
            at = rows[inside], columns[inside]
        else:
            # a source smaller than the distance of the points, or narrower than it
            at = _reached_from_source(mapping, affine)
            if not at[0].size:
                return None
        if affine is not None and affine.b == affine.d == 0:
            share = _covered(affine, mapping.reference.shape, mapping.source.shape)
        few = slice(None, None, 1 + at[0].size // MEASURED)
        return cls(_footprint(way, at[0][few], at[1][few]), share)


def carried(affine: Affine) -> Callable[[FloatArray, FloatArray], Points]:
    """The way of points along an affine of (column, row) corners."""

    def way(rows: FloatArray, columns: FloatArray) -> Points:
        down = affine.d * (columns + 0.5) + affine.e * (rows + 0.5) + affine.f
        across = affine.a * (columns + 0.5) + affine.b * (rows + 0.5) + affine.c
        return down - 0.5, across - 0.5

    return way


@lru_cache(maxsize=64)
def samples(shape: tuple[int, int]) -> Points:
    """Rows and columns of points over a grid: a raster of them first, then four dense edges."""
    height, width = shape
    # the raster stands in the middles of its cells, so that its share is that of the area
    inner = (np.arange(SAMPLES) + 0.5) / SAMPLES
    rows, columns = np.meshgrid(inner * height - 0.5, inner * width - 0.5, indexing="ij")
    down, across = np.linspace(0, height - 1, 4 * SAMPLES), np.linspace(0, width - 1, 4 * SAMPLES)
    first = np.zeros(4 * SAMPLES)
    return (
        np.concatenate([rows.ravel(), first, first + height - 1, down, down]),
        np.concatenate([columns.ravel(), across, across, first, first + width - 1]),
    )


def _inside(place: Points, shape: tuple[int, int]) -> NDArray[np.bool_]:
    rows, columns = place
    inside = (rows >= -0.5) & (rows < shape[0] - 0.5) & (columns >= -0.5) & (columns < shape[1] - 0.5)
    return np.asarray(inside, np.bool_)


def _reached_from_source(mapping: Mapping, affine: Affine | None) -> Points:
    """The points of the reference that points of the source lie on."""
    way = mapping.back if affine is None else carried(~affine)
    place = way(*samples(mapping.source.shape))
    inside = _inside(place, mapping.reference.shape)
    return place[0][inside], place[1][inside]


def _footprint(
    way: Callable[[FloatArray, FloatArray], Points],
    rows: FloatArray,
    columns: FloatArray,
) -> tuple[float, float]:
    """Median over the points of hypot(dR/drow, dR/dcolumn) and of hypot(dC/drow, dC/dcolumn)."""
    right, left = way(rows, columns + 0.5), way(rows, columns - 0.5)
    below, above = way(rows + 0.5, columns), way(rows - 0.5, columns)
    sizes = [np.hypot(right[k] - left[k], below[k] - above[k]) for k in (0, 1)]
    medians = [
        float(np.median(size[np.isfinite(size)])) if np.isfinite(size).any() else 1.0 for size in sizes
    ]
    # whole multiples of the coordinates' quantum, so that 3 is 3 and not 3.0000000001
    sy, sx = (max(QUANTUM, round(m / QUANTUM) * QUANTUM) for m in medians)
    return sy, sx


def _covered(affine: Affine, reference: tuple[int, int], source: tuple[int, int]) -> float:
    """Share of the reference under the source, for an affine without rotation."""
    share = 1.0
    for scale, shift, n, m in (
        (affine.a, affine.c, reference[1], source[1]),
        (affine.e, affine.f, reference[0], source[0]),
    ):
        low, high = sorted((shift, shift + scale * n))
        share *= max(0.0, min(high, m) - max(low, 0.0)) / (high - low)
    return share
