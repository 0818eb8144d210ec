"""Slices of a volume: the same anatomy is the same image, in whatever order a file keeps it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from batchfuse.geometry.planes import PLANES, Plane, PlaneName
from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.geometry.window import Window

nibabel = pytest.importorskip("nibabel")

# R, A, S: 5 x 6 x 7 voxels
ANATOMY = np.arange(5 * 6 * 7).reshape(5, 6, 7)
AFFINE = np.array([[2.0, 0, 0, -10], [0, 3.0, 0, -20], [0, 0, 4.0, -30], [0, 0, 0, 1]])
ORIENTATIONS = [
    "".join(letters)
    for order in itertools.permutations(("RL", "AP", "SI"))
    for letters in itertools.product(*order)
]


def stored(orientation: str) -> tuple[NDArray[Any], VolumeGrid]:
    """The anatomy as a file of this orientation keeps it, (z, y, x), with its grid."""
    image = nibabel.Nifti1Image(ANATOMY.astype(np.int16), AFFINE)
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(AFFINE), nibabel.orientations.axcodes2ornt(orientation)
    )
    turned = image.as_reoriented(turn)
    assert "".join(nibabel.aff2axcodes(turned.affine)) == orientation
    array = np.asarray(turned.dataobj).T
    return array, VolumeGrid.of(array.shape, turned.affine)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_grid_knows_its_orientation(orientation: str) -> None:
    _, grid = stored(orientation)
    assert grid.orientation == orientation


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_slices_are_seen_as_radiologists_see_them(orientation: str, plane: PlaneName) -> None:
    volume, grid = stored(orientation)
    found = Plane.of(grid, plane).slices(volume)
    from_right, from_anterior, from_superior = (np.flip(ANATOMY, axis) for axis in range(3))
    expected = {
        "axial": np.flip(from_right, 1).transpose(2, 1, 0),
        "coronal": np.flip(from_superior, 0).transpose(1, 2, 0),
        "sagittal": np.flip(from_anterior, 2).transpose(0, 2, 1),
    }[plane]
    # slices follow each other in the file's order
    if not np.array_equal(found[0], expected[0]):
        found = found[::-1]
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("orientation", ["RAS", "LPS", "AIL", "PSR", "SLA"])
def test_slices_go_back_to_where_they_were_cut_out(orientation: str, plane: PlaneName) -> None:
    volume, grid = stored(orientation)
    seen = Plane.of(grid, plane)
    stack = np.stack([volume, volume + 1000])
    assert np.array_equal(seen.volume(seen.slices(stack)), stack)
    assert np.array_equal(seen.volume(seen.slices(volume)), volume)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("orientation", ORIENTATIONS[::7])
def test_a_window_is_the_same_voxels_in_the_slices(orientation: str, plane: PlaneName) -> None:
    volume, grid = stored(orientation)
    seen = Plane.of(grid, plane)
    window = Window((1, 2, 0), (4, 4, 3))
    start, stop = list(window.start), list(window.stop)
    start[seen.axis], stop[seen.axis] = 0, volume.shape[seen.axis]
    part = volume[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
    found = seen.slices(volume)[(slice(None), *seen.window(window, volume.shape).slices)]
    assert np.array_equal(found, seen.slices(part))


def test_an_oblique_volume_has_the_nearest_planes() -> None:
    turn = np.deg2rad(20)
    affine = np.array(
        [
            [0, 0, 2.0, 0],
            [-np.cos(turn), np.sin(turn), 0, 0],
            [-np.sin(turn), -np.cos(turn), 0, 0],
            [0, 0, 0, 1],
        ]
    )
    grid = VolumeGrid.of((4, 5, 6), affine)
    assert grid.orientation == "PIR" == "".join(nibabel.aff2axcodes(affine))
    assert [Plane.of(grid, plane).axis for plane in PLANES] == [1, 2, 0]
