"""How a source's grid differs from the reference's, in sentences for people."""

from __future__ import annotations

import math

import numpy as np

from batchfuse.geometry.grid import ControlPoints, Grid
from batchfuse.imagery.crs import crs_name, period_of, same_plane, unit_of

__all__ = ["grid_differences", "size_in_words"]

NOISE = 1e-6  # pixels: shifts below it are none


def grid_differences(
    reference: Grid, source: Grid | ControlPoints, coverage: float, area: str = "the reference"
) -> list[str]:
    """One sentence for each way in which they differ; ``coverage`` is the share of ``area`` covered."""
    told = []
    if not same_plane(reference.crs, source.crs):
        told.append(f"CRS {crs_name(source.crs)} instead of {crs_name(reference.crs)}")
    if isinstance(source, ControlPoints):
        told.append(f"placed by {len(source.points)} ground control points")
    else:
        told += _pixel_differences(reference, source) + _direction_differences(reference, source)
        if source.is_axis_aligned and same_plane(reference.crs, source.crs):
            told += _shift(reference, source)
    if coverage < 1 - 1e-9:
        percent = math.floor(100 * coverage + 1e-6)  # cut, not rounded: 99.9 % is not all of it
        told.append(f"covers {percent or 'less than 1'} % of {area}")
    return told


def _pixel_differences(reference: Grid, source: Grid) -> list[str]:
    units = unit_of(reference.crs), unit_of(source.crs)
    sizes = reference.spacing_yx, source.spacing_yx
    if units[0] == units[1] and np.allclose(*sizes, rtol=1e-9, atol=0):
        return []
    return [f"{size_in_words(sizes[1], units[1])} pixels instead of {size_in_words(sizes[0], units[0])}"]


def size_in_words(spacing: tuple[float, float], unit: str) -> str:
    """A pixel's size, given along rows and along columns, with its unit."""
    dy, dx = spacing
    number = f"{dx:.6g}" if math.isclose(dx, dy, rel_tol=1e-6) else f"{dx:.6g} x {dy:.6g}"
    return f"{number}{'' if unit == '°' else ' '}{unit}"


def _direction_differences(reference: Grid, source: Grid) -> list[str]:
    if not source.is_axis_aligned:
        angle = math.degrees(math.atan2(source.affine.d, source.affine.a))
        return [f"rotated or sheared (its rows run {angle:.4g}° from the x axis)"]
    told = []
    if source.affine.e * reference.affine.e < 0:
        told.append(f"its first row is the {'southern' if source.affine.e > 0 else 'northern'} one")
    if source.affine.a * reference.affine.a < 0:
        told.append(f"its first column is the {'eastern' if source.affine.a < 0 else 'western'} one")
    return told


def _shift(reference: Grid, source: Grid) -> list[str]:
    """How far the source's upper left corner is from the reference's, in world units and reference pixels."""
    east, north = source.bounds[0] - reference.bounds[0], source.bounds[3] - reference.bounds[3]
    period = period_of(source.crs)
    if period is not None:
        east -= period * round(east / period)
    dy, dx = reference.spacing_yx
    unit = unit_of(source.crs)
    ways = [
        (abs(length), abs(length) / spacing, there if length > 0 else back)
        for length, spacing, there, back in ((east, dx, "east", "west"), (north, dy, "north", "south"))
        if abs(length) / spacing >= NOISE
    ]
    if not ways:
        return []
    lengths = " and ".join(f"{length:.6g}{'' if unit == '°' else ' '}{unit} {way}" for length, _, way in ways)
    return [f"shifted by {lengths} ({' and '.join(f'{pixels:.4g}' for _, pixels, _ in ways)} pixels)"]
