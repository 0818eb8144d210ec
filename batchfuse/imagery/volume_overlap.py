"""What volumes have in common, and what any of them covers: boxes of voxels on one lattice.

All places are voxels (z, y, x) of that lattice, whole numbers at their centres.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.geometry.window import Window

__all__ = ["box_around", "box_in_common", "share", "voxels_to_voxels"]

TOUCHING = 1e-6  # voxels: what overlaps by less only touches
SLIVER = 1e-3  # voxels: what reaches less far into a voxel does not ask for it
SAMPLES = 32  # points along each axis by which an oblique overlap is measured
FloatArray = NDArray[np.float64]


def voxels_to_voxels(reference: VolumeGrid, source: VolumeGrid) -> FloatArray:
    """(3, 4): from (z, y, x, 1) of the reference to (z, y, x) of the source, through the world."""
    way = np.linalg.solve(source.affine, reference.affine)[:3]
    return np.concatenate([way[::-1, 2::-1], way[::-1, 3:]], axis=1)


def box_in_common(reference: VolumeGrid, sources: Sequence[VolumeGrid]) -> Window | None:
    """The smallest box of the reference's voxels around what it and all sources show, None if nothing.

    The outline of oblique sources is followed exactly: what they share is a polytope, and the box is that of
    its corners.
    """
    ways = [np.eye(3, 4), *(voxels_to_voxels(reference, source) for source in sources)]
    shapes = [reference.shape, *(source.shape for source in sources)]
    # a face a row: within where normal · place <= bound
    normals = np.concatenate([sign * way[:, :3] for way in ways for sign in (1, -1)])
    bounds = np.concatenate(
        [
            bound
            for way, shape in zip(ways, shapes, strict=True)
            for bound in (np.array(shape) - 0.5 - way[:, 3], 0.5 + way[:, 3])
        ]
    )
    length = np.linalg.norm(normals, axis=1)
    normals, bounds = normals / length[:, None], bounds / length
    threes = np.array(list(itertools.combinations(range(len(bounds)), 3)))
    threes = threes[np.abs(np.linalg.det(normals[threes])) > 1e-9]
    corners = np.linalg.solve(normals[threes], bounds[threes][..., None])[..., 0]
    corners = corners[(corners @ normals.T <= bounds + TOUCHING).all(axis=1)]
    if not len(corners) or not np.ptp(corners, axis=0).min() > 2 * TOUCHING:
        return None
    return _box(corners).intersection(Window.whole(reference.shape))


def box_around(reference: VolumeGrid, sources: Sequence[VolumeGrid]) -> Window:
    """The smallest box of the lattice's voxels that holds all sources; it may reach beyond the reference."""
    corners = []
    for source in sources:
        back = voxels_to_voxels(source, reference)
        ends = np.array([(*c, 1.0) for c in itertools.product(*((-0.5, n - 0.5) for n in source.shape))])
        corners.append(ends @ back.T)
    return _box(np.concatenate(corners))


def share(reference: VolumeGrid, source: VolumeGrid, way: FloatArray) -> float:
    """Which share of the reference lies in the source, 0..1; exact where their axes are parallel."""
    main = np.abs(way[:, :3]).argmax(axis=1)
    rest = np.abs(way[:, :3]).sum(axis=1) - np.abs(way[range(3), main])
    if len(set(main)) == 3 and (rest * max(reference.shape) < SLIVER).all():
        covered = 1.0
        for axis, along in enumerate(main):
            ends = way[axis, along] * np.array([-0.5, reference.shape[along] - 0.5]) + way[axis, 3]
            low, high = max(ends.min(), -0.5), min(ends.max(), source.shape[axis] - 0.5)
            covered *= max(0.0, high - low) / float(np.ptp(ends))
        return float(covered)
    points = [(np.arange(SAMPLES) + 0.5) / SAMPLES * n - 0.5 for n in reference.shape]
    places = np.stack([*np.meshgrid(*points, indexing="ij"), np.ones((SAMPLES,) * 3)]).reshape(4, -1)
    inside = way @ places
    upper = np.array(source.shape)[:, None] - 0.5
    return float(((inside >= -0.5) & (inside < upper)).all(axis=0).mean())


def _box(places: FloatArray) -> Window:
    """The voxels that places (n, 3) reach into."""
    start = np.floor(places.min(axis=0) + 0.5 + SLIVER).astype(int)
    stop = np.ceil(places.max(axis=0) + 0.5 - SLIVER).astype(int)
    return Window(tuple(map(int, start)), tuple(map(int, np.maximum(stop, start + 1))))
