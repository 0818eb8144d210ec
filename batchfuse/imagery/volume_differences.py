"""How the grid of a volume differs from the reference's, in sentences for people."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.imagery.volume_overlap import FloatArray, voxels_to_voxels

__all__ = ["volume_differences"]

NOISE = 1e-4  # voxels: shifts below it come from the rounding of headers
FINER = 1.05  # source voxels under one of the reference: more, and some are skipped
TURNED = 0.01  # degrees
WAYS = (("right", "left"), ("anterior", "posterior"), ("superior", "inferior"))


def volume_differences(
    reference: VolumeGrid, source: VolumeGrid, coverage: float, area: str = "the reference"
) -> list[str]:
    """One sentence for each way in which they differ; ``coverage`` is the share of ``area`` covered.

    Sizes are told in the order left-right, posterior-anterior, inferior-superior.
    """
    if not (reference.placed and source.placed):
        return []
    told = []
    sizes = _spacing(reference), _spacing(source)
    if _in_words(sizes[1]) != _in_words(sizes[0]):
        told.append(f"{_in_words(sizes[1])} voxels instead of {_in_words(sizes[0])}")
    if source.orientation != reference.orientation:
        told.append(f"stored {source.orientation} instead of {reference.orientation}")
    angle = _angle(reference, source)
    if angle > TURNED:
        told.append(f"its axes are turned by up to {angle:.3g}°")
    else:
        told += _shift(reference, source)
    if coverage < 1 - 1e-9:
        percent = math.floor(100 * coverage + 1e-6)  # cut, not rounded: 99.9 % is not all of it
        told.append(f"covers {percent or 'less than 1'} % of {area}")
    way = voxels_to_voxels(reference, source)
    if np.linalg.norm(way[:, :3], axis=1).max() > FINER:
        told.append(
            "its voxels are finer: bilinear and cubic resampling skip some, `resampling: average` takes "
            "the mean of all"
        )
    return told


def _spacing(grid: VolumeGrid) -> list[float]:
    """Size of a voxel along the axes that run right, anterior and superior."""
    return [grid.spacing[axis] for axis, _ in grid.axes]


def _in_words(spacing: list[float]) -> str:
    same = max(spacing) - min(spacing) <= 1e-6 * max(spacing)
    return (f"{spacing[0]:.4g}" if same else " x ".join(f"{size:.4g}" for size in spacing)) + " mm"


def _angle(reference: VolumeGrid, source: VolumeGrid) -> float:
    """The largest angle between axes that run the same way in the body, in degrees."""
    cosines = [np.dot(one, two) for one, two in zip(_directions(reference), _directions(source), strict=True)]
    return math.degrees(math.acos(max(-1.0, min(1.0, min(cosines)))))


def _directions(grid: VolumeGrid) -> list[FloatArray]:
    """Unit vectors along the axes that run right, anterior and superior."""
    columns = grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)
    return [columns[:, 2 - axis] * (1 if towards else -1) for axis, towards in grid.axes]


def _shift(reference: VolumeGrid, source: VolumeGrid) -> list[str]:
    """How far the source's left, posterior, inferior corner is from the reference's, along its axes."""
    back = voxels_to_voxels(source, reference)
    corners = np.array([(*c, 1.0) for c in itertools.product(*((-0.5, n - 0.5) for n in source.shape))])
    places = corners @ back.T
    ways = []
    for (axis, towards), (there, back_there) in zip(reference.axes, WAYS, strict=True):
        low, high = places[:, axis].min(), places[:, axis].max()
        voxels = float(low + 0.5 if towards else reference.shape[axis] - 0.5 - high)
        if abs(voxels) >= NOISE:
            length = abs(voxels) * reference.spacing[axis]
            ways.append((f"{length:.4g} mm {there if voxels > 0 else back_there}", f"{abs(voxels):.4g}"))
    if not ways:
        return []
    lengths, counts = (_listed(column) for column in zip(*ways, strict=True))
    return [f"begins {lengths} of the reference ({counts} voxels)"]


def _listed(words: Sequence[str]) -> str:
    """A, b and c."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
