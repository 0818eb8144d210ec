"""The strategy ``detail``: what the sources have together, at the contrast they have it.

The features φ_i of each source are parted into a base B_i, their mean over a small box, and the detail
D_i = φ_i - B_i around it; bases and details are merged by weights of their own and raised to the energy
that the sources have together, which a weighted mean of different images loses (as the exposure fusion
measure of Ma, Zeng and Wang, IEEE TIP 2015, wants a patch as strong as its strongest source). Equal
sources lose nothing, and come back as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from batchfuse.fusion.merged import Merged
from batchfuse.fusion.moments import Moments
from batchfuse.fusion.surveys import Survey

__all__ = ["Detail", "box_mean"]

BASE = 2
"""Radius of the box whose mean is the base."""
ENERGY = 6
"""Radius of the box over which the energy of details is averaged: with a small one, weights flicker."""
_FAR = 10.0  # deviations from the mean that count; beyond, a pixel is as salient as it gets


@dataclass(frozen=True, slots=True)
class Detail:
    """The ``Rule``: decode(γ Σ w_i B_i + s Σ v_i D_i) - (γ - 1) m.

    - S_ij, the box mean of the channel mean of D_i D_j, are energies and overlaps of the details, at a pixel.
    - v_i = √S_ii / Σ_j √S_jj: the stronger detail counts more; 1/k where there is none.
    - s = √(E(S) / vᵀSv) with E(S) = tr S - Σ_{i≠j} S_ij² / tr S, the energy of all of them without what they
      share: tr S for unrelated details, that of one where all are equal.
    - w = softmax(salience · z), z_i = |b_i - m_i| / σ_i: of the bases, the one that is farther from what is
      usual in its source counts more, a hot target as well as a shadow. b_i is the box mean of the pixels.
    - γ is to the covariances of the pixels over the scene, and to their plain mean, what s is to S and v.
    - m_i and σ_i are a source's mean and standard deviation over the scene, m the mean of the m_i.

    Neither s nor γ exceeds ``contrast``.
    """

    contrast: float
    """How much contrast may be raised at most, 1 or more."""
    salience: float
    """How much a base gains by being unusual; with 0 the base is the plain mean."""
    reach: ClassVar[int] = BASE + ENERGY
    surveys_pixels: ClassVar[bool] = True

    def merged(self, features: Sequence[Tensor], pixels: Sequence[Tensor], survey: Survey | None) -> Merged:
        """See ``Rule.merged``."""
        if not isinstance(survey, Moments):
            raise ValueError("the detail strategy needs the moments of the whole scene")
        gain = _scene_gain(survey, self.contrast)
        base_weights = _salient(pixels, survey, self.salience)
        bases = [box_mean(feature, BASE) for feature in features]
        details = [feature - base for feature, base in zip(features, bases, strict=True)]
        detail_weights = _strong(details, self.contrast)
        merged = bases[0] * (base_weights[0] * gain)
        for base, weight in zip(bases[1:], base_weights[1:], strict=True):
            merged.addcmul_(base, weight * gain)
        for detail, weight in zip(details, detail_weights, strict=True):
            merged.addcmul_(detail, weight)
        level = sum(map(survey.mean_of, range(len(features)))) / len(features)
        return Merged(merged, offset=(1 - gain) * level)


def _strong(details: Sequence[Tensor], most: float) -> list[Tensor]:
    """S v_i, (1, 1, y, x) a source."""
    overlaps = [[_overlap(one, other) for other in details[: i + 1]] for i, one in enumerate(details)]
    amplitudes = torch.stack([row[-1] for row in overlaps]).sqrt()
    total = amplitudes.sum(0)
    weights = torch.where(total > 0, amplitudes / torch.where(total > 0, total, 1.0), 1 / len(details))
    return list((_raised(overlaps, weights, most) * weights).unbind(0))


def _raised(overlaps: Sequence[Sequence[Tensor]], weights: Tensor, most: float) -> Tensor:
    """√(E(S) / wᵀSw), at most ``most``, and 1 where there is no energy.

    Args:
        overlaps: S_ij for j <= i, tensors of one shape.
        weights: (source, ...), of that shape.
        most: the limit.
    """
    energies = torch.stack([row[-1] for row in overlaps])
    total = energies.sum(0)
    merged = (weights**2 * energies).sum(0)
    shared = torch.zeros_like(total)
    for i, row in enumerate(overlaps):
        for j, overlap in enumerate(row[:-1]):
            merged += 2 * weights[i] * weights[j] * overlap
            shared += 2 * overlap**2
    there = total > 0
    wanted = total - shared / torch.where(there, total, 1.0)
    lost = torch.maximum(merged, wanted / most**2)
    return torch.where(there, (wanted / torch.where(there, lost, 1.0)).sqrt(), 1.0)


def _overlap(one: Tensor, other: Tensor) -> Tensor:
    """S_ij, (1, 1, y, x)."""
    return box_mean((one * other).mean(1, keepdim=True), ENERGY)


def _salient(pixels: Sequence[Tensor], survey: Moments, salience: float) -> list[Tensor]:
    """w_i, (1, 1, y, x) a source."""
    far = []
    for i, image in enumerate(pixels):
        deviation = math.sqrt(survey.variance(i))
        away = (box_mean(image, BASE) - survey.mean_of(i)).abs()
        far.append((away / deviation).clamp_(max=_FAR) if deviation > 0 else torch.zeros_like(image))
    return list(torch.softmax(salience * torch.stack(far), dim=0).unbind(0))


def _scene_gain(survey: Moments, most: float) -> float:
    """γ: 1 for equal sources, ``most`` where their plain mean loses more than that."""
    sources = range(len(survey.sums))
    covariances = [
        [torch.tensor(survey.covariance(i, j), dtype=torch.float64) for j in sources[: i + 1]]
        for i in sources
    ]
    equal = torch.full((len(sources),), 1 / len(sources), dtype=torch.float64)
    return float(_raised(covariances, equal, most))


def box_mean(images: Tensor, radius: int) -> Tensor:
    """The mean over the square of 2 radius + 1 pixels around each pixel, or what an edge leaves of it."""
    edge = 2 * radius + 1
    # one direction after the other: the count in the square is the product of both counts
    along = avg_pool2d(images, (1, edge), 1, (0, radius), count_include_pad=False)
    return avg_pool2d(along, (edge, 1), 1, (radius, 0), count_include_pad=False)
