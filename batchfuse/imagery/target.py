"""The grid of a scene: the reference's, cut or extended on its own lattice, or one that the recipe tells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from affine import Affine

from batchfuse.errors import DisjointError, GridError
from batchfuse.geometry.grid import ControlPoints, Grid, oversize
from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.geometry.window import Window
from batchfuse.imagery.align import Alignment, align
from batchfuse.imagery.crs import crs_name, operation_between, same_plane, unit_of
from batchfuse.imagery.differences import grid_differences, size_in_words
from batchfuse.imagery.footprints import Footprint, box_of_all, box_of_any, box_of_places, whole_outline
from batchfuse.imagery.overlap import samples
from batchfuse.imagery.reference import reference_grid
from batchfuse.imagery.scene import Source
from batchfuse.imagery.volume_alignment import VolumeAlignment, align_volumes
from batchfuse.imagery.volume_differences import volume_differences
from batchfuse.imagery.volume_target import volume_place, volume_window

__all__ = ["SceneGrid", "Target", "scene_grid"]

APART = 50  # times the sources' own area: a union beyond holds next to nothing
SLIVER = 1e-3  # pixels: a footprint that reaches less far into a row or column does not ask for it

Bounds = tuple[float, float, float, float]
"""Left, bottom, right, top."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a recipe wants of the grid."""

    extent: str = "reference"
    """reference, intersection or union."""
    crs: str | None = None
    """WKT of the target's CRS; the reference's without."""
    resolution: tuple[float, float] | None = None
    """Width and height of a pixel; the reference's without."""
    bounds: Bounds | None = None
    """In x and y of the CRS; from the extent without."""

    @property
    def is_explicit(self) -> bool:
        """Whether the lattice of pixels may be another than the reference's."""
        return self.crs is not None or self.resolution is not None or self.bounds is not None


@dataclass(frozen=True, slots=True)
class SceneGrid:
    """The grid of a scene, and how to speak of it."""

    grid: Grid | VolumeGrid
    """What the fused image has."""
    like: Grid | VolumeGrid
    """What the sources' grids are compared with for people: the reference's whole grid, or the target's."""
    words: str
    """What grid it is: ``like optical``."""
    area: str
    """What a source covers a share of: ``the reference``."""
    on_lattice: bool
    """Whether a source counts as on the grid when it is read without resampling, whatever it covers."""
    warnings: tuple[str, ...] = ()
    """What a person should look at."""

    def aligned(self, source: Source, reference: Source) -> Alignment | VolumeAlignment:
        """Where the grid's pixels lie in a source; GridError where that can't be told, or it is elsewhere."""
        names = reference.name, source.name
        if isinstance(self.grid, VolumeGrid):
            return align_volumes(self.grid, volume_place(source), names)
        return align(self.grid, _place(source), names)

    def differences(self, source: Source, alignment: Alignment | VolumeAlignment) -> list[str]:
        """How a source's grid differs, in sentences for people."""
        if alignment.identical:
            return []
        if isinstance(self.like, VolumeGrid):
            return volume_differences(self.like, volume_place(source), alignment.coverage, self.area)
        return grid_differences(self.like, _place(source), alignment.coverage, self.area)

    def is_mismatch(self, alignment: Alignment | VolumeAlignment) -> bool:
        """Whether ``mismatch: error`` refuses the source."""
        return not (alignment.identical or (self.on_lattice and alignment.shift is not None))


def scene_grid(sources: Sequence[Source], index: int, target: Target) -> SceneGrid:
    """The grid of a scene whose reference is ``sources[index]``: all rasters, or all volumes.

    Of volumes it is the reference's own, cut or extended on its own lattice as the extent asks for.

    Raises GridError where the sources can't share a grid, where they do not touch the target, and where
    the grid would be absurd.
    """
    reference = sources[index]
    if reference.is_volume:
        return _of_volumes(sources, reference, target)
    own, turned = reference_grid(reference)
    for source in sources:  # sources that show different places are no scene, whatever the grid
        align(own, _place(source), (reference.name, source.name))
    lattice = _lattice(own, reference, target) if target.is_explicit else own
    window = _window(lattice, sources, reference, target)
    if target.is_explicit or target.extent == "union":
        rows, columns = window.shape
        _refuse_excess(rows, columns, reference)
    grid = lattice.cropped(window)
    if target.is_explicit:
        for source in sources:
            _refuse_elsewhere(grid, source, target)
    explicit = target.is_explicit
    return SceneGrid(
        grid=grid,
        like=lattice,
        words=_in_words(lattice, reference, target),
        area="the grid" if explicit and target.extent == "reference" else f"the {target.extent}",
        on_lattice=explicit or target.extent != "reference",
        warnings=(turned,) if turned and not explicit else (),
    )


def _of_volumes(sources: Sequence[Source], reference: Source, target: Target) -> SceneGrid:
    own = volume_place(reference)
    for key in ("crs", "resolution", "bounds"):
        if getattr(target, key) is not None:
            raise GridError(
                f"`grid.{key}` is of maps and {reference.name} is a volume: leave it out, volumes are fused "
                "on the grid of the reference (another one with `reference:`)"
            )
    for source in sources:
        align_volumes(own, volume_place(source), (reference.name, source.name))
    ways = {"intersection": ", where all sources are", "union": ", extended to all sources"}
    return SceneGrid(
        grid=own.cropped(volume_window(sources, reference, target.extent)),
        like=own,
        words=f"like {reference.role}" + ways.get(target.extent, ""),
        area=f"the {target.extent}",
        on_lattice=target.extent != "reference",
    )


def _place(source: Source) -> Grid | ControlPoints:
    """Where a raster lies."""
    assert not isinstance(source.place, VolumeGrid)
    return source.place


def _window(lattice: Grid, sources: Sequence[Source], reference: Source, target: Target) -> Window:
    """The pixels of the lattice that the extent asks for."""
    if target.extent == "reference":
        return Window.whole(lattice.shape)
    names = [source.name for source in sources]
    alignments = [align(lattice, _place(source), (reference.name, source.name)) for source in sources]
    if target.extent == "union":
        window = box_of_any(alignments, names)
        parts = sum(math.prod(a.source.shape) / math.prod(a.footprint) for a in alignments)
        if window.size > APART * parts:
            raise GridError(
                f"the union of {' and '.join(names)} has {window.size:.3g} pixels, {window.size / parts:.3g} "
                f"times what they cover (at most {APART}): use `extent: reference`, or give `grid.bounds`"
            )
        return window
    found = box_of_all(alignments, names)
    if found is None:
        raise DisjointError(
            f"{', '.join(names)} have no place that all of them show: pair other files, "
            "or use `extent: reference` or `union`"
        )
    return found


def _lattice(own: Grid, reference: Source, target: Target) -> Grid:
    """The explicit target grid, what is left open filled in from the reference."""
    if target.crs is not None and own.crs is None:
        raise GridError(
            f"{reference.name} has no CRS but `grid.crs` is {crs_name(target.crs)}: "
            "give it one with `crs:` in the recipe or gdal_edit -a_srs"
        )
    crs = target.crs or own.crs
    same = same_plane(crs, own.crs)
    if same and target.resolution is None:
        # on the reference's own lattice, so that it is read without resampling
        own = Grid(own.shape, own.affine, crs)
        return own if target.bounds is None else own.cropped(_around(own, target.bounds, reference))
    footprint = None if same else _carried(reference, crs)
    width, height = target.resolution or (_equivalent_size(footprint),) * 2
    if target.bounds is not None:
        return _fitted(target.bounds, width, height, crs, reference)
    left, bottom, right, top = own.bounds if footprint is None else _world_box(footprint)
    # on whole multiples of the resolution: the grids of neighbours are on one lattice, as with gdalwarp -tap
    first, last = math.floor(left / width + SLIVER), math.ceil(right / width - SLIVER)
    lower, upper = math.floor(bottom / height + SLIVER), math.ceil(top / height - SLIVER)
    columns, rows = max(1, last - first), max(1, upper - lower)
    _refuse_excess(rows, columns, reference)
    return Grid((rows, columns), Affine(width, 0, first * width, 0, -height, upper * height), crs)


def _fitted(bounds: Bounds, width: float, height: float, crs: str | None, reference: Source) -> Grid:
    """The grid with exactly these bounds, whose pixels are as near the size as a whole number of them is."""
    left, bottom, right, top = bounds
    columns, rows = (right - left) / width, (top - bottom) / height
    _refuse_excess(rows, columns, reference)
    shape = max(1, round(rows)), max(1, round(columns))
    affine = Affine((right - left) / shape[1], 0, left, 0, -(top - bottom) / shape[0], top)
    return Grid(shape, affine, crs)


def _around(own: Grid, bounds: Bounds, reference: Source) -> Window:
    """The pixels of the reference's lattice that bounds reach into."""
    left, bottom, right, top = bounds
    corners = [~own.affine @ corner for corner in ((left, top), (right, bottom))]
    columns, rows = (np.array(places) for places in zip(*corners, strict=True))
    _refuse_excess(float(np.ptp(rows)), float(np.ptp(columns)), reference)
    return box_of_places(rows - 0.5, columns - 0.5)


def _carried(reference: Source, crs: str | None) -> Footprint:
    """The reference's place in another CRS: a grid whose pixels are units of its world."""
    place = reference.place
    assert isinstance(place, Grid)
    assert place.crs is not None
    assert crs is not None
    rows, columns = place.shape
    corners = [place.affine @ corner for corner in ((0, 0), (columns, 0), (0, rows), (columns, rows))]
    try:
        operation = operation_between(crs, place.crs, [(place.crs, list(zip(*corners, strict=True)))])
    except GridError as error:
        raise GridError(f"{reference.name} can't be brought into `grid.crs`: {error}") from error
    plane = Grid((1, 1), Affine(1, 0, 0, 0, -1, 0), crs)
    way = Alignment(plane, place, False, (1.0, 1.0), None, 1.0, operation.pipeline, None, None)
    return Footprint(way, reference.name)


def _world_box(footprint: Footprint) -> Bounds:
    """Left, bottom, right, top of a footprint on the grid whose pixels are units of the world."""
    rows, columns = whole_outline(footprint)
    xs, ys = columns + 0.5, -(rows + 0.5)
    return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())


def _equivalent_size(footprint: Footprint | None) -> float:
    """Edge of the square that covers as much of the world as a pixel does, the median; three digits of it."""
    assert footprint is not None
    rows, columns = samples(footprint.alignment.source.shape)
    right, left = footprint.back((rows, columns + 0.5)), footprint.back((rows, columns - 0.5))
    below, above = footprint.back((rows + 0.5, columns)), footprint.back((rows - 0.5, columns))
    with np.errstate(invalid="ignore"):
        area = (right[1] - left[1]) * (below[0] - above[0]) - (below[1] - above[1]) * (right[0] - left[0])
    known = np.abs(area[np.isfinite(area)])
    if not known.size or not np.median(known) > 0:
        raise footprint.refusal(f"it has no place in {crs_name(footprint.alignment.reference.crs)}")
    return float(f"{math.sqrt(np.median(known)):.3g}")


def _refuse_excess(rows: float, columns: float, reference: Source) -> None:
    excess = oversize(columns, rows)
    if excess:
        raise GridError(
            f"the grid for {reference.name}: {excess}: give a coarser `grid.resolution`, or smaller `bounds`"
        )


def _refuse_elsewhere(grid: Grid, source: Source, target: Target) -> None:
    try:
        align(grid, _place(source), ("the target grid", source.name))
    except DisjointError as error:
        told = "bounds" if target.bounds is not None else "crs"
        raise DisjointError(
            f"{str(error).partition('): ')[0]}): correct `grid.{told}`, or leave the scene out"
        ) from None


def _in_words(lattice: Grid, reference: Source, target: Target) -> str:
    words = f"like {reference.role}"
    if target.crs is not None or target.resolution is not None:
        words = f"of {size_in_words(lattice.spacing_yx, unit_of(lattice.crs))}"
        words += f" in {crs_name(lattice.crs)}" if lattice.crs else ""
    elif target.bounds is not None:
        words += ", within bounds"
    ways = {"intersection": ", where all sources are", "union": ", extended to all sources"}
    return words + ways.get(target.extent, "")
