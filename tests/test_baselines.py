"""Fusion without a network, and the 8-bit images that figures are told of."""

from __future__ import annotations

import math

import numpy as np
import pytest

from batchfuse.evaluation.baselines import (
    BASELINES,
    average,
    baseline,
    gained,
    maximum,
    pixels_l1,
    pixels_mean,
)
from batchfuse.evaluation.eight_bit import rounded, stretched


def pair(k: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (k, 7, 9)).astype(float)


def test_average_and_maximum_are_what_they_say() -> None:
    sources = pair(3)
    np.testing.assert_allclose(average(sources), (sources[0] + sources[1] + sources[2]) / 3, rtol=1e-15)
    np.testing.assert_array_equal(maximum(sources), np.maximum(np.maximum(*sources[:2]), sources[2]))


def test_pixels_l1_equals_a_loop_over_pixels() -> None:
    sources = pair(3, seed=1)
    sources[:, 2, 3] = 0
    expected = np.zeros(sources.shape[1:])
    for y, x in np.ndindex(expected.shape):
        values = sources[:, y, x]
        total = sum(values)
        expected[y, x] = sum(v * (v / total) for v in values) if total else 0
    np.testing.assert_allclose(pixels_l1(sources), expected, rtol=1e-13)


def test_pixels_mean_equals_a_loop_over_pixels() -> None:
    sources = pair(2, seed=2)
    expected = np.zeros(sources.shape[1:])
    for y, x in np.ndindex(expected.shape):
        raised = [math.exp((s[y, x] - s.min()) / (s.max() - s.min() + 1e-5)) for s in sources]
        expected[y, x] = sum(r / sum(raised) * s[y, x] for r, s in zip(raised, sources, strict=True))
    np.testing.assert_allclose(pixels_mean(sources), expected, rtol=1e-13)


def test_pixels_mean_follows_the_strategy_mean_of_features() -> None:
    torch = pytest.importorskip("torch")
    from batchfuse.fusion.extremes import Extremes
    from batchfuse.fusion.strategies import fused_features

    sources = pair(2, seed=3)
    features = [torch.from_numpy(source)[None, None] for source in sources]
    lows, highs = sources.min(axis=(1, 2)), sources.max(axis=(1, 2))
    survey = Extremes(tuple(map(float, lows)), tuple(map(float, highs)))
    np.testing.assert_allclose(
        pixels_mean(sources), fused_features("mean", features, survey)[0, 0].numpy(), rtol=1e-12
    )
    np.testing.assert_allclose(pixels_l1(sources), fused_features("l1", features)[0, 0].numpy(), rtol=1e-12)


@pytest.mark.parametrize("name", BASELINES)
def test_equal_sources_give_the_source(name: str) -> None:
    source = pair()[0]
    np.testing.assert_allclose(baseline(name, [source, source, source]), source, rtol=1e-14)


@pytest.mark.parametrize("name", BASELINES)
def test_the_order_of_the_sources_does_not_matter(name: str) -> None:
    sources = pair(3, seed=4)
    np.testing.assert_allclose(baseline(name, sources), baseline(name, sources[::-1]), rtol=1e-14)


@pytest.mark.parametrize("name", BASELINES)
def test_the_units_of_the_sources_are_those_of_the_fused_image(name: str) -> None:
    sources = pair(2, seed=5)
    np.testing.assert_allclose(baseline(name, sources / 255) * 255, baseline(name, sources), rtol=1e-4)


def test_gain_keeps_the_mean_and_widens_the_deviation() -> None:
    image = pair()[0]
    more = gained(image)
    assert more.mean() == pytest.approx(image.mean())
    assert more.std() == pytest.approx(1.4 * image.std())


def test_a_part_with_the_whole_images_ends_and_mean_is_that_part_of_the_whole() -> None:
    sources = pair(2, seed=6)
    whole, ends = pixels_mean(sources), [(one.min(), one.max()) for one in sources]
    np.testing.assert_allclose(baseline("pixels_mean", sources[:, :3], ends), whole[:3], rtol=1e-14)
    np.testing.assert_allclose(gained(whole[:3], mean=whole.mean()), gained(whole)[:3], rtol=1e-14)
    span = (whole.min(), whole.max())
    np.testing.assert_array_equal(stretched(whole[:3], span), stretched(whole)[:3])


@pytest.mark.parametrize(
    "sources", [np.zeros((4, 4)), np.zeros((2, 0, 4)), np.full((2, 3, 3), np.nan), np.full((2, 3, 3), -1.0)]
)
def test_what_is_no_stack_of_images_is_refused(sources: np.ndarray) -> None:
    with pytest.raises(ValueError, match="sources are"):
        baseline("average", sources)


def test_an_unknown_baseline_is_refused_with_those_that_are() -> None:
    with pytest.raises(ValueError, match="average, maximum, pixels_l1, pixels_mean"):
        baseline("median", pair())


def test_rounding_cuts_and_rounds() -> None:
    values = [-3.0, 0.0, 0.499 / 255, 0.501 / 255, 254.4 / 255, 1.0, 7.0, np.inf]
    assert rounded(values).tolist() == [0, 0, 0, 1, 254, 255, 255, 255]
    every = np.arange(256)
    np.testing.assert_array_equal(rounded(every / 255), every)
    np.testing.assert_array_equal(rounded((every / 255).astype(np.float32)), every)


def test_halves_are_rounded_up_in_an_average_of_8_bit_images() -> None:
    halves = np.arange(0, 511) / 2
    np.testing.assert_array_equal(rounded(halves / 255), np.floor(halves + 0.5))


def test_a_stretch_spans_0_to_255_and_truncates() -> None:
    assert stretched([10.0, 15.0, 20.0]).tolist() == [0, 127, 255]
    every = np.arange(256)
    np.testing.assert_array_equal(stretched(every), every)
    assert stretched([3.0, 3.0]).tolist() == [0, 0]


@pytest.mark.parametrize("values", [[np.nan, 1.0], [np.inf, 1.0], []])
def test_a_stretch_wants_finite_values(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"finite|NaN"):
        stretched(values)


def test_nan_is_not_rounded_to_a_number() -> None:
    with pytest.raises(ValueError, match="NaN"):
        rounded([0.5, np.nan])


def test_grey_is_the_luminance_that_fusion_uses() -> None:
    from batchfuse.fusion.color import grey, luminance

    rgb = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(grey(rgb), luminance(rgb), rtol=1e-6)
    np.testing.assert_array_equal(grey(rgb[:1]), rgb[0].astype(float))
    with pytest.raises(ValueError, match="one or three"):
        grey(rgb[:2])
