"""How far pixels reach on the ground, in metres."""

from __future__ import annotations

import math

from batchfuse.geometry.grid import Grid
from batchfuse.imagery.crs import horizontal

__all__ = ["metres_a_pixel"]


def metres_a_pixel(grid: Grid) -> tuple[float, float] | None:
    """Metres on the ground that the grid's middle pixel spans, (down, across); None without a CRS.

    Measured on the ellipsoid, so it is right for degrees, feet and Mercator. Where the middle lies
    nowhere on the Earth, or the CRS is not tied to it, the CRS's own unit has to do.
    """
    if grid.crs is None:
        return None
    row, column = grid.shape[0] / 2, grid.shape[1] / 2
    ends = [(column, row - 0.5), (column, row + 0.5), (column - 0.5, row), (column + 0.5, row)]
    measured = _distances(grid.crs, [grid.affine @ end for end in ends])
    if measured is not None:
        return measured
    axes = horizontal(grid.crs).axis_info
    factor = axes[0].unit_conversion_factor if axes else 1.0
    down, across = grid.spacing_yx
    return down * factor, across * factor


def _distances(wkt: str, ends: list[tuple[float, float]]) -> tuple[float, float] | None:
    """From the first point to the second and from the third to the fourth along the ellipsoid."""
    from pyproj import CRS, Transformer
    from pyproj.exceptions import ProjError

    crs = horizontal(wkt)
    if crs.geodetic_crs is None or (geod := crs.get_geod()) is None:
        return None
    globe = CRS.from_user_input(crs.geodetic_crs)
    degrees = math.degrees(globe.axis_info[0].unit_conversion_factor)
    try:
        to_globe = Transformer.from_crs(crs, globe, always_xy=True)
        xs, ys = zip(*ends, strict=True)
        lons, lats = ([degrees * angle for angle in angles] for angles in to_globe.transform(xs, ys))
        _, _, metres = geod.inv(lons[::2], lats[::2], lons[1::2], lats[1::2])
    except ProjError:
        return None
    down, across = map(float, metres)
    return (down, across) if all(map(math.isfinite, (down, across))) and down and across else None
