"""What files say beside their pixels: pages, orientation, temperatures under a picture, local systems."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasters import NORTH_UP, photo, write_raster

import batchfuse
from batchfuse.errors import GridError
from batchfuse.geometry.grid import Grid
from batchfuse.imagery.align import align
from batchfuse.imagery.geotiff import open_source
from batchfuse.imagery.picture_marks import is_radiometric, orientation_of
from batchfuse.plan import make_plan

GRAY = (photo((40, 50))[0] * 255).astype(np.uint8)


def picture(path: Path, orientation: int | None = None) -> Path:
    image = Image.fromarray(GRAY)
    exif = image.getexif()
    if orientation:
        exif[274] = orientation
    image.save(path, exif=exif)
    return path


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
def test_the_orientation_is_read_as_pillow_wrote_it(
    tmp_path: Path, ending: str, orientation: int | None
) -> None:
    path = picture(tmp_path / f"a{ending}", orientation)
    assert orientation_of(path) == (orientation or 1)
    lines = open_source("optical", [path]).warnings
    assert any(f"says orientation {orientation}" in line for line in lines) == (orientation not in (None, 1))


def test_pictures_that_viewers_turn_differently_are_refused_and_others_fused(tmp_path: Path) -> None:
    for scene, (thermal, optical) in {"a": (None, 3), "b": (6, 6), "c": (None, 1)}.items():
        picture(tmp_path / f"{scene}_T.jpg", thermal)
        picture(tmp_path / f"{scene}_W.jpg", optical)
    recipe = batchfuse.Recipe(
        inputs={"thermal": "{scene}_T.jpg", "optical": "{scene}_W.jpg"}, folder=tmp_path
    )
    plan = make_plan(recipe)
    (failed,) = plan.failures
    assert "a_T.jpg says orientation 1" in failed.reason
    assert "a_W.jpg says 3" in failed.reason
    told = {job.scene.name: job.warnings for job in plan.jobs}
    assert [sum("says orientation 6" in line for line in told[name]) for name in ("b", "c")] == [2, 0]


def test_a_truncated_or_odd_picture_has_no_orientation_and_no_temperatures(tmp_path: Path) -> None:
    whole = picture(tmp_path / "a.jpg", 6).read_bytes()
    for length in range(0, 80, 3):
        (tmp_path / "b.jpg").write_bytes(whole[:length])
        assert orientation_of(tmp_path / "b.jpg") in (1, 6)
        assert not is_radiometric(tmp_path / "b.jpg")


def segment(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body


@pytest.mark.parametrize(
    ("segments", "radiometric"),
    [
        (segment(0xE1, b"FLIR\0\x01\x00\x00" + bytes(5000)), True),
        (segment(0xE3, bytes(60000)) * 11, True),
        (segment(0xE4, b"\xaa\x55\x12\x06" + bytes(200)), True),
        (segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>"), False),
        (segment(0xE3, b"_JPSJPS_" + bytes(60000)), False),
        (segment(0xE4, bytes(60000)), False),
        (b"", False),
    ],
)
def test_the_picture_of_a_radiometric_jpeg_is_told(
    tmp_path: Path, segments: bytes, radiometric: bool
) -> None:
    path = picture(tmp_path / "a.jpg")
    content = path.read_bytes()
    path.write_bytes(content[:2] + segments + content[2:])
    (*lines,) = open_source("thermal", [path]).warnings
    assert any("brightness is not temperature" in line for line in lines) == radiometric


def test_a_thermal_image_with_a_table_of_colours_is_told(tmp_path: Path) -> None:
    image = Image.fromarray(GRAY // 2)
    image.putpalette([part for n in range(256) for part in (n, 0, 255 - n)])
    image.save(tmp_path / "a.png")
    (line,) = open_source("thermal", [tmp_path / "a.png"]).warnings
    assert "has a colour table" in line
    assert open_source("optical", [tmp_path / "a.png"]).warnings == ()


def test_the_pages_of_a_tiff_are_told_and_overviews_and_masks_are_none(tmp_path: Path) -> None:
    pages = [Image.fromarray(GRAY)] * 3
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    (line,) = open_source("thermal", [tmp_path / "pages.tif"]).warnings
    assert "pages.tif has 3 pages, page 1 is used" in line
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = write_raster(tmp_path / "one.tif", GRAY, mask=GRAY > 100)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4])
    assert open_source("thermal", [path]).warnings == ()


def test_local_systems_of_other_names_are_two_places() -> None:
    here, there = (f'LOCAL_CS["{name}",UNIT["metre",1]]' for name in ("site A", "mine B"))
    for source, fails in ((there, True), (here, False)):
        grids = Grid((40, 50), NORTH_UP, here), Grid((40, 50), NORTH_UP, source)
        if fails:
            with pytest.raises(GridError, match="local system"):
                align(*grids)
        else:
            assert align(*grids).identical
