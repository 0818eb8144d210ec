"""The .nii.gz of a volume: in the reference's world for every reader, and nobody's name in it."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from stores import scenery, write_store
from volume_stores import RECORD, anatomy, oblique, oriented, write_nifti, write_volume_store

from batchfuse.cli import commands
from batchfuse.errors import StoreError
from batchfuse.exports import export, export_again, outdated
from batchfuse.recipe import Export
from batchfuse.storage import nifti_file
from batchfuse.storage.nifti_file import nifti_signature_of
from batchfuse.storage.nifti_file import write_nifti as write_file
from batchfuse.storage.nifti_header import read_header
from batchfuse.storage.pyramid import begun_level, levels_of
from batchfuse.storage.store import Store

NIFTI = Export(to="nifti")
WORLDS = {letters: oriented(letters) for letters in ("RAS", "LAS", "LPS", "AIL", "PSR")} | {
    "oblique": oblique()
}


def call(*words: object) -> Result:
    return CliRunner().invoke(commands, ["export", *map(str, words)])


def holes(values: NDArray[Any], fill: float) -> NDArray[Any]:
    values[:7, 3:9, :11] = fill
    return values


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(("qform", "sform"), [(1, 1), (2, 0), (0, 4)])
def test_both_readers_see_the_reference_s_world(tmp_path: Path, world: str, qform: int, sform: int) -> None:
    values = holes(anatomy(), np.nan)
    reference = write_nifti(tmp_path / "r.nii.gz", anatomy(seed=4), WORLDS[world], qform=qform, sform=sform)
    store = write_volume_store(tmp_path / "a.zarr", reference, values)
    made = export(store, NIFTI, NIFTI.beside(store.path))
    assert made.path == tmp_path / "a.nii.gz"
    assert (made.dtype, made.warnings) == ("float32", ())
    image, expected = nibabel.load(made.path), nibabel.load(reference)
    assert np.array_equal(image.get_fdata(), values.T, equal_nan=True)
    assert np.array_equal(image.affine, expected.affine)
    for form in ("get_qform", "get_sform"):
        assert np.array_equal(getattr(image, form)(), getattr(expected, form)())
    assert (image.header["qform_code"], image.header["sform_code"]) == (qform, sform)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    there, here = SimpleITK.ReadImage(made.path), SimpleITK.ReadImage(reference)
    # ITK reads NaN as 0
    assert np.array_equal(SimpleITK.GetArrayFromImage(there), np.nan_to_num(values))
    for corner in itertools.product(*((0, n - 1) for n in values.shape[::-1])):
        point = there.TransformIndexToPhysicalPoint(corner)
        np.testing.assert_allclose(point, here.TransformIndexToPhysicalPoint(corner), atol=1e-4)
        # ITK's world is LPS+
        world_point = (image.affine @ [*corner, 1])[:3] * [-1, -1, 1]
        np.testing.assert_allclose(point, world_point, atol=1e-3)


def test_the_header_says_what_made_it_and_names_nobody(tmp_path: Path) -> None:
    texts = dict.fromkeys(("descrip", "aux_file", "intent_name", "db_name", "data_type"), b"Doe^John")
    reference = write_nifti(
        tmp_path / "r.nii",
        anatomy(),
        header={**texts, "intent_code": 5, "cal_max": 300},
        extensions=((2, b"Doe^John as DICOM"),),
    )
    store = write_volume_store(tmp_path / "a.zarr", reference, anatomy())
    made = export(store, NIFTI, tmp_path / "plain.nii.gz").path
    assert b"Doe" not in gzip.decompress(made.read_bytes())
    header = nibabel.load(made).header
    assert header["descrip"].item() == b"batchfuse 0.1.0: res2netfuse l1, mri + pet"
    assert [header[name].item() for name in ("aux_file", "intent_name", "db_name", "data_type")] == [b""] * 4
    assert (header["intent_code"], header["cal_max"]) == (0, 300)
    assert [extension.get_code() for extension in header.extensions] == [6]

    kept = call(store.path, "--to", "nifti", "--keep-text", "-o", tmp_path / "kept.nii.gz")
    assert kept.exit_code == 0, kept.output
    header = nibabel.load(tmp_path / "kept.nii.gz").header
    assert bytes(header["descrip"]).startswith(b"batchfuse ")
    assert [header[name].item() for name in ("aux_file", "intent_name", "db_name")] == [b"Doe^John"] * 3
    assert [extension.get_code() for extension in header.extensions] == [2, 6]


def test_a_long_description_is_cut(tmp_path: Path) -> None:
    sources = [{**RECORD["sources"][0], "role": "ä" * 90}, RECORD["sources"][1]]  # type: ignore[index]
    reference = write_nifti(tmp_path / "r.nii", anatomy())
    made = write_volume_store(tmp_path / "a.zarr", reference, anatomy())
    store = Store.create(tmp_path / "b.zarr", made.layout, {**RECORD, "sources": sources})
    for tile in store.tiling:
        store.write(tile, anatomy()[tile.core.slices][None])
    store.seal()
    header = nibabel.load(export(store, NIFTI, tmp_path / "b.nii.gz").path).header
    assert len(header["descrip"].item()) == 79


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_integers_keep_slope_and_intercept(tmp_path: Path, dtype: str) -> None:
    values = anatomy().astype(dtype)
    reference = write_nifti(tmp_path / "r.nii", anatomy())
    store = write_volume_store(tmp_path / "a.zarr", reference, values, scale=0.5, offset=-100.0)
    made = export(store, NIFTI, tmp_path / "a.nii.gz")
    assert made.dtype == dtype
    image = nibabel.load(made.path)
    assert image.get_data_dtype() == dtype
    np.testing.assert_allclose(image.get_fdata(), values.T * 0.5 - 100)
    np.testing.assert_allclose(
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(made.path)), values * 0.5 - 100, rtol=1e-6
    )


def test_float16_is_written_as_float32_with_a_word(tmp_path: Path) -> None:
    values = anatomy().astype(np.float16)
    reference = write_nifti(tmp_path / "r.nii", anatomy())
    made = export(write_volume_store(tmp_path / "a.zarr", reference, values), NIFTI, tmp_path / "a.nii.gz")
    assert made.dtype == "float32"
    assert made.warnings == ("NIfTI has no float16: the values are written as float32",)
    assert np.array_equal(nibabel.load(made.path).get_fdata(), values.T)


@pytest.mark.parametrize("stretch", ["minmax", "percentiles"])
def test_a_stretch_is_of_the_whole_volume(tmp_path: Path, stretch: str) -> None:
    values = holes(anatomy(), np.nan)
    reference = write_nifti(
        tmp_path / "r.nii", anatomy(), header={"scl_slope": 3.0, "scl_inter": 0.0, "cal_max": 200.0}
    )
    store = write_volume_store(tmp_path / "a.zarr", reference, values)
    made = export(store, Export(to="nifti", stretch=stretch), tmp_path / "a.nii.gz")  # type: ignore[arg-type]
    image = nibabel.load(made.path)
    assert image.get_data_dtype() == np.uint8
    assert image.header["cal_max"] == 0
    valid = values[~np.isnan(values)].astype(np.float64)
    low, high = (valid.min(), valid.max()) if stretch == "minmax" else np.percentile(valid, [2, 98])
    expected = np.floor(np.clip((values.astype(np.float64) - low) / (high - low), 0, 1) * 255)
    # 0 is what invalid voxels hold, and a valid 0 moves by one
    expected = np.where(np.isnan(values), 0, np.maximum(expected, 1))
    assert np.array_equal(image.get_fdata(), expected.T)


@pytest.mark.parametrize("tiles", [(1, 30, 40), (20, 5, 40), (20, 30, 7), (6, 9, 8)])
def test_equal_stores_make_equal_bytes_however_they_are_cut(tmp_path: Path, tiles: tuple[int, ...]) -> None:
    reference = write_nifti(tmp_path / "r.nii", anatomy())
    files = []
    for name, sizes in (("a", (8, 12, 16)), ("b", tiles)):
        store = write_volume_store(tmp_path / name / "s.zarr", reference, anatomy(), tile_sizes=sizes)
        files.append(export(store, NIFTI, tmp_path / f"{name}.nii.gz").path.read_bytes())
    assert files[0] == files[1]
    assert files[0][4:8] == bytes(4)  # gzip's own time
    assert not files[0][3] & 8  # and name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.nii.gz", "b", "b.nii.gz", "r.nii"]


def test_nifti_2_stays_nifti_2(tmp_path: Path) -> None:
    reference = write_nifti(tmp_path / "r.nii", anatomy(), kind=nibabel.Nifti2Image)
    store = write_volume_store(tmp_path / "a.zarr", reference, anatomy())
    image = nibabel.load(export(store, NIFTI, tmp_path / "a.nii.gz").path)
    assert isinstance(image, nibabel.Nifti2Image)
    assert np.array_equal(image.get_fdata(), anatomy().T)


def test_a_run_keeps_what_is_alike_and_knows_what_is_stale(tmp_path: Path) -> None:
    reference = write_nifti(tmp_path / "r.nii", anatomy())
    store = write_volume_store(tmp_path / "a.zarr", reference, anatomy())
    first = export_again(store.path, NIFTI, anew=False)
    assert (first.kept, first.path.name) == (False, "a.nii.gz")
    assert export_again(store.path, NIFTI, anew=False).kept
    assert not export_again(store.path, Export(to="nifti", keep_text=True), anew=False).kept
    signature = nifti_signature_of(first.path)
    assert signature is not None
    assert set(signature) == {"dtype", "stretch", "store", "keep_text"}
    assert outdated(store.path, []) == []
    changed = json.loads((store.path / "zarr.json").read_text())
    changed["attributes"]["batchfuse"]["version"] = "9"
    (store.path / "zarr.json").write_text(json.dumps(changed))
    assert outdated(store.path, []) == ["a.nii.gz"]
    assert outdated(store.path, [NIFTI]) == []
    write_nifti(first.path, anatomy())  # a user's own
    assert nifti_signature_of(first.path) is None
    with pytest.raises(StoreError, match="is there and is no export of batchfuse"):
        export_again(store.path, NIFTI, anew=True)
    first.path.write_bytes(b"no NIfTI")
    assert nifti_signature_of(first.path) is None


def test_what_a_format_can_t_hold_is_one_line(tmp_path: Path) -> None:
    reference = write_nifti(tmp_path / "r.nii", anatomy())
    store = write_volume_store(tmp_path / "a.zarr", reference, anatomy())
    level = next(levels_of(store), None)
    assert level is None  # small enough
    raster = write_store(tmp_path / "b.zarr", scenery("float32"))
    for path, to, said in (
        (store.path, "cog", "a GeoTIFF holds no volume: export nifti"),
        (store.path, "png", "a PNG holds no volume: export nifti; the quicklook shows cuts through it"),
        (raster.path, "nifti", "NIfTI is for volumes, and the image is a raster: export a cog or a png"),
    ):
        done = call(path, "--to", to)
        assert (done.exit_code, done.stderr) == (1, f"batchfuse: {path}: {said}\n")
    done = call(store.path, "--to", "nifti", "-o", tmp_path / "a.nii")
    assert (done.exit_code, "a nifti is a .nii.gz file" in done.stderr) == (2, True)


def test_a_level_is_not_exported(tmp_path: Path) -> None:
    values = anatomy((20, 26, 200))
    store = write_volume_store(tmp_path / "a.zarr", write_nifti(tmp_path / "r.nii", values), values)
    level = next(levels_of(store))
    made = begun_level(store, level)
    for tile in made.tiling:
        made.write(tile, np.zeros((1, *tile.core.shape), np.float32))
    made.seal()
    with pytest.raises(StoreError, match="is a reduced level"):
        export(Store.open(level.path), NIFTI, tmp_path / "l.nii.gz")


def test_a_damaged_tile_is_named_and_leaves_no_file(tmp_path: Path) -> None:
    reference = write_nifti(tmp_path / "r.nii", anatomy())
    store = write_volume_store(tmp_path / "a.zarr", reference, anatomy())
    chunk = store.chunk_path((1, 0, 1))
    chunk.write_bytes(chunk.read_bytes()[:-9])
    with pytest.raises(StoreError, match=r"tile \(1, 0, 1\) is damaged"):
        export(store, NIFTI, tmp_path / "a.nii.gz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "r.nii"]


def test_a_file_that_does_not_come_back_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = write_nifti(tmp_path / "r.nii", anatomy())
    store = write_volume_store(tmp_path / "a.zarr", reference, anatomy())
    monkeypatch.setattr(nifti_file, "_compress", lambda *paths: paths[2].write_bytes(b"") or 7)
    with pytest.raises(StoreError, match="does not come back"):
        export(store, NIFTI, tmp_path / "a.nii.gz")
    monkeypatch.undo()
    header = store.layout.header  # type: ignore[attr-defined]
    with pytest.raises(StoreError, match="did not arrive"):
        write_file(header, (20, 26, 31), "float32", [], tmp_path / "b.nii.gz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "r.nii"]
    assert read_header(header).get_data_shape() == (31, 26, 20)


MEMORY = """
import resource, sys
from pathlib import Path
from batchfuse.exports import export
from batchfuse.recipe import Export
from batchfuse.storage.store import Store
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
export(Store.open(Path(sys.argv[1])), Export(to="nifti"), Path(sys.argv[2]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
@pytest.mark.parametrize("tiles", [(8, 256, 256), (160, 256, 8)])
def test_memory_does_not_grow_with_the_volume(tmp_path: Path, tiles: tuple[int, ...]) -> None:
    """42 MB of voxels in tiles of 1 to 2 MB."""
    values = np.zeros((160, 256, 256), np.float32)
    values[:, ::2] = np.random.default_rng(0).integers(0, 9, (160, 128, 256))
    reference = write_nifti(tmp_path / "r.nii", values)
    store = write_volume_store(tmp_path / "a.zarr", reference, values, tile_sizes=tiles)
    words = [sys.executable, "-c", MEMORY, str(store.path), str(tmp_path / "a.nii.gz")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 35, done.stdout
    assert math.isclose(nibabel.load(tmp_path / "a.nii.gz").get_fdata().sum(), values.sum(dtype=np.float64))
