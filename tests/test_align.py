"""Where the pixels of one grid lie in another. Oracles: PROJ, rasterio's transformers, plain arithmetic."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import CRS, Transformer
from rasterio.control import GroundControlPoint
from rasterio.transform import GCPTransformer
from shared_data import shared_data

from batchfuse.errors import GridError
from batchfuse.geometry.grid import ControlPoints, Grid
from batchfuse.geometry.window import Window
from batchfuse.imagery.align import Alignment, align

GEOSTATIONARY = "+proj=geos +h=35785831 +lon_0=-75 +ellps=GRS80 +sweep=x"
NAMES = ("optical/042.tif", "thermal/042.tif")


def grid(shape, west, north, size, crs):
    return Grid(shape, Affine(size, 0, west, 0, -size, north), None if crs is None else CRS(crs).to_wkt())


UTM = grid((600, 500), 480000, 5400000, 10, "EPSG:32632")
WORLD = grid((180, 360), -180, 90, 1, "EPSG:4326")


def exact(reference, source, rows, columns):
    """Source (row, column) of reference (row, column), by PROJ and the affines alone."""
    transformer = Transformer.from_crs(reference.crs, source.crs, always_xy=True)
    x, y = reference.affine @ (columns + 0.5, rows + 0.5)
    column, row = ~source.affine @ transformer.transform(x, y)
    return row - 0.5, column - 0.5


def middle_of(reference, code, size, n):
    """A grid of n x n pixels in another CRS around the middle of a reference."""
    rows, columns = reference.shape
    to = Transformer.from_crs(reference.crs, code, always_xy=True)
    x, y = to.transform(*(reference.affine @ (columns / 2, rows / 2)))
    return grid((n, n), x - size * n / 2, y + size * n / 2, size, code)


def whole(alignment: Alignment):
    return alignment.coordinates(Window.whole(alignment.reference.shape))


# identity and difference


def test_a_grid_is_identical_to_itself_and_has_no_differences():
    alignment = align(UTM, UTM)
    assert alignment.identical
    assert alignment.differences() == []
    assert alignment.source_window() == Window.whole(UTM.shape)


def test_a_millionth_of_a_thousandth_of_a_pixel_is_no_difference():
    alignment = align(UTM, grid(UTM.shape, 480000 + 1e-8, 5400000, 10, "EPSG:32632"))
    assert alignment.identical
    assert alignment.differences() == []


def test_pixel_sizes_that_add_up_to_a_ten_thousandth_of_a_pixel_are_a_difference():
    assert not align(UTM, grid(UTM.shape, 480000, 5400000, 10 + 1e-5 / 50, "EPSG:32632")).identical


def test_a_shift_of_half_a_pixel_is_told_and_kept():
    alignment = align(UTM, grid(UTM.shape, 480005, 5400005, 10, "EPSG:32632"))
    assert not alignment.identical
    assert alignment.differences() == [
        "shifted by 5 m east and 5 m north (0.5 and 0.5 pixels)",
        "covers 99 % of the reference",
    ]
    rows, columns = whole(alignment)
    assert np.array_equal(rows[:, 0], np.arange(600) + 0.5)
    assert np.array_equal(columns[0], np.arange(500) - 0.5)


def test_other_crs_resolution_and_extent_are_told_each():
    alignment = align(UTM, grid((300, 90), 480000, 5400000, 30, "EPSG:32632"))
    assert alignment.differences() == ["30 m pixels instead of 10 m", "covers 54 % of the reference"]
    differences = align(UTM, middle_of(UTM, "EPSG:4326", 0.0003, 400)).differences()
    assert differences == ["CRS EPSG:4326 instead of EPSG:32632", "0.0003° pixels instead of 10 m"]


def test_a_crs_of_another_name_in_the_same_plane_is_the_same_grid():
    named = CRS("EPSG:32632").to_wkt().replace("WGS 84 / UTM zone 32N", "UTM of ours")
    assert align(UTM, Grid(UTM.shape, UTM.affine, named)).identical
    as_proj = CRS("+proj=utm +zone=32 +datum=WGS84 +units=m").to_wkt()
    assert align(UTM, Grid(UTM.shape, UTM.affine, as_proj)).identical


def test_footprint_is_the_source_pixels_under_a_reference_pixel():
    assert align(UTM, grid((90, 90), 480000, 5400000, 30, "EPSG:32632")).footprint == pytest.approx(
        (1 / 3, 1 / 3), abs=1e-6
    )
    assert align(grid((90, 90), 480000, 5400000, 30, "EPSG:32632"), UTM).footprint == (3, 3)
    turned = Affine.translation(482000, 5397000) @ Affine.rotation(45) @ Affine.scale(10, -10)
    assert align(UTM, Grid((200, 200), turned, UTM.crs)).footprint == pytest.approx((1, 1), abs=1e-6)
    # a degree of latitude is 111.2 km, one of longitude less by the cosine of 48.7 degrees
    sy, sx = align(UTM, middle_of(UTM, "EPSG:4326", 0.0003, 400)).footprint
    assert sy == pytest.approx(10 / 111_200 / 0.0003, rel=2e-3)
    assert sx == pytest.approx(10 / (111_320 * np.cos(np.radians(48.72))) / 0.0003, rel=4e-3)


# refusals


def test_a_crs_on_one_side_only_is_refused_with_the_remedies():
    bare = Grid(UTM.shape, UTM.affine, None)
    with pytest.raises(
        GridError, match=r"thermal/042.tif has no CRS but optical/042.tif is in EPSG:32632: .*crs:"
    ):
        align(UTM, bare, NAMES)
    with pytest.raises(GridError, match=r"optical/042.tif has no CRS .* gdal_edit -a_srs"):
        align(bare, UTM, NAMES)


def test_without_any_georeference_the_same_size_is_pixel_on_pixel():
    plain = Grid((40, 50), Affine.identity(), None)
    placed = Grid((40, 50), Affine(30, 0, 7, 0, -30, 9), None)
    for pair in ((plain, plain), (plain, placed), (placed, plain)):
        alignment = align(*pair)
        assert alignment.identical
        assert alignment.source_window(Window((3, 4), (5, 6))) == Window((3, 4), (5, 6))


def test_without_any_georeference_another_size_is_refused():
    with pytest.raises(GridError, match=r"thermal/042.tif is 50x41 pixels and optical/042.tif 50x40"):
        align(Grid((40, 50), Affine.identity(), None), Grid((41, 50), Affine.identity(), None), NAMES)


def test_two_affines_without_crs_are_compared_in_one_unnamed_plane():
    alignment = align(grid((40, 50), 100, 200, 10, None), grid((40, 50), 110, 200, 10, None))
    assert not alignment.identical
    assert alignment.differences() == ["shifted by 10 units east (1 pixels)", "covers 98 % of the reference"]
    assert np.array_equal(whole(alignment)[1][0], np.arange(50) - 1)


def test_disjoint_extents_are_refused_with_both_places():
    with pytest.raises(GridError, match=r"thermal.* does not overlap optical/042.tif .*EPSG:32632") as raised:
        align(UTM, grid((10, 10), 900000, 5400000, 10, "EPSG:32632"), NAMES)
    assert "\n" not in str(raised.value)
    with pytest.raises(GridError, match="does not overlap"):
        align(UTM, grid((10, 10), 151, -33, 0.001, "EPSG:4326"), NAMES)


def test_grids_that_touch_at_an_edge_only_are_disjoint():
    with pytest.raises(GridError, match="does not overlap"):
        align(UTM, grid((600, 500), 485000, 5400000, 10, "EPSG:32632"))


@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:4326"])
def test_a_source_of_a_few_pixels_is_found_in_a_large_reference(crs):
    reference = grid((6000, 6000), 480000, 5400000, 10, "EPSG:32632")
    to = Transformer.from_crs(reference.crs, crs, always_xy=True)
    x, y = to.transform(497013, 5391007)
    source = grid((3, 3), x, y, 10 if crs == "EPSG:32632" else 0.0002, crs)
    alignment = align(reference, source)
    assert alignment.differences()[-1] == "covers less than 1 % of the reference"
    assert alignment.source_window() == Window((0, 0), (3, 3))
    assert align(source, reference).coverage == pytest.approx(1, abs=0.01)


def test_a_crs_proj_cannot_read_is_one_line():
    with pytest.raises(GridError, match=r"thermal/042.tif can't be brought onto the grid of optical/042.tif"):
        align(UTM, Grid(UTM.shape, UTM.affine, 'LOCAL_CS["unnamed",UNIT["metre",1]]'), NAMES)


# datums


def test_a_missing_datum_grid_is_told_with_metres():
    reference = grid((100, 100), 530000, 180000, 10, "EPSG:27700")
    doubt = align(reference, grid((2000, 2000), 690000, 5720000, 10, "EPSG:32630")).accuracy
    if doubt is None:
        pytest.skip("the British datum grid is installed here")
    assert "EPSG:32630 to EPSG:27700: accurate to 2 m only" in doubt
    assert "OSTN15" in doubt


def test_a_shared_datum_leaves_no_doubt():
    assert align(UTM, middle_of(UTM, "EPSG:32633", 30, 300)).accuracy is None


def test_a_datum_proj_does_not_know_is_doubted_unless_the_ellipsoid_is_the_same():
    geostationary = grid((100, 100), 0, 3_500_000, 3000, GEOSTATIONARY)
    assert align(geostationary, WORLD).accuracy is None
    old = grid((100, 100), 8, 49, 0.01, "+proj=longlat +ellps=bessel")
    doubt = align(UTM, old).accuracy
    assert doubt is not None
    assert "no datum shift" in doubt


# coordinates

PAIRS = {
    "neighbour zone": (UTM, middle_of(UTM, "EPSG:32633", 30, 300)),
    "degrees": (UTM, middle_of(UTM, "EPSG:4326", 0.0003, 300)),
    "to mercator": (UTM, middle_of(UTM, "EPSG:3857", 30, 400)),
    "from mercator": (
        grid((700, 900), 970000, 6230000, 15, "EPSG:3857"),
        middle_of(UTM, "EPSG:32632", 10, 3000),
    ),
    "equal area": (UTM, middle_of(UTM, "EPSG:3035", 25, 300)),
    "coarse and curved": (grid((700, 700), 100000, 6000000, 1000, "EPSG:32632"), WORLD),
    "geostationary": (
        grid((300, 300), -130, 60, 0.4, "EPSG:4326"),
        grid((542, 542), -5434895, 5434895, 20055, GEOSTATIONARY),
    ),
    "a pole": (grid((300, 280), -750_000, 700_000, 5000, "EPSG:3413"), WORLD),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_coordinates_are_those_of_proj_to_a_thousandth_of_a_pixel(pair):
    reference, source = PAIRS[pair]
    rows, columns = whole(align(reference, source))
    y, x = np.indices(reference.shape)[:, ::7, ::5]
    with np.errstate(invalid="ignore"):
        row, column = exact(reference, source, y.astype(float), x.astype(float))
        off = np.abs(rows[y, x] - row), np.abs((columns[y, x] - column + 180) % 360 - 180)
    somewhere = np.isfinite(row)
    assert somewhere.any()
    assert np.array_equal(np.isfinite(rows[y, x]), somewhere)
    assert max(o[somewhere].max() for o in off) < 1e-3


@pytest.mark.parametrize("pair", PAIRS)
def test_coordinates_are_the_same_bit_for_bit_in_any_window(pair):
    alignment = align(*PAIRS[pair])
    height, width = alignment.reference.shape
    rows, columns = whole(alignment)
    generator = np.random.default_rng(3)
    for _ in range(12):
        top, left = generator.integers(0, height - 1), generator.integers(0, width - 1)
        window = Window(
            (top, left), (generator.integers(top, height) + 1, generator.integers(left, width) + 1)
        )
        row, column = alignment.coordinates(window)
        assert np.array_equal(row, rows[window.slices], equal_nan=True)
        assert np.array_equal(column, columns[window.slices], equal_nan=True)


def test_coordinates_of_one_plane_are_plain_arithmetic():
    source = grid((200, 300), 479991, 5400017, 30, "EPSG:32632")
    rows, columns = whole(align(UTM, source))
    expected = (5400017 - (5400000 - 10 * (np.arange(600) + 0.5))) / 30 - 0.5
    assert np.abs(rows[:, 17] - expected).max() < 1e-6
    assert np.abs(columns[3] - ((480000 + 10 * (np.arange(500) + 0.5) - 479991) / 30 - 0.5)).max() < 1e-6


def test_a_reference_of_one_row_or_one_pixel_has_coordinates():
    source = middle_of(UTM, "EPSG:4326", 0.0003, 400)
    for shape in ((1, 300), (300, 1), (1, 1)):
        reference = Grid(shape, UTM.affine @ Affine.translation(100, 200), UTM.crs)
        rows, columns = whole(align(reference, source))
        row, column = exact(reference, source, *np.indices(shape).astype(float))
        assert np.abs(rows - row).max() < 1e-5
        assert np.abs(columns - column).max() < 1e-5


def test_a_latitude_first_crs_is_still_x_before_y():
    # EPSG:4326 says latitude first, CRS84 longitude first: as rasters both have x = longitude
    lonlat = middle_of(UTM, "OGC:CRS84", 0.0003, 400)
    latlon = Grid(lonlat.shape, lonlat.affine, CRS("EPSG:4326").to_wkt())
    assert np.allclose(whole(align(UTM, lonlat)), whole(align(UTM, latlon)), atol=1e-5)
    assert align(lonlat, latlon).identical
    # EPSG:2393 and EPSG:5847 put north first; so does the German Gauss-Krueger
    krueger = middle_of(UTM, "EPSG:31467", 30, 400)
    row, column = whole(align(UTM, krueger))
    assert abs(row[300, 250] - 199.5) < 1
    assert abs(column[300, 250] - 199.5) < 1


def test_heights_of_a_compound_crs_are_left_aside():
    compound = Grid(UTM.shape, UTM.affine, CRS("EPSG:32632+5773").to_wkt())
    assert align(UTM, compound).identical
    assert align(compound, UTM).identical


# directions


@pytest.mark.parametrize(
    ("affine", "told"),
    [
        (Affine(10, 0, 480000, 0, 10, 5394000), ["its first row is the southern one"]),
        (Affine(-10, 0, 485000, 0, -10, 5400000), ["its first column is the eastern one"]),
    ],
)
def test_south_up_and_mirrored_sources_are_turned(affine, told):
    alignment = align(UTM, Grid(UTM.shape, affine, UTM.crs))
    assert alignment.differences() == told
    rows, columns = whole(alignment)
    down, across = np.indices(UTM.shape).astype(float)
    assert np.array_equal(rows, 599 - down if affine.e > 0 else down)
    assert np.array_equal(columns, 499 - across if affine.a < 0 else across)


def test_a_rotated_and_sheared_source_is_exact():
    affine = (
        Affine.translation(482000, 5397000) @ Affine.rotation(30) @ Affine.shear(10, 0) @ Affine.scale(12, -9)
    )
    source = Grid((400, 400), affine @ Affine.translation(-200, -200), UTM.crs)
    alignment = align(UTM, source)
    down, across = np.indices(UTM.shape).astype(float)
    column, row = ~source.affine @ (UTM.affine @ (across + 0.5, down + 0.5))
    rows, columns = whole(alignment)
    assert max(np.abs(rows - row + 0.5).max(), np.abs(columns - column + 0.5).max()) < 1e-6
    assert "rotated or sheared" in " ".join(alignment.differences())


# around the world


@pytest.mark.parametrize("west", [0, 180, -170, 37.5])
def test_a_world_that_begins_elsewhere_is_the_same_world(west):
    reference = grid((180, 360), west, 90, 1, "EPSG:4326")
    rows, columns = whole(align(reference, WORLD))
    # each pixel has exactly one place: none is lost at the seam
    assert np.array_equal(rows, np.indices(rows.shape)[0])
    assert np.array_equal(
        columns[50],
        (np.arange(360) + west + 180.5) % 360 - 0.5 if west % 1 else (np.arange(360) + west + 180) % 360,
    )
    assert align(reference, WORLD).coverage > 0.99
    assert align(reference, WORLD).identical == (west == 180)


@pytest.mark.parametrize("code", ["EPSG:32660", "EPSG:3857", "EPSG:4326", "EPSG:3832"])
def test_a_reference_across_the_dateline_is_seamless(code):
    west, size = {
        "EPSG:32660": (600000, 1000),
        "EPSG:3857": (19_900_000, 1000),
        "EPSG:4326": (178.5, 0.01),
    }.get(code, (3_000_000, 1000))
    north = 1 if code == "EPSG:4326" else 100_000
    reference = grid((200, 400), west, north, size, code)
    alignment = align(reference, WORLD)
    rows, columns = whole(alignment)
    assert np.isfinite(rows).all()
    # continuous but for the one step around the world
    steps = np.diff(columns, axis=1)
    assert np.all((np.abs(steps) < 0.1) | (np.abs(np.abs(steps) - 360) < 0.1))
    assert alignment.coverage == 1
    assert columns.min() >= -0.5
    assert columns.max() < 359.5


@pytest.mark.parametrize("code", ["EPSG:3857", "EPSG:4326"])
def test_a_source_across_the_dateline_lies_where_it_is(code):
    per_degree = 111319.49079327358 if code == "EPSG:3857" else 1
    source = grid((40, 80), 179.8 * per_degree, 0.2 * per_degree, 0.01 * per_degree, code)
    reference = grid((20, 30), -180.1, 0.1, 0.01, "EPSG:4326")
    columns = whole(align(reference, source))[1]
    assert np.allclose(columns[7], np.arange(30) + 10, atol=1e-4)


def test_pixels_at_a_pole_are_found_one_by_one_and_seamlessly():
    reference = grid((400, 400), -200_000, 200_000, 1000, "EPSG:3413")
    rows, columns = whole(align(reference, WORLD))
    row, column = exact(reference, WORLD, *np.indices((400, 400)).astype(float))
    assert np.abs(rows - row).max() < 1e-3
    assert np.abs((columns - column + 180) % 360 - 180).max() < 1e-3
    assert rows.min() < 0


def test_the_rows_of_a_world_grid_next_to_the_pole_are_inside_mercator_nowhere():
    mercator = grid((400, 400), -20037508.34, 20037508.34, 100187.5417, "EPSG:3857")
    rows, _ = whole(align(WORLD, mercator))
    assert not ((rows[:4] >= -0.5) & (rows[:4] < 399.5)).any()
    assert ((rows[6:-6] >= -0.5) & (rows[6:-6] < 399.5)).all()


def test_what_the_satellite_does_not_see_has_no_place():
    reference = grid((542, 542), -5434895, 5434895, 20055, GEOSTATIONARY)
    alignment = align(reference, WORLD)
    rows, _ = whole(alignment)
    assert np.isnan(rows[:40, :40]).all()
    assert alignment.source_window(Window((0, 0), (40, 40))) is None
    assert np.isfinite(rows[200:340, 200:340]).all()
    assert alignment.coverage == pytest.approx(np.isfinite(rows).mean(), abs=0.02)


# ground control points


def bent(order: int) -> ControlPoints:
    """A source of 300 x 400 whose world is a polynomial of its pixels."""
    points = []
    for row in np.linspace(0, 300, 6):
        for column in np.linspace(0, 400, 7):
            bend = (row * column) * 2e-8 + row**2 * 1e-8 if order == 2 else 0
            points.append((row, column, 9 + 3e-4 * column + bend, 48.8 - 3e-4 * row + bend, 0.0))
    return ControlPoints((300, 400), tuple(points), CRS("EPSG:4326").to_wkt())


@pytest.mark.parametrize("order", [1, 2])
def test_control_points_are_followed_as_gdal_does(order):
    source = bent(order)
    reference = grid((280, 390), 8.99, 48.81, 3.1e-4, "EPSG:4326")
    alignment = align(reference, source)
    rows, columns = whole(alignment)
    down, across = np.indices(reference.shape)
    x, y = reference.affine @ (across + 0.5, down + 0.5)
    with GCPTransformer([GroundControlPoint(*p) for p in source.points]) as transformer:
        row, column = transformer.rowcol(x.ravel(), y.ravel(), op=np.positive)
    known = np.isfinite(rows).ravel()
    assert known.mean() > 0.9
    assert np.abs(rows.ravel() - row + 0.5)[known].max() < 1e-3
    assert np.abs(columns.ravel() - column + 0.5)[known].max() < 1e-3
    assert alignment.differences()[0] == "placed by 42 ground control points"


def test_control_points_in_another_crs_go_through_proj():
    source = bent(1)
    alignment = align(grid((600, 500), 500000, 5404000, 10, "EPSG:32632"), source)
    rows, columns = whole(alignment)
    lon, lat = Transformer.from_crs(32632, 4326, always_xy=True).transform(502505, 5401005)
    assert columns[299, 250] == pytest.approx((lon - 9) / 3e-4 - 0.5, abs=1e-3)
    assert rows[299, 250] == pytest.approx((48.8 - lat) / 3e-4 - 0.5, abs=1e-3)


def test_control_points_on_both_sides_of_the_dateline_are_neighbours():
    points = tuple(
        (r, c, (179.5 + c / 100 + 180) % 360 - 180, -r / 100, 0.0) for r in (0, 50, 100) for c in (0, 50, 100)
    )
    source = ControlPoints((100, 100), points, CRS("EPSG:4326").to_wkt())
    columns = whole(align(grid((10, 40), 179.8, -0.2, 0.01, "EPSG:4326"), source))[1]
    assert np.allclose(columns[0], np.arange(40) + 30, atol=1e-3)


def test_a_polynomial_does_not_show_its_source_twice():
    with rasterio.open(shared_data("geo/nasty/gcps_only.tif")) as file:
        points, crs = file.gcps
        source = ControlPoints(file.shape, tuple((p.row, p.col, p.x, p.y, p.z) for p in points), crs.to_wkt())
    box = np.array([(p.x, p.y) for p in points])
    far = grid((800, 1800), -180, 80, 0.1 * 2, "EPSG:4326")
    rows, columns = whole(align(far, source))
    inside = (
        (rows >= -0.5)
        & (rows < source.shape[0] - 0.5)
        & (columns >= -0.5)
        & (columns < source.shape[1] - 0.5)
    )
    down, across = np.nonzero(inside)
    x, y = far.affine @ (across + 0.5, down + 0.5)
    size = np.ptp(box, axis=0)
    assert inside.any()
    assert np.all(x > box[:, 0].min() - 0.2 * size[0])
    assert np.all(x < box[:, 0].max() + 0.2 * size[0])
    assert np.all(y > box[:, 1].min() - 0.2 * size[1])
    assert np.all(y < box[:, 1].max() + 0.2 * size[1])


# windows of the source


@pytest.mark.parametrize("pair", PAIRS)
def test_the_source_window_holds_what_lies_under_every_pixel(pair):
    reference, source = PAIRS[pair]
    alignment = align(reference, source)
    height, width = reference.shape
    for window in (
        None,
        Window((height // 3, width // 4), (height // 2, width // 2)),
        Window((5, 6), (6, 7)),
    ):
        rows, columns = alignment.coordinates(window or Window.whole(reference.shape))
        with np.errstate(invalid="ignore"):
            inside = (rows >= -0.5) & (rows < source.shape[0] - 0.5)
            inside &= (columns >= -0.5) & (columns < source.shape[1] - 0.5)
        found = alignment.source_window(window)
        if not inside.any():
            continue
        assert found is not None
        row, column = np.floor(rows[inside] + 0.5), np.floor(columns[inside] + 0.5)
        assert found.start[0] <= row.min()
        assert row.max() < found.stop[0]
        assert found.start[1] <= column.min()
        assert column.max() < found.stop[1]
        grown = alignment.source_window(window, margin=3)
        assert grown == found.grown(3, source.shape)


def test_a_source_window_is_as_tight_as_the_pixels_are():
    source = grid((600, 500), 480300, 5399500, 10, "EPSG:32632")
    alignment = align(UTM, source)
    assert alignment.source_window() == Window((0, 0), (550, 470))
    assert alignment.source_window(Window((100, 100), (120, 130))) == Window((50, 70), (70, 100))
    assert alignment.source_window(Window((0, 0), (50, 30))) is None
    coarse = align(UTM, grid((200, 170), 480000, 5400000, 30, "EPSG:32632"))
    assert coarse.source_window(Window((3, 6), (9, 12))) == Window((1, 2), (3, 4))
    fine = align(grid((20, 20), 480000, 5400000, 30, "EPSG:32632"), UTM)
    assert fine.source_window(Window((1, 2), (3, 4))) == Window((3, 6), (9, 12))


# where it runs


def test_an_alignment_can_be_sent_to_another_process():
    alignment = align(*PAIRS["degrees"])
    again = pickle.loads(pickle.dumps(alignment))
    assert again == alignment
    assert np.array_equal(whole(again), whole(alignment))


def test_threads_get_the_same_coordinates():
    alignment = align(*PAIRS["a pole"])
    expected = whole(align(*PAIRS["a pole"]))
    found: list[bool] = []

    def ask() -> None:
        found.extend(np.array_equal(whole(alignment), expected, equal_nan=True) for _ in range(3))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 12


def test_planning_loads_neither_numba_nor_rasterio():
    script = (
        "import sys\n"
        "from affine import Affine\n"
        "from pyproj import CRS\n"
        "from batchfuse.geometry.grid import Grid\n"
        "from batchfuse.imagery.align import align\n"
        "one = Grid((60, 60), Affine(10, 0, 480000, 0, -10, 5400000), CRS(32632).to_wkt())\n"
        "two = Grid((60, 60), Affine(0.001, 0, 8.7, 0, -0.001, 48.76), CRS(4326).to_wkt())\n"
        "assert align(one, two).differences()\n"
        "print([name for name in ('numba', 'rasterio', 'torch') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# real pairs


def test_the_panchromatic_band_is_offset_by_half_of_its_partner():
    folder = shared_data("geo/pair_landsat8_pan_marburg")
    grids = {}
    for band in ("B8", "B10"):
        with rasterio.open(next(folder.glob(f"*_{band}.TIF"))) as file:
            grids[band] = Grid(file.shape, file.transform, file.crs.to_wkt())
    alignment = align(grids["B8"], grids["B10"])
    assert alignment.differences()[:2] == [
        "30 m pixels instead of 15 m",
        "shifted by 7.5 m east and 7.5 m north (0.5 and 0.5 pixels)",
    ]
    assert np.array_equal(whole(alignment)[1][0], np.arange(82) / 2 - 0.5)


def test_a_crs_without_a_code_is_named_and_brought_together():
    folder = shared_data("geo/pair_crs_mismatch")
    grids = []
    for name in ("rgb1.tif", "rgb1_fake_nir_epsg3857.tif"):
        with rasterio.open(folder / name) as file:
            grids.append(Grid(file.shape, file.transform, file.crs.to_wkt()))
    alignment = align(*grids)
    assert alignment.differences()[0] == "CRS EPSG:3857 instead of UTM Zone 18, Northern Hemisphere"
    assert alignment.coverage > 0.95
    assert alignment.accuracy is None
