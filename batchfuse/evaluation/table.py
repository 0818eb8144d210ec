"""Figures as a table for people: a row a scene and the mean, or a row for each way to fuse."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from batchfuse.evaluation.contenders import FUSED
from batchfuse.evaluation.figure_names import label
from batchfuse.evaluation.results import Evaluation

__all__ = ["NOTHING", "Cell", "table"]

NOTHING = "-"
"""In place of a figure that isn't defined."""
GAP = "  "


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell, as wide as its column."""

    text: str
    """Padded."""
    bold: bool = False
    """Whether it stands out: the mean, and the best of several ways to fuse."""


def table(found: Evaluation) -> list[list[Cell]]:
    """The rows of the table: scenes and their mean; with baselines, the means of each way to fuse."""
    heads = [label(figure) for figure in found.figures]
    if len(found.contenders) == 1:
        rows = [["scene", *heads], *_scenes(found)]
        bold = {(len(rows) - 1, column) for column in range(len(heads) + 1)} if len(rows) > 2 else set()
    else:
        many = len(found.measured)
        rows = [[f"mean of {many} scenes" if many > 1 else found.measured[0].scene, *heads]]
        values = [[found.mean(one, figure).value for figure in found.figures] for one in found.contenders]
        rows += [[one.label, *map(_number, row)] for one, row in zip(found.contenders, values, strict=True)]
        bold = _best(values)
    widths = [max(_width(row[column]) for row in rows) for column in range(len(heads) + 1)]
    return [
        [Cell(_padded(text, widths[c], left=c == 0), (r, c) in bold) for c, text in enumerate(row)]
        for r, row in enumerate(rows)
    ]


def _scenes(found: Evaluation) -> list[list[str]]:
    rows = [
        [scene.scene, *(_number(scene.figures[FUSED.key][figure]) for figure in found.figures)]
        for scene in found.measured
    ]
    if len(rows) > 1:
        rows.append(["mean", *(_number(found.mean(FUSED, figure).value) for figure in found.figures)])
    return rows


def _best(values: Sequence[Sequence[float]]) -> set[tuple[int, int]]:
    """Row and column, counted with the heads, of the greatest figure of each column."""
    best = set()
    for column, figures in enumerate(zip(*values, strict=True), start=1):
        defined = [value for value in figures if not math.isnan(value)]
        best |= {
            (row, column) for row, value in enumerate(figures, start=1) if defined and value == max(defined)
        }
    return best


def _number(value: float) -> str:
    return NOTHING if math.isnan(value) else f"{value:.4f}"


def _padded(text: str, width: int, left: bool) -> str:
    space = " " * (width - _width(text))
    return text + space if left else GAP + space + text


def _width(text: str) -> int:
    """Columns that a text takes on a terminal."""
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1
        for sign in text
    )
