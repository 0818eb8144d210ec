"""A scene's quicklook: what stands beside each of its images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from batchfuse.geometry.grid import ControlPoints, Grid
from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.imagery.crs import crs_name, unit_of
from batchfuse.imagery.ground import metres_a_pixel
from batchfuse.imagery.scaling import Scaling
from batchfuse.imagery.scene import Source
from batchfuse.plan import Job
from batchfuse.report.mosaic import Mosaic
from batchfuse.report.quicklook import Panel, Ruler, write_quicklook

__all__ = ["draw_quicklook", "orientation", "shows_heat"]

HEAT = re.compile(r"therm|temperat|infrar|heat|(?<![a-z])(ir|lwir|mwir|tir|flir|lst|temp)(?![a-z])")
LIGHT = re.compile(r"near|short|(?<![a-z])(nir|swir)(?![a-z])")  # infrared that the sun gives
DEGREES = ("k", "kelvin", "c", "°c", "degc", "deg_c", "celsius", "degree_celsius", "degrees celsius")


def draw_quicklook(job: Job, scalings: Sequence[Scaling], mosaic: Mosaic, path: Path) -> None:
    """Writes the picture of a scene whose sources and fused image, in this order, ``mosaic`` holds."""
    *sources, fused = mosaic.images()
    panels = [_of_source(*parts) for parts in zip(job.scene.sources, scalings, sources, strict=True)]
    panels.append(_of_fused(job, panels[job.scene.reference], fused))
    grid = job.scene.grid
    assert isinstance(grid, Grid)
    metres = metres_a_pixel(grid)
    height, width = grid.spacing_yx
    down, across = metres or (height / width, 1.0)
    ruler = Ruler(down * mosaic.step, across * mosaic.step, metres is not None)
    about = _size(grid) + (f", {crs_name(grid.crs)}" if grid.crs else "")
    write_quicklook(panels, (job.scene.name, about), ruler, orientation(grid), path)


def shows_heat(source: Source) -> bool:
    """Whether a source is a temperature or a thermal image, by its role or its unit."""
    role = source.role.lower()
    named = HEAT.search(role) is not None and LIGHT.search(role) is None
    return named or (source.units or "").lower() in DEGREES


def _of_source(source: Source, scaling: Scaling, image: NDArray[np.float64]) -> Panel:
    assert not isinstance(source.place, VolumeGrid)
    image = _of_fewest_bands(image)
    first, *others = (file.path.name for file in source.files)
    unit = source.units or ""
    found = f"{_number(scaling.minimum)} to {_number(scaling.maximum)}"
    if scaling.minimum == scaling.maximum:
        found = f"everywhere {_number(scaling.minimum)}"
    return Panel(
        image=image,
        title=source.role,
        about=(first + (f" + {len(others)} more" if others else ""), _size(source.place)),
        values=f"values {found} {unit}".rstrip(),
        low=scaling.low,
        high=scaling.high,
        unit=unit,
        heat=len(image) == 1 and shows_heat(source),
    )


def _of_fused(job: Job, reference: Panel, image: NDArray[np.float64]) -> Panel:
    """In the reference's values, to be compared with it."""
    assert isinstance(job.scene.grid, Grid)
    panel = replace(
        reference,
        image=image[: len(reference.image)],
        title="fused",
        about=(job.store.name, _size(job.scene.grid)),
        values="",
        like=job.scene.reference,
    )
    return panel if job.units == "reference" else replace(panel, low=0.0, high=1.0, unit="")


def _of_fewest_bands(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """One band of a gray image that was kept as colour, as cameras and scanners do."""
    return image[:1] if np.array_equal(image, image[[0] * len(image)], equal_nan=True) else image


def _size(place: Grid | ControlPoints) -> str:
    rows, columns = place.shape
    size = f"{columns} x {rows} pixels"
    if not isinstance(place, Grid) or place.crs is None:
        return size
    down, across = (f"{spacing:.4g}" for spacing in place.spacing_yx)
    spacing = across if across == down else f"{across} x {down}"
    return f"{size} of {spacing} {unit_of(place.crs)}".replace(" °", "°")


def orientation(grid: Grid) -> str:
    """Where north is, if it is not up."""
    turned = ["south is up"] * (grid.affine.e > 0) + ["west is right"] * (grid.affine.a < 0)
    return ", ".join(turned) if grid.crs else ""


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e4 or abs(value) >= 1e7 else f"{value:.0f}"
