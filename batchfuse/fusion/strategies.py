"""How the features of k sources become one set of features (equations 8 to 11).

Features are a tensor a source, (n, channel, y, x), never negative: they end in ReLUs.
Weights keep the channel dimension, (n, 1, y, x), and sum to 1 over the sources.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from batchfuse.fusion.extremes import Extremes

__all__ = ["average_weights", "fused_features", "l1_weights", "mean_weights"]

_EPSILON = 1e-5  # of equation 11's normalisation


def fused_features(strategy: str, features: Sequence[Tensor], survey: Extremes | None = None) -> Tensor:
    """The weighted sum of the features, Σ w_i φ_i.

    Raises:
        ValueError: an unknown strategy, or mean without its survey.
    """
    if strategy == "l1":
        return weighted_sum(features, l1_weights(features))
    if strategy == "average":
        return weighted_sum(features, average_weights(features))
    if strategy != "mean":
        raise ValueError(f"there is no strategy {strategy!r}")
    if survey is None:
        raise ValueError("the mean strategy needs the survey of the whole scene")
    return weighted_sum(features, mean_weights(features, survey))


def l1_weights(features: Sequence[Tensor]) -> list[Tensor]:
    """w_i = |φ_i|₁ / Σ_j |φ_j|₁ at each pixel (equations 8, 9); 1/k where all features are zero.

    No epsilon in the sum, so that the fused image scales with its sources.
    """
    norms = [feature.sum(dim=1, keepdim=True) for feature in features]
    total = torch.stack(norms).sum(dim=0)
    nothing = total == 0
    share = torch.where(nothing, 1.0, total).reciprocal()
    equal = 1 / len(features)
    return [torch.where(nothing, equal, norm * share) for norm in norms]


def mean_weights(features: Sequence[Tensor], survey: Extremes) -> list[Tensor]:
    """Softmax over the sources of the channel mean, normalised over the whole scene (equations 10, 11).

    n_i = (m_i - min m_i) / (max m_i - min m_i + 1e-5), kept in 0..1: filled pixels, which the survey
    ignores, may lie beyond its extremes.
    """
    normalised = [
        _normalised(channel_mean(feature), low, high)
        for feature, low, high in zip(features, survey.minimum, survey.maximum, strict=True)
    ]
    return list(torch.softmax(torch.stack(normalised), dim=0).unbind(0))


def average_weights(features: Sequence[Tensor]) -> list[Tensor]:
    """1/k everywhere: the paper's conventional average."""
    return [torch.full_like(feature[:, :1], 1 / len(features)) for feature in features]


def channel_mean(features: Tensor) -> Tensor:
    """m: (n, channel, y, x) to (n, 1, y, x)."""
    return features.mean(dim=1, keepdim=True)


def weighted_sum(features: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """Σ w_i φ_i, (n, channel, y, x)."""
    if len(features) == 2:
        # one pass over the memory, and equal sources give their features unaltered
        return torch.lerp(features[1], features[0], weights[0])
    total = features[0] * weights[0]
    for feature, weight in zip(features[1:], weights[1:], strict=True):
        total.addcmul_(feature, weight)
    return total


def _normalised(mean: Tensor, low: float, high: float) -> Tensor:
    if not math.isfinite(low):  # no valid pixel in the whole scene: any constant will do
        return torch.zeros_like(mean)
    return ((mean - low) / (high - low + _EPSILON)).clamp_(0, 1)
