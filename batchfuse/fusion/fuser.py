"""What a fusion method does to a tile, and how one is loaded."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from batchfuse.errors import RecipeError
from batchfuse.fusion.methods import method as method_named
from batchfuse.fusion.surveys import Survey
from batchfuse.geometry.window import Window

__all__ = ["Fuser", "load_fuser", "made_fuser"]

Pixels = NDArray[np.floating[Any]]


class Fuser(Protocol):
    """Fuses the arrays of one tile; several threads may share one fuser."""

    device: str
    """Where it computes: cpu, cuda:0 and so on."""
    precision: str
    """Its arithmetic, such as float32: part of a store's identity."""

    def survey(self, sources: Pixels, valid: NDArray[np.bool_], core: Window) -> Survey:
        """What the strategy has to know of the core, to be merged over all tiles of the scene.

        Args:
            sources: (source, y, x), scaled to 0..1; the core with ``survey_halo`` pixels around it, fewer
                only at the scene's edge. Of a volume (source, slice, y, x): slices are images of their own.
            valid: of the same shape; where it is False the pixel was filled, and says nothing.
            core: the pixels (y, x) to look at, of each slice, counted from the start of the arrays.
        """

    def fuse(self, sources: Pixels, core: Window, survey: Survey | None) -> NDArray[np.float32]:
        """The fused core, (y, x), in the sources' scaled range; of a volume (slice, y, x).

        Args:
            sources: (source, y, x), scaled to 0..1, finite; the core with ``halo`` pixels around it, fewer
                only at the scene's edge. Of a volume (source, slice, y, x): slices are images of their own.
            core: the pixels (y, x) to fuse, of each slice, counted from the start of the array.
            survey: merged over the whole scene, or None where the strategy asks nothing.
        """


def load_fuser(
    method: str = "res2netfuse",
    strategy: str = "l1",
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Fuser:
    """The fuser of a registered method, with its weights loaded.

    Args:
        method: name of the method.
        strategy: name of one of its strategies.
        weights: a shipped name or a .safetensors file; None takes the method's own.
        device: auto, cpu, cuda or cuda:N.
        precision: auto or float32; float64 is for tests.
        threads: windows that it computes at a time on a CPU; None takes as many as torch has threads.
        parameters: of the strategy; those left out have their defaults.

    Raises:
        RecipeError: no such method, strategy, parameter, device or precision.
        WeightsError: the weights can't be loaded.
    """
    chosen = method_named(method)
    resolved = chosen.strategy(strategy).resolved(parameters or {})
    chosen_weights = chosen.default_weights if weights is None else weights
    return made_fuser(chosen.fuser, strategy, chosen_weights, device, precision, threads, resolved)


def made_fuser(
    where: str,
    strategy: str,
    weights: str | os.PathLike[str],
    device: str,
    precision: str,
    threads: int | None,
    parameters: Mapping[str, float] | None = None,
) -> Fuser:
    """The fuser of the class at ``module:Class``: what ``load_fuser`` does, without the registry.

    A process elsewhere doesn't know what was registered here, and can import the class all the same.
    ``parameters``, resolved, are told to a fuser only if its strategy has any.
    """
    more = {"parameters": dict(parameters)} if parameters else {}
    made: Fuser = _class_at(where)(
        strategy=strategy, weights=weights, device=device, precision=precision, threads=threads, **more
    )
    return made


def _class_at(where: str) -> Any:
    module, _, name = where.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise RecipeError(
            f"the fuser {where} can't be loaded: {error}; install the package it comes from"
        ) from error
