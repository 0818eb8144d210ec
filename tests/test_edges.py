"""Both sides of each threshold, both ends of each range, and what constants have to be to each other."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from affine import Affine
from click.testing import CliRunner
from rasters import NORTH_UP, UTM32, write_raster
from stores import scenery, write_store
from test_engine import make_pair

import batchfuse
from batchfuse import budget
from batchfuse.cli import commands
from batchfuse.encoding import Encoding
from batchfuse.engine import unfinished
from batchfuse.errors import RecipeError
from batchfuse.fusion import methods
from batchfuse.fusion.windowed import _extremes
from batchfuse.geometry.grid import Grid
from batchfuse.geometry.window import Window
from batchfuse.imagery import crs, volume_kernels
from batchfuse.imagery.align import align
from batchfuse.imagery.aligned import AlignedSource, measured_scaling
from batchfuse.imagery.geotiff import open_source
from batchfuse.imagery.pixels import read_pixels
from batchfuse.imagery.resample import _Kernel, resampled
from batchfuse.report.report import Outcome, Report
from batchfuse.storage import lease, store
from batchfuse.task import Compute, Work, fuse_window

# --- resampling ---------------------------------------------------------------------------------


@pytest.mark.parametrize("footprint", [(1.0, 1.0), (1.04, 1.0), (1.0, 1.04), (1.06, 1.0), (1.0, 1.06)])
@pytest.mark.parametrize("method", ["bilinear", "cubic", "nearest"])
def test_a_source_is_averaged_from_a_twentieth_finer_on(footprint: tuple[float, float], method: str) -> None:
    alignment: Any = SimpleNamespace(footprint=footprint, source=SimpleNamespace(shape=(9, 9)))
    averaged = max(footprint) > 1.05 and method != "nearest"
    assert _Kernel(alignment, method).method == ("average" if averaged else method)


@pytest.mark.parametrize(("shift", "kept"), [(0.5, True), (0.49, True), (0.51, False)])
def test_a_pixel_is_valid_where_the_valid_ones_weigh_half(shift: float, kept: bool) -> None:
    """One of two neighbours is valid, and weighs 1 - shift."""
    source = Grid((4, 6), NORTH_UP, UTM32)
    reference = Grid((4, 6), NORTH_UP @ Affine.translation(shift, 0), UTM32)
    values = np.arange(24, dtype=np.float32).reshape(1, 4, 6)
    valid = np.ones((4, 6), bool)
    valid[:, 3] = False

    def read(window: Window) -> Any:
        return values[:, *window.slices], valid[window.slices]

    found, there = resampled(align(reference, source), Window.whole((4, 6)), read, "bilinear")
    assert there[:, 2].all() == kept
    assert there[:, 3].all() == (shift >= 0.5)
    if kept:
        assert np.allclose(found[0, :, 2], values[0, :, 2])


@pytest.mark.parametrize(("many", "kept"), [(1, False), (2, True), (3, True)])
def test_an_average_is_valid_where_half_of_its_pixels_are(many: int, kept: bool) -> None:
    source = Grid((8, 8), NORTH_UP, UTM32)
    reference = Grid((4, 4), NORTH_UP @ Affine.scale(2), UTM32)
    valid = np.zeros((8, 8), bool)
    valid[2:4, 2:4].flat[:many] = True
    values = np.where(valid, np.float32(3), np.float32(99))[None]

    def read(window: Window) -> Any:
        return values[:, *window.slices], valid[window.slices]

    found, there = resampled(align(reference, source), Window.whole((4, 4)), read, "bilinear")
    assert there[1, 1] == kept
    assert found[0, 1, 1] == (3 if kept else 0)


@pytest.mark.parametrize(("shift", "takes"), [(0.49, [0, 1, 2, 3]), (0.5, [1, 2, 3]), (-0.5, [0, 1, 2, 3])])
def test_a_voxel_midway_between_two_takes_the_later_one(shift: float, takes: list[int]) -> None:
    values = np.arange(4, dtype=np.float32)[:, None, None]
    for axis in range(3):
        rows = np.eye(3, 4)
        rows[axis, 3] = shift
        volume = np.ascontiguousarray(np.moveaxis(values, 0, axis))
        shape = volume.shape
        out, there = np.zeros(shape, np.float32), np.zeros(shape, bool)
        begin = (0, 0, 0)
        volume_kernels.nearest(volume, np.ones(shape, bool), True, begin, shape, rows, begin, out, there)
        assert out[there].tolist() == takes


def test_what_cubic_resampling_lets_fall_below_zero_is_zero() -> None:
    """The network's features can't be negative."""
    source = Grid((8, 12), NORTH_UP, UTM32)
    reference = Grid((8, 12), NORTH_UP @ Affine.translation(0.5, 0), UTM32)
    step = np.repeat(np.float32([0, 1]), 6)[None, None].repeat(8, 1)
    valid = np.ones((8, 12), bool)
    alignment = align(reference, source)
    whole = Window.whole((8, 12))

    def read(window: Window) -> Any:
        return step[:, *window.slices].copy(), valid[window.slices]

    assert resampled(alignment, whole, read, "cubic")[0].min() < -0.05
    aligned = AlignedSource(SimpleNamespace(labels=False), alignment, None, "cubic")  # type: ignore[arg-type]
    object.__setattr__(aligned, "_read", read)
    assert aligned.read(whole)[0].min() == 0


# --- grids --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("beyond", "rows"), [(0, 30), (1e-8, 30), (-1e-8, 30), (1e-4, 31)])
def test_rounding_noise_adds_no_row_to_a_grid_turned_north(beyond: float, rows: int) -> None:
    turned = Affine(0, 10 * (1 + beyond / 30), 500_000, -10 * (1 + beyond / 30), 0, 5_600_000)
    made = Grid((30, 30), turned, UTM32)
    grown = Grid((30, 30), turned @ Affine.scale(1, 1), UTM32).north_up()
    assert grown.shape == (30, 30)
    box = SimpleNamespace(bounds=(0.0, 0.0, 300.0, 300.0 + 10 * beyond), spacing_yx=(10.0, 10.0), crs=UTM32)
    assert Grid.north_up(box).shape == (rows, 30)  # type: ignore[arg-type]
    box.bounds = (0.0, 0.0, 300.0 + 10 * beyond, 300.0)
    assert Grid.north_up(box).shape == (30, rows)  # type: ignore[arg-type]
    assert made.north_up().spacing_yx == pytest.approx(made.spacing_yx)


@pytest.mark.parametrize(("off", "same"), [(0, True), (5e-7, True), (-5e-7, True), (3e-6, False)])
@pytest.mark.parametrize("axis", [0, 1])
def test_grids_are_the_same_to_a_millionth_of_a_pixel(off: float, same: bool, axis: int) -> None:
    reference = Grid((20, 30), Affine(1, 0, 0, 0, -1, 20), UTM32)
    by = (off, 0) if axis == 0 else (0, off)
    source = Grid((20, 30), reference.affine @ Affine.translation(*by), UTM32)
    assert align(reference, source).identical == same


WGS = "EPSG:4326"


def test_an_operation_is_chosen_for_the_area_that_both_share() -> None:
    one, other = ([0.2, 10.5], [40.1, 45.2]), ([5.5, 20.1], [42.5, 50.5])
    assert crs._shared_area([(WGS, one), (WGS, other)]) == (5, 42, 11, 46)
    assert crs._shared_area([(WGS, other), (WGS, one)]) == (5, 42, 11, 46)
    far = ([100.5, 101.5], [-3.5, -2.5])
    assert crs._shared_area([(WGS, one), (WGS, far)]) == (100, -4, 102, -2)
    around = ([-170.0, 170.0], [1.0, 2.0])  # which may mean the dateline
    assert crs._shared_area([(WGS, around), (WGS, one)]) == (0, 40, 11, 46)
    assert crs._shared_area([(WGS, around)]) is None


# --- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "most"), [("float16", 65504.0), ("float32", 3.4028234663852886e38)])
def test_what_a_float_can_not_hold_becomes_its_greatest_and_least(dtype: str, most: float) -> None:
    encoding = Encoding(dtype, float("nan"), (most,), (0.0,))
    fused = np.array([[[-2, -1, 0, 1, 1.5, 7]]], np.float32)
    found = encoding.encoded(fused, np.array([[True] * 5 + [False]]))
    assert found[0, 0, :5].tolist() == [-most, -most, 0, most, most]
    assert np.isnan(found[0, 0, 5])


@pytest.mark.parametrize(("dtype", "digits"), [("float32", 7), ("float64", 13)])
@pytest.mark.parametrize("value", [0.1234567890123456, -3.4028234663852886e38, -37037.03703703704])
def test_a_nodata_told_in_few_digits_is_the_files_number_and_its_neighbours_are_none(
    tmp_path: Path, dtype: str, digits: int, value: float
) -> None:
    number = np.dtype(dtype).type(value)
    told = float(f"{number:.{digits - 1}e}")
    assert number.dtype.type(told) != number
    step = 5e-6 if dtype == "float32" else 5e-12
    near = np.array([number, number * (1 - step), number * (1 - 0.1)], dtype)
    path = write_raster(tmp_path / "a.tif", near.reshape(1, 3))
    source = replace(opened := open_source("a", [path]), bands=(replace(opened.bands[0], nodata=told),))
    _, valid = read_pixels(source, Window.whole((1, 3)))
    assert valid.tolist() == [[False, True, True]]


def test_what_a_survey_sees_as_least_and_greatest_are_valid_pixels() -> None:
    means = np.array([[[[-9.0, 0.25, 0.5, 9.0]]], [[[0.1, -7.0, 7.0, 0.3]]]])
    valid = np.array([[[[False, True, True, False]]], [[[True, False, False, True]]]])
    found = _extremes(means, valid)
    assert (found.minimum, found.maximum) == ((0.25, 0.1), (0.5, 0.3))
    nothing = _extremes(means, np.zeros_like(valid))
    assert (nothing.minimum, nothing.maximum) == ((np.inf,) * 2, (-np.inf,) * 2)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"percentiles": [-0.1, 98]}, "percentiles lie between 0 and 100"),
        ({"percentiles": [2, 100.1]}, "percentiles lie between 0 and 100"),
        ({"percentiles": [98, 2]}, "the lower first"),
        ({"range": [3, 3]}, "the lower first"),
        ({"range": [4, 3]}, "the lower first"),
    ],
)
def test_ends_that_are_none_are_refused(settings: dict[str, Any], said: str) -> None:
    inputs = {"a": {"path": "{s}_a.tif", **settings}, "b": "{s}_b.tif"}
    with pytest.raises(RecipeError, match=said):
        batchfuse.Recipe(inputs=inputs)  # type: ignore[arg-type]
    inputs["a"] = {"path": "{s}_a.tif", "percentiles": [0, 100]}
    batchfuse.Recipe(inputs=inputs)  # type: ignore[arg-type]


@pytest.mark.parametrize("box", [[0, 0, 0, 10], [0, 5, 10, 5], [10, 0, 0, 10], [0, 10, 10, 0]])
def test_a_box_without_inside_is_refused(box: list[float]) -> None:
    inputs = {"a": "{s}_a.tif", "b": "{s}_b.tif"}
    with pytest.raises(RecipeError, match="left"):
        batchfuse.Recipe(inputs=inputs, grid={"bounds": box})  # type: ignore[arg-type]


# --- memory -------------------------------------------------------------------------------------


class First:
    """A method that holds nothing: what is left are the pixels."""

    device, precision = "cpu", "float32"

    def __init__(self, **_: Any) -> None: ...

    def fuse(self, sources: Any, core: Any, _: Any) -> Any:
        return sources[0][core.slices]


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_the_memory_promised_for_a_tile_is_what_its_pixels_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colours: int, dtype: str
) -> None:
    """Neither less, or workers are killed, nor far more, or they are refused; by pixels, not by processes."""
    monkeypatch.setattr(methods, "_REGISTERED", dict(methods._REGISTERED))
    first = batchfuse.Strategy("first", 0, None, "the first source", memory=0)
    batchfuse.register(batchfuse.Method("first", "test_edges:First", {"first": first}, ""))
    for role, bands in (("a", 1), ("b", colours)):
        pixels = (np.random.default_rng(bands).random((bands, 700, 700)) * 900 + 1).astype(dtype)
        pixels[:, :9] = 0  # so that something is filled
        options = {"photometric": "RGB"} if bands == 3 else {}
        write_raster(tmp_path / f"x_{role}.tif", pixels, nodata=0, **options)
    recipe = batchfuse.Recipe(
        inputs={"a": "{s}_a.tif", "b": "{s}_b.tif"},  # type: ignore[arg-type]
        fusion={"method": "first"},  # type: ignore[arg-type]
        tiles={"size": 2048},  # type: ignore[arg-type]
        folder=tmp_path,
    )
    (job,) = batchfuse.make_plan(recipe).jobs
    parts = zip(job.scene.sources, job.alignments, strict=True)
    scalings = tuple(
        measured_scaling(s, a, None, None, lambda f, items: [f(*i) for i in items]) for s, a in parts
    )
    work = Work("x", job, scalings, (), Compute())
    whole = Window.whole((700, 700))
    encoding = Encoding.of(job.dtype, job.units, job.reference, scalings[1])
    encoding.encoded(*fuse_window(work, whole, whole))  # opens and imports what is kept
    tracemalloc.start()
    encoding.encoded(*fuse_window(work, whole, whole))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    (promised,) = budget.Need.of([job]).tiles
    assert 0.25 * promised[0] <= peak <= promised[0]


# --- outcomes and exit codes --------------------------------------------------------------------

STATUSES = {"complete": 0, "kept": 0, "failed": 1, "interrupted": 1, "running": 1, "not started": 1}


@pytest.mark.parametrize("status", STATUSES)
def test_each_status_has_its_exit_code_and_is_left_or_not(tmp_path: Path, status: str) -> None:
    outcomes = (Outcome("good", "complete"), Outcome("other", status))
    report = Report(outcomes=outcomes, unmatched=(), seconds=1.0, device="cpu", cluster="threads")
    assert report.exit_code == STATUSES[status]
    report.write(tmp_path / "report.json")
    assert unfinished(tmp_path) == ({"other"} if STATUSES[status] else frozenset())
    stopped = Report(
        outcomes=outcomes, unmatched=(), seconds=1.0, device="", cluster="threads", interrupted=True
    )
    assert stopped.exit_code == 130


def test_every_command_tells_by_its_exit_code_that_a_scene_failed(tmp_path: Path) -> None:
    def code(*arguments: str) -> int:
        return CliRunner().invoke(commands, [*arguments]).exit_code

    make_pair(tmp_path, "a")
    make_pair(tmp_path, "b")
    (tmp_path / "recipe.yaml").write_text(
        'inputs: {thermal: "{scene}_thermal.tif", optical: "{scene}_optical.tif"}\n'
    )
    recipe, fused = str(tmp_path / "recipe.yaml"), str(tmp_path / "fused")
    before = (tmp_path / "b_thermal.tif").read_bytes()
    assert code("run", recipe, "-n") == code("plan", recipe) == 0
    (tmp_path / "b_thermal.tif").write_bytes(b"no image")
    assert code("run", recipe, "-n") == code("plan", recipe) == 1
    assert code("run", recipe, "-q") == code("status", fused) == 1
    assert code("run", recipe, "-q", "--only-failed") == 1
    assert code("verify", fused) == 0  # what is there is whole
    (tmp_path / "b_thermal.tif").write_bytes(before)
    assert code("run", recipe, "-q", "--only-failed", "-n") == 0
    assert code("run", recipe, "-q", "--only-failed") == code("status", fused) == code("verify", fused) == 0
    assert code("run", recipe, "-q", "--only-failed") == 0  # nothing is left
    chunk = next((tmp_path / "fused/a.zarr/fused").glob("0.*"))
    chunk.unlink()
    assert code("verify", fused) == code("status", fused) == 1


# --- writing ------------------------------------------------------------------------------------


def test_a_store_is_called_complete_last_after_its_digests_and_both_after_a_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write_store(tmp_path / "a.zarr", scenery("uint8"), sealed=False)
    done: list[str] = []
    sync, write = store.sync_tree, store.replace_file
    monkeypatch.setattr(store, "sync_tree", lambda path: (done.append("sync"), sync(path)))
    monkeypatch.setattr(
        store, "replace_file", lambda path, content: (done.append(path.name), write(path, content))
    )
    made.seal()
    assert done[0] == "sync"
    assert done.index("digests.json") == len(done) - 2
    last = (made.path / done[-1]).read_bytes()
    assert b'"complete": true' in last or b'"complete":true' in last


def test_a_lease_is_renewed_often_before_it_counts_as_left_behind() -> None:
    assert 3 * lease.BEAT <= lease.STALE


# --- a store's identity -------------------------------------------------------------------------

HARMLESS = {
    "inputs.a.path": "the files are compared, not where they lie",
    "inputs.b.path": "the files are compared, not where they lie",
    "inputs.a.mask.path": "the files are compared, not where they lie",
    "manifest": "the files are compared, not how they were found",
    "fusion.weights": "the weights are told by their checksum",
    "output.path": "a store may be moved",
    "output.pyramid": "levels are added to a store that is complete",
    "output.also": "exports are made from the store",
    "on_error": "decides over other scenes",
}


def test_every_key_of_a_recipe_is_in_a_stores_identity_or_is_known_to_change_no_pixel() -> None:
    mask = {"path": "{s}_m.tif", "reject_bits": [1]}
    recipe = batchfuse.Recipe.model_validate(
        {"inputs": {"a": {"path": "{s}_a.tif", "mask": mask}, "b": {"path": "{s}_b.tif"}}}
    )
    left = set(leaves(recipe.resolved())) - set(leaves(recipe.identity()))
    assert left == HARMLESS.keys()


def leaves(settings: dict[str, Any], at: str = "") -> Iterator[str]:
    """The key path of each value."""
    for key, value in settings.items():
        yield from leaves(value, f"{at}{key}.") if isinstance(value, dict) else [at + key]
