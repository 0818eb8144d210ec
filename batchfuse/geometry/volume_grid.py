"""Where the voxels of a volume lie in the world, and which way its axes run."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from batchfuse.geometry.window import Window

__all__ = ["VolumeGrid", "millimetres"]

Rows = tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class VolumeGrid:
    """Shape and affine of a volume.

    Arrays are (z, y, x), NIfTI's own order in memory: the last axis is the file's first, i. The world is
    NIfTI's: millimetres towards the patient's right, anterior and superior (RAS+).
    """

    shape: tuple[int, int, int]
    """Voxels along (z, y, x), which are NIfTI's (k, j, i)."""
    rows: Rows
    """The upper three rows of the affine from (i, j, k), voxel **centres** at whole numbers, to world mm."""
    placed: bool = True
    """Whether the header says where in the world; else the affine is of spacing alone, around the middle."""

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"a volume needs three axes of voxels, not {self.shape}")
        if np.shape(self.rows) != (3, 4) or not np.isfinite(self.rows).all():
            raise ValueError(f"the affine {self.rows} is not three rows of four finite numbers")
        if not abs(np.linalg.det(self.affine[:3, :3])) > 0:
            raise ValueError(f"the affine {self.rows} has no volume")

    @classmethod
    def of(cls, shape: tuple[int, ...], affine: NDArray[np.floating], placed: bool = True) -> VolumeGrid:
        """The grid of an array (z, y, x) with a 4 x 4 affine as nibabel has it."""
        z, y, x = (int(n) for n in shape)
        first, second, third = (
            (float(i), float(j), float(k), float(c)) for i, j, k, c in np.asarray(affine)[:3]
        )
        return cls((z, y, x), (first, second, third), placed)

    @cached_property
    def affine(self) -> NDArray[np.float64]:
        """The 4 x 4 affine from (i, j, k) to world (x, y, z) in mm."""
        return np.array([*self.rows, (0.0, 0.0, 0.0, 1.0)])

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Size of a voxel along (z, y, x) in mm."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(k), float(j), float(i)

    @cached_property
    def axes(self) -> tuple[tuple[int, bool], tuple[int, bool], tuple[int, bool]]:
        """For right, anterior and superior: which axis of (z, y, x) runs that way, and whether towards it.

        Of an oblique volume the nearest ones, each taken once (the best sum of cosines).
        """
        cosines = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        best = max(
            itertools.permutations(range(3)), key=lambda p: sum(abs(cosines[w, p[w]]) for w in range(3))
        )
        found = [(2 - voxel, bool(cosines[world, voxel] > 0)) for world, voxel in enumerate(best)]
        return found[0], found[1], found[2]

    @property
    def orientation(self) -> str:
        """Letters of the directions that NIfTI's axes i, j, k run to, such as RAS."""
        letters = [""] * 3
        for (axis, towards), pair in zip(self.axes, ("RL", "AP", "SI"), strict=True):
            letters[2 - axis] = pair[0 if towards else 1]
        return "".join(letters)

    def cropped(self, window: Window) -> VolumeGrid:
        """The grid of the voxels of a window (z, y, x) of this one's lattice, which may reach beyond it."""
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ np.array(window.start[::-1], float)
        return VolumeGrid.of(window.shape, affine, self.placed)

    def corners(self) -> NDArray[np.float64]:
        """World positions of the eight outer corners (of voxels, not of their centres), (8, 3)."""
        ends = [(-0.5, n - 0.5) for n in self.shape[::-1]]
        places = np.array(list(itertools.product(*ends)))
        return np.asarray(places @ self.affine[:3, :3].T + self.affine[:3, 3])


def millimetres(units: int) -> float:
    """In one of NIfTI's spatial units, by the code of a header's xyzt_units; an unknown one counts as mm."""
    return {1: 1000.0, 2: 1.0, 3: 0.001}.get(units % 8, 1.0)
