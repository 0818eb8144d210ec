"""``--log-json``: what machines read of a run, on standard error."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from test_cli import call, folder
from test_progress import fused

from batchfuse.quiet import libraries_told
from batchfuse.report.events import EventLines, Events
from batchfuse.report.report import Outcome, Report

__all__ = ["folder"]  # a fixture

Event = dict[str, Any]


def parsed(text: str) -> list[Event]:
    """Each line as the object that it is."""
    events = [json.loads(line) for line in text.splitlines()]
    for event in events:
        assert list(event)[:3] == ["time", "level", "event"]
        assert event["time"].endswith("Z")
        datetime.fromisoformat(event["time"])
        assert event["level"] in ("info", "warning", "error")
    return events


def of(events: Sequence[Event], kind: str) -> list[Event]:
    return [event for event in events if event["event"] == kind]


def told(least: str = "info") -> tuple[EventLines, io.StringIO]:
    stream = io.StringIO()
    return EventLines(Events(least, stream)), stream


def test_each_step_is_an_event_with_scene_tile_and_worker() -> None:
    lines, stream = told()
    lines.begin(2, 5)
    for done in range(3):
        lines.phase("a", "statistics", done, 2)
    lines.phase("a", "fusing", 0, 4)
    lines.skip("a", 3)
    lines.skip("a", 0)
    lines.tile("a", fused(4096, (0, 2, 1), "cluster-3"))
    lines.retry("a", "a.tif can't be read", 2.0, 1, 3)
    outcome = Outcome("a", "complete", store="fused/a.zarr", seconds=1.5, tiles=4, fused=1, bytes=7)
    lines.end(outcome, "complete, 1 of 4 tiles fused")
    lines.warn("a", "a.tif is constant")
    lines.note("stopping")
    events = parsed(stream.getvalue())
    assert [event["event"] for event in events] == [
        *("begin", "phase", "phase", "skip", "tile", "retry", "end", "warning", "note"),
    ]
    by_kind = {
        event["event"]: {k: v for k, v in event.items() if k not in ("time", "event")} for event in events
    }
    assert by_kind["tile"] == {
        "level": "info",
        "scene": "a",
        "tile": [0, 2, 1],
        "worker": "node7:4321",
        "worker_name": "cluster-3",
        "began": "2023-11-14T22:13:20.250Z",
        "seconds": 0.123457,
        "pixels": 4096,
        "bytes": 144_000,
    }
    assert by_kind["phase"] == {"level": "info", "scene": "a", "phase": "fusing", "parts": 4}
    assert by_kind["skip"] == {"level": "info", "scene": "a", "tiles": 3}
    retry = {"message": "a.tif can't be read", "pause": 2.0, "retry": 1, "retries": 3}
    assert by_kind["retry"] == {"level": "warning", "scene": "a", **retry}
    assert by_kind["end"] == {
        "level": "info",
        "scene": "a",
        "status": "complete",
        "message": "complete, 1 of 4 tiles fused",
        "seconds": 1.5,
        "tiles": 4,
        "fused": 1,
        "bytes": 7,
        "store": "fused/a.zarr",
    }
    assert by_kind["warning"] == {"level": "warning", "scene": "a", "message": "a.tif is constant"}


def test_the_sum_counts_each_status_and_tells_the_warnings_of_the_run() -> None:
    lines, stream = told()
    statuses = ("complete", "kept", "kept", "failed", "interrupted", "not started")
    outcomes = tuple(Outcome(f"s{i}", status, fused=i) for i, status in enumerate(statuses))
    lines.finished(Report(outcomes, seconds=2.0004, warnings=("two scenes share a place",), path="r.json"))
    warning, finished = parsed(stream.getvalue())
    assert (warning["event"], warning["message"], "scene" in warning) == (
        *("warning", "two scenes share a place"),
        False,
    )
    counts = [finished[key] for key in ("complete", "kept", "failed", "interrupted", "not_started")]
    assert counts == [1, 2, 1, 1, 1]
    assert (finished["level"], finished["fused"], finished["report"], finished["exit_code"]) == (
        *("error", 15, "r.json"),
        1,
    )


def test_no_text_breaks_a_line() -> None:
    lines, stream = told()
    nasty = 'a\nb\r\x1b[31m"\\ \u2028 é \udcff 山'
    lines.note(nasty)
    assert stream.getvalue().isascii()
    assert parsed(stream.getvalue())[0]["message"] == nasty


def test_what_many_workers_say_of_the_run_is_told_once_and_every_warning_of_a_scene() -> None:
    lines, stream = told()
    for pid in range(5):
        lines.warn(None, f"the worker's log logs/node-{pid}.log can't be written")
        lines.warn("a", f"odd value {pid}")
    assert len(parsed(stream.getvalue())) == 1 + 5


def test_threads_never_cut_each_others_lines() -> None:
    lines, stream = told()

    def work() -> None:
        for _ in range(200):
            lines.tile("a", fused(1))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(parsed(stream.getvalue())) == 800


def test_what_libraries_say_is_an_event_and_their_terminal_is_given_back() -> None:
    heard: list[tuple[str, str, str]] = []
    before = list(logging.getLogger().handlers), warnings.showwarning
    with libraries_told(lambda *line: heard.append(line)):
        logging.getLogger("some.library").warning("%d odd blocks", 3)
        logging.getLogger("some.library").error("lost")
        logging.getLogger("some.library").info("hello")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old thing", stacklevel=1)
    assert heard[:2] == [("warning", "some.library", "3 odd blocks"), ("error", "some.library", "lost")]
    assert (heard[2][1], "old thing" in heard[2][2], len(heard)) == ("py.warnings", True, 3)
    assert (list(logging.getLogger().handlers), warnings.showwarning) == before


# --- the command --------------------------------------------------------------------------------


def test_a_run_with_a_failing_scene_tells_everything_as_json(folder: Path) -> None:
    (folder / "c_thermal.tif").write_bytes((folder / "a_thermal.tif").read_bytes())
    (folder / "c_optical.tif").write_bytes((folder / "a_optical.tif").read_bytes()[:300])
    done = call("run", folder / "recipe.yaml", "--log-json")
    assert (done.exit_code, done.stdout) == (1, "")
    events = parsed(done.stderr)
    assert [e["path"] for e in of(events, "unmatched")] == [str(folder / "lonely_thermal.tif")]
    (begin,) = of(events, "begin")
    assert (begin["scenes"], begin["tiles"]) == (3, 8)
    tiles = of(events, "tile")
    assert {(e["scene"], *e["tile"]) for e in tiles} == {
        (scene, y, x) for scene in "ab" for y in range(2) for x in range(2)
    }
    assert {e["worker"].rpartition(":")[2] for e in tiles} == {str(os.getpid())}
    assert all(e["seconds"] > 0 and e["bytes"] > 0 and e["began"] <= e["time"] for e in tiles)
    assert sum(e["pixels"] for e in tiles) == 2 * 90 * 100
    ends = {e["scene"]: e for e in of(events, "end")}
    assert {scene: e["status"] for scene, e in ends.items()} == {
        "a": "complete",
        "b": "complete",
        "c": "failed",
    }
    assert ends["c"]["level"] == "error"
    assert ends["c"]["message"].startswith(str(folder / "c_optical.tif"))
    phases = [e["phase"] for e in of(events, "phase") if e["scene"] == "a"]
    assert phases == ["statistics", "fusing", "quicklook"]
    assert events[-1]["event"] == "finished"
    assert (events[-1]["complete"], events[-1]["failed"], events[-1]["exit_code"]) == (2, 1, 1)


def test_quiet_leaves_the_errors_and_nothing_of_a_run_that_is_well(folder: Path) -> None:
    done = call("run", folder / "recipe.yaml", "--log-json", "-q")
    assert (done.exit_code, done.output) == (0, "")
    (folder / "a_optical.tif").write_bytes(b"")
    done = call("run", folder / "recipe.yaml", "--log-json", "--quiet")
    assert done.exit_code == 1
    assert [(e["event"], e["level"]) for e in parsed(done.stderr)] == [
        ("end", "error"),
        ("finished", "error"),
    ]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere.yaml"], "no such recipe file"),
        (["recipe.yaml", "--set", "tiles.size=x"], "tiles.size"),
        (["recipe.yaml", "--profile", "moon"], "moon"),
        (["recipe.yaml", "--only-failed"], "report.json"),
        (["recipe.yaml", "--bogus"], "--bogus"),
        ([], "Missing argument"),
    ],
)
def test_a_wrong_call_is_one_event_with_exit_code_2(folder: Path, arguments: list[str], line: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "batchfuse", "run", *arguments, "--log-json"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    (event,) = parsed(done.stderr)
    assert (event["event"], event["level"], event["exit_code"]) == ("error", "error", 2)
    assert line in event["message"]
    assert "traceback" not in event


def test_verbose_puts_the_traceback_into_the_event(folder: Path) -> None:
    (event,) = parsed(call("run", folder / "nowhere.yaml", "--log-json", "-v").stderr)
    assert "RecipeError" in event["traceback"]


def test_nothing_left_to_fuse_is_a_note(folder: Path) -> None:
    assert call("run", folder / "recipe.yaml", "-q").exit_code == 0
    done = call("run", folder / "recipe.yaml", "--only-failed", "--log-json")
    assert done.exit_code == 0
    assert [e["event"] for e in parsed(done.stderr)] == ["note"]


def test_verbose_lines_name_scene_tile_and_worker(folder: Path) -> None:
    done = call("run", folder / "recipe.yaml", "-v", "--only", "a")
    lines = [line for line in done.stderr.splitlines() if line.startswith("a: tile (")]
    assert len(lines) == 4
    assert all(f":{os.getpid()}" in line for line in lines)
