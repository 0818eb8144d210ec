"""The log of a worker: of this process, and of workers of a run."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_engine import make_pair, recipe_of

import batchfuse
from batchfuse import worker_log
from batchfuse.errors import SourceError
from batchfuse.fusion import methods
from batchfuse.profile import Profile
from batchfuse.report.progress import Silence
from batchfuse.worker_log import Task, end_log, keep_log, noted, taken_fault, this_worker

PROCESS = f"{socket.gethostname()}:{os.getpid()}"
FILE = f"{socket.gethostname()}-{os.getpid()}.log"
FOLDER = "BATCHFUSE_TEST_LOGS"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process keeps no log before and after."""
    monkeypatch.setattr(worker_log, "_name", None)
    yield
    end_log()
    taken_fault()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


def events(path: Path) -> list[str]:
    return [line["event"] for line in lines(path)]


def test_a_task_without_a_log_is_timed_and_writes_nothing(tmp_path: Path) -> None:
    with Task("a", "fusing", (0, 1)) as task:
        pass
    assert task.began > 1e9
    assert 0 <= task.seconds < 1
    assert this_worker() == (PROCESS, None)
    assert list(tmp_path.iterdir()) == []


def test_a_log_begins_with_the_worker_and_has_each_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    keep_log(tmp_path / "out/logs", "cluster-3", device="cuda:0", threads=4)
    with Task("a", "fusing", (0, 1)) as task:
        task.bytes = 99
    noted("a", "the GPU's memory is short")
    noted("b", "the GPU's memory is short")
    end_log()
    end_log()
    path = tmp_path / "out/logs" / FILE
    started, begun, done, note, ended = lines(path)
    about = {"worker": PROCESS, "worker_name": "cluster-3", "device": "cuda:0", "threads": 4, "job": "4711"}
    assert {key: started[key] for key in about} == about
    assert (started["event"], started["gpus"]) == ("started", "1")
    assert started["version"]
    task_of = {"scene": "a", "phase": "fusing", "tile": [0, 1]}
    assert {key: begun[key] for key in ("event", *task_of)} == {"event": "task_begun", **task_of}
    assert {key: done[key] for key in ("event", "bytes", *task_of)} == {
        "event": "task_done",
        "bytes": 99,
        **task_of,
    }
    assert done["seconds"] == round(task.seconds, 6)
    assert (note["event"], note["level"], note["scene"]) == ("note", "warning", "a")
    assert ended["event"] == "ended"
    assert {line["worker"] for line in lines(path)} == {PROCESS}
    assert this_worker() == (PROCESS, None)


def test_a_refusal_has_its_line_and_a_bug_its_traceback(tmp_path: Path) -> None:
    keep_log(tmp_path)
    with pytest.raises(SourceError), Task("a", "statistics"):
        raise SourceError("a.tif can't be read")
    with pytest.raises(ZeroDivisionError), Task("a", "survey", (1, 0)):
        1 / 0  # noqa: B018
    refusal, bug = (line for line in lines(tmp_path / FILE) if line["event"] == "task_failed")
    assert (refusal["level"], refusal["message"]) == ("error", "a.tif can't be read")
    assert "traceback" not in refusal
    assert bug["message"] == "ZeroDivisionError: division by zero"
    assert bug["traceback"].startswith("Traceback")
    assert "1 / 0" in bug["traceback"]
    assert bug["tile"] == [1, 0]


def test_it_is_begun_once_whoever_asks_and_goes_on_where_it_was(tmp_path: Path) -> None:
    threads = [threading.Thread(target=keep_log, args=(tmp_path, "w")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert events(tmp_path / FILE) == ["started"]
    end_log()
    keep_log(tmp_path, "w")
    assert events(tmp_path / FILE) == ["started", "ended", "started"]


def test_another_folder_ends_the_log_before(tmp_path: Path) -> None:
    keep_log(tmp_path / "one")
    keep_log(tmp_path / "two")
    with Task("a", "fusing"):
        pass
    assert events(tmp_path / "one" / FILE) == ["started", "ended"]
    assert events(tmp_path / "two" / FILE) == ["started", "task_begun", "task_done"]


def test_threads_never_cut_each_others_lines(tmp_path: Path) -> None:
    keep_log(tmp_path)

    def work() -> None:
        for number in range(100):
            with Task("scene", "fusing", (number, 0)):
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(events(tmp_path / FILE)) == 1 + 2 * 400


def test_a_folder_that_cannot_be_made_is_a_fault_that_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    keep_log(tmp_path / "logs", "w")
    with Task("a", "fusing"):
        pass
    assert f"{tmp_path}/logs/{FILE} can't be written" in (taken_fault() or "")
    assert taken_fault() is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_ends_the_log_and_not_the_task(tmp_path: Path) -> None:
    (tmp_path / FILE).symlink_to("/dev/full")
    keep_log(tmp_path)
    with Task("a", "fusing") as task:
        task.bytes = 1
    assert os.strerror(errno.ENOSPC) in (taken_fault() or "")
    with Task("a", "fusing"):
        pass
    assert taken_fault() is None


# --- of a run -----------------------------------------------------------------------------------


class Keeping:
    """A method whose workers keep a log where a variable says; it hands back its first source."""

    device, precision = "cpu", "float32"
    notes = ("the memory is short",)

    def __init__(self, **_: Any) -> None:
        keep_log(Path(os.environ[FOLDER]), "named")

    def fuse(self, sources: Any, core: Any, _: Any) -> Any:
        if os.environ.get("BATCHFUSE_TEST_FAILS"):
            raise batchfuse.SceneError("it doesn't want to")
        return np.ascontiguousarray(sources[(0, *core.slices)])


@pytest.fixture
def keeping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> batchfuse.Recipe:
    """A recipe of two scenes of four tiles, whose workers keep their logs in ``logs``."""
    monkeypatch.setattr(methods, "_REGISTERED", dict(methods._REGISTERED))
    strategies = {"l1": batchfuse.Strategy("l1", 0, None, "keeping")}
    batchfuse.register(batchfuse.Method("keeping", "test_worker_log:Keeping", strategies, ""))
    monkeypatch.setenv(FOLDER, str(tmp_path / "logs"))
    for name in ("a", "b"):
        make_pair(tmp_path, name)
    return recipe_of(tmp_path, fusion={"method": "keeping"}, tiles={"size": 70})


class Heard(Silence):
    """Keeps the tiles and the warnings of the run."""

    def __init__(self) -> None:
        self.tiles: list[Any] = []
        self.warnings: list[str] = []

    def tile(self, scene: str, tile: Any) -> None:
        self.tiles.append((scene, tile))

    def warn(self, scene: str | None, warning: str) -> None:
        if scene is None:
            self.warnings.append(warning)


def test_each_process_has_a_file_and_each_tile_says_who_fused_it(
    keeping: batchfuse.Recipe, tmp_path: Path
) -> None:
    heard = Heard()
    report = batchfuse.run(keeping, Profile(cluster="processes", workers=2, threads=1), progress=heard)
    assert report.exit_code == 0
    logs = sorted((tmp_path / "logs").iterdir())
    assert 1 <= len(logs) <= 2
    told = {path.stem.rpartition("-")[2]: lines(path) for path in logs}
    # before its first tile, a process has not begun to keep the log
    done = {
        (line["scene"], tuple(line["tile"]), pid)
        for pid, log in told.items()
        for line in log
        if line["event"] == "task_done" and line["phase"] == "fusing"
    }
    assert len(heard.tiles) == 8
    fused = {(scene, tile.index, tile.worker.rpartition(":")[2]) for scene, tile in heard.tiles}
    assert fused >= done
    assert len(done) >= 8 - len(logs)
    assert {name for name, *_ in told.values() for name in [name["event"]]} == {"started"}
    assert all([line["event"] for line in log].count("note") == 1 for log in told.values())
    assert {line["phase"] for log in told.values() for line in log if "phase" in line} >= {
        "fusing",
        "quicklook",
    }


def test_a_run_whose_logs_cannot_be_written_warns_once_and_goes_on(
    keeping: batchfuse.Recipe, tmp_path: Path
) -> None:
    (tmp_path / "logs").write_text("a file")
    heard = Heard()
    assert batchfuse.run(keeping, Profile(threads=2), progress=heard).exit_code == 0
    assert len(heard.warnings) == 1
    assert "can't be written" in heard.warnings[0]


def test_what_a_worker_refuses_is_in_its_log(
    keeping: batchfuse.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCHFUSE_TEST_FAILS", "yes")
    keep_log(tmp_path / "logs")
    assert batchfuse.run(keeping, Profile(threads=1)).exit_code == 1
    failed = [line for line in lines(tmp_path / "logs" / FILE) if line["event"] == "task_failed"]
    assert {line["message"] for line in failed} == {"it doesn't want to"}
    assert {line["scene"] for line in failed} == {"a", "b"}
