"""Tiled equals whole: any tile and any inner window, against the network over whole arrays at once.

In float32 the oracle is the same arithmetic at once, to 1e-6. The plain network adds up in another order,
which alone rounds otherwise by almost as much: it is the oracle in float64, where nothing else is left.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import cache, reduce, wraps
from itertools import product, starmap
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasters import photo, write_raster
from shared_data import shared_data

from batchfuse.fusion.color import recolored
from batchfuse.fusion.extremes import Extremes
from batchfuse.fusion.methods import method
from batchfuse.fusion.moments import Moments
from batchfuse.fusion.res2netfuse import Res2NetFuse
from batchfuse.fusion.rules import rule_of
from batchfuse.fusion.strategies import channel_mean
from batchfuse.fusion.surveys import Survey
from batchfuse.fusion.weights import load_weights
from batchfuse.fusion.windowed import Res2NetFuser
from batchfuse.geometry.tiling import Tiling
from batchfuse.geometry.window import Window
from batchfuse.imagery.aligned import measured_scaling
from batchfuse.imagery.scaling import Scaling
from batchfuse.imagery.scene import Source
from batchfuse.job import Job
from batchfuse.plan import make_plan
from batchfuse.recipe import Recipe
from batchfuse.task import Compute, ScenePixels, Work, fuse_window, read_scene, survey_tile

STRATEGIES = ("l1", "mean", "average", "detail")
RESAMPLINGS = ("nearest", "bilinear", "cubic", "average")
SINGLE, OTHER_KERNELS, DOUBLE = 1e-6, 2e-6, 1e-13
HALO = 12
UTM33 = Affine(30, 0, 74_700, 0, -30, 5_617_600)  # around what 500000, 5600000 of zone 32 is the corner of

# the PNGs of TNO have none, and that is how they are
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

Array = NDArray[Any]
Scene = Callable[..., Work]
T = TypeVar("T")


# --- scenes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colour with nodata at 10 m, thermal with NaN at 30 m in the next zone, radar that covers a part."""
    folder = tmp_path_factory.mktemp("scenes")
    colour = np.rint(photo((64, 78), 1, bands=3) * 9000 + 500).astype(np.uint16)
    colour[:, :15, :30] = 0
    write_raster(folder / "optical.tif", colour, nodata=0, photometric="RGB")
    thermal = (photo((70, 70), 2)[0] * 30 + 280).astype(np.float32)
    thermal[25:31, 25:40] = np.nan
    thermal[np.random.default_rng(0).random(thermal.shape) < 0.03] = np.nan
    write_raster(folder / "thermal.tif", thermal, transform=UTM33, crs="EPSG:32633")
    radar = np.rint(photo((58, 64), 3)[0] * 255).astype(np.uint8)
    write_raster(folder / "radar.tif", radar, transform=Affine(7, 0, 500_301, 0, -7, 5_599_833))
    for seed, role in enumerate(("left", "right")):
        write_raster(folder / f"{role}.tif", np.rint(photo((64, 78), 5 + seed)[0] * 255).astype(np.uint8))
    return folder


SCENES = {
    "a gray pair on one grid": ("left", "right"),
    "three warped sources": ("thermal", "radar", "optical"),
}


@pytest.fixture(scope="module", params=SCENES)
def scene(request: pytest.FixtureRequest, folder: Path) -> Scene:
    """Makes the work of a scene; keywords are a recipe's settings."""
    return made_scene(folder, request.param)


GRIDS: dict[str, dict[str, Any]] = {
    "the intersection": {"extent": "intersection"},
    "the union": {"extent": "union"},
    "another CRS": {"crs": "EPSG:3035"},
    "bounds": {"resolution": [8, 9], "bounds": [500_103, 5_599_453, 500_783, 5_599_903]},
}


@pytest.fixture(scope="module", params=GRIDS)
def other_grid(request: pytest.FixtureRequest, folder: Path) -> Scene:
    """Makes the work of three warped sources on a grid that is not the reference's."""
    roles = {role: folder / f"{role}.tif" for role in SCENES["three warped sources"]}
    return scene_of(roles, reference="optical", grid=GRIDS[request.param])


@pytest.fixture(scope="module")
def three_sources(folder: Path) -> Scene:
    return made_scene(folder, "three warped sources")


def made_scene(folder: Path, name: str) -> Scene:
    return scene_of({role: folder / f"{role}.tif" for role in SCENES[name]}, reference=SCENES[name][-1])


REAL = {
    "TNO pair 8": {"infrared": "tno/IR08.png", "visible": "tno/VIS08.png"},
    "TNO pair 11": {"infrared": "tno/IR11.png", "visible": "tno/VIS11.png"},
    "another CRS": {
        "nir": "geo/pair_crs_mismatch/rgb1_fake_nir_epsg3857.tif",
        "optical": "geo/pair_crs_mismatch/rgb1.tif",
    },
    "panchromatic": {
        "thermal": "geo/pair_landsat8_pan_marburg/LC08_L1TP_195025_20130707_B10.TIF",
        "optical": "geo/pair_landsat8_pan_marburg/LC08_L1TP_195025_20130707_B8.TIF",
    },
}


def real_scene(name: str) -> Scene:
    roles = {role: shared_data(path) for role, path in REAL[name].items()}
    return scene_of(roles, reference=list(roles)[-1])


def scene_of(files: dict[str, Path], **settings: Any) -> Scene:
    @cache
    def make(
        strategy: str = "l1", precision: str = "float32", resampling: str = "bilinear", **more: Any
    ) -> Work:
        sources: Any = {role: str(file) for role, file in files.items()}
        grid = {**settings.get("grid", {}), "resampling": resampling}
        fusion = {"strategy": strategy, **settings.get("fusion", {})}
        recipe = Recipe(inputs=sources, **{**settings, "fusion": fusion, "grid": grid, **more})
        (job,) = make_plan(recipe).jobs
        scalings = tuple(scaling_of(source, job) for source in job.scene.sources)
        return Work(uuid.uuid4().hex, job, scalings, (), Compute("cpu", precision, 1))

    return make


def scaling_of(source: Source, job: Job) -> Scaling:
    """What a run finds out first, one window after the other."""
    alignment = job.alignments[job.scene.sources.index(source)]
    return measured_scaling(source, alignment, None, None, starmap)


# --- the oracle, and what is held against it


def whole(work: Work) -> Window:
    return Window.whole(work.job.scene.grid.shape)


def once(function: Callable[[Work], T]) -> Callable[[Work], T]:
    """Computes it once for each work."""
    kept: dict[str, T] = {}

    @wraps(function)
    def kept_one(work: Work) -> T:
        if work.token not in kept:
            kept[work.token] = function(work)
        return kept[work.token]

    return kept_one


@once
def read_whole(work: Work) -> ScenePixels:
    return read_scene(work, whole(work))


@once
def plain(work: Work) -> Array:
    """The network over whole arrays at once, without tiles and inner windows: the fused luminance, (y, x)."""
    pixels = read_whole(work)
    dtype = getattr(torch, work.compute.precision)
    network = network_of(work.compute.precision)
    with torch.inference_mode():
        images = [torch.from_numpy(s).to(dtype)[None, None] for s in pixels.luminances]
        features = [network.encode(image) for image in images]
        rule = rule_of(work.job.strategy, work.job.strategy_parameters)
        found = rule.merged(features, images, seen_of(work.job.strategy, pixels, features))
        return np.asarray(found.finished(network.decode(found.features))[0, 0].numpy())


def seen_of(strategy: str, pixels: ScenePixels, features: list[torch.Tensor]) -> Survey:
    """The survey of the whole at once."""
    if strategy == "detail":
        return Moments.of(pixels.luminances, pixels.valid)
    means = [channel_mean(f)[0, 0].numpy()[there] for f, there in zip(features, pixels.valid, strict=True)]
    return Extremes(tuple(float(m.min()) for m in means), tuple(float(m.max()) for m in means))


@once
def at_once(work: Work) -> Array:
    """The fuser over whole arrays, in one window: the fused luminance, (y, x)."""
    return tiled(work, 1 << 30, 1 << 30)


def tiled(work: Work, size: int, inner: int | None = None, less: int = 0) -> Array:
    """The fused luminance, (y, x); tiles read through their windows, the survey merged over them."""
    fuser = fuser_of(work.job.strategy, work.compute.precision, inner)
    survey = surveyed(work, fuser, size) if work.job.survey_tiling else None
    halo = work.job.tiling.halo - less
    shape = work.job.scene.grid.shape
    fused = np.full(shape, np.nan, work.compute.precision)
    for tile in Tiling(shape, size, halo):
        pixels = read_scene(work, tile.window)
        fused[tile.core.slices] = fuser.fuse(pixels.luminances, tile.core.relative_to(tile.window), survey)
    return fused


def surveyed(work: Work, fuser: Res2NetFuser, size: int) -> Survey:
    assert work.job.survey_tiling is not None
    found: list[Survey] = []
    for tile in Tiling(work.job.scene.grid.shape, size, work.job.survey_tiling.halo):
        pixels = read_scene(work, tile.window)
        found.append(fuser.survey(pixels.luminances, pixels.valid, tile.core.relative_to(tile.window)))
    return reduce(lambda one, other: one.merge(other), found)


def difference(one: Array, other: Array) -> float:
    """The largest; infinite where one is NaN and the other is not."""
    if not np.array_equal(np.isnan(one), np.isnan(other)):
        return np.inf
    return float(np.nanmax(np.abs(one.astype(np.float64) - other)))


@cache
def network_of(precision: str) -> Res2NetFuse:
    return load_weights("res2netfuse").network().to(getattr(torch, precision))


@cache
def fuser_of(strategy: str, precision: str, inner: int | None) -> Res2NetFuser:
    parameters = method("res2netfuse").strategy(strategy).resolved({})
    return Res2NetFuser(strategy, "res2netfuse", "cpu", precision, 1, inner, parameters)


# --- any tile, any inner window


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=2)
@given(size=st.integers(24, 110), inner=st.integers(16, 110))
def test_any_tiles_and_inner_windows_give_what_one_window_of_all_does(
    scene: Scene, strategy: str, size: int, inner: int
) -> None:
    work = scene(strategy)
    assert difference(tiled(work, size, inner), at_once(work)) <= SINGLE
    assert difference(at_once(work), plain(work)) <= OTHER_KERNELS


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_in_float64_nothing_but_the_last_digits_differs(scene: Scene, strategy: str) -> None:
    work = scene(strategy, "float64")
    wanted = plain(work)
    assert difference(tiled(work, 37, inner=24), wanted) <= DOUBLE


@pytest.mark.parametrize("strategy", ["l1", "mean", "detail"])
def test_a_halo_too_small_by_one_pixel_shows_in_float64(scene: Scene, strategy: str) -> None:
    work = scene(strategy, "float64")
    wanted = plain(work)
    assert difference(tiled(work, 37, less=1), wanted) > 20 * DOUBLE


def test_the_halos_planned_are_those_of_network_and_rule(three_sources: Scene) -> None:
    for strategy, survey in (("mean", 8), ("detail", 0), ("l1", None)):
        job = three_sources(strategy).job
        assert (job.survey_tiling and job.survey_tiling.halo) == survey
        assert job.tiling.halo == HALO + rule_of(strategy, job.strategy_parameters).reach


# --- the way a run takes


@pytest.mark.parametrize("validity", ["any", "all"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_colours_and_validity_of_tiles_are_those_of_the_whole(
    three_sources: Scene, strategy: str, validity: str
) -> None:
    work = three_sources(strategy, validity=validity)
    pixels = read_whole(work)
    assert pixels.colour is not None
    wanted = recolored(pixels.colour, at_once(work))
    wanted[:, ~pixels.shown(validity)] = np.nan
    for size in (45, 200):
        assert difference(run_in_tiles(work, size), wanted) <= SINGLE


def run_in_tiles(work: Work, size: int) -> Array:
    """Bands, y, x as a run makes them, NaN where invalid; every tile by the functions that tasks call."""
    job = work.job
    shape = job.scene.grid.shape
    tiling = Tiling(shape, size, job.tiling.halo)
    asked = None if job.survey_tiling is None else Tiling(shape, size, job.survey_tiling.halo)
    work = replace(work, job=replace(job, tiling=tiling, survey_tiling=asked))
    if asked is not None:
        parts = [survey_tile(work, tile.index) for tile in asked]
        stacks = zip(*parts, strict=True)
        merged = (reduce(lambda one, other: one.merge(other), stack) for stack in stacks)
        work = replace(work, surveys=tuple(merged))
    fused = np.full((len(job.reference.bands), *shape), np.inf, np.float32)
    for tile in tiling:
        values, valid = fuse_window(work, tile.core, tile.window)
        fused[(slice(None), *tile.core.slices)] = np.where(valid, values, np.nan)
    return fused


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_band_is_fused_as_it_would_be_alone(folder: Path, strategy: str) -> None:
    four = np.rint(photo((64, 78), 8, bands=4) * 9000 + 500).astype(np.uint16)
    four[:, :15, :30] = 0
    write_raster(folder / "four.tif", four, nodata=0, photometric="MINISBLACK")
    files = {"thermal": folder / "thermal.tif", "optical": folder / "four.tif"}
    work = scene_of(files, reference="optical", fusion={"strategy": strategy, "color": "bands"})(strategy)
    assert work.job.color == "bands"
    fused = run_in_tiles(work, 37)
    assert len(fused) == 4
    for number, band in enumerate(fused, start=1):
        alone = replace(band_alone(files, number, strategy), scalings=work.scalings)
        wanted = at_once(alone)
        wanted[~read_whole(alone).shown("any")] = np.nan
        assert difference(band, wanted) <= SINGLE


def band_alone(files: dict[str, Path], number: int, strategy: str) -> Work:
    """The work of a scene whose reference has this band only."""
    inputs = {"thermal": str(files["thermal"]), "optical": {"path": str(files["optical"]), "bands": [number]}}
    recipe = Recipe(inputs=inputs, reference="optical", fusion={"strategy": strategy})
    (job,) = make_plan(recipe).jobs
    return Work(uuid.uuid4().hex, job, (), (), Compute("cpu", "float32", 1))


@pytest.mark.parametrize("strategy", ["l1", "mean", "detail"])
def test_tiles_on_any_grid_are_those_of_the_whole(other_grid: Scene, strategy: str) -> None:
    work = other_grid(strategy)
    pixels = read_whole(work)
    assert pixels.colour is not None
    assert pixels.valid.any((1, 2)).all()
    wanted = recolored(pixels.colour, at_once(work))
    wanted[:, ~pixels.shown("any")] = np.nan
    assert difference(run_in_tiles(work, 45), wanted) <= SINGLE


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        ("TNO pair 8", "l1"),
        ("TNO pair 11", "mean"),
        ("another CRS", "mean"),
        ("panchromatic", "l1"),
        ("panchromatic", "mean"),
        ("panchromatic", "detail"),
    ],
)
def test_real_scenes_are_the_same_in_tiles_and_whole(name: str, strategy: str) -> None:
    work = real_scene(name)(strategy)
    pixels, fused = read_whole(work), at_once(work)
    wanted = fused[None] if pixels.colour is None else recolored(pixels.colour, fused)
    wanted[:, ~pixels.shown("any")] = np.nan
    assert difference(run_in_tiles(work, 57 if "pan" in name else 128), wanted) <= SINGLE


@pytest.mark.parametrize("strategy", ["l1", "mean"])
@pytest.mark.parametrize("name", ["TNO pair 11", "panchromatic"])
def test_real_scenes_are_the_same_in_float64(name: str, strategy: str, tmp_path: Path) -> None:
    roles = {role: shared_data(path) for role, path in REAL[name].items()}
    if "TNO" in name:
        roles = {role: part_of(path, tmp_path / f"{role}.tif") for role, path in roles.items()}
    work = scene_of(roles, reference=list(roles)[-1])(strategy, "float64")
    wanted = plain(work)
    assert difference(tiled(work, 57), wanted) <= DOUBLE
    assert difference(tiled(work, 57, less=1), wanted) > 1e-10


def part_of(image: Path, path: Path) -> Path:
    """A window of an image as a file of its own: float64 is slow."""
    with rasterio.open(image) as dataset:
        return write_raster(path, dataset.read(1, window=((70, 170), (100, 220))))


# --- the survey


@settings(max_examples=4)
@given(size=st.integers(24, 110), inner=st.integers(16, 110))
def test_the_survey_of_any_tiling_is_that_of_the_whole(three_sources: Scene, size: int, inner: int) -> None:
    work = three_sources("mean")
    wanted = surveyed(work, fuser_of("mean", "float32", None), 10_000)
    found = surveyed(work, fuser_of("mean", "float32", inner), size)
    assert isinstance(found, Extremes)
    assert isinstance(wanted, Extremes)
    ends = zip((*found.minimum, *found.maximum), (*wanted.minimum, *wanted.maximum), strict=True)
    assert max(abs(a - b) for a, b in ends) <= 1e-7


@settings(max_examples=4)
@given(size=st.integers(16, 110))
def test_the_moments_of_any_tiling_are_exactly_those_of_the_whole(three_sources: Scene, size: int) -> None:
    work = three_sources("detail")
    fuser, pixels = fuser_of("detail", "float32", None), read_whole(work)
    wanted = Moments.of(pixels.luminances, pixels.valid)
    assert surveyed(work, fuser, size) == wanted
    assert 0 < wanted.common < min(wanted.valid)


# --- reading


@st.composite
def windows(draw: st.DrawFn, shape: tuple[int, int]) -> Window:
    start = tuple(draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True))
    return Window(start, stop)


@pytest.mark.parametrize("resampling", RESAMPLINGS)
@settings(max_examples=40)
@given(data=st.data())
def test_a_pixel_is_the_same_bits_through_any_window(
    three_sources: Scene, resampling: str, data: st.DataObject
) -> None:
    for reference in ("optical", "thermal", "radar"):  # up, down and both
        work = three_sources(reference=reference, resampling=resampling)
        window = data.draw(windows(work.job.scene.grid.shape))
        assert_same_bits(read_scene(work, window), read_whole(work), window)


@pytest.mark.parametrize("resampling", RESAMPLINGS)
@settings(max_examples=20)
@given(data=st.data())
def test_a_pixel_of_any_grid_is_the_same_bits_through_any_window(
    other_grid: Scene, resampling: str, data: st.DataObject
) -> None:
    work = other_grid(resampling=resampling)
    window = data.draw(windows(work.job.scene.grid.shape))
    assert_same_bits(read_scene(work, window), read_whole(work), window)


@pytest.mark.parametrize("resampling", RESAMPLINGS)
@pytest.mark.parametrize("name", ["another CRS", "panchromatic", "partial overlap", "NaN-rich thermal"])
def test_real_scenes_are_the_same_bits_through_any_window(name: str, resampling: str, tmp_path: Path) -> None:
    files = warped_files(name, tmp_path)
    for reference, extent in product(files, ("reference", "union")):
        work = scene_of(files, grid={"extent": extent})(reference=reference, resampling=resampling)
        pixels = read_whole(work)
        shape = work.job.scene.grid.shape
        for tile in (*list(Tiling(shape, max(shape) // 2 + 5, HALO)), Tiling(shape, 1, 0)[(31, 17)]):
            assert_same_bits(read_scene(work, tile.window), pixels, tile.window)


def warped_files(name: str, folder: Path) -> dict[str, Path]:
    if name in REAL:
        return {role: shared_data(path) for role, path in REAL[name].items()}
    if name == "partial overlap":
        pair = shared_data("geo/pair_partial_overlap")
        return {"thermal": pair / "ST_B10_window.tif", "optical": pair / "SR_B4_window.tif"}
    # a sixth of it is NaN, and so is much of its edge; its partner is made up, at another spacing and place
    thermal = shared_data("geo/pair_landsat8_toa_newengland/LC80130312015295LGN00_B10_toa.tif")
    partner = write_raster(
        folder / "partner.tif",
        photo((420, 300), 4)[0].astype(np.float32),
        transform=Affine(0.0013, 0, -72.55, 0, -0.0011, 41.15),
        crs="EPSG:4326",
    )
    return {"thermal": thermal, "optical": partner}


def assert_same_bits(found: ScenePixels, pixels: ScenePixels, window: Window) -> None:
    at = (slice(None), *window.slices)
    assert found.luminances.dtype == np.float32
    assert np.array_equal(found.luminances, pixels.luminances[at])
    assert np.array_equal(found.valid, pixels.valid[at])
    assert (found.colour is None) == (pixels.colour is None)
    if found.colour is not None and pixels.colour is not None:
        assert np.array_equal(found.colour, pixels.colour[at])
