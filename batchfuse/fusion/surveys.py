"""Surveys: what a strategy may have to know of the whole scene, found tile by tile and merged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self

from batchfuse.fusion.extremes import Extremes
from batchfuse.fusion.moments import Moments

__all__ = ["Survey", "survey_from_json"]


class Survey(Protocol):
    """What was seen of a part of a scene; immutable."""

    def merge(self, other: Self) -> Self:
        """What was seen of both parts, which share no pixel: exact, associative and commutative."""

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it, exactly; ``kind`` says which class it was, if that is not ``Extremes``."""


_KINDS: Mapping[str, type[Extremes | Moments]] = {"extremes": Extremes, "moments": Moments}


def survey_from_json(values: Mapping[str, Any]) -> Survey:
    """The inverse of ``to_json``, whichever survey it was.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    return _KINDS[values.get("kind", "extremes")].from_json(values)
