"""What of a strategy can be chosen: named numbers with a default and limits, as plain data."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal

from batchfuse.errors import RecipeError

__all__ = ["Parameter", "read_strategy", "worded"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One number that a strategy lets its user choose."""

    name: str
    """As the recipe writes it."""
    default: float
    """Its value where nobody chooses one."""
    lowest: float
    """The least it may be."""
    highest: float
    """The most it may be."""
    summary: str = ""
    """One line for people."""
    kind: Literal["float", "int"] = "float"
    """float: any number between; int: whole numbers only."""

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or self.kind not in ("float", "int"):
            raise ValueError(f"a parameter is called {self.name!r} and of kind {self.kind!r}")
        if refused := self.refusal(self.default):
            raise ValueError(f"the default of parameter {self.name!r}: {refused}")

    def refusal(self, value: object) -> str | None:
        """Why it can't have this value, or None."""
        whole = self.kind == "int"
        number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
        if number and math.isfinite(value) and self.lowest <= value <= self.highest:  # type: ignore[arg-type, operator]
            return None
        return f"give a {'whole ' if whole else ''}number from {self.lowest:g} to {self.highest:g}"

    def of(self, value: Any) -> float:
        """A value that is not refused, as the number that is computed with and stored."""
        return int(value) if self.kind == "int" else float(value)

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {
            "type": "integer" if self.kind == "int" else "number",
            "minimum": self.lowest,
            "maximum": self.highest,
            "default": self.default,
            "description": self.summary,
        }

    def __str__(self) -> str:
        whole = "whole numbers " if self.kind == "int" else ""
        return f"{self.name} {self.default:g} ({whole}{self.lowest:g} to {self.highest:g}): {self.summary}"


def read_strategy(text: str) -> tuple[str, dict[str, float]]:
    """A strategy written in a word, and what it says of parameters: ``detail``, or ``detail:contrast=1.2``.

    Raises:
        RecipeError: what follows the colon are no parameters. Whether they exist is not asked here.
    """
    name, colon, told = text.partition(":")
    if not colon:
        return name, {}
    parameters: dict[str, float] = {}
    for part in told.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not key or not equals or key in parameters:
            raise _unreadable(text)
        try:
            parameters[key] = int(value) if value.lstrip("+-").isdecimal() else float(value)
        except ValueError:
            raise _unreadable(text) from None
    return name, parameters


def _unreadable(text: str) -> RecipeError:
    return RecipeError(
        f"found {reprlib.repr(text)}; give a name, or name:parameter=number, as in detail:contrast=1.2"
    )


def worded(strategy: str, parameters: Mapping[str, float]) -> str:
    """A strategy with its parameters, for people: ``detail (contrast 1.5, salience 0.2)``."""
    told = ", ".join(f"{name} {value:g}" for name, value in parameters.items())
    return f"{strategy} ({told})" if told else strategy
