"""What is measured of a scene: its fused image, and beside it what fuses without a network; numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batchfuse.evaluation.baselines import BASELINES, GAIN, Ends, baseline, gained
from batchfuse.evaluation.eight_bit import rounded, stretched

__all__ = ["FUSED", "Contender", "Levels", "Patch", "contenders", "merged_ends"]

STRIP = 2**18  # pixels that a rule is applied to at a time: its float64 arrays stay small

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A part of a scene that is valid throughout, as grey values 0..255."""

    sources: Bytes
    """(source, y, x)."""
    fused: NDArray[np.float64]
    """(y, x), neither rounded nor cut."""

    @property
    def ends(self) -> Ends:
        """Minimum and maximum of each source."""
        return [(float(source.min()), float(source.max())) for source in self.sources]


@dataclass(frozen=True, slots=True)
class Levels:
    """What a contender's 8-bit image depends on beyond the pixel itself, over all that is measured."""

    ends: Ends
    """Minimum and maximum of each source."""
    low: float = float("inf")
    """Least grey value of the contender."""
    high: float = float("-inf")
    """Greatest grey value of the contender."""
    total: float = 0.0
    """Sum of its grey values."""
    pixels: int = 0
    """How many they are."""

    def merge(self, other: Levels) -> Levels:
        """The levels of both parts of a scene."""
        return Levels(
            self.ends,
            min(self.low, other.low),
            max(self.high, other.high),
            self.total + other.total,
            self.pixels + other.pixels,
        )


@dataclass(frozen=True, slots=True)
class Contender:
    """An image that is measured against the sources of a scene."""

    rule: str | None = None
    """The baseline that makes it, or None for the fused image."""
    gained: bool = False
    """Whether it has more contrast, ``baselines.GAIN``."""

    @property
    def key(self) -> str:
        """What CSV and JSON call it."""
        return f"{self.rule or 'fused'}{'_gained' if self.gained else ''}"

    @property
    def label(self) -> str:
        """What the table calls it."""
        name = (self.rule or "fused").replace("pixels_", "pixels by ")
        return f"{name} x{GAIN:g}" if self.gained else name

    def levels(self, patch: Patch, ends: Ends) -> Levels:
        """What has to be known of a patch, to be merged over all patches of a scene.

        ``ends`` are the extremes of each source over all of them.
        """
        levels = Levels(ends)
        for rows in _strips(patch):
            values = self._values(patch, rows, ends)
            low, high, total = float(values.min()), float(values.max()), float(values.sum())
            levels = levels.merge(Levels(ends, low, high, total, values.size))
        return levels

    def image(self, patch: Patch, levels: Levels, stretch: bool) -> Bytes:
        """Its 8-bit image of a patch, (y, x).

        Args:
            patch: sources and fused image.
            levels: those of the whole scene.
            stretch: whether it is stretched by the scene's extremes. One with more contrast is not: that
                would take the contrast away again.
        """
        made = np.empty(patch.fused.shape, np.uint8)
        for rows in _strips(patch):
            values = self._values(patch, rows, levels.ends)
            if self.gained:
                made[rows] = rounded(gained(values, mean=levels.total / levels.pixels) / 255)
            elif stretch:
                made[rows] = stretched(values, (levels.low, levels.high))
            else:
                made[rows] = rounded(values / 255)
        return made

    def _values(self, patch: Patch, rows: slice, ends: Ends) -> NDArray[np.float64]:
        if self.rule is None:
            return patch.fused[rows]
        return baseline(self.rule, patch.sources[:, rows], ends)


def merged_ends(patches: Sequence[Ends]) -> Ends:
    """The extremes of each source over all patches, from those of each patch."""
    return [(min(low for low, _ in one), max(high for _, high in one)) for one in zip(*patches, strict=True)]


FUSED = Contender()
"""The fused image itself."""


def contenders(baselines: bool) -> Sequence[Contender]:
    """The fused image, alone or with every baseline, plain and with more contrast, in a table's order."""
    if not baselines:
        return [FUSED]
    return [FUSED, *(Contender(name, gained) for gained in (False, True) for name in BASELINES)]


def _strips(patch: Patch) -> list[slice]:
    rows, columns = patch.fused.shape
    step = max(1, STRIP // columns)
    return [slice(top, top + step) for top in range(0, rows, step)]
