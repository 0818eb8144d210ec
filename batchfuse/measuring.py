"""What one process does to measure a scene: survey it, then measure one image of it at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from batchfuse.comparison import Comparison, compared_store
from batchfuse.errors import SceneError
from batchfuse.evaluation.contenders import FUSED, Contender, Levels, Patch, merged_ends
from batchfuse.evaluation.rectangle import largest_rectangle
from batchfuse.evaluation.results import Figures
from batchfuse.evaluation.windows import EDGE, measured_windows
from batchfuse.file_comparison import Files, compared_files
from batchfuse.geometry.window import Window
from batchfuse.job import Job
from batchfuse.metrics import figures

__all__ = ["Part", "Settings", "Subject", "Survey", "measure", "survey"]

SMALL = 64  # pixels of an edge: in a large scene a part below tells little, and some figures want 44

Subject = Job | Files
"""A scene of a recipe, or one told by its files."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured."""

    figures: tuple[str, ...]
    """Names of the figures."""
    contenders: tuple[Contender, ...]
    """The fused image, with or without what fuses without a network."""
    stretch: bool = False
    """Whether images are stretched to 0..255 first, as in the paper."""


@dataclass(frozen=True, slots=True)
class Part:
    """One image to measure: a window of one stack."""

    window: Window
    """Valid throughout."""
    stack: int
    """Which of the scene's stacks."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known of a scene before it is measured."""

    comparison: Comparison
    """Its images."""
    parts: tuple[Part, ...]
    """What is measured of them."""
    levels: dict[tuple[Contender, int], Levels]
    """Of each contender and stack, where they are needed."""
    notes: tuple[str, ...]
    """What a person should know."""


def survey(subject: Subject, settings: Settings) -> Survey:
    """Opens a scene, and finds what of it is valid and what its images depend on as a whole.

    Raises:
        SceneError: it can't be measured.
    """
    compared = compared_store(subject) if isinstance(subject, Job) else compared_files(subject)
    windows = measured_windows(compared.shape)
    parts = [part for window in windows if (part := _valid_part(compared, window))]
    if len(windows) > 1:  # what is left of some may tell too little
        parts = [part for part in parts if min(part.shape) >= SMALL] or parts
    if not parts:
        raise SceneError(_why_nothing(compared, windows))
    levels: dict[tuple[Contender, int], Levels] = {}
    if settings.stretch or settings.contenders != (FUSED,):
        for stack in range(compared.stacks):
            levels |= _levels(compared, parts, stack, settings.contenders)
    cuts = tuple(Part(window, stack) for window in parts for stack in range(compared.stacks))
    return Survey(compared, cuts, levels, (*compared.notes, *_told(compared, len(windows), parts)))


def measure(found: Survey, part: Part, contender: Contender, settings: Settings) -> Figures:
    """The figures of one image."""
    patch = _patch(found.comparison, part.window, part.stack)
    levels = found.levels.get((contender, part.stack)) or Levels(patch.ends)
    image = contender.image(patch, levels, settings.stretch)
    return figures(image, *patch.sources, names=settings.figures)


def _valid_part(compared: Comparison, window: Window) -> Window | None:
    """The largest rectangle within a window where all images are valid."""
    inner = largest_rectangle(compared.read(window, 0).valid)
    if inner is None:
        return None
    (top, left), (bottom, right) = inner.start, inner.stop
    first_row, first_column = window.start
    return Window((top + first_row, left + first_column), (bottom + first_row, right + first_column))


def _why_nothing(compared: Comparison, windows: Sequence[Window]) -> str:
    shown = any(not np.isnan(compared.read(window, 0).fused).all() for window in windows)
    what = "no pixel is valid in all of its images at once" if shown else "its fused image has no valid pixel"
    where = "" if len(windows) == 1 else f" in the {len(windows)} windows of it that are measured"
    return f"{what}{where}: there is nothing to measure"


def _levels(
    compared: Comparison, parts: Sequence[Window], stack: int, contenders: Sequence[Contender]
) -> dict[tuple[Contender, int], Levels]:
    """What each contender's images depend on, over all parts."""
    ends = merged_ends([_patch(compared, part, stack).ends for part in parts])
    levels = {(contender, stack): Levels(ends) for contender in contenders}
    for part in parts:
        patch = _patch(compared, part, stack)
        for key in levels:
            levels[key] = levels[key].merge(key[0].levels(patch, ends))
    return levels


def _patch(compared: Comparison, window: Window, stack: int) -> Patch:
    beside = compared.read(window, stack)
    return Patch(beside.sources, beside.fused)


def _told(compared: Comparison, windows: int, parts: Sequence[Window]) -> Iterator[str]:
    """Which part of the scene was measured, unless it was all of it."""
    rows, columns = compared.shape
    share = sum(part.size for part in parts) / (rows * columns)
    percent = f"{math.floor(1000 * share) / 10:g} %"
    if windows > 1:
        many = f"{len(parts)} window{'' if len(parts) == 1 else 's'} of up to {EDGE}x{EDGE}"
        yield f"measured in {many} of {columns}x{rows} pixels, {percent}: figures are means over them"
    elif share < 1:
        height, width = parts[0].shape
        yield (
            f"measured on {width}x{height} of {columns}x{rows} pixels, {percent}: the largest rectangle in "
            "which all images are valid"
        )
    if compared.stacks > 1:
        yield f"each of its {compared.stacks} bands is measured on its own: figures are means over them"
