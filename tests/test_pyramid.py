"""Levels: the mean of valid pixels, in the right place, whatever ends a run."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray
import zarr
from affine import Affine
from click.testing import CliRunner
from numpy.typing import NDArray
from rasters import NORTH_UP, photo, write_raster
from test_store import contents

import batchfuse
from batchfuse.cli import commands
from batchfuse.errors import StoreError
from batchfuse.geometry.grid import Grid
from batchfuse.storage import raster
from batchfuse.storage.contents import described
from batchfuse.storage.pyramid import begun_level, halved, levels_of, write_level
from batchfuse.storage.removal import remove_levels
from batchfuse.storage.store import RasterLayout, Store, is_store
from batchfuse.system.partials import partial_path

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
assert rioxarray


def reduced(pixels: NDArray[Any], fill: float) -> NDArray[Any]:
    """The plainest loop: a block at a time."""
    bands, rows, columns = pixels.shape
    made = np.empty((bands, math.ceil(rows / 2), math.ceil(columns / 2)), pixels.dtype)
    for band, row, column in np.ndindex(made.shape):
        block = pixels[band, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].ravel().tolist()
        valid = [value for value in block if value != fill and value == value]
        mean = math.fsum(valid) / len(valid) if valid else fill
        if valid and pixels.dtype.kind != "f":
            mean = round(mean)
            if mean == fill:
                mean += 1 if fill < np.iinfo(pixels.dtype).max else -1
        made[band, row, column] = mean
    return made


CASES = [
    ("float32", math.nan),
    ("float16", math.nan),
    ("uint8", 0),
    ("uint8", 255),
    ("uint16", 65535),
    ("int16", -32768),
    ("int16", 0),
]


@pytest.mark.parametrize(("dtype", "fill"), CASES)
@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (1, 5), (6, 1), (1, 1)])
def test_a_level_is_the_mean_of_valid_pixels_as_the_plainest_loop_has_it(
    dtype: str, fill: float, shape: tuple[int, int]
) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(-3 if dtype[0] in "if" else 0, 4, (2, *shape)).astype(dtype)
    if dtype[0] == "u":
        pixels = (pixels + rng.choice([0, np.iinfo(dtype).max - 5], pixels.shape)).astype(dtype)
    if dtype[0] == "f":
        pixels += rng.random(pixels.shape).astype(dtype)
    pixels[rng.random(pixels.shape) < 0.4] = fill
    found = halved(pixels, fill, (2, 2))
    assert found.dtype == pixels.dtype
    assert np.array_equal(found, reduced(pixels, fill), equal_nan=True)


def make_pair(folder: Path, shape: tuple[int, int] = (330, 271), seed: int = 0) -> None:
    for role, number in (("thermal", 1), ("optical", 2)):
        pixels = np.rint(photo(shape, number + seed)[0] * 5000 + 1000).astype(np.uint16)
        pixels[40:90, 30:75] = 0
        pixels[100, 3] = 0
        write_raster(folder / f"a_{role}.tif", pixels, nodata=0)


INPUTS = {"thermal": "{scene}_thermal.tif", "optical": "{scene}_optical.tif"}


def fused(folder: Path, overwrite: bool = False, **settings: Any) -> batchfuse.Report:
    settings.setdefault("tiles", {"size": 64})
    return batchfuse.run(batchfuse.Recipe(inputs=INPUTS, folder=folder, **settings), overwrite=overwrite)


def pixels_of(path: Path) -> NDArray[Any]:
    group = zarr.open_group(path, mode="r")
    return np.asarray(group["fused"][...])


FORMS: dict[str, dict[str, Any]] = {
    "format 2": {},
    "format 3": {"zarr_format": 3},
    "shards": {"zarr_format": 3, "shard": 32},
}
each = pytest.mark.parametrize("form", FORMS)


def level_path(folder: Path, form: str, number: int) -> Path:
    if form == "format 2":
        return folder / "a.levels.zarr" / str(number)
    return folder / "a.zarr" / f"ovr_{2**number}x"


@each
@pytest.mark.parametrize("dtype", ["float32", "uint16"])
@pytest.mark.parametrize("size", [64, 33])
def test_every_level_of_a_run_is_reduced_from_the_one_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, dtype: str, size: int
) -> None:
    monkeypatch.setattr(raster, "SMALLEST", 50)
    make_pair(tmp_path)
    size = 32 * round(size / 32) if form == "shards" else size
    report = fused(tmp_path, tiles={"size": size}, output={"dtype": dtype, "pyramid": True, **FORMS[form]})
    assert report.exit_code == 0
    below = pixels_of(tmp_path / "fused/a.zarr")
    fill = math.nan if dtype == "float32" else 0
    for number, shape in enumerate([(165, 136), (83, 68), (42, 34)], start=1):
        level = level_path(tmp_path / "fused", form, number)
        found = pixels_of(level)
        assert found.shape == (1, *shape)
        assert np.array_equal(found, reduced(below, fill), equal_nan=True)
        assert Store.open(level).complete
        below = found
    assert not level_path(tmp_path / "fused", form, 4).exists()


@each
def test_a_level_lies_where_its_pixels_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setattr(raster, "SMALLEST", 100)
    make_pair(tmp_path)
    fused(tmp_path, output={"pyramid": True, **FORMS[form]})
    for number in (1, 2):
        path = level_path(tmp_path / "fused", form, number)
        shown = xarray.open_zarr(path)
        assert shown.rio.crs.to_epsg() == 32632
        assert shown.rio.transform() == NORTH_UP @ Affine.scale(2**number)
        assert shown.fused.rio.transform() == NORTH_UP @ Affine.scale(2**number)
        if form == "format 2":
            with rasterio.open(path) as dataset:
                assert dataset.crs.to_epsg() == 32632
                assert dataset.transform == NORTH_UP @ Affine.scale(2**number)
                assert np.array_equal(dataset.read(), pixels_of(path), equal_nan=True)
        else:
            inside = xarray.open_zarr(path.parent, group=path.name)
            assert inside.fused.equals(shown.fused)


def test_the_image_itself_opens_as_before(tmp_path: Path) -> None:
    make_pair(tmp_path)
    fused(tmp_path, output={"path": "with", "pyramid": True})
    fused(tmp_path, output={"path": "without"})
    with (
        rasterio.open(tmp_path / "with/a.zarr") as with_levels,
        rasterio.open(tmp_path / "without/a.zarr") as plain,
    ):
        assert with_levels.transform == plain.transform
        assert np.array_equal(with_levels.read(), plain.read(), equal_nan=True)
    fused(tmp_path, output={"path": "three", "zarr_format": 3, "pyramid": True})
    shown = xarray.open_zarr(tmp_path / "three/a.zarr")
    assert np.array_equal(shown.fused.values, pixels_of(tmp_path / "without/a.zarr"), equal_nan=True)


def test_format_3_tells_of_its_levels_by_the_multiscales_convention(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raster, "SMALLEST", 100)
    make_pair(tmp_path)
    fused(tmp_path, output={"zarr_format": 3, "pyramid": True})
    store = tmp_path / "fused/a.zarr"
    attributes = json.loads((store / "zarr.json").read_text())["attributes"]
    assert [found["name"] for found in attributes["zarr_conventions"]] == ["multiscales", "proj:", "spatial:"]
    first, *others = attributes["multiscales"]["layout"]
    assert first["asset"] == "fused"
    assert [found["asset"] for found in others] == ["ovr_2x/fused", "ovr_4x/fused"]
    assert [found["derived_from"] for found in others] == ["fused", "ovr_2x/fused"]
    group = zarr.open_group(store, mode="r", use_consolidated=True)
    for found in (first, *others):
        array = group[found["asset"]]
        assert list(array.shape[1:]) == found["spatial:shape"]
        assert array.attrs["spatial:transform"] == found["spatial:transform"]
        assert len(found["transform"]["scale"]) == array.ndim
    assert [found["transform"]["scale"] for found in others] == [[1.0, 2.0, 2.0]] * 2
    assert sorted(group.group_keys()) == ["ovr_2x", "ovr_4x"]


@each
def test_a_pyramid_is_added_to_a_store_that_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(raster, "SMALLEST", 100)
    make_pair(tmp_path)
    fused(tmp_path, output=FORMS[form])
    store = tmp_path / "fused/a.zarr"
    before = contents(store)
    report = fused(tmp_path, output={"pyramid": True, **FORMS[form]})
    assert [(o.status, o.fused) for o in report.outcomes] == [("kept", 0)]
    assert Store.open(level_path(tmp_path / "fused", form, 2)).complete
    after = contents(store)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == (set() if form == "format 2" else {"zarr.json", "fused/digests.json"})
    assert Store.open(store).complete
    # and is kept by a run that doesn't ask for one
    fused(tmp_path, output=FORMS[form])
    assert contents(store) == after


@each
def test_missing_tiles_of_levels_are_made_again_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(raster, "SMALLEST", 60)
    make_pair(tmp_path)
    output = {"pyramid": True, **FORMS[form]}
    fused(tmp_path, output=output)
    folder = tmp_path / "fused"
    before = {**contents(folder / "a.zarr"), **contents(level_path(folder, form, 1).parent)}
    for number, index in ((1, (0, 1)), (1, (2, 0)), (2, (1, 1))):
        Store.open(level_path(folder, form, number)).chunk_path(index).unlink()
    shutil.rmtree(level_path(folder, form, 3))
    Store.open(folder / "a.zarr").chunk_path((1, 0)).unlink()
    left = partial_path(level_path(folder, form, 1))
    left.mkdir()
    report = fused(tmp_path, output=output)
    assert report.outcomes[0].fused == 1
    assert not left.exists()
    assert {**contents(folder / "a.zarr"), **contents(level_path(folder, form, 1).parent)} == before


@each
def test_levels_of_another_image_are_never_kept(tmp_path: Path, form: str) -> None:
    make_pair(tmp_path)
    output = {"pyramid": True, **FORMS[form]}
    fused(tmp_path, output=output)
    level = level_path(tmp_path / "fused", form, 1)
    stale = pixels_of(level)
    fused(tmp_path, output=output, fusion={"strategy": "average"}, overwrite=True)
    made = pixels_of(level)
    assert not np.array_equal(made, stale, equal_nan=True)
    assert np.array_equal(made, reduced(pixels_of(tmp_path / "fused/a.zarr"), math.nan), equal_nan=True)
    # without a pyramid, none is left beside the new image
    fused(tmp_path, output=FORMS[form], overwrite=True)
    assert not level.exists()
    # the image was deleted by hand, and made otherwise
    fused(tmp_path, output=output)
    shutil.rmtree(tmp_path / "fused/a.zarr")
    fused(tmp_path, output=output, fusion={"strategy": "average"})
    assert np.array_equal(pixels_of(level), made, equal_nan=True)


def test_levels_that_were_put_beside_another_store_are_replaced(tmp_path: Path) -> None:
    grid = Grid((300, 300), NORTH_UP, None)
    stores = []
    for name, value in (("a", 1), ("b", 2)):
        layout = RasterLayout(grid, ("fused",), "uint8", 0, 512)
        store = Store.create(tmp_path / name / "s.zarr", layout, {"value": value})
        store.write(store.tiling[(0, 0)], np.full((1, 300, 300), value, "uint8"))
        (level,) = levels_of(store)
        made = begun_level(store, level)
        write_level(store, made, made.tiling[(0, 0)])
        made.seal()
        stores.append(store)
    shutil.rmtree(tmp_path / "b/s.levels.zarr")
    shutil.copytree(tmp_path / "a/s.levels.zarr", tmp_path / "b/s.levels.zarr")
    (level,) = levels_of(stores[1])
    assert begun_level(stores[1], level).unwritten(made.tiling) == list(made.tiling)


@each
def test_a_level_that_cannot_be_opened_is_made_again(tmp_path: Path, form: str) -> None:
    make_pair(tmp_path)
    output = {"pyramid": True, **FORMS[form]}
    fused(tmp_path, output=output)
    level = level_path(tmp_path / "fused", form, 1)
    before = contents(level)
    for path in (level / "fused").glob("*z*r*"):
        path.write_bytes(b"{")
    assert fused(tmp_path, output=output).exit_code == 0
    assert contents(level) == before


def test_a_level_that_lacks_a_file_beside_its_chunks_is_made_again(tmp_path: Path) -> None:
    make_pair(tmp_path)
    fused(tmp_path, output={"pyramid": True})
    level = level_path(tmp_path / "fused", "format 2", 1)
    before = contents(level)
    chunks = [path for path in Store.open(level).files_beside_chunks() if not path.name.startswith(".")]
    chunks[0].unlink()
    assert fused(tmp_path, output={"pyramid": True}).exit_code == 0
    assert contents(level) == before


def test_what_is_in_the_way_of_levels_is_named_and_left_alone(tmp_path: Path) -> None:
    make_pair(tmp_path)
    (tmp_path / "fused/a.levels.zarr").mkdir(parents=True)
    (tmp_path / "fused/a.levels.zarr/notes.txt").write_text("keep")
    report = fused(tmp_path, output={"pyramid": True})
    assert "a.levels.zarr is in the way of the levels: move it" in (report.outcomes[0].reason or "")
    assert (tmp_path / "fused/a.levels.zarr/notes.txt").read_text() == "keep"
    remove_levels(tmp_path / "fused/a.zarr")
    assert (tmp_path / "fused/a.levels.zarr/notes.txt").exists()


def test_a_folder_of_levels_is_no_store_and_says_which_are(tmp_path: Path) -> None:
    make_pair(tmp_path)
    fused(tmp_path, output={"pyramid": True})
    folder = tmp_path / "fused/a.levels.zarr"
    assert not is_store(folder)
    with pytest.raises(StoreError, match=r"name one within it, such as .*a\.levels\.zarr/1"):
        Store.open(folder)


def test_an_image_of_256_pixels_has_no_levels(tmp_path: Path) -> None:
    make_pair(tmp_path, (256, 200))
    fused(tmp_path, output={"pyramid": True})
    assert not (tmp_path / "fused/a.levels.zarr").exists()
    store = Store.create(
        tmp_path / "b.zarr", RasterLayout(Grid((1, 257), NORTH_UP), ("fused",), "uint8", 0, 64), {}
    )
    assert [level.layout.grid.shape for level in levels_of(store)] == [(1, 129)]


def info(path: Path) -> list[str]:
    """What `batchfuse info` prints."""
    return CliRunner().invoke(commands, ["info", str(path)]).output.splitlines()


def test_info_tells_of_format_shards_and_levels(tmp_path: Path) -> None:
    make_pair(tmp_path)
    fused(tmp_path, output={"zarr_format": 3, "shard": 32, "pyramid": True})
    told = described(tmp_path / "fused/a.zarr")
    assert (told["zarr_format"], told["shard"]) == (3, 32)
    assert told["levels"] == [str(tmp_path / "fused/a.zarr/ovr_2x")]
    assert "  Zarr format 3, chunks of 32 in shards, 1 reduced level" in info(tmp_path / "fused/a.zarr")
    level = described(tmp_path / "fused/a.zarr/ovr_2x")
    assert level["shape"] == [165, 136]
    assert "  reduced: a pixel is 2 pixels of the fused image wide" in info(tmp_path / "fused/a.zarr/ovr_2x")
