from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pyproj import Geod
from rasters import photo, write_raster
from skimage.color import rgb2lab

import batchfuse
from batchfuse.geometry.grid import Grid
from batchfuse.geometry.tiling import Tiling
from batchfuse.imagery.geotiff import open_source
from batchfuse.imagery.ground import metres_a_pixel
from batchfuse.picture import orientation, shows_heat
from batchfuse.report.colours import Stretch
from batchfuse.report.lettering import lettering
from batchfuse.report.mosaic import AREA, LONGEST, TOGETHER, Mosaic
from batchfuse.report.page import Legend
from batchfuse.report.quicklook import Panel, Ruler, write_quicklook
from batchfuse.report.rulers import length_of, round_below, ticks
from batchfuse.task import reduced

PIXELS = Ruler(1.0, 1.0, metres=False)
EMPTY = 0  # alpha of an invalid pixel


def panel(image: NDArray[np.float64], title: str = "optical", **more: Any) -> Panel:
    about = ("a.tif", "10 x 10 pixels")
    return Panel(image, Legend(title, about, "values 0 to 1", 0.0, 1.0, "", **{"heat": False} | more))


def drawn(path: Path, *panels: Panel, ruler: Ruler = PIXELS, notes: str = "") -> NDArray[np.uint8]:
    """The sheet, RGBA."""
    write_quicklook(panels, ("scene", "10 x 10 pixels"), ruler, notes, path / "a.png")
    with Image.open(path / "a.png") as file:
        return np.asarray(file)


def holes(sheet: NDArray[np.uint8]) -> int:
    return int((sheet[..., 3] == EMPTY).sum())


# --- reducing -----------------------------------------------------------------------------------


@given(st.integers(5, 60), st.integers(5, 60), st.integers(3, 40), st.integers(1, 9))
def test_a_mosaic_of_tiles_is_the_block_mean_of_the_whole(
    rows: int, columns: int, size: int, step: int
) -> None:
    image = np.random.default_rng(0).random((2, rows, columns))
    image[:, :3, :4] = np.nan
    shape = (-(-rows // step), -(-columns // step))
    mosaic = Mosaic(shape, step)
    for tile in Tiling((rows, columns), size, 0):
        mosaic.add([reduced(image[(slice(None), *tile.core.slices)], tile.core, step)])
    found = mosaic.images()[0]
    for y in range(shape[0]):
        for x in range(shape[1]):
            block = image[:, y * step : (y + 1) * step, x * step : (x + 1) * step]
            if np.isnan(block).all():
                assert np.isnan(found[:, y, x]).all()
            else:
                assert np.allclose(found[:, y, x], np.nanmean(block, axis=(1, 2)))


@given(st.integers(1, 200_000), st.integers(1, 200_000), st.integers(2, 20))
def test_a_mosaic_is_bounded_whatever_the_scene_and_the_number_of_its_sources(
    rows: int, columns: int, images: int
) -> None:
    mosaic = Mosaic.of((rows, columns), images)
    edge = LONGEST + 1  # rounding up adds a row and a column at most
    assert max(mosaic.shape) <= LONGEST
    assert mosaic.shape[0] * mosaic.shape[1] <= min(AREA, TOGETHER / images) + 2 * edge
    assert mosaic.shape[0] * mosaic.step >= rows
    assert mosaic.shape[1] * mosaic.step >= columns


# --- the sheet ----------------------------------------------------------------------------------


def test_invalid_pixels_are_transparent_and_nothing_else_is(tmp_path: Path) -> None:
    gray = np.linspace(0, 1, 400 * 300).reshape(1, 400, 300)
    gray[:, 100:150, 50:80] = np.nan
    sheet = drawn(tmp_path, panel(gray), panel(np.repeat(gray, 3, axis=0)), panel(gray, heat=True))
    assert set(np.unique(sheet[..., 3])) == {EMPTY, 255}
    assert holes(sheet) == 3 * 50 * 30
    assert len(list(tmp_path.iterdir())) == 1
    assert (sheet[0, :, :3] == 255).all()  # the page is white, so that text can be read on any


def test_a_source_and_the_fused_image_show_a_value_in_one_colour(tmp_path: Path) -> None:
    source = np.linspace(0, 1, 40_000).reshape(1, 200, 200)
    fused = np.clip(source * 0.5 + 0.4, 0, 1)
    fused[:, 90:110, 90:110] = source[:, 90:110, 90:110]
    sheet = drawn(tmp_path, panel(source, "optical"), panel(fused, "fused", like=0))
    both = Stretch.of(source, fused)
    expected = both.coloured(source, heat=False)[90:110, 90:110]
    hits = sum(
        np.array_equal(sheet[y : y + 20, x : x + 20], expected)
        for y in range(sheet.shape[0] - 20)
        for x in range(0, sheet.shape[1] - 20)
        if np.array_equal(sheet[y, x], expected[0, 0]) and np.array_equal(sheet[y, x + 19], expected[0, 19])
    )
    assert hits == 2


def test_a_stretch_is_not_shared_where_it_would_hide_an_image(tmp_path: Path) -> None:
    dark = np.linspace(0.0, 0.05, 10_000).reshape(1, 100, 100)
    sheet = drawn(tmp_path, panel(dark, "optical"), panel(dark + 0.9, "fused", like=0))
    alone = Stretch.of(dark).coloured(dark, heat=False)
    assert len(np.unique(alone[..., 0])) > 200
    assert len(np.unique(sheet[..., 0])) > 200


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 300), (300, 1), (41, 41), (2, 3), (1600, 40), (40, 1600), (720, 720)]
)
@pytest.mark.parametrize("images", [2, 3, 17])
def test_a_sheet_of_any_scene_is_of_a_size_that_people_can_look_at(
    tmp_path: Path, shape: tuple[int, int], images: int
) -> None:
    mosaic = Mosaic.of(shape, images)
    image = np.linspace(0, 1, mosaic.shape[0] * mosaic.shape[1]).reshape(1, *mosaic.shape)
    sheet = drawn(tmp_path, *[panel(image, f"band{i}", heat=i == 0) for i in range(images)])
    assert 500 <= sheet.shape[1] <= 2300
    assert 150 <= sheet.shape[0] <= 4000


def test_tiny_scenes_are_enlarged_by_whole_pixels(tmp_path: Path) -> None:
    image = np.zeros((1, 41, 41))
    image[:, 20, 20] = np.nan
    sheet = drawn(tmp_path, panel(image), panel(image))
    assert holes(sheet) == 2 * 7 * 7


def test_pixels_that_are_not_square_on_the_ground_are_not_square_in_the_picture(tmp_path: Path) -> None:
    image = np.full((1, 100, 100), np.nan)
    there = np.argwhere(drawn(tmp_path, panel(image), ruler=Ruler(20.0, 10.0, metres=True))[..., 3] == EMPTY)
    rows, columns = there.max(0) - there.min(0) + 1
    assert rows == 2 * columns


def test_scenes_without_valid_pixels_or_contrast_still_give_a_picture(tmp_path: Path) -> None:
    nothing, constant = np.full((1, 20, 20), np.nan), np.full((3, 20, 20), 7.0)
    lone = constant.copy()
    lone[:, 3, 3] = 9
    sheet = drawn(
        tmp_path, panel(nothing), panel(constant), panel(lone), panel(np.repeat(nothing, 3, axis=0), like=1)
    )
    assert holes(sheet) == 2 * (20 * 16) ** 2
    assert sheet.shape[1] > 40


# --- colours ------------------------------------------------------------------------------------


def test_heat_grows_evenly_lighter() -> None:
    image = np.linspace(0, 1, 256).reshape(1, 1, 256)
    shown = Stretch(np.zeros(1), 1.0).coloured(image, heat=True)
    lightness = rgb2lab(shown[..., :3])[0, :, 0]
    assert (np.diff(lightness) >= -0.3).all()
    assert np.corrcoef(lightness, np.arange(256))[0, 1] > 0.99
    assert (lightness[0] < 2, lightness[-1] > 95) == (True, True)


def test_haze_is_taken_off_each_band_and_a_difference_keeps_its_colour() -> None:
    clear = photo((60, 60), bands=3) * 0.2
    clear -= np.percentile(clear, 1, axis=(1, 2))[:, None, None]
    hazy = clear + np.array([0.0, 0.1, 0.4])[:, None, None]
    shown = [Stretch.of(image).coloured(image, heat=False).astype(int) for image in (clear, hazy)]
    assert np.abs(shown[0] - shown[1]).max() <= 1


def test_gray_stays_gray_in_a_colour_image_without_haze() -> None:
    image = photo((60, 60), bands=3) * np.array([0.9, 1.0, 0.8])[:, None, None]
    image[:, :10] = np.linspace(0, 1, 60)
    shown = Stretch.of(image).coloured(image, heat=False)[:10, :, :3]
    assert (np.ptp(shown, axis=-1) == 0).all()


@pytest.mark.parametrize(
    ("role", "units", "heat"),
    [
        ("thermal", None, True),
        ("ir", None, True),
        ("landsat_tir", None, True),
        ("LWIR-2", None, True),
        ("infrared", None, True),
        ("temperature", None, True),
        ("b10", "K", True),
        ("b10", "degC", True),
        ("pet", None, True),
        ("FDG-PET", None, True),
        ("spect", None, True),
        ("petrol", None, False),
        ("ct", None, False),
        ("optical", None, False),
        ("near-infrared", None, False),
        ("nir", None, False),
        ("swir", None, False),
        ("mri", None, False),
        ("first", None, False),
        ("template", None, False),
    ],
)
def test_heat_is_known_by_its_role_or_its_unit(
    tmp_path: Path, role: str, units: str | None, heat: bool
) -> None:
    source = open_source(role, [write_raster(tmp_path / "a.tif", np.ones((3, 3), np.uint8))])
    assert shows_heat(replace(source, units=units)) is heat


# --- rulers and letters -------------------------------------------------------------------------


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 8))
def test_ticks_are_few_round_and_inside(low: float, span: float, most: int) -> None:
    found = ticks(low, low + span, most)
    assert 1 <= len(found) <= most
    slack = 1e-6 * max(abs(low), span)
    for value, label in found:
        assert low - slack <= value <= low + span + slack
        assert float(label) == pytest.approx(value, abs=slack)


@given(st.floats(1e-6, 1e9))
def test_the_length_of_a_scale_bar_is_a_round_number_of_which_most_fits(most: float) -> None:
    length = round_below(most)
    assert most / 2.5 * (1 - 1e-9) <= length <= most * (1 + 1e-9)
    assert f"{length:.3e}"[:4] in {"1.00", "2.00", "5.00"}


@pytest.mark.parametrize(("off", "step"), [(0, 1), (1e-12, 1), (-1e-12, 1), (1e-6, 0.5)])
@pytest.mark.parametrize("power", [1e-3, 1, 1e3])
def test_a_power_of_ten_fits_in_itself_whatever_rounding_took(power: float, off: float, step: float) -> None:
    assert round_below(power * (1 - off)) == pytest.approx(power * step, rel=1e-12)


@pytest.mark.parametrize(
    ("metres", "said"),
    [
        *((2000, "2 km"), (500, "500 m"), (0.5, "50 cm"), (0.002, "2 mm"), (1e6, "1000 km")),
        *((1000, "1 km"), (1, "1 m"), (0.01, "1 cm"), (1 - 1e-12, "1 m"), (999, "999 m"), (0.99, "99 cm")),
    ],
)
def test_lengths_have_a_unit_of_their_size(metres: float, said: str) -> None:
    assert length_of(metres) == said


@pytest.mark.parametrize(
    ("crs", "affine"),
    [
        ("EPSG:4326", Affine(0.001, 0, 10, 0, -0.001, 60.2)),
        ("EPSG:32632", Affine(10, 0, 500_000, 0, -10, 5_600_000)),
        ("EPSG:3857", Affine(10, 0, 1_000_000, 0, -10, 8_400_000)),
        ("EPSG:2263", Affine(3, 0, 1_000_000, 0, -3, 200_000)),
        ("EPSG:3413", Affine(30, 0, -200_000, 0, -30, -2_000_000)),
    ],
)
def test_a_pixel_spans_what_the_ellipsoid_says_in_degrees_metres_and_feet(crs: str, affine: Affine) -> None:
    from pyproj import CRS, Transformer

    grid = Grid((100, 80), affine, CRS(crs).to_wkt())
    found = metres_a_pixel(grid)
    assert found is not None
    # the oracle: the whole grid's middle row and column, measured in one go
    to_globe = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    ends = [affine @ end for end in ((40, 0), (40, 100), (0, 50), (80, 50))]
    lons, lats = to_globe.transform(*zip(*ends, strict=True))
    _, _, metres = Geod(ellps="WGS84").inv(lons[::2], lats[::2], lons[1::2], lats[1::2])
    assert found == pytest.approx((metres[0] / 100, metres[1] / 80), rel=1e-3)


def test_a_pixel_of_no_place_has_no_metres_and_one_of_a_building_site_its_own() -> None:
    local = (
        'ENGCRS["site",EDATUM["x"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["foot",0.3048]]'
    )
    assert metres_a_pixel(Grid((5, 5), Affine.identity())) is None
    assert metres_a_pixel(Grid((5, 5), Affine.scale(10), local)) == pytest.approx((3.048, 3.048))


@pytest.mark.parametrize("text", ["plain", "Wärme ñ", "тепло", "熱画像", "a\nb", "\udce4", ""])
def test_any_name_can_be_drawn_and_is_shortened_in_its_middle(text: str) -> None:
    assert lettering(text, 12, 200).width <= 200
    long = lettering(text + "x" * 200 + ".tif", 12, 150)
    assert long.width <= 150
    assert long.text.endswith(".tif")


# --- of a run -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("affine", "said"),
    [
        (Affine(10, 0, 0, 0, -10, 0), ""),
        (Affine(10, 0, 0, 0, 10, 0), "south is up"),
        (Affine(-10, 0, 0, 0, 10, 0), "south is up, west is right"),
    ],
)
def test_a_scene_that_is_not_north_up_says_so(affine: Affine, said: str) -> None:
    assert orientation(Grid((5, 5), affine, "EPSG:32632")) == said
    assert orientation(Grid((5, 5), affine)) == ""


def test_a_run_draws_its_thermal_source_in_the_colours_of_heat(tmp_path: Path) -> None:
    for name, seed in (("t", 1), ("o", 2)):
        write_raster(tmp_path / f"{name}.tif", photo((90, 120), seed)[0].astype(np.float32))
    inputs = {"thermal": str(tmp_path / "t.tif"), "optical": str(tmp_path / "o.tif")}
    report = batchfuse.run(batchfuse.Recipe(inputs=inputs, output={"path": str(tmp_path / "f")}))
    assert report.exit_code == 0, report.outcomes
    with Image.open(next((tmp_path / "f").glob("*.quicklook.png"))) as file:
        sheet = np.asarray(file).astype(int)
    coloured = sheet[..., :3].max(-1) - sheet[..., :3].min(-1) > 60
    assert 0.1 < coloured.mean() < 0.4  # one panel of three is in the colours of heat
