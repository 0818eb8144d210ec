"""A store loses nothing: not to a kill, not to a flipped bit, not to threads."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import zarr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import RasterioIOError

from batchfuse.errors import StoreError
from batchfuse.geometry.grid import Grid
from batchfuse.geometry.tiling import Tiling
from batchfuse.geometry.window import Window
from batchfuse.storage.removal import remove_store
from batchfuse.storage.store import RasterLayout, Store, is_store
from batchfuse.system.partials import partial_path

GRID = Grid((100, 130), Affine(30, 0, 400000, 0, -30, 5200000), CRS.from_epsg(32632).to_wkt())
LAYOUT = RasterLayout(GRID, ("red", "green", "blue"), "float32", math.nan, 48)
TILING = Tiling(GRID.shape, 48, halo=12)
WHOLE = Window.whole(GRID.shape)
RECORD = {"version": "0.1", "recipe": {"b": [1, 2.5], "a": None}, "sources": {"thermal": {"size": 7}}}


def image(layout: RasterLayout = LAYOUT) -> NDArray[Any]:
    smooth = np.add.outer(np.arange(layout.shape[1]), np.arange(layout.shape[2])) / 200
    noise = np.random.default_rng(3).random(layout.shape)
    return (100 * (smooth + noise)).astype(layout.dtype)


def fill_store(store: Store, tiling: Tiling = TILING) -> NDArray[Any]:
    pixels = image(store.layout)
    for tile in tiling:
        store.write(tile, pixels[(slice(None), *tile.core.slices)])
    return pixels


def sealed(path: Path) -> Store:
    store = Store.create(path, LAYOUT, RECORD)
    fill_store(store)
    store.seal()
    return store


def contents(path: Path) -> dict[str, bytes]:
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    store = sealed(tmp_path / "a.zarr")
    again = Store.open(store.path)
    assert again.record == RECORD
    assert again.complete
    assert again.layout.differences(LAYOUT) == []
    assert (again.grid, again.bands, again.dtype, again.layout.tile_size) == (
        GRID,
        LAYOUT.bands,
        "float32",
        48,
    )
    assert math.isnan(again.fill)
    assert again.shape == (3, 100, 130)
    assert (again.read(WHOLE) == image()).all()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_window_equals_the_same_window_of_the_image(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "windows.zarr"
    store = Store.open(path) if path.exists() else sealed(path)
    y = sorted(data.draw(st.tuples(st.integers(0, 100), st.integers(0, 100)).filter(lambda p: p[0] != p[1])))
    x = sorted(data.draw(st.tuples(st.integers(0, 130), st.integers(0, 130)).filter(lambda p: p[0] != p[1])))
    window = Window((y[0], x[0]), (y[1], x[1]))
    assert (store.read(window) == image()[(slice(None), *window.slices)]).all()


def test_a_seal_waits_for_chunks_that_another_host_has_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.create(tmp_path / "a.zarr", LAYOUT, RECORD)
    told = {
        store.chunk_path(tile.index): store.write(tile, image()[(slice(None), *tile.core.slices)])
        for tile in TILING
    }
    late = next(iter(told))
    hidden = late.with_name("elsewhere")
    late.rename(hidden)
    monkeypatch.setattr("batchfuse.storage.store.SEEN", 0.05)
    monkeypatch.setattr("batchfuse.storage.store.LOOK", 0.01)
    with pytest.raises(StoreError, match="1 of 9 tiles are missing"):
        store.seal(told)
    monkeypatch.setattr("batchfuse.storage.store.SEEN", 60.0)
    monkeypatch.setattr("batchfuse.storage.store.time.sleep", lambda _: hidden.rename(late))
    store.seal(told)
    assert Store.open(store.path).complete


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 1), (41, 41), (41, 200), (64, 64), (65, 129)])
@pytest.mark.parametrize("size", [64, 1000])
def test_a_core_is_a_chunk_and_no_chunk_is_larger_than_the_image(
    tmp_path: Path, shape: tuple[int, int], size: int
) -> None:
    layout = RasterLayout(Grid(shape, GRID.affine, GRID.crs), ("fused",), "uint16", 0, size)
    store = Store.create(tmp_path / "a.zarr", layout, {})
    tiling = Tiling(shape, size, 0)
    pixels = fill_store(store, tiling)
    assert Store.open(store.path).unwritten(tiling) == []
    assert len(list((store.path / "fused").glob("0.*"))) == len(tiling)
    assert zarr.open_array(store.path / "fused", mode="r").chunks == (
        1,
        min(shape[0], size),
        min(shape[1], size),
    )
    assert (Store.open(store.path).read(Window.whole(shape)) == pixels).all()


def test_a_tile_is_unwritten_until_its_chunk_is_there(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "a.zarr", LAYOUT, RECORD)
    assert store.unwritten(TILING) == list(TILING)
    done = TILING[(1, 2)]
    written = store.write(done, image()[(slice(None), *done.core.slices)])
    content = (store.path / "fused" / "0.1.2").read_bytes()
    assert written == (len(content), hashlib.sha256(content).hexdigest())
    assert store.is_written((1, 2))
    assert not store.is_written((0, 0))
    assert Store.open(store.path).unwritten(TILING) == [tile for tile in TILING if tile != done]


def test_an_empty_chunk_file_as_a_power_cut_leaves_it_is_a_tile_to_do(tmp_path: Path) -> None:
    store = sealed(tmp_path / "a.zarr")
    (store.path / "fused" / "0.1.0").write_bytes(b"")
    assert not store.is_written((1, 0))
    assert [tile.index for tile in store.unwritten(TILING)] == [(1, 0)]
    with pytest.raises(StoreError, match="1 of 9 tiles are missing"):
        store.seal()


@pytest.mark.parametrize(("dtype", "fill"), [("float32", math.nan), ("uint8", 0), ("int16", -32768)])
def test_a_tile_of_fill_values_only_is_a_tile_that_is_done(tmp_path: Path, dtype: str, fill: float) -> None:
    layout = RasterLayout(GRID, ("fused",), dtype, fill, 48)
    Store.create(tmp_path / "a.zarr", layout, {})
    store = Store.open(tmp_path / "a.zarr")
    for tile in TILING:
        store.write(tile, np.full((1, *tile.core.shape), fill, dtype))
    assert store.unwritten(TILING) == []
    store.seal()


def test_a_damaged_chunk_is_replaced_unread(tmp_path: Path) -> None:
    store = sealed(tmp_path / "a.zarr")
    expected = contents(store.path)
    for path in (store.path / "fused").glob("0.*"):
        path.write_bytes(b"damaged")
    fill_store(store)
    assert contents(store.path) == expected


def test_two_runs_make_the_same_bytes_whatever_the_order(tmp_path: Path) -> None:
    first = sealed(tmp_path / "first.zarr")
    shuffled = {key: RECORD[key] for key in reversed(RECORD)}
    second = Store.create(tmp_path / "elsewhere" / "second.zarr", LAYOUT, shuffled)
    pixels = image()
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(lambda t: second.write(t, pixels[(slice(None), *t.core.slices)]), reversed(list(TILING)))
        )
    Store.open(second.path).seal()
    assert contents(first.path) == contents(second.path)


def test_many_threads_may_write_different_tiles_of_one_store(tmp_path: Path) -> None:
    grid = Grid((640, 640), GRID.affine, GRID.crs)
    tiling = Tiling(grid.shape, 32, 0)
    store = Store.create(tmp_path / "a.zarr", RasterLayout(grid, ("fused",), "float32", math.nan, 32), {})
    pixels = image(store.layout)
    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(lambda t: store.write(t, pixels[(slice(None), *t.core.slices)]), tiling))
    assert min(digest.size for digest in told) > 0
    store.seal()
    assert (store.read(Window.whole(grid.shape)) == pixels).all()


def test_a_store_travels_to_another_process_as_its_path(tmp_path: Path) -> None:
    store = sealed(tmp_path / "a.zarr")
    there = pickle.loads(pickle.dumps(store))
    assert there.path == store.path
    assert (there.read(WHOLE) == image()).all()


def test_every_flipped_bit_is_an_error_never_a_wrong_pixel(tmp_path: Path) -> None:
    store = sealed(tmp_path / "a.zarr")
    chunks = sorted((store.path / "fused").glob("0.*"))
    rng = random.Random(11)
    found = {"batchfuse": 0, "zarr": 0, "gdal": 0}
    for _ in range(40):
        path = rng.choice(chunks)
        good = path.read_bytes()
        bad = bytearray(good)
        bit = rng.randrange(8 * len(bad))
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        for reader, read, error in (
            ("batchfuse", lambda: Store.open(store.path).read(WHOLE), StoreError),
            ("zarr", lambda: zarr.open_group(store.path, mode="r")["fused"][:], RuntimeError),
            ("gdal", lambda: read_with_gdal(store.path), RasterioIOError),
        ):
            try:
                assert (read() == image()).all(), f"{reader}: wrong pixels from bit {bit} of {path.name}"
            except error:
                found[reader] += 1
        path.write_bytes(good)
    # zstd leaves one bit of its header unused: all of the pixels are right with it flipped
    assert min(found.values()) >= 39


def read_with_gdal(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as dataset:
        return dataset.read()


def test_a_damaged_or_missing_chunk_names_its_tile_and_spares_the_others(tmp_path: Path) -> None:
    store = sealed(tmp_path / "a.zarr")
    chunk = store.path / "fused" / "0.1.2"
    chunk.write_bytes(chunk.read_bytes()[:-9])
    with pytest.raises(StoreError, match=r"a\.zarr: tile \(1, 2\) is damaged .*0\.1\.2.*run its recipe"):
        store.read(WHOLE)
    spared = Window((0, 0), (100, 96))
    assert (store.read(spared) == image()[(slice(None), *spared.slices)]).all()
    chunk.unlink()
    with pytest.raises(StoreError, match=r"tile \(1, 2\) is missing: run it again"):
        store.read(WHOLE)


def test_seal_refuses_while_tiles_are_missing_and_says_how_many(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "a.zarr", LAYOUT, RECORD)
    store.write(TILING[(0, 0)], image()[(slice(None), *TILING[(0, 0)].core.slices)])
    with pytest.raises(StoreError, match=r"a\.zarr: 8 of 9 tiles are missing"):
        store.seal()
    assert not Store.open(store.path).complete
    assert not (store.path / ".zmetadata").exists()


def test_a_chunk_that_no_tile_has_stands_in_for_none_that_is_missing(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "a.zarr", LAYOUT, RECORD)
    for tile in TILING:
        store.write(tile, image()[(slice(None), *tile.core.slices)])
    chunk = store.chunk_path((2, 2))
    chunk.rename(chunk.with_name("0.2.97"))
    with pytest.raises(StoreError, match=r"a\.zarr: 1 of 9 tiles are missing"):
        store.seal()


def test_only_a_whole_seal_counts(tmp_path: Path) -> None:
    store = sealed(tmp_path / "a.zarr")
    expected = contents(store.path)
    (store.path / ".zmetadata").unlink()  # as when killed between the last two steps
    again = Store.open(store.path)
    assert not again.complete
    again.seal()
    again.seal()
    assert Store.open(store.path).complete
    assert contents(store.path) == expected


def test_seal_waits_until_every_file_and_folder_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = set()

    def remember(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", remember)
    path = sealed(tmp_path / "a.zarr").path
    assert {p.stat().st_ino for p in (path, *path.rglob("*"))} <= synced


def test_consolidated_metadata_is_what_zarr_reads_from_the_files(tmp_path: Path) -> None:
    path = sealed(tmp_path / "a.zarr").path
    together = zarr.open_group(path, mode="r", use_consolidated=True)
    apart = zarr.open_group(path, mode="r", use_consolidated=False)
    assert together.attrs.asdict() == apart.attrs.asdict()
    assert sorted(together.array_keys()) == ["band", "fused", "spatial_ref", "x", "y"]
    for name in together.array_keys():
        assert str(together[name].metadata.to_dict()) == str(apart[name].metadata.to_dict())


KILLED = """
import sys, math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
from affine import Affine
from batchfuse.geometry.grid import Grid
from batchfuse.geometry.tiling import Tiling
from batchfuse.storage.store import RasterLayout, Store
path, shape, size = Path(sys.argv[1]), (1024, 1000), 256
grid = Grid(shape, Affine.identity(), None)
inner = int(sys.argv[3]) or None
layout = RasterLayout(grid, ("fused",), "float32", math.nan, size, zarr_format=int(sys.argv[2]), inner=inner)
store = Store.open(path) if path.exists() else Store.create(path, layout, {})
pixels = np.random.default_rng(1).random((1, *shape), "float32")
def write(tile):
    store.write(tile, pixels[(slice(None), *tile.core.slices)])
print("started", flush=True)
with ThreadPoolExecutor(2) as pool:
    while True:
        list(pool.map(write, Tiling(shape, size, 0)))
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
@pytest.mark.parametrize(("zarr_format", "inner", "kills"), [(2, 0, 6), (3, 0, 2), (3, 64, 4)])
def test_kill_9_leaves_no_torn_chunk_and_sweep_removes_the_rest(
    tmp_path: Path, zarr_format: int, inner: int, kills: int
) -> None:
    path = tmp_path / "a.zarr"
    rng = random.Random(2)
    tiling = Tiling((1024, 1000), 256, 0)
    pixels = np.random.default_rng(1).random((1, 1024, 1000), "float32")
    swept = 0
    words = [sys.executable, "-c", KILLED, str(path), str(zarr_format), str(inner)]
    for _ in range(kills):
        child = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"started\n"
        time.sleep(rng.uniform(0.005, 0.2))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        store = Store.open(path)
        swept += store.sweep()
        assert not list(tmp_path.rglob("*.partial"))
        for tile in tiling:
            if store.is_written(tile.index):
                assert (store.read(tile.core) == pixels[(slice(None), *tile.core.slices)]).all()
    print(f"{swept} temporary files were left and swept")


def test_sweep_removes_what_killed_runs_leave_and_nothing_else(tmp_path: Path) -> None:
    store = sealed(tmp_path / "a.zarr")
    neighbour = sealed(tmp_path / "a.zarr.more.zarr")
    left = [
        store.path / "fused" / f"0.0.{'0' * 32}.partial",
        partial_path(store.path / ".zmetadata"),
        partial_path(store.path / "fused") / "x",
    ]
    stay = [
        partial_path(store.path) / "x",  # beside it: of a folder of 100,000 stores a run sweeps all at once
        neighbour.path / "fused" / f"0.0.{'3' * 32}.partial",
        partial_path(neighbour.path),
        tmp_path / "a.partial",
        store.path / "notes.partial",
        store.path / "fused/1.partial",
        store.path / f"notes.{'4' * 32}.partial",
    ]
    for path in left + stay:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    assert store.sweep() == 3
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in stay)
    assert (store.read(WHOLE) == image()).all()
    assert store.sweep() == 0


def test_an_existing_store_or_folder_is_never_overwritten_by_create(tmp_path: Path) -> None:
    store = sealed(tmp_path / "a.zarr")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("keep")
    (tmp_path / "file").write_text("keep")
    for path in (store.path, tmp_path / "notes", tmp_path / "file"):
        with pytest.raises(StoreError, match="is there already"):
            Store.create(path, LAYOUT, RECORD)
    (tmp_path / "empty").mkdir()
    assert Store.create(tmp_path / "empty", LAYOUT, RECORD).unwritten(TILING)
    assert not list(tmp_path.glob(".*"))


def test_a_store_that_cannot_be_created_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can't be created"):
        Store.create(tmp_path / "file" / "a.zarr", LAYOUT, RECORD)
    bad = RasterLayout(Grid((4, 4), Affine.identity(), "nonsense"), ("fused",), "uint8", 0, 4)
    with pytest.raises(StoreError, match="PROJ can't read"):
        Store.create(tmp_path / "a.zarr", bad, RECORD)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def edit(path: Path, change: dict[str, Any]) -> None:
    attributes = json.loads(path.read_text())
    attributes["batchfuse"].update(change)
    path.write_text(json.dumps(attributes))


@pytest.mark.parametrize("name", [".zgroup", "fused/.zarray", "band/.zattrs"])
def test_metadata_that_would_be_waited_for_or_fill_the_memory_is_refused(tmp_path: Path, name: str) -> None:
    path = sealed(tmp_path / "a.zarr").path
    (path / name).unlink()
    os.mkfifo(path / name)
    with pytest.raises(StoreError, match=r"a\.zarr is damaged: .*no regular file.*--overwrite"):
        Store.open(path)
    (path / name).unlink()
    (path / name).touch()
    os.truncate(path / name, 2**40)
    with pytest.raises(StoreError, match=r"a\.zarr is damaged: .*larger than"):
        Store.open(path)


def test_what_is_no_readable_store_is_refused_in_one_line(tmp_path: Path) -> None:
    path = sealed(tmp_path / "a.zarr").path
    for name in "bcdefg":
        shutil.copytree(path, tmp_path / f"{name}.zarr")
    (tmp_path / "b.zarr" / ".zattrs").write_bytes(b'{"batchfuse": {"form')
    (tmp_path / "c.zarr" / ".zattrs").write_text('{"title": "of somebody else"}')
    edit(tmp_path / "d.zarr" / ".zattrs", {"format": 99})
    (tmp_path / "e.zarr" / "fused" / ".zarray").write_bytes(b"\0\0\0")
    (tmp_path / "f.zarr" / "spatial_ref" / ".zattrs").write_text("{}")
    shutil.rmtree(tmp_path / "g.zarr" / "band")
    zarr.create_group(tmp_path / "three.zarr", zarr_format=3)
    (tmp_path / "empty.zarr").mkdir()
    (tmp_path / "file.zarr").write_text("no folder")
    for name, said in {
        "b": r"damaged: .zattrs can't be read .*delete it and run",
        "c": "not a store of batchfuse",
        "d": "format 99.* reads 1: update",
        "e": r"metadata can't be read .*--overwrite",
        "f": r"metadata can't be read .*--overwrite",
        "g": r"metadata can't be read .*--overwrite",
        "three": "not a store of batchfuse: zarr.json has no",
        "empty": "not a store of batchfuse",
        "file": "is not a folder",
        "nowhere": "is not there",
    }.items():
        with pytest.raises(StoreError, match=rf"{name}\.zarr .*{said}") as caught:
            Store.open(tmp_path / f"{name}.zarr")
        assert "\n" not in str(caught.value)


def test_only_our_stores_are_removed(tmp_path: Path) -> None:
    finished = sealed(tmp_path / "a.zarr").path
    begun = Store.create(tmp_path / "b.zarr", LAYOUT, RECORD).path
    zarr.create_group(tmp_path / "foreign.zarr", zarr_format=2, attributes={"title": "other"})
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("keep")
    (tmp_path / "link.zarr").symlink_to(finished)
    for name in ("foreign.zarr", "folder", "file", "link.zarr"):
        assert not is_store(tmp_path / name)
        with pytest.raises(StoreError, match="is not a store of batchfuse and is left alone"):
            remove_store(tmp_path / name)
    for path in (finished, begun):
        assert is_store(path)
        remove_store(path)
    remove_store(tmp_path / "never there")
    assert {p.name for p in tmp_path.iterdir()} == {"foreign.zarr", "folder", "file", "link.zarr"}


def test_pixels_of_another_shape_or_type_are_a_bug_of_the_caller(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "a.zarr", LAYOUT, RECORD)
    tile = TILING[(0, 0)]
    for pixels in (
        np.zeros((3, 48, 47), "float32"),
        np.zeros((3, 48, 48), "float64"),
        np.zeros((48, 48), "float32"),
    ):
        with pytest.raises(ValueError, match=r"tile \(0, 0\) takes float32 \(3, 48, 48\)"):
            store.write(tile, pixels)
    other = Tiling(GRID.shape, 32, 0)
    with pytest.raises(ValueError, match="takes float32"):
        store.write(other[(0, 0)], np.zeros((3, 32, 32), "float32"))
    with pytest.raises(ValueError, match="doesn't cut"):
        store.unwritten(other)
    with pytest.raises(ValueError, match="leaves the image"):
        store.read(Window((0, 0), (101, 130)))


def test_a_full_or_vanished_disk_is_a_store_error(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "a.zarr", LAYOUT, RECORD)
    shutil.rmtree(store.path / "fused")
    (store.path / "fused").write_text("no folder any more")
    with pytest.raises(StoreError, match=r"tile \(0, 0\) can't be written"):
        store.write(TILING[(0, 0)], image()[(slice(None), *TILING[(0, 0)].core.slices)])


def test_layouts_name_what_differs() -> None:
    other = RasterLayout(
        Grid((100, 131), Affine(30, 0, 400000, 0, -20, 5200000), None),
        ("fused",),
        "uint8",
        0,
        64,
        0.5,
        1.0,
        "K",
    )
    said = LAYOUT.differences(other)
    assert [line.split(" is not ")[1] for line in said][:1] == ["(100, 131)"]
    assert {line.split(" ")[0] for line in said} == {
        *("shape", "affine", "crs", "bands", "dtype", "fill", "chunk", "scale", "offset", "units")
    }
    assert LAYOUT.differences(RasterLayout(GRID, LAYOUT.bands, "float32", float("nan"), 48)) == []


def test_bands_of_different_scale_are_refused_with_the_remedy(tmp_path: Path) -> None:
    same = RasterLayout(GRID, ("a", "b"), "uint16", 0, 64, scale=(0.5, 0.5), offset=(1.0, 1.0))
    assert Store.create(tmp_path / "a.zarr", same, {}).layout.scale == 0.5
    differ = RasterLayout(GRID, ("a", "b"), "uint16", 0, 64, scale=(0.5, 0.25))
    with pytest.raises(StoreError, match=r"bands differ in scale .* set `output\.dtype: float32`"):
        Store.create(tmp_path / "b.zarr", differ, {})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dtype": "float64"}, "none of float32"),
        ({"dtype": "uint8", "fill": -1}, "no uint8"),
        ({"dtype": "int16", "fill": math.nan}, "no int16"),
        ({"bands": ()}, "0 bands"),
        ({"tile_size": 0}, r"tiles of \(0, 0\)"),
    ],
)
def test_a_layout_that_makes_no_sense_is_refused_when_made(change: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"grid": GRID, "bands": ("fused",), "dtype": "uint8", "fill": 0, "tile_size": 8}
    with pytest.raises(ValueError, match=said):
        RasterLayout(**{**given, **change})


def test_the_record_keeps_its_own_keys() -> None:
    with pytest.raises(ValueError, match="complete"):
        Store.create(Path("never made"), LAYOUT, {"complete": True})
