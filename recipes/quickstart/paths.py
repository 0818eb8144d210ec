"""Lines in the landscape: rivers and roads, and how far each place is from them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from extent import SHAPE, SPACING, X, Y
from noise import Floats

__all__ = ["distance_to", "meanders", "smooth_path"]


def smooth_path(corners: Sequence[tuple[float, float]], step: float = 25.0) -> Floats:
    """Points (n, 2) along a Catmull-Rom curve through the corners, about ``step`` metres apart."""
    given = np.array(corners)
    knots = np.vstack([2 * given[0] - given[1], given, 2 * given[-1] - given[-2]])
    pieces = []
    for a, b, c, d in zip(knots, knots[1:], knots[2:], knots[3:], strict=False):
        u = np.linspace(0, 1, max(2, int(np.hypot(*(c - b)) / step)), endpoint=False)[:, None]
        bend = (2 * a - 5 * b + 4 * c - d) * u**2 + (3 * b - a - 3 * c + d) * u**3
        pieces.append(b + 0.5 * ((c - a) * u + bend))
    return np.vstack([*pieces, given[-1:]])


def meanders(length: float, wavelength: float, swing: float, phase: float) -> Floats:
    """Points (n, 2) of a river along the first axis, centred on 0: its direction swings as a sine does."""
    course = np.arange(0.0, 2.2 * length, 15.0)
    turn = course / wavelength * 2 * np.pi + 0.9 * np.sin(course / wavelength * 1.7 + phase)
    angle = swing * (0.8 + 0.3 * np.sin(course / 1570 + phase)) * np.sin(turn + phase)
    points = np.cumsum(np.column_stack([np.cos(angle), np.sin(angle)]) * 15.0, axis=0)
    along, across = points[points[:, 0] < length].T
    # a drift to one side is taken off, so that the river stays in its valley
    along = along / length * 2 - 1
    return np.column_stack([along * length / 2, across - np.polyval(np.polyfit(along, across, 2), along)])


def distance_to(path: Floats, reach: float) -> Floats:
    """Metres from each sample of the landscape to the path, ``reach`` where it is farther."""
    nearest = np.full(SHAPE, reach)
    for (ax, ay), (bx, by) in pairwise(path):
        west, east = samples(min(ax, bx) - reach - X[0, 0]), samples(max(ax, bx) + reach - X[0, 0])
        north, south = samples(Y[0, 0] - max(ay, by) - reach), samples(Y[0, 0] - min(ay, by) + reach)
        box = slice(north, south), slice(west, east)
        dx, dy = X[box] - ax, Y[box] - ay
        ex, ey = bx - ax, by - ay
        share = np.clip((dx * ex + dy * ey) / (ex * ex + ey * ey), 0, 1)
        away = np.hypot(dx - share * ex, dy - share * ey)
        nearest[box] = np.minimum(nearest[box], away)
    return nearest


def samples(metres: float) -> int:
    """Whole samples in a length, none in a negative one."""
    return max(0, int(metres / SPACING) + 1)
