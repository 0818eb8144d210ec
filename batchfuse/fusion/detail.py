"""The strategy ``detail``: a base of all sources, and at each pixel most of the detail that is strongest."""

from __future__ import annotations

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

BASE = 1  # radius of the box whose mean is the base
ACTIVITY = 2  # of the box over which the strength of detail is averaged


@dataclass(frozen=True, slots=True)
class Detail:
    """The ``Rule``: f = γ · mean_i B_i + Σ w_i D_i, and the decoded image less (γ - 1) · m.

    B_i is the box mean of φ_i and D_i = φ_i - B_i; w_i = a_i / max_j a_j, where a_i is the box mean of the
    channel mean of |D_i|; m is the mean of all valid pixels of the scene.
    """

    gain: float
    """γ: how much the contrast of the base is raised about the mean of the scene."""
    reach: ClassVar[int] = BASE + ACTIVITY
    surveys_pixels: ClassVar[bool] = True

    def merged(self, features: Sequence[Tensor], pixels: Sequence[Tensor], survey: Survey | None) -> Merged:  # noqa: ARG002
        """See ``Rule.merged``."""
        if not isinstance(survey, Moments):
            raise ValueError("the detail strategy needs the moments of the whole scene")
        bases = [box_mean(feature, BASE) for feature in features]
        details = [feature - base for feature, base in zip(features, bases, strict=True)]
        base = torch.stack(bases).mean(0) * self.gain
        for detail, weight in zip(details, _weights(details), strict=True):
            base.addcmul_(detail, weight)
        return Merged(base, offset=(1 - self.gain) * survey.mean)


def _weights(details: Sequence[Tensor]) -> list[Tensor]:
    """(1, 1, y, x) a source: 1 for the strongest detail, and where there is none at all."""
    activities = [box_mean(detail.abs().mean(1, keepdim=True), ACTIVITY) for detail in details]
    strongest = torch.stack(activities).amax(0)
    nothing = strongest == 0
    most = torch.where(nothing, 1.0, strongest)
    return [torch.where(nothing, 1.0, activity / most) for activity in activities]


def box_mean(images: Tensor, radius: int) -> Tensor:
    """The mean over the square of 2 radius + 1 pixels around each pixel, or what an edge leaves of it."""
    edge = 2 * radius + 1
    # one direction after the other: the count in the square is the product of both counts
    along = avg_pool2d(images, (1, edge), 1, (0, radius), count_include_pad=False)
    return avg_pool2d(along, (edge, 1), 1, (radius, 0), count_include_pad=False)
