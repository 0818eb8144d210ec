"""The public ``fuse``: arrays in, one fused array out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batchfuse.errors import BatchfuseError
from batchfuse.fusion.fuser import Fuser, load_fuser
from batchfuse.fusion.methods import method
from batchfuse.fusion.shipped import weights_checksum
from batchfuse.geometry.window import Window

__all__ = ["fuse"]


def fuse(
    *arrays: ArrayLike,
    strategy: str | Mapping[str, Mapping[str, float]] = "l1",
    weights: str | os.PathLike[str] = "res2netfuse",
    device: str = "auto",
) -> NDArray[np.float32]:
    """The fused image of two or more images, values 0..1.

    Args:
        arrays: (y, x), or (n, y, x) for n independent images; all of one shape, finite, never below 0.
        strategy: l1, mean, average or detail; or one name with its parameters, as a recipe has it:
            ``{"detail": {"contrast": 1.2}}``.
        weights: a shipped name or a .safetensors file.
        device: auto, cpu, cuda or cuda:N.

    Returns:
        float32 of the arrays' shape.

    Raises:
        BatchfuseError: arrays that can't be fused, in one line.
        RecipeError: no such strategy, parameter or device.
        WeightsError: the weights can't be loaded.
    """
    sources = np.stack(_checked(arrays))
    chosen, parameters = method("res2netfuse").chosen(strategy)
    asks = chosen.survey_halo is not None
    told = tuple(parameters.items())
    fuser = _loaded(chosen.name, told, os.fspath(weights), weights_checksum(weights), device)
    if sources.ndim == 3:
        return _fused(fuser, sources, asks)
    fused = np.empty(sources.shape[1:], np.float32)
    for i in range(len(fused)):
        fused[i] = _fused(fuser, sources[:, i], asks)
    return fused


@lru_cache(maxsize=2)
def _loaded(
    strategy: str,
    parameters: tuple[tuple[str, float], ...],
    weights: str,
    checksum: str,  # noqa: ARG001 (tells changed weights of one name apart)
    device: str,
) -> Fuser:
    """The fuser, loaded once."""
    return load_fuser("res2netfuse", strategy, weights, device, parameters=dict(parameters))


def _fused(fuser: Fuser, sources: NDArray[np.float32], asks: bool) -> NDArray[np.float32]:
    whole = Window.whole(sources.shape[1:])
    survey = fuser.survey(sources, np.ones(sources.shape, bool), whole) if asks else None
    return fuser.fuse(sources, whole, survey)


def _checked(arrays: tuple[ArrayLike, ...]) -> list[NDArray[np.float32]]:
    if len(arrays) < 2:
        raise BatchfuseError(f"fuse needs two or more arrays, not {len(arrays)}: give one for each source")
    sources = [_real(number, array) for number, array in enumerate(arrays, 1)]
    shapes = [source.shape for source in sources]
    if len(set(shapes)) > 1:
        raise BatchfuseError(f"the arrays to fuse differ in shape, {shapes}: bring them onto one grid first")
    return sources


def _real(number: int, given: ArrayLike) -> NDArray[np.float32]:
    if np.ma.is_masked(given):
        raise BatchfuseError(f"array {number} to fuse has masked values: fill them first")
    try:
        array: NDArray[Any] = np.asarray(given)
    except ValueError as error:
        raise BatchfuseError(f"array {number} to fuse is no array: {error}") from error
    if array.dtype.kind not in "fiub":
        raise BatchfuseError(f"array {number} to fuse is of {array.dtype}: give real numbers")
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise BatchfuseError(f"array {number} to fuse has shape {array.shape}: give (y, x) or (n, y, x)")
    with np.errstate(over="ignore"):
        source = array.astype(np.float32)
    if not np.isfinite(source).all():
        raise BatchfuseError(f"array {number} to fuse has NaN or infinite values: fill them first")
    if source.min() < 0:
        raise BatchfuseError(
            f"array {number} to fuse goes down to {source.min():g}: scale its values to 0..1"
        )
    return source
