"""Which source gives the fused image its grid, and, of rasters, that grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from batchfuse.errors import GridError
from batchfuse.geometry.grid import ControlPoints, Grid
from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.imagery.scene import Source

__all__ = ["reference_grid", "reference_of"]

SAME_SIZE = 1.01  # pixels that differ by less count as equally fine


def reference_of(sources: Sequence[Source], role: str | None) -> int:
    """Index of the reference: the role asked for, else the finest grid, of volumes that of least voxels.

    Of equally fine grids a colour source's, else the last. Labels are no values to give the fused image its
    units: a source of labels is the reference only where the recipe says so, or where there is no other.

    Raises GridError where rasters meet volumes, and where no grid can be the reference.
    """
    _refuse_mixture(sources)
    if role is not None:
        return [source.role for source in sources].index(role)
    # what can't be the reference is as coarse as can be
    only_labels = all(source.labels for source in sources)
    sizes = [math.inf if source.labels and not only_labels else _pixel_size(source) for source in sources]
    finest = min(sizes)
    if math.isinf(finest):
        raise GridError(
            f"{sources[0].name} and its partners have only ground control points: warp one with gdalwarp"
        )
    equals = [i for i, size in enumerate(sizes) if size <= finest * SAME_SIZE]
    colour = [i for i in equals if sources[i].is_colour]
    return (colour or equals)[-1]


def _refuse_mixture(sources: Sequence[Source]) -> None:
    volumes = [source.name for source in sources if source.is_volume]
    rasters = [source.name for source in sources if not source.is_volume]
    if volumes and rasters:
        raise GridError(
            f"{volumes[0]} is a volume and {rasters[0]} a raster: a scene is of one kind, save the slice "
            "to fuse as an image, or the image as NIfTI"
        )


def reference_grid(source: Source) -> tuple[Grid, str | None]:
    """The grid of the fused image, and a sentence where it is not the file's own."""
    place = source.place
    assert not isinstance(place, VolumeGrid)
    if isinstance(place, ControlPoints):
        raise GridError(
            f"{source.name} has only ground control points and can't be the reference: "
            "name another with `reference:`, or warp it with gdalwarp"
        )
    if place.is_axis_aligned:
        return place, None
    grid = place.north_up()
    rows, columns = grid.shape
    return grid, (
        f"{source.name} is rotated or sheared: the fused image has the north-up grid around it "
        f"({columns}x{rows} pixels of {grid.spacing_yx[1]:g} x {grid.spacing_yx[0]:g})"
    )


def _pixel_size(source: Source) -> float:
    """Edge of a pixel in metres on the ground (in the grid's own units without a CRS), of a voxel in mm."""
    place = source.place
    if isinstance(place, VolumeGrid):
        return float(abs(np.linalg.det(place.affine[:3, :3])) ** (1 / 3))
    if isinstance(place, ControlPoints):
        return math.inf
    dy, dx = place.spacing_yx
    if place.crs is None:
        return math.sqrt(dy * dx)
    rows, columns = place.shape
    steps = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    points = [place.affine @ (columns / 2 + c, rows / 2 + r) for c, r in steps]
    way = _to_geographic(place.crs)
    if way is None:
        return math.sqrt(dy * dx)
    geographic, geod = way
    lons, lats = geographic.transform(*zip(*points, strict=True))
    along = [geod.inv(lons[0], lats[0], lons[i], lats[i])[2] for i in (1, 2)]
    size = math.sqrt(abs(along[0] * along[1]))
    # a grid outside its own CRS, such as metres called degrees: align.py tells what is wrong with it
    return size if math.isfinite(size) else math.sqrt(dy * dx)


@lru_cache(maxsize=64)
def _to_geographic(crs: str) -> tuple[Any, Any] | None:
    """The way from this CRS to degrees; None where there is none, as for a local one."""
    from pyproj import CRS, Geod, Transformer
    from pyproj.exceptions import ProjError

    try:
        way = Transformer.from_crs(CRS.from_user_input(crs), CRS.from_epsg(4326), always_xy=True)
    except ProjError:
        return None
    return way, Geod(ellps="WGS84")
