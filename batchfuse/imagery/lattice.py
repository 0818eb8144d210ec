"""Source coordinates of every reference pixel, interpolated from a lattice of exactly transformed points.

The lattice is anchored to the reference grid and decided for all of it, never for a window, so that a pixel
has the same coordinates, bit for bit, whichever window asks. In each cell the coordinates are the quadratic
through 3 x 3 exact nodes: its error falls with the third power of the cell, where that of the bilinear
interpolation usual in warpers falls with the second, so that even grids of 1 km pixels need few nodes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from batchfuse.geometry.window import Window
from batchfuse.imagery.mapping import QUANTUM, FloatArray, Mapping

__all__ = ["Lattice"]

COARSER, FINEST = (256, 128), 64  # edges of a cell in reference pixels
GOOD, TOLERABLE = 1e-5, 1e-3  # source pixels off the exact way, for coarser cells and for the finest
STRIP = 1_000_000  # points transformed at once while the lattice is built
INTERPOLATED, EXACT, NOWHERE = 0, 1, 2

# values at 0, 1/4 .. 1 of a cell of the quadratic through its values at 0, 1/2, 1
_T = np.linspace(0, 1, 5)
_QUADRATIC = np.stack([(1 - _T) * (1 - 2 * _T), 4 * _T * (1 - _T), _T * (2 * _T - 1)], axis=1)


@dataclass(frozen=True, eq=False)
class Lattice:
    """Nodes over the whole reference grid, and how the pixels of each cell get their coordinates."""

    mapping: Mapping
    """The exact way, for the pixels of cells that can't be interpolated."""
    nodes: FloatArray
    """Source (row, column) of the nodes: (2, 2 m + 1, 2 n + 1) for m x n cells."""
    states: NDArray[np.uint8]
    """(m, n): INTERPOLATED, EXACT (one by one: a pole, a seam, a horizon) or NOWHERE (no place at all)."""

    @classmethod
    def straight(cls, mapping: Mapping, affine: Affine) -> Lattice:
        """One cell for an affine from reference to source corners: the quadratic is exact."""
        rows, columns = np.meshgrid(
            *(np.linspace(0, n - 1, 3) + 0.5 for n in mapping.reference.shape), indexing="ij"
        )
        nodes = np.stack(
            [
                affine.d * columns + affine.e * rows + affine.f - 0.5,
                affine.a * columns + affine.b * rows + affine.c - 0.5,
            ]
        )
        return cls(mapping, nodes, np.full((1, 1), INTERPOLATED, np.uint8))

    @classmethod
    def of(cls, mapping: Mapping) -> Lattice:
        """The coarsest lattice whose every cell agrees well with the exact way, else the finest.

        Cells that do not agree even at 64 pixels are transformed pixel by pixel.
        """
        for size in COARSER:
            lattice = _built(mapping, size, GOOD)
            if not (lattice.states == EXACT).any():
                return lattice
        return _built(mapping, FINEST, TOLERABLE)

    def coordinates(self, window: Window) -> tuple[FloatArray, FloatArray]:
        """Source (rows, columns) of the pixel centres of a window, (y, x) each; NaN where there is none."""
        from batchfuse.imagery import kernels

        rows, columns = np.empty(window.shape), np.empty(window.shape)
        kernels.interpolate(
            self.nodes,
            self.states,
            self._scale(0),
            self._scale(1),
            self._first_columns,
            window.start[0],
            window.start[1],
            rows,
            columns,
        )
        self._fill_exact(window, rows, columns)
        return rows, columns

    def exact_cells(self, window: Window) -> list[Window]:
        """The parts of a window whose pixels are transformed one by one."""
        cells = [self._cells_of(axis, window) for axis in (0, 1)]
        (top, bottom), (left, right) = ((c[0], c[-1] + 1) for c in cells)
        found = np.argwhere(self.states[top:bottom, left:right] == EXACT)
        return [self._pixels_of((top + y, left + x), cells, window) for y, x in found]

    def _pixels_of(self, cell: tuple[int, int], cells: list[NDArray[np.int64]], window: Window) -> Window:
        """The pixels of a cell within a window whose rows and columns lie in ``cells``."""
        start = [np.searchsorted(c, i) for c, i in zip(cells, cell, strict=True)]
        stop = [np.searchsorted(c, i, side="right") for c, i in zip(cells, cell, strict=True)]
        return Window(
            tuple(int(a + o) for a, o in zip(start, window.start, strict=True)),
            tuple(int(b + o) for b, o in zip(stop, window.start, strict=True)),
        )

    def _fill_exact(self, window: Window, rows: FloatArray, columns: FloatArray) -> None:
        if not (self.states == EXACT).any():
            return
        y, x = (self._cells_of(axis, window) for axis in (0, 1))
        at = np.nonzero(self.states[y][:, x] == EXACT)
        if at[0].size:
            exact = self.mapping(
                *(np.asarray(i + o, np.float64) for i, o in zip(at, window.start, strict=True))
            )
            rows[at], columns[at] = (np.floor(c / QUANTUM + 0.5) * QUANTUM for c in exact)

    def _scale(self, axis: int) -> float:
        """Cells a pixel along an axis."""
        pixels = self.mapping.reference.shape[axis]
        return self.states.shape[axis] / (pixels - 1) if pixels > 1 else 0.0

    def _cells_of(self, axis: int, window: Window) -> NDArray[np.int64]:
        """Which cell each row or column of a window lies in."""
        pixels = np.arange(window.start[axis], window.stop[axis])
        cells = (pixels * self._scale(axis)).astype(np.int64)
        return np.asarray(np.minimum(cells, self.states.shape[axis] - 1), np.int64)

    @cached_property
    def _first_columns(self) -> NDArray[np.int64]:
        """The first column of each cell, and one past the last."""
        whole = Window.whole(self.mapping.reference.shape)
        starts = np.searchsorted(self._cells_of(1, whole), np.arange(self.states.shape[1] + 1))
        return np.asarray(starts, np.int64)


def _built(mapping: Mapping, size: int, tolerance: float) -> Lattice:
    """The lattice with cells of at most ``size`` pixels, each tried at the 16 points between its nodes."""
    height, width = mapping.reference.shape
    cells = [max(1, math.ceil((n - 1) / size)) for n in (height, width)]
    ys, xs = (np.linspace(0, n - 1, 4 * m + 1) for n, m in zip((height, width), cells, strict=True))
    nodes = np.empty((2, 2 * cells[0] + 1, 2 * cells[1] + 1))
    states = np.empty(cells, np.uint8)
    step = max(1, STRIP // (4 * xs.size))
    for top in range(0, cells[0], step):
        bottom = min(cells[0], top + step)
        grid = np.meshgrid(ys[4 * top : 4 * bottom + 1], xs, indexing="ij")
        points = np.stack(mapping(*grid))
        nodes[:, 2 * top : 2 * bottom + 1] = points[:, ::2, ::2]
        states[top:bottom] = _states(points, tolerance)
    return Lattice(mapping, nodes, states)


def _states(points: FloatArray, tolerance: float) -> NDArray[np.uint8]:
    """State of each cell from its 5 x 5 points: (2, 4 m + 1, 4 n + 1) to (m, n)."""
    blocks = np.lib.stride_tricks.sliding_window_view(points, (5, 5), axis=(1, 2))[:, ::4, ::4]
    finite = np.isfinite(blocks)
    with np.errstate(invalid="ignore", over="ignore"):
        quadratic = np.einsum("ai,kmnij,bj->kmnab", _QUADRATIC, blocks[..., ::2, ::2], _QUADRATIC)
        error = np.abs(quadratic - blocks).max(axis=(0, 3, 4))
    good = finite.all(axis=(0, 3, 4)) & (error <= tolerance)
    nowhere = ~finite.any(axis=(0, 3, 4))
    return np.select([good, nowhere], [INTERPOLATED, NOWHERE], EXACT).astype(np.uint8)
