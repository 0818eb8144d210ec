"""The loops over pixels, compiled by numba: coordinates, and what lies under them.

Each pixel is computed from its own coordinates alone, in float64, in one order of operations (no fastmath),
so a pixel is the same bit for bit in any window. Import this inside functions: numba is slow to load.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from math import ceil
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numba.core.caching import FunctionCache
from numpy.typing import NDArray

from batchfuse.imagery.mapping import QUANTUM

__all__ = ["bilinear", "bounds", "box", "compiled", "cubic", "interpolate", "nearest"]


F = TypeVar("F", bound=Callable[..., Any])
FloatArray = NDArray[np.float64]
Pixels = NDArray[np.float32]
Mask = NDArray[np.bool_]


def compiled(function: F) -> F:
    """The function as machine code that lets go of the GIL, kept on disk where there is a place for it."""
    dispatcher: Any = njit(nogil=True)(function)
    try:
        cache: Any = FunctionCache(function)
    except (RuntimeError, OSError):  # no directory can be written: compiled anew in each process
        return cast("F", dispatcher)
    cache.load_overload = _forgiving(cache.load_overload)
    cache.save_overload = _forgiving(cache.save_overload)
    dispatcher._cache = cache  # what cache=True does, but numba's own fails on a full or damaged disk
    return cast("F", dispatcher)


def _forgiving(step: Callable[..., Any]) -> Callable[..., Any]:
    """The step of a cache, for which failing is only a pity."""

    def forgiving(*args: Any) -> Any:
        try:
            return step(*args)
        except (OSError, EOFError, pickle.PickleError) as error:
            logging.getLogger(__name__).debug("the cache of compiled kernels can't be used: %s", error)
            return None

    return forgiving


@compiled
def interpolate(
    nodes: FloatArray,
    states: NDArray[np.uint8],
    row_scale: float,
    column_scale: float,
    first_columns: NDArray[np.int64],
    top: int,
    left: int,
    rows: FloatArray,
    columns: FloatArray,
) -> None:
    """Fill ``rows`` and ``columns`` (y, x) of the window at (top, left) from the lattice, else with NaN."""
    height, width = rows.shape
    cells_down, cells_across = states.shape
    for y in range(height):
        cell_y = min(int((top + y) * row_scale), cells_down - 1)
        t = (top + y) * row_scale - cell_y
        w0, w1, w2 = (1 - t) * (1 - 2 * t), 4 * t * (1 - t), t * (2 * t - 1)
        cell_x = min(int(left * column_scale), cells_across - 1)
        x = 0
        while x < width:
            stop = min(width, first_columns[cell_x + 1] - left)
            for k in range(2):
                out = rows if k == 0 else columns
                if states[cell_y, cell_x] != 0:
                    for i in range(x, stop):
                        out[y, i] = np.nan
                    continue
                n = nodes[k, 2 * cell_y : 2 * cell_y + 3, 2 * cell_x : 2 * cell_x + 3]
                u0 = w0 * n[0, 0] + w1 * n[1, 0] + w2 * n[2, 0]
                u1 = w0 * n[0, 1] + w1 * n[1, 1] + w2 * n[2, 1]
                u2 = w0 * n[0, 2] + w1 * n[1, 2] + w2 * n[2, 2]
                slope, bend = 4 * u1 - 3 * u0 - u2, 2 * u0 - 4 * u1 + 2 * u2
                for i in range(x, stop):
                    s = (left + i) * column_scale - cell_x
                    # np.floor stays a float: nonsense may be too large for an integer
                    out[y, i] = np.floor(((bend * s + slope) * s + u0) * (1 / QUANTUM) + 0.5) * QUANTUM
            x = stop
            cell_x += 1


@compiled
def bounds(
    rows: FloatArray, columns: FloatArray, height: int, width: int
) -> tuple[float, float, float, float]:
    """Lowest and highest row, lowest and highest column within a source; low above high where none is."""
    low_row, high_row, low_column, high_column = np.inf, -np.inf, np.inf, -np.inf
    for y in range(rows.shape[0]):
        for x in range(rows.shape[1]):
            r, c = rows[y, x], columns[y, x]
            if r >= -0.5 and r < height - 0.5 and c >= -0.5 and c < width - 0.5:
                low_row, high_row = min(low_row, r), max(high_row, r)
                low_column, high_column = min(low_column, c), max(high_column, c)
    return low_row, high_row, low_column, high_column


@compiled
def nearest(
    values: Pixels,
    valid: Mask,
    complete: bool,
    rows: FloatArray,
    columns: FloatArray,
    start: tuple[int, int],
    shape: tuple[int, int],
    out: Pixels,
    out_valid: Mask,
) -> None:
    """The pixel under each coordinate.

    ``values`` (c, h, w) and ``valid`` (h, w), ``complete`` if all are, are the source's from ``start`` on, of
    a source of ``shape``; ``out`` (c, y, x) and ``out_valid`` (y, x) come zeroed.
    """
    for y in range(rows.shape[0]):
        for x in range(rows.shape[1]):
            r, c = rows[y, x], columns[y, x]
            if r >= -0.5 and r < shape[0] - 0.5 and c >= -0.5 and c < shape[1] - 0.5:
                # unsigned, as numba asks of a signed index each time whether it counts from the end
                i, j = np.uint64(int(r + 0.5) - start[0]), np.uint64(int(c + 0.5) - start[1])
                if complete or valid[i, j]:
                    out_valid[y, x] = True
                    for k in range(values.shape[0]):
                        out[k, y, x] = values[k, i, j]


@compiled
def bilinear(
    values: Pixels,
    valid: Mask,
    complete: bool,
    rows: FloatArray,
    columns: FloatArray,
    start: tuple[int, int],
    shape: tuple[int, int],
    out: Pixels,
    out_valid: Mask,
) -> None:
    """The weighted mean of the valid ones of the four pixels, if they weigh half. See ``nearest``.

    Leaves what ``out_valid`` tells to be filled already.
    """
    height, width = shape
    for y in range(rows.shape[0]):
        for x in range(rows.shape[1]):
            r, c = rows[y, x], columns[y, x]
            outside = not (r >= -0.5 and r < height - 0.5 and c >= -0.5 and c < width - 0.5)
            if outside or out_valid[y, x]:
                continue
            # beyond the outermost centres the source goes on as it is: only half a pixel to its edge is left
            r, c = min(max(r, 0.0), height - 1.0), min(max(c, 0.0), width - 1.0)
            i, j = int(r), int(c)
            fy, fx = r - i, c - j
            top, left = np.uint64(i - start[0]), np.uint64(j - start[1])
            bottom = np.uint64(min(i + 1, height - 1) - start[0])
            right = np.uint64(min(j + 1, width - 1) - start[1])
            # multiples of 2**-40 that add up to exactly 1
            w00, w01, w10, w11 = (1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx
            if complete or (
                valid[top, left] and valid[top, right] and valid[bottom, left] and valid[bottom, right]
            ):
                out_valid[y, x] = True
                for k in range(values.shape[0]):
                    out[k, y, x] = (
                        w00 * values[k, top, left]
                        + w01 * values[k, top, right]
                        + w10 * values[k, bottom, left]
                        + w11 * values[k, bottom, right]
                    )
                continue
            w00, w01 = w00 * valid[top, left], w01 * valid[top, right]
            w10, w11 = w10 * valid[bottom, left], w11 * valid[bottom, right]
            weight = w00 + w01 + w10 + w11
            if weight < 0.5:
                continue
            out_valid[y, x] = True
            for k in range(values.shape[0]):
                total = 0.0
                # an invalid pixel may hold anything, and infinity times zero is no zero
                if w00 > 0:
                    total += w00 * values[k, top, left]
                if w01 > 0:
                    total += w01 * values[k, top, right]
                if w10 > 0:
                    total += w10 * values[k, bottom, left]
                if w11 > 0:
                    total += w11 * values[k, bottom, right]
                out[k, y, x] = total / weight


@compiled
def cubic(
    values: Pixels,
    valid: Mask,
    complete: bool,
    rows: FloatArray,
    columns: FloatArray,
    start: tuple[int, int],
    shape: tuple[int, int],
    out: Pixels,
    out_valid: Mask,
) -> None:
    """Cubic convolution with a = -0.5 where all 4 x 4 pixels are valid. See ``nearest``.

    ``bilinear`` fills the rest, as GDAL does; a cubic over its valid weights overshoots, some being negative.
    """
    height, width = shape
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    for y in range(rows.shape[0]):
        for x in range(rows.shape[1]):
            r, c = rows[y, x], columns[y, x]
            if not (r >= 1 and r < height - 2 and c >= 1 and c < width - 2):
                continue
            a0, b0 = np.uint64(int(r) - 1 - start[0]), np.uint64(int(c) - 1 - start[1])
            a1, a2, a3 = a0 + one, a0 + two, a0 + three
            b1, b2, b3 = b0 + one, b0 + two, b0 + three
            if not complete:  # written out, as a loop over 16 pixels takes twice as long
                first = valid[a0, b0] & valid[a0, b1] & valid[a0, b2] & valid[a0, b3]
                second = valid[a1, b0] & valid[a1, b1] & valid[a1, b2] & valid[a1, b3]
                third = valid[a2, b0] & valid[a2, b1] & valid[a2, b2] & valid[a2, b3]
                fourth = valid[a3, b0] & valid[a3, b1] & valid[a3, b2] & valid[a3, b3]
                if not (first & second & third & fourth):
                    continue
            out_valid[y, x] = True
            t, s = r - int(r), c - int(c)
            y0, y1 = ((2 - t) * t - 1) * t / 2, ((3 * t - 5) * t * t + 2) / 2
            y2, y3 = ((4 - 3 * t) * t + 1) * t / 2, (t - 1) * t * t / 2
            x0, x1 = ((2 - s) * s - 1) * s / 2, ((3 * s - 5) * s * s + 2) / 2
            x2, x3 = ((4 - 3 * s) * s + 1) * s / 2, (s - 1) * s * s / 2
            for k in range(values.shape[0]):
                total = 0.0
                for a, down in ((a0, y0), (a1, y1), (a2, y2), (a3, y3)):
                    total += down * (
                        x0 * values[k, a, b0]
                        + x1 * values[k, a, b1]
                        + x2 * values[k, a, b2]
                        + x3 * values[k, a, b3]
                    )
                out[k, y, x] = total


@compiled
def box(
    values: Pixels,
    valid: Mask,
    complete: bool,
    rows: FloatArray,
    columns: FloatArray,
    start: tuple[int, int],
    shape: tuple[int, int],
    size: tuple[float, float],
    out: Pixels,
    out_valid: Mask,
) -> None:
    """The mean over ``size`` (rows, columns) source pixels around each coordinate, by area. See ``nearest``.

    Valid where half of the area is, of what lies within the source.
    """
    height, width = shape
    one = np.uint64(1)
    for y in range(rows.shape[0]):
        for x in range(rows.shape[1]):
            r, c = rows[y, x], columns[y, x]
            if not (r >= -0.5 and r < height - 0.5 and c >= -0.5 and c < width - 0.5):
                continue
            # pixel i reaches from i to i + 1 here
            top, bottom = max(r + 0.5 - size[0] / 2, 0.0), min(r + 0.5 + size[0] / 2, float(height))
            left, right = max(c + 0.5 - size[1] / 2, 0.0), min(c + 0.5 + size[1] / 2, float(width))
            west, east = min(right, int(left) + 1.0) - left, right - (ceil(right) - 1)
            first, last = np.uint64(int(left) - start[1]), np.uint64(ceil(right) - 1 - start[1])
            area, lost = (bottom - top) * (right - left), 0.0
            if not complete:
                for i in range(int(top), ceil(bottom)):
                    down, line = min(bottom, i + 1.0) - max(top, float(i)), np.uint64(i - start[0])
                    for j in range(first, last + one):
                        if not valid[line, j]:
                            lost += down * (west if j == first else (east if j == last else 1.0))
            # the area is told in 53 bits: a half that is meant must not fail by the last of them
            if lost > 0.5 * area * (1 + 1e-12):
                continue
            out_valid[y, x] = True
            for k in range(values.shape[0]):
                total = 0.0
                for i in range(int(top), ceil(bottom)):
                    down, line = min(bottom, i + 1.0) - max(top, float(i)), np.uint64(i - start[0])
                    across = 0.0
                    for j in range(first, last + one):
                        if lost == 0 or valid[line, j]:
                            part = west if j == first else (east if j == last else 1.0)
                            across += part * values[k, line, j]
                    total += down * across
                out[k, y, x] = total / (area - lost)
