"""Quality masks: rasters of whole numbers beside a source that say which of its pixels are valid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import MaskFlags

from batchfuse.errors import SourceError
from batchfuse.geometry.window import Window
from batchfuse.imagery.header import Header
from batchfuse.imagery.raster_files import read_band
from batchfuse.imagery.scene import MaskRule, QualityMask, can_hold

__all__ = ["accepted", "open_mask"]


def open_mask(source: Header, path: Path, rule: MaskRule, crs: str | None = None) -> QualityMask:
    """The mask of a source's files, whose grid it has to share, in their CRS or the recipe's for them.

    Raises:
        SourceError: it can't be opened, is no single band of whole numbers, lies on another grid, or can
            have none of the values or bits that the rule names.
    """
    header = Header(path)
    bands = header.visible_bands()
    if len(bands) != 1 or bands[0] != 1:
        raise SourceError(f"the mask {path} has {header.count} bands: a mask is a file of one")
    if "int" not in header.dtypes[0] or "complex" in header.dtypes[0]:
        raise SourceError(f"the mask {path} has {header.dtypes[0]} pixels: a mask holds whole numbers")
    dtype = np.dtype(header.dtypes[0])
    if not source.shares_grid(header, crs):
        raise SourceError(
            f"the mask {path} {_place(header)} is not on the grid of {source.path} {_place(source)}: "
            "bring it there first (gdalwarp -r near with -te and -ts of the image)"
        )
    for fault in _impossible(rule, dtype):
        raise SourceError(f"the mask {path} has {dtype} pixels: {fault}")
    return QualityMask(header.file, rule, header.flags[0] != [MaskFlags.all_valid], header.nodatas[0])


def accepted(mask: QualityMask, window: Window) -> NDArray[np.bool_]:
    """Where a window of the mask says valid, (y, x); SourceError where it can't be read."""
    values = read_band(mask.file, 1, window)
    rule = mask.rule
    valid = np.ones(values.shape, bool)
    if rule.reject_bits:
        bits: Any = values.view(f"u{values.dtype.itemsize}")
        valid &= (bits & bits.dtype.type(sum(1 << bit for bit in rule.reject_bits))) == 0
    if rule.reject_values:
        valid &= ~np.isin(values, rule.reject_values)
    if rule.accept_values:
        valid &= np.isin(values, rule.accept_values)
    if mask.masked:
        valid &= read_band(mask.file, 1, window, mask=True) > 0
    return valid


def _impossible(rule: MaskRule, dtype: np.dtype[Any]) -> Iterator[str]:
    """What the rule asks for and no pixel can have: a mistake, not a rule."""
    bits = 8 * dtype.itemsize
    for bit in rule.reject_bits:
        if bit >= bits:
            yield f"`reject_bits` names bit {bit} of {bits}, counted from 0"
    for key, values in (("reject_values", rule.reject_values), ("accept_values", rule.accept_values)):
        for value in values:
            if not can_hold(dtype.name, value):
                yield f"`{key}` names {value}, which none can have"


def _place(header: Header) -> str:
    rows, columns = header.shape
    crs = header.crs.to_string() if header.crs else "no CRS"
    corner = f"{header.transform.c:.10g}, {header.transform.f:.10g}"
    size = f"{header.transform.a:.6g} x {header.transform.e:.6g}"
    return f"({columns}x{rows} pixels of {size} from {corner}, {crs if len(crs) < 40 else 'its own CRS'})"
