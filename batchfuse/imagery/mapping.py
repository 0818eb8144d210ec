"""The exact way of a pixel: from the reference grid through the world into a source."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from batchfuse.geometry.grid import ControlPoints, Grid
from batchfuse.imagery.crs import period_of

__all__ = ["QUANTUM", "FloatArray", "Mapping"]

QUANTUM = 2.0**-20  # pixel coordinates are whole multiples: noise of 1e-12 must not decide a nearest pixel

FloatArray = NDArray[np.float64]

SEAM = 1e-9  # of the period: closer to the far end of the world than this is the near end


@dataclass(frozen=True)
class Mapping:
    """Pixels of the reference to pixels of a source, each point on its own.

    Rows and columns count from the centre of the first pixel: (0.0, 0.0) is that centre, and a source of n
    columns lies between -0.5 and n - 0.5. Points with no place in the source's CRS become NaN.
    """

    reference: Grid
    """The grid of the fused image."""
    source: Grid | ControlPoints
    """The place of the source."""
    pipeline: str | None
    """The PROJ pipeline between their CRSs, None where they share one."""

    def __call__(self, rows: FloatArray, columns: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Source (rows, columns) of reference (rows, columns): any shape, the same for both."""
        xs, ys = _applied(self.reference.affine, columns + 0.5, rows + 0.5)
        if self._transformer is not None:
            xs, ys = self._transformer.transform(xs, ys)
        ys = np.asarray(ys, dtype=np.float64)
        return self._to_source(self._unwrapped(np.asarray(xs, dtype=np.float64)), ys)

    def back(self, rows: FloatArray, columns: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Reference (rows, columns) of source (rows, columns)."""
        if isinstance(self.source, Grid):
            xs, ys = _applied(self.source.affine, columns + 0.5, rows + 0.5)
        else:
            xs, ys = self._points.to_world(rows, columns)
        if self._transformer is not None:
            xs, ys = self._transformer.transform(xs, ys, direction="INVERSE")
        xs, ys = np.asarray(xs, dtype=np.float64), np.asarray(ys, dtype=np.float64)
        period = period_of(self.reference.crs)
        if period is not None:
            left, _, right, _ = self.reference.bounds
            xs = _within(xs, (left + right) / 2 - period / 2, period)
        columns, rows = _applied(~self.reference.affine, xs, ys)
        return rows - 0.5, columns - 0.5

    def straight(self) -> Affine | None:
        """The affine from reference to source (column, row) of corners, or None where there is none.

        There is one where both lie in one plane, and the reference doesn't cross the source's seam.
        """
        if self.pipeline is not None or not isinstance(self.source, Grid):
            return None
        affine: Affine = ~self.source.affine @ self.reference.affine
        period = period_of(self.source.crs)
        if period is None:
            return affine
        rows, columns = self.reference.shape
        corners = [self.reference.affine @ (c, r) for c in (0.5, columns - 0.5) for r in (0.5, rows - 0.5)]
        xs = np.array([x for x, _ in corners])
        turns = np.round((self._unwrapped(xs) - xs) / period)
        if turns.min() != turns.max():
            return None
        turned: Affine = (
            ~self.source.affine @ Affine.translation(turns[0] * period, 0) @ self.reference.affine
        )
        return turned

    @cached_property
    def _transformer(self) -> Any:
        return None if self.pipeline is None else _transformer(self.pipeline)

    @cached_property
    def _points(self) -> _Points:
        assert isinstance(self.source, ControlPoints)
        return _Points(self.source)

    @cached_property
    def _seam(self) -> tuple[float, float] | None:
        """Where the source's x begins anew and after how much, chosen farthest from the source."""
        period = period_of(self.source.crs)
        if period is None:
            return None
        if isinstance(self.source, Grid):
            left, _, right, _ = self.source.bounds
        else:
            left, right = min(self._points.xs), max(self._points.xs)
        return (left + right) / 2 - period / 2, period

    def _unwrapped(self, xs: FloatArray) -> FloatArray:
        return xs if self._seam is None else _within(xs, *self._seam)

    def _to_source(self, xs: FloatArray, ys: FloatArray) -> tuple[FloatArray, FloatArray]:
        if isinstance(self.source, ControlPoints):
            return self._points.to_pixels(xs, ys)
        columns, rows = _applied(~self.source.affine, xs, ys)
        nowhere = ~(np.isfinite(rows) & np.isfinite(columns))
        return np.where(nowhere, np.nan, rows - 0.5), np.where(nowhere, np.nan, columns - 0.5)


@lru_cache(maxsize=256)
def _transformer(pipeline: str) -> Any:
    """The transformer of a pipeline; it keeps one PROJ object a thread, so threads can share it."""
    from pyproj import Transformer

    return Transformer.from_pipeline(pipeline)


class _Points:
    """GDAL's polynomial through ground control points, held to the place where they are."""

    def __init__(self, source: ControlPoints) -> None:
        from rasterio.control import GroundControlPoint

        first = source.points[0][2]
        period = period_of(source.crs)
        turn = 0.0 if period is None else period
        # points on both sides of the dateline are neighbours
        self.xs = [x - turn * round((x - first) / turn) if turn else x for _, _, x, _, _ in source.points]
        points = zip(source.points, self.xs, strict=True)
        self._points = [GroundControlPoint(p[0], p[1], x, p[3], p[4]) for p, x in points]
        self._box = self._footprint(source)

    def to_world(self, rows: FloatArray, columns: FloatArray) -> tuple[FloatArray, FloatArray]:
        with self._transformer() as transformer:
            xs, ys = transformer.xy(np.ravel(rows + 0.5), np.ravel(columns + 0.5), offset="ul")
        return np.reshape(xs, rows.shape), np.reshape(ys, rows.shape)

    def to_pixels(self, xs: FloatArray, ys: FloatArray) -> tuple[FloatArray, FloatArray]:
        left, bottom, right, top = self._box
        # a polynomial of second order comes back far away, and would show the source twice
        inside = (xs >= left) & (xs <= right) & (ys >= bottom) & (ys <= top)
        rows, columns = np.full(xs.shape, np.nan), np.full(xs.shape, np.nan)
        if inside.any():
            with self._transformer() as transformer:
                found = transformer.rowcol(xs[inside], ys[inside], op=np.positive)
            rows[inside], columns[inside] = np.asarray(found[0]) - 0.5, np.asarray(found[1]) - 0.5
        return rows, columns

    def _transformer(self) -> Any:
        from rasterio.transform import GCPTransformer

        # made anew each time: one that lives until Python ends complains on standard error
        return GCPTransformer(self._points)

    def _footprint(self, source: ControlPoints) -> tuple[float, float, float, float]:
        """The box around the points and the source's outline, a tenth wider."""
        height, width = source.shape
        along = np.linspace(0, 1, 17)
        rows = np.concatenate([0 * along, 1 + 0 * along, along, along]) * height - 0.5
        columns = np.concatenate([along, along, 0 * along, 1 + 0 * along]) * width - 0.5
        xs, ys = self.to_world(rows, columns)
        xs = np.concatenate([xs, self.xs])
        ys = np.concatenate([ys, [p[3] for p in source.points]])
        wide, high = 0.1 * np.ptp(xs), 0.1 * np.ptp(ys)
        return xs.min() - wide, ys.min() - high, xs.max() + wide, ys.max() + high


def _applied(affine: Affine, xs: FloatArray, ys: FloatArray) -> tuple[FloatArray, FloatArray]:
    with np.errstate(invalid="ignore"):  # infinity times zero: no place, as it should be
        return affine.a * xs + affine.b * ys + affine.c, affine.d * xs + affine.e * ys + affine.f


def _within(xs: FloatArray, low: float, period: float) -> FloatArray:
    """The same places with x in [low, low + period)."""
    if not math.isfinite(low):
        return xs
    with np.errstate(invalid="ignore"):
        turns = np.floor((xs - low) / period + SEAM)
        return np.where(np.isfinite(xs), xs - period * turns, xs)
