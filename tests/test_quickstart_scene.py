"""The quickstart scene: made again by its script, as its README says, and its two images on one land."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.enums import ColorInterp, Resampling
from rasterio.vrt import WarpedVRT

QUICKSTART = Path(__file__).parents[1] / "recipes" / "quickstart"
NAMES = ("valley_optical.tif", "valley_thermal.tif")
OPTICAL, THERMAL = (QUICKSTART / "scenes" / name for name in NAMES)
SHORE, OUTLET = (slice(205, 315), slice(340, 470)), (slice(310, 370), slice(335, 460))
"""Rows and columns of the optical image: the north shore of the lake; before the power plant."""
SHIFTS = [(i, j) for i in range(-4, 5) for j in range(-4, 5)]

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def remade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elsewhere") / "scenes"
    script = QUICKSTART / "make_scene.py"
    subprocess.run([sys.executable, str(script), str(folder)], check=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def reflectance() -> Floats:
    """Red, green, blue; NaN where invalid."""
    with rasterio.open(OPTICAL) as file:
        numbers = file.read(masked=True).astype(float).filled(np.nan)
        return np.asarray(numbers * np.array(file.scales)[:, None, None])


@pytest.fixture(scope="module")
def kelvin() -> Floats:
    """The thermal image on the optical grid, as GDAL warps it; NaN where invalid."""
    with rasterio.open(OPTICAL) as onto, rasterio.open(THERMAL) as file:
        grid = {"crs": onto.crs, "transform": onto.transform, "width": onto.width, "height": onto.height}
        with WarpedVRT(file, resampling=Resampling.bilinear, tolerance=0.01, **grid) as warped:
            numbers = warped.read(1, masked=True).astype(float).filled(np.nan)
        return np.asarray(numbers * file.scales[0] + file.offsets[0])


@pytest.mark.parametrize("name", NAMES)
def test_the_script_makes_the_files_of_the_repository_again(name: str, remade: Path) -> None:
    with rasterio.open(remade / name) as again, rasterio.open(QUICKSTART / "scenes" / name) as kept:
        assert again.profile == kept.profile
        assert (again.scales, again.offsets, again.units) == (kept.scales, kept.offsets, kept.units)
        np.testing.assert_array_equal(again.read(), kept.read())


def test_the_scene_is_small_enough_for_the_repository() -> None:
    assert {path.name for path in OPTICAL.parent.glob("*.tif")} == set(NAMES)
    assert OPTICAL.stat().st_size + THERMAL.stat().st_size < 1_600_000


def test_the_optical_image_is_what_the_readme_says() -> None:
    with rasterio.open(OPTICAL) as file:
        assert (file.count, file.height, file.width, file.res) == (3, 640, 640, (10.0, 10.0))
        assert (file.crs, set(file.dtypes), file.nodatavals) == ("EPSG:32632", {"uint16"}, (0.0,) * 3)
        assert file.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        assert (file.scales, file.offsets) == ((1e-4,) * 3, (0.0,) * 3)
        assert file.block_shapes == [(256, 256)] * 3


def test_the_thermal_image_is_what_the_readme_says() -> None:
    with rasterio.open(THERMAL) as file:
        assert (file.count, file.height, file.width, file.res) == (1, 230, 230, (30.0, 30.0))
        assert (file.crs, file.dtypes, file.nodata) == ("EPSG:32633", ("uint16",), 0.0)
        assert (file.scales, file.offsets, file.units) == ((0.00341802,), (149.0,), ("K",))
        assert file.block_shapes == [(256, 256)]


def test_the_grids_are_askew_and_the_thermal_one_holds_the_optical_one() -> None:
    with rasterio.open(OPTICAL) as optical, rasterio.open(THERMAL) as thermal:
        onto = Transformer.from_crs(optical.crs, thermal.crs, always_xy=True)
        left, bottom, right, top = optical.bounds
        x, y = onto.transform([left, right, right, left], [top, top, bottom, bottom])
        bounds = thermal.bounds
    assert 4.0 < abs(math.degrees(math.atan2(y[1] - y[0], x[1] - x[0]))) < 5.0
    assert bounds.left <= min(x) < max(x) <= bounds.right
    assert bounds.bottom <= min(y) < max(y) <= bounds.top


def test_each_image_ends_at_the_edge_of_its_own_swath(reflectance: Floats, kelvin: Floats) -> None:
    no_light, no_warmth = np.isnan(reflectance[0]), np.isnan(kelvin)
    assert all(np.array_equal(np.isnan(band), no_light) for band in reflectance)
    assert 0.01 < no_light.mean() < 0.10
    assert 0.01 < no_warmth.mean() < 0.10
    assert no_light[-1, -1]
    assert no_warmth[0, 0]
    assert not (no_light & no_warmth).any()


def test_reflectances_and_temperatures_are_those_of_a_summer_morning(
    reflectance: Floats, kelvin: Floats
) -> None:
    assert 0.005 < np.nanmin(reflectance) < np.nanmax(reflectance) < 0.6
    low, middle, high = np.nanpercentile(kelvin, [0.1, 50, 99.9])
    assert 283 < low < middle < high < 350
    assert 293 < middle < 303


def bluish(reflectance: Floats) -> NDArray[np.bool_]:
    """Where the optical image alone sees water."""
    red, green, blue = reflectance
    return np.asarray((red < 0.10) & (blue > 0.85 * green))


def best_shift(fit: dict[tuple[int, int], float]) -> tuple[float, float]:
    """Rows and columns of the best fit: the top of the parabola through it and its neighbours."""
    i, j = max((s for s in fit if max(np.abs(s)) < 4), key=lambda shift: fit[shift])
    tops = []
    for before, after in (((i - 1, j), (i + 1, j)), ((i, j - 1), (i, j + 1))):
        tops.append((fit[before] - fit[after]) / (fit[before] + fit[after] - 2 * fit[i, j]) / 2)
    return i + tops[0], j + tops[1]


def test_both_images_see_the_lake_at_the_same_place(reflectance: Floats, kelvin: Floats) -> None:
    dark, cool = bluish(reflectance), np.nan_to_num(kelvin) < 295.5
    assert 0.4 < cool[SHORE].mean() < 0.7
    fit = {}
    for shift in SHIFTS:
        pair = dark[SHORE], np.roll(cool, shift, axis=(0, 1))[SHORE]
        fit[shift] = float((pair[0] & pair[1]).sum() / (pair[0] | pair[1]).sum())
    assert fit[0, 0] > 0.9
    assert math.hypot(*best_shift(fit)) < 0.5, best_shift(fit)


def test_edges_of_fields_and_forests_fall_together(reflectance: Floats, kelvin: Floats) -> None:
    inner = (slice(200, 600), slice(40, 440))
    edges = [np.hypot(*np.gradient(image)) for image in (reflectance.mean(axis=0), kelvin)]
    light, warmth = (np.clip(edge, 0, np.nanpercentile(edge, 95)) for edge in edges)
    fit = {}
    for shift in SHIFTS:
        pair = light[inner].ravel(), np.roll(warmth, shift, axis=(0, 1))[inner].ravel()
        fit[shift] = float(np.corrcoef(*pair)[0, 1])
    assert math.hypot(*best_shift(fit)) < 0.5, best_shift(fit)


def test_each_image_shows_what_the_other_does_not(reflectance: Floats, kelvin: Floats) -> None:
    both = ~np.isnan(kelvin) & ~np.isnan(reflectance[0])
    luminance = np.tensordot([0.299, 0.587, 0.114], reflectance, axes=1)
    assert 0.1 < np.corrcoef(luminance[both], kelvin[both])[0, 1] < 0.8
    # the burning rim of the forest fire is far hotter than all else, and lies under smoke or in dark forest
    burning = np.nan_to_num(kelvin) > 325
    assert 5 < burning.sum() < 2_000
    assert luminance[burning].max() < np.nanpercentile(luminance, 99.5)
    # the power plant's warm water looks like the rest of the lake
    water = bluish(reflectance)[OUTLET]
    warm, cool = (water & part for part in (kelvin[OUTLET] > 296, kelvin[OUTLET] < 293.5))
    assert min(warm.sum(), cool.sum()) > 100
    assert abs(luminance[OUTLET][warm].mean() - luminance[OUTLET][cool].mean()) < 0.02


def test_the_recipe_finds_one_scene_in_the_folder() -> None:
    recipe = yaml.safe_load((QUICKSTART / "recipe.yaml").read_text())
    assert recipe["reference"] == "optical"
    assert recipe["fusion"] == {"strategy": "l1"}
    assert recipe["output"] == {"path": "fused"}
    for role, path in (("thermal", THERMAL), ("optical", OPTICAL)):
        assert QUICKSTART / recipe["inputs"][role].format(scene="valley") == path
