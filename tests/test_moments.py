"""The survey of the sources alone: whole numbers, so that any partition gives the same."""

from __future__ import annotations

import json
from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from batchfuse.fusion import moments
from batchfuse.fusion.extremes import Extremes
from batchfuse.fusion.moments import Moments
from batchfuse.fusion.surveys import survey_from_json

SHAPE = (3, 9, 7)
PIXELS = arrays.arrays(np.float32, SHAPE, elements=st.floats(-0.5, 2, width=32))
MASKS = arrays.arrays(np.bool_, SHAPE)


@st.composite
def partitions(draw):
    """Rows and columns of boxes that share no pixel, in any order."""
    cuts = [sorted({0, n, *draw(st.lists(st.integers(1, n - 1), max_size=4))}) for n in SHAPE[1:]]
    rows, columns = ([slice(a, b) for a, b in pairwise(c)] for c in cuts)
    return draw(st.permutations([(slice(None), row, column) for row in rows for column in columns]))


@given(PIXELS, MASKS, partitions(), st.integers(0, 2**32))
def test_any_partition_merged_in_any_order_gives_the_moments_of_the_whole(pixels, valid, boxes, seed):
    parts = [Moments.of(pixels[box], valid[box]) for box in boxes]
    random = np.random.default_rng(seed)
    while len(parts) > 1:  # a tree of any form
        one, other = (parts.pop(random.integers(len(parts))) for _ in range(2))
        parts.append(one.merge(other))
    assert parts[0] == Moments.of(pixels, valid)


@given(PIXELS, MASKS)
def test_the_moments_are_those_of_the_plainest_loop(pixels, valid):
    found = Moments.of(pixels, valid)
    steps = [[round(min(max(float(v), 0), 1) * 65536) for v in source.ravel()] for source in pixels]
    shared = [i for i, there in enumerate(valid.all(0).ravel()) if there]
    for source in range(3):
        own = [v for v, there in zip(steps[source], valid[source].ravel(), strict=True) if there]
        assert (found.valid[source], found.total[source]) == (len(own), sum(own))
        assert found.sums[source] == sum(steps[source][i] for i in shared)
    assert found.common == len(shared)
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    assert found.products == tuple(sum(steps[a][i] * steps[b][i] for i in shared) for a, b in pairs)


def test_means_and_covariances_are_those_of_numpy():
    random = np.random.default_rng(0)
    pixels, valid = random.random((3, 40, 50), np.float32), random.random((3, 40, 50)) > 0.2
    found = Moments.of(pixels, valid)
    shared = pixels[:, valid.all(0)].astype(np.float64)
    expected = np.cov(shared, bias=True)
    covariances = [[found.covariance(a, b) for b in range(3)] for a in range(3)]
    np.testing.assert_allclose(covariances, expected, rtol=0, atol=2e-6)  # pixels are rounded to 2^-16
    np.testing.assert_allclose([found.variance(i) for i in range(3)], np.diag(expected), rtol=0, atol=2e-6)
    own = [source[there].mean(dtype=np.float64) for source, there in zip(pixels, valid, strict=True)]
    np.testing.assert_allclose([found.mean_of(i) for i in range(3)], own, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.mean, pixels[valid].mean(dtype=np.float64), rtol=0, atol=1e-6)


def test_equal_sources_have_one_variance_and_covariance_to_the_last_digit():
    image = np.random.default_rng(1).random((30, 30), np.float32) / 1000 + np.float32(0.9)
    found = Moments.of(np.stack([image, image]), np.ones((2, 30, 30), bool))
    assert found.variance(0) == found.variance(1) == found.covariance(0, 1) == found.covariance(1, 0) > 0


def test_of_nothing_valid_in_all_sources_every_figure_is_zero():
    pixels, valid = np.full((2, 4, 4), 0.5, np.float32), np.zeros((2, 4, 4), bool)
    assert Moments.of(pixels, valid) == Moments.empty(2)
    valid[0, :2], valid[1, 2:] = True, True
    apart = Moments.of(pixels, valid)
    assert (apart.common, apart.variance(0), apart.covariance(0, 1)) == (0, 0, 0)
    assert (apart.mean, apart.mean_of(1)) == (0.5, 0.5)
    nothing = Moments.empty(2)
    assert (nothing.mean, nothing.mean_of(0), nothing.covariance(0, 1)) == (0, 0, 0)


def test_the_largest_window_overflows_nowhere(monkeypatch):
    """8192 pixels a side, all at the upper end: the sums pass 2^53, and 2^31 by far."""
    monkeypatch.setattr(moments, "_ROWS", 4096)  # many pixels at once
    image = np.broadcast_to(np.float32(7), (2, 4096, 128))  # cut to 1
    found = reduce(Moments.merge, [Moments.of(image, np.broadcast_to(True, image.shape))] * 128)
    pixels = 4096 * 128 * 128
    assert found == Moments(
        (pixels,) * 2, (pixels << 16,) * 2, pixels, (pixels << 16,) * 2, (pixels << 32,) * 3
    )
    assert found.products[0] > 2**53
    assert (found.mean, found.variance(0)) == (1, 0)


@given(st.integers(0, 2**90), st.integers(0, 2**90))
def test_json_is_exact_also_above_what_a_double_holds(total, product):
    one = Moments((5, 7), (total, 3), 4, (2, total), (product, 1, product + 1))
    stored = json.loads(json.dumps(one.to_json(), allow_nan=False))
    assert survey_from_json(stored) == one
    numbers = [*stored["valid"], stored["common"]]
    assert all(isinstance(number, int) for number in numbers)
    assert all(isinstance(text, str) for text in (*stored["total"], *stored["products"]))


def test_a_survey_that_does_not_say_its_kind_is_of_extremes():
    one = Extremes((0.25, 0.5), (1, 2))
    assert survey_from_json(one.to_json()) == one


@pytest.mark.parametrize(
    "damaged", [{"kind": "none"}, {"kind": "moments"}, {**Moments.empty(2).to_json(), "total": ["x", "y"]}]
)
def test_a_damaged_survey_is_no_survey(damaged):
    with pytest.raises((KeyError, TypeError, ValueError)):
        survey_from_json(damaged)


def test_moments_of_different_numbers_of_sources_do_not_merge():
    with pytest.raises(ValueError, match="zip"):
        Moments.empty(2).merge(Moments.empty(3))
    with pytest.raises(ValueError, match="no moments of 2 sources"):
        Moments((1, 1), (1, 1), 1, (1, 1), (1, 1))
