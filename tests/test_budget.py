"""The memory that a worker needs: told before anything runs, kept to, and refused where it is not there."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from rasters import photo, write_raster

import batchfuse
from batchfuse import budget
from batchfuse.budget import Need, memory_of_a_worker, told_want, windows_of_a_tile, within_memory
from batchfuse.cli import commands
from batchfuse.imagery.scaling import Scaling
from batchfuse.job import Job
from batchfuse.picture import draw_quicklook
from batchfuse.profile import Profile
from batchfuse.report.mosaic import Mosaic


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """Two rasters of 300 x 400 pixels, and a recipe."""
    for name, seed in (("a", 1), ("b", 2)):
        write_raster(tmp_path / f"{name}.tif", np.rint(photo((300, 400), seed)[0] * 900).astype(np.uint16))
    (tmp_path / "recipe.yaml").write_text("inputs: {one: a.tif, two: b.tif}\ntiles: {size: 64}\n")
    return tmp_path


def job_of(folder: Path, **settings: Any) -> Job:
    made = {"inputs": {"one": "a.tif", "two": "b.tif"}, "folder": folder, **settings}
    (job,) = batchfuse.make_plan(batchfuse.Recipe.model_validate(made)).jobs
    return job


def profile_of(**settings: Any) -> Profile:
    return Profile.model_validate(settings)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("16GB", 16 * 10**9),
        ("1.5 GiB", 3 * 2**29),
        ("800MB", 8 * 10**8),
        ("2g", 2 * 10**9),
        ("5000000", 5 * 10**6),
    ],
)
def test_a_size_is_read_as_people_write_it(text: str, size: int) -> None:
    assert profile_of(memory=text).memory_bytes == size


@pytest.mark.parametrize("text", ["a lot", "-1GB", "0", "1GBB", "16 apples", "1e9"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(batchfuse.RecipeError, match="such as 16GB"):
        profile_of(memory=text)


def test_more_at_once_and_larger_tiles_need_more(pair: Path) -> None:
    small, large, one = (job_of(pair, tiles={"size": size}) for size in (64, 256, 1024))
    of = memory_of_a_worker
    assert of([small], 4) > of([small], 1)
    assert of([large], 1) > of([small], 1) == of([large], 1, edge=64)
    files = 2 * 2 * 300 * 400
    assert of([one], 8) - of([one], 1) == 7 * files  # there is one tile; each thread may hold the files
    assert of([one, one], 8) - of([one], 8) > 100e6  # tiles of two scenes at once
    assert of([small, large], 2) > of([large], 2)


def test_cores_without_a_tile_of_their_own_compute_windows_of_another(pair: Path) -> None:
    """A tile of 300 x 400 pixels has four windows of the network; its others wait for no core."""
    one, small = (job_of(pair, tiles={"size": size}) for size in (1024, 64))
    window = one.network_bytes
    assert [memory_of_a_worker([one], 1, n) - memory_of_a_worker([one], 1) for n in (1, 2, 4, 9)] == [
        0,
        window,
        3 * window,
        3 * window,
    ]
    assert memory_of_a_worker([small], 2, 9) == memory_of_a_worker([small], 2)  # a small tile is one window
    assert windows_of_a_tile([one], profile_of(threads=1), 4) == 4
    room = memory_of_a_worker([one], 1, 2)
    assert windows_of_a_tile([one], profile_of(threads=1, memory=f"{room}B"), 4) == 2
    assert windows_of_a_tile([one], profile_of(threads=1, memory=f"{room - 1}B"), 4) == 1


def finer_job(folder: Path, size: int, turn: float = 0.0, dtype: str = "uint16") -> Job:
    """A scene of 2000 x 2000 pixels of 10 m, with a source of 2.5 m; both are hardly a byte on disk."""
    for name, pixel, shape, turned in (("a", 10.0, 2000, 0.0), ("b", 2.5, 8000, turn)):
        upright = Affine(pixel, 0, 500_000, 0, -pixel, 5_600_000)
        place = Affine.rotation(turned, upright @ (shape / 2, shape / 2)) @ upright
        kept = {"tiled": True, "sparse_ok": True, "driver": "GTiff", "crs": "EPSG:32632", "transform": place}
        size_of = {"height": shape, "width": shape, "count": 1, "dtype": dtype if name == "b" else "uint16"}
        with rasterio.open(folder / f"{name}.tif", "w", **kept, **size_of):
            pass
    return job_of(folder, reference="one", tiles={"size": size})


@pytest.mark.parametrize("colours", [1, 3])
def test_the_picture_of_a_scene_takes_what_is_promised_for_it(tmp_path: Path, colours: int) -> None:
    shape = (700, 740)
    ramp = np.linspace(0, 1, 700 * 740).reshape(1, *shape)
    for name, bands in (("a", 1), ("b", colours)):
        options = {"photometric": "RGB"} if bands == 3 else {}
        write_raster(tmp_path / f"{name}.tif", np.ones((bands, *shape), np.uint8), **options)
    job = job_of(tmp_path, reference="two")
    pieces = [
        SimpleNamespace(first=(0, 0), total=ramp.repeat(n, 0), many=np.ones(shape, np.int32))
        for n in (1, colours, colours)
    ]
    scalings = [Scaling(0, 1, 0, 1, 1, 1, 0)] * 2
    tracemalloc.start()
    mosaic = Mosaic.of(shape, 3)
    mosaic.add(pieces)
    draw_quicklook(job, scalings, mosaic, tmp_path / "x.quicklook.png")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.25 * (promised := Need.of([job]).process - budget.PROCESS_BYTES) <= peak <= promised


def test_of_a_finer_source_so_much_is_counted_as_is_read_at_once(tmp_path: Path) -> None:
    """At most 16 million of its pixels: larger windows are read in halves, unless the source is turned."""
    upright = finer_job(tmp_path, 1300)
    assert memory_of_a_worker([finer_job(tmp_path, 1300, turn=30)], 1) > memory_of_a_worker([upright], 1)
    assert memory_of_a_worker([finer_job(tmp_path, 1300, dtype="float64")], 1) > memory_of_a_worker(
        [upright], 1
    )


def test_the_tiles_that_need_most_are_counted_and_each_once(tmp_path: Path) -> None:
    """Of four tiles the largest is read in halves; the others, cut at the scene's edge, may be read whole."""
    tiles = Need.of([finer_job(tmp_path, 1024)]).tiles
    assert [many for _, many in tiles] == [2, 1, 1]
    assert list(tiles) == sorted(tiles, reverse=True)


def test_fewer_tiles_at_once_keep_within_the_memory(pair: Path) -> None:
    job = job_of(pair, tiles={"size": 64})
    limit = memory_of_a_worker([job], 3)
    kept = within_memory([job], profile_of(threads=8, memory=f"{limit}B"))
    assert kept.threads == 3
    assert within_memory([job], profile_of(threads=2, memory=f"{limit}B")).threads == 2
    assert within_memory([job], profile_of(threads=8)).threads == 8


def test_a_tile_that_needs_more_is_refused_with_one_that_fits(pair: Path) -> None:
    rows = write_raster(pair / "a.tif", np.zeros((3000, 3000), np.uint16))
    assert rows
    write_raster(pair / "b.tif", np.arange(9_000_000, dtype=np.uint16).reshape(3000, 3000))
    job = job_of(pair, tiles={"size": 2048})
    limit = memory_of_a_worker([job], 1, edge=512)
    with pytest.raises(batchfuse.RecipeError, match=r"tiles\.size: 512") as refused:
        within_memory([job], profile_of(threads=2, memory=f"{limit}B"))
    assert "\n" not in str(refused.value)
    with pytest.raises(batchfuse.RecipeError, match="allow at least"):
        within_memory([job], profile_of(memory="100MB"))


def test_a_run_is_refused_before_anything_is_written(pair: Path) -> None:
    (pair / "small.yaml").write_text("memory: 50MB\n")
    for command in (["run"], ["plan"]):
        call = [*command, str(pair / "recipe.yaml"), "--profile", str(pair / "small.yaml")]
        result = CliRunner().invoke(commands, call)
        assert result.exit_code == 2
        assert "`memory: 50MB` is less" in result.stderr
    assert not (pair / "fused").exists()


def test_a_machine_with_less_than_is_needed_is_told_of(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(pair)
    assert told_want([job], profile_of()) is None
    monkeypatch.setattr("batchfuse.budget.memory", lambda: 10**8)
    assert "`memory:`" in (told_want([job], profile_of()) or "")
    assert told_want([job], profile_of(memory="2GB")) is None


def test_a_scheduler_s_workers_have_a_limit_of_their_own() -> None:
    with pytest.raises(batchfuse.RecipeError, match="leave it out"):
        profile_of(cluster="tcp://localhost:8786", memory="2GB")
