"""Pixels of a source, window by window: its file values, and which of them are valid."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchfuse.geometry.window import Window
from batchfuse.imagery.masks import accepted
from batchfuse.imagery.raster_files import read_band
from batchfuse.imagery.scene import Source, can_hold
from batchfuse.imagery.volume_files import read_volume

__all__ = ["read_pixels"]


def read_pixels(source: Source, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """File values (bands, y, x) and validity (y, x) of a window of the source's own pixels.

    Of a volume (1, z, y, x) and (z, y, x).

    A palette is expanded to its colours (uint8), to one band if they are all gray.

    Raises:
        SourceError: the pixels can't be read.
    """
    values: list[NDArray[Any]] = []
    read = read_volume if source.is_volume else read_band
    for band in source.bands[:1] if source.palette else source.bands:
        values.append(read(source.files[band.file], band.number, window))
    pixels = np.stack(values)
    valid = _valid(source, pixels)
    for file, band_number in source.masks:
        valid &= read_band(source.files[file], band_number, window, mask=True) > 0
    for file, band_number in source.alphas:
        valid &= read_band(source.files[file], band_number, window) > 0
    if source.quality is not None:
        valid &= accepted(source.quality, window)
    if source.palette:
        colours = np.zeros((max(256, len(source.palette)), 4), np.uint8)
        colours[: len(source.palette)] = source.palette
        expanded = colours[pixels[0]]
        valid &= expanded[..., 3] > 0
        pixels = np.moveaxis(expanded[..., : len(source.bands)], -1, 0)
    return pixels, valid


def _valid(source: Source, pixels: NDArray[Any]) -> NDArray[np.bool_]:
    """Where the file values themselves say valid.

    A colour pixel is invalid where any of its bands is, except in 8-bit images whose nodata is an
    ordinary ink (black is 0, 0, 0): there all three have to say so, as GDAL's own mask has it.
    """
    told = np.stack(
        [_is_nodata(values, band.nodata) for values, band in zip(pixels, source.bands, strict=False)]
    )
    invalid = told.all(0) if pixels.dtype == np.uint8 else told.any(0)
    if pixels.dtype.kind == "f":
        invalid |= ~np.isfinite(pixels).all(0)
    return np.asarray(~invalid)


def _is_nodata(values: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    if nodata is None or not math.isfinite(nodata):
        return np.zeros(values.shape, bool)  # NaN and infinity are invalid anyway
    if values.dtype.kind != "f":
        if not can_hold(values.dtype.name, nodata):
            return np.zeros(values.shape, bool)
        return np.asarray(values == values.dtype.type(nodata))
    # the tag is decimal text: it names the pixel's float only to about seven digits
    tolerance = abs(nodata) * (1e-6 if values.dtype == np.float32 else 1e-12)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(np.abs(values.astype(np.float64) - nodata) <= tolerance)
