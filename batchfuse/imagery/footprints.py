"""Which pixels of a grid's lattice the footprints of sources take up: what all share, and what any covers.

A footprint is a source's outline, followed point by point onto the grid: straight edges become curves between
CRSs. All places are (rows, columns) counted from the centre of the grid's first pixel, as in ``Alignment``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from batchfuse.errors import GridError
from batchfuse.geometry.grid import Grid
from batchfuse.geometry.window import Window
from batchfuse.imagery.align import Alignment
from batchfuse.imagery.crs import crs_name, period_of
from batchfuse.imagery.mapping import Mapping
from batchfuse.imagery.overlap import Points, carried

__all__ = ["Footprint", "box_of_all", "box_of_any", "box_of_places", "whole_outline"]

ALONG = 128  # points along each edge of an outline: a curve strays from them by thousandths of a pixel
TOUCHING = 1e-6  # pixels: closer to an edge than this is on it
SLIVER = 1e-3  # pixels: what reaches less far into a row or column does not ask for it
ROUND_TRIP = 0.5  # pixels off after going there and back: a place that is none


@dataclass(frozen=True)
class Footprint:
    """A source's outline on a grid, and the way of any point of the grid into the source."""

    alignment: Alignment
    """Of the grid and the source."""
    name: str
    """The source's files."""

    def outline(self) -> Points:
        """The places on the grid of the points along the source's edge, closed; NaN where there is none."""
        along = 1 if self.alignment.affine is not None else ALONG
        return self.back(_along_outline(self.alignment.source.shape, along))

    def back(self, place: Points) -> Points:
        """From the source to the grid."""
        if self.alignment.affine is not None:
            return carried(~self.alignment.affine)(*place)
        return self._mapping.back(*place)

    def holds(self, place: Points) -> NDArray[np.bool_]:
        """Which points of the grid lie in the source, its edge included."""
        way = self._mapping if self.alignment.affine is None else carried(self.alignment.affine)
        return _within(way(*place), self.alignment.source.shape)

    def refusal(self, why: str) -> GridError:
        """The one line for a footprint that can't be told."""
        return GridError(
            f"where {self.name} lies on the grid can't be told ({why}): give `grid.bounds`, "
            "or leave the grid to the reference"
        )

    @property
    def _mapping(self) -> Mapping:
        a = self.alignment
        return Mapping(a.reference, a.source, a.pipeline)


def box_of_all(alignments: Sequence[Alignment], names: Sequence[str]) -> Window | None:
    """The smallest box of the grid's pixels around what all sources have in common with it, None if nothing.

    Raises GridError where it can't be told.
    """
    grid = alignments[0].reference
    footprints = [Footprint(a, name) for a, name in zip(alignments, names, strict=True)]
    edge = _along_outline(grid.shape, ALONG)
    lines: list[tuple[Footprint | None, Points]] = [(None, _along_outline(grid.shape, 1))]
    for footprint in footprints:
        if footprint.holds(edge).all():
            continue  # all of the grid lies in it
        place = footprint.outline()
        if not (np.isfinite(place[0]) & np.isfinite(place[1])).all():
            raise footprint.refusal(f"part of its edge has no place in {crs_name(grid.crs)}")
        lines.append((footprint, place))
    found = [_held(place, grid, footprints, {line}) for line, place in lines]
    for (one, place), (other, beside) in combinations(lines, 2):
        found.append(_held(_crossings(place, beside, grid), grid, footprints, {one, other}))
    rows, columns = (np.concatenate([place[axis] for place in found]) for axis in (0, 1))
    return box_of_places(rows, columns) if rows.size else None


def box_of_any(alignments: Sequence[Alignment], names: Sequence[str]) -> Window:
    """The smallest box of the lattice's pixels that holds all sources.

    Raises GridError where it can't be told: a source's edge has no place on the lattice, or runs around the
    world.
    """
    places = [whole_outline(Footprint(a, n)) for a, n in zip(alignments, names, strict=True)]
    box = box_of_places(*(np.concatenate([place[axis] for place in places]) for axis in (0, 1)))
    turn = _turn(alignments[0].reference)
    if turn is not None and box.shape[1] > turn * (1 + 1e-9) + 1:
        raise GridError(
            f"{' and '.join(names)} together run more than once around the world: use "
            "`extent: reference`, or give `grid.bounds`"
        )
    return box


def _along_outline(shape: tuple[int, int], along: int) -> Points:
    """Rows and columns of points along the outer edge of a grid, closed, its corners among them."""
    rows, columns = shape
    sides = np.linspace(0, 4, 4 * along + 1)
    around = [0, 1, 2, 3, 4]
    return (
        np.interp(sides, around, [0, rows, rows, 0, 0]) - 0.5,
        np.interp(sides, around, [0, 0, columns, columns, 0]) - 0.5,
    )


def _unwrapped(columns: NDArray[np.float64], turn: float, middle: float) -> NDArray[np.float64]:
    """Columns along a line without the jumps of a turn around the world, as near ``middle`` as can be."""
    smooth = np.unwrap(columns, period=turn)
    away = (smooth.min() + smooth.max()) / 2 - middle
    return np.asarray(smooth - turn * round(away / turn))


def whole_outline(footprint: Footprint) -> Points:
    """The outline of a source on the grid's plane, GridError where it is none."""
    rows, columns = footprint.outline()
    if footprint.alignment.affine is not None:
        return rows, columns
    grid = footprint.alignment.reference
    if not (np.isfinite(rows) & np.isfinite(columns)).all():
        raise footprint.refusal(f"part of its edge has no place in {crs_name(grid.crs)}")
    turn = _turn(grid)
    if turn is not None:
        columns = _unwrapped(columns, turn, grid.shape[1] / 2)
        if abs(columns[-1] - columns[0]) > turn / 2:
            raise footprint.refusal("it goes around a pole")
    _refuse_nonsense(footprint, (rows, columns), turn)
    return rows, columns


def _refuse_nonsense(footprint: Footprint, place: Points, turn: float | None) -> None:
    """Some projections answer with finite nonsense far from home: it does not lead back."""
    if not isinstance(footprint.alignment.source, Grid):
        return
    rows, columns = footprint.back(footprint._mapping(*place))
    off = columns - place[1]
    if turn is not None:
        off -= turn * np.round(off / turn)
    if not (np.hypot(rows - place[0], off) < ROUND_TRIP).all():
        raise footprint.refusal(f"its edge is out of reach of {crs_name(footprint.alignment.reference.crs)}")


def _held(place: Points, grid: Grid, footprints: Sequence[Footprint], on: set[Footprint | None]) -> Points:
    """Those of the points that lie in the grid and all footprints but those they are `on` the edge of."""
    inside = np.ones(place[0].shape, np.bool_) if None in on else _within(place, grid.shape)
    for footprint in footprints:
        if footprint not in on:
            inside &= footprint.holds(place)
    return place[0][inside], place[1][inside]


def _within(place: Points, shape: tuple[int, int]) -> NDArray[np.bool_]:
    inside = np.ones(place[0].shape, np.bool_)
    for at, pixels in zip(place, shape, strict=True):
        inside &= (at >= -0.5 - TOUCHING) & (at <= pixels - 0.5 + TOUCHING)  # NaN is neither
    return inside


def _crossings(one: Points, other: Points, grid: Grid) -> Points:
    """Where two lines cross, each segment of one with each of the other."""
    first, second = np.stack(one, 1), np.stack(other, 1)
    along, beside = np.diff(first, axis=0)[:, None], np.diff(second, axis=0)[None]
    between = second[None, :-1] - first[:-1, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        area = _cross(along, beside)
        at, there = _cross(between, beside) / area, _cross(between, along) / area
        meets = (at >= 0) & (at <= 1) & (there >= 0) & (there <= 1)
    turn = _turn(grid)
    if turn is not None:  # a segment from one end of the world to the other is none
        meets &= (np.abs(along[..., 1]) < turn / 2) & (np.abs(beside[..., 1]) < turn / 2)
    i, j = np.nonzero(meets)
    points = first[i] + at[i, j, None] * along[i, 0]
    return points[:, 0], points[:, 1]


def _cross(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0])


def _turn(grid: Grid) -> float | None:
    """Columns once around the world, None where columns never come to the same place again."""
    period = period_of(grid.crs)
    return None if period is None or not grid.is_axis_aligned else period / grid.spacing_yx[1]


def box_of_places(rows: NDArray[np.float64], columns: NDArray[np.float64]) -> Window:
    """The pixels that points reach into by more than a sliver."""
    starts, stops = [], []
    for places in (rows + 0.5, columns + 0.5):
        start = math.floor(places.min() + SLIVER)
        starts.append(start)
        stops.append(max(start + 1, math.ceil(places.max() - SLIVER)))
    return Window(tuple(starts), tuple(stops))
