"""The grid of a scene. Oracles: shapely and PROJ on dense outlines, rasterio's suggestions, arithmetic."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from pyproj import CRS, Transformer
from rasterio.warp import calculate_default_transform
from rasters import photo, write_raster
from shapely import Polygon, union_all
from shared_data import shared_data

import batchfuse
from batchfuse.errors import DisjointError, GridError, RecipeError
from batchfuse.geometry.grid import ControlPoints, Grid
from batchfuse.geometry.window import Window
from batchfuse.imagery.align import align
from batchfuse.imagery.resample import resampled
from batchfuse.imagery.scene import Band, Source, SourceFile
from batchfuse.imagery.target import SceneGrid, Target, scene_grid
from batchfuse.job import Job
from batchfuse.plan import Plan

UTM = "EPSG:32632"
GEOSTATIONARY = "+proj=geos +h=35785831 +lon_0=-75 +ellps=GRS80 +sweep=x"


def grid(
    shape: tuple[int, int], west: float, north: float, size: float, crs: str | None = UTM, turn: float = 0
) -> Grid:
    affine = Affine.translation(west, north) @ Affine.rotation(turn) @ Affine.scale(size, -size)
    return Grid(shape, affine, None if crs is None else CRS(crs).to_wkt())


def source(role: str, place: Grid | ControlPoints) -> Source:
    file = SourceFile(Path(f"{role}.tif"), 1, "", ((1, 0),))
    return Source(role, (file,), place, "uint8", (Band(0, 1, "", 1.0, 0.0, None),))


def placed(*places: Grid | ControlPoints, **target: Any) -> SceneGrid:
    """The grid of a scene whose reference is the first of the places."""
    roles = ("optical", "thermal", "radar")
    wkt = target.pop("crs", None)
    wanted = Target(crs=None if wkt is None else CRS(wkt).to_wkt(), **target)
    return scene_grid([source(r, p) for r, p in zip(roles, places, strict=False)], 0, wanted)


def window_on(whole: Grid, part: Grid) -> Window:
    """Which pixels of a lattice a grid has; fails where it is not on the lattice."""
    move = ~whole.affine @ part.affine
    assert move.almost_equals(Affine.translation(round(move.c), round(move.f)), precision=1e-6)
    start = round(move.f), round(move.c)
    return Window(start, (start[0] + part.shape[0], start[1] + part.shape[1]))


# --- intersection and union on one plane

OPTICAL = grid((300, 400), 500_000, 5_600_000, 10)


def test_sources_on_one_lattice_are_cut_and_joined_by_whole_pixels() -> None:
    thermal = grid((300, 400), 500_000 + 1200, 5_600_000 - 1000, 10)
    cut = placed(OPTICAL, thermal, extent="intersection").grid
    assert (cut.shape, cut.affine) == ((200, 280), Affine(10, 0, 501_200, 0, -10, 5_599_000))
    joined = placed(OPTICAL, thermal, extent="union").grid
    assert (joined.shape, joined.affine) == ((400, 520), OPTICAL.affine)
    assert placed(OPTICAL, thermal).grid == OPTICAL


def test_a_pixel_that_is_covered_in_part_belongs_to_both() -> None:
    thermal = grid((11, 11), 500_000 + 1007, 5_600_000 - 1003, 30)
    part = Window((100, 100), (134, 134))
    for extent, wanted in (("intersection", part), ("union", Window.whole(OPTICAL.shape))):
        assert window_on(OPTICAL, placed(OPTICAL, thermal, extent=extent).grid) == wanted


def test_a_sliver_of_a_thousandth_of_a_pixel_asks_for_no_pixel() -> None:
    thermal = grid((100, 100), 500_000 + 1000.002, 5_600_000 - 999.998, 10)
    found = window_on(OPTICAL, placed(OPTICAL, thermal, extent="intersection").grid)
    assert found == Window((100, 100), (200, 200))


def test_where_all_grids_are_one_every_extent_is_the_references_own_to_the_bit() -> None:
    for extent in ("reference", "intersection", "union"):
        found = placed(OPTICAL, OPTICAL, extent=extent)
        assert found.grid == OPTICAL
        assert align(found.grid, OPTICAL).identical


def test_a_south_up_reference_stays_south_up() -> None:
    reference = Grid((300, 400), Affine(10, 0, 500_000, 0, 10, 5_597_000), OPTICAL.crs)
    thermal = grid((300, 400), 501_200, 5_599_000, 10)
    cut = placed(reference, thermal, extent="intersection").grid
    assert (cut.shape, cut.affine) == ((200, 280), Affine(10, 0, 501_200, 0, 10, 5_597_000))
    joined = placed(reference, thermal, extent="union").grid
    assert (joined.shape, joined.affine) == ((400, 520), Affine(10, 0, 500_000, 0, 10, 5_596_000))
    assert placed(reference, reference).differences(source("a", reference), align(cut, reference)) == []


def test_a_rotated_reference_is_north_up_first() -> None:
    turned = grid((300, 400), 500_000, 5_600_000, 10, turn=20)
    thermal = grid((100, 100), 500_000, 5_599_900, 30)
    found = placed(turned, thermal, extent="intersection")
    assert found.grid.is_axis_aligned
    assert window_on(turned.north_up(), found.grid).size > 0
    common = outline(turned, UTM).intersection(outline(thermal, UTM))
    assert_box(found.grid, turned.north_up(), common)
    assert "rotated" in found.warnings[0]


def test_without_any_georeference_only_one_size_has_an_extent() -> None:
    plain = Grid((30, 40), Affine.identity(), None)
    for extent in ("intersection", "union"):
        assert placed(plain, plain, extent=extent).grid == plain
        with pytest.raises(GridError, match="nothing tells how they lie"):
            placed(plain, Grid((30, 41), Affine.identity(), None), extent=extent)


def test_three_sources_that_meet_only_two_by_two_have_no_intersection() -> None:
    left, right = grid((300, 100), 499_500, 5_600_000, 10), grid((300, 100), 503_500, 5_600_000, 10)
    with pytest.raises(DisjointError, match=r"optical.tif, thermal.tif, radar.tif have no place that all"):
        placed(OPTICAL, left, right, extent="intersection")
    assert placed(OPTICAL, left, right, extent="union").grid.shape == (300, 500)


@pytest.mark.parametrize("extent", ["reference", "intersection", "union"])
def test_sources_of_different_places_are_refused_whatever_the_extent(extent: str) -> None:
    with pytest.raises(DisjointError, match=r"thermal.tif .* does not overlap optical.tif"):
        placed(OPTICAL, grid((300, 400), 900_000, 5_600_000, 10), extent=extent)


def test_a_union_that_holds_next_to_nothing_is_refused() -> None:
    along, across = grid((1, 2000), 500_000, 5_600_000, 10), grid((2000, 1), 500_000, 5_600_000, 10)
    with pytest.raises(GridError, match=r"the union of .* has 4e\+06 pixels, 1e\+03 times") as refused:
        placed(along, across, extent="union")
    assert "\n" not in str(refused.value)
    assert placed(along, across, extent="intersection").grid.shape == (1, 1)


# --- across CRSs


def outline(place: Grid, crs: str) -> Polygon:
    """A grid's footprint in another CRS: thousands of points of its edge through PROJ."""
    rows, columns = place.shape
    t = np.linspace(0, 1, 1500)[:-1]
    across = np.concatenate([t, 1 + 0 * t, 1 - t, 0 * t]) * columns
    down = np.concatenate([0 * t, t, 1 + 0 * t, 1 - t]) * rows
    xs, ys = place.affine @ (across, down)
    way = Transformer.from_crs(place.crs, crs, always_xy=True)
    return Polygon(np.stack(way.transform(xs, ys), axis=1))


def assert_box(found: Grid, lattice: Grid, area: Polygon) -> None:
    """Whether a grid is the smallest box of the lattice's pixels around an area of its plane."""
    window = window_on(lattice, found)
    back = ~lattice.affine
    corners = np.array([back @ point for point in np.array(area.convex_hull.exterior.coords)])
    for axis, places in ((1, corners[:, 0]), (0, corners[:, 1])):
        low, high = places.min(), places.max()
        assert window.start[axis] in {math.floor(low - 0.01), math.floor(low + 0.01)}
        assert window.stop[axis] in {math.ceil(high - 0.01), math.ceil(high + 0.01)}


def around(code: str, size: float, shape: tuple[int, int], dx: float, dy: float, turn: float) -> Grid:
    """A grid in another CRS whose middle is that of OPTICAL, moved by shares of its own size."""
    x, y = Transformer.from_crs(UTM, code, always_xy=True).transform(502_000, 5_598_500)
    rows, columns = shape
    affine = Affine.translation(x, y) @ Affine.rotation(turn) @ Affine.scale(size, -size)
    affine @= Affine.translation(columns * (dx - 0.5), rows * (dy - 0.5))
    return Grid(shape, affine, CRS(code).to_wkt())


@given(
    code=st.sampled_from(
        [("EPSG:32633", 25.0), ("EPSG:4326", 3e-4), ("EPSG:3857", 40.0), ("EPSG:3035", 7.0)]
    ),
    shape=st.tuples(st.integers(40, 300), st.integers(40, 300)),
    dx=st.floats(-0.45, 0.45),
    dy=st.floats(-0.45, 0.45),
    turn=st.sampled_from([0.0, 0.0, 30.0]),
)
def test_boxes_are_those_around_the_areas_of_dense_outlines(
    code: tuple[str, float], shape: tuple[int, int], dx: float, dy: float, turn: float
) -> None:
    thermal = around(code[0], code[1], shape, dx, dy, turn)
    first, second = outline(OPTICAL, UTM), outline(thermal, UTM)
    assert_box(placed(OPTICAL, thermal, extent="union").grid, OPTICAL, union_all([first, second]))
    common = first.intersection(second)
    if common.area > 10_000:
        assert_box(placed(OPTICAL, thermal, extent="intersection").grid, OPTICAL, common)


def test_the_common_area_of_three_is_that_of_their_outlines() -> None:
    thermal = around("EPSG:32633", 25, (90, 70), 0.3, 0.3, 15)
    radar = around("EPSG:3035", 7, (300, 500), -0.2, 0.3, -40)
    common = outline(OPTICAL, UTM).intersection(outline(thermal, UTM)).intersection(outline(radar, UTM))
    assert_box(placed(OPTICAL, thermal, radar, extent="intersection").grid, OPTICAL, common)


def test_strips_that_cross_without_a_corner_in_each_other_meet() -> None:
    along = grid((200, 4000), 480_000, 5_600_000, 10)
    across = around("EPSG:32633", 10, (4000, 200), 0, 0, 0)
    crossing = outline(along, UTM).intersection(outline(across, UTM))
    assert_box(placed(along, across, extent="intersection").grid, along, crossing)


def test_control_points_have_a_footprint_too() -> None:
    points = tuple(
        (float(r), float(c), 501_000.0 + 30 * c, 5_599_000.0 - 30 * r, 0.0)
        for r, c in itertools.product((0, 50, 100), repeat=2)
    )
    thermal = ControlPoints((100, 100), points, OPTICAL.crs)
    cut = placed(OPTICAL, thermal, extent="intersection").grid
    assert window_on(OPTICAL, cut) == Window((100, 100), (300, 400))
    joined = placed(OPTICAL, thermal, extent="union").grid
    assert window_on(OPTICAL, joined) == Window((0, 0), (400, 400))


def test_a_union_across_the_dateline_is_of_neighbours() -> None:
    reference = grid((100, 50), 179.5, 0.5, 0.01, "EPSG:4326")
    thermal = grid((400, 400), 166_000 - 40_000, 40_000, 200, "EPSG:32601")  # from 177.4 degrees west on
    joined = placed(reference, thermal, extent="union").grid
    left, _, right, _ = joined.bounds
    edge = np.array(outline(thermal, "EPSG:4326").exterior.coords)[:, 0] % 360
    assert left == pytest.approx(min(179.5, edge.min()), abs=0.01)
    assert right == pytest.approx(edge.max(), abs=0.01)
    assert right > 180
    cut = placed(reference, thermal, extent="intersection").grid
    assert cut.bounds[0] == pytest.approx(edge.min(), abs=0.01)


def test_a_source_around_a_pole_has_an_intersection_and_no_union_in_degrees() -> None:
    reference = grid((60, 360), -180, 90, 1, "EPSG:4326")
    polar = grid((400, 400), -2_000_000, 2_000_000, 10_000, "EPSG:3413")
    cut = window_on(reference, placed(reference, polar, extent="intersection").grid)
    lats = Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True).transform(2_000_000, 2_000_000)[1]
    assert cut == Window((0, 0), (math.ceil(90 - lats), 360))
    with pytest.raises(GridError, match="it goes around a pole"):
        placed(reference, polar, extent="union")
    whole = placed(polar, grid((60, 360), -180, 90, 1, "EPSG:4326"), extent="union").grid
    assert whole.shape[0] > 400  # 30 degrees north is far beyond


def test_a_disc_in_space_is_told_where_it_does_not_matter_and_refused_where_it_does() -> None:
    disc = grid((542, 542), -5_434_895, 5_434_895, 20_055, GEOSTATIONARY)
    inside = grid((100, 100), -80, 10, 0.1, "EPSG:4326")
    assert placed(inside, disc, extent="intersection").grid == inside
    for place, extent in ((inside, "union"), (grid((180, 360), -180, 90, 1, "EPSG:4326"), "intersection")):
        with pytest.raises(GridError, match="part of its edge has no place in EPSG:4326"):
            placed(place, disc, extent=extent)


# --- an explicit grid


def test_a_resolution_alone_puts_the_references_extent_on_its_whole_multiples() -> None:
    found = placed(OPTICAL, OPTICAL, resolution=(30.0, 25.0))
    left, bottom, right, top = found.grid.bounds
    assert found.grid.spacing_yx == (25, 30)
    assert (left % 30, right % 30, bottom % 25, top % 25) == (0, 0, 0, 0)
    assert (left, top) == (499_980, 5_600_000)
    assert 0 <= right - 504_000 < 30
    assert 0 <= 5_597_000 - bottom < 25
    assert found.words == "of 30 x 25 m in EPSG:32632"


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # rasterio multiplies affines with *
@pytest.mark.parametrize("code", ["EPSG:4326", "EPSG:3857", "EPSG:3035", "EPSG:32633"])
def test_a_crs_alone_asks_for_the_footprint_at_gdals_resolution(code: str) -> None:
    found = placed(OPTICAL, OPTICAL, crs=code).grid
    left, bottom, right, top = OPTICAL.bounds
    wanted, _, _ = calculate_default_transform(UTM, code, 400, 300, left, bottom, right, top)
    dy, dx = found.spacing_yx
    assert dx == dy == float(f"{dx:.3g}")
    # GDAL's from the diagonal, ours from the area: in degrees a pixel is no square on the ground
    assert dx == pytest.approx(wanted.a, rel=0.12 if code == "EPSG:4326" else 0.006)
    assert_box(found, Grid((1, 1), Affine(dx, 0, 0, 0, -dy, 0), found.crs), outline(OPTICAL, code))


def test_a_crs_that_the_reference_has_already_keeps_its_pixels() -> None:
    found = placed(OPTICAL, OPTICAL, crs=UTM).grid
    assert (found.shape, found.affine) == (OPTICAL.shape, OPTICAL.affine)


def test_a_crs_alone_finds_a_reference_across_the_dateline() -> None:
    reference = grid((200, 200), 166_000 - 40_000, 40_000, 400, "EPSG:32601")
    left, _, right, _ = placed(reference, reference, crs="EPSG:4326").grid.bounds
    assert right - left < 1
    polar = grid((400, 400), -2_000_000, 2_000_000, 10_000, "EPSG:3413")
    with pytest.raises(GridError, match="it goes around a pole"):
        placed(polar, polar, crs="EPSG:4326")
    disc = grid((542, 542), -5_434_895, 5_434_895, 20_055, GEOSTATIONARY)
    with pytest.raises(GridError, match="part of its edge has no place in EPSG:4326"):
        placed(disc, disc, crs="EPSG:4326")


def test_bounds_and_resolution_are_honoured_exactly() -> None:
    found = placed(
        OPTICAL, OPTICAL, bounds=(500_007.0, 5_598_000.0, 500_997.0, 5_599_500.0), resolution=(30.0, 15.0)
    )
    assert found.grid.bounds == (500_007, 5_598_000, 500_997, 5_599_500)
    assert found.grid.shape == (100, 33)
    third = placed(
        grid((100, 100), 8.2, 48.8, 0.01, "EPSG:4326"),
        bounds=(8.0, 48.0, 9.0, 49.0),
        resolution=(0.00027777777778,) * 2,
    )
    assert third.grid.bounds == (8, 48, 9, 49)
    assert third.grid.shape == (3600, 3600)


def test_bounds_alone_are_the_pixels_of_the_reference_they_reach_into() -> None:
    found = placed(OPTICAL, OPTICAL, bounds=(500_105.0, 5_599_001.0, 500_305.0, 5_601_000.0))
    assert window_on(OPTICAL, found.grid) == Window((-100, 10), (100, 31))
    assert found.words == "like optical, within bounds"


def test_bounds_in_another_crs_are_honoured_at_the_equivalent_resolution() -> None:
    bounds = (1_003_000.0, 6_535_000.0, 1_006_000.0, 6_538_000.0)
    found = placed(OPTICAL, OPTICAL, crs="EPSG:3857", bounds=bounds).grid
    assert found.bounds == bounds
    size = placed(OPTICAL, OPTICAL, crs="EPSG:3857").grid.spacing_yx[0]
    assert found.shape == (round(3000 / size),) * 2


def test_the_grids_of_neighbouring_scenes_are_one_lattice() -> None:
    other = grid((200, 200), 212_345.6, 5_588_888.8, 9.7, "EPSG:32633")
    one, two = (
        placed(place, place, crs="EPSG:3035", resolution=(12.5, 12.5)).grid for place in (OPTICAL, other)
    )
    window_on(one, two)
    assert one.crs == two.crs


def test_an_explicit_lattice_can_be_cut_and_extended() -> None:
    thermal = grid((300, 400), 501_200, 5_599_000, 10)
    for extent, bounds in (
        ("intersection", (501_180, 5_597_010 - 30, 504_000, 5_599_020)),
        ("union", (499_980, 5_596_000 - 10, 505_200 + 0, 5_600_010)),
    ):
        found = placed(OPTICAL, thermal, resolution=(30.0, 30.0), extent=extent).grid
        left, bottom, right, top = found.bounds
        assert all(n % 30 == 0 for n in (left, bottom, right, top))
        assert (left, right) == (bounds[0], bounds[2])
        assert abs(bottom - bounds[1]) < 30
        assert abs(top - bounds[3]) < 30


def test_a_target_that_a_source_does_not_touch_is_one_line() -> None:
    with pytest.raises(
        DisjointError, match=r"optical.tif .* does not overlap the target grid .*`grid.bounds`"
    ) as told:
        placed(OPTICAL, OPTICAL, bounds=(600_000.0, 5_599_000.0, 601_000.0, 5_600_000.0))
    assert "\n" not in str(told.value)


def test_a_target_crs_wants_sources_that_have_one() -> None:
    bare = Grid(OPTICAL.shape, OPTICAL.affine, None)
    with pytest.raises(GridError, match=r"optical.tif has no CRS but `grid.crs` is EPSG:3857"):
        placed(bare, bare, crs="EPSG:3857")
    assert placed(bare, bare, resolution=(20.0, 20.0)).grid.shape == (150, 200)


@pytest.mark.parametrize(
    "target",
    [
        {"resolution": (1e-3, 1e-3)},
        {"bounds": (0.0, 0.0, 1e9, 1e9)},
        {"bounds": (500_000.0, 5_597_000.0, 504_000.0, 5_600_000.0), "resolution": (1e-4, 10.0)},
        {"crs": "EPSG:4326", "resolution": (1e-300, 1e-300)},
    ],
)
def test_an_absurd_number_of_pixels_is_refused_with_it(target: dict[str, Any]) -> None:
    with pytest.raises(GridError, match=r"[\d.e+]+ x [\d.e+]+ pixels are too many"):
        placed(OPTICAL, OPTICAL, **target)


# --- reading on it


@pytest.mark.parametrize("method", ["nearest", "bilinear", "cubic", "average"])
@given(data=st.data())
def test_a_shift_by_whole_pixels_is_reading_for_every_kernel(method: str, data: st.DataObject) -> None:
    pixels = photo((40, 50), 3, bands=2).astype(np.float32)
    valid = np.random.default_rng(1).random((40, 50)) > 0.1

    def read(window: Window) -> tuple[Any, Any]:
        return pixels[:, *window.slices], valid[window.slices]

    place = grid((40, 50), 500_000, 5_600_000, 10)
    shifts = st.integers(-60, 60)
    top, left = data.draw(shifts), data.draw(shifts)
    whole = place.cropped(Window((top, left), (top + 45, left + 45)))
    try:
        alignment = align(whole, place)
    except DisjointError:
        return
    assert alignment.shift == (top, left)
    window = Window((data.draw(st.integers(0, 20)), data.draw(st.integers(0, 20))), (40, 45))
    found, there = resampled(alignment, window, read, method)
    wanted, known = resampled(replace(alignment, shift=None, identical=False), window, read, method)
    assert np.array_equal(there, known)
    assert np.array_equal(found, wanted)
    around = np.pad(np.where(valid, pixels, 0), ((0, 0), (120, 120), (120, 120)))
    rows, columns = (
        slice(120 + o + a, 120 + o + b)
        for o, a, b in zip((top, left), window.start, window.stop, strict=True)
    )
    assert np.array_equal(found, around[:, rows, columns])


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """Two images on one lattice that overlap in 60 x 70 of their 100 x 110 pixels."""
    for role, seed, rows, columns in (("optical", 1, 0, 0), ("thermal", 2, 40, 40)):
        pixels = np.rint(photo((100, 110), seed)[0] * 9000 + 500).astype(np.uint16)
        transform = OPTICAL.affine @ Affine.translation(columns, rows)
        write_raster(tmp_path / f"{role}.tif", pixels, transform=transform)
    return tmp_path


def plan_of(folder: Path, grid: dict[str, Any], **settings: Any) -> Plan:
    inputs = {role: {"path": f"{role}.tif", "range": [0, 10_000]} for role in ("thermal", "optical")}
    return batchfuse.make_plan(
        batchfuse.Recipe(
            **{"inputs": inputs, "folder": folder, "reference": "optical", "grid": grid, **settings}
        )
    )


def job_of(folder: Path, grid: dict[str, Any], **settings: Any) -> Job:
    (job,) = plan_of(folder, grid, **settings).jobs
    return job


def fused(folder: Path, grid: dict[str, Any], **settings: Any) -> tuple[Any, Affine, batchfuse.Report]:
    path = f"fused-{grid.get('extent', 'explicit')}"
    plan = plan_of(folder, grid, output={"path": path}, **settings)
    report = batchfuse.run(plan.recipe)
    assert report.exit_code == 0, report.outcomes
    with rasterio.open(folder / path / "scene.zarr") as dataset:
        return dataset.read(1), dataset.transform, report


def test_differences_are_told_from_the_reference_and_shares_of_the_area(pair: Path) -> None:
    shifted = "thermal: shifted by 400 m east and 400 m south (40 and 40 pixels)"
    assert job_of(pair, {"extent": "intersection"}).differences == (shifted,)
    assert job_of(pair, {"extent": "union"}).differences == (
        shifted,
        "thermal: covers 52 % of the union",
        "optical: covers 52 % of the union",
    )
    assert job_of(pair, {"resolution": 20}).differences[0] == "thermal: 10 m pixels instead of 20 m"


def test_mismatch_error_lets_whole_pixels_pass_where_the_extent_is_not_the_references(pair: Path) -> None:
    for extent in ("intersection", "union"):
        assert job_of(pair, {"extent": extent, "mismatch": "error"}).scene.grid
    for target in ({"extent": "reference"}, {"resolution": 20}):
        (failure,) = plan_of(pair, {**target, "mismatch": "error"}).failures
        assert "`mismatch: error` refuses it" in failure.reason


def test_statistics_are_of_each_sources_pixels_within_the_grid(pair: Path) -> None:
    inputs = {role: f"{role}.tif" for role in ("thermal", "optical")}
    _, _, report = fused(pair, {"extent": "intersection"}, inputs=inputs)
    for role, rows, columns in (
        ("optical", slice(40, 100), slice(40, 110)),
        ("thermal", slice(60), slice(70)),
    ):
        with rasterio.open(pair / f"{role}.tif") as dataset:
            part = dataset.read(1)[rows, columns]
        found = report.outcomes[0].scaling[role]
        assert (found["minimum"], found["maximum"], found["pixels"]) == (part.min(), part.max(), part.size)


def test_the_references_part_of_a_union_is_what_the_reference_alone_gives(pair: Path) -> None:
    tiles = {"tiles": {"size": 48}}
    alone, transform, _ = fused(pair, {"extent": "reference"}, **tiles)
    union, whole, _ = fused(pair, {"extent": "union"}, **tiles)
    assert transform == whole == OPTICAL.affine
    assert union.shape == (140, 150)
    assert np.isnan(union[:39, 111:]).all()
    # beside the reference's edge the network sees what lies beyond; before, nothing did
    assert np.abs(union[:88, :98] - alone[:88, :98]).max() <= 1e-6 * 10_000
    cut, corner, _ = fused(pair, {"extent": "intersection"}, **tiles)
    assert corner == OPTICAL.affine @ Affine.translation(40, 40)
    assert np.abs(cut[12:, 12:] - alone[52:, 52:]).max() <= 1e-6 * 10_000


def test_scenes_on_one_explicit_grid_mosaic(pair: Path) -> None:
    target = {"crs": "EPSG:3035", "resolution": 12.5}
    job = job_of(pair, target)
    _, transform, _ = fused(pair, target)
    assert transform == job.scene.grid.affine
    assert (transform.c % 12.5, transform.f % 12.5) == (0, 0)


@pytest.mark.parametrize("code", ["EPSG:nonsense", "EPSG:99999", "EPSG:4978", 'LOCAL_CS["x",UNIT["m",1]]'])
def test_a_target_crs_without_a_plane_is_refused_before_any_scene(pair: Path, code: str) -> None:
    with pytest.raises(RecipeError, match=r"^grid.crs: "):
        plan_of(pair, {"crs": code})


# --- real pairs


def test_the_real_partial_overlap_is_cut_to_what_both_have() -> None:
    folder = shared_data("geo/pair_partial_overlap")
    inputs = {"thermal": str(folder / "ST_B10_window.tif"), "optical": str(folder / "SR_B4_window.tif")}
    shapes = {}
    for extent in ("reference", "intersection", "union"):
        recipe = batchfuse.Recipe(inputs=inputs, reference="optical", grid={"extent": extent})
        shapes[extent] = batchfuse.make_plan(recipe).jobs[0].scene.grid.shape
    assert shapes == {"reference": (300, 300), "intersection": (200, 180), "union": (400, 420)}


def test_the_real_panchromatic_pair_gains_the_half_pixel_that_only_one_has() -> None:
    folder = shared_data("geo/pair_landsat8_pan_marburg")
    inputs = {
        role: str(next(folder.glob(f"*_{band}.TIF")))
        for role, band in (("thermal", "B10"), ("optical", "B8"))
    }
    recipe = batchfuse.Recipe(inputs=inputs, reference="optical", grid={"extent": "union"})
    grid = batchfuse.make_plan(recipe).jobs[0].scene.grid
    assert grid.shape == (83, 83)
    assert grid.affine == Affine(15, 0, 483_277.5, 0, -15, 5_628_532.5)


@pytest.mark.parametrize("extent", ["intersection", "union"])
def test_the_real_pair_of_two_crss_has_the_box_of_its_outlines(extent: str) -> None:
    folder = shared_data("geo/pair_crs_mismatch")
    inputs = {"nir": str(folder / "rgb1_fake_nir_epsg3857.tif"), "optical": str(folder / "rgb1.tif")}
    recipe = batchfuse.Recipe(inputs=inputs, reference="optical", grid={"extent": extent})
    job = batchfuse.make_plan(recipe).jobs[0]
    places = [source.place for source in job.scene.sources]
    nir, optical = (outline(place, job.scene.grid.crs or "") for place in places if isinstance(place, Grid))
    assert isinstance(places[1], Grid)
    area = nir.intersection(optical) if extent == "intersection" else union_all([nir, optical])
    assert_box(job.scene.grid, places[1], area)
