"""Files that batchfuse doesn't read are told by what they are, and only damaged ones are called so."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import struct
import tarfile
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from rasters import photo, write_raster
from volumes import write_nifti

import batchfuse
from batchfuse.cli import commands
from batchfuse.errors import SourceError
from batchfuse.geometry.window import Window
from batchfuse.imagery.files import fault_of
from batchfuse.imagery.foreign import KINDS, kind_by_name, kind_of
from batchfuse.imagery.geotiff import open_source
from batchfuse.imagery.nifti import is_volume, open_volumes
from batchfuse.imagery.pixels import read_pixels
from batchfuse.plan import make_plan
from batchfuse.recipe import Recipe

NIFTI = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4)).to_bytes()
MGH = nibabel.MGHImage(np.zeros((4, 4, 4), np.float32), np.eye(4)).to_bytes()


def made_by_pillow(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (20, 20)).save(stream, kind)
    return stream.getvalue()


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.tif", b"II*\0")
    return stream.getvalue()


def tarred() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.tif"))
    return stream.getvalue()


def metaimage() -> bytes:
    return (
        b"ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_FLOAT\nElementDataFile = LOCAL\n"
    )


FILES: list[tuple[str, bytes, str]] = [
    ("a.mgz", gzip.compress(MGH), "mri_convert"),
    ("a.mgh", MGH, "mri_convert"),
    ("a.nrrd", b"NRRD0004\ntype: float\n", "SimpleITK"),
    ("a.nhdr", b"NRRD0005\n", "Slicer"),
    ("a.mha", metaimage(), "SimpleITK"),
    ("a.mhd", b"NDims = 3\n", "SimpleITK"),
    ("a.mnc", b"CDF\1" + bytes(40), "mnc2nii"),
    ("b.mnc", b"\x89HDF\r\n\x1a\n" + bytes(40), "mnc2nii"),
    ("a.nii.bz2", bz2.compress(NIFTI), "bunzip2"),
    ("a.nii.xz", lzma.compress(NIFTI), "unxz"),
    ("a.nii.zip", zipped(), "unzip"),
    ("a.tar", tarred(), "tar -xf"),
    ("a.dcm", bytes(128) + b"DICM" + bytes(40), "dcm2niix"),
    ("IM0001", bytes(128) + b"DICM" + bytes(40), "dcm2niix"),
    ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(40), "gdalinfo"),
    ("a.nc", b"CDF\2" + bytes(40), "gdal_translate"),
    ("a.vrt", b'<VRTDataset rasterXSize="2">', "gdal_translate"),
    ("a.gif", made_by_pillow("GIF"), "gdal_translate"),
    ("a.tif", b"%PDF-1.7\n", "pdfimages"),
    ("a.tif", b"\n<!DOCTYPE html>\n<html><title>Sign in</title>", "signed in"),
    ("a.nii", b"<HTML><body>404", "signed in"),
    ("a.tif", b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "signed in"),
    ("a.tif", b'{"error": "unauthorized"}', "signed in"),
    ("a.heic", b"\0\0\0\x18ftypheic", "heif-convert"),
    ("a.jpg", b"\0\0\0\x18ftypmif1", "heif-convert"),
    ("a.cr3", b"\0\0\0\x18ftypcrx ", "darktable"),
    ("a.nef", b"II*\0" + bytes(40), "darktable"),
    ("a.jxl", b"\xff\x0a\x00", "djxl"),
    ("a.npy", b"\x93NUMPY\1\0", "GeoTIFF"),
    ("a.tif", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    ("a.nii.gz", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    ("a.nii", b"/annex/objects/MD5E-s123456--0123456789abcdef.nii\n", "datalad get"),
    ("a.nii.gz", b"/annex/objects/MD5E-s1--0.nii.gz\n", "git annex get"),
    ("a.tif", b"../../.git/annex/objects/fW/24/MD5E-s1--a.tif/MD5E-s1--a.tif", "datalad get"),
    ("a.tif.dvc", b"outs:\n- md5: 0\n  path: a.tif\n", "dvc pull"),
    ("a.tif.gz", gzip.compress(b"II*\0" + bytes(40)), "gunzip"),
    ("pet.gz", gzip.compress(NIFTI), ".nii.gz"),
    ("pet.dat", NIFTI, ".nii"),
    ("._a.tif", b"\0\5\x16\7" + bytes(40), "leave it out"),
    ("a.tif", bytes(5000), "zeros"),
    ("a.brik", b"\1\2\3\4", "3dAFNItoNIFTI"),
    ("a.fff", b"FFF\0" + bytes(40), "FLIR"),
]


@pytest.mark.parametrize(("name", "content", "remedy"), FILES, ids=[f"{f[0]}-{f[2]}" for f in FILES])
def test_what_is_not_read_is_told_with_its_remedy(
    tmp_path: Path, name: str, content: bytes, remedy: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceError) as refused:
        open_volumes("pet", path) if is_volume(path) else open_source("thermal", [path])
    line = str(refused.value)
    assert line.startswith(f"{path} ")
    assert remedy in line
    assert "\n" not in line
    assert "damaged" not in line


def test_what_is_read_is_taken_for_nothing_else(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", np.zeros((20, 20), np.uint8))
    write_nifti(tmp_path / "a.nii", np.zeros((4, 4, 4), np.float32))
    write_nifti(tmp_path / "a.nii.gz", np.zeros((4, 4, 4), np.float32))
    for kind in ("PNG", "JPEG", "JPEG2000", "BMP", "WEBP"):
        (tmp_path / f"a.{kind}").write_bytes(made_by_pillow(kind))
    for path in tmp_path.iterdir():
        assert fault_of(path) is None
        assert kind_by_name(path.name) is None
    # the voxels of a pair may begin with any bytes
    for begin in (b"\xff\x0a", b"\0\0\0\1\0\0", b"BZh", b"CDF\1", b"GRIB", b"PK\3\4", b"<VR", b"{\n"):
        assert kind_of("a.img", begin + bytes(600)) is None


def test_a_link_that_leads_nowhere_says_where_and_is_not_waited_for(tmp_path: Path) -> None:
    annexed, link, lost = (tmp_path / f"{name}_thermal.tif" for name in "abc")
    annexed.symlink_to("../.git/annex/objects/fW/24/MD5E-s1--a.tif/MD5E-s1--a.tif")
    link.symlink_to("elsewhere/b.tif")
    (tmp_path / "c_thermal.tif.dvc").write_text("outs:\n- md5: 0\n")
    assert "datalad get" in str(fault_of(annexed))
    assert "is a link to elsewhere/b.tif, which does not exist" in str(fault_of(link))
    assert "dvc pull" in str(fault_of(lost))
    assert str(fault_of(tmp_path / "d.tif")).endswith("d.tif does not exist")
    for name in "ab":
        write_raster(tmp_path / f"{name}_optical.tif", np.zeros((20, 20), np.uint8))
    inputs = {role: f"{{scene}}_{role}.tif" for role in ("thermal", "optical")}
    plan = make_plan(Recipe.model_validate({"inputs": inputs, "folder": tmp_path}))
    assert {failure.scene: failure.found is not None for failure in plan.failures} == {"a": False, "b": True}


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_raster(tmp_path / "a.tif", np.zeros((20, 20), np.uint8))

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refused)
    assert re.search("can't be read: you have no permission", str(fault_of(path)))


def test_each_odd_file_is_a_line_of_its_own_beside_good_scenes(tmp_path: Path) -> None:
    lines = ["scene,one,other"]
    for one in ("good", "other"):
        write_raster(tmp_path / f"{one}.tif", (photo((30, 30))[0] * 255).astype(np.uint8))
        write_nifti(tmp_path / f"{one}.nii", photo((12, 12), bands=8).astype(np.float32))
    lines += [f"good_{kind},good.{kind},other.{kind}" for kind in ("tif", "nii")]
    for number, (name, content, _) in enumerate(FILES):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / name).write_bytes(content)
        partner = "good.nii" if is_volume(tmp_path / str(number) / name) else "good.tif"
        lines.append(f"odd{number},{number}/{name},{partner}")
    (tmp_path / "scenes.csv").write_text("\n".join(lines))
    settings = {"manifest": "scenes.csv", "fusion": {"strategy": "mean"}, "folder": tmp_path}
    recipe = Recipe.model_validate({"inputs": {"one": {}, "other": {}}, **settings})
    report = batchfuse.run(recipe, retries=0)
    assert report.exit_code == 1
    for outcome in report.outcomes:
        assert (outcome.status == "complete") == outcome.scene.startswith("good"), outcome
        assert "bug" not in (outcome.reason or "")
        assert "\n" not in (outcome.reason or "")


# GDAL's own words


def with_tag(path: Path, tag: int, value: int) -> Path:
    """Sets a short tag of a little-endian TIFF."""
    content = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", content, 4)
    for entry in range(struct.unpack_from("<H", content, start)[0]):
        place = start + 2 + 12 * entry
        if struct.unpack_from("<H", content, place)[0] == tag:
            struct.pack_into("<H", content, place + 8, value)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("compression", "name"), [(50002, "JXL"), (34661, "JBIG"), (12345, "code 12345")])
def test_a_codec_that_gdal_lacks_is_no_damage(tmp_path: Path, compression: int, name: str) -> None:
    path = write_raster(tmp_path / "a.tif", (photo((20, 20))[0] * 255).astype(np.uint8), compress="LZW")
    with_tag(path, 259, compression)
    with pytest.raises(SourceError, match=rf"compressed with {name}, which.*COMPRESS=DEFLATE") as refused:
        open_source("thermal", [path])
    assert "damaged" not in str(refused.value)


def test_a_kind_of_tiff_that_gdal_does_not_read_is_no_damage(tmp_path: Path) -> None:
    path = with_tag(write_raster(tmp_path / "a.tif", np.zeros((20, 20), np.float32)), 258, 7)
    with pytest.raises(SourceError, match=r"of a kind that GDAL doesn't read.*convert it") as refused:
        open_source("thermal", [path])
    assert "damaged" not in str(refused.value)


def test_a_file_that_is_cut_off_is_called_damaged(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", (photo((64, 64))[0] * 255).astype(np.uint8), compress="LZW")
    source = open_source("thermal", [path])
    path.write_bytes(path.read_bytes()[:-1500])
    with pytest.raises(SourceError, match="damaged or cut off, copy or download it again"):
        read_pixels(open_source("thermal", [path]), Window.whole(source.place.shape))


# init


def init(folder: Path) -> str:
    result = CliRunner().invoke(commands, ["init", str(folder), "-o", "-"])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.output


def test_init_says_what_lies_there_in_place_of_images(tmp_path: Path) -> None:
    for name in ("a_T1.mgz", "a_pet.mgz", "b_T1.nrrd", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    line = init(tmp_path)
    assert "2 FreeSurfer volumes: convert to NIfTI first (mri_convert" in line
    assert "1 NRRD volume: " in line
    assert "no images" not in line


def test_init_counts_what_it_leaves_out(tmp_path: Path) -> None:
    for role in ("thermal", "optical"):
        write_raster(tmp_path / f"a_{role}.tif", (photo((30, 30))[0] * 255).astype(np.uint8))
    (tmp_path / "a.h5").write_bytes(b"x")
    assert "1 HDF5 or netCDF-4 file: make a GeoTIFF" in init(tmp_path)


def test_init_with_pointers_alone_says_how_to_fetch(tmp_path: Path) -> None:
    for role in ("thermal", "optical"):
        (tmp_path / f"a_{role}.tif").symlink_to(".git/annex/objects/a/b/MD5E-s1--a.tif/MD5E-s1--a.tif")
    assert "datalad get" in init(tmp_path)


def test_every_kind_has_a_noun_with_its_article_and_a_remedy() -> None:
    for kind in KINDS:
        assert re.match(r"(a|an) \w", kind.noun)
        assert kind.remedy
        assert all(ending == ending.lower() and ending.startswith(".") for ending in kind.endings)
