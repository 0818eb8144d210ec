"""The largest rectangle of an image that is valid throughout; numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from batchfuse.geometry.window import Window

__all__ = ["largest_rectangle"]


def largest_rectangle(valid: NDArray[np.bool_]) -> Window | None:
    """The largest window in which ``valid`` (y, x) is True throughout, or None where it is nowhere.

    Of equally large ones the first from the top, then from the left.
    """
    if valid.all():
        return Window.whole(valid.shape) if valid.size else None
    best, found = 0, None
    heights = np.zeros(valid.shape[1], np.int64)
    for row, there in enumerate(valid):
        heights = np.where(there, heights + 1, 0)
        size, height, left, right = _under(heights)
        if size > best:
            best, found = size, Window((row + 1 - height, left), (row + 1, right))
    return found


def _under(heights: NDArray[np.int64]) -> tuple[int, int, int, int]:
    """The largest rectangle under a skyline: its size, height, left end and right end.

    A stack of the runs of equal height that are still open; each is closed by the first lower one.
    """
    edges = np.flatnonzero(np.diff(heights)) + 1
    starts = [0, *edges.tolist(), len(heights)]
    runs = [*heights[starts[:-1]].tolist(), 0]
    best = (0, 0, 0, 0)
    open_runs: list[tuple[int, int]] = []
    for start, height in zip(starts, runs, strict=True):
        left = start
        while open_runs and open_runs[-1][1] >= height:
            left, tall = open_runs.pop()
            size = tall * (start - left)
            if size > best[0]:
                best = (size, tall, left, start)
        open_runs.append((left, height))
    return best
