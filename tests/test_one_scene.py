"""`fuse`: one scene without a recipe gives what a recipe would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import rasterio
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image
from rasters import NORTH_UP, photo, write_raster
from rio_cogeo.cogeo import cog_validate
from volumes import write_nifti

import batchfuse
from batchfuse.cli import commands
from batchfuse.one_scene import roles_of

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """t.tif (16 bits, coarser) and o.tif (colour); ir.png and vis.jpg of one size."""
    monkeypatch.chdir(tmp_path)
    thermal = np.rint(photo((40, 50), 1)[0] * 3000 + 28_000).astype(np.uint16)
    optical = np.rint(photo((80, 100), 2, bands=3) * 9000 + 500).astype(np.uint16)
    write_raster(tmp_path / "t.tif", thermal, transform=NORTH_UP @ NORTH_UP.scale(2))
    write_raster(tmp_path / "o.tif", optical, photometric="RGB")
    for name, seed in (("ir.png", 3), ("vis.jpg", 4)):
        Image.fromarray(np.rint(photo((60, 70), seed)[0] * 255).astype(np.uint8)).save(tmp_path / name)
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "1.dcm").write_bytes(bytes(128) + b"DICM")
    return tmp_path


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(commands, ["fuse", *map(str, arguments)])


def done(*arguments: str | Path) -> Result:
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def fused_by_recipe(folder: Path, thermal: str, optical: str, **settings: str) -> NDArray[np.float32]:
    recipe = batchfuse.Recipe(
        inputs={"one": thermal, "two": optical}, folder=folder, output={"path": "wanted"}, **settings
    )
    assert batchfuse.run(recipe).exit_code == 0
    with rasterio.open(folder / "wanted" / "scene.zarr") as dataset:
        return np.asarray(dataset.read())


def test_a_geotiff_out_is_a_cog_of_what_a_recipe_gives(folder: Path) -> None:
    before = names_in(folder)
    done("t.tif", "o.tif", "-o", "x.tif")
    assert names_in(folder) == before | {"x.tif"}
    assert cog_validate("x.tif", strict=True, quiet=True) == (True, [], [])
    with rasterio.open("x.tif") as dataset, rasterio.open("o.tif") as optical:
        assert (dataset.crs, dataset.transform) == (optical.crs, optical.transform)
        found = dataset.read()
    assert found.tobytes() == fused_by_recipe(folder, "t.tif", "o.tif").tobytes()


def test_a_store_out_is_complete_and_the_same_each_time(folder: Path) -> None:
    before = names_in(folder)
    for name in ("x", "y"):
        done("t.tif", "o.tif", "-o", f"{name}.zarr", "-q")
    assert names_in(folder) == before | {"x.zarr", "y.zarr"}
    trees = [
        {file.relative_to(name): file.read_bytes() for file in Path(name).rglob("*") if file.is_file()}
        for name in ("x.zarr", "y.zarr")
    ]
    assert trees[0] == trees[1]
    info = CliRunner().invoke(commands, ["info", "x.zarr"]).output
    assert "x.zarr: complete" in info
    assert "t: t.tif" in info


def test_pictures_of_8_bits_stay_as_bright_as_they_are(folder: Path) -> None:
    result = done("ir.png", "vis.jpg", "-o", "x.png", "--strategy", "average")
    assert result.stdout.startswith("x.png: uint8, ")
    wanted = fused_by_recipe(folder, "ir.png", "vis.jpg", fusion={"strategy": "average"})  # type: ignore[arg-type]
    with Image.open("x.png") as image:
        assert (np.asarray(image) == np.clip(np.rint(wanted[0]), 0, 255)).all()


def test_pictures_of_16_bits_are_stretched_unless_one_says_how(folder: Path) -> None:
    done("t.tif", "o.tif", "-o", "x.png")
    done("t.tif", "o.tif", "-o", "y.png", "--stretch", "percentiles")
    done("t.tif", "o.tif", "-o", "z.png", "--stretch", "none")
    pictures = [np.asarray(Image.open(folder / f"{name}.png")) for name in "xyz"]
    assert (pictures[0] == pictures[1]).all()
    assert (pictures[0] != pictures[2]).any()


@pytest.mark.parametrize(("option", "shape"), [("1", (40, 50)), ("t", (40, 50)), ("2", (80, 100))])
def test_the_reference_is_named_by_number_or_role(folder: Path, option: str, shape: tuple[int, int]) -> None:
    done("t.tif", "o.tif", "-o", "x.tif", "--reference", option)
    with rasterio.open(folder / "x.tif") as dataset:
        assert dataset.shape == shape


def test_each_warning_is_told_once(folder: Path) -> None:
    for name, value in (("a.tif", 9), ("b.tif", 11)):
        write_raster(folder / name, np.full((40, 50), value, np.uint16))
    errors = done("a.tif", "b.tif", "-o", "x.zarr").stderr
    assert [errors.count(f"{name} is constant") for name in ("a.tif", "b.tif")] == [1, 1]


def test_the_type_is_that_of_the_store_or_of_the_stretched_picture(folder: Path) -> None:
    done("t.tif", "o.tif", "-o", "x.tif", "--dtype", "uint16")
    done("t.tif", "o.tif", "-o", "y.tif", "--stretch", "minmax")
    wanted = fused_by_recipe(folder, "t.tif", "o.tif")
    with rasterio.open("x.tif") as dataset:
        assert np.abs(dataset.read() - np.clip(wanted, 1, 65535)).max() <= 0.5
    with rasterio.open("y.tif") as dataset:
        assert dataset.dtypes[0] == "uint8"
        assert dataset.read().max() == 255


def test_names_with_signs_of_patterns_are_only_names(folder: Path) -> None:
    odd = folder / "a{b}*"
    odd.mkdir()
    (odd / "t.tif").write_bytes(b"no image")
    for name, role in (("{scene};1*.tif", "t"), ("~ o [1].tif", "o")):
        (odd / name).write_bytes((folder / f"{role}.tif").read_bytes())
    done(odd / "{scene};1*.tif", odd / "~ o [1].tif", "-o", odd / "x y.tif")
    with rasterio.open(odd / "x y.tif") as dataset:
        assert dataset.read().tobytes() == fused_by_recipe(folder, "t.tif", "o.tif").tobytes()


def test_sources_are_called_by_their_files_where_those_are_names() -> None:
    assert roles_of([Path("a/ir.png"), Path("b/vis.jpg")]) == ["ir", "vis"]
    assert roles_of([Path("a/x.png"), Path("b/x.png")]) == ["source1", "source2"]
    assert roles_of([Path("1.png"), Path("x.png")]) == ["source1", "source2"]
    assert roles_of([Path("scene.png"), Path("x.png")]) == ["source1", "source2"]


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["t.tif", "-o", "x.tif"], 2, "takes two or more images"),
        (["t.tif", "none.tif", "-o", "x.tif"], 1, "none.tif does not exist"),
        (["t.tif", "t.tif", "-o", "x.tif"], 2, "t.tif is named twice"),
        (["t.tif", "o.tif", "-o", "o.tif", "--overwrite"], 2, "is one of the sources"),
        (["t.tif", "o.tif", "-o", "ir.png"], 1, "ir.png is there already"),
        (["t.tif", "o.tif", "-o", "x.jpg"], 2, "names no format: .zarr, .tif, .png and .nii.gz do"),
        (
            ["t.tif", "o.tif", "-o", "x.nii.gz"],
            2,
            "rasters become no such file",
        ),
        (["series", "t.tif", "-o", "x.nii.gz"], 1, "series is a folder of DICOM slices: convert each series"),
        (["t.nii", "o.tif", "-o", "x.tif"], 2, "volumes become no such file: name one that ends in .nii.gz"),
        (["t.tif", "o.tif", "-o", "x.zarr", "--stretch", "minmax"], 2, "a store is never stretched"),
        (["t.tif", "o.tif", "-o", "x.tif", "--reference", "3"], 2, "number from 1 to 2, or one of t, o"),
        (["t.tif", "o.tif", "-o", "x.png", "--dtype", "float32"], 2, "a PNG holds uint8 or uint16"),
        (["t.tif", "o.tif", "-o", "x.tif", "--strategy", "l2"], 2, "no strategy 'l2'"),
        (["t.tif", "o.tif", "-o", "x.tif", "--weights", "mine.pt"], 2, "mine.pt"),
        (["ir.png", "o.tif", "-o", "x.tif"], 1, "ir.png"),
        (["t.tif", "o.tif", "-o", "o.tif/x.tif"], 1, "can't be written"),
    ],
)
def test_a_wrong_call_is_one_line_and_leaves_nothing(
    folder: Path, arguments: list[str], code: int, line: str
) -> None:
    before = names_in(folder)
    result = call(*arguments)
    assert result.exit_code == code, result.output
    assert line in result.stderr
    assert names_in(folder) == before


def test_what_is_there_is_replaced_on_demand_only_and_foreign_folders_never(folder: Path) -> None:
    done("ir.png", "vis.jpg", "-o", "x.zarr", "-q")
    assert "--overwrite" in call("ir.png", "vis.jpg", "-o", "x.zarr").stderr
    done("ir.png", "vis.jpg", "-o", "x.zarr", "--overwrite")
    recipe = batchfuse.Recipe(
        inputs={"one": "a.tif", "two": "b.tif"}, folder=folder, output={"path": "wanted", "pyramid": True}
    )
    for name in ("a.tif", "b.tif"):
        write_raster(folder / name, photo((260, 20))[0])
    assert batchfuse.run(recipe).exit_code == 0
    assert (folder / "wanted/scene.levels.zarr").exists()
    done("ir.png", "vis.jpg", "-o", "wanted/scene.zarr", "--overwrite")
    assert not (folder / "wanted/scene.levels.zarr").exists()
    for name in ("theirs.tif", "theirs.png"):
        content = (folder / "t.tif").read_bytes()
        (folder / name).write_bytes(content)
        refused = call("ir.png", "vis.jpg", "-o", name, "--overwrite")
        assert (refused.exit_code, f"{name} is there and is no export of batchfuse" in refused.stderr) == (
            1,
            True,
        )
        assert (folder / name).read_bytes() == content
    (folder / "y.zarr").mkdir()
    (folder / "y.zarr/mine.txt").touch()
    refused = call("ir.png", "vis.jpg", "-o", "y.zarr", "--overwrite")
    assert (refused.exit_code, "is left alone" in refused.stderr) == (1, True)
    assert (folder / "y.zarr/mine.txt").exists()


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_an_interrupted_call_leaves_nothing(folder: Path) -> None:
    for name, seed in (("a.tif", 1), ("b.tif", 2)):
        write_raster(folder / name, np.rint(photo((1500, 1500), seed)[0] * 9000).astype(np.uint16))
    before = names_in(folder)
    command = [sys.executable, "-m", "batchfuse", "fuse", "a.tif", "b.tif", "-o", "x.zarr"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not list(folder.glob(".*.partial/fused.zarr")) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert names_in(folder) == before


def test_volumes_become_one_nifti_file(folder: Path) -> None:
    for name, seed in (("t1", 1), ("t2", 2)):
        write_nifti(folder / f"{name}.nii.gz", np.random.default_rng(seed).random((20, 22, 18), np.float32))
    before = sorted(folder.iterdir())
    call = ["fuse", "t1.nii.gz", "t2.nii.gz", "-o", "fused.nii.gz"]
    result = CliRunner().invoke(commands, call)
    assert result.exit_code == 0, result.stderr
    made, reference = nibabel.load("fused.nii.gz"), nibabel.load("t1.nii.gz")
    assert made.shape == (20, 22, 18)
    assert np.array_equal(made.affine, reference.affine)
    assert sorted(folder.iterdir()) == sorted([*before, folder / "fused.nii.gz"])
    write_nifti(folder / "t3.nii.gz", np.random.default_rng(3).random((20, 22, 18, 2), np.float32))
    refused = CliRunner().invoke(commands, ["fuse", "t1.nii.gz", "t3.nii.gz", "-o", "b.zarr"])
    assert refused.exit_code == 1
    assert "4-D, of 2 volumes" in refused.stderr
