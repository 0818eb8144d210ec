"""Stores in Zarr format 3, with and without shards, keep every promise of those in format 2."""

from __future__ import annotations

import json
import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasters import photo, write_raster
from test_store import GRID, RECORD, TILING, WHOLE, contents, fill_store, image

import batchfuse
from batchfuse.errors import StoreError
from batchfuse.geometry.grid import Grid
from batchfuse.geometry.tiling import Tiling
from batchfuse.geometry.window import Window
from batchfuse.storage.removal import remove_store
from batchfuse.storage.store import RasterLayout, Store, is_store
from batchfuse.system.partials import partial_path

BANDS = ("red", "green", "blue")
LAYOUTS = {
    "plain": RasterLayout(GRID, BANDS, "float32", math.nan, 48, zarr_format=3),
    "shards": RasterLayout(GRID, BANDS, "float32", math.nan, 48, zarr_format=3, inner=16),
    "a shard of one chunk": RasterLayout(GRID, BANDS, "float32", math.nan, 48, zarr_format=3, inner=48),
}
each = pytest.mark.parametrize("name", LAYOUTS)


def sealed(path: Path, name: str) -> Store:
    store = Store.create(path, LAYOUTS[name], RECORD)
    fill_store(store)
    store.seal()
    return store


def chunks(store: Store) -> list[Path]:
    return sorted(p for p in (store.path / "fused" / "c").rglob("*") if p.is_file())


@each
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    store = sealed(tmp_path / "a.zarr", name)
    again = Store.open(store.path)
    assert is_store(store.path)
    assert again.complete
    assert again.record == RECORD
    assert again.layout.differences(LAYOUTS[name]) == []
    assert again.layout.inner == LAYOUTS[name].inner
    assert (again.read(WHOLE) == image()).all()


@each
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_window_equals_the_same_window_of_the_image(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / f"{name} windows.zarr"
    store = Store.open(path) if path.exists() else sealed(path, name)
    y = sorted(data.draw(st.tuples(st.integers(0, 100), st.integers(0, 100)).filter(lambda p: p[0] != p[1])))
    x = sorted(data.draw(st.tuples(st.integers(0, 130), st.integers(0, 130)).filter(lambda p: p[0] != p[1])))
    window = Window((y[0], x[0]), (y[1], x[1]))
    assert (store.read(window) == image()[(slice(None), *window.slices)]).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 1), (41, 41), (41, 200), (64, 64), (65, 129)])
@pytest.mark.parametrize("size", [64, 1024])
@pytest.mark.parametrize("inner", [None, 16, 64])
def test_a_tile_is_a_file_and_a_chunk_is_no_larger_than_the_image(
    tmp_path: Path, shape: tuple[int, int], size: int, inner: int | None
) -> None:
    grid = Grid(shape, GRID.affine, GRID.crs)
    layout = RasterLayout(grid, ("fused",), "uint16", 0, size, zarr_format=3, inner=inner)
    store = Store.create(tmp_path / "a.zarr", layout, {})
    tiling = Tiling(shape, size, 0)
    pixels = fill_store(store, tiling)
    store.seal()
    again = Store.open(store.path)
    assert again.unwritten(tiling) == []
    assert again.layout.differences(layout) == []
    assert len(chunks(store)) == len(tiling)
    assert (again.read(Window.whole(shape)) == pixels).all()
    array = zarr.open_array(store.path / "fused", mode="r")
    edge = inner or size
    assert array.chunks == (1, min(shape[0], edge), min(shape[1], edge))
    if inner is None:
        assert array.shards is None
    else:
        # the least whole number of chunks that holds the image, or a tile
        least = [-(-n // min(n, edge)) * min(n, edge) for n in shape]
        assert array.shards == (1, min(size, least[0]), min(size, least[1]))


@each
@pytest.mark.parametrize(("dtype", "fill"), [("float16", math.nan), ("uint8", 0), ("int16", -32768)])
def test_a_tile_of_fill_values_only_is_a_tile_that_is_done(
    tmp_path: Path, name: str, dtype: str, fill: float
) -> None:
    layout = RasterLayout(GRID, ("fused",), dtype, fill, 48, zarr_format=3, inner=LAYOUTS[name].inner)
    Store.create(tmp_path / "a.zarr", layout, {})
    store = Store.open(tmp_path / "a.zarr")
    for tile in TILING:
        store.write(tile, np.full((1, *tile.core.shape), fill, dtype))
    assert store.unwritten(TILING) == []
    store.seal()


@each
def test_damaged_and_empty_chunks_are_replaced_unread(tmp_path: Path, name: str) -> None:
    store = sealed(tmp_path / "a.zarr", name)
    expected = contents(store.path)
    for number, path in enumerate(chunks(store)):
        path.write_bytes(b"damaged" if number % 2 else b"")
    assert len(store.unwritten(TILING)) == 5
    fill_store(store)
    assert contents(store.path) == expected


@each
def test_two_runs_make_the_same_bytes_whatever_the_order(tmp_path: Path, name: str) -> None:
    first = sealed(tmp_path / "first.zarr", name)
    second = Store.create(tmp_path / "second.zarr", LAYOUTS[name], {k: RECORD[k] for k in reversed(RECORD)})
    pixels = image()
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(lambda t: second.write(t, pixels[(slice(None), *t.core.slices)]), reversed(list(TILING)))
        )
    Store.open(second.path).seal()
    assert contents(first.path) == contents(second.path)


@each
def test_a_missing_or_damaged_chunk_names_its_tile(tmp_path: Path, name: str) -> None:
    store = sealed(tmp_path / "a.zarr", name)
    chunk = store.path / "fused/c/0/1/2"
    chunk.write_bytes(chunk.read_bytes()[:-9])
    with pytest.raises(StoreError, match=r"tile \(1, 2\) is damaged .*`batchfuse verify`"):
        store.read(WHOLE)
    chunk.unlink()
    with pytest.raises(StoreError, match=r"tile \(1, 2\) is missing: run it again"):
        store.read(WHOLE)
    with pytest.raises(StoreError, match="1 of 9 tiles are missing"):
        store.seal()


def test_the_codec_is_zstd_with_its_checksum_in_shards_too(tmp_path: Path) -> None:
    for name in LAYOUTS:
        path = sealed(tmp_path / f"{name}.zarr", name).path
        codecs = json.loads((path / "fused/zarr.json").read_text())["codecs"]
        if LAYOUTS[name].inner:
            assert [codec["name"] for codec in codecs] == ["sharding_indexed"]
            assert codecs[0]["configuration"]["index_codecs"][-1] == {"name": "crc32c"}
            codecs = codecs[0]["configuration"]["codecs"]
        assert codecs[-1] == {"name": "zstd", "configuration": {"level": 1, "checksum": True}}


@each
def test_the_seal_is_consolidated_metadata_as_zarr_reads_it(tmp_path: Path, name: str) -> None:
    begun = Store.create(tmp_path / "a.zarr", LAYOUTS[name], RECORD)
    assert "consolidated_metadata" not in json.loads((begun.path / "zarr.json").read_text())
    fill_store(begun)
    assert not Store.open(begun.path).complete
    begun.seal()
    before = contents(begun.path)
    Store.open(begun.path).seal()
    assert contents(begun.path) == before
    together = zarr.open_group(begun.path, mode="r", use_consolidated=True)
    apart = zarr.open_group(begun.path, mode="r", use_consolidated=False)
    assert together.attrs.asdict() == apart.attrs.asdict()
    assert sorted(together.array_keys()) == ["band", "fused", "spatial_ref", "x", "y"]
    for key in together.array_keys():
        assert str(together[key].metadata.to_dict()) == str(apart[key].metadata.to_dict())
    assert together["fused"].metadata.dimension_names == ("band", "y", "x")


def test_what_a_killed_run_leaves_is_swept(tmp_path: Path) -> None:
    store = sealed(tmp_path / "a.zarr", "shards")
    left = [
        store.path / "fused/c/0/1" / f"2.{'0' * 32}.partial",
        store.path / f"zarr.{'1' * 32}.partial",
        partial_path(store.path / "ovr_2x") / "zarr.json",
    ]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    assert store.sweep() == 3
    assert not any(path.exists() for path in left)
    assert (store.read(WHOLE) == image()).all()


def test_only_our_stores_are_opened_and_removed(tmp_path: Path) -> None:
    ours = sealed(tmp_path / "a.zarr", "plain").path
    zarr.create_group(tmp_path / "foreign.zarr", zarr_format=3, attributes={"title": "other"})
    assert not is_store(tmp_path / "foreign.zarr")
    with pytest.raises(StoreError, match="left alone"):
        remove_store(tmp_path / "foreign.zarr")
    for content, said in ((b"[]", "has no `batchfuse`"), (b"{", "zarr.json can't be read")):
        shutil.copytree(ours, tmp_path / "b.zarr")
        (tmp_path / "b.zarr/zarr.json").write_bytes(content)
        with pytest.raises(StoreError, match=said):
            Store.open(tmp_path / "b.zarr")
        shutil.rmtree(tmp_path / "b.zarr")
    remove_store(ours)
    assert not ours.exists()


@pytest.mark.parametrize(
    "change",
    [{"zarr_format": 4}, {"inner": 16}, {"zarr_format": 3, "inner": 20}, {"zarr_format": 3, "inner": 0}],
)
def test_a_layout_that_makes_no_sense_is_refused_when_made(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"no Zarr format|don't divide"):
        RasterLayout(GRID, ("fused",), "uint8", 0, 48, **change)


# --- through a run ------------------------------------------------------------------------------


def make_pair(folder: Path, shape: tuple[int, int] = (130, 140)) -> NDArray[Any]:
    for role, seed in (("thermal", 1), ("optical", 2)):
        pixels = np.rint(photo(shape, seed)[0] * 5000 + 1000).astype(np.uint16)
        write_raster(folder / f"a_{role}.tif", pixels)
    return pixels


def fused(folder: Path, **output: Any) -> batchfuse.Report:
    inputs = {"thermal": "{scene}_thermal.tif", "optical": "{scene}_optical.tif"}
    recipe = batchfuse.Recipe(inputs=inputs, folder=folder, tiles={"size": 48}, output=output)
    return batchfuse.run(recipe)


@pytest.mark.parametrize("shard", [None, 16])
def test_a_run_stores_the_same_image_in_either_format(tmp_path: Path, shard: int | None) -> None:
    make_pair(tmp_path)
    fused(tmp_path, path="two")
    fused(tmp_path, path="three", zarr_format=3, shard=shard)
    two, three = (Store.open(tmp_path / name / "a.zarr") for name in ("two", "three"))
    whole = Window.whole(two.grid.shape)
    assert (two.read(whole) == three.read(whole)).all()
    assert two.grid == three.grid
    assert three.layout.inner == shard
    assert (tmp_path / "three/a.quicklook.png").read_bytes() == (
        tmp_path / "two/a.quicklook.png"
    ).read_bytes()


@pytest.mark.parametrize("shard", [None, 16])
def test_a_store_with_chunks_deleted_is_continued_to_the_same_bytes(
    tmp_path: Path, shard: int | None
) -> None:
    make_pair(tmp_path)
    fused(tmp_path, zarr_format=3, shard=shard)
    store = tmp_path / "fused/a.zarr"
    before = contents(store)
    for index in ("1/1", "2/2", "0/2"):
        (store / "fused/c/0" / index).unlink()
    (store / "fused/c/0/0/0").write_bytes(b"")
    report = fused(tmp_path, zarr_format=3, shard=shard)
    assert report.outcomes[0].fused == 4
    assert contents(store) == before


def test_a_store_of_another_format_or_shard_is_refused_with_the_difference(tmp_path: Path) -> None:
    make_pair(tmp_path)
    fused(tmp_path)
    reason = fused(tmp_path, zarr_format=3).outcomes[0].reason or ""
    assert "output.zarr_format: 2 in the store, 3 in the recipe" in reason
    fused(tmp_path, path="three", zarr_format=3)
    reason = fused(tmp_path, path="three", zarr_format=3, shard=16).outcomes[0].reason or ""
    assert "output.shard: nothing in the store, 16 in the recipe" in reason
