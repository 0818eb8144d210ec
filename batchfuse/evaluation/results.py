"""What was measured: figures by scene, and their means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchfuse.evaluation.contenders import Contender

__all__ = ["Evaluation", "Figures", "Mean", "Measured", "weighted"]

Figures = Mapping[str, float]
"""By name; NaN where one isn't defined."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of one scene."""

    scene: str
    """Its name."""
    reason: str | None = None
    """Why it could not be measured, in one line."""
    shape: tuple[int, int] | None = None
    """Rows and columns of the scene."""
    windows: Sequence[tuple[int, int, int, int]] = ()
    """Top, left, bottom, right of each part that was measured."""
    figures: Mapping[str, Figures] = field(default_factory=dict)
    """By the contender's key."""
    notes: Sequence[str] = ()
    """What a person should know."""
    traceback: str | None = None
    """Of a bug: where it was met."""

    @property
    def share(self) -> float | None:
        """How much of the scene's pixels was measured, 0..1."""
        if self.shape is None:
            return None
        measured = sum((bottom - top) * (right - left) for top, left, bottom, right in self.windows)
        return measured / (self.shape[0] * self.shape[1])


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of one figure over the scenes."""

    value: float
    """NaN where it is defined in none."""
    scenes: int
    """In how many it is defined."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that was measured."""

    figures: tuple[str, ...]
    """Names, in the order of the columns."""
    contenders: tuple[Contender, ...]
    """What was measured of each scene, in the order of the rows."""
    stretch: bool
    """Whether images were stretched first."""
    scenes: tuple[Measured, ...]
    """In the order that they were named in."""
    unmatched: Sequence[tuple[str, str]] = ()
    """(file, reason) of files that belong to no scene."""

    @property
    def measured(self) -> tuple[Measured, ...]:
        """The scenes that have figures."""
        return tuple(scene for scene in self.scenes if scene.reason is None)

    @property
    def exit_code(self) -> int:
        """0 all scenes measured, 1 some not."""
        return int(len(self.measured) < len(self.scenes))

    def mean(self, contender: Contender, figure: str) -> Mean:
        """The plain mean of the scenes' figures, over those where it is defined."""
        values = [scene.figures[contender.key][figure] for scene in self.measured]
        defined = [value for value in values if not math.isnan(value)]
        return Mean(math.fsum(defined) / len(defined) if defined else math.nan, len(defined))

    def rows(self) -> list[list[str]]:
        """For CSV: a header, and a row a scene and contender; what is undefined is empty."""
        table = [["scene", "image", *self.figures, "share", "note"]]
        for scene in self.scenes:
            if scene.reason is not None:
                table.append([scene.scene, "", *("" for _ in self.figures), "", scene.reason])
                continue
            note = "; ".join(scene.notes)
            for contender in self.contenders:
                found = scene.figures[contender.key]
                cells = ("" if math.isnan(found[name]) else repr(found[name]) for name in self.figures)
                table.append([scene.scene, contender.key, *cells, repr(scene.share), note])
        return table

    def to_dict(self) -> dict[str, Any]:
        """For JSON; what is undefined is null."""
        return {
            "figures": list(self.figures),
            "stretch": self.stretch,
            "scenes": [self._described(scene) for scene in self.scenes],
            "means": {
                contender.key: {name: _number(self.mean(contender, name).value) for name in self.figures}
                for contender in self.contenders
            },
            "defined_in": {
                contender.key: {name: self.mean(contender, name).scenes for name in self.figures}
                for contender in self.contenders
            },
            "unmatched": [{"path": path, "reason": reason} for path, reason in self.unmatched],
        }

    def _described(self, scene: Measured) -> dict[str, Any]:
        return {
            "scene": scene.scene,
            "reason": scene.reason,
            "shape": scene.shape and list(scene.shape),
            "windows": [list(window) for window in scene.windows],
            "share": scene.share,
            "notes": list(scene.notes),
            "figures": {
                key: {name: _number(value) for name, value in found.items()}
                for key, found in scene.figures.items()
            },
        }


def weighted(parts: Sequence[tuple[int, Figures]]) -> dict[str, float]:
    """The means of the figures of several parts of a scene, each with its number of pixels.

    A figure that isn't defined in a part is the mean of the others.
    """
    means = {}
    for name in parts[0][1]:
        defined = [(pixels, found[name]) for pixels, found in parts if not math.isnan(found[name])]
        pixels = sum(pixels for pixels, _ in defined)
        # of one part exactly its own figure
        means[name] = (
            defined[0][1]
            if len(defined) == 1
            else math.fsum(many * value for many, value in defined) / pixels
            if defined
            else math.nan
        )
    return means


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
