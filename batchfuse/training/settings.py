"""How to train: everything that decides what weights come out, and the presets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from batchfuse.errors import RecipeError
from batchfuse.fusion.layers import RADIUS
from batchfuse.fusion.res2netfuse import Res2NetFuseConfig

__all__ = ["DEFAULT_PRESET", "PRESETS", "Schedule", "Settings"]

Schedule = Literal["constant", "cosine"]
SCHEDULES: tuple[Schedule, ...] = ("constant", "cosine")
WARM_UP = 100  # iterations


@dataclass(frozen=True, slots=True)
class Settings:
    """How to train; the defaults are what was measured best on one photograph.

    Raises:
        RecipeError: a value that can't work.
    """

    iterations: int = 4000
    """Steps of one image each."""
    crop: int | None = 64
    """Edge of a crop in pixels; None: the whole image every time."""
    augment: bool = True
    """Whether images are mirrored and transposed at random."""
    learning_rate: float = 1e-3
    """Of Adam, at its peak."""
    schedule: Schedule = "cosine"
    """The learning rate stays, or after a warm-up of 100 iterations falls to 0 as a cosine."""
    pixel_weight: float = 300.0
    """Of the MSE beside 1 - SSIM: what it has risen to at the end, exponentially from 1."""
    mean_decay: float = 0.0
    """Of the exponential mean of the weights, which is then what is kept; 0 keeps the last weights."""
    white: float = 1.0
    """What 1.0 of an image is to the network while it trains. With 255, as in the authors' practice, biases
    begin and stay small beside the image; the weights that are kept take 0..1 in any case."""
    network: Res2NetFuseConfig = field(default_factory=Res2NetFuseConfig)
    """Which variant of the network."""
    seed: int = 0
    """Of the first weights, the crops and the mirroring."""

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise RecipeError(f"training for {self.iterations} iterations: give 1 or more")
        if self.crop is not None and self.crop < 2 * RADIUS:
            raise RecipeError(
                f"crops of {self.crop} pixels are too small for the network: give {2 * RADIUS} or more"
            )
        if not 0 < self.learning_rate < math.inf:
            raise RecipeError(f"the learning rate {self.learning_rate} is not positive: 1e-3 is usual")
        if self.schedule not in SCHEDULES:
            raise RecipeError(f"there is no schedule {self.schedule!r}: give one of {', '.join(SCHEDULES)}")
        if not 0 < self.pixel_weight < math.inf:
            raise RecipeError(f"the pixel weight {self.pixel_weight} is not positive: give 1 to 300")
        if not 0 < self.white < math.inf:
            raise RecipeError(f"white is {self.white}, not positive: give 1 or 255")
        if not 0 <= self.mean_decay < 1:
            raise RecipeError(
                f"the decay {self.mean_decay} of the weights' mean is not within 0 and 1: give 0 (no mean) "
                "or a value like 0.995"
            )

    def rate(self, iteration: int) -> float:
        """The learning rate of an iteration, counted from 0."""
        if self.schedule == "constant":
            return self.learning_rate
        warm_up = min(WARM_UP, self.iterations)
        if iteration < warm_up:
            return self.learning_rate * ((iteration + 1) / warm_up)
        share = (iteration - warm_up) / max(1, self.iterations - warm_up)
        return self.learning_rate * ((1 + math.cos(math.pi * share)) / 2)

    def pixel_weight_at(self, iteration: int) -> float:
        """The weight of the MSE in an iteration, counted from 0."""
        return float(self.pixel_weight ** (iteration / max(1, self.iterations - 1)))

    def to_json(self) -> dict[str, Any]:
        """As weights files and checkpoints keep it."""
        return asdict(self)


PRESETS: Mapping[str, Settings] = MappingProxyType(
    {
        "res2netfuse": Settings(),
        "paper": Settings(
            iterations=2000,
            crop=None,
            augment=False,
            learning_rate=5e-4,
            schedule="constant",
            pixel_weight=1.0,
            mean_decay=0.995,
            white=255.0,
            network=Res2NetFuseConfig(bias=True),
        ),
    }
)
"""``paper`` is the training of Song et al. (arXiv 2112.14540) with a mean of the weights on top."""
DEFAULT_PRESET = "res2netfuse"
