"""A picture of volumes: three cuts through one voxel of each source and of the fused volume."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from batchfuse.report.colours import Stretch
from batchfuse.report.lettering import lettering
from batchfuse.report.page import BAR, BLACK, GAP, GRAY, LINE, TEXT, TITLE, Legend, Page, stretched
from batchfuse.report.rulers import round_below

__all__ = ["Cut", "CutPanel", "write_cuts"]

WIDEST, TALLEST = 380, 1300  # pixels of one cut across, and of a panel's three cuts down
THINNEST, CELL, SHEET = 12, 300, 2300
MARGIN = 18  # pixels around a cut for the letters of its edges
CROSS = np.array((90.0, 190.0, 255.0))
FAINT, OPEN = 0.45, 0.06  # how much of a line's colour is seen; part of the cut left open around the voxel
CONVENTION = "radiological convention: the patient's right is on the left"
WARNING = "not for diagnosis"


@dataclass(frozen=True, slots=True)
class Cut:
    """One slice of a volume, as it is looked at."""

    plane: str
    """Its name: axial, coronal, sagittal."""
    image: NDArray[np.float64]
    """Scaled values in display orientation, (row, column), NaN where invalid."""
    spacing: tuple[float, float]
    """Millimetres from row to row, and from column to column; both above 0."""
    edges: str
    """What lies at the top, bottom, left and right: four letters, such as APRL."""
    cross: tuple[int, int]
    """Row and column where the other two cuts meet this one."""


@dataclass(frozen=True, slots=True)
class CutPanel:
    """One volume of the sheet."""

    cuts: tuple[Cut, ...]
    """Its cuts, drawn one below the other; the same planes and shapes in each panel."""
    legend: Legend
    """What stands around them."""

    @property
    def values(self) -> NDArray[np.float64]:
        """All values of the cuts, (1, 1, n)."""
        return np.concatenate([cut.image.ravel() for cut in self.cuts])[None, None]


def write_cuts(panels: Sequence[CutPanel], heading: tuple[str, str], notes: str, path: Path) -> None:
    """Writes the cuts of some volumes on one grid as a PNG, a column a volume; in rows where they are many.

    All cuts are drawn to one scale in millimetres, with the letters of the patient's sides around them and
    thin lines where the others cross. Colours are stretched between percentiles for the eye alone. Invalid
    voxels are transparent, all else is not. ``heading`` is the scene's name and what is known of its grid;
    ``notes`` stand beside the scale bar. Below stand the convention of left and right, which has to be the
    radiological one, and that the picture is not for diagnosis.
    """
    sheet = _Sheet(panels)
    sheet.page.heading(*heading)
    legends, stretches = stretched([panel.legend for panel in panels], [panel.values for panel in panels])
    for number, (panel, legend, stretch) in enumerate(zip(panels, legends, stretches, strict=True)):
        sheet.cell(number, panel.cuts, legend, stretch)
    sheet.footer(notes)
    sheet.page.save(path)


class _Sheet:
    """Panels side by side on a page: lines above, cuts below one another, and a bar."""

    def __init__(self, panels: Sequence[CutPanel]) -> None:
        reaches = [_reach(cut) for cut in panels[0].cuts]
        widest, tallest = max(across for _, across in reaches), sum(down for down, _ in reaches)
        self.scale = min(WIDEST / widest, TALLEST / tallest)
        self.sizes = [
            (max(THINNEST, round(across * self.scale)), max(THINNEST, round(down * self.scale)))
            for down, across in reaches
        ]
        self.above = TITLE + 6 + LINE * max(len(panel.legend.about) for panel in panels)
        stack = sum(down + 2 * MARGIN for _, down in self.sizes)
        self.cell_size = (
            max(max(across for across, _ in self.sizes) + 2 * MARGIN, CELL) + GAP,
            self.above + stack + BAR[0] + 2 * LINE + 2 * GAP,
        )
        side_by_side = max(1, min(len(panels), (SHEET + GAP) // self.cell_size[0]))
        rows = math.ceil(len(panels) / side_by_side)
        self.columns = math.ceil(len(panels) / rows)
        self.top = GAP + TITLE + 2 * LINE + GAP // 2
        self.bottom = self.top + rows * self.cell_size[1]
        self.page = Page(GAP + self.columns * self.cell_size[0], self.bottom + 2 * LINE + GAP)

    def cell(self, number: int, cuts: Sequence[Cut], legend: Legend, stretch: Stretch) -> None:
        """The cuts of a volume with its text and bar."""
        row, column = divmod(number, self.columns)
        x, y = GAP + column * self.cell_size[0], self.top + row * self.cell_size[1]
        width = self.cell_size[0] - GAP
        self.page.above(legend, (x, y), width)
        y += self.above
        for cut, size in zip(cuts, self.sizes, strict=True):
            left = x + (width - size[0]) // 2
            self.page.picture(_drawn(cut, stretch, legend.heat, size), (left, y + MARGIN))
            self._edges(cut, (left, y + MARGIN), size)
            self.page.text((x, y + 2), cut.plane, TEXT, GRAY, width / 2 - 8)
            y += size[1] + 2 * MARGIN
        self.page.below(legend, stretch, 1, (x, y + 8), width)

    def _edges(self, cut: Cut, at: tuple[int, int], size: tuple[int, int]) -> None:
        """The letters of the patient's sides, outside of the cut."""
        (x, y), (across, down) = at, size
        half = MARGIN / 2
        middle, waist = x + across / 2, y + down / 2
        centres = (
            (middle, y - half),
            (middle, y + down + half),
            (x - half, waist),
            (x + across + half, waist),
        )
        for letter, (right, below) in zip(cut.edges, centres, strict=True):
            line = lettering(letter, TEXT, MARGIN)
            self.page.draw.text((right, below), line.text, fill=BLACK, font=line.font, anchor="mm")

    def footer(self, notes: str) -> None:
        """The scale bar with notes to its right, and what has to be known of the picture."""
        room = max(1.0, min(0.5 * max(max(size) for size in self.sizes), 240.0))
        length = round_below(room / self.scale)
        self.page.scale_bar(self.bottom + 4, length * self.scale, f"{length:g} mm", notes)
        below = (GAP, self.bottom + LINE)
        self.page.text(below, f"{CONVENTION} · {WARNING}", TEXT, BLACK, self.page.width - 2 * GAP)


def _reach(cut: Cut) -> tuple[float, float]:
    """Millimetres down and across."""
    return cut.image.shape[0] * cut.spacing[0], cut.image.shape[1] * cut.spacing[1]


def _drawn(cut: Cut, stretch: Stretch, heat: bool, size: tuple[int, int]) -> Image.Image:
    """The cut in colours, as large as it is drawn, with lines through its voxel."""
    pixels = stretch.coloured(_reduced(cut.image, size)[None], heat)
    shown = np.array(Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST))
    ends = zip(cut.cross, cut.image.shape, shown.shape[:2], strict=True)
    row, column = (min(int((place + 0.5) / voxels * reach), reach - 1) for place, voxels, reach in ends)
    lines = np.zeros(shown.shape[:2], bool)
    lines[row], lines[:, column] = True, True
    hole = max(4, round(OPEN * max(size)))
    lines[max(0, row - hole) : row + hole + 1, max(0, column - hole) : column + hole + 1] = False
    seen = lines & (shown[..., 3] > 0)
    shown[seen, :3] = np.rint(shown[seen, :3] * (1 - FAINT) + CROSS * FAINT)
    return Image.fromarray(shown)


def _reduced(image: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """The means of blocks, where the image has many more voxels than pixels are drawn."""
    down, across = (
        max(1, voxels // drawn) for voxels, drawn in zip(image.shape, (size[1], size[0]), strict=True)
    )
    if down == across == 1:
        return image
    starts = np.arange(0, image.shape[0], down), np.arange(0, image.shape[1], across)
    valid = np.isfinite(image)
    sums = [np.add.reduceat(np.add.reduceat(a, starts[0], 0), starts[1], 1) for a in _parts(image, valid)]
    return np.where(sums[1] > 0, sums[0] / np.maximum(sums[1], 1), np.nan)


def _parts(image: NDArray[np.float64], valid: NDArray[np.bool_]) -> tuple[NDArray[np.float64], ...]:
    return np.where(valid, image, 0.0), valid.astype(np.float64)
