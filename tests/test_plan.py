from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.warp import transform_bounds
from rasters import photo, write_raster

import batchfuse
from batchfuse.budget import memory_of_a_worker
from batchfuse.plan import Plan

FINE = Affine(10, 0, 500_000, 0, -10, 5_600_000)
COARSE = Affine(30, 0, 500_000, 0, -30, 5_600_000)


def plan_of(folder: Path, roles: dict[str, Any], **settings: Any) -> Plan:
    inputs = {role: value if isinstance(value, dict) else f"{role}.tif" for role, value in roles.items()}
    return batchfuse.make_plan(batchfuse.Recipe(inputs=inputs, folder=folder, **settings))


def raster(
    folder: Path, role: str, transform: Affine, bands: int = 1, crs: str | None = "EPSG:32632"
) -> None:
    edge = 90 if transform == FINE else 30
    pixels = np.rint(photo((edge, edge), len(role), bands) * 999 + 1).astype(np.uint16)
    write_raster(folder / f"{role}.tif", pixels, transform=transform, crs=crs)


def test_the_finest_grid_is_the_reference(tmp_path: Path) -> None:
    raster(tmp_path, "fine", FINE)
    raster(tmp_path, "coarse", COARSE, bands=3)
    assert plan_of(tmp_path, {"fine": 0, "coarse": 0}).jobs[0].reference.role == "fine"


def test_pixel_sizes_in_degrees_and_metres_are_compared_on_the_ground(tmp_path: Path) -> None:
    raster(tmp_path, "metres", FINE)
    with rasterio.open(tmp_path / "metres.tif") as dataset:
        left, _, _, top = transform_bounds(dataset.crs, "EPSG:4326", *dataset.bounds)
    degrees = Affine(1e-4, 0, left, 0, -1e-4, top)  # some 11 by 7 m: finer than 10 m
    write_raster(tmp_path / "degrees.tif", np.ones((90, 90), np.uint16), transform=degrees, crs="EPSG:4326")
    assert plan_of(tmp_path, {"metres": 0, "degrees": 0}).jobs[0].reference.role == "degrees"


def test_of_equal_grids_the_colour_source_is_the_reference_else_the_last(tmp_path: Path) -> None:
    for role, bands in (("a", 1), ("b", 3), ("c", 1)):
        raster(tmp_path, role, FINE, bands)
    assert plan_of(tmp_path, {"a": 0, "b": 0, "c": 0}).jobs[0].reference.role == "b"
    assert plan_of(tmp_path, {"a": 0, "c": 0}).jobs[0].reference.role == "c"


def test_the_recipe_names_the_reference(tmp_path: Path) -> None:
    raster(tmp_path, "fine", FINE)
    raster(tmp_path, "coarse", COARSE)
    job = plan_of(tmp_path, {"fine": 0, "coarse": 0}, reference="coarse").jobs[0]
    assert job.reference.role == "coarse"
    assert job.scene.grid.shape == (30, 30)


def test_ground_control_points_serve_as_a_source_and_not_as_the_reference(tmp_path: Path) -> None:
    raster(tmp_path, "fine", FINE)
    points = [
        GroundControlPoint(row, column, 500_000 + 30 * column, 5_600_000 - 30 * row)
        for row in (0, 15, 30)
        for column in (0, 15, 30)
    ]
    path = tmp_path / "points.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=30, height=30, count=1, dtype="uint8", gcps=points, crs="EPSG:32632"
    ) as dataset:
        dataset.write(np.arange(900, dtype=np.uint16).reshape(1, 30, 30).astype(np.uint8))
    job = plan_of(tmp_path, {"points": 0, "fine": 0}).jobs[0]
    assert job.reference.role == "fine"
    failed = plan_of(tmp_path, {"points": 0, "fine": 0}, reference="points").failures[0]
    assert "points.tif has only ground control points" in failed.reason


def test_a_rotated_reference_is_replaced_by_the_north_up_grid_and_told(tmp_path: Path) -> None:
    turned = FINE @ Affine.rotation(20)
    write_raster(tmp_path / "a.tif", np.ones((90, 90), np.uint16), transform=turned)
    raster(tmp_path, "b", COARSE)
    job = plan_of(tmp_path, {"a": 0, "b": 0}).jobs[0]
    assert job.scene.grid.is_axis_aligned
    assert any("rotated" in warning for warning in job.warnings)


def test_a_manifest_that_names_a_missing_file_makes_a_failed_scene(tmp_path: Path) -> None:
    raster(tmp_path, "a", FINE)
    raster(tmp_path, "b", FINE)
    (tmp_path / "pairs.csv").write_text("scene,a,b\none,a.tif,b.tif\ntwo,a.tif,gone.tif\n")
    recipe = batchfuse.Recipe(inputs={"a": {}, "b": {}}, manifest="pairs.csv", folder=tmp_path)
    plan = batchfuse.make_plan(recipe)
    assert [job.scene.name for job in plan.jobs] == ["one"]
    assert [failure.scene for failure in plan.failures] == ["two"]
    assert "gone.tif" in plan.failures[0].reason
    assert batchfuse.run(recipe).exit_code == 1


@pytest.mark.parametrize(
    ("other", "line"),
    [
        (Affine(10, 0, 900_000, 0, -10, 5_600_000), "does not overlap"),
        (None, "has no CRS"),
    ],
)
def test_sources_that_cannot_share_a_grid_fail_the_scene_in_one_line(
    tmp_path: Path, other: Affine | None, line: str
) -> None:
    raster(tmp_path, "a", FINE)
    pixels = np.ones((90, 90), np.uint16)
    crs = "EPSG:32632" if other else None
    write_raster(tmp_path / "b.tif", pixels, transform=other or FINE, crs=crs)
    failed = plan_of(tmp_path, {"a": 0, "b": 0}).failures[0]
    assert line in failed.reason
    assert "\n" not in failed.reason


def test_a_crs_in_the_recipe_places_a_file_that_has_none(tmp_path: Path) -> None:
    raster(tmp_path, "a", FINE)
    raster(tmp_path, "b", FINE, crs=None)
    plan = plan_of(tmp_path, {"a": 0, "b": {"path": "b.tif", "crs": "EPSG:32632"}})
    assert not plan.failures
    assert plan.jobs[0].differences == ()


def test_a_plan_says_bytes_tiles_and_memory(tmp_path: Path) -> None:
    raster(tmp_path, "a", FINE, bands=3)
    raster(tmp_path, "b", FINE)
    settings = {"tiles": {"size": 32}, "output": {"dtype": "uint16"}}
    job = plan_of(tmp_path, {"a": 0, "b": 0}, **settings).jobs[0]
    assert len(job.tiling) == 9
    assert job.bytes_out == 90 * 90 * 3 * 2
    assert memory_of_a_worker([job], 4) > memory_of_a_worker([job], 1) > job.bytes_out
