"""The three cuts of a volume that people look at, and the quicklook made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.geometry.window import Window
from batchfuse.imagery.scaling import Scaling
from batchfuse.picture import fused_legend, legend_of, size_of
from batchfuse.plan import Job
from batchfuse.report.cuts import Cut, CutPanel, write_cuts

__all__ = ["PLANES", "Plane", "chosen_voxel", "cut_window", "display_cut", "draw_cuts", "slice_axis"]

Plane = Literal["axial", "coronal", "sagittal"]
RIGHT, ANTERIOR, SUPERIOR = range(3)
PLANES: Mapping[Plane, tuple[int, int, int]] = MappingProxyType(
    {
        "axial": (SUPERIOR, ANTERIOR, RIGHT),
        "coronal": (ANTERIOR, SUPERIOR, RIGHT),
        "sagittal": (RIGHT, SUPERIOR, ANTERIOR),
    }
)
"""Of each plane the direction across it, and those that its rows and columns begin at: radiological, the
patient's right at the left of the picture."""
DIRECTIONS, OPPOSITE = "RAS", {"R": "L", "A": "P", "S": "I"}
SQUARE = 0.5
"""Degrees by which a volume's axes may be off the patient's without a word."""


def slice_axis(grid: VolumeGrid, plane: Plane) -> int:
    """Which axis of (z, y, x) runs across a plane: the slices of the plane lie along it."""
    return grid.axes[PLANES[plane][0]][0]


def chosen_voxel(grid: VolumeGrid, sources: Sequence[VolumeGrid] = ()) -> tuple[int, int, int]:
    """The voxel (z, y, x) that the cuts go through: the middle of what the grid and all sources cover.

    By their headers alone; the grid's own middle where they have nothing in common.
    """
    low, high = np.zeros(3), np.array(grid.shape, float) - 1
    inverse = np.linalg.inv(grid.affine)
    for source in sources:
        corners = (source.corners() @ inverse[:3, :3].T + inverse[:3, 3])[:, ::-1]
        low, high = np.maximum(low, corners.min(0)), np.minimum(high, corners.max(0))
    if (low > high).any():
        low, high = np.zeros(3), np.array(grid.shape, float) - 1
    z, y, x = (int(place) for place in np.floor((low + high) / 2 + 0.5 + 1e-6))
    return min(z, grid.shape[0] - 1), min(y, grid.shape[1] - 1), min(x, grid.shape[2] - 1)


def cut_window(grid: VolumeGrid, plane: Plane, voxel: tuple[int, int, int]) -> Window:
    """The slice of a plane through a voxel (z, y, x): all of the grid but one voxel thick."""
    axis = slice_axis(grid, plane)
    start, stop = [0, 0, 0], list(grid.shape)
    start[axis], stop[axis] = voxel[axis], voxel[axis] + 1
    return Window(tuple(start), tuple(stop))


def display_cut(values: NDArray[Any], grid: VolumeGrid, plane: Plane) -> NDArray[Any]:
    """A slice (z, y, x), one voxel thick, as it is looked at: (row, column).

    Axial: rows from anterior to posterior, columns from the patient's right to the left. Coronal: rows from
    superior to inferior, columns from right to left. Sagittal: rows from superior to inferior, columns from
    anterior to posterior. Of an oblique volume the nearest axes count.
    """
    across, *sides = (grid.axes[direction] for direction in PLANES[plane])
    flat = values.squeeze(across[0])
    rows, columns = sides
    if rows[0] > columns[0]:
        flat = flat.T
    return flat[:: -1 if rows[1] else 1, :: -1 if columns[1] else 1]


def draw_cuts(
    job: Job,
    grid: VolumeGrid,
    scalings: Sequence[Scaling],
    images: Sequence[Mapping[Plane, NDArray[np.floating]]],
    voxel: tuple[int, int, int],
    path: Path,
) -> None:
    """Writes the picture of a scene of volumes, a PNG.

    Args:
        job: what was fused.
        grid: the scene's grid.
        scalings: of each source.
        images: of each source and, last, of the fused volume: its slice of each plane through the voxel,
            (z, y, x) and one voxel thick as ``cut_window`` says, scaled values, NaN where invalid.
        voxel: (z, y, x).
        path: of the picture; folders are made.
    """
    *sources, fused = (
        tuple(_cut(values[plane], grid, plane, voxel) for plane in PLANES) for values in images
    )
    legends = [legend_of(*pair) for pair in zip(job.scene.sources, scalings, strict=True)]
    panels = [CutPanel(*pair) for pair in zip(sources, legends, strict=True)]
    panels.append(CutPanel(fused, fused_legend(job, legends[job.scene.reference])))
    about = f"{size_of(grid)}, axes run to {grid.orientation}{_tilt(grid)}"
    write_cuts(panels, (job.scene.name, about), _place(grid, voxel), path)


def _cut(values: NDArray[np.floating], grid: VolumeGrid, plane: Plane, voxel: tuple[int, int, int]) -> Cut:
    sides = PLANES[plane][1:]
    first = [DIRECTIONS[side] for side in sides]
    (down, across), cross = [grid.axes[side] for side in sides], []
    for axis, towards in (down, across):
        cross.append(grid.shape[axis] - 1 - voxel[axis] if towards else voxel[axis])
    return Cut(
        plane=plane,
        image=display_cut(values, grid, plane).astype(np.float64),
        spacing=(grid.spacing[down[0]], grid.spacing[across[0]]),
        edges="".join(letter + OPPOSITE[letter] for letter in first),
        cross=(cross[0], cross[1]),
    )


def _tilt(grid: VolumeGrid) -> str:
    """By how many degrees the axes are off the patient's, where that can be seen."""
    cosines = grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)
    least = min(abs(cosines[world, 2 - axis]) for world, (axis, _) in enumerate(grid.axes))
    degrees = np.degrees(np.arccos(min(1.0, least)))
    return f", up to {degrees:.0f}° oblique: the cuts follow them" if degrees > SQUARE else ""


def _place(grid: VolumeGrid, voxel: tuple[int, int, int]) -> str:
    """Where the cuts meet, in voxels and in the world."""
    counted = voxel[::-1]
    at = grid.affine[:3, :3] @ counted + grid.affine[:3, 3]
    world = ", ".join(f"{value:.1f}".replace("-0.0", "0.0") for value in at)
    return f"cuts meet at voxel (i, j, k) = {counted}, world (x, y, z) = ({world}) mm"
