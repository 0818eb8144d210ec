"""Voxels of a volume as they lie on the reference's grid, any window equal to the whole."""

from __future__ import annotations

from collections.abc import Iterator
from math import floor
from typing import Any, get_args

import numpy as np

from batchfuse.geometry.window import Window
from batchfuse.imagery.resample import INPUT, OUTPUT, Mask, Pixels, Read, Resampling, halves, nothing, shifted
from batchfuse.imagery.volume_alignment import VolumeAlignment

__all__ = ["resampled_volume"]

THICK, BLOCK = 2.0, 2**18  # times the voxels that lie under a window; voxels: smaller ones aren't cut for it


def resampled_volume(
    alignment: VolumeAlignment, window: Window, read: Read, method: str, channels: int | None = None
) -> tuple[Pixels, Mask]:
    """A window of the reference's grid: values (c, z, y, x), 0 where invalid, and validity (z, y, x).

    ``read`` gives a window of the source's own voxels: float32 (c, d, h, w) and where they are valid
    (d, h, w); what the invalid ones hold has no effect. It is asked for at most 16 million voxels at once,
    only for what lies under the window; for one where nothing does, unless ``channels`` says how many there
    are.

    nearest takes the voxel under the centre, bilinear the eight around it (trilinear), cubic the 64 around it
    (a = -0.5; trilinear beside invalid voxels), whatever their size; average the mean over
    ``alignment.footprint``. A voxel is valid if its centre lies in the source and the valid weights under it
    reach a half; its value is the valid ones' weighted mean. Where the voxels of both lie on one lattice all
    of them give the source's own values, whichever way its axes run. Raises ValueError for another method.
    """
    if method not in get_args(Resampling):
        raise ValueError(f"resampling {method!r} is none of {', '.join(get_args(Resampling))}")
    if alignment.shift is not None:
        return shifted(alignment, window, read, channels)
    if alignment.is_on_lattice:
        method = "nearest"
    parts = [
        (part, _gathered(alignment, method, part, under, *read(under)))
        for part, under in _parts(alignment, method, window)
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


def _parts(alignment: VolumeAlignment, method: str, window: Window) -> Iterator[tuple[Window, Window]]:
    """The window in parts that fit in memory, with the source window under each that touches the source."""
    if not window.size:
        return
    under = _under(alignment, method, window)
    if under is None:
        return
    # the box under a slab of an oblique volume is far thicker than the slab: that under a block is less so
    wanted = window.size * abs(float(np.linalg.det(np.array(alignment.rows)[:, :3])))
    thick = window.size > BLOCK and under.size > THICK * wanted
    if (window.size <= OUTPUT and under.size <= INPUT and not thick) or window.size == 1:
        yield window, under
        return
    for half in halves(window):
        yield from _parts(alignment, method, half)


def _under(alignment: VolumeAlignment, method: str, window: Window) -> Window | None:
    """The source's voxels that the kernel touches for a window, None where no centre lies in the source."""
    low, high = alignment.extent(window)
    shape = alignment.source.shape
    starts, stops = [], []
    for axis in range(3):
        if low[axis] >= shape[axis] or high[axis] < -1:
            return None
        before, after = _reach(alignment, method, axis)
        starts.append(max(0, floor(low[axis] - before)))
        stops.append(min(shape[axis], floor(max(high[axis], 0.0) + after) + 1))
        # centres beyond the outermost voxel's are carried to it
        starts[axis] = min(starts[axis], shape[axis] - 1)
    return Window(tuple(starts), tuple(stops))


def _reach(alignment: VolumeAlignment, method: str, axis: int) -> tuple[float, float]:
    """How far before and after a place the kernel takes voxels; a little more, for the places' rounding."""
    if method == "average":
        half = max(1.0, alignment.footprint[axis]) / 2
        return half - 0.5 + 1e-6, half + 0.5 + 1e-6
    return (1 + 1e-6, 2 + 1e-6) if method == "cubic" else (1e-6, 1 + 1e-6)


def _gathered(
    alignment: VolumeAlignment, method: str, window: Window, under: Window, values: Pixels, valid: Mask
) -> tuple[Pixels, Mask]:
    """Values (c, z, y, x) and validity (z, y, x) of a window, from the source's voxels ``under`` it."""
    from batchfuse.imagery import volume_kernels as kernels

    if valid.shape != under.shape or values.shape[1:] != under.shape:
        raise ValueError(f"read {values.shape} and {valid.shape} for a window of {under.shape}")
    out = np.zeros((len(values), *window.shape), np.float32)
    out_valid = np.zeros(window.shape, np.bool_)
    if not valid.any():
        return out, out_valid
    # numba compiles a kernel anew for every other layout
    values, valid = np.require(values, np.float32, ["C", "W"]), np.require(valid, np.bool_, ["C", "W"])
    source = (valid, bool(valid.all()), under.start, alignment.source.shape)
    place = (np.array(alignment.rows), window.start)
    for channel, voxels in zip(out, values, strict=True):
        out_valid[...] = False
        target: tuple[Any, ...] = (channel, out_valid)
        if method == "average":
            size = tuple(max(1.0, n) for n in alignment.footprint)
            kernels.average(voxels, *source, *place, size, *target)
        elif method == "nearest":
            kernels.nearest(voxels, *source, *place, *target)
        else:
            if method == "cubic":
                kernels.tricubic(voxels, *source, *place, *target)
            kernels.trilinear(voxels, *source, *place, *target)
    return out, out_valid
