from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from batchfuse.fusion.extremes import Extremes
from batchfuse.fusion.strategies import average_weights, fused_features, l1_weights, mean_weights

STRATEGIES = ("l1", "mean", "average")
SOME = st.floats(-1e30, 1e30)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Threads that wait for each other are slow on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def features_of(sources, seed=0, channels=64, batch=1):
    random = np.random.default_rng(seed)
    return [torch.from_numpy(random.random((batch, channels, 7, 5))) for _ in range(sources)]


def survey_of(features):
    means = [f.mean(1) for f in features]
    return Extremes(tuple(float(m.min()) for m in means), tuple(float(m.max()) for m in means))


def weights_of(strategy, features):
    if strategy == "mean":
        return mean_weights(features, survey_of(features))
    return {"l1": l1_weights, "average": average_weights}[strategy](features)


def extremes_of(sources):
    pair = st.tuples(SOME, SOME).map(sorted)
    return st.lists(pair, min_size=sources, max_size=sources).map(
        lambda pairs: Extremes(tuple(p[0] for p in pairs), tuple(p[1] for p in pairs))
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("sources", [2, 3, 5])
def test_weights_are_positive_and_sum_to_one(strategy, sources):
    weights = torch.stack(weights_of(strategy, features_of(sources)))
    assert weights.shape == (sources, 1, 1, 7, 5)
    assert float(weights.min()) > 0
    np.testing.assert_allclose(weights.sum(0), 1, rtol=1e-14)


@pytest.mark.parametrize("sources", [2, 3])
def test_l1_is_equations_8_and_9(sources):
    features = features_of(sources)
    arrays = [f.numpy() for f in features]
    norms = [np.abs(a).sum(1, keepdims=True) for a in arrays]
    expected = sum(n / sum(norms) * a for n, a in zip(norms, arrays, strict=True))
    np.testing.assert_allclose(fused_features("l1", features), expected, rtol=1e-13)


@pytest.mark.parametrize("sources", [2, 3])
def test_mean_is_equations_10_and_11(sources):
    features = features_of(sources)
    arrays = [f.numpy() for f in features]
    means = [a.mean(1, keepdims=True) for a in arrays]
    normalised = [np.exp((m - m.min()) / (m.max() - m.min() + 1e-5)) for m in means]
    expected = sum(n / sum(normalised) * a for n, a in zip(normalised, arrays, strict=True))
    np.testing.assert_allclose(fused_features("mean", features, survey_of(features)), expected, rtol=1e-13)


@pytest.mark.parametrize("sources", [2, 3])
def test_average_is_the_average(sources):
    features = features_of(sources)
    expected = np.mean([f.numpy() for f in features], axis=0)
    np.testing.assert_allclose(fused_features("average", features), expected, rtol=1e-14)


@pytest.mark.parametrize("sources", [2, 3])
def test_l1_weighs_equally_where_all_features_are_zero(sources):
    features = features_of(sources)
    for feature in features:
        feature[:, :, 2, 3] = 0
    weights = l1_weights(features)
    assert all(float(w[0, 0, 2, 3]) == 1 / sources for w in weights)
    assert not torch.stack(weights).isnan().any()


def test_l1_gives_a_source_without_features_no_weight():
    first, second = features_of(2)
    second[:, :, 2, 3] = 0
    weights = l1_weights([first, second])
    assert (float(weights[0][0, 0, 2, 3]), float(weights[1][0, 0, 2, 3])) == (1, 0)


@pytest.mark.parametrize("scale", [1e-12, 2.0**-10, 1e9])
def test_l1_scales_with_its_features(scale):
    features = features_of(3)
    fused = fused_features("l1", [f * scale for f in features])
    np.testing.assert_allclose(fused, fused_features("l1", features) * scale, rtol=1e-13)


def test_l1_survives_the_smallest_features_of_float32():
    features = [torch.full((1, 64, 2, 2), v) for v in (1e-40, 3e-40)]
    fused = fused_features("l1", features)
    assert bool(torch.isfinite(fused).all())
    assert 1e-40 < float(fused.max()) < 3e-40


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("sources", [2, 3])
def test_equal_features_stay_what_they_are(strategy, sources):
    features = features_of(1) * sources
    np.testing.assert_allclose(
        fused_features(strategy, features, survey_of(features)), features[0], rtol=1e-14
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_batch_of_64_is_fused_image_by_image(strategy):
    features = features_of(2, batch=64)
    survey = survey_of(features)
    fused = fused_features(strategy, features, survey)
    for i in (0, 63):
        alone = fused_features(strategy, [f[i : i + 1] for f in features], survey)
        np.testing.assert_allclose(fused[i : i + 1], alone, rtol=1e-14)


def test_mean_weights_of_two_stay_between_27_and_73_percent():
    features = features_of(2)
    features[0][:, :, 0, 0] = 100  # a filled pixel, beyond what the survey saw
    features[1][:, :, 0, 0] = 0
    survey = Extremes((0.4, 0.4), (0.6, 0.6))
    weights = torch.stack(mean_weights(features, survey))
    assert 0.268 < float(weights.min()) < float(weights.max()) < 0.732


def test_mean_of_a_source_without_a_valid_pixel_is_finite():
    features = features_of(2)
    survey = Extremes((math.inf, 0.4), (-math.inf, 0.6))
    assert bool(torch.isfinite(fused_features("mean", features, survey)).all())


def test_mean_asks_for_its_survey_and_for_one_of_each_source():
    with pytest.raises(ValueError, match="needs the survey"):
        fused_features("mean", features_of(2))
    with pytest.raises(ValueError, match="zip"):
        fused_features("mean", features_of(2), Extremes((0,), (1,)))


def test_an_unknown_strategy_is_refused():
    with pytest.raises(ValueError, match="no strategy 'maximum'"):
        fused_features("maximum", features_of(2))


@given(extremes_of(2), extremes_of(2), extremes_of(2))
def test_surveys_merge_in_any_order(a, b, c):
    assert a.merge(b).merge(c) == a.merge(b.merge(c)) == c.merge(a).merge(b)


@given(extremes_of(3))
def test_nothing_is_the_neutral_survey_and_json_is_exact(a):
    assert a.merge(Extremes.empty(3)) == a == Extremes.empty(3).merge(a)
    assert Extremes.from_json(json.loads(json.dumps(a.to_json(), allow_nan=False))) == a


def test_an_empty_survey_goes_through_json():
    nothing = Extremes.empty(2)
    assert Extremes.from_json(json.loads(json.dumps(nothing.to_json(), allow_nan=False))) == nothing


def test_surveys_of_different_numbers_of_sources_do_not_merge():
    with pytest.raises(ValueError, match="zip"):
        Extremes.empty(2).merge(Extremes.empty(3))
