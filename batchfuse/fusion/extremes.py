"""The survey of a strategy that asks how far the features of its sources go."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Extremes"]


@dataclass(frozen=True, slots=True)
class Extremes:
    """Per source, the minimum and the maximum of the channel mean of its features.

    ``merge`` is exact and associative, so any tree of tasks gives the same. A source of which no
    valid pixel was seen has the minimum infinity and the maximum minus infinity.
    """

    minimum: tuple[float, ...]
    """One value a source, in the order of the sources."""
    maximum: tuple[float, ...]
    """One value a source, in the order of the sources."""

    def __post_init__(self) -> None:
        if len(self.minimum) != len(self.maximum):
            raise ValueError(f"{len(self.minimum)} minima and {len(self.maximum)} maxima")

    @classmethod
    def empty(cls, sources: int) -> Extremes:
        """Nothing seen yet: the neutral element of ``merge``."""
        return cls((math.inf,) * sources, (-math.inf,) * sources)

    def merge(self, other: Extremes) -> Extremes:
        """The extremes of both."""
        return Extremes(
            tuple(map(min, zip(self.minimum, other.minimum, strict=True))),
            tuple(map(max, zip(self.maximum, other.maximum, strict=True))),
        )

    def to_json(self) -> dict[str, list[float | None]]:
        """As JSON can hold it: exact (a double's shortest digits), None where nothing was seen."""
        return {"minimum": _finite(self.minimum), "maximum": _finite(self.maximum)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Extremes:
        """The inverse of ``to_json``."""
        return cls(
            tuple(math.inf if v is None else float(v) for v in values["minimum"]),
            tuple(-math.inf if v is None else float(v) for v in values["maximum"]),
        )


def _finite(values: Sequence[float]) -> list[float | None]:
    return [v if math.isfinite(v) else None for v in values]
