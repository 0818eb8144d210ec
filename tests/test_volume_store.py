"""A store of a volume: OME-Zarr that validates, the reference's header, and nothing lost."""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import ome_zarr_models.v04
import ome_zarr_models.v05
import pydantic_zarr.v2
import pytest
import zarr
from click.testing import CliRunner
from numpy.typing import NDArray
from test_store import contents
from volume_stores import (
    AFFINE,
    anatomy,
    oblique,
    oriented,
    reference_header,
    volume_layout,
    write_nifti,
    write_volume_store,
)

from batchfuse.cli import commands
from batchfuse.errors import StoreError
from batchfuse.geometry.tiling import Tiling
from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.geometry.window import Window
from batchfuse.status import status_of
from batchfuse.storage import volume
from batchfuse.storage.check import check_store, stores_in
from batchfuse.storage.contents import described
from batchfuse.storage.nifti_header import header_for, read_header
from batchfuse.storage.pyramid import begun_level, levels_of, write_level
from batchfuse.storage.store import Store, VolumeLayout, is_store

FORMS: dict[str, dict[str, Any]] = {
    "format 2": {"zarr_format": 2},
    "format 3": {"zarr_format": 3},
    "shards": {"zarr_format": 3, "tile_sizes": (8, 12, 16), "inner": 4},
}
each = pytest.mark.parametrize("form", FORMS)


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return write_nifti(tmp_path / "reference.nii.gz", anatomy(seed=1))


def with_levels(store: Store) -> Store:
    below = store
    for level in levels_of(store):
        made = begun_level(store, level)
        for tile in made.unwritten(made.tiling):
            write_level(below, made, tile)
        made.seal()
        below = made
    store.seal()
    return Store.open(store.path)


def validated(path: Path) -> Any:
    group = zarr.open_group(path, mode="r")
    if group.metadata.zarr_format == 3:
        return ome_zarr_models.v05.Image.from_zarr(group).attributes.ome.multiscales[0]
    # its own model is left unfinished by pydantic 2.14
    ome_zarr_models.v04.Image.model_rebuild(
        _types_namespace={"ArraySpec": pydantic_zarr.v2.ArraySpec, "GroupSpec": pydantic_zarr.v2.GroupSpec}
    )
    return ome_zarr_models.v04.Image.from_zarr(group).attributes.multiscales[0]


@each
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "uint16", "int16"])
def test_what_is_written_is_read_back(tmp_path: Path, reference: Path, form: str, dtype: str) -> None:
    values = anatomy().astype(dtype)
    packing = {} if dtype[0] == "f" else {"scale": 0.25, "offset": -3.0}
    store = write_volume_store(tmp_path / "a.zarr", reference, values, **{**FORMS[form], **packing})
    again = Store.open(store.path)
    assert again.complete
    assert again.layout.differences(store.layout) == []
    assert isinstance(again.layout, VolumeLayout)
    assert (again.shape, again.bands, again.dtype) == ((1, 20, 26, 31), ("fused",), dtype)
    assert (again.layout.scale, again.layout.offset) == (packing.get("scale"), packing.get("offset"))
    assert again.grid == VolumeGrid.of((20, 26, 31), AFFINE)
    assert (again.read(Window((0, 0, 0), (20, 26, 31))) == values).all()
    part = Window((3, 11, 15), (17, 13, 31))
    assert (again.read(part)[0] == values[part.slices]).all()
    header = read_header(again.layout.header)
    assert header.get_data_dtype() == (np.float32 if dtype == "float16" else np.dtype(dtype))
    assert (header["scl_slope"], header["scl_inter"]) == (packing.get("scale", 1), packing.get("offset", 0))


@each
def test_every_store_is_valid_ome_zarr_with_and_without_levels(
    tmp_path: Path, reference: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write_volume_store(tmp_path / "a.zarr", reference, anatomy(), **FORMS[form])
    assert [d.path for d in validated(store.path).datasets] == ["0"]
    monkeypatch.setattr(volume, "SMALLEST", 8)
    store = with_levels(store)
    found = validated(store.path)
    assert [d.path for d in found.datasets] == ["0", "1", "2", "3"]
    assert [(axis.name, axis.unit) for axis in found.axes] == [(n, "millimeter") for n in "zyx"]
    group = zarr.open_group(store.path, mode="r", use_consolidated=True)
    assert sorted(group.array_keys()) == ["0", "1", "2", "3", "nifti"]
    assert group["0"].attrs["_ARRAY_DIMENSIONS" if form == "format 2" else "affine"]
    assert check_store(store.path).faults == ()
    assert check_store(store.path).levels == 3


@pytest.mark.parametrize("letters", ["RAS", "LAS", "LPS", "AIL", "PSR"])
def test_scale_and_translation_are_measured_along_the_array_s_own_axes(tmp_path: Path, letters: str) -> None:
    affine = oriented(letters)
    reference = write_nifti(tmp_path / "r.nii", anatomy(), affine)
    store = write_volume_store(tmp_path / "a.zarr", reference, anatomy())
    (scale, translation) = validated(store.path).datasets[0].coordinateTransformations
    grid = VolumeGrid.of((20, 26, 31), affine)
    assert grid.orientation == letters
    np.testing.assert_allclose(scale.scale, grid.spacing, rtol=1e-6)
    for axis, place in enumerate(translation.translation):
        world = next(w for w, (a, _) in enumerate(grid.axes) if a == axis)
        sign = 1 if grid.axes[world][1] else -1
        assert place == pytest.approx(sign * affine[world, 3], abs=1e-4)


@pytest.mark.parametrize("affine", [AFFINE, oblique(), oriented("PSR")])
@pytest.mark.parametrize("spacing", [(1, 1, 1), (1, 1, 4), (1, 2, 1), (3, 1, 1)])
def test_a_level_lies_where_its_voxels_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, affine: NDArray[Any], spacing: tuple[float, ...]
) -> None:
    monkeypatch.setattr(volume, "SMALLEST", 8)
    affine = affine.copy()
    affine[:3, :3] = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0) * spacing
    reference = write_nifti(tmp_path / "r.nii", anatomy((21, 26, 31)), affine)
    store = write_volume_store(tmp_path / "a.zarr", reference, anatomy((21, 26, 31)), sealed=False)
    fine = store.grid
    for level in levels_of(store):
        coarse = level.layout.grid
        factors = [round(c / f) for c, f in zip(coarse.spacing, fine.spacing, strict=True)][::-1]
        # the centre of the first block, and of one further in
        for block in ([0, 0, 0], [1, 2, 3]):
            corner = np.array(block) * factors
            centre = corner + (np.array(factors) - 1) / 2
            expected = store.grid.affine @ [*centre, 1]
            np.testing.assert_allclose(coarse.affine @ [*block, 1], expected, atol=1e-9)
        before = max(store.grid.spacing) / min(store.grid.spacing)
        assert max(coarse.spacing) / min(coarse.spacing) <= max(before, math.sqrt(2)) + 1e-5
        assert max(factors) >= 2
        datasets = validated(with_levels(store).path).datasets[level.number]
        np.testing.assert_allclose(datasets.coordinateTransformations[0].scale, coarse.spacing)


def plainly_reduced(values: NDArray[Any], factors: tuple[int, ...]) -> NDArray[Any]:
    shape = tuple(-(-n // f) for n, f in zip(values.shape, factors, strict=True))
    made = np.empty(shape, values.dtype)
    for index in np.ndindex(shape):
        block = values[tuple(slice(i * f, i * f + f) for i, f in zip(index, factors, strict=True))].ravel()
        valid = [float(value) for value in block if value == value]
        made[index] = math.fsum(valid) / len(valid) if valid else math.nan
    return made


@each
def test_a_level_is_the_mean_of_valid_voxels_as_the_plainest_loop_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(volume, "SMALLEST", 14)
    values = anatomy()
    values[np.random.default_rng(2).random(values.shape) < 0.5] = np.nan
    values[:4, :4, :4] = np.nan
    reference = write_nifti(tmp_path / "r.nii", values)  # voxels of 1.5 x 2 x 3.25 mm
    store = with_levels(write_volume_store(tmp_path / "a.zarr", reference, values, **FORMS[form]))
    group = zarr.open_group(store.path, mode="r")
    first = plainly_reduced(values, (1, 2, 2))
    assert np.array_equal(group["1"][...], first, equal_nan=True)
    assert np.array_equal(group["2"][...], plainly_reduced(first, (2, 2, 2)), equal_nan=True)


# --- the header ---------------------------------------------------------------------------------


def info(path: Path) -> list[str]:
    """What `batchfuse info` prints."""
    return CliRunner().invoke(commands, ["info", str(path)]).output.splitlines()


def stored_image(path: Path) -> Any:
    """The three lines of the docs."""
    group = zarr.open_group(path, mode="r")
    header = nibabel.Nifti1Header.from_fileobj(io.BytesIO(group["nifti"][:].tobytes()))
    return nibabel.Nifti1Image(group["0"][:].T, header.get_best_affine(), header)


@each
@pytest.mark.parametrize("name", ["reference.nii", "reference.nii.gz"])
@pytest.mark.parametrize("affine", [AFFINE, oblique(), oriented("LPS")])
def test_the_header_comes_back_byte_for_byte(
    tmp_path: Path, form: str, name: str, affine: NDArray[Any]
) -> None:
    texts = {
        "descrip": b"scanner 7",
        "aux_file": b"a",
        "db_name": b"Doe^J",
        "intent_name": b"x",
        "cal_max": 9,
    }
    reference = write_nifti(
        tmp_path / name,
        anatomy(),
        affine,
        sform=2,
        header=texts,
        extensions=((6, b"a comment"), (2, b"\x08\0\x05\0")),
    )
    store = write_volume_store(tmp_path / "a.zarr", reference, anatomy(), **FORMS[form])
    file = reference.read_bytes()
    raw = gzip.decompress(file) if name.endswith("gz") else file
    found = zarr.open_group(store.path, mode="r")["nifti"][:].tobytes()
    assert found == raw[: len(raw) - anatomy().nbytes]
    image, expected = stored_image(store.path), nibabel.load(reference)
    assert np.array_equal(image.get_fdata(), anatomy().T)
    assert np.array_equal(image.affine, expected.affine)
    assert [e.get_code() for e in image.header.extensions] == [6, 2]
    assert "codes 6, 2), which may name the patient" in "\n".join(info(store.path))


def fields(header: Any) -> dict[str, Any]:
    return {name: np.array(header[name]).tolist() for name in header.keys()}  # noqa: SIM118


@pytest.mark.parametrize("kind", ["big-endian", "pair", "NIfTI-2", "4-D", "uint8 with a slope"])
def test_only_what_must_differ_does(tmp_path: Path, kind: str) -> None:
    values = anatomy()
    path = tmp_path / "r.nii"
    write_nifti(
        path, values, header={"descrip": b"of the scanner", "cal_max": 700.0}, extensions=((6, b"said"),)
    )
    image = nibabel.load(path)
    may: set[str] = {"vox_offset", "scl_slope", "scl_inter"}
    if kind == "big-endian":
        header = image.header.as_byteswapped(">")
        nibabel.Nifti1Image(values.T, image.affine, header).to_filename(path)
        assert path.read_bytes()[:4] == b"\0\0\1\x5c"
    elif kind == "pair":
        path = tmp_path / "r.hdr"
        nibabel.Nifti1Pair(values.T, image.affine, image.header).to_filename(path)
        may |= {"magic"}
    elif kind == "NIfTI-2":
        nibabel.Nifti2Image(values.T, image.affine, image.header).to_filename(path)
    elif kind == "4-D":
        nibabel.Nifti1Image(np.stack([values.T, values.T], -1), image.affine, image.header).to_filename(path)
        may |= {"dim"}
    else:
        write_nifti(path, values.astype(np.uint8), header={"scl_slope": 0.5, "scl_inter": 1.0})
        may |= {"datatype", "bitpix"}
    store = write_volume_store(tmp_path / "a.zarr", path, values)
    loaded = nibabel.load(path).header
    found = read_header(store.layout.header)
    assert found.endianness == "<"
    assert {name for name, value in fields(found).items() if value != fields(loaded)[name]} <= may
    assert found.get_data_shape() == (31, 26, 20)
    assert (found["scl_slope"], found["scl_inter"]) in ((1, 0),) or np.isnan(found["scl_slope"])
    np.testing.assert_array_equal(found.get_best_affine(), loaded.get_best_affine())
    if kind not in ("4-D", "uint8 with a slope"):
        assert [e.get_content() for e in found.extensions] == [e.get_content() for e in loaded.extensions]
    if kind == "pair":
        assert (
            header_for(reference_header(tmp_path / "r.img"), store.grid, "float32", None, None)
            == store.layout.header
        )


@pytest.mark.parametrize(("qform", "sform"), [(1, 1), (1, 0), (0, 2), (0, 0)])
@pytest.mark.parametrize("start", [(3, 4, 5), (-2, 0, 1)])
def test_a_cropped_volume_keeps_its_place(
    tmp_path: Path, qform: int, sform: int, start: tuple[int, int, int]
) -> None:
    reference = write_nifti(tmp_path / "r.nii", anatomy(), oblique(), qform=qform, sform=sform)
    best = nibabel.load(reference).affine
    whole = VolumeGrid.of((20, 26, 31), best)
    grid = whole.cropped(Window(start, tuple(a + 9 for a in start)))
    header = read_header(header_for(reference_header(reference), grid, "float32", None, None))
    assert header.get_data_shape() == (9, 9, 9)
    np.testing.assert_allclose(header.get_best_affine(), grid.affine, atol=1e-4)
    if qform:
        np.testing.assert_allclose(header.get_qform(), grid.affine, atol=1e-4)
    expected = (qform, sform) if qform or sform else (0, 2)
    assert (header["qform_code"], header["sform_code"]) == expected


def test_more_voxels_than_nifti_1_counts_make_a_header_of_nifti_2(tmp_path: Path) -> None:
    reference = write_nifti(tmp_path / "r.nii", anatomy(), header={"descrip": b"kept"})
    grid = VolumeGrid.of((20, 26, 31), AFFINE).cropped(Window((0, 0, 0), (2, 2, 40_000)))
    header = read_header(header_for(reference_header(reference), grid, "uint8", 0.5, 0.0))
    assert (header.sizeof_hdr, header.get_data_shape(), header["descrip"]) == (540, (40_000, 2, 2), b"kept")
    np.testing.assert_allclose(header.get_best_affine(), AFFINE)


@pytest.mark.parametrize("content", [b"", b"no header", bytes(400), b"\x5c\1\0\0"])
def test_what_is_no_header_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="doesn't begin as a NIfTI file does"):
        header_for(content, VolumeGrid.of((1, 1, 1), np.eye(4)), "uint8", None, None)


# --- nothing is lost ----------------------------------------------------------------------------


@each
def test_a_flipped_bit_is_found_and_its_tile_named(tmp_path: Path, reference: Path, form: str) -> None:
    store = write_volume_store(tmp_path / "a.zarr", reference, anatomy(), **FORMS[form])
    values = anatomy()
    rng = random.Random(3)
    harmless = 0
    for _ in range(40):
        tile = rng.choice(list(store.tiling))
        path = store.chunk_path(tile.index)
        good = path.read_bytes()
        bad = bytearray(good)
        bit = rng.randrange(8 * len(bad))
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        if faults := check_store(store.path).faults:
            assert [(fault.kind, fault.path) for fault in faults] == [("damaged", path)]
            assert f"tile {tile.index} is damaged" in faults[0].what
        else:
            assert (store.read(tile.core)[0] == values[tile.core.slices]).all()
            harmless += 1
        path.write_bytes(good)
    assert harmless <= 2
    assert check_store(store.path).faults == ()


@each
def test_missing_and_foreign_files_are_each_named(tmp_path: Path, reference: Path, form: str) -> None:
    store = write_volume_store(tmp_path / "a.zarr", reference, anatomy(), **FORMS[form])
    gone = store.chunk_path((1, 2, 0))
    gone.unlink()
    (store.path / "0" / "notes.txt").write_text("?")
    found = {(f.kind, f.path) for f in check_store(store.path).faults}
    assert found == {("missing", gone), ("foreign", store.path / "0" / "notes.txt")}
    header = store.layout.form.chunk(store.path, "nifti", (0,))
    header.write_bytes(header.read_bytes()[:-7])
    assert [fault.kind for fault in check_store(store.path).faults] == ["damaged"]
    assert CliRunner().invoke(commands, ["verify", str(store.path)]).exit_code == 1


def test_tiles_are_continued_and_two_orders_make_the_same_bytes(tmp_path: Path, reference: Path) -> None:
    whole = write_volume_store(tmp_path / "a.zarr", reference, anatomy())
    begun = Store.create(tmp_path / "b.zarr", volume_layout(reference), whole.record)
    done = begun.tiling[(1, 1, 1)]
    begun.write(done, anatomy()[done.core.slices][None])
    again = Store.open(begun.path)
    assert not again.complete
    left = again.unwritten(again.tiling)
    assert len(left) == len(again.tiling) - 1
    with pytest.raises(StoreError, match="tiles are missing"):
        again.seal()
    assert status_of(begun.path).scenes[0].state == "partial"
    for tile in reversed(left):
        again.write(tile, anatomy()[tile.core.slices][None])
    again.seal()
    assert contents(again.path) == contents(whole.path)
    assert status_of(tmp_path).count("done") == 2
    assert stores_in(tmp_path) == [tmp_path / "a.zarr", tmp_path / "b.zarr"]


@each
def test_tiles_of_invalid_voxels_are_done(tmp_path: Path, reference: Path, form: str) -> None:
    store = write_volume_store(
        tmp_path / "a.zarr", reference, np.full((20, 26, 31), np.nan, "float32"), **FORMS[form]
    )
    assert store.unwritten(store.tiling) == []
    assert check_store(store.path).faults == ()


@each
def test_levels_of_another_volume_are_made_again(
    tmp_path: Path, reference: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume, "SMALLEST", 8)
    store = with_levels(write_volume_store(tmp_path / "a.zarr", reference, anatomy(), **FORMS[form]))
    before = contents(store.path)
    first = next(levels_of(store))
    assert is_store(first.path)
    metadata = first.path / store.layout.form.metadata
    changed = json.loads(metadata.read_text())
    (changed if form == "format 2" else changed["attributes"])["batchfuse"]["version"] = "other"
    metadata.write_text(json.dumps(changed))
    Store.open(store.path / "2").chunk_path((0, 0, 0)).unlink()
    assert check_store(store.path).faults
    assert begun_level(store, first).unwritten(begun_level(store, first).tiling)
    with_levels(Store.open(store.path))
    assert contents(store.path) == before


KILLED = """
import sys
sys.path.insert(0, sys.argv[4])
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
from volume_stores import RECORD, volume_layout
from batchfuse.storage.store import Store
path, reference = Path(sys.argv[1]), Path(sys.argv[2])
more = {"zarr_format": 2} if sys.argv[3] == "2" else {"inner": 16}
layout = volume_layout(reference, tile_sizes=(16, 64, 64), **more)
store = Store.open(path) if path.exists() else Store.create(path, layout, RECORD)
values = np.random.default_rng(1).random((1, 40, 160, 150), "float32")
def write(tile):
    store.write(tile, values[(slice(None), *tile.core.slices)])
print("started", flush=True)
with ThreadPoolExecutor(2) as pool:
    while True:
        list(pool.map(write, store.tiling))
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_kill_9_leaves_no_torn_chunk_and_sweep_removes_the_rest(tmp_path: Path, zarr_format: int) -> None:
    values = np.random.default_rng(1).random((1, 40, 160, 150), "float32")
    reference = write_nifti(tmp_path / "r.nii", values[0])
    path = tmp_path / "a.zarr"
    rng = random.Random(2)
    tests = str(Path(__file__).parent)
    words = [sys.executable, "-c", KILLED, str(path), str(reference), str(zarr_format), tests]
    for _ in range(3):
        child = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"started\n"
        time.sleep(rng.uniform(0.005, 0.15))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        store = Store.open(path)
        store.sweep()
        assert not list(tmp_path.rglob("*.partial"))
        for tile in store.tiling:
            if store.is_written(tile.index):
                assert (store.read(tile.core) == values[(slice(None), *tile.core.slices)]).all()
    for tile in store.unwritten(store.tiling):
        store.write(tile, values[(slice(None), *tile.core.slices)])
    store.seal()
    assert check_store(path).faults == ()


# --- told ---------------------------------------------------------------------------------------


def test_info_tells_of_shape_spacing_orientation_and_levels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume, "SMALLEST", 20)
    reference = write_nifti(tmp_path / "r.nii", anatomy(), oriented("LPS"))
    store = with_levels(write_volume_store(tmp_path / "a.zarr", reference, anatomy()))
    told = described(store.path)
    assert json.loads(json.dumps(told)) == told
    assert (told["shape"], told["orientation"], told["tile_size"]) == ([20, 26, 31], "LPS", [8, 12, 16])
    np.testing.assert_allclose(told["spacing"], [3.25, 2, 1.5])
    assert told["nifti"] == {"version": 1, "bytes": 352, "qform_code": 1, "sform_code": 1, "extensions": []}
    said = info(store.path)
    assert "  31 x 26 x 20 voxels, float32, nodata NaN" in said
    assert "  OME-Zarr 0.5, Zarr format 3, 1 reduced level" in said
    assert any(line.startswith("  LPS, voxels 1.5 x 2 x 3.25 mm, the first at ") for line in said)
    level = described(store.path / "1")
    assert level["nifti"] is None
    assert "  reduced: a voxel is at most 2 voxels of the fused volume wide" in info(store.path / "1")
    shown = CliRunner().invoke(commands, ["verify", str(store.path)])
    assert "all right, 24 tiles in the image and 1 level" in shown.output


def test_a_layout_that_makes_no_sense_is_refused_when_made(reference: Path) -> None:
    for change, said in (
        ({"tile_sizes": (8, 8)}, r"tiles of \(8, 8\)"),
        ({"inner": 5}, "don't divide"),
        ({"zarr_format": 2, "inner": 4}, "no Zarr format 2"),
        ({"dtype": "float64"}, "none of float32"),
    ):
        with pytest.raises(ValueError, match=said):
            volume_layout(reference, **change)  # type: ignore[arg-type]
    tiling = Tiling((20, 26, 31), (4, 12, 16), 0)
    store = write_volume_store(reference.with_name("b.zarr"), reference, anatomy())
    with pytest.raises(ValueError, match="doesn't cut"):
        store.unwritten(tiling)
