"""Which windows of a scene are measured: all of it, or, where it is large, a few that are always the same."""

from __future__ import annotations

from batchfuse.geometry.window import Window

__all__ = ["EDGE", "MOST", "WHOLE", "measured_windows"]

WHOLE = 2048 * 2048
"""Pixels up to which a scene is measured as one image: FMI_dct transforms all of it at once."""
MOST = 9
"""Windows of a larger one."""
EDGE = 1024
"""Pixels of a window's edge."""


def measured_windows(shape: tuple[int, int]) -> list[Window]:
    """The whole scene of ``shape`` (y, x), or up to nine windows of 1024² pixels spread evenly over it."""
    if shape[0] * shape[1] <= WHOLE:
        return [Window.whole(shape)]
    rows, columns = (_middles(n, count) for n, count in zip(shape, _counts(shape), strict=True))
    return [Window((top, left), (bottom, right)) for top, bottom in rows for left, right in columns]


def _counts(shape: tuple[int, int]) -> tuple[int, int]:
    """Windows along each axis: 3 x 3, or more along the scene where it is narrow."""
    fit = [max(1, n // EDGE) for n in shape]
    rows, columns = (min(3, n) for n in fit)
    return min(fit[0], MOST // columns), min(fit[1], MOST // rows)


def _middles(pixels: int, count: int) -> list[tuple[int, int]]:
    """The middle ``EDGE`` pixels of each of ``count`` equal parts of a row or column."""
    edge = min(EDGE, pixels)
    starts = [round((i + 0.5) * pixels / count - edge / 2) for i in range(count)]
    return [(start, start + edge) for start in starts]
