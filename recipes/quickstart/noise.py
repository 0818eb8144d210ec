"""Repeatable randomness: hashes, fractal noise and smooth rasters.

Nothing here draws from a random generator: every number is a hash of whole numbers, so the same
scene comes out on every machine and with every version of numpy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "Integers", "bell", "fractal", "hashed", "refined", "sampled", "smoothstep", "uniform"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def hashed(seed: int, *ids: Integers) -> Integers:
    """One number of 64 bits for each combination of whole numbers (the finaliser of splitmix64)."""
    state = np.full(np.broadcast_shapes(*(i.shape for i in ids)), seed, dtype=np.uint64)
    for number in ids:
        state += number.astype(np.uint64)
        state *= np.uint64(0x9E3779B97F4A7C15)
        state ^= state >> np.uint64(30)
        state *= np.uint64(0xBF58476D1CE4E5B9)
        state ^= state >> np.uint64(27)
        state *= np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state.astype(np.int64)


def uniform(seed: int, *ids: Integers) -> Floats:
    """One number of 0..1 for each combination of whole numbers."""
    return (hashed(seed, *ids).astype(np.uint64) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def bell(seed: int, shape: tuple[int, ...]) -> Floats:
    """Noise of mean 0 and standard deviation 1 a pixel, nearly normal: four uniform numbers added."""
    pixel = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)
    total = np.sum([uniform(seed + k, pixel) for k in range(4)], axis=0)
    return np.asarray((total - 2.0) * np.sqrt(3.0))


def spline_weights(count: int, first: float, cell: float, nodes: int) -> Floats:
    """Weights (count, nodes) of a cubic B-spline with a node every ``cell`` samples from ``first`` on."""
    weights = np.zeros((count, nodes))
    sample = np.arange(count)
    place = (sample - first) / cell
    for node in np.floor(place).astype(np.int64) + np.arange(-1, 3)[:, None]:
        distance = np.abs(place - node)
        near = 2 / 3 - distance**2 + distance**3 / 2
        far = np.clip(2 - distance, 0, None) ** 3 / 6
        inside = (node >= 0) & (node < nodes)
        weights[sample[inside], node[inside]] = np.where(distance < 1, near, far)[inside]
    return weights


def refined(coarse: Floats, cell: int) -> Floats:
    """The smooth raster that a coarse one stands for, ``cell`` samples in place of each."""
    weights = []
    for nodes in coarse.shape:
        w = spline_weights(nodes * cell, (cell - 1) / 2, cell, nodes)
        weights.append(w / w.sum(axis=1, keepdims=True))
    return np.asarray(weights[0] @ coarse @ weights[1].T)


def fractal(shape: tuple[int, ...], cell: float, seed: int, octaves: int = 4, gain: float = 0.5) -> Floats:
    """Fractal noise of mean 0 and standard deviation 1.

    The largest features are ``cell`` samples wide; each octave halves them and multiplies their
    height by ``gain``.
    """
    total = np.zeros(shape)
    for octave in range(octaves):
        size = cell / 2**octave
        rows, columns = (spline_weights(n, -size, size, int(n / size) + 4) for n in shape)
        nodes = np.indices((rows.shape[1], columns.shape[1]), dtype=np.int64)
        total += gain**octave * (rows @ (uniform(seed + 101 * octave, *nodes) - 0.5) @ columns.T)
    return np.asarray((total - total.mean()) / total.std())


def sampled(raster: Floats, row: Floats, column: Floats) -> Floats:
    """The raster between its samples, bilinear; its edge goes on for ever."""
    row = np.clip(row, 0, raster.shape[0] - 1.000001)
    column = np.clip(column, 0, raster.shape[1] - 1.000001)
    top, left = row.astype(np.int64), column.astype(np.int64)
    down, right = row - top, column - left
    flat, first = raster.ravel(), top * raster.shape[1] + left
    upper = flat[first] * (1 - right) + flat[first + 1] * right
    first += raster.shape[1]
    lower = flat[first] * (1 - right) + flat[first + 1] * right
    return np.asarray(upper * (1 - down) + lower * down)


def smoothstep(value: Floats, low: float, high: float) -> Floats:
    """0 below ``low``, 1 above ``high``, smooth between; it falls where ``low`` is the greater."""
    share = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(share * share * (3 - 2 * share))
