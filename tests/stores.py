"""Small stores that tests make themselves, without fusing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasters import photo

from batchfuse.geometry.grid import Grid
from batchfuse.geometry.tiling import Tiling
from batchfuse.storage.store import RasterLayout, Store

UTM32 = str(CRS.from_epsg(32632).to_wkt())
PLACE = Affine(10, 0, 500_000, 0, -10, 5_600_000)


def write_store(
    path: Path,
    pixels: NDArray[Any],
    *,
    fill: float | None = None,
    tile: int = 300,
    affine: Affine = PLACE,
    crs: str | None = UTM32,
    stored_as: str = "reference",
    sealed: bool = True,
    **layout: Any,
) -> Store:
    """Make a store of (band, y, x) pixels; ``fill`` says which are invalid (NaN for floats)."""
    fill = fill if fill is not None else math.nan if pixels.dtype.kind == "f" else 0
    bands = ("red", "green", "blue") if len(pixels) == 3 else ("fused",)
    grid = Grid((pixels.shape[1], pixels.shape[2]), affine, crs)
    made = RasterLayout(grid, bands, pixels.dtype.name, fill, tile, **layout)
    store = Store.create(path, made, {"recipe": {"output": {"units": stored_as}}})
    for one in Tiling(grid.shape, tile, halo=0):
        store.write(one, pixels[(slice(None), *one.core.slices)])
    if sealed:
        store.seal()
    return store


def scenery(
    dtype: str, bands: int = 1, shape: tuple[int, int] = (90, 120), hole: bool = True
) -> NDArray[Any]:
    """Pixels of a type that fill much of its range, invalid (NaN or 0) in a corner if there is a ``hole``."""
    image = photo(shape, bands=bands)
    real = np.dtype(dtype).kind == "f"
    pixels = (image * 900 + 100.25 if real else np.rint(image * 0.9 * np.iinfo(dtype).max + 5)).astype(dtype)
    if hole:
        pixels[:, : shape[0] // 3, : shape[1] // 4] = np.nan if real else 0
    return pixels
