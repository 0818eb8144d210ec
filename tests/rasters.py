"""Small GeoTIFFs that tests make themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

UTM32 = "EPSG:32632"
NORTH_UP = Affine(10, 0, 500_000, 0, -10, 5_600_000)


def write_raster(
    path: Path,
    pixels: NDArray[Any],
    *,
    transform: Affine | None = NORTH_UP,
    crs: str | None = UTM32,
    nodata: float | None = None,
    scale: float | None = None,
    offset: float | None = None,
    mask: NDArray[np.bool_] | None = None,
    **options: Any,
) -> Path:
    """Write (y, x) or (band, y, x) pixels as a GeoTIFF and give its path back."""
    bands = pixels[None] if pixels.ndim == 2 else pixels
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=len(bands),
        height=bands.shape[1],
        width=bands.shape[2],
        dtype=bands.dtype,
        nodata=nodata,
        crs=crs,
        transform=transform,
        **options,
    ) as dataset:
        dataset.write(bands)
        if scale is not None:
            dataset.scales = [scale] * len(bands)
        if offset is not None:
            dataset.offsets = [offset] * len(bands)
        if mask is not None:
            dataset.write_mask(mask)
    return path


def photo(shape: tuple[int, int], seed: int = 0, bands: int = 1) -> NDArray[np.float64]:
    """Something like a photograph, 0..1, (band, y, x): blobs of all sizes and some noise."""
    rng = np.random.default_rng(seed)
    image = np.zeros((bands, *shape))
    for scale in (64, 32, 16, 8, 4, 2, 1):
        coarse = rng.standard_normal((bands, shape[0] // scale + 3, shape[1] // scale + 3))
        y = np.linspace(0, coarse.shape[1] - 1.001, shape[0])
        x = np.linspace(0, coarse.shape[2] - 1.001, shape[1])
        fy, fx = (y % 1)[:, None], (x % 1)[None]
        iy, ix = y.astype(int)[:, None], x.astype(int)[None]
        top = coarse[:, iy, ix] * (1 - fx) + coarse[:, iy, ix + 1] * fx
        low = coarse[:, iy + 1, ix] * (1 - fx) + coarse[:, iy + 1, ix + 1] * fx
        image += (top * (1 - fy) + low * fy) * scale**0.7
    image -= image.min()
    return np.asarray(image / image.max())
