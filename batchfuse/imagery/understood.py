"""What was understood from a source: all that its header decides of the pixels of a fused image.

A store's record has it. The same bytes, read otherwise (by another library, with other datum grids, beside
another .aux.xml), would be other pixels.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

from batchfuse.geometry.grid import ControlPoints, Grid
from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.imagery.align import Alignment
from batchfuse.imagery.crs import crs_name
from batchfuse.imagery.scene import QualityMask, Source
from batchfuse.imagery.volume_alignment import VolumeAlignment

__all__ = ["place_of", "understood"]

DIGITS = 9
"""Of a volume's affine: the last ones of a quaternion depend on the processor."""


def understood(source: Source, alignment: Alignment | VolumeAlignment) -> dict[str, Any]:
    """What a store remembers of a source's header and of its way onto the grid, as JSON can hold it."""
    bands = source.bands
    return {
        **place_of(source.place),
        "dtype": source.dtype,
        "bits": source.bits,
        "bands": [[band.file, band.number] for band in bands],
        "nodata": _together([band.nodata for band in bands]),
        "scale": _together([band.scale for band in bands]),
        "offset": _together([band.offset for band in bands]),
        "units": source.units,
        "masks": [list(one) for one in source.masks],
        "alphas": [list(one) for one in source.alphas],
        "palette": _digest(source.palette) if source.palette else None,
        "quality": _quality(source.quality),
        "warp": _warp(alignment),
    }


def place_of(place: Grid | ControlPoints | VolumeGrid) -> dict[str, Any]:
    """Size, affine or points, and CRS."""
    shape = list(place.shape)
    if isinstance(place, VolumeGrid):
        rows = [[float(f"{n:.{DIGITS}g}") for n in row] for row in place.affine.tolist()]
        return {"shape": shape, "affine": rows}
    crs = _crs(place.crs)
    if isinstance(place, ControlPoints):
        points = f"{len(place.points)} ({_digest(place.points)})"
        return {"shape": shape, "points": points, "crs": crs}
    return {"shape": shape, "affine": list(place.affine)[:6], "crs": crs}


def _crs(wkt: str | None) -> str | None:
    """Its code; without one its name, and what tells it from others of that name."""
    if wkt is None:
        return None
    name = crs_name(wkt)
    return name if ":" in name else f"{name} ({_digest(wkt)})"


def _quality(mask: QualityMask | None) -> dict[str, Any] | None:
    return None if mask is None else {"masked": mask.masked, "nodata": _number(mask.nodata)}


def _warp(alignment: Alignment | VolumeAlignment) -> dict[str, Any] | None:
    """The operation between two CRSs, or the affine where that does it; of volumes both affines say it."""
    if isinstance(alignment, VolumeAlignment):
        return None
    affine = None if alignment.affine is None else list(alignment.affine)[:6]
    return {"pipeline": alignment.pipeline, "affine": affine}


def _together(values: Sequence[float | None]) -> Any:
    """The value of all bands, or a list where they differ."""
    numbers = [_number(value) for value in values]
    return numbers[0] if all(number == numbers[0] for number in numbers) else numbers


def _number(value: float | None) -> float | str | None:
    """A number as every reader of JSON knows it."""
    return value if value is None or math.isfinite(value) else str(value)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]
