"""The plane cut into cells: districts around scattered points, uneven strips, turned coordinates."""

from __future__ import annotations

import numpy as np
from extent import MARGIN
from noise import Floats, Integers, hashed, uniform

__all__ = ["districts", "off_middle", "strips", "turned"]


def districts(x: Floats, y: Floats, size: float, seed: int) -> tuple[Integers, Floats]:
    """Cells around scattered points: the key of each cell, and metres to its border."""
    gx, gy = (x + 2 * MARGIN) / size, (y + 2 * MARGIN) / size
    column, row = gx.astype(np.int64), gy.astype(np.int64)
    nodes = np.indices((64, 64), dtype=np.int64)
    key, px, py = (hashed(seed, *nodes), *(0.5 + 0.8 * (uniform(seed + k, *nodes) - 0.5) for k in (1, 2)))
    first, second = np.full(x.shape, 9.0), np.full(x.shape, 9.0)
    name = np.zeros(x.shape, dtype=np.int64)
    for i, j in np.ndindex(3, 3):
        node = (column + i - 1, row + j - 1)
        away = np.hypot(node[0] + px[node] - gx, node[1] + py[node] - gy)
        closer = away < first
        second = np.where(closer, first, np.minimum(second, away))
        first = np.where(closer, away, first)
        name = np.where(closer, key[node], name)
    return name, (second - first) * size / 2


def strips(place: Floats, width: Floats, seed: int, within: Integers) -> tuple[Integers, Floats]:
    """Strips of uneven width, others in each parent cell: the key of each, and metres to its nearer side."""
    q = place / width
    number = np.floor(q).astype(np.int64)
    # the border below strip n lies at n, give or take a third
    number -= q < number + 0.6 * (uniform(seed, number, within) - 0.5)
    lower = number + 0.6 * (uniform(seed, number, within) - 0.5)
    upper = number + 1 + 0.6 * (uniform(seed, number + 1, within) - 0.5)
    return hashed(seed, number, within), np.minimum(q - lower, upper - q) * width


def turned(x: Floats, y: Floats, angle: float | Floats) -> tuple[Floats, Floats]:
    """Coordinates turned by an angle, which may differ from place to place."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return x * cosine + y * sine, y * cosine - x * sine


def off_middle(place: Floats, width: float) -> Floats:
    """Metres from the middle of the even strip one is in."""
    return np.asarray(np.abs(place % width - width / 2))
