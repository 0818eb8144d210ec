"""The three cuts of a volume that people look at, and the quicklook made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from batchfuse.geometry.planes import PLANES, Plane, PlaneName
from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.geometry.window import Window
from batchfuse.imagery.scaling import Scaling
from batchfuse.job import Job
from batchfuse.picture import fused_legend, legend_of, size_of
from batchfuse.report.cuts import Cut, CutPanel, write_cuts

__all__ = ["chosen_voxel", "draw_cuts", "slice_of"]

EDGES: Mapping[PlaneName, str] = MappingProxyType({"axial": "APRL", "coronal": "SIRL", "sagittal": "SIAP"})
"""What lies at the top, bottom, left and right of a slice of ``Plane``: the radiological convention."""
SQUARE = 0.5
"""Degrees by which a volume's axes may be off the patient's without a word."""


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


def slice_of(grid: VolumeGrid, plane: PlaneName, voxel: tuple[int, int, int]) -> Window:
    """The slice of a plane through a voxel (z, y, x): all of the grid but one voxel thick."""
    axis = Plane.of(grid, plane).axis
    start, stop = [0, 0, 0], list(grid.shape)
    start[axis], stop[axis] = voxel[axis], voxel[axis] + 1
    return Window(tuple(start), tuple(stop))


def draw_cuts(
    job: Job,
    grid: VolumeGrid,
    scalings: Sequence[Scaling],
    images: Sequence[Mapping[PlaneName, NDArray[np.floating]]],
    voxel: tuple[int, int, int],
    path: Path,
) -> None:
    """Writes the picture of a scene of volumes, a PNG.

    Args:
        job: what was fused.
        grid: the scene's grid.
        scalings: of each source.
        images: of each source and, last, of the fused volume: its slice of each plane through the voxel,
            (z, y, x) and one voxel thick as ``slice_of`` says, scaled values, NaN where invalid.
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


def _cut(values: NDArray[np.floating], grid: VolumeGrid, name: PlaneName, voxel: tuple[int, int, int]) -> Cut:
    plane = Plane.of(grid, name)
    place = Window(voxel, tuple(n + 1 for n in voxel))
    row, column = plane.window(place, grid.shape).start
    return Cut(
        plane=name,
        image=plane.slices(values)[0].astype(np.float64),
        spacing=(grid.spacing[plane.rows], grid.spacing[plane.columns]),
        edges=EDGES[name],
        cross=(row, column),
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
