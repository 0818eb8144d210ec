"""Makes the quickstart scene: one landscape, seen by an optical and by a thermal sensor.

    python recipes/quickstart/make_scene.py [OUTPUT_FOLDER]

writes two GeoTIFFs, by default into recipes/quickstart/scenes/:

valley_optical.tif
    Red, green, blue at 10 m in UTM zone 32N. Digital number = reflectance x 10000 (scale 0.0001).
valley_thermal.tif
    Brightness temperature at 30 m in UTM zone 33N, whose grid stands 4.4 degrees askew to the other's.
    Kelvin = digital number x 0.00341802 + 149, as Landsat's collection 2 has it.

Both are uint16 with nodata 0 beyond the edge of their swath. The landscape (landscape.py) is made in
samples of 5 m; a pixel is their mean over its footprint, slightly blurred as by a lens, plus sensor
noise. There is no random generator in it: a second run gives the same pixels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from extent import CRS, MARGIN, SEED, SIZE, SPACING, WEST_NORTH
from landscape import Landscape, made_landscape
from noise import Floats, bell, sampled
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.enums import ColorInterp

__all__ = ["main", "optical_image", "thermal_image"]

NODATA = 0
OPTICAL_PIXEL, THERMAL_PIXEL = 10.0, 30.0
THERMAL_CRS = "EPSG:32633"
OPTICAL_SCALE, OPTICAL_NOISE = 1e-4, 0.0009
"""Reflectance of a digital number, and the sensor's noise in reflectance."""
KELVIN_SCALE, KELVIN_OFFSET, KELVIN_NOISE = 0.00341802, 149.0, 0.08
STEP = 4
"""Optical digital numbers are multiples of this: half the bytes, and well below the noise."""

Image = NDArray[np.uint16]


def main() -> None:
    """Make the landscape, look at it twice, write the two files."""
    parser = argparse.ArgumentParser(
        description="Make the optical and the thermal image of the quickstart scene."
    )
    parser.add_argument("output_folder", nargs="?", type=Path, default=Path(__file__).parent / "scenes")
    folder: Path = parser.parse_args().output_folder
    folder.mkdir(parents=True, exist_ok=True)
    landscape = made_landscape()
    write_optical(folder / "valley_optical.tif", *optical_image(landscape))
    write_thermal(folder / "valley_thermal.tif", *thermal_image(landscape))


def optical_image(landscape: Landscape) -> tuple[Image, Affine]:
    """Digital numbers (3, y, x) of the optical sensor, and the affine of their grid."""
    per_pixel, margin = round(OPTICAL_PIXEL / SPACING), round(MARGIN / SPACING)
    inner = (slice(margin, -margin),) * 2
    bands = np.stack([blurred(band, 1)[inner] for band in landscape.reflectance])
    count = round(SIZE / OPTICAL_PIXEL)
    seen = bands.reshape(3, count, per_pixel, count, per_pixel).mean(axis=(2, 4))
    seen += OPTICAL_NOISE * bell(SEED + 90, seen.shape)
    numbers = np.rint(seen / OPTICAL_SCALE / STEP) * STEP
    rows, columns = np.mgrid[:count, :count]
    # the swath ends in the east, along a line that leans as a polar orbit does
    swath = columns + 0.21 * rows < count + 55
    affine = Affine(OPTICAL_PIXEL, 0, WEST_NORTH[0], 0, -OPTICAL_PIXEL, WEST_NORTH[1])
    return with_nodata(numbers, swath), affine


def thermal_image(landscape: Landscape) -> tuple[Image, Affine]:
    """Digital numbers (y, x) of the thermal sensor, and the affine of its grid."""
    affine, shape = thermal_grid()
    per_pixel = 5
    rows, columns = (((np.arange(n * per_pixel) + 0.5) / per_pixel) for n in shape)
    east = affine.c + affine.a * columns[None, :] + 0 * rows[:, None]
    north = affine.f + affine.e * rows[:, None] + 0 * columns[None, :]
    x, y = Transformer.from_crs(THERMAL_CRS, CRS, always_xy=True).transform(east, north)
    # the landscape's first sample lies half a sample inside its north-west corner
    column = (x - WEST_NORTH[0] + MARGIN) / SPACING - 0.5
    row = (WEST_NORTH[1] + MARGIN - y) / SPACING - 0.5
    fine = sampled(blurred(landscape.kelvin, 4), row, column)
    seen = fine.reshape(shape[0], per_pixel, shape[1], per_pixel).mean(axis=(1, 3))
    seen += KELVIN_NOISE * bell(SEED + 95, shape)
    numbers = np.rint((seen - KELVIN_OFFSET) / KELVIN_SCALE)
    row_numbers, column_numbers = np.mgrid[: shape[0], : shape[1]]
    # another orbit, another edge: this swath lacks the north-west corner
    return with_nodata(numbers, column_numbers + 0.45 * row_numbers > 38), affine


def thermal_grid() -> tuple[Affine, tuple[int, int]]:
    """A north-up grid of whole 30 m that holds the optical image."""
    edge = np.linspace(0, SIZE, 33)
    left, top = WEST_NORTH
    x = np.concatenate([left + edge, left + edge, 0 * edge + left, 0 * edge + left + SIZE])
    y = np.concatenate([0 * edge + top, 0 * edge + top - SIZE, top - edge, top - edge])
    east, north = Transformer.from_crs(CRS, THERMAL_CRS, always_xy=True).transform(x, y)
    west, south = (int(np.floor(v.min() / THERMAL_PIXEL)) for v in (east, north))
    columns, rows = (int(np.ceil(v.max() / THERMAL_PIXEL)) - low for v, low in ((east, west), (north, south)))
    affine = Affine(THERMAL_PIXEL, 0, west * THERMAL_PIXEL, 0, -THERMAL_PIXEL, (south + rows) * THERMAL_PIXEL)
    return affine, (rows, columns)


def blurred(raster: Floats, times: int) -> Floats:
    """The raster through a lens: weights 1, 2, 1 along both axes, some times over."""
    for _ in range(times):
        for axis in (0, 1):
            before, after = np.roll(raster, 1, axis), np.roll(raster, -1, axis)
            raster = (before + 2 * raster + after) / 4
    return raster


def with_nodata(numbers: Floats, valid: NDArray[np.bool_]) -> Image:
    """Digital numbers as they are stored: 0 where the sensor saw nothing, and nowhere else."""
    return np.where(valid, np.clip(numbers, 1, 65535), NODATA).astype(np.uint16)


def write_optical(path: Path, numbers: Image, affine: Affine) -> None:
    """Write the colour image."""
    profile = {"count": 3, "height": numbers.shape[1], "width": numbers.shape[2], "photometric": "RGB"}
    with rasterio.open(path, "w", crs=CRS, transform=affine, **profile, **storage()) as file:
        file.write(numbers)
        file.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
        file.descriptions = ("red", "green", "blue")
        file.scales = (OPTICAL_SCALE,) * 3
        file.units = ("reflectance",) * 3


def write_thermal(path: Path, numbers: Image, affine: Affine) -> None:
    """Write the thermal image."""
    profile = {"count": 1, "height": numbers.shape[0], "width": numbers.shape[1]}
    with rasterio.open(path, "w", crs=THERMAL_CRS, transform=affine, **profile, **storage()) as file:
        file.write(numbers, 1)
        file.descriptions = ("brightness temperature",)
        file.scales, file.offsets, file.units = (KELVIN_SCALE,), (KELVIN_OFFSET,), ("K",)


def storage() -> dict[str, object]:
    """How both files are stored."""
    layout = {"driver": "GTiff", "dtype": "uint16", "nodata": NODATA, "interleave": "band"}
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256}
    return layout | tiles | {"compress": "deflate", "zlevel": 9, "predictor": 2}


if __name__ == "__main__":
    main()
