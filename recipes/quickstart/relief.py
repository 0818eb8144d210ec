"""The relief: mountains that rise, and streams that cut them down until valleys branch into valleys."""

from __future__ import annotations

import numpy as np
from extent import SEED, SHAPE, SPACING, X, Y, along_across
from noise import Floats, Integers, fractal, refined, smoothstep

__all__ = ["FLOOR", "slope_of", "terrain"]

CELL = 8
"""Samples along the edge of a cell of the eroded relief: 40 m."""
FLOOR = 505.0
"""Metres above the sea, in the middle of the valley."""
ERODIBILITY, DIFFUSION, STEPS = 0.12, 0.10, 26


def terrain() -> Floats:
    """Metres above the sea: a flat valley floor, mountains to the north, hills to the south."""
    middle = (slice(CELL // 2, None, CELL),) * 2
    along, across = along_across(X[middle], Y[middle])
    edge = 1150 + 150 * fractal(along.shape, 33, SEED + 6)
    varied = fractal(along.shape, 38, SEED + 7, 5, gain=0.55)
    north, south = smoothstep(across - edge, -100, 1500), smoothstep(-across - edge, -100, 1300)
    hills = np.abs(across) > edge
    uplift = hills * ((4.4 * north + 2.0 * south) * (1 + 0.5 * np.clip(varied, -1.5, 2)) + 0.22)
    start = FLOOR - along / 900 + hills * np.clip((358 * north + 182 * south) * (1 + 0.5 * varied), 0, None)
    height = refined(eroded(start, uplift), CELL)
    detail = 2.0 * smoothstep(height, 507, 600) + np.clip(height - 600, 0, None) / 90
    return np.asarray(height + detail * fractal(SHAPE, 20, SEED + 8))


def slope_of(height: Floats) -> tuple[Floats, Floats]:
    """Rise to the east and to the north, metres a metre."""
    to_south, to_east = np.gradient(height, SPACING)
    return np.asarray(to_east), np.asarray(-to_south)


def eroded(start: Floats, uplift: Floats) -> Floats:
    """Heights after some steps of uplift, erosion by streams and creep; cells without uplift stay.

    Erosion goes with the slope and with the root of the area that drains through a cell (the
    stream-power law), solved implicitly from the mouths upwards (Braun and Willett, 2013).
    """
    height, moving = start, uplift > 0
    for _ in range(STEPS):
        height = height + uplift
        target, run = receivers(height)
        order = np.argsort(height, axis=None, kind="stable").tolist()
        rate = ERODIBILITY * np.sqrt(drained(order, target)) / run * moving.ravel()
        height = lowered(order, target, rate.tolist(), height.ravel().tolist()).reshape(height.shape)
        padded = np.pad(height, 1, mode="edge")
        around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
        height = np.where(moving, height + DIFFUSION * (around - 4 * height), start)
    return height


def receivers(height: Floats) -> tuple[list[int], Floats]:
    """The flat index of the cell that each cell drains to (itself in a pit), and how many cells away."""
    rows, columns = height.shape
    padded = np.pad(height, 1, constant_values=np.inf)
    place: Integers = np.arange(height.size).reshape(height.shape)
    steepest, target, run = np.zeros(height.shape), place, np.ones(height.shape)
    for i, j in [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]:
        away = float(np.hypot(i, j))
        fall = (height - padded[1 + i : 1 + i + rows, 1 + j : 1 + j + columns]) / away
        better = fall > steepest
        steepest = np.where(better, fall, steepest)
        target = np.where(better, place + i * columns + j, target)
        run = np.where(better, away, run)
    return target.ravel().tolist(), run.ravel()


def drained(order: list[int], target: list[int]) -> Floats:
    """How many cells drain through each; ``order`` lists them from the lowest up."""
    area = [1.0] * len(order)
    for cell in reversed(order):
        if target[cell] != cell:
            area[target[cell]] += area[cell]
    return np.array(area)


def lowered(order: list[int], target: list[int], rate: list[float], level: list[float]) -> Floats:
    """Heights after a step of erosion towards the cell below."""
    for cell in order:
        level[cell] = (level[cell] + rate[cell] * level[target[cell]]) / (1 + rate[cell])
    return np.array(level)
