"""Whatever is wrong with a store is found and named; what is right is said to be."""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from rasters import photo, write_raster
from test_format_3 import LAYOUTS
from test_store import GRID, LAYOUT, RECORD, WHOLE, fill_store, image

import batchfuse
from batchfuse import scene_jobs
from batchfuse.cli import commands
from batchfuse.encoding import Encoding
from batchfuse.errors import StoreError
from batchfuse.exactness import LIMIT, compared, measure, merged, places
from batchfuse.geometry.tiling import Tiling
from batchfuse.geometry.window import Window
from batchfuse.storage.check import Fault, check_store, stores_in
from batchfuse.storage.store import RasterLayout, Store, stores_within

FORMS: dict[str, RasterLayout] = {
    "format 2": LAYOUT,
    "format 3": LAYOUTS["plain"],
    "shards": LAYOUTS["shards"],
}
each = pytest.mark.parametrize("form", FORMS)


def sealed(path: Path, form: str) -> Store:
    store = Store.create(path, FORMS[form], RECORD)
    fill_store(store)
    store.seal()
    return store


def found(path: Path) -> list[tuple[str, str]]:
    """(kind, file) of each fault."""
    return [(fault.kind, named(fault, path)) for fault in check_store(path).faults]


def named(fault: Fault, path: Path) -> str:
    assert "\n" not in fault.what
    return fault.path.relative_to(path.parent).as_posix()


def files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file())


@each
def test_a_store_that_is_right_has_no_fault(tmp_path: Path, form: str) -> None:
    store = sealed(tmp_path / "a.zarr", form)
    checked = check_store(store.path)
    assert checked.faults == ()
    assert (checked.complete, checked.tiles, checked.levels) == (True, 9, 0)


@each
def test_every_flipped_bit_is_found_and_its_file_named(tmp_path: Path, form: str) -> None:
    store = sealed(tmp_path / "a.zarr", form)
    chunks = [store.chunk_path(tile.index) for tile in store.tiling]
    rng = random.Random(7)
    for _ in range(150):
        path = rng.choice(chunks)
        good = path.read_bytes()
        bad = flipped(good, rng.randrange(8 * len(good)))
        path.write_bytes(bad)
        ((kind, name),) = found(store.path)
        assert name == path.relative_to(tmp_path).as_posix()
        if kind == "foreign":  # a few bits of zstd's own headers mean nothing: no pixel is changed by them
            assert (store.read(WHOLE) == image()).all()
        else:
            assert kind == "damaged"
        path.write_bytes(good)
    assert found(store.path) == []


def test_every_flipped_bit_of_a_shards_index_is_found(tmp_path: Path) -> None:
    store = sealed(tmp_path / "a.zarr", "shards")
    path = store.chunk_path((1, 0))
    good = path.read_bytes()
    index = 9 * 16 + 4  # offset and length of 3 x 3 chunks, and the crc32c of them
    for bit in range(8 * (len(good) - index), 8 * len(good), 7):
        path.write_bytes(flipped(good, bit))
        assert found(store.path) == [("damaged", "a.zarr/fused/c/0/1/0")], bit


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@each
def test_missing_empty_truncated_and_foreign_files_are_each_named(tmp_path: Path, form: str) -> None:
    store = sealed(tmp_path / "a.zarr", form)
    paths = {index: store.chunk_path(index) for index in ((0, 0), (0, 1), (1, 1), (2, 2))}
    paths[(0, 0)].unlink()
    paths[(0, 1)].write_bytes(b"")
    paths[(1, 1)].write_bytes(paths[(1, 1)].read_bytes()[:-5])
    paths[(2, 2)].write_bytes(paths[(2, 2)].read_bytes() + b"more")
    foreign = [store.path / "fused" / "1.partial", paths[(1, 1)].with_name(paths[(1, 1)].name + ".bak")]
    for path in foreign:
        path.write_bytes(b"?")
    names = {index: path.relative_to(tmp_path).as_posix() for index, path in paths.items()}
    expected = {
        ("missing", names[(0, 0)]),
        ("empty", names[(0, 1)]),
        ("damaged", names[(1, 1)]),
        ("damaged", names[(2, 2)]),
        *(("foreign", path.relative_to(tmp_path).as_posix()) for path in foreign),
    }
    assert set(found(store.path)) == expected
    assert len(found(store.path)) == len(expected)


@each
def test_a_whole_chunk_of_another_place_or_store_is_foreign(tmp_path: Path, form: str) -> None:
    store = sealed(tmp_path / "a.zarr", form)
    here, there = store.chunk_path((0, 0)), store.chunk_path((1, 1))
    shutil.copy(there, here)
    assert found(store.path) == [("foreign", here.relative_to(tmp_path).as_posix())]
    other = Store.create(tmp_path / "b.zarr", FORMS[form], RECORD)
    for tile in other.tiling:
        other.write(tile, np.full((3, *tile.core.shape), 7, other.dtype))
    shutil.copy(other.chunk_path((0, 0)), here)
    assert found(store.path) == [("foreign", here.relative_to(tmp_path).as_posix())]


@each
def test_a_chunk_of_another_shape_is_damaged(tmp_path: Path, form: str) -> None:
    store = sealed(tmp_path / "a.zarr", form)
    layout = RasterLayout(
        GRID, ("fused",), "uint8", 0, 48, FORMS[form].scale, zarr_format=FORMS[form].zarr_format
    )
    other = Store.create(tmp_path / "b.zarr", layout, {})
    fill_store(other)
    shutil.copy(other.chunk_path((0, 0)), store.chunk_path((0, 0)))
    assert [kind for kind, _ in found(store.path)] == ["damaged"]


@each
def test_every_file_but_the_chunks_is_checked_too(tmp_path: Path, form: str) -> None:
    store = sealed(tmp_path / "a.zarr", form)
    chunks = {store.chunk_path(tile.index) for tile in store.tiling}
    for path in files(store.path):
        if path in chunks:
            continue
        good = path.read_bytes()
        path.unlink()
        assert found(store.path), f"{path} is gone and nothing said"
        path.write_bytes(good[: len(good) // 2])
        assert found(store.path), f"{path} is half and nothing said"
        path.write_bytes(good)
    assert found(store.path) == []


@each
def test_a_store_that_is_not_sealed_is_said_to_be_so(tmp_path: Path, form: str) -> None:
    store = Store.create(tmp_path / "a.zarr", FORMS[form], RECORD)
    fill_store(store)
    assert found(store.path) == [("incomplete", "a.zarr")]


def test_metadata_that_was_changed_is_found(tmp_path: Path) -> None:
    for form, inside in (("format 2", "fused/.zattrs"), ("format 3", "fused/zarr.json")):
        path = sealed(tmp_path / f"{form}.zarr", form).path
        changed = path / inside
        changed.write_text(changed.read_text().replace("spatial_ref", "spatial_rex", 1))
        assert found(path) == [("damaged", f"{form}.zarr/{inside}")]


@each
def test_another_record_is_told_without_a_word_against_any_chunk(tmp_path: Path, form: str) -> None:
    store = sealed(tmp_path / "a.zarr", form)
    other = Store.create(tmp_path / "b.zarr", FORMS[form], {**RECORD, "version": "another"})
    fill_store(other)
    other.seal()
    shutil.copy(other.digests_path, store.digests_path)
    assert found(store.path) == [("disagrees", f"a.zarr/{store.layout.form.metadata}")]
    name = store.digests_path.relative_to(tmp_path).as_posix()
    store.digests_path.write_bytes(b"{}")
    assert found(store.path) == [("damaged", name)]
    store.digests_path.unlink()
    assert found(store.path) == [("missing", name)]


@each
def test_each_bit_of_the_digests_counts(tmp_path: Path, form: str) -> None:
    store = sealed(tmp_path / "a.zarr", form)
    good = store.digests_path.read_bytes()
    rng = random.Random(3)
    for bit in [rng.randrange(8 * len(good)) for _ in range(60)]:
        store.digests_path.write_bytes(flipped(good, bit))
        assert store.digests() is None, bit
    store.digests_path.write_bytes(good)
    digests = store.digests()
    assert digests is not None
    assert digests.record == store.record
    names = {path.relative_to(store.path).as_posix() for path in files(store.path)}
    assert names - set(digests.files) == {store.named(store.digests_path)}


def test_a_coordinate_that_is_not_the_grids_is_found(tmp_path: Path) -> None:
    import zarr

    path = sealed(tmp_path / "a.zarr", "format 3").path
    array = zarr.open_array(path / "x", mode="r+")
    array[3] = 0
    assert found(path) == [("damaged", "a.zarr/x/c/0")]


def test_a_store_that_cannot_be_opened_is_a_fault_among_the_others(tmp_path: Path) -> None:
    sealed(tmp_path / "a.zarr", "format 2")
    broken = sealed(tmp_path / "b.zarr", "format 2").path
    (broken / ".zattrs").write_bytes(b"{")
    assert stores_in(tmp_path) == [tmp_path / "a.zarr", broken]
    assert found(broken) == [("damaged", "b.zarr")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="holds no store"):
        stores_in(tmp_path / "empty")


def test_what_a_kill_left_under_a_hidden_name_is_no_store_of_a_folder(tmp_path: Path) -> None:
    store = sealed(tmp_path / "a.zarr", "format 2")
    shutil.copytree(store.path, tmp_path / f".b.zarr.{'0' * 32}.partial")
    assert stores_in(tmp_path) == [store.path]
    assert stores_within(tmp_path) == [store.path]


def test_a_damaged_store_is_not_passed_over_for_the_levels_inside(tmp_path: Path) -> None:
    make_pair(tmp_path)
    store = fused(tmp_path, output={"zarr_format": 3, "pyramid": True}) / "a.zarr"
    assert stores_in(store) == [store]
    (store / "zarr.json").write_bytes(b"{")
    assert stores_in(store) == [store]
    assert found(store) == [("damaged", "a.zarr")]
    fused(tmp_path, output={"path": "fused/two", "pyramid": True})
    levels = tmp_path / "fused/two/a.levels.zarr"
    assert stores_in(levels) == [levels / "1"]


# --- a run, and the command ----------------------------------------------------------------------


INPUTS = {"thermal": "in/{scene}_thermal.tif", "optical": "in/{scene}_optical.tif"}


def make_pair(folder: Path, name: str = "a", shape: tuple[int, int] = (300, 280)) -> None:
    for role, seed, bands in (("thermal", 1, 1), ("optical", 2, 3)):
        pixels = np.rint(photo(shape, seed, bands) * 5000 + 1000).astype(np.uint16)
        pixels[:, :9, 20:90] = 0
        write_raster(folder / "in" / f"{name}_{role}.tif", pixels, nodata=0)


def fused(folder: Path, **settings: Any) -> Path:
    settings = {"tiles": {"size": 96}, **settings}
    report = batchfuse.run(batchfuse.Recipe(inputs=INPUTS, folder=folder, **settings))
    assert report.exit_code == 0, report.outcomes
    return folder / "fused"


def verify(*arguments: object) -> Result:
    return CliRunner().invoke(commands, ["verify", *map(str, arguments)])


@pytest.mark.parametrize("output", [{}, {"zarr_format": 3}, {"zarr_format": 3, "shard": 48}])
def test_a_run_with_a_pyramid_is_right_and_a_lost_level_is_named(
    tmp_path: Path, output: dict[str, Any]
) -> None:
    make_pair(tmp_path)
    folder = fused(tmp_path, output={"pyramid": True, **output})
    done = verify(folder)
    assert (done.exit_code, done.output) == (
        0,
        f"{folder / 'a.zarr'}: all right, 16 tiles in the image and 1 level\n",
    )
    level = next(path for path in (folder / "a.zarr/ovr_2x", folder / "a.levels.zarr/1") if path.exists())
    chunk = Store.open(level).chunk_path((1, 1))
    chunk.write_bytes(b"damaged")
    done = verify(folder)
    assert done.exit_code == 1
    assert chunk.name in done.output
    shutil.rmtree(level)
    assert "missing" in verify(folder).output


def test_the_command_names_every_fault_and_counts_the_stores(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_pair(tmp_path, name, (100, 100))
    folder = fused(tmp_path)
    (folder / "b.zarr/fused/0.1.1").write_bytes(b"no chunk")
    (folder / "b.zarr/fused/0.9.9").write_bytes(b"of another image")
    done = verify(folder)
    assert done.exit_code == 1
    lines = done.output.splitlines()
    assert lines[0] == f"{folder / 'a.zarr'}: all right, 4 tiles"
    assert lines[1] == f"{folder / 'b.zarr'}: 2 things wrong"
    assert lines[2].startswith("  damaged: fused/0.1.1: tile (1, 1) is damaged (")
    assert lines[3] == "  foreign: fused/0.9.9: not a file of this store: delete it"
    assert lines[4] == "2 stores, 1 with something wrong"
    described = json.loads(verify(folder, "--json").output)
    assert [store["right"] for store in described] == [True, False]
    assert [fault["kind"] for fault in described[1]["faults"]] == ["damaged", "foreign"]
    assert verify(folder / "a.zarr").exit_code == 0
    assert verify(tmp_path / "nowhere").exit_code == 1
    assert verify(folder, "--folder", tmp_path).exit_code == 2


def test_verify_imports_no_torch_unless_it_fuses(tmp_path: Path) -> None:
    make_pair(tmp_path, shape=(60, 60))
    folder = fused(tmp_path)
    code = (
        "import sys\nfrom batchfuse.cli import commands\n"
        f"try:\n    commands(['verify', {str(folder)!r}])\n"
        "except SystemExit as done:\n    assert not done.code\n"
        "print([name for name in ('torch', 'dask', 'distributed', 'rasterio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# --- exactness ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"fusion": {"strategy": "mean"}, "reference": "thermal", "validity": "all"},
        {"fusion": {"strategy": {"detail": {"contrast": 1.2}}, "color": "bands"}},
        {"output": {"dtype": "uint16"}},
        {"output": {"dtype": "uint8", "units": "unit", "zarr_format": 3, "shard": 32}},
        {"output": {"dtype": "float16", "units": "unit"}},
        {"inputs": {"optical": "in/{scene}_optical.tif", "thermal": {"path": "in/{scene}_thermal.tif"}}},
    ],
)
def test_a_store_is_its_scene_fused_untiled(tmp_path: Path, settings: dict[str, Any]) -> None:
    make_pair(tmp_path)
    recipe = batchfuse.Recipe(**{"inputs": INPUTS, "folder": tmp_path, "tiles": {"size": 96}, **settings})
    assert batchfuse.run(recipe).exit_code == 0
    done = verify(tmp_path / "fused", "--exact", "--json")
    (told,) = json.loads(done.output)
    assert (done.exit_code, told["right"], told["refused"]) == (0, True, None)
    assert told["exact"]["windows"] == 3  # as large as the scene, nearly
    assert told["exact"]["excess"] <= LIMIT


def test_a_seam_of_a_thousandth_is_found_and_exits_1(tmp_path: Path) -> None:
    make_pair(tmp_path)
    folder = fused(tmp_path, output={"units": "unit"})
    store = Store.open(folder / "a.zarr")
    written = {}
    for tile in list(store.tiling)[::2]:
        digest = store.write(tile, store.read(tile.core) + np.float32(1e-3))
        written[store.chunk_path(tile.index)] = digest
    store.seal(written)
    done = verify(folder, "--exact")
    assert done.exit_code == 1
    assert "NOT EXACT: largest difference from" in done.output
    (told,) = json.loads(verify(folder, "--exact", "--json").output)
    assert told["exact"]["largest"] == pytest.approx(1e-3, rel=0.01)
    assert told["faults"] == []


def test_a_halo_that_is_too_small_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pair(tmp_path)
    whole = Tiling.__getitem__

    def without_halo(self: Tiling, index: tuple[int, ...]) -> Any:
        return whole(Tiling(self.shape, self.size, 0), index)

    with monkeypatch.context() as patched:
        patched.setattr(Tiling, "__getitem__", without_halo)
        folder = fused(tmp_path)
    (told,) = json.loads(verify(folder, "--exact", "--json").output)
    assert told["exact"]["holds"] is False
    assert told["exact"]["excess"] > 1e-3


def test_pixels_that_are_valid_in_one_only_are_found(tmp_path: Path) -> None:
    make_pair(tmp_path)
    folder = fused(tmp_path)
    store = Store.open(folder / "a.zarr")
    for tile in store.tiling:
        pixels = store.read(tile.core)
        pixels[:, 5, 5] = np.nan
        store.seal({store.chunk_path(tile.index): store.write(tile, pixels)})
    (told,) = json.loads(verify(folder, "--exact", "--json").output)
    assert told["exact"]["masks"] > 0
    assert told["right"] is False


def test_what_has_changed_since_is_refused_by_name(tmp_path: Path) -> None:
    make_pair(tmp_path)
    folder = fused(tmp_path)
    make_pair(tmp_path, shape=(300, 281))
    done = verify(folder, "--exact")
    assert done.exit_code == 1
    assert "can't be fused again" in done.output
    assert "a_thermal.tif" in done.output
    (tmp_path / "in/a_thermal.tif").unlink()
    assert "can't be planned again from" in verify(folder, "--exact").output


def test_the_recipes_folder_comes_from_the_report_or_the_option(tmp_path: Path) -> None:
    make_pair(tmp_path)
    fused(tmp_path)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.move(tmp_path / "fused/a.zarr", moved)
    done = verify(moved / "a.zarr", "--exact")
    assert done.exit_code == 1
    assert (
        "report.json does not say where its recipe lies: name the recipe's folder with --folder"
        in done.output
    )
    assert verify(moved / "a.zarr", "--exact", "--folder", tmp_path).exit_code == 0


def test_a_store_of_fuse_is_fused_again_from_where_it_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pair(tmp_path)
    monkeypatch.chdir(tmp_path / "in")
    call = ["fuse", "a_thermal.tif", "a_optical.tif", "-o", "out/x.zarr"]
    assert CliRunner().invoke(commands, call).exit_code == 0
    done = verify(tmp_path / "in/out/x.zarr", "--exact", "--folder", tmp_path / "in")
    assert (done.exit_code, "  exact: largest difference" in done.output) == (0, True), done.output
    refused = verify(tmp_path / "in/out/x.zarr", "--exact")
    assert (refused.exit_code, "the one where `fuse` was called" in refused.output) == (1, True)


def test_of_a_campaign_only_the_scene_itself_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pair(tmp_path)
    for role in ("thermal", "optical"):
        shutil.copy(tmp_path / f"in/a_{role}.tif", tmp_path / f"in/b_{role}.tif")
    recipe = batchfuse.Recipe(inputs=INPUTS, folder=tmp_path, scaling="campaign")
    assert batchfuse.run(recipe).exit_code == 0
    files, open_source = [], scene_jobs.open_source

    def opened(role: str, paths: Any, **options: Any) -> Any:
        files.extend(path.name for path in paths)
        return open_source(role, paths, **options)

    monkeypatch.setattr(scene_jobs, "open_source", opened)
    found = merged(list(measure(tmp_path / "fused/b.zarr")))
    assert found.holds
    assert sorted(files) == ["b_optical.tif", "b_thermal.tif"]


def encoding_of(dtype: str, gain: float = 100.0, zero: float = 0.0) -> Encoding:
    fill = math.nan if dtype.startswith("float") else 0
    return Encoding(dtype, fill, (gain,), (zero,))


def test_rounding_to_the_type_is_allowed_and_no_more() -> None:
    valid = np.ones((1, 3), bool)
    fused_values = np.array([[[0.5049, 0.2, 3.0]]], np.float32)  # the last one is cut at 255
    made = encoding_of("uint8")
    right = made.encoded(fused_values, valid)
    assert right.tolist() == [[[50, 20, 255]]]
    same = compared(made, fused_values, valid, right)
    assert (same.largest, same.excess, same.masks, same.pixels) == (0, 0, 0, 3)
    near = compared(made, np.array([[[0.50501, 0.2, 3.0]]], np.float32), valid, right)
    assert near.largest == pytest.approx(0.00501, abs=1e-6)
    assert near.rounding == pytest.approx(0.005)
    assert near.excess == pytest.approx(1e-5, abs=1e-6)
    assert not near.holds
    wrong = right.copy()
    wrong[0, 0, 1] += 1
    assert compared(made, fused_values, valid, wrong).excess == pytest.approx(0.005, abs=1e-6)


def test_a_value_moved_off_the_fill_value_is_right() -> None:
    valid = np.array([[True, False]])
    made = encoding_of("uint8")
    fused_values = np.array([[[0.001, 0.0]]], np.float32)
    assert compared(made, fused_values, valid, np.array([[[1, 0]]], np.uint8)).holds
    assert compared(made, fused_values, valid, np.array([[[0, 0]]], np.uint8)).masks == 1


def test_half_a_step_of_a_float_is_allowed() -> None:
    valid = np.ones((1, 1), bool)
    made = encoding_of("float16", gain=1.0, zero=1000.0)  # steps of 0.5
    stored: NDArray[Any] = np.array([[[1000.5]]], np.float16)
    assert compared(made, np.array([[[0.2500001]]], np.float32), valid, stored).excess == 0
    assert compared(made, np.array([[[0.2]]], np.float32), valid, stored).excess == pytest.approx(0.05)


def test_windows_lie_where_tiles_meet_and_are_the_same_each_time() -> None:
    tiling = Tiling((3000, 5000), 512, 12)
    windows = places(tiling)
    assert windows == places(tiling)
    assert len(windows) == 16
    assert {window.shape for window in windows} == {(256, 256)}

    def meets(axis: int, window: Window) -> bool:
        return (window.start[axis] + 128) % 512 == 0

    assert sum(meets(0, window) and meets(1, window) for window in windows) == 4
    assert sum(meets(0, window) or meets(1, window) for window in windows) == 12
    assert places(Tiling((100, 90), 512, 12)) == [Window((0, 0), (100, 90))]
