"""The strategy ``detail`` against its formulas, in the plainest loops (tiles and whole: test_fuser.py)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from batchfuse import fuse
from batchfuse.fusion.detail import Detail, box_mean
from batchfuse.fusion.extremes import Extremes
from batchfuse.fusion.merged import Merged
from batchfuse.fusion.moments import Moments


def features_of(sources, shape=(11, 9), channels=64, seed=0):
    random = np.random.default_rng(seed)
    return [random.random((1, channels, *shape)) ** 3 for _ in range(sources)]


def pixels_of(sources, shape=(11, 9), seed=1):
    return np.random.default_rng(seed).integers(0, 2**16, (sources, *shape)) / 2**16


def survey_of(pixels):
    return Moments.of(pixels, np.ones(pixels.shape, bool))


def merged(rule, features, pixels, survey=None):
    survey = survey_of(pixels) if survey is None else survey
    return rule.merged(
        [torch.from_numpy(f) for f in features], [torch.from_numpy(p)[None, None] for p in pixels], survey
    )


def plain_box_mean(image, radius):
    """(y, x); the pixels of the square that the image has."""
    out = np.empty_like(image)
    for y, x in np.ndindex(*image.shape):
        out[y, x] = image[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1].mean()
    return out


def plain_raise(energies, weights, most):
    """How much a weighted sum is raised to the energy the parts have together; a matrix and weights."""
    k = len(weights)
    total = np.trace(energies)
    if total == 0:
        return 1.0
    wanted = total - sum(energies[i, j] ** 2 for i in range(k) for j in range(k) if i != j) / total
    found = weights @ energies @ weights
    return most if found * most**2 <= wanted else math.sqrt(wanted / found)


def plain_rule(features, pixels, contrast, salience):
    """The merged features and the offset, pixel by pixel."""
    k = len(features)
    bases = [np.stack([plain_box_mean(c, 2) for c in f[0]]) for f in features]
    details = [f[0] - b for f, b in zip(features, bases, strict=True)]
    energies = {
        (i, j): plain_box_mean((details[i] * details[j]).mean(0), 6) for i in range(k) for j in range(k)
    }
    blurred = [plain_box_mean(p, 2) for p in pixels]
    means, deviations = [p.mean() for p in pixels], [p.std() for p in pixels]
    scene = np.cov(pixels.reshape(k, -1), bias=True)
    gain = plain_raise(scene, np.full(k, 1 / k), contrast)
    out = np.zeros(features[0].shape[1:])
    for y, x in np.ndindex(*pixels.shape[1:]):
        matrix = np.array([[energies[i, j][y, x] for j in range(k)] for i in range(k)])
        amplitude = np.sqrt(np.diag(matrix))
        strong = amplitude / amplitude.sum()
        raised = plain_raise(matrix, strong, contrast)
        far = np.array(
            [min(10, abs(b[y, x] - m) / d) for b, m, d in zip(blurred, means, deviations, strict=True)]
        )
        salient = np.exp(salience * far) / np.exp(salience * far).sum()
        for i in range(k):
            out[:, y, x] += gain * salient[i] * bases[i][:, y, x] + raised * strong[i] * details[i][:, y, x]
    return out, (1 - gain) * np.mean(means)


@pytest.mark.parametrize("shape", [(11, 9), (1, 1), (1, 7), (3, 2), (5, 1)])
@pytest.mark.parametrize("radius", [0, 1, 2, 6])
def test_a_box_mean_divides_by_what_the_image_has_of_the_box(shape, radius):
    (images,) = features_of(1, shape, channels=3)
    expected = np.stack([plain_box_mean(image, radius) for image in images[0]])[None]
    np.testing.assert_allclose(box_mean(torch.from_numpy(images), radius), expected, rtol=1e-13)


@pytest.mark.parametrize("sources", [2, 3])
@pytest.mark.parametrize(("contrast", "salience"), [(1.0, 0.0), (1.5, 0.2), (3.0, 2.0)])
def test_the_rule_is_its_formula(sources, contrast, salience):
    features, pixels = features_of(sources, (7, 6)), pixels_of(sources, (7, 6))
    expected, offset = plain_rule(features, pixels, contrast, salience)
    found = merged(Detail(contrast, salience), features, pixels)
    np.testing.assert_allclose(found.features[0], expected, rtol=0, atol=1e-12)
    assert found.offset == pytest.approx(offset, abs=1e-12)


@pytest.mark.parametrize("sources", [2, 3, 5])
def test_equal_sources_come_out_as_they_are(sources):
    features, pixels = features_of(1) * sources, np.repeat(pixels_of(1), sources, axis=0)
    found = merged(Detail(3.0, 1.0), features, pixels)
    np.testing.assert_allclose(found.features, features[0], rtol=0, atol=1e-12)
    assert found.offset == pytest.approx(0, abs=1e-12)


def test_an_image_fused_with_itself_is_that_image_to_the_network_s_exactness():
    y, x = np.mgrid[:48, :48]
    image = (0.5 + 0.3 * np.sin(x / 5) * np.cos(y / 4) + 0.1 * (x > y)).astype(np.float32)
    error = fuse(image, image, strategy="detail", device="cpu") - image
    assert np.sqrt((error**2).mean()) < 0.01


def test_opposite_details_are_raised_no_more_than_asked():
    (features,), pixels = features_of(1), pixels_of(2)
    opposite = 2 * features.mean() - features
    found = merged(Detail(1.5, 0.0), [features, opposite], pixels).features.numpy()
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 3 * np.abs(features).max()


def test_a_hot_target_keeps_more_than_half_of_its_contrast():
    hot, dark = np.full((2, 40, 40), 0.3)
    noise = np.random.default_rng(0).normal(0, 0.02, (2, 40, 40))
    hot[18:23, 18:23], dark[18:23, 18:23] = 0.9, 0.25
    images = [np.clip(a + n, 0, 1).astype(np.float32) for a, n in zip((hot, dark), noise, strict=True)]
    kept = {}
    for strategy in ("average", "detail"):
        fused = fuse(*images, strategy=strategy, device="cpu")
        kept[strategy] = fused[19:22, 19:22].mean() - fused[:10].mean()
    assert kept["average"] < 0.6 * 0.6
    assert kept["detail"] > 0.7 * 0.6


@pytest.mark.parametrize("level", [0.0, 1e-40, 3.0])
def test_sources_without_detail_or_contrast_are_averaged(level):
    features = [np.full((1, 64, 6, 6), level), np.full((1, 64, 6, 6), 3 * level)]
    fused = merged(Detail(1.5, 0.2), features, np.stack([np.full((6, 6), 0.25), np.full((6, 6), 0.75)]))
    np.testing.assert_allclose(fused.features, 2 * level, rtol=1e-12, atol=1e-44)
    assert fused.offset == 0


def test_it_asks_for_the_moments_of_the_scene():
    pixels = pixels_of(2)
    for survey in (Extremes.empty(2), "none"):
        with pytest.raises(ValueError, match="needs the moments"):
            merged(Detail(1.5, 0.2), features_of(2), pixels, survey)


def test_a_scene_without_a_valid_pixel_gives_finite_values():
    found = merged(Detail(1.5, 0.2), features_of(2), pixels_of(2), Moments.empty(2))
    assert found.offset == 0
    assert math.isfinite(float(found.features.sum()))


def test_a_pixel_of_any_size_gives_finite_values():
    pixels = pixels_of(2).astype(np.float32)
    pixels[0, 3, 3] = 3e38
    found = merged(Detail(1.5, 5.0), [f.astype(np.float32) for f in features_of(2)], pixels)
    assert math.isfinite(float(found.features.sum()))


def test_what_is_done_to_the_image_is_cut_with_the_features():
    features, factor, offset = (torch.rand(1, n, 6, 7) for n in (64, 1, 1))
    image = torch.rand(1, 1, 6, 7)
    whole = Merged(features, factor, offset)
    np.testing.assert_allclose(whole.finished(image), image * factor + offset, rtol=1e-6)
    rows, columns = slice(1, 4), slice(2, 7)
    part = whole.at(rows, columns)
    assert torch.equal(part.features, features[:, :, rows, columns])
    wanted = whole.finished(image)[:, :, rows, columns]
    assert torch.equal(part.finished(image[:, :, rows, columns]), wanted)
    assert Merged(features).finished(image) is image
