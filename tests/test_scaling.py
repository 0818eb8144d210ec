from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasters import write_raster

from batchfuse.errors import SourceError
from batchfuse.geometry.window import Window
from batchfuse.imagery.geotiff import open_source
from batchfuse.imagery.pixels import read_pixels
from batchfuse.imagery.scaling import Scaling, Statistics, scaled, wanted_bins
from batchfuse.imagery.tally import Tally, refined, tallied


def scaling_of(
    path: Path,
    value_range: tuple[float, float] | None = None,
    percentiles: tuple[float, float] | None = None,
    pieces: int = 3,
    **settings: Any,
) -> Scaling:
    """The scaling of a whole file, by the two passes in a few windows, as a run does it."""
    source = open_source("thermal", [path], **settings)
    rows, columns = source.place.shape
    edges = np.linspace(0, rows, pieces + 1).astype(int)
    windows = [Window((int(a), 0), (int(b), columns)) for a, b in itertools.pairwise(edges)]
    read = [read_pixels(source, window) for window in windows]
    bands = range(len(source.bands))
    tallies = [Tally.merged(tallied(pixels[i], valid) for pixels, valid in read) for i in bands]
    statistics = Statistics(source, tallies)
    bins = wanted_bins(statistics, value_range, percentiles)
    refinements: list[dict[int, Tally]] = [{} for _ in bins]
    for i, wanted in enumerate(bins):
        for pixels, valid in read:
            for key, tally in refined(pixels[i], valid, wanted).items():
                refinements[i][key] = refinements[i].get(key, Tally.empty()).merge(tally)
    return statistics.scaling(value_range, percentiles, refinements)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32", "float64", "int32", "uint32"])
def test_the_default_range_is_the_minimum_and_the_exact_995th_percentile(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(3)
    values = rng.gamma(2, 900, (120, 130)).astype(dtype)
    values[rng.random(values.shape) < 0.1] = 7
    path = write_raster(tmp_path / "a.tif", values, nodata=7)
    found = scaling_of(path)
    valid = values[values != 7].astype(np.float64)
    assert found.low == valid.min()
    assert found.high == pytest.approx(np.percentile(valid, 99.5), rel=1e-7)
    assert (found.valid, found.pixels) == (valid.size, values.size)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
@pytest.mark.parametrize("scale", [0.01, -0.5])
def test_percentiles_are_of_physical_values_whatever_the_sign_of_the_scale(
    tmp_path: Path, dtype: str, scale: float
) -> None:
    values = np.random.default_rng(4).normal(1000, 300, (90, 90)).astype(dtype)
    path = write_raster(tmp_path / "a.tif", values, scale=scale, offset=5.0)
    found = scaling_of(path, percentiles=(2, 98))
    physical = values.astype(np.float64) * scale + 5
    assert found.low == pytest.approx(np.percentile(physical, 2), rel=1e-6)
    assert found.high == pytest.approx(np.percentile(physical, 98), rel=1e-6)
    assert found.below == np.count_nonzero(physical < found.low)


def test_the_three_bands_of_a_colour_source_share_one_range(tmp_path: Path) -> None:
    values = np.random.default_rng(5).integers(1, 9000, (3, 60, 60)).astype(np.uint16)
    values[2] //= 3
    found = scaling_of(write_raster(tmp_path / "rgb.tif", values))
    assert found.low == values.min()
    assert found.high == pytest.approx(np.percentile(values, 99.5))


def test_eight_bits_map_from_0_to_255_and_four_bits_from_0_to_15(tmp_path: Path) -> None:
    values = np.random.default_rng(6).integers(40, 90, (30, 30)).astype(np.uint8)
    found = scaling_of(write_raster(tmp_path / "a.tif", values))
    assert (found.low, found.high, found.minimum, found.maximum) == (0, 255, 40, 89)
    bits = scaling_of(write_raster(tmp_path / "b.tif", (values % 16).astype(np.uint8), nbits=4))
    assert (bits.low, bits.high) == (0, 15)


def test_a_given_range_counts_what_lies_below_it(tmp_path: Path) -> None:
    values = np.random.default_rng(7).normal(0, 1, (80, 80)).astype(np.float32)
    found = scaling_of(write_raster(tmp_path / "a.tif", values), value_range=(-0.5, 2.0))
    assert found.below == np.count_nonzero(values < -0.5)
    assert any("below" in warning for warning in found.warnings)


def test_scaled_values_keep_small_differences_of_large_numbers(tmp_path: Path) -> None:
    values = (1e6 + np.random.default_rng(8).random((50, 50))).astype(np.float64)
    path = write_raster(tmp_path / "a.tif", values)
    source = open_source("thermal", [path])
    pixels, _ = read_pixels(source, Window.whole((50, 50)))
    scaling = Scaling(1e6, 1e6 + 1, 1e6, 1e6 + 1, 2500, 2500, 0)
    assert np.abs(scaled(source, scaling, pixels)[0] - (values - 1e6)).max() < 1e-6


def test_a_constant_source_scales_to_zero_with_a_warning(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", np.full((20, 20), 300, np.uint16))
    found = scaling_of(path)
    source = open_source("thermal", [path])
    pixels, _ = read_pixels(source, Window.whole((20, 20)))
    assert (scaled(source, found, pixels) == 0).all()
    assert any("constant" in warning for warning in found.warnings)


@pytest.mark.parametrize(("fill", "dtype"), [(-9999, "int16"), (-9999, "float32"), (0, "float32")])
def test_a_fill_value_that_nobody_declared_is_warned_about(tmp_path: Path, fill: int, dtype: str) -> None:
    values = np.random.default_rng(9).normal(300, 5, (80, 80)).astype(dtype)
    values[:10] = fill
    found = scaling_of(write_raster(tmp_path / "a.tif", values))
    assert any(f"nodata: {fill}" in warning for warning in found.warnings)


def test_a_fill_value_nearer_than_the_values_are_wide_is_told_by_its_number(tmp_path: Path) -> None:
    rng = np.random.default_rng(12)
    values = rng.integers(19_000, 58_000, (80, 80)).astype(np.uint16)  # as surface reflectance over ice
    values[:40] = 0
    (warning,) = scaling_of(write_raster(tmp_path / "a.tif", values)).warnings
    assert "50.0% of the valid pixels have the lone value 0" in warning
    assert "`nodata: 0`" in warning


@pytest.mark.parametrize(("low", "high", "quantum"), [(291.5, 295, 0.1), (271, 273, 0.01), (300, 301, 0.5)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_with_neighbours_are_no_fill_however_narrow_the_image(
    tmp_path: Path, low: float, high: float, quantum: float, dtype: str
) -> None:
    rng = np.random.default_rng(13)
    values = (np.round(rng.uniform(low, high, (90, 90)) / quantum) * quantum).astype(dtype)
    assert scaling_of(write_raster(tmp_path / "a.tif", values)).warnings == ()
    values[:20] = 0
    for pieces in (1, 4):
        (warning,) = scaling_of(write_raster(tmp_path / "b.tif", values), pieces=pieces).warnings
        assert "22.2% of the valid pixels have the lone value 0" in warning


@pytest.mark.parametrize("levels", [(0, 1, 2), (1, 2, 3, 4), (0, 10, 20, 30, 40), (5, 6)])
@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_evenly_spaced_levels_are_no_fill(tmp_path: Path, levels: tuple[int, ...], dtype: str) -> None:
    values = np.random.default_rng(14).choice(levels, (60, 60)).astype(dtype)
    assert scaling_of(write_raster(tmp_path / "a.tif", values)).warnings == ()


def test_many_zeros_that_have_neighbours_are_measurements(tmp_path: Path) -> None:
    depth = np.maximum(np.random.default_rng(15).normal(0, 2, (90, 90)), 0).astype(np.float32)
    assert scaling_of(write_raster(tmp_path / "snow.tif", depth)).warnings == ()


def test_a_few_pixels_of_a_value_that_dwarfs_the_rest_are_told_by_their_number(tmp_path: Path) -> None:
    values = np.random.default_rng(16).normal(0, 5, (150, 150)).astype(np.float32)
    values[0, :2] = -9999
    (warning,) = scaling_of(write_raster(tmp_path / "a.tif", values)).warnings
    assert ": 2 of the valid pixels have the lone value -9999" in warning


def test_a_range_of_one_value_is_warned_about(tmp_path: Path) -> None:
    values = np.full((80, 80), 500, np.uint16)
    values[:2] = np.arange(160).reshape(2, 80) + 501
    (warning,) = scaling_of(write_raster(tmp_path / "a.tif", values), percentiles=(2, 90)).warnings
    assert "the range is the one value 500" in warning


def test_ordinary_scenes_are_not_warned_about(tmp_path: Path) -> None:
    rng = np.random.default_rng(10)
    for name, values in {
        "u2": rng.gamma(2, 900, (80, 80)).astype(np.uint16),
        "f4": rng.normal(300, 5, (80, 80)).astype(np.float32),
        "few levels": rng.integers(131, 147, (80, 80)).astype(np.uint16),
        "dark": np.where(rng.random((80, 80)) < 0.5, 0, rng.gamma(2, 900, (80, 80))).astype(np.uint16),
        "z": np.abs(rng.normal(0, 1, (80, 80))).astype(np.float32),
    }.items():
        assert scaling_of(write_raster(tmp_path / f"{name}.tif", values)).warnings == ()


def test_a_source_without_a_valid_pixel_is_refused_in_one_line(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", np.zeros((20, 20), np.uint16), nodata=0)
    with pytest.raises(SourceError, match=r"a\.tif has no valid pixel .*nodata is 0") as caught:
        scaling_of(path)
    assert "\n" not in str(caught.value)


def test_one_huge_pixel_does_not_change_the_percentile(tmp_path: Path) -> None:
    values = np.random.default_rng(11).normal(300, 5, (100, 100)).astype(np.float32)
    values[50, 50] = 3e38
    found = scaling_of(write_raster(tmp_path / "a.tif", values))
    assert found.high == pytest.approx(np.percentile(values.astype(np.float64), 99.5), rel=1e-6)
