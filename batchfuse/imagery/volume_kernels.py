"""The loops over voxels, compiled by numba: what lies under each voxel of a window of the reference.

Each voxel is computed from its own place alone, in float64, in one order of operations (no fastmath), so a
voxel is the same bit for bit in any window. Import this inside functions: numba is slow to load.

In all of them ``values`` and ``valid`` (d, h, w), ``complete`` if all are valid, are the source's from
``start`` on, of a source of ``shape``; ``rows`` (3, 4) carries (z, y, x, 1) of the reference to the source;
``out`` and ``out_valid`` (z, y, x) come zeroed and are the reference's from ``begin`` on.
"""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

from batchfuse.imagery.kernels import compiled
from batchfuse.imagery.mapping import QUANTUM

__all__ = ["average", "nearest", "tricubic", "trilinear"]

FloatArray = NDArray[np.float64]
Voxels = NDArray[np.float32]
Mask = NDArray[np.bool_]
Place = tuple[int, ...]

FINE = 1 / QUANTUM


@compiled
def _row(rows: FloatArray, begin: Place, z: int, y: int) -> tuple[float, float, float]:
    """What the voxels of a row of the window have in common of their places in the source."""
    return (
        rows[0, 0] * (begin[0] + z) + rows[0, 3] + rows[0, 1] * (begin[1] + y),
        rows[1, 0] * (begin[0] + z) + rows[1, 3] + rows[1, 1] * (begin[1] + y),
        rows[2, 0] * (begin[0] + z) + rows[2, 3] + rows[2, 1] * (begin[1] + y),
    )


@compiled
def _place(
    rows: FloatArray, begin: Place, row: tuple[float, float, float], x: int
) -> tuple[float, float, float]:
    """Where a voxel of the row lies in the source (z, y, x), in whole quanta."""
    return (
        np.floor((row[0] + rows[0, 2] * (begin[2] + x)) * FINE + 0.5) * QUANTUM,
        np.floor((row[1] + rows[1, 2] * (begin[2] + x)) * FINE + 0.5) * QUANTUM,
        np.floor((row[2] + rows[2, 2] * (begin[2] + x)) * FINE + 0.5) * QUANTUM,
    )


@compiled
def nearest(
    values: Voxels,
    valid: Mask,
    complete: bool,
    start: Place,
    shape: Place,
    rows: FloatArray,
    begin: Place,
    out: Voxels,
    out_valid: Mask,
) -> None:
    """The voxel under each centre."""
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            row = _row(rows, begin, z, y)
            for x in range(out.shape[2]):
                a, b, c = _place(rows, begin, row, x)
                if not (a >= -0.5 and a < shape[0] - 0.5 and b >= -0.5 and b < shape[1] - 0.5):
                    continue
                if not (c >= -0.5 and c < shape[2] - 0.5):
                    continue
                # unsigned, as numba asks of a signed index each time whether it counts from the end
                i = np.uint64(int(a + 0.5) - start[0])
                j = np.uint64(int(b + 0.5) - start[1])
                k = np.uint64(int(c + 0.5) - start[2])
                if complete or valid[i, j, k]:
                    out_valid[z, y, x] = True
                    out[z, y, x] = values[i, j, k]


@compiled
def trilinear(
    values: Voxels,
    valid: Mask,
    complete: bool,
    start: Place,
    shape: Place,
    rows: FloatArray,
    begin: Place,
    out: Voxels,
    out_valid: Mask,
) -> None:
    """The weighted mean of the valid ones of the eight voxels around each centre, if they weigh half.

    Leaves what ``out_valid`` tells to be filled already.
    """
    depth, height, width = shape
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            row = _row(rows, begin, z, y)
            for x in range(out.shape[2]):
                a, b, c = _place(rows, begin, row, x)
                if not (a >= -0.5 and a < depth - 0.5 and b >= -0.5 and b < height - 0.5):
                    continue
                if not (c >= -0.5 and c < width - 0.5) or out_valid[z, y, x]:
                    continue
                # beyond the outermost centres the source goes on as it is: half a voxel is left to its edge
                a, b, c = min(max(a, 0.0), depth - 1.0), min(max(b, 0.0), height - 1.0), max(c, 0.0)
                c = min(c, width - 1.0)
                i, j, k = int(a), int(b), int(c)
                t, u, v = a - i, b - j, c - k
                i0, i1 = np.uint64(i - start[0]), np.uint64(min(i + 1, depth - 1) - start[0])
                j0, j1 = np.uint64(j - start[1]), np.uint64(min(j + 1, height - 1) - start[1])
                k0, k1 = np.uint64(k - start[2]), np.uint64(min(k + 1, width - 1) - start[2])
                if complete or (
                    valid[i0, j0, k0]
                    and valid[i0, j0, k1]
                    and valid[i0, j1, k0]
                    and valid[i0, j1, k1]
                    and valid[i1, j0, k0]
                    and valid[i1, j0, k1]
                    and valid[i1, j1, k0]
                    and valid[i1, j1, k1]
                ):
                    # axis by axis, where values and weights are exact: a constant stays what it is
                    e00 = (1 - v) * values[i0, j0, k0] + v * values[i0, j0, k1]
                    e01 = (1 - v) * values[i0, j1, k0] + v * values[i0, j1, k1]
                    e10 = (1 - v) * values[i1, j0, k0] + v * values[i1, j0, k1]
                    e11 = (1 - v) * values[i1, j1, k0] + v * values[i1, j1, k1]
                    out[z, y, x] = (1 - t) * ((1 - u) * e00 + u * e01) + t * ((1 - u) * e10 + u * e11)
                    out_valid[z, y, x] = True
                    continue
                total, weight = 0.0, 0.0
                for di in range(2):
                    for dj in range(2):
                        for dk in range(2):
                            f, g, h = i1 if di else i0, j1 if dj else j0, k1 if dk else k0
                            w = (t if di else 1 - t) * (u if dj else 1 - u) * (v if dk else 1 - v)
                            # an invalid voxel may hold anything, and infinity times zero is no zero
                            if w > 0 and valid[f, g, h]:
                                total += w * values[f, g, h]
                                weight += w
                # weights are told in 53 bits: a half that is meant must not fail by the last of them
                if weight >= 0.5 * (1 - 1e-12):
                    out[z, y, x] = total / weight
                    out_valid[z, y, x] = True


@compiled
def tricubic(
    values: Voxels,
    valid: Mask,
    complete: bool,
    start: Place,
    shape: Place,
    rows: FloatArray,
    begin: Place,
    out: Voxels,
    out_valid: Mask,
) -> None:
    """Cubic convolution with a = -0.5 where all 4 x 4 x 4 voxels are valid.

    ``trilinear`` fills the rest; a cubic over its valid weights overshoots, some being negative.
    """
    depth, height, width = shape
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            row = _row(rows, begin, z, y)
            for x in range(out.shape[2]):
                a, b, c = _place(rows, begin, row, x)
                if not (a >= 1 and a < depth - 2 and b >= 1 and b < height - 2 and c >= 1 and c < width - 2):
                    continue
                i, j, k = int(a) - 1 - start[0], int(b) - 1 - start[1], int(c) - 1 - start[2]
                if not complete:
                    full = True
                    for f in range(i, i + 4):
                        for g in range(j, j + 4):
                            for h in range(k, k + 4):
                                full &= valid[np.uint64(f), np.uint64(g), np.uint64(h)]
                    if not full:
                        continue
                t, u, v = a - int(a), b - int(b), c - int(c)
                v0, v1 = ((2 - v) * v - 1) * v / 2, ((3 * v - 5) * v * v + 2) / 2
                v2, v3 = ((4 - 3 * v) * v + 1) * v / 2, (v - 1) * v * v / 2
                u0, u1 = ((2 - u) * u - 1) * u / 2, ((3 * u - 5) * u * u + 2) / 2
                u2, u3 = ((4 - 3 * u) * u + 1) * u / 2, (u - 1) * u * u / 2
                t0, t1 = ((2 - t) * t - 1) * t / 2, ((3 * t - 5) * t * t + 2) / 2
                t2, t3 = ((4 - 3 * t) * t + 1) * t / 2, (t - 1) * t * t / 2
                k0, k1, k2, k3 = np.uint64(k), np.uint64(k + 1), np.uint64(k + 2), np.uint64(k + 3)
                total = 0.0
                for f, deep in ((i, t0), (i + 1, t1), (i + 2, t2), (i + 3, t3)):
                    slab = 0.0
                    for g, down in ((j, u0), (j + 1, u1), (j + 2, u2), (j + 3, u3)):
                        m, n = np.uint64(f), np.uint64(g)
                        slab += down * (
                            v0 * values[m, n, k0]
                            + v1 * values[m, n, k1]
                            + v2 * values[m, n, k2]
                            + v3 * values[m, n, k3]
                        )
                    total += deep * slab
                out[z, y, x] = total
                out_valid[z, y, x] = True


@compiled
def average(
    values: Voxels,
    valid: Mask,
    complete: bool,
    start: Place,
    shape: Place,
    rows: FloatArray,
    begin: Place,
    size: tuple[float, ...],
    out: Voxels,
    out_valid: Mask,
) -> None:
    """The mean over ``size`` (z, y, x) source voxels around each centre, by volume.

    Valid where half of that volume is, of what lies within the source.
    """
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            row = _row(rows, begin, z, y)
            for x in range(out.shape[2]):
                a, b, c = _place(rows, begin, row, x)
                if not (a >= -0.5 and a < shape[0] - 0.5 and b >= -0.5 and b < shape[1] - 0.5):
                    continue
                if not (c >= -0.5 and c < shape[2] - 0.5):
                    continue
                # voxel i reaches from i to i + 1 here
                a0, a1 = max(a + 0.5 - size[0] / 2, 0.0), min(a + 0.5 + size[0] / 2, float(shape[0]))
                b0, b1 = max(b + 0.5 - size[1] / 2, 0.0), min(b + 0.5 + size[1] / 2, float(shape[1]))
                c0, c1 = max(c + 0.5 - size[2] / 2, 0.0), min(c + 0.5 + size[2] / 2, float(shape[2]))
                volume = (a1 - a0) * (b1 - b0) * (c1 - c0)
                total, kept = 0.0, 0.0
                for i in range(int(a0), ceil(a1)):
                    deep, f = min(a1, i + 1.0) - max(a0, float(i)), np.uint64(i - start[0])
                    for j in range(int(b0), ceil(b1)):
                        down = deep * (min(b1, j + 1.0) - max(b0, float(j)))
                        g = np.uint64(j - start[1])
                        for k in range(int(c0), ceil(c1)):
                            h = np.uint64(k - start[2])
                            if complete or valid[f, g, h]:
                                part = down * (min(c1, k + 1.0) - max(c0, float(k)))
                                total += part * values[f, g, h]
                                kept += part
                # the volume is told in 53 bits: a half that is meant must not fail by the last of them
                if kept >= 0.5 * volume * (1 - 1e-12):
                    out[z, y, x] = total / kept
                    out_valid[z, y, x] = True
