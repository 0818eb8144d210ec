"""The strategy ``detail`` against its formulas, in the plainest loops (tiles and whole: test_fuser.py)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from batchfuse.fusion.detail import Detail, box_mean
from batchfuse.fusion.extremes import Extremes
from batchfuse.fusion.moments import Moments

SURVEY = Moments.of(np.full((2, 4, 4), 0.25, np.float32), np.ones((2, 4, 4), bool))


def features_of(sources, shape=(11, 9), channels=64, seed=0):
    random = np.random.default_rng(seed)
    return [random.random((1, channels, *shape)) ** 3 for _ in range(sources)]


def plain_box_mean(image, radius):
    """(y, x); the pixels of the square that the image has."""
    out = np.empty_like(image)
    for y, x in np.ndindex(*image.shape):
        out[y, x] = image[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1].mean()
    return out


def merged(rule, features, survey=SURVEY):
    tensors = [torch.from_numpy(f) for f in features]
    pixels = [tensor[:, :1] for tensor in tensors]
    return rule.merged(tensors, pixels, survey)


@pytest.mark.parametrize("shape", [(11, 9), (1, 1), (1, 7), (3, 2), (5, 1)])
@pytest.mark.parametrize("radius", [0, 1, 2, 4])
def test_a_box_mean_divides_by_what_the_image_has_of_the_box(shape, radius):
    (images,) = features_of(1, shape, channels=3)
    expected = np.stack([plain_box_mean(image, radius) for image in images[0]])[None]
    np.testing.assert_allclose(box_mean(torch.from_numpy(images), radius), expected, rtol=1e-13)


@pytest.mark.parametrize("sources", [2, 3])
@pytest.mark.parametrize("gain", [1.0, 1.4])
def test_the_rule_is_its_formula(sources, gain):
    features = features_of(sources)
    bases = [np.stack([plain_box_mean(c, 1) for c in f[0]]) for f in features]
    details = [f[0] - b for f, b in zip(features, bases, strict=True)]
    activities = np.stack([plain_box_mean(np.abs(d).mean(0), 2) for d in details])
    weights = activities / activities.max(0)
    detail = sum(w * d for w, d in zip(weights, details, strict=True))
    found = merged(Detail(gain), features)
    expected = gain * np.mean(bases, axis=0) + detail
    np.testing.assert_allclose(found.features[0], expected, rtol=0, atol=1e-14)
    assert found.offset == pytest.approx((1 - gain) * 0.25)


def test_the_mean_of_the_scene_stays_what_it_is():
    found = merged(Detail(1.4), features_of(2))
    decoded = torch.full((1, 1, 5, 5), 1.4 * 0.25)
    np.testing.assert_allclose(found.finished(decoded), 0.25, rtol=1e-6)


@pytest.mark.parametrize("level", [0.0, 1e-40, 3.0])
def test_sources_without_detail_are_averaged(level):
    features = [np.full((1, 64, 6, 6), level, np.float32), np.full((1, 64, 6, 6), 3 * level, np.float32)]
    fused = merged(Detail(1.0), features).features
    np.testing.assert_allclose(fused, 2 * level, rtol=1e-6, atol=1e-44)


def test_it_asks_for_the_moments_of_the_scene():
    for survey in (None, Extremes.empty(2)):
        with pytest.raises(ValueError, match="needs the moments"):
            merged(Detail(1.4), features_of(2), survey)


def test_a_scene_without_a_valid_pixel_gives_finite_values():
    found = merged(Detail(1.4), features_of(2), Moments.empty(2))
    assert found.offset == 0
    assert math.isfinite(float(found.features.sum()))
