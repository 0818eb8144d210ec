"""Pixels of a source as they lie on the reference grid, any window equal to the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import floor
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from batchfuse.geometry.window import Window
from batchfuse.imagery.align import Alignment
from batchfuse.imagery.mapping import FloatArray
from batchfuse.imagery.volume_alignment import VolumeAlignment

__all__ = [
    "INPUT",
    "OUTPUT",
    "Mask",
    "Pixels",
    "Read",
    "Resampling",
    "halves",
    "nothing",
    "resampled",
    "shifted",
]

Resampling = Literal["nearest", "bilinear", "cubic", "average"]
Pixels = NDArray[np.float32]
Mask = NDArray[np.bool_]
Read = Callable[[Window], tuple[Pixels, Mask]]

FINER = 1.05  # a source finer than the grid by more is averaged: a point kernel would skip pixels and alias
OUTPUT, INPUT = 4_000_000, 16_000_000  # pixels worked on at once, on the grid and in the source


def resampled(
    alignment: Alignment, window: Window, read: Read, method: str, channels: int | None = None
) -> tuple[Pixels, Mask]:
    """A window of the reference grid: values (c, y, x), 0 where invalid, and validity (y, x).

    ``read`` gives a window of the source's own pixels: float32 (c, h, w) and where they are valid (h, w);
    what the invalid ones hold has no effect. It is asked for at most 16 million pixels at once, only for what
    lies under the window; for one pixel where nothing does, unless ``channels`` says how many there are.

    nearest takes the pixel under the centre. bilinear and cubic (a = -0.5; bilinear beside invalid pixels)
    take those around it, or the mean over ``alignment.footprint`` where that is more than 1.05 source pixels,
    as average does everywhere. A pixel is valid if its centre lies in the source and the valid weights under
    it reach a half; its value is the valid ones' weighted mean. Raises ValueError for another method.
    """
    if method not in get_args(Resampling):
        raise ValueError(f"resampling {method!r} is none of {', '.join(get_args(Resampling))}")
    if alignment.identical:
        values, valid = read(window)
        return np.where(valid, values, np.float32(0)), np.array(valid)
    if alignment.shift is not None:
        return shifted(alignment, window, read, channels)
    kernel = _Kernel(alignment, method)
    parts = [
        (part, kernel.gathered(rows, columns, under, *read(under)))
        for part, rows, columns, under in _parts(kernel, window)
    ]
    if len(parts) == 1 and parts[0][0] == window:
        return parts[0][1]
    if parts:
        channels = len(parts[0][1][0])
    out, out_valid = nothing(window, read, channels)
    for part, (values, valid) in parts:
        at = part.relative_to(window).slices
        out[:, *at], out_valid[at] = values, valid
    return out, out_valid


def shifted(
    alignment: Alignment | VolumeAlignment, window: Window, read: Read, channels: int | None
) -> tuple[Pixels, Mask]:
    """A window of a source on the same lattice of pixels: what every kernel gives at whole pixels."""
    assert alignment.shift is not None
    start = tuple(n + by for n, by in zip(window.start, alignment.shift, strict=True))
    stop = tuple(n + by for n, by in zip(window.stop, alignment.shift, strict=True))
    asked = Window(start, stop)
    under = asked.intersection(Window.whole(alignment.source.shape))
    if under is None:
        return nothing(window, read, channels)
    values, valid = read(under)
    values = np.where(valid, values, np.float32(0))
    if under == asked:
        return values, np.array(valid)
    out, out_valid = nothing(window, read, len(values))
    at = under.relative_to(asked).slices
    out[:, *at], out_valid[at] = values, valid
    return out, out_valid


def nothing(window: Window, read: Read, channels: int | None) -> tuple[Pixels, Mask]:
    """A window where no pixel is valid."""
    if channels is None:
        axes = len(window.shape)
        channels = len(read(Window((0,) * axes, (1,) * axes))[0])
    return np.zeros((channels, *window.shape), np.float32), np.zeros(window.shape, np.bool_)


def _parts(kernel: _Kernel, window: Window) -> Iterator[tuple[Window, FloatArray, FloatArray, Window]]:
    """The window in parts that fit in memory, with their coordinates and the source window under each."""
    if window.size <= OUTPUT:
        rows, columns = kernel.alignment.coordinates(window)
        under = kernel.under(rows, columns)
        if under is None:
            return
        if under.size <= INPUT or window.size == 1:
            yield window, rows, columns, under
            return
    for half in halves(window):
        yield from _parts(kernel, half)


def halves(window: Window) -> tuple[Window, Window]:
    """A window cut across its longest axis, the last of equals."""
    axis = max(range(len(window.shape)), key=lambda n: (window.shape[n], n))
    middle = window.start[axis] + window.shape[axis] // 2
    first_stop, second_start = list(window.stop), list(window.start)
    first_stop[axis] = second_start[axis] = middle
    return Window(window.start, tuple(first_stop)), Window(tuple(second_start), window.stop)


class _Kernel:
    """One way of resampling, for one alignment."""

    def __init__(self, alignment: Alignment, method: str) -> None:
        sy, sx = alignment.footprint
        finer = method != "nearest" and max(sy, sx) > FINER
        self.alignment = alignment
        self.shape = alignment.source.shape
        self.method = "average" if finer else method
        self.size = (max(1.0, sy), max(1.0, sx))

    def under(self, rows: FloatArray, columns: FloatArray) -> Window | None:
        """The source pixels the kernel touches at these coordinates, None where none lies in the source."""
        from batchfuse.imagery import kernels

        low_row, high_row, low_column, high_column = kernels.bounds(rows, columns, *self.shape)
        if low_row > high_row:
            return None
        rows_low, rows_high = self._reach(0)
        columns_low, columns_high = self._reach(1)
        start = floor(low_row - rows_low), floor(low_column - columns_low)
        stop = floor(high_row + rows_high) + 1, floor(high_column + columns_high) + 1
        return Window(start, stop).intersection(Window.whole(self.shape))

    def _reach(self, axis: int) -> tuple[float, float]:
        """How far before and after a coordinate the kernel takes pixels."""
        if self.method == "average":
            return self.size[axis] / 2 - 0.5, self.size[axis] / 2 + 0.5
        return (1, 2) if self.method == "cubic" else (0, 1)

    def gathered(
        self, rows: FloatArray, columns: FloatArray, under: Window, values: Pixels, valid: Mask
    ) -> tuple[Pixels, Mask]:
        """Values (c, y, x) and validity (y, x) at these coordinates, from the window ``under`` them."""
        from batchfuse.imagery import kernels

        if valid.shape != under.shape or values.shape[1:] != under.shape:
            raise ValueError(f"read {values.shape} and {valid.shape} for a window of {under.shape}")
        out = np.zeros((len(values), *rows.shape), np.float32)
        out_valid = np.zeros(rows.shape, np.bool_)
        if not valid.any():
            return out, out_valid
        start = (under.start[0], under.start[1])
        # numba compiles a kernel anew for every other layout
        values, valid = np.require(values, np.float32, ["C", "W"]), np.require(valid, np.bool_, ["C", "W"])
        source = (values, valid, bool(valid.all()), rows, columns, start, self.shape)
        if self.method == "average":
            kernels.box(*source, self.size, out, out_valid)
        elif self.method == "nearest":
            kernels.nearest(*source, out, out_valid)
        else:
            if self.method == "cubic":
                kernels.cubic(*source, out, out_valid)
            kernels.bilinear(*source, out, out_valid)
        return out, out_valid
