"""Where the pixels of an image lie in the world."""

from __future__ import annotations

import math
from dataclasses import dataclass

from affine import Affine

from batchfuse.geometry.window import Window

__all__ = ["ControlPoints", "Grid", "oversize"]

LONGEST, LARGEST = 10**6, 4 * 10**10  # pixels along an edge, and in all: more is a slip of the pen


@dataclass(frozen=True, slots=True)
class Grid:
    """Shape, affine and coordinate reference system of a raster."""

    shape: tuple[int, int]
    """Rows and columns."""
    affine: Affine
    """(column, row) of pixel corners to world (x, y): (0, 0) is the outer corner of the first pixel."""
    crs: str | None = None
    """Coordinate reference system as WKT, or None where the file has none."""

    def __post_init__(self) -> None:
        if len(self.shape) != 2 or min(self.shape) < 1:
            raise ValueError(f"a grid needs rows and columns, not {self.shape}")
        if self.affine.is_degenerate:
            raise ValueError(f"the affine {tuple(self.affine)[:6]} has no area")

    @property
    def is_axis_aligned(self) -> bool:
        """Whether rows and columns run along the axes of the CRS (no rotation, no shear)."""
        return self.affine.b == 0 and self.affine.d == 0

    @property
    def spacing_yx(self) -> tuple[float, float]:
        """Size of a pixel along rows and along columns, in units of the CRS, both positive."""
        a = self.affine
        return math.hypot(a.b, a.e), math.hypot(a.a, a.d)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top of the box around the grid."""
        rows, columns = self.shape
        corners = [self.affine @ (c, r) for c in (0, columns) for r in (0, rows)]
        xs, ys = zip(*corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    def cropped(self, window: Window) -> Grid:
        """The grid of the pixels of a window of this one's lattice, which may reach beyond this grid."""
        top, left = window.start
        rows, columns = window.shape
        return Grid((rows, columns), self.affine @ Affine.translation(left, top), self.crs)

    def north_up(self) -> Grid:
        """The axis-aligned grid, rows running south, of the same resolution around this one."""
        left, bottom, right, top = self.bounds
        dy, dx = self.spacing_yx
        # the tolerance keeps rounding noise from adding an empty row or column
        rows = max(1, math.ceil((top - bottom) / dy - 1e-6))
        columns = max(1, math.ceil((right - left) / dx - 1e-6))
        return Grid((rows, columns), Affine(dx, 0, left, 0, -dy, top), self.crs)


@dataclass(frozen=True, slots=True)
class ControlPoints:
    """The place of a raster that has ground control points in place of an affine."""

    shape: tuple[int, int]
    """Rows and columns."""
    points: tuple[tuple[float, float, float, float, float], ...]
    """(row, column, x, y, z) of each point, pixel corners counted as in ``Grid.affine``."""
    crs: str | None
    """Coordinate reference system of the points as WKT."""


def oversize(columns: float, rows: float) -> str | None:
    """What is wrong with a grid of so many pixels, where nobody can mean it."""
    if max(columns, rows) <= LONGEST and columns * rows <= LARGEST:
        return None
    return (
        f"{columns:.6g} x {rows:.6g} pixels are too many (at most {LONGEST:,} along an edge and "
        f"{LARGEST:.0e} in all)"
    )
