"""Where each pixel of the reference grid lies in a source."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from affine import Affine

from batchfuse.errors import DisjointError, GridError
from batchfuse.geometry.grid import ControlPoints, Grid
from batchfuse.geometry.window import Window
from batchfuse.imagery.crs import crs_name, operation_between, same_plane
from batchfuse.imagery.differences import grid_differences
from batchfuse.imagery.lattice import Lattice
from batchfuse.imagery.mapping import FloatArray, Mapping
from batchfuse.imagery.overlap import Overlap, carried, samples

__all__ = ["Alignment", "align"]

IDENTICAL = 1e-6  # pixels: grids that differ by less are one grid
MANY = 1_000_000  # pixels looked at one by one to find the extent of a window with a pole or a horizon

_building = threading.Lock()


@dataclass(frozen=True)
class Alignment:
    """Where each pixel of the reference grid lies in a source: small, and safe to send to other processes.

    Source coordinates are (row, column) of pixel centres: 0.0 is the centre of the first pixel, and n rows
    lie between -0.5 and n - 0.5.
    """

    reference: Grid
    """The grid of the fused image."""
    source: Grid | ControlPoints
    """The place of the source."""
    identical: bool
    """Whether both are one grid, to 1e-6 of a pixel over the whole extent: read without resampling."""
    footprint: tuple[float, float]
    """Source (rows, columns) under one reference pixel; one figure for the whole scene, the median."""
    accuracy: str | None
    """A sentence where PROJ's best operation can't be used, with metres."""
    coverage: float
    """Share of the reference that the source covers, 0..1 (to 1 % where their CRSs differ)."""
    pipeline: str | None
    """The PROJ pipeline from the reference's CRS to the source's, None in one plane."""
    affine: Affine | None
    """From reference (column, row) of corners to the source's, where one affine does it."""
    shift: tuple[int, int] | None
    """(rows, columns) to add, where the pixels of both lie on one lattice: read without resampling."""

    def coordinates(self, window: Window) -> tuple[FloatArray, FloatArray]:
        """Source (rows, columns), each (y, x), of the pixel centres of a window of the reference.

        Bit for bit the same whichever window asks, whole multiples of 2**-20, within 0.001 of the exact way.
        NaN where a pixel has no place in the source's CRS.
        """
        return self._lattice.coordinates(window)

    def source_window(self, window: Window | None = None, margin: int = 0) -> Window | None:
        """The source's pixels under a window of the reference (default: all), or None if there are none.

        ``margin`` more on each side, cut at the source's edge.
        """
        extent = _extent(self._outline(window or Window.whole(self.reference.shape)))
        if extent is None:
            return None
        low, high = extent
        shape = self.source.shape
        reach = np.array(self.footprint) / 2
        # a pixel i reaches from i - 0.5 to i + 0.5; the small number keeps noise from adding a row
        first = np.clip(np.floor(low - reach + 0.5 + IDENTICAL) - margin, -1, shape)
        last = np.clip(np.ceil(high + reach + 0.5 - IDENTICAL) + margin, 0, np.add(shape, 1))
        found = Window(tuple(int(n) for n in first), tuple(int(n) for n in last))
        return found.intersection(Window.whole(shape))

    def differences(self) -> list[str]:
        """How the source's grid differs from the reference, in sentences for people; none where identical."""
        return [] if self.identical else grid_differences(self.reference, self.source, self.coverage)

    @property
    def _lattice(self) -> Lattice:
        with _building:  # one thread builds it, the others wait for it
            return _lattice(self.reference, self.source, self.pipeline, self.affine)

    def _outline(self, window: Window) -> list[tuple[FloatArray, FloatArray]]:
        """Coordinates whose extent is that of the window: its edge, and what is transformed pixel by pixel.

        Where the coordinates are smooth their extremes lie on the edge.
        """
        (top, left), (bottom, right) = window.start, window.stop
        if self.affine is not None:
            ys, xs = np.array([top, bottom - 1.0] * 2), np.array([left] * 2 + [right - 1.0] * 2)
            return [carried(self.affine)(ys, xs)]
        lattice = self._lattice
        edges = [
            Window((top, left), (top + 1, right)),
            Window((bottom - 1, left), (bottom, right)),
            Window((top, left), (bottom, left + 1)),
            Window((top, right - 1), (bottom, right)),
        ]
        exact = lattice.exact_cells(window)
        return [lattice.coordinates(edge) for edge in edges] + _thinned(lattice, exact)


def align(
    reference: Grid, source: Grid | ControlPoints, names: tuple[str, str] = ("the reference", "the source")
) -> Alignment:
    """Where the pixels of ``reference`` lie in ``source``; ``names`` are the files' in the line of an error.

    Raises GridError where only one of them has a CRS, where without CRS they are told by neither size nor
    affine, where PROJ knows no way, and where they don't overlap. Takes a millisecond; the rest comes later.
    """
    return _aligned(reference, source, names)


@lru_cache(maxsize=4096)
def _aligned(reference: Grid, source: Grid | ControlPoints, names: tuple[str, str]) -> Alignment:
    if _pixel_on_pixel(reference, source, names):
        return Alignment(reference, source, True, (1.0, 1.0), None, 1.0, None, Affine.identity(), (0, 0))
    pipeline, doubt = _operation(reference, source, names)
    mapping = Mapping(reference, source, pipeline)
    affine = mapping.straight() or _straightened(mapping)
    if affine is not None:
        mapping = Mapping(reference, source, None)
    found = Overlap.of(mapping, affine)
    if found is None:
        raise DisjointError(_disjoint(reference, source, names))
    shift = None if affine is None else _whole_shift(affine, reference)
    identical = reference.shape == source.shape and shift == (0, 0)
    # an operation that moves nothing leaves nothing to doubt
    accuracy = None if shift is not None else doubt
    kept = None if affine is not None else pipeline
    return Alignment(
        reference, source, identical, found.footprint, accuracy, found.coverage, kept, affine, shift
    )


@lru_cache(maxsize=256)
def _lattice(
    reference: Grid, source: Grid | ControlPoints, pipeline: str | None, affine: Affine | None
) -> Lattice:
    mapping = Mapping(reference, source, pipeline)
    return Lattice.of(mapping) if affine is None else Lattice.straight(mapping, affine)


def _pixel_on_pixel(reference: Grid, source: Grid | ControlPoints, names: tuple[str, str]) -> bool:
    """Whether two without any georeference have one size; GridError where nothing tells how they lie."""
    if (reference.crs is None) != (source.crs is None):
        lacking = names[0] if reference.crs is None else names[1]
        having, crs = (names[1], source.crs) if reference.crs is None else (names[0], reference.crs)
        raise GridError(
            f"{lacking} has no CRS but {having} is in {crs_name(crs)}: "
            "give it one with `crs:` in the recipe or gdal_edit -a_srs"
        )
    placed = [
        isinstance(g, ControlPoints) or not g.affine.almost_equals(Affine.identity())
        for g in (reference, source)
    ]
    if reference.crs is not None or all(placed):
        return False
    if reference.shape == source.shape:
        return True
    sizes = [f"{grid.shape[1]}x{grid.shape[0]}" for grid in (reference, source)]
    raise GridError(
        f"{names[1]} is {sizes[1]} pixels and {names[0]} {sizes[0]}, and nothing tells how they lie: "
        "give both a CRS and an affine (gdal_edit -a_srs -a_ullr), or bring them to one size"
    )


def _operation(
    reference: Grid, source: Grid | ControlPoints, names: tuple[str, str]
) -> tuple[str | None, str | None]:
    """The PROJ pipeline between the two and what is doubtful about it."""
    if reference.crs is None or source.crs is None:
        return None, None
    try:
        if same_plane(reference.crs, source.crs):
            return None, None
        corners = [(grid.crs, _corners(grid)) for grid in (reference, source) if grid.crs is not None]
        operation = operation_between(reference.crs, source.crs, corners)
    except GridError as error:
        raise GridError(f"{names[1]} can't be brought onto the grid of {names[0]}: {error}") from error
    return operation.pipeline, operation.doubt


def _corners(grid: Grid | ControlPoints) -> tuple[list[float], list[float]]:
    """World xs and ys of the corners and the middle."""
    if isinstance(grid, ControlPoints):
        return [p[2] for p in grid.points], [p[3] for p in grid.points]
    height, width = grid.shape
    places = [(0, 0), (width, 0), (0, height), (width, height), (width / 2, height / 2)]
    xs, ys = zip(*(grid.affine @ place for place in places), strict=True)
    return list(xs), list(ys)


def _straightened(mapping: Mapping) -> Affine | None:
    """The affine of a mapping between CRSs that differ in name only: they map every point to itself."""
    plain = Mapping(mapping.reference, mapping.source, None).straight()
    if plain is None or mapping.pipeline is None:
        return None
    rows, columns = samples(mapping.reference.shape)
    for few in (slice(None, None, 200), slice(None)):  # nearly always the first few tell
        found, expected = mapping(rows[few], columns[few]), carried(plain)(rows[few], columns[few])
        off = np.maximum(abs(found[0] - expected[0]), abs(found[1] - expected[1]))
        if not (off < IDENTICAL).all():  # NaN is not below
            return None
    return plain


def _whole_shift(affine: Affine, grid: Grid) -> tuple[int, int] | None:
    """By how many (rows, columns) an affine moves the pixels of a grid, None where it does anything else."""
    height, width = grid.shape
    down, across = round(affine.f), round(affine.c)
    corners = [(c, r) for c in (0, width) for r in (0, height)]
    whole = all(math.dist(affine @ (c, r), (c + across, r + down)) < IDENTICAL for c, r in corners)
    return (down, across) if whole else None


def _disjoint(reference: Grid, source: Grid | ControlPoints, names: tuple[str, str]) -> str:
    places = []
    for grid in (source, reference):
        xs, ys = _corners(grid)
        crs = f" in {crs_name(grid.crs)}" if grid.crs else ""
        places.append(f"x {min(xs):.10g} to {max(xs):.10g}, y {min(ys):.10g} to {max(ys):.10g}{crs}")
    return (
        f"{names[1]} ({places[0]}) does not overlap {names[0]} ({places[1]}): "
        "pair other files, or correct a wrong CRS with `crs:`"
    )


def _extent(points: list[tuple[FloatArray, FloatArray]]) -> tuple[FloatArray, FloatArray] | None:
    """Lowest and highest (row, column) of points, or None where none has a place."""
    rows, columns = (np.concatenate([p[axis].ravel() for p in points]) for axis in (0, 1))
    finite = np.isfinite(rows) & np.isfinite(columns)
    if not finite.any():
        return None
    places = np.stack([rows[finite], columns[finite]])
    return places.min(axis=1), places.max(axis=1)


def _thinned(lattice: Lattice, cells: list[Window]) -> list[tuple[FloatArray, FloatArray]]:
    """Coordinates of the pixels of cells that can't be interpolated, every k-th where they are many."""
    pixels = sum(cell.size for cell in cells)
    step = max(1, math.isqrt(pixels // MANY))
    found = []
    for cell in cells:
        rows = np.unique(np.append(np.arange(cell.start[0], cell.stop[0], step), cell.stop[0] - 1))
        columns = np.unique(np.append(np.arange(cell.start[1], cell.stop[1], step), cell.stop[1] - 1))
        found.append(lattice.mapping(*np.meshgrid(rows.astype(float), columns.astype(float), indexing="ij")))
    return found
