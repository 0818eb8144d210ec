"""The registry of fusion methods: plain data, so that a plan needs no torch."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any

from batchfuse.errors import RecipeError
from batchfuse.fusion.layers import ENCODER_RADIUS, RADIUS
from batchfuse.fusion.parameters import Parameter, read_strategy

__all__ = ["ENTRY_POINTS", "Method", "Strategy", "all_methods", "method", "register"]

ENTRY_POINTS = "batchfuse.methods"
"""Group of entry points under which other packages offer a ``Method``."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """One way to merge the features of the sources."""

    name: str
    """As the recipe writes it."""
    halo: int
    """Pixels a tile reads beyond its core so that tiled equals whole."""
    survey_halo: int | None
    """The same for the survey pass, or None where nothing is asked of the whole scene."""
    summary: str
    """One line for people."""
    parameters: tuple[Parameter, ...] = ()
    """What its user may choose; the halos hold for every choice."""
    memory: int = 150_000_000
    """Bytes that a fuser holds at most for each tile at work on a CPU, beside the tile's own arrays."""

    def __post_init__(self) -> None:
        if self.halo < 0 or (self.survey_halo or 0) < 0:
            raise ValueError(f"the halo of strategy {self.name!r} is negative")

    def mistakes(self, given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """What is wrong with parameters, as pairs of the parameter and what is said of it."""
        known = {parameter.name: parameter for parameter in self.parameters}
        for name, value in given.items():
            if not known:
                yield name, f"the strategy {self.name} takes no parameters: write `strategy: {self.name}`"
            elif name not in known:
                yield name, f"the strategy {self.name} has no such parameter: {_nearest(name, known)}"
            elif refused := known[name].refusal(value):
                yield name, f"found {reprlib.repr(value)}; {refused}"

    def resolved(self, given: Mapping[str, Any]) -> dict[str, float]:
        """All parameters, those that are not given with their defaults.

        Raises:
            RecipeError: an unknown parameter, or one out of its limits.
        """
        for name, mistake in self.mistakes(given):
            raise RecipeError(f"fusion.strategy.{self.name}.{name}: {mistake}")
        return {p.name: p.of(given.get(p.name, p.default)) for p in self.parameters}


@dataclass(frozen=True, slots=True)
class Method:
    """A way to fuse images: where its class lives, and what a plan has to know of it."""

    name: str
    """As the recipe writes it."""
    fuser: str
    """Where its fuser is, ``module:Class``; loaded only when something is fused."""
    strategies: Mapping[str, Strategy]
    """By name; the first is the default."""
    default_weights: str
    """Name of the weights used where the recipe names none."""
    summary: str = ""
    """One line for people."""
    pixels: int = 1
    """Version of what it computes: one more whenever the same settings give other pixels."""

    def __post_init__(self) -> None:
        if not self.strategies or ":" not in self.fuser:
            raise ValueError(f"method {self.name!r} needs a strategy and a fuser as module:Class")
        object.__setattr__(self, "strategies", MappingProxyType(dict(self.strategies)))

    def __reduce__(self) -> tuple[type[Method], tuple[object, ...]]:
        # a read-only view can't be pickled, and plans travel to workers
        told = (self.name, self.fuser, dict(self.strategies), self.default_weights, self.summary, self.pixels)
        return Method, told

    def strategy(self, name: str) -> Strategy:
        """The strategy of this name.

        Raises:
            RecipeError: there is none; the line names what exists.
        """
        if name in self.strategies:
            return self.strategies[name]
        raise RecipeError(f"method {self.name!r} has no strategy {name!r}: {_nearest(name, self.strategies)}")

    def chosen(self, strategy: str | Mapping[str, Any]) -> tuple[Strategy, dict[str, float]]:
        """A strategy and all its parameters, of a word (``detail:contrast=1.2``) or one in a mapping.

        Raises:
            RecipeError: there is no such strategy or parameter, or a value is out of its limits.
        """
        named = dict([read_strategy(strategy)]) if isinstance(strategy, str) else strategy
        if not isinstance(named, Mapping) or len(named) != 1:
            raise RecipeError(f"a strategy is a name, or one name with its parameters, not {strategy!r}")
        ((name, given),) = named.items()
        found = self.strategy(name)
        if not isinstance(given, Mapping | None):
            raise RecipeError(f"the parameters of {name} are a mapping of names to numbers, not {given!r}")
        return found, found.resolved(given or {})


def _by_name(*strategies: Strategy) -> dict[str, Strategy]:
    return {strategy.name: strategy for strategy in strategies}


_REGISTERED: dict[str, Method] = {}


def register(method: Method) -> None:
    """Adds a method, or replaces the one of the same name."""
    _REGISTERED[method.name] = method


register(
    Method(
        name="res2netfuse",
        fuser="batchfuse.fusion.windowed:Res2NetFuser",
        strategies=_by_name(
            Strategy("l1", RADIUS, None, "features weighted by their l1 norm at each pixel (equations 8, 9)"),
            Strategy(
                "mean",
                RADIUS,
                ENCODER_RADIUS,
                "features weighted by a softmax of their channel mean, normalised over the whole scene",
            ),
            Strategy("average", RADIUS, None, "the plain average of the features"),
            Strategy(
                "detail",
                RADIUS + 8,  # the reach of its rule, fusion/detail.py
                0,
                "bases and details merged apart, at the contrast the sources have together: for looking at",
                (
                    Parameter("contrast", 1.5, 1, 3, "how much contrast may be raised at most"),
                    Parameter("salience", 0.2, 0, 5, "how much the more unusual source counts in the base"),
                ),
                memory=350_000_000,
            ),
        ),
        default_weights="res2netfuse",
        summary="encoder, Res2Net block and decoder trained on one photograph (arXiv 2112.14540)",
    )
)


def method(name: str) -> Method:
    """The method of this name: a registered one, else that of an entry point.

    Raises:
        RecipeError: there is none; the line names the nearest.
    """
    if name in _REGISTERED:
        return _REGISTERED[name]
    offered = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name in offered:
        return _loaded(offered[name])
    raise RecipeError(f"there is no fusion method {name!r}: {_nearest(name, [*_REGISTERED, *offered])}")


def all_methods() -> tuple[Method, ...]:
    """Every method that can be named in a recipe, registered ones first."""
    offered = [p for p in entry_points(group=ENTRY_POINTS) if p.name not in _REGISTERED]
    return (*_REGISTERED.values(), *(_loaded(point) for point in offered))


def _loaded(point: EntryPoint) -> Method:
    try:
        found = point.load()
    except Exception as error:  # another package's code may fail in any way
        raise RecipeError(
            f"the fusion method {point.name!r} of {point.value} does not load: {error}"
        ) from error
    if not isinstance(found, Method):
        raise RecipeError(
            f"the entry point {point.name!r} ({point.value}) gives a {type(found).__name__}, not a "
            "batchfuse.fusion.methods.Method: tell its authors"
        )
    return found


def _nearest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(str(name), names, n=1)
    return (f"did you mean {close[0]!r}? " if close else "") + f"there is {', '.join(names)}"
