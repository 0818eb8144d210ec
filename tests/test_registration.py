"""Shifts that headers don't tell. Oracles: the shift that was made, and scikit-image's own estimate."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasters import NORTH_UP, photo, write_raster
from shared_data import shared_data
from skimage.registration import phase_cross_correlation

import batchfuse
from batchfuse.geometry.window import Window
from batchfuse.imagery.registration import Offset, Shift, compared_windows, offset_between, voted

BIG = photo((480, 480), 11)[0]


def optical(rows: int = 0, columns: int = 0, size: int = 400) -> Any:
    return BIG[20 + rows : 20 + rows + size, 20 + columns : 20 + columns + size].astype(np.float32)


def as_thermal(image: Any, seed: int = 0) -> Any:
    """Another modality: bright becomes dark, unevenly, with blobs and noise of its own."""
    other = photo(image.shape, 100 + seed)[0]
    noise = np.random.default_rng(seed).normal(0, 0.01, image.shape)
    return (np.exp(-2 * image) + 0.15 * other + noise).astype(np.float32)


ALL = np.ones((400, 400), np.bool_)


# --- one window


@settings(max_examples=12)
@given(rows=st.integers(-15, 15), columns=st.integers(-15, 15))
def test_the_offset_of_another_modality_is_the_shift_that_was_made(rows: int, columns: int) -> None:
    found = offset_between((optical(), ALL), (as_thermal(optical(-rows, -columns)), ALL))
    assert found is not None
    assert (found.rows, found.columns) == pytest.approx((rows, columns), abs=0.5)
    assert found.sharpness > 6


def test_the_offset_within_one_modality_is_scikit_images_too() -> None:
    moved = optical(-3, 5)
    wanted, _, _ = phase_cross_correlation(moved, optical(), upsample_factor=10)
    found = offset_between((optical(), ALL), (moved, ALL))
    assert found is not None
    assert (found.rows, found.columns) == pytest.approx(tuple(wanted), abs=0.3)


def test_a_brightness_that_is_turned_around_or_stretched_changes_no_offset() -> None:
    plain = offset_between((optical(), ALL), (optical(-4, 2), ALL))
    assert plain is not None
    for image in (1 - optical(-4, 2), 1e6 * optical(-4, 2) - 7):
        found = offset_between((optical(), ALL), (image.astype(np.float32), ALL))
        assert found is not None
        assert (found.rows, found.columns) == pytest.approx((plain.rows, plain.columns), abs=0.05)


def test_holes_are_no_edges() -> None:
    holes = np.random.default_rng(3).random((20, 20)) < 0.2
    valid = ~np.kron(holes, np.ones((20, 20), np.bool_))
    values = np.where(valid, as_thermal(optical(-4, 2)), 1e30).astype(np.float32)
    found = offset_between((np.where(valid, optical(), np.float32(0)), valid), (values, valid))
    assert found is not None
    assert (found.rows, found.columns) == pytest.approx((4, -2), abs=0.5)


def test_images_of_different_places_and_without_texture_are_not_sharp() -> None:
    for seed in range(6):
        found = offset_between((optical(), ALL), (photo((400, 400), 50 + seed)[0].astype(np.float32), ALL))
        assert found is not None
        assert found.sharpness < 6
    noise = np.random.default_rng(5).random((400, 400), np.float32)
    for image in (np.full((400, 400), 0.4, np.float32), noise, np.zeros((400, 400), np.float32)):
        found = offset_between((optical(), ALL), (image, ALL))
        assert found is not None
        assert found.sharpness < 6


def test_a_window_that_is_mostly_invalid_tells_nothing() -> None:
    half = ALL.copy()
    half[:210] = False
    assert offset_between((optical(), ALL), (optical(), half)) is None


# --- the vote


@given(shape=st.tuples(st.integers(1, 9000), st.integers(1, 9000)))
def test_windows_lie_apart_within_the_grid_and_are_bounded(shape: tuple[int, int]) -> None:
    windows = compared_windows(shape)
    assert len(windows) <= 9
    assert bool(windows) == ((min(3, shape[0] // 128) * min(3, shape[1] // 128)) >= 4)
    for i, window in enumerate(windows):
        assert window.intersection(Window.whole(shape)) == window
        assert min(window.shape) >= 128
        assert max(window.shape) <= 512
        assert all(window.intersection(other) is None for other in windows[:i])


def test_windows_that_disagree_are_not_certain() -> None:
    together = voted([Offset(3 + i / 10, -2, 10) for i in range(5)])
    assert together is not None
    assert together.is_certain
    assert (together.rows, together.columns) == pytest.approx((3.2, -2))
    apart = voted([Offset(3 * (i % 2), 2 * i, 10) for i in range(6)])
    assert apart is not None
    assert not apart.is_certain
    assert voted([Offset(9, 9, 10)] * 3 + [None, Offset(9, 9, 2)]) is None


# --- in a run


def pair(folder: Path, rows: float, columns: float, **thermal: Any) -> batchfuse.Recipe:
    """A registered pair, whose thermal image's header is off by so many pixels down and to the right."""
    write_raster(folder / "optical.tif", optical())
    place = NORTH_UP @ Affine.translation(columns, rows)
    write_raster(folder / "thermal.tif", as_thermal(optical()), **{"transform": place, **thermal})
    inputs = {"thermal": "thermal.tif", "optical": "optical.tif"}
    return batchfuse.Recipe(inputs=inputs, folder=folder, reference="optical", tiles={"size": 512})


def warnings_of(recipe: batchfuse.Recipe) -> list[str]:
    (outcome,) = batchfuse.run(recipe).outcomes
    assert outcome.status in ("complete", "kept"), outcome.reason
    return [warning for warning in outcome.warnings if "seems to lie" in warning]


def test_a_header_that_is_off_is_told_with_its_direction_and_what_to_do(tmp_path: Path) -> None:
    recipe = pair(tmp_path, 5, -3)
    (warning,) = warnings_of(recipe)
    told = re.match(
        r"thermal \(thermal.tif\) seems to lie ([\d.]+) pixels \(([\d.]+) m\) south and "
        r"([\d.]+) pixels \(([\d.]+) m\) west of its true place, compared with optical \(optical.tif\): ",
        warning,
    )
    assert told is not None, warning
    assert [float(n) for n in told.groups()] == pytest.approx([5, 50, 3, 30], rel=0.1)
    assert "gdal_edit" in warning
    assert "\n" not in warning
    report = json.loads((tmp_path / "fused" / "report.json").read_text())
    assert warning in report["scenes"][0]["warnings"]
    assert warnings_of(recipe) == []  # kept: not looked at again


def test_a_pair_in_its_place_is_not_warned_about(tmp_path: Path) -> None:
    assert warnings_of(pair(tmp_path, 0, 0)) == []


def test_a_shift_changes_no_pixel_and_is_the_same_with_any_threads(tmp_path: Path) -> None:
    told = []
    for threads in (1, 3):
        folder = tmp_path / str(threads)
        folder.mkdir()
        report = batchfuse.run(pair(folder, 4, 4), batchfuse.Profile(threads=threads))
        told.append(report.outcomes[0].warnings)
    assert told[0] == told[1] != ()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_without_a_crs_directions_are_those_of_the_picture(tmp_path: Path) -> None:
    for role, image in (("optical", optical()), ("thermal", as_thermal(optical(-6, 4)))):
        write_raster(tmp_path / f"{role}.tif", image, crs=None, transform=None)
    inputs = {"thermal": "thermal.tif", "optical": "optical.tif"}
    (warning,) = warnings_of(batchfuse.Recipe(inputs=inputs, folder=tmp_path, reference="optical"))
    assert "pixels down and" in warning
    assert "pixels left of" in warning
    assert " m)" not in warning


def test_a_coarser_source_is_compared_at_its_own_pixels(tmp_path: Path) -> None:
    fine = photo((840, 840), 12)[0].astype(np.float32)
    write_raster(tmp_path / "optical.tif", fine[30:810, 30:810])
    inputs = {"thermal": "thermal.tif", "optical": "optical.tif"}
    recipe = batchfuse.Recipe(inputs=inputs, folder=tmp_path, reference="optical", tiles={"size": 512})
    for down in (0, 12):  # pixels of the optical image
        moved = as_thermal(fine)[30 - down : 810 - down, 30:810]
        coarse = moved.reshape(260, 3, 260, 3).mean((1, 3))
        write_raster(tmp_path / "thermal.tif", coarse, transform=NORTH_UP @ Affine.scale(3))
        (outcome,) = batchfuse.run(recipe, overwrite=True).outcomes
        found = [warning for warning in outcome.warnings if "seems to lie" in warning]
        assert len(found) == bool(down)
    north = re.search(r"lie ([\d.]+) pixels \(([\d.]+) m\) south", found[0])
    assert north is not None
    assert float(north[1]) == pytest.approx(12, abs=1)


def test_a_scene_too_small_to_be_judged_is_not_judged(tmp_path: Path) -> None:
    write_raster(tmp_path / "optical.tif", optical(size=200))
    place = NORTH_UP @ Affine.translation(5, 5)
    write_raster(tmp_path / "thermal.tif", optical(size=200), transform=place)
    inputs = {"thermal": "thermal.tif", "optical": "optical.tif"}
    assert warnings_of(batchfuse.Recipe(inputs=inputs, folder=tmp_path, reference="optical")) == []


# --- real pairs, registered as well as their makers could


def files(optical: str, thermal: str) -> dict[str, str]:
    return {"thermal": str(shared_data(thermal)), "optical": str(shared_data(optical))}


BRAZIL = "geo/pair_landsat5_para_brazil/LT52240631988227CUB02_B"
GREENLAND = "geo/pair_landsat8_l2_greenland/LC08_L2SP_005009_20150710_20200908_02_T2_S"
ENGLAND = "geo/pair_landsat8_toa_newengland/LC80130312015295LGN00_B"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (f"{BRAZIL}3.TIF", f"{BRAZIL}6.TIF"),
        (f"{BRAZIL}1.TIF", f"{BRAZIL}3.TIF"),
        (f"{GREENLAND}R_B3.TIF", f"{GREENLAND}T_B10.TIF"),
        (f"{ENGLAND}4_toa.tif", f"{ENGLAND}10_toa.tif"),
    ],
)
def test_real_pairs_raise_no_alarm(one: str, other: str, tmp_path: Path) -> None:
    recipe = batchfuse.Recipe(
        inputs=files(one, other), reference="optical", output={"path": str(tmp_path / "fused")}
    )
    assert warnings_of(recipe) == []


@pytest.mark.parametrize(
    ("rows", "columns", "spread", "certain"),
    [
        *((1.1, 0, 0, True), (-1.1, 0, 0, True), (0, 1.1, 0, True), (0, -1.1, 0, True), (0.8, 0.8, 0, True)),
        *((0.9, 0, 0, False), (0, 0.9, 0, False), (0.7, 0.7, 0, False), (0, 0, 0, False)),
        *((0, 3.1, 0.5, True), (0, 2.9, 0.5, False), (-3.1, 0, 0.5, True), (2.9, 0, 0.5, False)),
    ],
)
def test_a_shift_is_certain_beyond_a_pixel_and_four_spreads_in_any_direction(
    rows: float, columns: float, spread: float, certain: bool
) -> None:
    assert Shift(rows, columns, spread, 9).is_certain == certain
