"""Volumes from the files to the store: planes, tiles, orientations, 4-D, labels, and what is refused."""

from __future__ import annotations

import io
import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from rasters import photo, write_raster
from scipy.ndimage import gaussian_filter

import batchfuse
import batchfuse.plan
import batchfuse.scene_jobs
from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.geometry.window import Window
from batchfuse.imagery.aligned import AlignedSource, measured_scaling
from batchfuse.storage.store import Store

ORIENTATIONS = ["RAS", "LAS", "LPS", "AIL", "PSR"]
PLANES = ["axial", "coronal", "sagittal"]
SHAPE = (30, 36, 26)
AFFINE = np.array([[2.0, 0, 0, -29], [0, 2.0, 0, -40], [0, 0, 2.5, -31], [0, 0, 0, 1]])


def anatomy(seed: int, shape: tuple[int, ...] = SHAPE) -> NDArray[np.float32]:
    """Smooth blobs of 0..1000 along (i, j, k)."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return np.asarray(1000 * (noise - noise.min()) / np.ptp(noise), np.float32)


def write(
    path: Path,
    values: NDArray[Any],
    affine: NDArray[np.float64] = AFFINE,
    orientation: str = "RAS",
    slope: tuple[float, float] | None = None,
) -> Path:
    """A NIfTI file of the anatomy, its axes as the orientation has them."""
    image = nibabel.Nifti1Image(values, affine)
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(orientation)
    )
    image = image.as_reoriented(turn)
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    if slope:
        image.header.set_slope_inter(*slope)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A folder with a T1 and a T2 image on one grid."""
    write(tmp_path / "a_T1.nii.gz", anatomy(1))
    write(tmp_path / "a_T2.nii.gz", anatomy(2))
    write(tmp_path / "a_T3.nii.gz", anatomy(3))
    return tmp_path


def fused(folder: Path, **settings: Any) -> batchfuse.Report:
    """Runs a recipe over the folder."""
    inputs = {"t1": "{s}_T1.nii.gz", "t2": "{s}_T2.nii.gz"}
    recipe = batchfuse.Recipe.model_validate({"inputs": inputs, **settings, "folder": folder})
    return batchfuse.run(recipe)


def completed(folder: Path, **settings: Any) -> Store:
    """The store of the one scene that a recipe gives."""
    report = fused(folder, **settings)
    assert [(o.status, o.reason) for o in report.outcomes] == [("complete", None)]
    return Store.open(folder / settings.get("output", {}).get("path", "fused") / "a.zarr")


def refusal(folder: Path, **settings: Any) -> str:
    """The one line of the one scene that can't be fused."""
    (outcome,) = fused(folder, **settings).outcomes
    assert outcome.status == "failed"
    assert outcome.reason is not None
    assert "\n" not in outcome.reason
    return outcome.reason


def header_of(store: Store) -> nibabel.Nifti1Header:
    """The header that the store keeps."""
    group = zarr.open_group(store.path, mode="r")
    return nibabel.Nifti1Header.from_fileobj(io.BytesIO(group["nifti"][:].tobytes()))


def volume_of(store: Store) -> nibabel.Nifti1Image:
    """The store as nibabel has it; of integers the stored values."""
    array = zarr.open_group(store.path, mode="r")["0"][:]
    return nibabel.Nifti1Image(array.T, header_of(store).get_best_affine())


def canonical(image: nibabel.Nifti1Image) -> NDArray[Any]:
    """Values along (right, anterior, superior)."""
    return np.asarray(nibabel.as_closest_canonical(image).dataobj)


def scaled(values: NDArray[Any]) -> NDArray[np.float32]:
    """As the engine scales floats: minimum to 0, percentile 99.5 to 1."""
    low, high = float(values.min()), float(np.percentile(values, 99.5))
    return np.asarray((values - low) / (high - low), np.float32)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several slabs even of a small volume."""
    monkeypatch.setattr(batchfuse.scene_jobs, "VOXELS", 3000)
    monkeypatch.setattr(batchfuse.scene_jobs, "CUBE", 16)


def test_a_pair_is_fused_slice_by_slice_as_the_network_does_it(pair: Path) -> None:
    store = completed(pair)
    found = volume_of(store)
    assert np.allclose(found.affine, AFFINE)
    t1, t2 = (scaled(anatomy(seed)) for seed in (1, 2))
    # axial slices, rows from anterior to posterior, columns from the patient's right to left
    seen = [np.flip(values, (0, 1)).transpose(2, 1, 0) for values in (t1, t2)]
    expected = np.flip(batchfuse.fuse(*seen).transpose(2, 1, 0), (0, 1))
    low, high = float(anatomy(2).min()), float(np.percentile(anatomy(2), 99.5))
    assert np.abs((np.asarray(found.dataobj) - low) / (high - low) - expected).max() < 2e-6


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("strategy", ["l1", "mean", "detail"])
@pytest.mark.parametrize("plane", [*PLANES, "triplanar"])
def test_tiles_of_a_volume_equal_the_whole(
    pair: Path, plane: str, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fusion = {"plane": plane, "strategy": strategy}
    tiled = completed(pair, fusion=fusion, tiles={"size": 16}, output={"path": "tiled", "units": "unit"})
    assert len(tiled.tiling) > 8
    monkeypatch.setattr(batchfuse.scene_jobs, "VOXELS", 2**30)
    monkeypatch.setattr(batchfuse.scene_jobs, "CUBE", 64)
    whole = completed(pair, fusion=fusion, tiles={"size": 64}, output={"path": "whole", "units": "unit"})
    assert len(whole.tiling) == 1
    assert np.abs(np.asarray(volume_of(tiled).dataobj) - np.asarray(volume_of(whole).dataobj)).max() < 1e-6


@pytest.mark.parametrize("plane", [*PLANES, "triplanar"])
def test_the_same_anatomy_is_fused_alike_in_every_orientation(tmp_path: Path, plane: str) -> None:
    results = []
    for first, second in zip(ORIENTATIONS, ORIENTATIONS[1:] + ORIENTATIONS[:1], strict=True):
        folder = tmp_path / first
        write(folder / "a_T1.nii.gz", anatomy(1), orientation=first)
        write(folder / "a_T2.nii.gz", anatomy(2), orientation=second)
        store = completed(folder, reference="t1", fusion={"plane": plane})
        image = volume_of(store)
        assert "".join(nibabel.aff2axcodes(image.affine)) == first
        assert np.allclose(nibabel.as_closest_canonical(image).affine, AFFINE, atol=1e-4)
        results.append(canonical(image))
    for result in results[1:]:
        assert np.abs(result - results[0]).max() < 1e-6 * np.ptp(results[0])


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_left_stays_left_by_the_header(tmp_path: Path, orientation: str) -> None:
    world = np.array([-17.0, 12.0, 9.0])  # at the patient's left, in front, above
    i, j, k = np.rint(np.linalg.solve(AFFINE, [*world, 1])[:3]).astype(int)
    marked = np.full(SHAPE, 10, np.float32)
    marked[i - 3 : i + 4, j - 3 : j + 4, k - 3 : k + 4] = 100
    marked[i, j, k] = 120
    write(tmp_path / "a_T1.nii.gz", marked, orientation=orientation)
    write(tmp_path / "a_T2.nii.gz", marked / 10, orientation="LPS")
    image = volume_of(completed(tmp_path, reference="t1"))
    values = np.asarray(image.dataobj)
    brightest = np.array(np.unravel_index(np.argmax(values), values.shape))
    found = image.affine[:3, :3] @ brightest + image.affine[:3, 3]
    assert np.abs(found - world).max() <= 3


def test_a_run_that_was_cut_off_goes_on_to_the_same_bytes(pair: Path, small_tiles: None) -> None:  # noqa: ARG001
    first = completed(pair, fusion={"strategy": "mean"}, tiles={"size": 16}, output={"path": "fused"})
    before = {p.relative_to(first.path): p.read_bytes() for p in first.path.rglob("*") if p.is_file()}
    for tile in itertools.islice(first.tiling, 0, None, 3):
        first.chunk_path(tile.index).unlink()
    os.utime(first.path)
    again = completed(pair, fusion={"strategy": "mean"}, tiles={"size": 16}, output={"path": "fused"})
    after = {p.relative_to(again.path): p.read_bytes() for p in again.path.rglob("*") if p.is_file()}
    assert before == after


def test_processes_make_the_bytes_that_threads_make(pair: Path) -> None:
    first = completed(pair)
    before = {p.relative_to(first.path): p.read_bytes() for p in first.path.rglob("*") if p.is_file()}
    shutil.rmtree(pair / "fused")
    inputs = {"t1": "{s}_T1.nii.gz", "t2": "{s}_T2.nii.gz"}
    recipe = batchfuse.Recipe.model_validate({"inputs": inputs, "folder": pair})
    profile = batchfuse.Profile.model_validate({"cluster": "processes", "workers": 2, "threads": 1})
    assert batchfuse.run(recipe, profile).outcomes[0].status == "complete"
    after = {p.relative_to(first.path): p.read_bytes() for p in first.path.rglob("*") if p.is_file()}
    assert before == after


def test_sources_meet_in_the_world(tmp_path: Path) -> None:
    """PET of twice the voxels, turned and cut: the fused volume is on the finer grid."""
    coarse = AFFINE @ np.diag([2, 2, 2, 1.0])
    coarse[:3, 3] += 6
    write(tmp_path / "a_T1.nii.gz", anatomy(1))
    write(tmp_path / "a_T2.nii.gz", anatomy(3, (14, 15, 11)), coarse, "PSR")
    report = fused(tmp_path)
    (outcome,) = report.outcomes
    assert outcome.status == "complete"
    assert any(line.startswith("t2: ") for line in outcome.differences)
    image = volume_of(Store.open(tmp_path / "fused" / "a.zarr"))
    assert image.shape == SHAPE
    assert np.allclose(image.affine, AFFINE)
    assert np.isfinite(np.asarray(image.dataobj)).all()


def test_negative_values_survive(tmp_path: Path) -> None:
    hounsfield = np.rint(anatomy(1) * 3 - 1000).astype(np.int16)
    write(tmp_path / "a_T1.nii.gz", hounsfield)
    write(tmp_path / "a_T2.nii.gz", hounsfield)
    values = np.asarray(volume_of(completed(tmp_path)).dataobj)
    assert np.abs(values - hounsfield).mean() < 20
    assert values.min() < -800


def test_integers_keep_the_slope(tmp_path: Path) -> None:
    for name in ("T1", "T2"):
        image = nibabel.Nifti1Image((anatomy(1) / 4).astype(np.uint8), AFFINE)
        image.header.set_slope_inter(0.004, 0)
        nibabel.save(image, tmp_path / f"a_{name}.nii")
    inputs = {"t1": "{s}_T1.nii", "t2": "{s}_T2.nii"}
    store = completed(tmp_path, inputs=inputs, output={"dtype": "uint8"})
    source = nibabel.load(tmp_path / "a_T1.nii")
    assert store.dtype == "uint8"
    header = header_of(store)
    assert header["scl_slope"] == pytest.approx(0.004, rel=1e-5)
    physical = np.asarray(volume_of(store).dataobj) * float(header["scl_slope"])
    assert np.abs(physical - source.get_fdata()).mean() < 0.03


def test_every_volume_of_a_4d_file_is_a_scene(tmp_path: Path) -> None:
    series = np.stack([anatomy(seed) for seed in (1, 2, 3)], -1)
    image = nibabel.Nifti1Image(series, AFFINE)
    nibabel.save(image, tmp_path / "a_T1.nii.gz")
    write(tmp_path / "a_T2.nii.gz", anatomy(9))
    report = fused(tmp_path)
    assert [o.scene for o in report.outcomes] == ["a_v000", "a_v001", "a_v002"]
    assert {o.status for o in report.outcomes} == {"complete"}
    shutil.rmtree(tmp_path / "fused")
    inputs = {"t1": {"path": "{s}_T1.nii.gz", "volume": 2}, "t2": "{s}_T2.nii.gz"}
    one = completed(tmp_path, inputs=inputs, reference="t1", output={"path": "one"})
    assert np.corrcoef(canonical(volume_of(one)).ravel(), series[..., 2].ravel())[0, 1] > 0.5
    for index in range(2):
        inputs["t1"]["volume"] = index  # type: ignore[index]
        other = completed(tmp_path, inputs=inputs, reference="t1", output={"path": f"other{index}"})
        assert not np.array_equal(canonical(volume_of(other)), canonical(volume_of(one)))


def test_only_names_a_volume_of_a_4d_file(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.stack([anatomy(1)] * 3, -1), AFFINE), tmp_path / "a_T1.nii.gz")
    write(tmp_path / "a_T2.nii.gz", anatomy(2))
    inputs = {"t1": "{s}_T1.nii.gz", "t2": "{s}_T2.nii.gz"}
    recipe = batchfuse.Recipe.model_validate({"inputs": inputs, "folder": tmp_path})
    assert [job.scene.name for job in batchfuse.make_plan(recipe, "a_v001").jobs] == ["a_v001"]
    assert len(batchfuse.make_plan(recipe, "a").jobs) == 3
    with pytest.raises(batchfuse.RecipeError, match="a_v007"):
        batchfuse.make_plan(recipe, "a_v007")


def test_series_of_different_lengths_are_refused(tmp_path: Path) -> None:
    for name, many in (("T1", 2), ("T2", 3)):
        values = np.stack([anatomy(1)] * many, -1)
        nibabel.save(nibabel.Nifti1Image(values, AFFINE), tmp_path / f"a_{name}.nii.gz")
    assert "`volume:`" in refusal(tmp_path)


def test_labels_are_taken_by_nearest(tmp_path: Path) -> None:
    coarse = AFFINE @ np.diag([3, 3, 3, 1.0])
    labels = np.random.default_rng(0).integers(0, 3, (10, 12, 9)).astype(np.int16)
    write(tmp_path / "a_T1.nii.gz", anatomy(1))
    write(tmp_path / "a_T2.nii.gz", labels, coarse)
    inputs = {"t1": "{s}_T1.nii.gz", "t2": {"path": "{s}_T2.nii.gz", "labels": True, "range": [0, 2]}}
    recipe = batchfuse.Recipe.model_validate({"inputs": inputs, "folder": tmp_path})
    (job,) = batchfuse.make_plan(recipe).jobs
    scaling = measured_scaling(job.scene.sources[1], job.alignments[1], (0, 2), None, itertools.starmap)
    read = AlignedSource(job.scene.sources[1], job.alignments[1], scaling, "bilinear").read
    values, valid = read(Window.whole(job.tiling.shape))
    assert set(np.unique(values[0][valid])) == {0.0, 0.5, 1.0}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"output": {"also": ["cog"]}}, "export nifti"),
        ({"grid": {"crs": "EPSG:4326"}}, "volume"),
        ({"grid": {"resolution": 2}}, "volume"),
        ({"inputs": {"t1": {"path": "{s}_T1.nii.gz", "bands": [1]}, "t2": "{s}_T2.nii.gz"}}, "`bands:`"),
        ({"inputs": {"t1": {"path": "{s}_T1.nii.gz", "crs": "EPSG:4326"}, "t2": "{s}_T2.nii.gz"}}, "`crs:`"),
        ({"inputs": {"t1": {"path": "{s}_T1.nii.gz", "volume": 1}, "t2": "{s}_T2.nii.gz"}}, "volume"),
        ({"inputs": {"t1": ["{s}_T1.nii.gz", "{s}_T3.nii.gz"], "t2": "{s}_T2.nii.gz"}}, "one file"),
    ],
)
def test_what_a_volume_can_not_have_is_told_in_a_line(pair: Path, settings: Any, told: str) -> None:
    assert told in refusal(pair, **settings)


def test_a_raster_has_no_plane_and_no_volume(tmp_path: Path) -> None:
    for name in ("T1", "T2"):
        write_raster(tmp_path / f"a_{name}.tif", photo((40, 50))[0].astype(np.float32))
    plain = {"t1": "{s}_T1.tif", "t2": "{s}_T2.tif"}
    assert "fusion.plane" in refusal(tmp_path, inputs=plain, fusion={"plane": "coronal"})
    assert "`volume:`" in refusal(tmp_path, inputs=plain | {"t1": {"path": "{s}_T1.tif", "volume": 0}})
    assert "NIfTI" in refusal(tmp_path, inputs=plain, output={"also": ["nifti"]})


def test_the_store_is_on_the_references_grid(pair: Path) -> None:
    store = completed(pair)
    assert isinstance(store.grid, VolumeGrid)
    assert store.grid.orientation == "RAS"
    assert (pair / "fused" / "a.quicklook.png").is_file()


def test_only_takes_a_glob_of_volumes(tmp_path: Path) -> None:
    series = np.stack([anatomy(seed) for seed in (1, 2, 3)], axis=-1)
    nibabel.save(nibabel.Nifti1Image(series, AFFINE), tmp_path / "a_T1.nii.gz")
    for name in ("a_T2", "b_T1", "b_T2"):
        write(tmp_path / f"{name}.nii.gz", anatomy(4))
    inputs = {"t1": "{s}_T1.nii.gz", "t2": "{s}_T2.nii.gz"}
    recipe = batchfuse.Recipe.model_validate({"inputs": inputs, "folder": tmp_path})
    for glob, names in (
        ("a_v00[12]", ["a_v001", "a_v002"]),
        ("*_v?00", ["a_v000"]),
        ("a", ["a_v000", "a_v001", "a_v002"]),
        ("b", ["b"]),
    ):
        assert [job.scene.name for job in batchfuse.plan.make_plan(recipe, glob).jobs] == names


@pytest.mark.parametrize(("unit", "size"), [("meter", 0.001), ("micron", 1000.0), ("unknown", 1.0)])
def test_the_header_keeps_the_unit_of_the_reference(tmp_path: Path, unit: str, size: float) -> None:
    """A header of one unit with numbers of another places the volume a thousand times too far."""
    affine = AFFINE * [[size], [size], [size], [1]]
    image = nibabel.Nifti1Image(anatomy(1), affine)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "a_T1.nii.gz")
    shifted = AFFINE.copy()
    shifted[:3, 3] += [4, 6, 5]
    write(tmp_path / "a_T2.nii.gz", anatomy(2), shifted)
    for extent, first in (("reference", [0, 0, 0]), ("intersection", [2, 3, 2])):
        output = {"path": extent, "also": ["nifti"]}
        store = completed(tmp_path, reference="t1", grid={"extent": extent}, output=output)
        wanted = affine @ [*first, 1]
        for header in (header_of(store), nibabel.load(tmp_path / extent / "a.nii.gz").header):
            assert header.get_xyzt_units()[0] == unit
            np.testing.assert_allclose(header.get_best_affine()[:, 3], wanted, rtol=1e-5)
            np.testing.assert_allclose(header.get_best_affine()[:3, :3], affine[:3, :3], rtol=1e-5)
        level = zarr.open_group(store.path, mode="r")["0"].attrs["affine"]
        np.testing.assert_allclose(np.array(level)[:, :3], AFFINE[:3, :3], rtol=1e-5)


def warnings_of(folder: Path, **settings: Any) -> str:
    """All that a run of the one scene warns of."""
    (outcome,) = fused(folder, **settings).outcomes
    assert outcome.status == "complete"
    return "\n".join(outcome.warnings)


def test_a_background_of_zero_is_no_surprise_in_a_volume(tmp_path: Path) -> None:
    body = np.where(anatomy(1) > 400, 500 + anatomy(1), 0).astype(np.float32)
    write(tmp_path / "a_T1.nii.gz", body)
    # 0 by the intercept: stored as another number
    write(tmp_path / "a_T2.nii.gz", body.astype(np.int16), slope=(0.5, 0))
    assert "lone value" not in warnings_of(tmp_path)
    stored = nibabel.Nifti1Image((2 * body - 20000).astype(np.int16), AFFINE)
    stored.header.set_slope_inter(0.5, 10000)
    (tmp_path / "a_T2.nii.gz").write_bytes(stored.to_bytes())
    assert "lone value" not in warnings_of(tmp_path, output={"path": "intercept"})


def test_a_fill_value_that_spoils_the_range_of_a_volume_is_told(tmp_path: Path) -> None:
    write(tmp_path / "a_T1.nii.gz", anatomy(1))
    # what lies outside a CT's round field of view is often -2000
    outside = np.hypot(*np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE[:2]), indexing="ij")) > 1
    write(tmp_path / "a_T2.nii.gz", np.where(outside[..., None], -2000, anatomy(2) - 500).astype(np.int16))
    assert "of the valid voxels have the lone value -2000" in warnings_of(tmp_path)
    inputs = {"t1": "{s}_T1.nii.gz", "t2": {"path": "{s}_T2.nii.gz", "range": [-160, 240]}}
    told = warnings_of(tmp_path, inputs=inputs, output={"path": "window"})
    assert "lone value" not in told
    assert "lie below -160 and are set to it" in told


def test_a_label_map_is_the_reference_only_where_it_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a_T1.nii.gz", anatomy(1))
    finer = np.repeat(np.repeat(np.repeat(anatomy(2) > 500, 2, 0), 2, 1), 2, 2).astype(np.uint8)
    write(tmp_path / "a_T2.nii.gz", finer, AFFINE @ np.diag([0.5, 0.5, 0.5, 1]))
    inputs = {"t1": "{s}_T1.nii.gz", "t2": {"path": "{s}_T2.nii.gz", "labels": True}}
    assert completed(tmp_path, inputs=inputs).record["reference"] == "t1"
    told = warnings_of(tmp_path, inputs=inputs, reference="t2", output={"path": "named"})
    assert "a_T2.nii.gz is of labels and the reference" in told


def test_cuts_without_a_valid_voxel_are_told_as_such(tmp_path: Path) -> None:
    """The cuts are all that is looked at: voxels beside them may be valid."""
    hollow = np.full(SHAPE, np.nan, np.float32)
    hollow[2:6, 2:6, 2:6] = anatomy(1)[2:6, 2:6, 2:6]
    write(tmp_path / "a_T1.nii.gz", hollow)
    write(tmp_path / "a_T2.nii.gz", anatomy(2))
    told = warnings_of(tmp_path, validity="all")
    assert "the quicklook's cuts have no valid voxel" in told
    assert "the fused image has no valid pixel" not in told


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("strategy", ["mean", "detail"])
def test_the_surveys_of_three_planes_are_kept_and_continued_from(pair: Path, strategy: str) -> None:
    settings = {"fusion": {"strategy": strategy, "plane": "triplanar"}}
    store = completed(pair, **settings)
    surveys = store.record["survey"]
    assert len(surveys) == 3
    assert len({str(of_plane) for of_plane in surveys}) == (3 if strategy == "mean" else 1)
    chunk = store.chunk_path((0, 1, 0))
    before = chunk.read_bytes()
    chunk.unlink()
    assert fused(pair, **settings).outcomes[0].fused == 1
    assert chunk.read_bytes() == before
