"""The anatomical planes of a volume: along which axis its slices lie, and how a slice is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.geometry.window import Window

__all__ = ["PLANES", "Plane", "PlaneName"]

PlaneName = Literal["axial", "coronal", "sagittal"]
PLANES: tuple[PlaneName, ...] = get_args(PlaneName)

RIGHT, ANTERIOR, SUPERIOR = range(3)
# across which direction the slices follow each other, and where rows and columns run to
WAYS = {
    "axial": (SUPERIOR, (ANTERIOR, False), (RIGHT, False)),
    "coronal": (ANTERIOR, (SUPERIOR, False), (RIGHT, False)),
    "sagittal": (RIGHT, (SUPERIOR, False), (ANTERIOR, False)),
}


@dataclass(frozen=True, slots=True)
class Plane:
    """How slices are cut out of arrays (z, y, x) of a volume, whatever the orientation of its file.

    A slice is seen as radiologists see it: rows run from anterior to posterior (axial) or from superior to
    inferior, columns from the patient's right to the left, or from anterior to posterior (sagittal). The same
    anatomy is the same image to the network in whatever order a file keeps it.
    """

    name: PlaneName
    """axial, coronal or sagittal; of an oblique volume the nearest."""
    axis: int
    """The axis of (z, y, x) along which the slices follow each other."""
    rows: int
    """The axis that a slice's rows follow each other along."""
    columns: int
    """The axis that a slice's columns follow each other along."""
    flipped: tuple[bool, bool]
    """Whether rows and columns run against their axis."""

    @classmethod
    def of(cls, grid: VolumeGrid, name: PlaneName) -> Plane:
        """The plane of a volume."""
        across, *within = WAYS[name]
        (rows, down), (columns, right) = ((grid.axes[way], towards) for way, towards in within)
        flipped = (rows[1] != down, columns[1] != right)
        return cls(name, grid.axes[across][0], rows[0], columns[0], flipped)

    def slices(self, volume: NDArray[Any]) -> NDArray[Any]:
        """A view (…, slice, row, column) of an array (…, z, y, x)."""
        lead = volume.ndim - 3
        order = (*range(lead), lead + self.axis, lead + self.rows, lead + self.columns)
        down, right = (slice(None, None, -1 if flip else 1) for flip in self.flipped)
        return np.transpose(volume, order)[..., down, right]

    def volume(self, slices: NDArray[Any]) -> NDArray[Any]:
        """The inverse of ``slices``."""
        lead = slices.ndim - 3
        down, right = (slice(None, None, -1 if flip else 1) for flip in self.flipped)
        places = [(self.axis, self.rows, self.columns).index(axis) for axis in range(3)]
        return np.transpose(slices[..., down, right], (*range(lead), *(lead + n for n in places)))

    def window(self, window: Window, shape: tuple[int, ...]) -> Window:
        """A window (z, y, x) of an array of ``shape`` as the rows and columns of its slices."""
        start, stop = [], []
        for axis, flip in zip((self.rows, self.columns), self.flipped, strict=True):
            first, last = window.start[axis], window.stop[axis]
            start.append(shape[axis] - last if flip else first)
            stop.append(shape[axis] - first if flip else last)
        return Window(tuple(start), tuple(stop))
