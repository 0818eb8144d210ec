"""The three cuts of a volume: the same anatomy whatever the file's axes, left and right by the header."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from batchfuse.cuts import chosen_voxel, draw_cuts, slice_of
from batchfuse.geometry.planes import PLANES, Plane, PlaneName
from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.imagery.scaling import Scaling
from batchfuse.job import Job
from batchfuse.report.cuts import Cut, CutPanel, write_cuts
from batchfuse.report.page import Legend

EMPTY = 0  # alpha of an invalid voxel
MM = np.array((2.0, 3.0, 5.0))  # voxels of the anatomy towards right, anterior, superior
SHAPE = (7, 6, 5)  # of the anatomy, along right, anterior, superior


def anatomy() -> NDArray[np.float64]:
    """A volume of different values, (right, anterior, superior)."""
    return np.random.default_rng(3).permutation(np.prod(SHAPE)).reshape(SHAPE).astype(float)


def stored(order: tuple[int, ...], signs: tuple[int, ...]) -> tuple[NDArray[np.float64], VolumeGrid]:
    """The anatomy as a file with other axes has it, (z, y, x), and its grid."""
    values, affine = anatomy(), np.diag([*MM, 1.0])
    affine[:3, 3] = -30, 20, 40
    turned = values.transpose(order)[tuple(slice(None, None, sign) for sign in signs)]
    way = np.zeros((4, 4))
    way[3, 3] = 1
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        way[world, axis] = sign
        way[world, 3] = SHAPE[world] - 1 if sign < 0 else 0
    return turned.T, VolumeGrid.of(turned.shape[::-1], affine @ way)


ORIENTATIONS = [
    (order, signs)
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def cuts_of(
    values: NDArray[Any], grid: VolumeGrid, voxel: tuple[int, int, int]
) -> dict[PlaneName, NDArray[Any]]:
    return {
        plane: Plane.of(grid, plane).slices(values[slice_of(grid, plane, voxel).slices])[0]
        for plane in PLANES
    }


def voxel_at(grid: VolumeGrid, world: NDArray[np.float64]) -> tuple[int, int, int]:
    i, j, k = np.rint(np.linalg.solve(grid.affine, [*world, 1])[:3]).astype(int)
    return int(k), int(j), int(i)


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_the_same_anatomy_is_shown_alike_in_every_orientation(
    order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    values, grid = stored(order, signs)
    at = np.array((-30, 20, 40)) + MM * (2, 4, 1)
    voxel = voxel_at(grid, at)
    found, ras = cuts_of(values, grid, voxel), anatomy()
    assert values[voxel] == ras[2, 4, 1]
    # from the definition: (right, anterior, superior) turned so that rows and columns begin at A or S, R or A
    assert np.array_equal(found["axial"], ras[::-1, ::-1, 1].T)
    assert np.array_equal(found["coronal"], ras[::-1, 4, ::-1].T)
    assert np.array_equal(found["sagittal"], ras[2, ::-1, ::-1].T)


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_what_lies_at_the_patients_left_is_on_the_right(
    order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    values, grid = stored(order, signs)
    values = np.zeros_like(values)
    middle = grid.corners().mean(0)
    voxel = voxel_at(grid, middle)
    left, front = voxel_at(grid, middle - np.array((4, 0, 0))), voxel_at(grid, middle + np.array((0, 6, 0)))
    values[left], values[front] = 1, 2
    found = cuts_of(values, grid, voxel)
    for plane in ("axial", "coronal"):
        assert np.argwhere(found[plane] == 1)[0, 1] > found[plane].shape[1] / 2
    assert np.argwhere(found["axial"] == 2)[0, 0] < found["axial"].shape[0] / 2
    assert np.argwhere(found["sagittal"] == 2)[0, 1] < found["sagittal"].shape[1] / 2


def test_a_cut_is_one_slice_of_the_axis_across_the_plane() -> None:
    grid = VolumeGrid.of((4, 5, 6), np.diag([-1.0, 1, 1, 1]))
    assert [Plane.of(grid, plane).axis for plane in PLANES] == [0, 1, 2]
    assert slice_of(grid, "coronal", (1, 2, 3)).slices == (slice(0, 4), slice(2, 3), slice(0, 6))


def test_the_cuts_go_through_the_middle_of_what_all_sources_cover() -> None:
    grid = VolumeGrid.of((11, 21, 31), np.eye(4))
    assert chosen_voxel(grid) == (5, 10, 15)
    half = np.diag([2.0, 2, 2, 1])
    half[:3, 3] = 20.5, 0, -100
    assert chosen_voxel(grid, [VolumeGrid.of((60, 11, 6), half)]) == (5, 10, 25)
    apart = np.eye(4)
    apart[0, 3] = 500
    assert chosen_voxel(grid, [VolumeGrid.of((5, 5, 5), apart)]) == (5, 10, 15)
    assert chosen_voxel(VolumeGrid.of((1, 1, 1), np.eye(4))) == (0, 0, 0)
    assert chosen_voxel(VolumeGrid.of((2, 2, 2), np.eye(4))) == (1, 1, 1)


# --- the sheet ----------------------------------------------------------------------------------


def legend(title: str = "t1", **more: Any) -> Legend:
    return Legend(
        title, ("a.nii.gz", "5 x 5 x 5 voxels"), "values 0 to 1", 0.0, 1.0, "", **{"heat": False} | more
    )


def panel(*shapes: tuple[int, int], spacing: tuple[float, float] = (1, 1), **more: Any) -> CutPanel:
    images = [np.linspace(0, 1, rows * columns).reshape(rows, columns) for rows, columns in shapes]
    cuts = [
        Cut(name, image, spacing, edges, (image.shape[0] // 2, image.shape[1] // 2))
        for name, image, edges in zip(PLANES, images, ("APRL", "SIRL", "SIAP"), strict=True)
    ]
    return CutPanel(tuple(cuts), legend(**more))


def drawn(folder: Path, *panels: CutPanel) -> NDArray[np.uint8]:
    write_cuts(panels, ("scene", "5 x 5 x 5 voxels"), "", folder / "a.png")
    assert [path.name for path in folder.iterdir()] == ["a.png"]
    with Image.open(folder / "a.png") as file:
        return np.asarray(file)


def boxes(sheet: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Rows and columns of each stretch of transparent pixels, from above."""
    rows = (sheet[..., 3] == EMPTY).any(1)
    edges = np.flatnonzero(np.diff(np.r_[False, rows, False].astype(int)))
    for top, bottom in edges.reshape(-1, 2):
        columns = np.flatnonzero((sheet[top:bottom, :, 3] == EMPTY).any(0))
        yield int(bottom - top), int(columns[-1] - columns[0] + 1)


def test_cuts_are_true_to_millimetres_and_of_one_scale(tmp_path: Path) -> None:
    empty = panel((40, 30), (20, 30), (20, 40), spacing=(3.0, 1.5))
    cuts = tuple(Cut(c.plane, c.image * np.nan, c.spacing, c.edges, c.cross) for c in empty.cuts)
    found = list(boxes(drawn(tmp_path, CutPanel(cuts, empty.legend))))
    scale = found[0][0] / 120
    for (rows, columns), (down, across) in zip(found, ((120, 45), (60, 45), (60, 60)), strict=True):
        assert abs(rows - down * scale) <= 1
        assert abs(columns - across * scale) <= 1


def test_invalid_voxels_are_transparent_and_lines_do_not_fill_them(tmp_path: Path) -> None:
    one = panel((50, 50), (50, 50), (50, 50))
    for cut in one.cuts:
        cut.image[:10] = np.nan
    sheet = drawn(tmp_path, one, panel((50, 50), (50, 50), (50, 50), title="pet", heat=True))
    assert set(np.unique(sheet[..., 3])) == {EMPTY, 255}
    assert len(list(boxes(sheet))) == 3


@pytest.mark.parametrize(
    "shapes",
    [
        ((1, 1), (1, 1), (1, 1)),
        ((1, 900), (3, 900), (3, 1)),
        ((900, 1), (600, 1), (600, 900)),
        ((5, 4), (4, 4), (4, 5)),
        ((1500, 1600), (700, 1600), (700, 1500)),
    ],
)
@pytest.mark.parametrize("count", [3, 9])
def test_a_sheet_of_any_volume_is_of_a_size_that_people_can_look_at(
    tmp_path: Path, shapes: tuple[tuple[int, int], ...], count: int
) -> None:
    sheet = drawn(tmp_path, *[panel(*shapes, title=f"t{n}") for n in range(count)])
    assert 600 <= sheet.shape[1] <= 2400
    assert 200 <= sheet.shape[0] <= 1700 * (1 + count // 7)


def test_a_volume_without_any_valid_voxel_still_gives_a_picture(tmp_path: Path) -> None:
    one = panel((9, 9), (9, 9), (9, 9))
    for cut in one.cuts:
        cut.image[:] = np.nan
    assert (drawn(tmp_path, one, panel((9, 9), (9, 9), (9, 9), like=0))[..., 3] == EMPTY).any()


def test_the_picture_of_a_scene_has_a_column_a_volume_and_says_where_it_is(tmp_path: Path) -> None:
    affine = np.diag([-1.0, 1, 2, 1])
    affine[:3, :3] = affine[:3, :3] @ [[0.98, 0.2, 0], [-0.2, 0.98, 0], [0, 0, 1]]
    grid = VolumeGrid.of((20, 30, 40), affine)
    role = {"units": None, "files": [SimpleNamespace(path=Path("a.nii.gz"))], "place": grid}
    sources = [SimpleNamespace(role=name, **role) for name in ("pet", "t1")]
    scene = SimpleNamespace(name="head", sources=sources, reference=1, grid=grid)
    job = cast("Job", SimpleNamespace(scene=scene, store=Path("head.zarr"), units="reference"))
    scaling = cast("Scaling", SimpleNamespace(low=-5.0, high=5.0, minimum=-5.0, maximum=7.0))
    values, voxel = np.random.default_rng(1).random(grid.shape), chosen_voxel(grid)
    cuts = {plane: values[slice_of(grid, plane, voxel).slices] for plane in PLANES}
    draw_cuts(job, grid, [scaling, scaling], [cuts] * 3, voxel, tmp_path / "new" / "head.quicklook.png")
    with Image.open(tmp_path / "new" / "head.quicklook.png") as file:
        sheet = np.asarray(file).astype(int)
    coloured = sheet[..., :3].max(-1) - sheet[..., :3].min(-1) > 80
    assert 0.1 < coloured.mean() < 0.33  # pet in the colours of heat, t1 and what is fused in gray
    third = sheet.shape[1] // 3
    assert coloured[:, :third].mean() > 20 * coloured[:, third + 20 :].mean()
