"""Runs that go wrong, stop and go on, through the Python interface and through real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasters import photo, write_raster

import batchfuse
from batchfuse import engine
from batchfuse.cluster import Demand, opened_cluster
from batchfuse.errors import StoreError
from batchfuse.fusion import methods
from batchfuse.fusion.shipped import weights_path
from batchfuse.geometry.tiling import Tile
from batchfuse.geometry.window import Window
from batchfuse.report.progress import FusedTile, Silence
from batchfuse.storage.lease import Lease
from batchfuse.storage.store import Store
from batchfuse.system.partials import partial_path

INPUTS = {"thermal": "{scene}_thermal.tif", "optical": "{scene}_optical.tif"}
GRID = Affine(10, 0, 500_000, 0, -10, 5_600_000)


def make_pair(folder: Path, name: str, shape: tuple[int, int] = (130, 140), seed: int = 0) -> None:
    for role, extra in (("thermal", 100), ("optical", 200)):
        pixels = np.rint(photo(shape, seed + extra)[0] * 5000 + 1000).astype(np.uint16)
        write_raster(folder / f"{name}_{role}.tif", pixels, transform=GRID)


def recipe_of(folder: Path, **settings: Any) -> batchfuse.Recipe:
    return batchfuse.Recipe(inputs=INPUTS, folder=folder, **settings)


def tree(store: Path) -> dict[str, bytes]:
    return {str(f.relative_to(store)): f.read_bytes() for f in sorted(store.rglob("*")) if f.is_file()}


def test_a_complete_store_is_kept_untouched(tmp_path: Path) -> None:
    make_pair(tmp_path, "a")
    batchfuse.run(recipe_of(tmp_path))
    before = tree(tmp_path / "fused/a.zarr")
    report = batchfuse.run(recipe_of(tmp_path))
    assert [o.status for o in report.outcomes] == ["kept"]
    assert report.exit_code == 0
    assert tree(tmp_path / "fused/a.zarr") == before


@pytest.mark.parametrize("strategy", ["l1", "mean", "detail"])
def test_a_missing_tile_is_fused_again_to_the_same_bytes(tmp_path: Path, strategy: str) -> None:
    make_pair(tmp_path, "a")
    settings = {"tiles": {"size": 48}, "fusion": {"strategy": strategy}}
    batchfuse.run(recipe_of(tmp_path, **settings))
    store = tmp_path / "fused/a.zarr"
    before = tree(store)
    for name in ("0.1.1", "0.0.2"):
        (store / "fused" / name).unlink()
    report = batchfuse.run(recipe_of(tmp_path, **settings))
    assert report.outcomes[0].fused == 2
    assert tree(store) == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"fusion": {"strategy": "mean"}}, "strategy.*l1.*mean"),
        ({"fusion": {"strategy": "detail"}}, "fusion.strategy: l1 in the store, detail in the recipe"),
        ({"tiles": {"size": 64}}, "tiles.size"),
        ({"output": {"dtype": "uint16"}}, "dtype.*float32.*uint16"),
        ({"validity": "all"}, "validity"),
    ],
)
def test_a_store_of_another_recipe_is_refused_with_the_difference(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    make_pair(tmp_path, "a")
    batchfuse.run(recipe_of(tmp_path))
    before = tree(tmp_path / "fused/a.zarr")
    report = batchfuse.run(recipe_of(tmp_path, **change))
    assert report.exit_code == 1
    reason = report.outcomes[0].reason or ""
    assert re.search(named, reason), reason
    assert "--overwrite" in reason
    assert tree(tmp_path / "fused/a.zarr") == before
    assert batchfuse.run(recipe_of(tmp_path, **change), overwrite=True).exit_code == 0


def test_a_changed_input_is_refused_by_its_name(tmp_path: Path) -> None:
    make_pair(tmp_path, "a")
    batchfuse.run(recipe_of(tmp_path))
    make_pair(tmp_path, "a", seed=5)
    reason = batchfuse.run(recipe_of(tmp_path)).outcomes[0].reason or ""
    assert "thermal: a_thermal.tif has changed" in reason


def test_other_weights_are_refused_by_their_checksum(tmp_path: Path) -> None:
    from batchfuse.training.trainer import train

    make_pair(tmp_path, "a")
    batchfuse.run(recipe_of(tmp_path))
    photograph = write_raster(tmp_path / "photograph.tif", np.rint(photo((80, 80))[0] * 255).astype(np.uint8))
    train([photograph], tmp_path / "mine.safetensors", iterations=1)
    recipe = recipe_of(tmp_path, fusion={"weights": "mine.safetensors"})
    reason = batchfuse.run(recipe).outcomes[0].reason or ""
    assert "weights: res2netfuse" in reason
    assert "mine.safetensors" in reason


def test_a_bad_scene_is_set_aside_and_the_others_finish(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        make_pair(tmp_path, name)
    (tmp_path / "b_thermal.tif").write_bytes(b"no image at all")
    report = batchfuse.run(recipe_of(tmp_path))
    assert [o.status for o in report.outcomes] == ["complete", "failed", "complete"]
    assert report.exit_code == 1
    assert "b_thermal.tif is not an image" in (report.outcomes[1].reason or "")
    written = json.loads((tmp_path / "fused/report.json").read_text())
    assert [scene["status"] for scene in written["scenes"]] == ["complete", "failed", "complete"]


def test_pixels_that_turn_out_damaged_leave_no_store(tmp_path: Path) -> None:
    damaged_pair(tmp_path, "a")
    report = batchfuse.run(recipe_of(tmp_path))
    assert report.exit_code == 1
    assert "a_thermal.tif can't be read" in (report.outcomes[0].reason or "")
    assert not (tmp_path / "fused/a.zarr").exists()


def test_the_next_run_sweeps_what_a_killed_one_was_writing_and_nothing_else(tmp_path: Path) -> None:
    make_pair(tmp_path, "a")
    fused = tmp_path / "fused"
    ours = [partial_path(fused / name) for name in ("a.zarr", "a.tif", "a.quicklook.png", "report.json")]
    for path in ours[:2]:
        (path / "inside").mkdir(parents=True)
    for path in ours[2:]:
        path.touch()
    token = "0123456789abcdef" * 2
    folders = [fused / name for name in (".backup.2024.partial", f".a.zarr.{token}.partial", "2024", "17")]
    for path in folders:
        path.mkdir()
        (path / "thesis.txt").touch()
    names = ["download.tif.partial", ".hidden.partial", "a.partial", ".17.partial", "report.json.12.partial"]
    files = [fused / name for name in (*names, f".{token}.partial", ".batchfuse-0.partial")]
    for path in files:
        path.touch()
    at_work = partial_path(fused / "b.tif")
    at_work.mkdir()
    with Lease(at_work):  # as `fuse` has one, in the same folder
        assert batchfuse.run(recipe_of(tmp_path)).exit_code == 0
        assert at_work.exists()
    assert not [path for path in ours if path.exists()]
    assert all(path.exists() for path in files)
    assert all((path / "thesis.txt").exists() for path in folders)


def test_a_report_that_cannot_be_written_any_more_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pair(tmp_path, "a")
    told: list[str] = []

    class Listening(Silence):
        def warn(self, scene: str | None, warning: str) -> None:  # noqa: ARG002
            told.append(warning)

    def full(_: batchfuse.Report, path: Path) -> None:
        raise batchfuse.RecipeError(f"the report {path} can't be written (No space left on device)")

    monkeypatch.setattr(batchfuse.Report, "write", full)
    report = batchfuse.run(recipe_of(tmp_path), progress=Listening())
    assert [o.status for o in report.outcomes] == ["complete"]
    assert any("No space left" in line for line in told)


def test_on_error_fail_stops_at_the_first(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_pair(tmp_path, name)
    (tmp_path / "a_thermal.tif").write_bytes(b"no image at all")
    report = batchfuse.run(recipe_of(tmp_path, on_error="fail"))
    assert [o.status for o in report.outcomes] == ["failed", "not started"]
    assert report.exit_code == 1


def damaged_pair(folder: Path, name: str) -> None:
    """A pair whose thermal image opens, and can't be read in the middle."""
    make_pair(folder, name)
    noise = np.random.default_rng(0).integers(0, 60000, (130, 140)).astype(np.uint16)
    path = folder / f"{name}_thermal.tif"
    write_raster(path, noise, transform=GRID, compress="deflate", blockysize=8)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 400] = bytes(400)
    path.write_bytes(damaged)


def test_on_error_fail_names_the_scene_that_stopped_the_others(tmp_path: Path) -> None:
    damaged_pair(tmp_path, "a")
    for number in range(12):
        make_pair(tmp_path, f"b{number}")
    report = batchfuse.run(recipe_of(tmp_path, on_error="fail"))
    assert report.exit_code == 1
    assert not report.interrupted
    assert [o.status for o in report.outcomes if o.scene == "a"] == ["failed"]
    others = [o for o in report.outcomes if o.scene != "a"]
    assert any(o.status == "not started" for o in others)
    assert all("a failed" in (o.reason or "") for o in others if o.status == "interrupted")


def test_a_picture_that_cannot_be_made_spoils_no_fused_image(tmp_path: Path) -> None:
    make_pair(tmp_path, "a")
    (tmp_path / "fused/a.quicklook.png").mkdir(parents=True)
    (tmp_path / "fused/a.quicklook.png/x").touch()
    report = batchfuse.run(recipe_of(tmp_path))
    assert [o.status for o in report.outcomes] == ["complete"]
    assert any("no quicklook" in warning for warning in report.outcomes[0].warnings)


def test_a_damaged_tile_that_the_picture_meets_is_a_failure(tmp_path: Path) -> None:
    make_pair(tmp_path, "a")
    batchfuse.run(recipe_of(tmp_path))
    (tmp_path / "fused/a.quicklook.png").unlink()
    chunk = next((tmp_path / "fused/a.zarr/fused").glob("0.*"))
    chunk.write_bytes(bytes(chunk.stat().st_size))
    report = batchfuse.run(recipe_of(tmp_path))
    assert report.exit_code == 1
    assert chunk.name in (report.outcomes[0].reason or "")
    chunk.unlink()
    assert batchfuse.run(recipe_of(tmp_path)).exit_code == 0


class Counting(Silence):
    """Adds up what it is told."""

    tiles = 0

    def tile(self, scene: str, tile: FusedTile) -> None:  # noqa: ARG002
        self.tiles += 1

    def skip(self, scene: str, tiles: int) -> None:  # noqa: ARG002
        self.tiles += tiles


def test_progress_counts_each_tile_once_also_where_a_scene_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pair(tmp_path, "a")
    settings = {"tiles": {"size": 48}}
    batchfuse.run(recipe_of(tmp_path, **settings))
    chunks = tmp_path / "fused/a.zarr/fused"
    (chunks / "0.1.1").unlink()
    (chunks / "0.2.2").unlink()

    def full(self: Store, tile: Tile, pixels: Any) -> int:
        if tile.index == (2, 2):
            raise StoreError(f"{self.path}: no space left on the disk")
        return write(self, tile, pixels)

    write = Store.write
    monkeypatch.setattr(Store, "write", full)
    counting = Counting()
    report = batchfuse.run(recipe_of(tmp_path, **settings), progress=counting)
    assert report.exit_code == 1
    assert counting.tiles == 9


def test_something_is_left_for_workers_until_the_last_scene_is_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demands: list[Demand] = []
    left: dict[str, int] = {}

    def opened(profile: batchfuse.Profile, demand: Demand) -> Any:
        demands.append(demand)
        return opened_cluster(profile, demand)

    class Watching(Silence):
        def phase(self, scene: str, phase: str, done: int, total: int) -> None:  # noqa: ARG002
            left[phase] = demands[0].tiles_left()

    monkeypatch.setattr(engine, "opened_cluster", opened)
    make_pair(tmp_path, "a")
    batchfuse.run(recipe_of(tmp_path, tiles={"size": 64}), progress=Watching())
    assert left["statistics"] == 9
    assert left["quicklook"] == 1
    assert demands[0].tiles_left() == 0


def test_lack_of_memory_is_one_line_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pair(tmp_path, "a")
    monkeypatch.setattr(methods, "_REGISTERED", dict(methods._REGISTERED))
    strategies = {"l1": batchfuse.Strategy("l1", 0, None, "hungry")}
    batchfuse.register(batchfuse.Method("hungry", "test_engine:Hungry", strategies, ""))
    outcome = batchfuse.run(recipe_of(tmp_path, fusion={"method": "hungry"})).outcomes[0]
    assert outcome.status == "failed"
    assert "smaller `tiles.size`" in (outcome.reason or "")


def test_weights_are_told_by_their_bytes_and_not_by_their_name(tmp_path: Path) -> None:
    make_pair(tmp_path, "a")
    batchfuse.run(recipe_of(tmp_path))
    (tmp_path / "copy.safetensors").write_bytes(weights_path("res2netfuse").read_bytes())
    report = batchfuse.run(recipe_of(tmp_path, fusion={"weights": "copy.safetensors"}))
    assert [o.status for o in report.outcomes] == ["kept"]


def test_naming_the_reference_that_was_chosen_anyway_changes_nothing(tmp_path: Path) -> None:
    make_pair(tmp_path, "a")
    batchfuse.run(recipe_of(tmp_path))
    assert batchfuse.run(recipe_of(tmp_path, reference="optical")).outcomes[0].status == "kept"
    assert batchfuse.run(recipe_of(tmp_path, reference="thermal")).outcomes[0].status == "failed"


def test_a_fused_image_without_a_valid_pixel_is_told(tmp_path: Path) -> None:
    make_pair(tmp_path, "a")
    for role, half in (("thermal", slice(0, 65)), ("optical", slice(65, 130))):
        pixels = np.full((130, 140), 500, np.uint16)
        pixels[::2] = 700
        pixels[half] = 0
        write_raster(tmp_path / f"a_{role}.tif", pixels, transform=GRID, nodata=0)
    outcome = batchfuse.run(recipe_of(tmp_path, validity="all")).outcomes[0]
    assert outcome.status == "complete"
    assert any("no valid pixel" in warning for warning in outcome.warnings)


def test_a_damaged_record_gets_one_line_with_the_remedy(tmp_path: Path) -> None:
    make_pair(tmp_path, "a")
    batchfuse.run(recipe_of(tmp_path))
    attributes = tmp_path / "fused/a.zarr/.zattrs"
    record = json.loads(attributes.read_text())
    del record["batchfuse"]["sources"][0]["scaling"]
    attributes.write_text(json.dumps(record))
    for copy in (".zmetadata", "fused/digests.json"):
        (attributes.parent / copy).unlink()
    outcome = batchfuse.run(recipe_of(tmp_path)).outcomes[0]
    assert outcome.status == "failed"
    assert "damaged" in (outcome.reason or "")
    assert "--overwrite" in (outcome.reason or "")


def test_a_value_far_below_the_range_spoils_no_neighbour(tmp_path: Path) -> None:
    make_pair(tmp_path, "a")
    with rasterio.open(tmp_path / "a_thermal.tif") as dataset:
        pixels = dataset.read(1).astype(np.float32)
    half = GRID @ Affine.translation(0.5, 0)
    images = []
    for value in (0.0, -9999.0):
        pixels[60, 60] = value
        write_raster(tmp_path / "a_thermal.tif", pixels, transform=half)
        inputs = {**INPUTS, "thermal": {"path": INPUTS["thermal"], "range": [0, 6000]}}
        recipe = batchfuse.Recipe(inputs=inputs, folder=tmp_path, output={"path": f"v{value:g}"})
        assert batchfuse.run(recipe).exit_code == 0
        images.append(Store.open(tmp_path / f"v{value:g}" / "a.zarr").read(Window.whole((130, 140))))
    assert np.array_equal(*images, equal_nan=True)


def test_a_lone_huge_value_makes_no_hole(tmp_path: Path) -> None:
    make_pair(tmp_path, "a")
    pixels = photo((130, 140), 3)[0].astype(np.float32)
    pixels[60, 60] = 3e38
    write_raster(tmp_path / "a_thermal.tif", pixels, transform=GRID)
    assert batchfuse.run(recipe_of(tmp_path)).exit_code == 0
    image = Store.open(tmp_path / "fused/a.zarr").read(Window.whole((130, 140)))
    assert np.isfinite(image).all()


@pytest.mark.parametrize("crs", ['LOCAL_CS["Arbitrary",UNIT["metre",1]]', "EPSG:4326"])
def test_a_scene_in_an_impossible_place_does_not_stop_the_others(tmp_path: Path, crs: str) -> None:
    for name in ("a", "b"):
        make_pair(tmp_path, name)
    write_raster(tmp_path / "b_thermal.tif", np.ones((30, 30), np.uint16), transform=GRID, crs=crs)
    report = batchfuse.run(recipe_of(tmp_path))
    assert [o.status for o in report.outcomes] == ["complete", "failed"]
    assert "b_thermal.tif" in (report.outcomes[1].reason or "")


def test_something_else_at_the_stores_place_is_left_alone(tmp_path: Path) -> None:
    make_pair(tmp_path, "a")
    foreign = tmp_path / "fused/a.zarr"
    foreign.mkdir(parents=True)
    (foreign / "precious.txt").write_text("mine")
    for overwrite in (False, True):
        report = batchfuse.run(recipe_of(tmp_path), overwrite=overwrite)
        assert report.exit_code == 1
        assert "not a store of batchfuse" in (report.outcomes[0].reason or "")
    assert (foreign / "precious.txt").read_text() == "mine"


def test_a_bug_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pair(tmp_path, "a")
    monkeypatch.setattr(methods, "_REGISTERED", dict(methods._REGISTERED))
    strategies = {"l1": batchfuse.Strategy("l1", 0, None, "broken")}
    batchfuse.register(batchfuse.Method("broken", "test_engine:Broken", strategies, ""))
    (outcome,) = batchfuse.run(recipe_of(tmp_path, fusion={"method": "broken"})).outcomes
    assert outcome.status == "failed"
    assert "ZeroDivisionError" in (outcome.reason or "")
    assert "in fuse" in (outcome.traceback or "")


class Broken:
    """A method of somebody else's that has a bug."""

    device, precision = "cpu", "float32"

    def __init__(self, **_: Any) -> None: ...

    def fuse(self, *_: Any) -> None:
        raise ZeroDivisionError


class Hungry(Broken):
    """A method that asks for more than there is."""

    def fuse(self, *_: Any) -> None:
        raise MemoryError("Unable to allocate 9 TiB")


def command(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "batchfuse", "run", str(folder / "recipe.yaml"), *arguments]


@pytest.fixture
def long_run(tmp_path: Path) -> Path:
    return make_long_run(tmp_path)


def make_long_run(folder: Path, size: int = 64, shape: tuple[int, int] = (420, 460)) -> Path:
    """A recipe and a pair that are fused long enough to be disturbed."""
    make_pair(folder, "a", shape)
    inputs = "inputs:\n  thermal: '{scene}_thermal.tif'\n  optical: '{scene}_optical.tif'\n"
    (folder / "recipe.yaml").write_text(f"{inputs}tiles: {{size: {size}}}\n")
    return folder


def wait_for_tiles(store: Path, number: int) -> None:
    for _ in range(1200):
        if store.exists() and sum(f.name.startswith("0.") for f in (store / "fused").iterdir()) >= number:
            return
        time.sleep(0.05)
    raise AssertionError("no tile came")


def test_a_killed_run_loses_nothing(long_run: Path) -> None:
    store = long_run / "fused/a.zarr"
    undisturbed = subprocess.run(command(long_run), check=False, capture_output=True, text=True)
    assert undisturbed.returncode == 0, undisturbed.stderr
    wanted = tree(store)
    (long_run / "fused").rename(long_run / "undisturbed")
    for number in (1, 9, 30):
        with subprocess.Popen(command(long_run, "-q")) as process:
            wait_for_tiles(store, number)
            process.send_signal(signal.SIGKILL)
        assert not Store.open(store).complete
    done = subprocess.run(command(long_run), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "of 56 tiles fused" in done.stderr
    assert tree(store) == wanted


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_an_interrupted_run_says_so_and_continues(long_run: Path) -> None:
    store = long_run / "fused/a.zarr"
    with subprocess.Popen(command(long_run), stderr=subprocess.PIPE, text=True) as process:
        wait_for_tiles(store, 2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "interrupted after" in errors
    assert subprocess.run(command(long_run, "-q"), check=False).returncode == 0
