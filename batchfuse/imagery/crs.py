"""Coordinate reference systems: their names, their periods, and the operation between two of them."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from batchfuse.errors import GridError

if TYPE_CHECKING:
    from pyproj import CRS

__all__ = ["Operation", "crs_name", "is_nameless", "operation_between", "period_of", "same_plane", "unit_of"]

Area = tuple[float, float, float, float]
"""West, south, east, north in degrees."""

# x of these runs around the Earth, so x and x + period are one place
CYLINDRICAL = ("Mercator", "Equidistant Cylindrical", "Plate Carr", "Cylindrical Equal Area", "Miller")
NOT_CYLINDRICAL = ("Transverse", "Oblique", "Spherical Cross-Track")

NAMELESS = ("", "unknown", "unnamed", "undefined", "none", "local")

_asking = threading.Lock()  # warnings.catch_warnings is not thread-safe


@dataclass(frozen=True)
class Operation:
    """How world coordinates of one CRS become those of another, one choice for the whole scene."""

    pipeline: str
    """PROJ pipeline, x before y whatever the axis order of the CRSs."""
    doubt: str | None
    """A sentence where PROJ knows a better operation than it can use, with metres."""


@lru_cache(maxsize=1024)
def horizontal(wkt: str) -> CRS:
    """The CRS without its heights: pixels have none, and a missing geoid must not stop them."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        crs = CRS.from_user_input(wkt)
    except CRSError as error:
        raise GridError(f"the CRS {wkt[:60]!r} means nothing to PROJ: give another with `crs:`") from error
    if crs.is_compound:
        crs = crs.sub_crs_list[0]
    return crs.to_2d() if len(crs.axis_info) > 2 else crs


@lru_cache(maxsize=1024)
def crs_name(wkt: str | None) -> str:
    """A short name: ``EPSG:32632`` where there is one, else the CRS's own."""
    if wkt is None:
        return "none"
    crs = horizontal(wkt)
    # what the CRS says of itself: to search PROJ's database for a nameless one takes half a second
    identity = crs.to_json_dict().get("id")
    return f"{identity['authority']}:{identity['code']}" if identity else crs.name


@lru_cache(maxsize=1024)
def unit_of(wkt: str | None) -> str:
    """The unit of x and y as it stands in a sentence: m, °, ft."""
    axes = horizontal(wkt).axis_info if wkt else []
    name = axes[0].unit_name if axes else "units"
    return {"metre": "m", "meter": "m", "degree": "°", "foot": "ft", "US survey foot": "ft"}.get(name, name)


@lru_cache(maxsize=1024)
def same_plane(one: str | None, other: str | None) -> bool:
    """Whether two CRSs are one, axis order and names aside."""
    if one == other or one is None or other is None:
        return one == other
    here, there = horizontal(one), horizontal(other)
    if here.is_engineering and here.name != there.name:
        return False  # PROJ calls all local systems one; each is told by its name alone
    return bool(here.equals(there, ignore_axis_order=True))


@lru_cache(maxsize=1024)
def is_nameless(wkt: str | None) -> bool:
    """Whether it is a local system that no name tells from others."""
    return wkt is not None and horizontal(wkt).is_engineering and crs_name(wkt).strip().lower() in NAMELESS


@lru_cache(maxsize=1024)
def period_of(wkt: str | None) -> float | None:
    """After how much of x one is at the same place again (360 for degrees), or None where x never is."""
    if wkt is None:
        return None
    crs = horizontal(wkt)
    if crs.is_geographic:
        return 2 * math.pi / crs.axis_info[0].unit_conversion_factor
    if not crs.is_projected or crs.coordinate_operation is None:
        return None
    method = crs.coordinate_operation.method_name
    if not any(m in method for m in CYLINDRICAL) or any(m in method for m in NOT_CYLINDRICAL):
        return None
    return _cylindrical_period(crs)


def _cylindrical_period(crs: CRS) -> float | None:
    from pyproj import CRS, Transformer

    operation = crs.coordinate_operation
    names = ("Longitude of natural origin", "Longitude of false origin")
    middles = [float(p.value) for p in (operation.params if operation else []) if p.name in names]
    middle = middles[0] if middles else 0.0
    to_plane = Transformer.from_crs(CRS.from_user_input(crs.geodetic_crs), crs, always_xy=True)
    (west, east), _ = to_plane.transform([middle - 90, middle + 90], [0, 0])
    period = 2 * abs(east - west)
    return float(period) if math.isfinite(period) and period > 0 else None


def operation_between(reference: str, source: str, corners: Sequence[tuple[str, Sequence[Any]]]) -> Operation:
    """The one operation that brings points of the reference's CRS into the source's.

    ``corners`` gives for each of the two its CRS and world points (xs, ys): where several operations
    exist, PROJ chooses by area, and the area has to be the scene's, never a window's. Raises GridError
    where PROJ knows no way.
    """
    if horizontal(reference).is_engineering or horizontal(source).is_engineering:
        raise GridError(
            f"nothing tells how the local system of one lies in that of the other ({crs_name(source)} and "
            f"{crs_name(reference)}): correct one with `crs:` in the recipe, or transform it first"
        )
    best, alone = _best_operation(reference, source, None)
    return best if alone else _best_operation(reference, source, _shared_area(corners))[0]


@lru_cache(maxsize=4096)
def _best_operation(reference: str, source: str, area: Area | None) -> tuple[Operation, bool]:
    """PROJ's first choice, and whether it is the only one wherever the scene lies."""
    from pyproj.exceptions import ProjError
    from pyproj.transformer import TransformerGroup

    here, there = horizontal(reference), horizontal(source)
    with _asking, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it warns of is told in ``doubt``
        try:
            group = TransformerGroup(here, there, always_xy=True, area_of_interest=_interest(area))
            first = group.transformers[0]
        except (ProjError, IndexError) as error:
            raise GridError(
                f"PROJ knows no way from {crs_name(reference)} to {crs_name(source)}: "
                "warp one of them with gdalwarp, or correct it with `crs:`"
            ) from error
        alone = group.best_available and len(group.transformers) == 1
        return Operation(first.definition, _doubt(group, reference, source)), alone


def _doubt(group: Any, reference: str, source: str) -> str | None:
    first = group.transformers[0]
    way = f"{crs_name(source)} to {crs_name(reference)}"
    if "Ballpark" in first.description and not _same_ellipsoid(horizontal(reference), horizontal(source)):
        return f"{way}: PROJ knows no datum shift between them, positions may be off by hundreds of metres"
    if group.best_available:
        return None
    better = group.unavailable_operations[0]
    grids = ", ".join(grid.short_name for grid in better.grids if not grid.available)
    return (
        f"{way}: accurate to {_metres(first.accuracy)} only, as the datum grid {grids or '(unnamed)'} is not "
        f"installed (with it {_metres(better.accuracy)}): get it with `pyproj sync --file {grids}`, or set "
        "PROJ_NETWORK=ON"
    )


def _same_ellipsoid(one: CRS, other: CRS) -> bool:
    """To a millimetre, as WGS 84 and GRS 80: then a datum without a name is most likely theirs."""
    if one.ellipsoid is None or other.ellipsoid is None:
        return False
    return all(
        math.isclose(getattr(one.ellipsoid, axis), getattr(other.ellipsoid, axis), rel_tol=1e-9)
        for axis in ("semi_major_metre", "semi_minor_metre")
    )


def _metres(accuracy: float) -> str:
    return "an unknown number of metres" if accuracy < 0 else f"{accuracy:g} m"


def _interest(area: Area | None) -> Any:
    from pyproj.aoi import AreaOfInterest

    return None if area is None else AreaOfInterest(*area)


def _shared_area(corners: Sequence[tuple[str, Sequence[Any]]]) -> Area | None:
    """The area both have, widened to whole degrees so that neighbouring scenes ask the same question."""
    areas = [area for wkt, (xs, ys) in corners if (area := _area_of(wkt, xs, ys)) is not None]
    if not areas:
        return None
    west, south = max(a[0] for a in areas), max(a[1] for a in areas)
    east, north = min(a[2] for a in areas), min(a[3] for a in areas)
    return (west, south, east, north) if west < east and south < north else areas[-1]


def _area_of(wkt: str, xs: Any, ys: Any) -> Area | None:
    """Whole degrees around the points, or None where they run around a pole or the dateline."""
    lons, lats = _to_geographic(wkt).transform(xs, ys)
    if not all(map(math.isfinite, (*lons, *lats))) or max(lons) - min(lons) > 180:
        return None
    return (
        max(-180.0, math.floor(min(lons))),
        max(-90.0, math.floor(min(lats))),
        min(180.0, math.floor(max(lons)) + 1.0),
        min(90.0, math.floor(max(lats)) + 1.0),
    )


@lru_cache(maxsize=256)
def _to_geographic(wkt: str) -> Any:
    from pyproj import CRS, Transformer

    crs = horizontal(wkt)
    return Transformer.from_crs(crs, CRS.from_user_input(crs.geodetic_crs or 4326), always_xy=True)
