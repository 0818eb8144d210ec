"""Rules: what a strategy does to the features of a part of the sources, and what it does to the image after.

A rule sees a little more than what is wanted of it: ``reach`` pixels on each side, fewer only where the
image ends. What it makes of the pixels that near a side is dropped, unless the image ends there. So a rule
may treat each side of what it sees as the end of the image, and tiles still equal the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from batchfuse.fusion.detail import Detail
from batchfuse.fusion.extremes import Extremes
from batchfuse.fusion.merged import Merged
from batchfuse.fusion.strategies import fused_features
from batchfuse.fusion.surveys import Survey

__all__ = ["Rule", "rule_of"]


class Rule(Protocol):
    """How the features of the sources become one set, around each pixel alone."""

    @property
    def reach(self) -> int:
        """Pixels of features (and of the sources) around a pixel that its merged features depend on."""

    @property
    def surveys_pixels(self) -> bool:
        """Whether its survey are the ``Moments`` of the sources, which take no network."""

    def merged(self, features: Sequence[Tensor], pixels: Sequence[Tensor], survey: Survey | None) -> Merged:
        """The features to decode, and what is done to the decoded image.

        Args:
            features: (1, 64, y, x) a source, never negative.
            pixels: (1, 1, y, x) a source: the scaled values there, filled where they are invalid.
            survey: of the whole scene, if the strategy asks for one.

        Returns:
            tensors over the same (y, x) as what was given.
        """


@dataclass(frozen=True, slots=True)
class Weighted:
    """The rules of the paper: a weighted sum at each pixel."""

    strategy: str
    """l1, mean or average."""
    reach: int = 0
    surveys_pixels: bool = False

    def merged(self, features: Sequence[Tensor], pixels: Sequence[Tensor], survey: Survey | None) -> Merged:  # noqa: ARG002
        """See ``Rule.merged``."""
        assert survey is None or isinstance(survey, Extremes)
        return Merged(fused_features(self.strategy, features, survey))


def rule_of(strategy: str, parameters: Mapping[str, float]) -> Rule:
    """The rule of a strategy of Res2NetFuse, with all of its parameters."""
    return Detail(**parameters) if strategy == "detail" else Weighted(strategy)
