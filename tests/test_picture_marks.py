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
from batchfuse.errors import GridError, SourceError
from batchfuse.geometry.grid import Grid
from batchfuse.imagery import header
from batchfuse.imagery.align import align
from batchfuse.imagery.files import fault_of
from batchfuse.imagery.geotiff import open_source
from batchfuse.imagery.picture_marks import holds_raw, marks_of
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
    assert marks_of(path).orientation == (orientation or 1)
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
        assert marks_of(tmp_path / "b.jpg").orientation in (1, 6)
        assert not marks_of(tmp_path / "b.jpg").is_radiometric


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


def frames(count: int) -> list[Image.Image]:
    return [Image.fromarray(np.roll(GRAY, n, 1)).convert("RGB") for n in range(count)]


@pytest.mark.parametrize("ending", [".mpo", ".jpg", ".png"])
def test_further_pictures_in_a_file_are_told(tmp_path: Path, ending: str) -> None:
    first, *others = frames(3)
    kind = {".jpg": "MPO"}.get(ending)
    first.save(tmp_path / f"a{ending}", kind, save_all=True, append_images=others)
    (line,) = open_source("optical", [tmp_path / f"a{ending}"]).warnings
    assert "holds 3 pictures, the first is used" in line


def test_a_preview_or_map_of_brightness_beside_a_picture_is_no_picture_of_its_own(tmp_path: Path) -> None:
    first, other = frames(2)
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[other.resize((25, 20))])
    assert open_source("optical", [tmp_path / "a.jpg"]).warnings == ()
    first.save(tmp_path / "b.jpg", "MPO", save_all=True, append_images=[other])
    content = (tmp_path / "b.jpg").read_bytes()
    entry = content.index(b"MPF\0") + 4 + 50 + 16  # the second, behind the directory of three tags
    preview = struct.pack("<I", 0x010001)
    (tmp_path / "b.jpg").write_bytes(content[:entry] + preview + content[entry + 4 :])
    assert open_source("optical", [tmp_path / "b.jpg"]).warnings == ()


def test_animated_webp_is_refused_as_what_it_is(tmp_path: Path) -> None:
    first, *others = frames(3)
    first.save(tmp_path / "a.webp", save_all=True, append_images=others)
    with pytest.raises(SourceError, match=r"a\.webp is an animated WebP picture: take its frames out"):
        open_source("optical", [tmp_path / "a.webp"])


def test_bands_of_one_source_that_viewers_turn_differently_are_refused(tmp_path: Path) -> None:
    paths = [picture(tmp_path / f"{name}.jpg", turn) for name, turn in (("r", 6), ("g", 6), ("b", 1))]
    with pytest.raises(SourceError, match=r"r\.jpg says orientation 6 and .*b\.jpg says 1"):
        open_source("optical", paths)
    assert open_source("optical", [paths[0], paths[1]], every_band=True).orientation == 6


def test_the_orientation_of_a_bigtiff_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for order, mark in (("<", b"II+\0"), (">", b"MM\0+")):
        head = mark + struct.pack(f"{order}HHQQ", 8, 0, 16, 1)
        path.write_bytes(head + struct.pack(f"{order}HHQH6x", 274, 3, 1, 8))
        assert marks_of(path).orientation == 8


def test_a_file_is_opened_once_for_all_that_is_said_beside_its_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, asked = picture(tmp_path / "a.jpg", 6), []
    monkeypatch.setattr(header, "marks_of", lambda path: asked.append(path) or marks_of(path))
    assert open_source("thermal", [path, path], every_band=True).warnings
    assert asked == [path, path]


def test_a_source_of_one_name_and_two_local_systems_is_refused(tmp_path: Path) -> None:
    here, there = (f'LOCAL_CS["{name}",UNIT["metre",1]]' for name in ("site A", "mine B"))
    paths = [write_raster(tmp_path / f"{n}.tif", GRAY, crs=crs) for n, crs in enumerate((here, here, there))]
    assert open_source("optical", paths[:2], every_band=True).place.crs is not None
    with pytest.raises(SourceError, match="must share a grid"):
        open_source("optical", paths)


def test_local_systems_without_a_name_are_taken_for_one_and_told(tmp_path: Path) -> None:
    for name, scene in (("unknown", "a"), ("site A", "b")):
        for role in ("thermal", "optical"):
            write_raster(tmp_path / f"{scene}_{role}.tif", GRAY, crs=f'LOCAL_CS["{name}",UNIT["metre",1]]')
    inputs = {role: f"{{scene}}_{role}.tif" for role in ("thermal", "optical")}
    plan = make_plan(batchfuse.Recipe(inputs=inputs, folder=tmp_path))
    told = [sum("local systems that have no name" in line for line in job.warnings) for job in plan.jobs]
    assert told == [1, 0]


@pytest.mark.parametrize(
    ("tags", "is_raw"),
    [({262: 1}, False), ({262: 32803}, True), ({254: 1, 262: 2}, True), ({262: 2, 330: 400}, True)],
)
def test_a_raw_file_is_told_from_a_tiff_of_its_name_by_its_first_directory(
    tmp_path: Path, tags: dict[int, int], is_raw: bool
) -> None:
    path = tmp_path / "a.dng"
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4))
    assert holds_raw(path) == is_raw
    assert ("camera's raw file" in str(fault_of(path))) == is_raw


@pytest.mark.parametrize("name", ["a.dng", "a.mnc", "a.img", "a.hdr", "a.seq", "a.rec"])
def test_a_tiff_is_read_whatever_its_name_ends_in(tmp_path: Path, name: str) -> None:
    path = write_raster(tmp_path / "a.tif", GRAY).rename(tmp_path / name)
    assert open_source("thermal", [path]).place.shape == GRAY.shape


def test_local_systems_of_other_names_are_two_places() -> None:
    here, there = (f'LOCAL_CS["{name}",UNIT["metre",1]]' for name in ("site A", "mine B"))
    for source, fails in ((there, True), (here, False)):
        grids = Grid((40, 50), NORTH_UP, here), Grid((40, 50), NORTH_UP, source)
        if fails:
            with pytest.raises(GridError, match="local system"):
                align(*grids)
        else:
            assert align(*grids).identical
