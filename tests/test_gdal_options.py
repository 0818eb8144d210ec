"""GDAL's options in the environment: what moves or changes pixels doesn't reach ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio._env import del_gdal_config
from rasters import UTM32, write_raster

from batchfuse.geometry.window import Window
from batchfuse.imagery.gdal_options import PINNED
from batchfuse.imagery.geotiff import open_source
from batchfuse.imagery.raster_files import read_band, said_by

PIXELS = np.random.default_rng(0).integers(1, 200, (32, 32)).astype(np.uint8)


def point(folder: Path) -> Path:
    path = write_raster(folder / "point.tif", PIXELS)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(AREA_OR_POINT="Point")
    return path


def beside(folder: Path) -> Path:
    """An image whose .aux.xml says where it lies and what its values mean."""
    path = write_raster(folder / "beside.tif", PIXELS, transform=None, crs=None)
    path.with_name("beside.tif.aux.xml").write_text(
        "<PAMDataset><GeoTransform>500000, 10, 0, 5600000, 0, -10</GeoTransform>"
        '<PAMRasterBand band="1"><NoDataValue>7</NoDataValue><Scale>0.5</Scale></PAMRasterBand></PAMDataset>'
    )
    return path


def world(folder: Path) -> Path:
    path = write_raster(folder / "world.tif", PIXELS, transform=None, crs=None)
    path.with_suffix(".tfw").write_text("10\n0\n0\n-10\n500005\n5599995\n")
    return path


def ycbcr(folder: Path) -> Path:
    bands = np.stack([PIXELS, PIXELS // 2, 255 - PIXELS])
    options: dict[str, Any] = {"compress": "jpeg", "photometric": "ycbcr"}
    return write_raster(folder / "ycbcr.tif", bands, **options)


def jpeg(folder: Path) -> Path:
    bands = np.stack([PIXELS, PIXELS // 2, 255 - PIXELS])
    path = folder / "photo.jpg"
    with rasterio.open(path, "w", driver="JPEG", width=32, height=32, count=3, dtype="uint8") as dataset:
        dataset.write(bands)
    return path


def jpeg2000(folder: Path) -> Path:
    """A JPEG 2000 with a GeoJP2 box, and a world file that says otherwise: the box counts."""
    path = folder / "photo.jp2"
    with rasterio.open(point(folder)) as dataset:
        profile = {**dataset.profile, "driver": "JP2OpenJPEG", "GMLJP2": "NO"}
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(PIXELS[None])
    path.with_suffix(".j2w").write_text("20\n0\n0\n-20\n500005\n5599995\n")
    return path


def masked(folder: Path) -> Path:
    """A mask of one bit within the file."""
    path = folder / "masked.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        return write_raster(path, PIXELS, mask=PIXELS > 99)


def damaged(folder: Path) -> Path:
    """An image whose last strip can't be decoded."""
    path = write_raster(folder / "damaged.tif", PIXELS, compress="deflate", blockysize=8, tiled=False)
    with rasterio.open(path) as dataset:
        offset = int(dataset.get_tag_item("BLOCK_OFFSET_0_3", "TIFF", bidx=1))
    content = bytearray(path.read_bytes())
    content[offset : offset + 40] = b"\xff" * 40
    path.write_bytes(content)
    return path


HOSTILE: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "GTIFF_POINT_GEO_IGNORE": ("TRUE", point),
    "GDAL_PAM_ENABLED": ("NO", beside),
    "GDAL_GEOREF_SOURCES": ("NONE", world),
    "CONVERT_YCBCR_TO_RGB": ("NO", ycbcr),
    "GDAL_JPEG_TO_RGB": ("NO", jpeg),
    "GDAL_USE_GEOJP2": ("NO", jpeg2000),
    "GDAL_TIFF_INTERNAL_MASK_TO_8BIT": ("NO", masked),
    "GTIFF_IGNORE_READ_ERRORS": ("TRUE", damaged),
}


def plainly(path: Path) -> Any:
    """What rasterio reads of a file by itself: header, pixels and mask, or that it refuses them."""
    with rasterio.open(path) as dataset:
        try:
            return said_by(dataset), dataset.read().tobytes(), dataset.read_masks(1).tobytes()
        except rasterio.errors.RasterioError:
            return "refused"


def ours(path: Path) -> Any:
    source = open_source("a", [path])
    whole = Window.whole((32, 32))
    try:
        pixels = [read_band(source.files[0], band.number, whole).tobytes() for band in source.bands]
        mask = read_band(source.files[0], 1, whole, mask=True).tobytes()
    except Exception as error:
        return str(error)
    return source.place, source.bands, source.masks, pixels, mask


@pytest.mark.parametrize("option", HOSTILE)
def test_an_option_in_the_environment_that_changes_what_gdal_reads_doesnt_reach_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    value, make = HOSTILE[option]
    path = make(tmp_path)
    before = plainly(path), ours(path)
    monkeypatch.setenv(option, value)
    try:
        assert plainly(path) != before[0]  # it does change what GDAL reads
        assert ours(path) == before[1]
    finally:  # what it finds in the environment rasterio leaves in GDAL's own options
        monkeypatch.delenv(option)
        del_gdal_config(option)
    assert option in PINNED


def test_the_options_are_those_that_gdal_has_by_itself(tmp_path: Path) -> None:
    for make in (point, beside, world, ycbcr, jpeg, jpeg2000, masked):
        path = make(tmp_path)
        with rasterio.open(path) as dataset:
            wanted = said_by(dataset), dataset.read().tobytes(), dataset.read_masks(1).tobytes()
        with rasterio.Env(**PINNED), rasterio.open(path) as dataset:
            assert (said_by(dataset), dataset.read().tobytes(), dataset.read_masks(1).tobytes()) == wanted
    with rasterio.Env(**PINNED):
        assert rasterio.open(point(tmp_path)).transform == Affine(10, 0, 500_000, 0, -10, 5_600_000)
        pinned = rasterio.crs.CRS.from_user_input(UTM32).to_wkt()
    assert pinned == rasterio.crs.CRS.from_user_input(UTM32).to_wkt()
