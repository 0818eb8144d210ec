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
from batchfuse.job import Job
from batchfuse.report.mosaic import Mosaic
from batchfuse.report.page import Legend
from batchfuse.report.quicklook import Panel, Ruler, write_quicklook

__all__ = ["draw_quicklook", "fused_legend", "legend_of", "orientation", "shows_heat", "size_of"]

HEAT = re.compile(r"therm|temperat|infrar|heat|(?<![a-z])(ir|lwir|mwir|tir|flir|lst|temp)(?![a-z])")
LIGHT = re.compile(r"near|short|(?<![a-z])(nir|swir)(?![a-z])")  # infrared that the sun gives
UPTAKE = re.compile(r"(?<![a-z])(pet|spect|suv|fdg|tracer|uptake)(?![a-z])")  # of nuclear medicine
DEGREES = ("k", "kelvin", "c", "°c", "degc", "deg_c", "celsius", "degree_celsius", "degrees celsius")


def draw_quicklook(job: Job, scalings: Sequence[Scaling], mosaic: Mosaic, path: Path) -> None:
    """Writes the picture of a scene whose sources and fused image, in this order, ``mosaic`` holds."""
    *sources, fused = mosaic.images()
    panels = [_of_source(*parts) for parts in zip(job.scene.sources, scalings, sources, strict=True)]
    reference = panels[job.scene.reference]
    panels.append(Panel(fused[: len(reference.image)], fused_legend(job, reference.legend)))
    grid = job.scene.grid
    assert isinstance(grid, Grid)
    metres = metres_a_pixel(grid)
    height, width = grid.spacing_yx
    down, across = metres or (height / width, 1.0)
    ruler = Ruler(down * mosaic.step, across * mosaic.step, metres is not None)
    about = size_of(grid) + (f", {crs_name(grid.crs)}" if grid.crs else "")
    write_quicklook(panels, (job.scene.name, about), ruler, orientation(grid), path)


def shows_heat(source: Source) -> bool:
    """Whether a source is a temperature, a thermal image or the uptake of a tracer, by its role or unit."""
    role = source.role.lower()
    named = HEAT.search(role) is not None and LIGHT.search(role) is None
    return named or UPTAKE.search(role) is not None or (source.units or "").lower() in DEGREES


def legend_of(source: Source, scaling: Scaling) -> Legend:
    """What stands around a source: its role, file, size and values."""
    first, *others = (file.path.name for file in source.files)
    unit = source.units or ""
    found = f"{_number(scaling.minimum)} to {_number(scaling.maximum)}"
    if scaling.minimum == scaling.maximum:
        found = f"everywhere {_number(scaling.minimum)}"
    return Legend(
        title=source.role,
        about=(first + (f" + {len(others)} more" if others else ""), size_of(source.place)),
        values=f"values {found} {unit}".rstrip(),
        low=scaling.low,
        high=scaling.high,
        unit=unit,
        heat=shows_heat(source),
    )


def fused_legend(job: Job, reference: Legend) -> Legend:
    """What stands around the fused image: in the reference's values, to be compared with it."""
    legend = replace(
        reference,
        title="fused",
        about=(job.store.name, size_of(job.scene.grid)),
        values="",
        like=job.scene.reference,
    )
    return legend if job.units == "reference" else replace(legend, low=0.0, high=1.0, unit="")


def _of_source(source: Source, scaling: Scaling, image: NDArray[np.float64]) -> Panel:
    image, legend = _of_fewest_bands(image), legend_of(source, scaling)
    return Panel(image, replace(legend, heat=legend.heat and len(image) == 1))


def _of_fewest_bands(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """One band of a gray image that was kept as colour, as cameras and scanners do."""
    return image[:1] if np.array_equal(image, image[[0] * len(image)], equal_nan=True) else image


def size_of(place: Grid | ControlPoints | VolumeGrid) -> str:
    """Pixels and their size, or voxels along (i, j, k) and theirs."""
    if isinstance(place, VolumeGrid):
        counts, sizes = (" x ".join(map(_number, each[::-1])) for each in (place.shape, place.spacing))
        return f"{counts} voxels of {sizes} mm"
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
