"""Pixels on the reference grid. Oracles: the whole image, GDAL's warper held to exactness, plain loops."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS
from rasterio.control import GroundControlPoint
from rasterio.enums import Resampling
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT
from rasterio.warp import reproject
from shared_data import shared_data
from test_align import PAIRS, UTM, bent, grid, middle_of

from batchfuse.geometry.grid import Grid
from batchfuse.geometry.tiling import Tiling
from batchfuse.geometry.window import Window
from batchfuse.imagery import kernels, resample
from batchfuse.imagery.align import align
from batchfuse.imagery.resample import resampled

METHODS = ["nearest", "bilinear", "cubic", "average"]
COARSE_UTM = Grid((200, 170), Affine(30, 0, 480000, 0, -30, 5400000), UTM.crs)
ROTATED = Affine.translation(482000, 5397000) @ Affine.rotation(30) @ Affine.scale(12, -11)
EVERY_PAIR = {
    **PAIRS,
    "shifted": (UTM, grid((620, 510), 479_993.7, 5_400_020.2, 10, "EPSG:32632")),
    "finer by 3": (COARSE_UTM, middle_of(UTM, "EPSG:32633", 10, 700)),
    "finer by 1.2": (
        Grid((400, 400), UTM.affine @ Affine.scale(1.2), UTM.crs),
        middle_of(UTM, "EPSG:32633", 10, 600),
    ),
    "rotated": (UTM, Grid((420, 400), ROTATED @ Affine.translation(-200, -210), UTM.crs)),
    "control points": (grid((400, 390), 8.99, 48.81, 3.1e-4, "EPSG:4326"), bent(2)),
}


def noise(shape, share=0.0, channels=1, seed=0):
    """Values 0..1 and validity; what is invalid holds NaN and infinity."""
    generator = np.random.default_rng(seed)
    values = generator.random((channels, *shape), dtype=np.float32)
    valid = generator.random(shape) >= share
    values[:, ~valid] = generator.choice([np.nan, np.inf, -np.inf, 3e38], size=(~valid).sum())
    return values, valid


def reader(values, valid):
    def read(window):
        return values[:, *window.slices], valid[window.slices]

    return read


def on_grid(reference, source, values, valid, method, window=None):
    alignment = align(reference, source)
    return resampled(alignment, window or Window.whole(reference.shape), reader(values, valid), method)


# a window is the whole


@lru_cache(maxsize=64)
def whole_of(pair, method, share):
    reference, source = EVERY_PAIR[pair]
    values, valid = noise(source.shape, share)
    return (values, valid, *on_grid(reference, source, values, valid, method))


@pytest.mark.parametrize("share", [0.0, 0.05])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pair", EVERY_PAIR)
def test_a_window_is_bit_for_bit_the_whole(pair, method, share):
    reference, source = EVERY_PAIR[pair]
    values, valid, expected, expected_valid = whole_of(pair, method, share)
    assert expected_valid.any()
    assert np.isfinite(expected).all()
    generator = np.random.default_rng(5)
    for height, width in ((1, 1), (1, 130), (77, 53), (128, 152), (211, 3)):
        top = generator.integers(0, max(1, reference.shape[0] - height))
        left = generator.integers(0, max(1, reference.shape[1] - width))
        window = Window(
            (top, left), (min(top + height, reference.shape[0]), min(left + width, reference.shape[1]))
        )
        found, found_valid = on_grid(reference, source, values, valid, method, window)
        assert np.array_equal(found, expected[:, *window.slices])
        assert np.array_equal(found_valid, expected_valid[window.slices])


@settings(deadline=None, max_examples=60)
@given(
    data=st.data(),
    pair=st.sampled_from(["neighbour zone", "finer by 3", "a pole"]),
    method=st.sampled_from(METHODS),
)
def test_any_window_is_the_whole(data, pair, method):
    reference, source = EVERY_PAIR[pair]
    values, valid, expected, expected_valid = whole_of(pair, method, 0.05)
    top, left = (data.draw(st.integers(0, n - 1)) for n in reference.shape)
    bottom = data.draw(st.integers(top + 1, min(reference.shape[0], top + 90)))
    right = data.draw(st.integers(left + 1, min(reference.shape[1], left + 90)))
    window = Window((top, left), (bottom, right))
    found, found_valid = on_grid(reference, source, values, valid, method, window)
    assert np.array_equal(found, expected[:, *window.slices])
    assert np.array_equal(found_valid, expected_valid[window.slices])


@pytest.mark.parametrize("method", METHODS)
def test_haloed_tiles_are_the_whole(method):
    values, valid, expected, _ = whole_of("neighbour zone", method, 0.05)
    reference, source = EVERY_PAIR["neighbour zone"]
    for tile in Tiling(reference.shape, 150, 12):
        found, _ = on_grid(reference, source, values, valid, method, tile.window)
        assert np.array_equal(found, expected[:, *tile.window.slices])


@pytest.mark.parametrize("method", METHODS)
def test_what_is_read_in_parts_is_the_same(method, monkeypatch):
    reference, source = EVERY_PAIR["finer by 3"]
    values, valid, expected, expected_valid = whole_of("finer by 3", method, 0.05)
    asked = []

    def read(window):
        asked.append(window.size)
        return values[:, *window.slices], valid[window.slices]

    monkeypatch.setattr(resample, "OUTPUT", 5_000)
    monkeypatch.setattr(resample, "INPUT", 20_000)
    found, found_valid = resampled(align(reference, source), Window.whole(reference.shape), read, method)
    assert len(asked) > 10
    assert max(asked) <= 20_000
    assert np.array_equal(found, expected)
    assert np.array_equal(found_valid, expected_valid)


# what it is compared with


def gdal(source, values, valid, reference, method, footprint):
    """GDAL's warp of the whole image, with its kernel's scale pinned and its transform as exact as it goes.

    Tolerance 0 is what crashes rasterio.
    """
    profile = {"driver": "GTiff", "count": 1, "dtype": "float32", "nodata": float("nan")}
    profile |= {"height": source.shape[0], "width": source.shape[1]}
    profile |= {"crs": source.crs, "transform": source.affine}
    with MemoryFile() as memory:
        with memory.open(**profile) as file:
            file.write(np.where(valid, values[0], np.nan), 1)
        with (
            memory.open() as file,
            WarpedVRT(
                file,
                crs=reference.crs,
                transform=reference.affine,
                height=reference.shape[0],
                width=reference.shape[1],
                resampling=Resampling[method],
                tolerance=1e-9,
                XSCALE=1 / footprint[1],
                YSCALE=1 / footprint[0],
            ) as warped,
        ):
            pixels = warped.read(1)
    return pixels, np.isfinite(pixels)


@pytest.mark.parametrize("share", [0.0, 0.05])
@pytest.mark.parametrize(
    ("pair", "median", "largest"),
    [
        ("shifted", 3e-7, 1e-6),
        ("neighbour zone", 3e-7, 4e-6),
        ("degrees", 3e-7, 4e-6),
        ("to mercator", 3e-7, 4e-6),
        ("equal area", 3e-7, 4e-6),
        ("rotated", 3e-7, 4e-6),
    ],
)
def test_whole_image_is_gdals(pair, median, largest, share):
    reference, source = EVERY_PAIR[pair]
    footprint = align(reference, source).footprint
    for method in ("bilinear", "cubic"):
        values, valid, ours, ours_valid = whole_of(pair, method, share)
        theirs, theirs_valid = gdal(source, values, valid, reference, method, footprint)
        both = ours_valid & theirs_valid
        assert both.mean() > 0.5
        # GDAL asks for the nearest pixel, we for half of the weight
        assert (ours_valid != theirs_valid).mean() < (0.03 if share else 1e-9)
        off = np.abs(ours[0] - theirs)[both]
        assert np.median(off) <= median
        assert off.max() <= largest


@pytest.mark.parametrize("pair", ["shifted", "neighbour zone", "degrees", "to mercator", "finer by 3"])
def test_nearest_takes_gdals_pixel_but_for_ties(pair):
    reference, source = EVERY_PAIR[pair]
    values, valid, ours, ours_valid = whole_of(pair, "nearest", 0.05)
    theirs, theirs_valid = gdal(
        source, values, valid, reference, "nearest", align(reference, source).footprint
    )
    other = (ours_valid != theirs_valid) | (np.abs(ours[0] - np.where(theirs_valid, theirs, 0)) > 0)
    assert other.mean() < 1e-3
    assert set(np.unique(ours[0][ours_valid])) <= set(np.unique(values[0][valid]))


def test_control_points_are_gdals_to_its_eighth_of_a_pixel():
    # a WarpedVRT onto a given grid pays no heed to control points, and reproject's tolerance can't be set
    reference, source = EVERY_PAIR["control points"]
    values, _, ours, ours_valid = whole_of("control points", "bilinear", 0.0)
    theirs = np.full(reference.shape, np.nan, np.float32)
    reproject(
        values[0],
        theirs,
        gcps=[GroundControlPoint(*p) for p in source.points],
        src_crs=source.crs,
        dst_crs=reference.crs,
        dst_transform=reference.affine,
        resampling=Resampling.bilinear,
        src_nodata=np.nan,
        dst_nodata=np.nan,
    )
    assert np.array_equal(np.isfinite(theirs), ours_valid)
    off = np.abs(ours[0] - theirs)[ours_valid]
    assert np.median(off) < 0.02
    assert off.max() < 0.2


def test_average_in_one_plane_is_gdals():
    source = grid((700, 600), 479_503, 5_400_502, 10, "EPSG:32632")
    values, valid = noise(source.shape)
    ours, ours_valid = on_grid(COARSE_UTM, source, values, valid, "average")
    theirs, _ = gdal(source, values, valid, COARSE_UTM, "average", (3, 3))
    assert ours_valid.mean() > 0.9
    assert np.abs(ours[0] - theirs)[ours_valid].max() < 1e-6


def plain_box(values, valid, row, column, size):
    """Weighted mean and the valid share of the area, by the plainest loop in float64."""
    weights, total, area = 0.0, 0.0, 0.0
    for i in range(valid.shape[0]):
        down = min(row + size[0] / 2, i + 0.5) - max(row - size[0] / 2, i - 0.5)
        for j in range(valid.shape[1]):
            across = min(column + size[1] / 2, j + 0.5) - max(column - size[1] / 2, j - 0.5)
            if down > 0 and across > 0:
                area += down * across
                if valid[i, j]:
                    weights += down * across
                    total += down * across * values[i, j]
    return (total / weights if weights else 0.0), weights / area


@pytest.mark.parametrize(("dy", "dx"), [(2.5, 3.7), (1.0, 4.2), (0.4, 3.0), (0.3, 0.6)])
def test_average_is_the_plain_mean_under_the_footprint(dy, dx):
    source = Grid((16, 20), Affine(1, 0, 0, 0, -1, 0), None)
    reference = Grid((int(13 / dy), int(16 / dx)), Affine(dx, 0, 1.3, 0, -dy, -1.7), None)
    values, valid = noise(source.shape, 0.3)
    found, found_valid = on_grid(reference, source, values, valid, "average")
    for y in range(reference.shape[0]):
        for x in range(reference.shape[1]):
            place = ((y + 0.5) * dy + 1.7 - 0.5, (x + 0.5) * dx + 1.3 - 0.5)
            mean, share = plain_box(values[0], valid, *place, (max(1, dy), max(1, dx)))
            if abs(share - 0.5) > 1e-3:
                assert found_valid[y, x] == (share > 0.5)
            if found_valid[y, x]:
                assert found[0, y, x] == pytest.approx(mean, abs=1e-4 if min(dx, dy) < 1 else 1e-5)


def test_a_source_much_finer_than_the_grid_is_averaged_whatever_is_asked_but_nearest():
    reference, source = EVERY_PAIR["finer by 3"]
    average = whole_of("finer by 3", "average", 0.05)
    for method in ("bilinear", "cubic"):
        assert np.array_equal(whole_of("finer by 3", method, 0.05)[2], average[2])
    assert not np.array_equal(whole_of("finer by 3", "nearest", 0.05)[2], average[2])
    assert max(align(reference, source).footprint) > 1.05


def test_average_on_a_finer_grid_is_bilinear():
    bilinear, average = (whole_of("neighbour zone", method, 0.0) for method in ("bilinear", "average"))
    assert np.array_equal(bilinear[3], average[3])
    assert np.abs(bilinear[2] - average[2]).max() < 1e-6


def test_channels_are_resampled_alike():
    reference, source = EVERY_PAIR["neighbour zone"]
    values, valid = noise(source.shape, 0.05, channels=3)
    for method in METHODS:
        together, _ = on_grid(reference, source, values, valid, method)
        for k in range(3):
            alone, _ = on_grid(reference, source, values[k : k + 1], valid, method)
            assert np.array_equal(together[k], alone[0])


# places


def sphere(lon, lat):
    """A field without a seam: the point on the unit sphere."""
    lon, lat = np.radians(lon), np.radians(lat)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)]).astype(np.float32)


@pytest.mark.parametrize("origin", [-180, 0])
@pytest.mark.parametrize(
    "reference",
    [
        grid((200, 400), 178.5, 1, 0.01, "EPSG:4326"),
        grid((200, 200), 19_950_000, 100_000, 1000, "EPSG:3857"),
        grid((200, 200), -500_000, 500_000, 5000, "EPSG:3413"),
        grid((180, 360), 30.5, 90, 1, "EPSG:4326"),
        Grid((200, 200), Affine(1000, 0, 600000, 0, 1000, 10_000), CRS("EPSG:32701").to_wkt()),
    ],
    ids=["dateline in degrees", "dateline in mercator", "pole", "another first longitude", "south-up"],
)
def test_the_world_is_round(reference, origin):
    source = grid((360, 720), origin, 90, 0.5, "EPSG:4326")
    down, across = np.indices(source.shape)
    values = sphere(origin + (across + 0.5) / 2, 90 - (down + 0.5) / 2)
    found, valid = on_grid(reference, source, values, np.ones(source.shape, bool), "bilinear")
    down, across = np.indices(reference.shape)
    x, y = reference.affine @ (across + 0.5, down + 0.5)
    from pyproj import Transformer

    lon, lat = Transformer.from_crs(reference.crs, 4326, always_xy=True).transform(x, y)
    assert valid.all()
    # half a pixel of half a degree at the seam and at the pole, where the source ends
    off = np.abs(found - sphere(lon, lat)).max(axis=0)
    assert off.max() < 0.0045
    assert np.median(off) < 2e-5


def test_south_up_and_mirrored_sources_give_the_same_picture():
    source = middle_of(UTM, "EPSG:32633", 30, 300)
    values, valid = noise(source.shape, 0.05)
    flipped = Grid(source.shape, source.affine @ Affine(-1, 0, 300, 0, -1, 300), source.crs)
    for method in METHODS:
        found, found_valid = on_grid(UTM, source, values, valid, method)
        again, again_valid = on_grid(UTM, flipped, values[:, ::-1, ::-1], valid[::-1, ::-1], method)
        # which of two pixels is nearest to their common edge depends on the direction
        assert (found_valid != again_valid).mean() < 1e-4
        assert (np.abs(found[0] - again[0])[found_valid & again_valid] > 1e-5).mean() < 1e-4


def test_the_real_south_up_file_is_the_real_north_up_file():
    reference = grid((600, 500), 621000, -412000, 10, "EPSG:32622")
    pictures = []
    for name in ("pair_landsat5_para_brazil/LT52240631988227CUB02_B6.TIF", "nasty/south_up_thermal.tif"):
        with rasterio.open(shared_data(f"geo/{name}")) as file:
            values, source = (
                file.read().astype(np.float32),
                Grid(file.shape, file.transform, file.crs.to_wkt()),
            )
        pictures.append(on_grid(reference, source, values, values[0] != 255, "cubic"))
    assert pictures[0][1].all()
    assert np.abs(pictures[0][0] - pictures[1][0]).max() < 1e-4


# validity


def test_a_pixel_is_valid_where_the_valid_weights_reach_a_half():
    source = Grid((1, 2), Affine(1, 0, 0, 0, -1, 0), None)
    values, valid = np.array([[[3, np.nan]]], np.float32), np.array([[True, False]])
    # columns at 0.0, 0.25, 0.5, 0.75, 1.0: the valid left pixel weighs 1, 3/4, 1/2, 1/4, 0
    reference = Grid((1, 5), Affine(0.25, 0, 0.375, 0, -1, 0), None)
    for method in ("bilinear", "cubic", "average"):
        found, found_valid = on_grid(reference, source, values, valid, method)
        assert found_valid.tolist() == [[True, True, True, False, False]]
        assert found.tolist() == [[[3, 3, 3, 0, 0]]]
    assert on_grid(reference, source, values, valid, "nearest")[1].tolist() == [
        [True, True, False, False, False]
    ]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 3e38])
def test_what_an_invalid_pixel_holds_has_no_effect(method, poison):
    for pair in ("neighbour zone", "finer by 3"):
        reference, source = EVERY_PAIR[pair]
        values, valid, expected, expected_valid = whole_of(pair, method, 0.05)
        poisoned = np.where(valid, values, np.float32(poison))
        found, found_valid = on_grid(reference, source, poisoned, valid, method)
        assert np.array_equal(found, expected)
        assert np.array_equal(found_valid, expected_valid)
        assert found.min() >= -0.3
        assert found.max() <= 1.3


@pytest.mark.parametrize("method", METHODS)
def test_an_upsampled_source_is_valid_to_its_very_corners(method):
    source = grid((20, 20), 480000, 5400000, 30, "EPSG:32632")
    values, valid = noise(source.shape)
    reference = grid((80, 80), 479900, 5400100, 10, "EPSG:32632")
    found, found_valid = on_grid(reference, source, values, valid, method)
    expected = np.zeros((80, 80), bool)
    expected[10:70, 10:70] = True
    assert np.array_equal(found_valid, expected)
    assert found[0, 10, 10] == values[0, 0, 0]
    assert not found[0, ~expected].any()


def test_cubic_beside_an_invalid_pixel_is_bilinear():
    reference = grid((60, 60), 480003, 5399997, 10, "EPSG:32632")
    source = grid((62, 62), 479990, 5400010, 10, "EPSG:32632")
    values, valid = noise(source.shape)
    valid[30, 30] = False
    cubic, bilinear = (
        on_grid(reference, source, values, valid, method)[0][0] for method in ("cubic", "bilinear")
    )
    beside = np.zeros((60, 60), bool)
    # the four taps of reference pixel y are source pixels y to y + 3
    beside[27:31, 27:31] = True
    beside[[-1]] = beside[:, [-1]] = False
    assert np.array_equal(cubic[beside], bilinear[beside])
    inner = np.zeros((60, 60), bool)
    inner[1:-1, 1:-1] = True
    assert (cubic != bilinear)[inner & ~beside].mean() > 0.99


def test_constant_images_stay_constant():
    for pair in ("neighbour zone", "finer by 1.2", "rotated", "a pole"):
        reference, source = EVERY_PAIR[pair]
        valid = noise(source.shape, 0.05)[1]
        for method in METHODS:
            found, found_valid = on_grid(
                reference, source, np.full((1, *source.shape), 0.7, np.float32), valid, method
            )
            assert np.abs(found[0][found_valid] - 0.7).max() < 1e-6


# what is read


def test_identical_grids_are_read_as_they_are():
    values, valid = noise(UTM.shape, 0.05)
    window = Window((5, 7), (55, 77))
    found, found_valid = on_grid(UTM, UTM, values, valid, "cubic", window)
    assert np.array_equal(found_valid, valid[window.slices])
    assert np.array_equal(found[0], np.where(valid, values[0], 0)[window.slices])


def test_a_window_beside_the_source_is_invalid_and_reads_one_pixel_at_most():
    source = grid((20, 20), 480000, 5400000, 30, "EPSG:32632")
    asked = []

    def read(window):
        asked.append(window.size)
        return np.ones((3, *window.shape), np.float32), np.ones(window.shape, bool)

    window = Window((300, 300), (340, 350))
    for channels in (3, None):
        found, valid = resampled(align(UTM, source), window, read, "bilinear", channels)
        assert found.shape == (3, 40, 50)
        assert not found.any()
        assert not valid.any()
    assert asked == [1]


@pytest.mark.parametrize("method", METHODS)
def test_no_more_is_read_than_the_kernel_touches(method):
    source = grid((700, 600), 479_503, 5_400_502, 10, "EPSG:32632")
    window, asked = Window((40, 50), (60, 80)), []
    values, valid = noise(source.shape)

    def read(under):
        asked.append(under)
        return values[:, *under.slices], valid[under.slices]

    resampled(align(UTM, source), window, read, method)
    reach = {"nearest": 1, "bilinear": 1, "cubic": 3, "average": 1}[method]
    assert len(asked) == 1
    assert all(n <= m + reach for n, m in zip(asked[0].shape, window.shape, strict=True))


def test_a_window_of_another_shape_than_asked_is_a_bug():
    with pytest.raises(ValueError, match="for a window of"):
        resampled(
            align(*EVERY_PAIR["shifted"]),
            Window((0, 0), (9, 9)),
            lambda _: (np.zeros((1, 2, 2), np.float32), np.ones((2, 2), bool)),
            "nearest",
        )


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="'lanczos' is none of nearest, bilinear, cubic, average"):
        resampled(align(UTM, UTM), Window((0, 0), (9, 9)), reader(*noise(UTM.shape)), "lanczos")


# compiled kernels


def test_a_cache_that_fails_costs_time_only(monkeypatch):
    class Broken:
        def __init__(self, _function):
            pass

        def load_overload(self, *_):
            raise EOFError("cut off")

        def save_overload(self, *_):
            raise OSError("no space left on device")

    def absent(_function):
        raise RuntimeError("cannot cache function: no locator available")

    for cache in (Broken, absent):
        monkeypatch.setattr(kernels, "FunctionCache", cache)
        assert kernels.compiled(lambda x: x + 1)(1) == 2


# real pairs


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("reference_name", "source_name"),
    [
        ("pair_crs_mismatch/rgb1.tif", "pair_crs_mismatch/rgb1_fake_nir_epsg3857.tif"),
        ("pair_crs_mismatch/rgb1_fake_nir_epsg3857.tif", "pair_crs_mismatch/rgb1.tif"),
        (
            "pair_landsat8_pan_marburg/LC08_L1TP_195025_20130707_B8.TIF",
            "pair_landsat8_pan_marburg/LC08_L1TP_195025_20130707_B10.TIF",
        ),
        (
            "pair_landsat8_pan_marburg/LC08_L1TP_195025_20130707_B4.TIF",
            "pair_landsat8_pan_marburg/LC08_L1TP_195025_20130707_B8.TIF",
        ),
        ("pair_partial_overlap/SR_B4_window.tif", "pair_partial_overlap/ST_B10_window.tif"),
    ],
    ids=["to mercator", "from mercator", "pan", "to pan", "partial"],
)
def test_real_pairs_are_the_same_in_any_window_and_gdals_as_a_whole(reference_name, source_name, method):
    with rasterio.open(shared_data(f"geo/{reference_name}")) as file:
        reference = Grid(file.shape, file.transform, file.crs.to_wkt())
    with rasterio.open(shared_data(f"geo/{source_name}")) as file:
        source = Grid(file.shape, file.transform, file.crs.to_wkt())
        pixels = file.read(1).astype(np.float32)
        valid = pixels != file.nodata
    values = (pixels / pixels[valid].max())[None]
    alignment = align(reference, source)
    ours, ours_valid = on_grid(reference, source, values, valid, method)
    for tile in Tiling(reference.shape, 37, 12):
        found, found_valid = on_grid(reference, source, values, valid, method, tile.window)
        assert np.array_equal(found, ours[:, *tile.window.slices])
        assert np.array_equal(found_valid, ours_valid[tile.window.slices])
    if max(alignment.footprint) > 1.05 and method != "nearest":
        return  # GDAL widens its kernels, we average
    if method == "average":
        return  # GDAL takes the pixel's own outline, we a box of one size
    theirs, theirs_valid = gdal(source, values, valid, reference, method, alignment.footprint)
    both = ours_valid & theirs_valid
    off = np.abs(ours[0] - theirs)[both]
    assert np.median(off) < 1e-6
    if method == "nearest":
        assert (off > 0).mean() < 3e-3
    else:
        assert off.max() < 1e-5
