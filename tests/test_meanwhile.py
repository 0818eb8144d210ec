"""Sources that change between the plan and the end of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasters import write_raster
from volumes import write_nifti

import batchfuse
from batchfuse.engine import run_plan
from batchfuse.errors import ChangedError
from batchfuse.imagery.geotiff import open_source
from batchfuse.imagery.meanwhile import refuse_changed
from batchfuse.report.progress import FusedTile, Silence

SHAPE = (48, 40)
Change = Callable[[Path], object]


def pair(folder: Path) -> Path:
    """Two images of one grid, the thermal one with a mask in a file of its own; its path."""
    rng = np.random.default_rng(0)
    for role in ("optical", "thermal"):
        write_raster(folder / f"a_{role}.tif", rng.integers(1, 200, SHAPE).astype(np.uint8))
    write_mask(folder / "a_thermal.tif", SHAPE[1] // 2)
    return folder / "a_thermal.tif"


def write_mask(path: Path, first: int) -> None:
    """A .msk beside the image: columns from ``first`` on are invalid."""
    valid = np.full(SHAPE, 255, np.uint8)
    valid[:, first:] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(valid)


def beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def said(path: Path, text: str) -> None:
    """An .aux.xml, as GDAL and QGIS write them."""
    beside(path, ".aux.xml").write_text(f"<PAMDataset>{text}</PAMDataset>")


def other(path: Path) -> None:
    """Another image of the same header in place of this one."""
    made = write_raster(path.parent / "other/a.tif", np.ones(SHAPE, np.uint8))
    path.write_bytes(made.read_bytes())


STATISTICS = (
    '<PAMRasterBand band="1"><Histograms><HistItem><HistMin>-0.5</HistMin><HistMax>255.5</HistMax>'
    "<BucketCount>2</BucketCount><HistCounts>9|8</HistCounts></HistItem></Histograms><Metadata>"
    '<MDI key="STATISTICS_MINIMUM">1</MDI><MDI key="STATISTICS_MAXIMUM">199</MDI></Metadata></PAMRasterBand>'
)
WORDS = {
    "nodata": '<PAMRasterBand band="1"><NoDataValue>7</NoDataValue></PAMRasterBand>',
    "scale": '<PAMRasterBand band="1"><Scale>0.5</Scale></PAMRasterBand>',
    "offset": '<PAMRasterBand band="1"><Offset>3</Offset></PAMRasterBand>',
    "georeference": "<GeoTransform>500001, 10, 0, 5600000, 0, -10</GeoTransform>",
    "alpha": '<PAMRasterBand band="1"><ColorInterp>Alpha</ColorInterp></PAMRasterBand>',
}
CHANGES: dict[str, tuple[Change, str]] = {
    "mask gone": (lambda path: beside(path, ".msk").rename(path.parent / "away"), "a_thermal.tif.msk"),
    "mask of other pixels": (lambda path: write_mask(path, 3), "a_thermal.tif.msk"),
    "mask that appears": (
        lambda path: write_mask(path.with_name("a_optical.tif"), 5),
        "a_optical.tif.msk",
    ),
    "other image": (other, "a_thermal.tif"),
    "damaged image": (lambda path: path.write_bytes(path.read_bytes()[:500]), "a_thermal.tif"),
    **{
        f"{name} beside it": ((lambda path, text=text: said(path, text)), "a_thermal.tif.aux.xml")  # type: ignore[misc]
        for name, text in WORDS.items()
    },
}


def recipe(folder: Path, **settings: Any) -> batchfuse.Recipe:
    inputs = {role: f"{{scene}}_{role}.tif" for role in ("thermal", "optical")}
    return batchfuse.Recipe(
        inputs=inputs,
        reference="optical",
        validity="all",
        fusion={"strategy": "mean"},
        tiles={"size": 16},
        output={"path": "fused"},
        folder=folder,
        **settings,
    )


def valid_share(folder: Path) -> float:
    with rasterio.open(folder / "fused/a.zarr") as dataset:
        return float((dataset.read_masks(1) > 0).mean())


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_between_plan_and_first_look_fails_the_scene_by_name(tmp_path: Path, name: str) -> None:
    path = pair(tmp_path)
    plan = batchfuse.make_plan(recipe(tmp_path))
    change, named = CHANGES[name]
    change(path)
    (outcome,) = run_plan(plan, retries=0).outcomes
    assert outcome.status == "failed"
    assert f"{tmp_path / named} was changed while the scene was fused" in (outcome.reason or "")
    assert not (tmp_path / "fused/a.zarr").exists()


class Changing(Silence):
    """Changes something once a tile is there."""

    def __init__(self, change: Callable[[], object]) -> None:
        self.change = change
        self.done = False

    def tile(self, scene: str, tile: FusedTile) -> None:  # noqa: ARG002
        if not self.done:
            self.done = True
            self.change()


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_while_tiles_are_fused_fails_the_scene_by_name(tmp_path: Path, name: str) -> None:
    path = pair(tmp_path)
    change, named = CHANGES[name]
    progress = Changing(lambda: change(path))
    (outcome,) = batchfuse.run(recipe(tmp_path), progress=progress, retries=0).outcomes
    assert progress.done
    assert outcome.status == "failed"
    assert f"{tmp_path / named} was changed while the scene was fused" in (outcome.reason or "")
    assert not (tmp_path / "fused/a.zarr").exists()


def test_statistics_that_a_viewer_writes_are_no_change(tmp_path: Path) -> None:
    path = pair(tmp_path)
    said(path, WORDS["scale"])
    progress = Changing(lambda: said(path, STATISTICS + WORDS["scale"]))
    (outcome,) = batchfuse.run(recipe(tmp_path), progress=progress).outcomes
    assert (progress.done, outcome.status) == (True, "complete")
    said(path.with_name("a_optical.tif"), STATISTICS)  # nor are those of a file that had no sidecar
    assert batchfuse.run(recipe(tmp_path)).outcomes[0].status == "kept"
    assert valid_share(tmp_path) == pytest.approx(0.5)


def test_of_a_store_that_was_continued_only_the_tiles_of_this_run_are_deleted(tmp_path: Path) -> None:
    path = pair(tmp_path)
    assert batchfuse.run(recipe(tmp_path)).exit_code == 0
    whole = {p: p.read_bytes() for p in (tmp_path / "fused/a.zarr/fused").iterdir()}
    chunk = tmp_path / "fused/a.zarr/fused/0.1.1"
    chunk.unlink()
    mask = beside(path, ".msk")
    progress = Changing(lambda: mask.rename(tmp_path / "away"))
    assert batchfuse.run(recipe(tmp_path), progress=progress).exit_code == 1
    assert not chunk.exists()
    (tmp_path / "away").rename(mask)
    assert batchfuse.run(recipe(tmp_path)).exit_code == 0
    assert {p: p.read_bytes() for p in (tmp_path / "fused/a.zarr/fused").iterdir()} == whole


def test_a_file_that_is_gone_is_waited_for_and_named(tmp_path: Path) -> None:
    path = pair(tmp_path)
    progress = Changing(lambda: path.rename(tmp_path / "away"))
    (outcome,) = batchfuse.run(recipe(tmp_path), progress=progress, retries=0).outcomes
    assert outcome.status == "failed"
    assert f"{path} can't be read" in (outcome.reason or "")
    assert "it was moved or deleted while the scene was fused" in (outcome.reason or "")


def test_a_volume_whose_header_says_another_place_has_changed(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(1, 200, (20, 18, 16)).astype(np.int16)
    for role in ("mri", "pet"):
        write_nifti(tmp_path / f"a_{role}.nii", voxels)
    made = batchfuse.make_plan(
        batchfuse.Recipe(
            inputs={role: f"{{scene}}_{role}.nii" for role in ("mri", "pet")},
            fusion={"strategy": "mean"},
            output={"path": "fused"},
            folder=tmp_path,
        )
    )
    write_nifti(tmp_path / "a_pet.nii", voxels, np.diag([1.0, 1.0, 2.0, 1.0]))
    (outcome,) = run_plan(made, retries=0).outcomes
    assert f"{tmp_path / 'a_pet.nii'} was changed while" in (outcome.reason or "")


def test_a_sidecar_that_appears_and_says_nothing_new_is_told_of_too(tmp_path: Path) -> None:
    source = open_source("thermal", [pair(tmp_path)])
    refuse_changed(source)
    with rasterio.open(tmp_path / "a_thermal.tif") as dataset:
        profile = {**dataset.profile, "width": 20, "height": 24, "driver": "GTiff"}
    with rasterio.open(tmp_path / "a_thermal.tif.ovr", "w", **profile) as dataset:
        dataset.write(np.ones((1, 24, 20), np.uint8))
    with pytest.raises(ChangedError, match=r"a_thermal\.tif\.ovr was changed"):
        refuse_changed(source)


@pytest.mark.parametrize("name", ["x_a.tif", "x_q.tif"])
def test_a_last_look_sees_each_file_of_a_source_and_its_mask(tmp_path: Path, name: str) -> None:
    for file in ("x_a.tif", "x_b.tif", "x_q.tif"):
        write_raster(tmp_path / file, np.ones((9, 9), np.uint8))
    recipe = batchfuse.Recipe.model_validate(
        {"inputs": {"a": {"path": "{s}_a.tif", "mask": "{s}_q.tif"}, "b": "{s}_b.tif"}, "folder": tmp_path}
    )
    (job,) = batchfuse.make_plan(recipe).jobs
    source = job.scene.sources[0]
    refuse_changed(source)
    write_raster(tmp_path / name, np.ones((9, 10), np.uint8))
    with pytest.raises(ChangedError, match=name):
        refuse_changed(source)
