"""What may pass is tried again and what can't is not; nothing is lost, and each fault is one line."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from rasters import write_raster
from stores import write_store
from test_engine import GRID, command, damaged_pair, make_long_run, make_pair, recipe_of, tree, wait_for_tiles
from test_workers import workers_of
from volume_stores import write_nifti, write_volume_store

import batchfuse
from batchfuse import plan, retries
from batchfuse.cli import commands
from batchfuse.engine import run_plan, unfinished
from batchfuse.errors import FullError, RecipeError, SourceAwayError
from batchfuse.exports import export
from batchfuse.fusion import methods, windowed
from batchfuse.fusion.windowed import Res2NetFuser
from batchfuse.geometry.window import Window
from batchfuse.imagery import files, raster_files
from batchfuse.profile import Profile
from batchfuse.recipe import Export
from batchfuse.report.progress import FusedTile, Silence
from batchfuse.report.report import Outcome
from batchfuse.storage.beside import contents_path

pytestmark = pytest.mark.timeout(600)  # processes begin and end within one test

SETTINGS: dict[str, Any] = {"tiles": {"size": 64}}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PAUSE", 0.01)


@pytest.fixture
def wanted(tmp_path: Path) -> dict[str, bytes]:
    """What an undisturbed run makes of the pair ``a``."""
    make_pair(tmp_path, "a")
    assert batchfuse.run(recipe_of(tmp_path, **SETTINGS)).exit_code == 0
    found = tree(tmp_path / "fused/a.zarr")
    shutil.rmtree(tmp_path / "fused")
    return found


class Listening(Silence):
    """Keeps why scenes are tried again, and does something each time."""

    def __init__(self, *actions: Any) -> None:
        self.told: list[str] = []
        self.actions = list(actions)

    def retry(self, scene: str, reason: str, pause: float, number: int, most: int) -> None:  # noqa: ARG002
        self.told.append(f"{reason} ({number} of {most})")
        if self.actions:
            self.actions.pop(0)()


# sources that go away


def test_a_source_that_comes_back_is_waited_for(tmp_path: Path, wanted: dict[str, bytes]) -> None:
    made = batchfuse.make_plan(recipe_of(tmp_path, **SETTINGS))
    source, away = tmp_path / "a_thermal.tif", tmp_path / "away.tif"
    source.rename(away)
    listening = Listening(lambda: None, lambda: away.rename(source))
    report = run_plan(made, retries=3, progress=listening)
    assert report.exit_code == 0
    assert report.outcomes[0].retries == 2
    assert len(listening.told) == 2
    assert "a_thermal.tif can't be read" in listening.told[0]
    assert "(1 of 3)" in listening.told[0]
    assert tree(tmp_path / "fused/a.zarr") == wanted


def test_a_source_that_stays_away_fails_its_scene_and_the_next_run_goes_on(
    tmp_path: Path, wanted: dict[str, bytes]
) -> None:
    make_pair(tmp_path, "b")
    made = batchfuse.make_plan(recipe_of(tmp_path, **SETTINGS))
    source, away = tmp_path / "a_thermal.tif", tmp_path / "away.tif"
    source.rename(away)
    report = run_plan(made, retries=1)
    assert [o.status for o in report.outcomes] == ["failed", "complete"]
    assert report.outcomes[0].retries == 1
    assert "is its disk or network there?" in (report.outcomes[0].reason or "")
    away.rename(source)
    assert batchfuse.run(recipe_of(tmp_path, **SETTINGS)).exit_code == 0
    assert tree(tmp_path / "fused/a.zarr") == wanted


def test_a_read_error_in_the_middle_loses_no_tile_and_counts_none_twice(
    tmp_path: Path, wanted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, calls = raster_files._read, []
    fails = [False]

    def failing(*arguments: Any) -> Any:
        calls.append(None)
        fails[0] = 8 <= len(calls) < 12
        if fails[0]:
            raise batchfuse.SourceError("the file is damaged")
        return read(*arguments)

    def unread(file: Any) -> str:
        if fails[0]:
            error = OSError(errno.EIO, os.strerror(errno.EIO))
            raise SourceAwayError(f"{file.path} can't be read: {error.strerror}") from error
        return ""

    monkeypatch.setattr(raster_files, "_read", failing)
    monkeypatch.setattr(files, "content_of", unread)
    tiles = [0]

    class Counting(Silence):
        def tile(self, scene: str, tile: FusedTile) -> None:  # noqa: ARG002
            tiles[0] += 1

        def skip(self, scene: str, many: int) -> None:  # noqa: ARG002
            tiles[0] += many

    report = batchfuse.run(
        recipe_of(tmp_path, **SETTINGS), Profile(threads=1), progress=Counting(), retries=4
    )
    assert report.exit_code == 0, report.outcomes
    assert report.outcomes[0].retries > 0
    assert tiles[0] == report.outcomes[0].tiles
    assert tree(tmp_path / "fused/a.zarr") == wanted


def test_bad_data_is_not_tried_again(tmp_path: Path) -> None:
    damaged_pair(tmp_path, "a")
    listening = Listening()
    (outcome,) = batchfuse.run(recipe_of(tmp_path), progress=listening).outcomes
    assert (outcome.status, outcome.retries, listening.told) == ("failed", 0, [])
    assert "damaged or cut off" in (outcome.reason or "")


# headers that can't be read for now


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the thermal image of ``a`` lies once its header is to be read: it was there a moment before."""
    make_pair(tmp_path, "a")
    make_pair(tmp_path, "b")
    jobs_of, place = plan.jobs_of, tmp_path / "away.tif"

    def gone(making: Any, found: Any) -> Any:
        if found.name == "a" and not place.exists() and not planned:
            (tmp_path / "a_thermal.tif").rename(place)
        planned.append(found.name)
        return jobs_of(making, found)

    planned: list[str] = []
    monkeypatch.setattr(plan, "jobs_of", gone)
    return place


class Ends(Listening):
    """Keeps the order in which scenes end, too."""

    def end(self, outcome: Outcome, line: str) -> None:  # noqa: ARG002
        self.told.append(outcome.scene)


def test_a_header_that_cannot_be_read_for_now_holds_up_no_other_scene(tmp_path: Path, away: Path) -> None:
    listening = Ends(lambda: None, lambda: away.rename(tmp_path / "a_thermal.tif"))
    report = batchfuse.run(recipe_of(tmp_path, **SETTINGS), retries=3, progress=listening)
    assert [(o.scene, o.status) for o in report.outcomes] == [("a", "complete"), ("b", "complete")]
    first, *notes, last = listening.told
    assert (first, last, len(notes)) == ("b", "a", 2)
    assert "a_thermal.tif does not exist (1 of 3)" in notes[0]
    assert "(2 of 3)" in notes[1]


def test_a_header_that_stays_away_fails_its_scene_alone(tmp_path: Path, away: Path) -> None:
    report = batchfuse.run(recipe_of(tmp_path, **SETTINGS), retries=1)
    assert [(o.scene, o.status, o.retries) for o in report.outcomes] == [
        ("a", "failed", 1),
        ("b", "complete", 0),
    ]
    assert unfinished(tmp_path / "fused") == {"a"}
    away.rename(tmp_path / "a_thermal.tif")
    assert batchfuse.run(recipe_of(tmp_path, **SETTINGS)).exit_code == 0


def test_a_campaign_waits_for_the_header_before_it_measures(tmp_path: Path, away: Path) -> None:
    listening = Listening(lambda: away.rename(tmp_path / "a_thermal.tif"))
    recipe = recipe_of(tmp_path, scaling="campaign", **SETTINGS)
    assert batchfuse.run(recipe, progress=listening).exit_code == 0
    assert set(json.loads((tmp_path / "fused/campaign.json").read_text())["scenes"]) == {"a", "b"}


def test_a_header_that_is_damaged_is_not_read_again(tmp_path: Path) -> None:
    make_pair(tmp_path, "a")
    (tmp_path / "a_thermal.tif").write_bytes(b"II*\0 and no more")
    listening = Listening()
    (outcome,) = batchfuse.run(recipe_of(tmp_path), progress=listening).outcomes
    assert (outcome.status, outcome.retries, listening.told) == ("failed", 0, [])


def test_a_disk_that_refuses_to_be_read_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(code: int) -> Any:
        def identified(*_: Any) -> Any:
            raise OSError(code, os.strerror(code))

        return identified

    monkeypatch.setattr(files, "identified", refused(errno.EIO))
    assert files.is_away(tmp_path)
    monkeypatch.setattr(files, "identified", refused(errno.EACCES))
    assert not files.is_away(tmp_path)


# sources that change


def rewritten(path: Path, keep_time: bool) -> None:
    """Other bytes in the middle: the same size and ends."""
    stat, content = path.stat(), bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(255 - byte for byte in content[middle : middle + 64])
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + (0 if keep_time else 10**9)))


@pytest.fixture
def large_pair(tmp_path: Path) -> Path:
    """A pair whose files have a middle, beyond the ends that are always compared."""
    noise = np.random.default_rng(0).integers(1, 60000, (2, 420, 460)).astype(np.uint16)
    for role, pixels in zip(("thermal", "optical"), noise, strict=True):
        write_raster(tmp_path / f"a_{role}.tif", pixels, transform=GRID, compress=None)
    assert (tmp_path / "a_thermal.tif").stat().st_size > 2 * files.ENDS
    return tmp_path


def test_a_middle_that_was_rewritten_is_found_by_its_checksum(large_pair: Path) -> None:
    recipe = recipe_of(large_pair, tiles={"size": 256})
    assert batchfuse.run(recipe).exit_code == 0
    without = tree(large_pair / "fused/a.zarr")
    shutil.rmtree(large_pair / "fused")
    assert batchfuse.run(recipe, checksum=True).exit_code == 0
    assert tree(large_pair / "fused/a.zarr") == without
    assert batchfuse.run(recipe, checksum=True).outcomes[0].status == "kept"
    (large_pair / "a_thermal.tif").touch()  # another time is read again, and is no change
    assert batchfuse.run(recipe).outcomes[0].status == "kept"
    rewritten(large_pair / "a_thermal.tif", keep_time=True)
    assert batchfuse.run(recipe).outcomes[0].status == "kept"
    (outcome,) = batchfuse.run(recipe, checksum=True).outcomes
    assert outcome.status == "failed"
    assert "thermal: the content of a_thermal.tif has changed since" in (outcome.reason or "")
    assert tree(large_pair / "fused/a.zarr") == without
    assert batchfuse.run(recipe, overwrite=True, checksum=True).exit_code == 0
    assert tree(large_pair / "fused/a.zarr") != without
    rewritten(large_pair / "a_thermal.tif", keep_time=False)  # known contents: the time alone gives it away
    assert batchfuse.run(recipe).outcomes[0].status == "failed"
    assert batchfuse.run(recipe, overwrite=True).exit_code == 0
    assert not contents_path(large_pair / "fused/a.zarr").exists()


def test_a_source_that_is_replaced_while_it_is_fused_leaves_no_mixed_store(
    tmp_path: Path, wanted: dict[str, bytes]
) -> None:
    kept = (tmp_path / "a_thermal.tif").read_bytes()

    class Replacing(Silence):
        def tile(self, scene: str, tile: FusedTile) -> None:  # noqa: ARG002
            make_pair(tmp_path, "a", seed=5)

    (outcome,) = batchfuse.run(recipe_of(tmp_path, **SETTINGS), progress=Replacing()).outcomes
    assert outcome.status == "failed"
    assert "was changed while the scene was fused" in (outcome.reason or "")
    assert not (tmp_path / "fused/a.zarr").exists()
    assert kept != (tmp_path / "a_thermal.tif").read_bytes()
    make_pair(tmp_path, "a")
    assert batchfuse.run(recipe_of(tmp_path, **SETTINGS)).exit_code == 0
    assert tree(tmp_path / "fused/a.zarr") == wanted


# only what failed


def test_only_the_scenes_that_failed_are_run_again(tmp_path: Path) -> None:
    make_long_run(tmp_path, 64, (60, 70))
    make_pair(tmp_path, "b")
    (tmp_path / "b_thermal.tif").rename(tmp_path / "kept")
    (tmp_path / "b_thermal.tif").write_bytes(b"no image")
    call = ["run", str(tmp_path / "recipe.yaml"), "--only-failed"]
    told = CliRunner().invoke(commands, call)
    assert told.exit_code == 2
    assert "run without it first" in told.output
    assert CliRunner().invoke(commands, call[:-1]).exit_code == 1
    assert unfinished(tmp_path / "fused") == {"b"}
    assert CliRunner().invoke(commands, call).exit_code == 1
    (tmp_path / "kept").rename(tmp_path / "b_thermal.tif")
    done = CliRunner().invoke(commands, call)
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "fused/report.json").read_text())
    assert [(s["scene"], s["status"]) for s in report["scenes"]] == [("b", "complete")]
    done = CliRunner().invoke(commands, call)
    assert (done.exit_code, "nothing is left to fuse" in done.output) == (0, True)
    (tmp_path / "fused/report.json").write_text("[1]")
    with pytest.raises(RecipeError, match="run without it"):
        unfinished(tmp_path / "fused")


# memory of a GPU, as one with little of it behaves


@pytest.mark.parametrize("strategy", ["l1", "mean"])
@pytest.mark.parametrize("shape", [(2, 300, 280), (2, 6, 130, 120)])
def test_lack_of_gpu_memory_halves_the_windows_and_says_so(
    monkeypatch: pytest.MonkeyPatch, strategy: str, shape: tuple[int, ...]
) -> None:
    sources = np.random.default_rng(1).random(shape, np.float32)
    core = Window.whole(shape[-2:])
    asked: list[int] = []

    def fused(fuser: Res2NetFuser) -> Any:
        survey = fuser.survey(sources, np.ones(shape, bool), core) if strategy == "mean" else None
        return fuser.fuse(sources, core, survey)

    expected = fused(Res2NetFuser(strategy, "res2netfuse", "cpu"))
    images = Res2NetFuser._images

    def small(self: Res2NetFuser, slices: Any, window: Window) -> Any:
        asked.append(slices.shape[1] * window.size)
        if asked[-1] > 150 * 150:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return images(self, slices, window)

    monkeypatch.setattr(Res2NetFuser, "_images", small)
    fuser = Res2NetFuser(strategy, "res2netfuse", "cpu")
    assert np.abs(fused(fuser) - expected).max() < 1e-6
    assert max(asked) > 150 * 150
    (note,) = fuser.notes
    assert "was short of memory" in note
    before = len(asked)
    fused(fuser)  # and does not try what was too much again
    assert max(asked[before:]) <= 150 * 150


def test_other_errors_are_not_taken_for_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def broken(*_: Any) -> Any:
        calls.append(None)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(Res2NetFuser, "_images", broken)
    sources = np.zeros((2, 300, 300), np.float32)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        Res2NetFuser("l1", "res2netfuse", "cpu", threads=1).fuse(sources, Window.whole((300, 300)), None)
    assert len(calls) == 1


def test_a_device_too_small_for_any_window_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(windowed.Res2NetFuser, "_images", full)
    make_pair(tmp_path, "a")
    (outcome,) = batchfuse.run(recipe_of(tmp_path, **SETTINGS)).outcomes
    assert (outcome.status, outcome.retries) == ("failed", 0)
    assert "out of memory (CUDA out of memory" in (outcome.reason or "")


# through real processes


class DeadlyWhereBright:
    """A method that ends whoever fuses a bright tile with it."""

    device, precision = "cpu", "float32"

    def __init__(self, **_: Any) -> None: ...

    def fuse(self, sources: Any, core: Window, survey: Any) -> Any:  # noqa: ARG002
        if sources[0][core.slices].max() > 0.99:
            os.kill(os.getpid(), signal.SIGKILL)
        return sources[(0, *core.slices)].astype(np.float32)


def test_a_tile_that_ends_its_workers_is_blamed_by_name_and_the_others_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "_REGISTERED", dict(methods._REGISTERED))
    strategies = {"l1": batchfuse.Strategy("l1", 0, None, "deadly")}
    batchfuse.register(batchfuse.Method("deadly", "test_faults:DeadlyWhereBright", strategies, ""))
    for name in "abc":
        for role in ("thermal", "optical"):
            pixels = np.full((120, 130), 100, np.uint8)
            pixels[70:90, 70:90] = 255 if name == "b" else 120
            write_raster(tmp_path / f"{name}_{role}.tif", pixels, transform=GRID)
    inputs = {role: {"path": f"{{scene}}_{role}.tif", "range": [0, 255]} for role in ("thermal", "optical")}
    recipe = batchfuse.Recipe(inputs=inputs, folder=tmp_path, fusion={"method": "deadly"}, tiles={"size": 64})
    report = batchfuse.run(recipe, Profile(cluster="processes", workers=2, threads=1))
    statuses = [o.status for o in report.outcomes]
    assert statuses == ["complete", "failed", "complete"], [o.reason for o in report.outcomes]
    reason = report.outcomes[1].reason or ""
    assert reason.startswith("tile (1, 1) ended 3 workers"), reason
    assert report.outcomes[1].retries == 0


def test_all_workers_killed_at_once_lose_nothing(tmp_path: Path) -> None:
    make_long_run(tmp_path)
    (tmp_path / "two.yaml").write_text("cluster: processes\nworkers: 2\nthreads: 1\n")
    store = tmp_path / "fused/a.zarr"
    assert subprocess.run(command(tmp_path, "-q"), check=False).returncode == 0
    wanted = tree(store)
    shutil.rmtree(tmp_path / "fused")
    run = command(tmp_path, "-q", "--profile", str(tmp_path / "two.yaml"))
    with subprocess.Popen(run, stderr=subprocess.PIPE, text=True) as process:
        for number in (3, 20):
            wait_for_tiles(store, number)
            for worker in workers_of(process):
                worker.kill()
        _, errors = process.communicate(timeout=180)
    assert (process.returncode, errors) == (0, "")
    assert tree(store) == wanted


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of its own with hardly any room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here: that takes the rights of root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_is_one_line_and_the_run_goes_on_once_there_is_room(
    tmp_path: Path, small_disk: Path
) -> None:
    make_long_run(tmp_path)
    for role in ("thermal", "optical"):
        shutil.copy(tmp_path / f"a_{role}.tif", tmp_path / f"b_{role}.tif")
    assert subprocess.run(command(tmp_path, "-q"), check=False).returncode == 0
    there = command(tmp_path, "--set", f"output.path={small_disk / 'fused'}")
    done = subprocess.run(there, check=False, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("make room and run it again") == 1, done.stderr
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    again = subprocess.run([*there, "-q"], check=False, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    for name in "ab":
        now, then = tree(small_disk / f"fused/{name}.zarr"), tree(tmp_path / f"fused/{name}.zarr")
        assert pixels(now) == pixels(then)
    assert not [path for path in small_disk.rglob("*") if "partial" in path.name]


class Filling(Silence):
    """Fills a disk to the last byte when a phase is told of."""

    def __init__(self, disk: Path, phase: str) -> None:
        self.filler, self.when = disk / "filler", phase

    def phase(self, scene: str, phase: str, done: int, total: int) -> None:  # noqa: ARG002
        if phase == self.when and not self.filler.exists():
            with self.filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(4096)):
                    pass


@pytest.mark.parametrize(("phase", "named"), [("export", "a.tif"), ("quicklook", "a.quicklook.png")])
def test_a_disk_that_fills_up_after_the_fusing_is_one_line(
    tmp_path: Path, small_disk: Path, phase: str, named: str
) -> None:
    make_pair(tmp_path, "a")
    recipe = recipe_of(tmp_path, output={"path": str(small_disk / "fused"), "also": ["cog"]}, **SETTINGS)
    filling = Filling(small_disk, phase)
    (outcome,) = batchfuse.run(recipe, progress=filling).outcomes
    reason = outcome.reason or ""
    assert outcome.status == "failed"
    assert named in reason
    assert "No space left on device" in reason
    assert reason.endswith(": make room and run it again, what is finished is kept")
    filling.filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    (outcome,) = batchfuse.run(recipe).outcomes
    assert (outcome.status, outcome.fused) == ("kept", 0)
    assert [Path(path).name for path in outcome.exports] == ["a.tif"]
    assert (small_disk / "fused/a.quicklook.png").exists()
    assert not [path for path in small_disk.rglob("*") if "partial" in path.name]


@pytest.mark.parametrize(
    ("to", "sizes"), [("cog", (300, 3600, 4800)), ("png", (300, 1800, 2600)), ("nifti", (300, 4000))]
)
def test_an_export_onto_a_full_disk_says_so_and_leaves_nothing(
    tmp_path: Path, small_disk: Path, to: str, sizes: tuple[int, ...]
) -> None:
    noise = np.random.default_rng(0).random((1, 900, 900)).astype(np.float32)
    if to == "nifti":
        reference = write_nifti(tmp_path / "r.nii", noise.reshape(30, 150, 180))
        store = write_volume_store(tmp_path / "a.zarr", reference, noise.reshape(30, 150, 180))
    else:
        store = write_store(tmp_path / "a.zarr", noise)
    stretch = "minmax" if to == "png" else "none"
    wanted = Export.of(to, "uint16" if to == "png" else None, stretch)
    for size in sizes:  # full at once, as the plain copy is written, and later
        subprocess.run(["mount", "-o", f"remount,size={size}k", str(small_disk)], check=True)
        with pytest.raises(FullError, match=r"can't be written: .*: make room and run it again"):
            export(store, wanted, wanted.beside(small_disk / "a.zarr"))
        assert not list(small_disk.iterdir())


def pixels(store: dict[str, bytes]) -> dict[str, bytes]:
    """The chunks: another output path is told in the record."""
    return {name: content for name, content in store.items() if name.startswith("fused/0.")}


def test_a_scheduler_that_is_killed_is_one_line_and_the_next_run_goes_on(tmp_path: Path) -> None:
    make_long_run(tmp_path)
    store = tmp_path / "fused/a.zarr"
    assert subprocess.run(command(tmp_path, "-q"), check=False).returncode == 0
    wanted = tree(store)
    shutil.rmtree(tmp_path / "fused")
    scheduler, workers, address = started(tmp_path)
    try:
        run = command(tmp_path, "--profile", address)
        with subprocess.Popen(run, stderr=subprocess.PIPE, text=True) as process:
            wait_for_tiles(store, 5)
            scheduler.kill()
            _, errors = process.communicate(timeout=120)
    finally:
        for one in (scheduler, workers):
            one.kill()
            one.wait()
    assert process.returncode == 1, errors
    assert "Traceback" not in errors, errors
    assert "was lost: run it again to continue" in errors
    again = subprocess.run(command(tmp_path), check=False, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "56 of 56 tiles fused" not in again.stderr
    assert tree(store) == wanted


def started(folder: Path) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes], str]:
    """A scheduler and a worker as `dask` starts them, and where the scheduler listens."""
    file = folder / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    where = ["--scheduler-file", str(file)]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    listening = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    scheduler = subprocess.Popen([*dask, "scheduler", *where, *listening], **quiet)
    for _ in range(600):
        if file.exists() and file.read_text().strip():
            break
        time.sleep(0.1)
    one = ["worker", *where, "--nworkers", "1", "--nthreads", "2", "--no-dashboard", "--death-timeout", "20"]
    worker = subprocess.Popen([*dask, *one], cwd=folder, **quiet)
    return scheduler, worker, json.loads(file.read_text())["address"]
