"""What an output folder is said to hold."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_engine import make_pair, recipe_of

import batchfuse
from batchfuse.cli import commands
from batchfuse.engine import unfinished
from batchfuse.errors import StoreError
from batchfuse.status import status_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Scenes that are done, partial, failed and never started."""
    for name in ("done", "partial", "failed", "late"):
        make_pair(tmp_path, name)
    (tmp_path / "failed_thermal.tif").write_bytes(b"no image at all")
    batchfuse.run(recipe_of(tmp_path, tiles={"size": 64}))
    fused = tmp_path / "fused"
    (fused / "partial.zarr/fused/0.1.1").unlink()
    report = json.loads((fused / "report.json").read_text())
    for scene in report["scenes"]:
        if scene["scene"] == "late":
            scene |= {"status": "not started", "store": None}
    (fused / "report.json").write_text(json.dumps(report))
    (fused / "late.zarr").rename(tmp_path / "late.zarr")
    return fused


def test_each_scene_has_its_state(folder: Path) -> None:
    found = status_of(folder)
    assert {s.scene: (s.state, s.written, s.tiles) for s in found.scenes} == {
        "done": ("done", 9, 9),
        "partial": ("partial", 8, 9),
        "failed": ("failed", 0, 0),
        "late": ("never started", 0, 9),
    }
    assert found.exit_code == 1
    assert found.holder is None
    assert not found.killed


def test_the_lines_name_what_is_not_done_and_why(folder: Path) -> None:
    result = CliRunner().invoke(commands, ["status", str(folder)])
    assert result.exit_code == 1
    first, *others = result.output.splitlines()
    assert first.endswith("4 scenes: 1 done, 1 partial, 1 failed, 1 never started")
    assert [line.strip().split(":")[0] for line in others] == ["failed", "late", "partial"]
    assert "failed_thermal.tif is not an image" in result.output
    told = json.loads(CliRunner().invoke(commands, ["status", str(folder), "--json"]).output)
    assert told["counts"] == {"done": 1, "partial": 1, "failed": 1, "never started": 1}
    assert told["running"] is None


def test_a_store_that_is_past_knowing_as_one_has_failed_and_is_not_to_be_started(folder: Path) -> None:
    (folder / "done.zarr/.zattrs").write_bytes(b"no JSON")
    (scene,) = (scene for scene in status_of(folder).scenes if scene.scene == "done")
    assert (scene.state, "done.zarr is damaged" in (scene.reason or "")) == ("failed", True)


def test_a_store_alone_has_a_status_and_a_run_makes_it_right(folder: Path) -> None:
    assert status_of(folder / "partial.zarr").scenes[0].state == "partial"
    (folder / "report.json").unlink()
    assert {s.scene for s in status_of(folder).scenes} == {"done", "partial"}
    batchfuse.run(recipe_of(folder.parent, tiles={"size": 64}), only="partial")
    assert status_of(folder / "partial.zarr").exit_code == 0


def test_a_run_that_ended_without_a_word_was_killed(folder: Path) -> None:
    report = json.loads((folder / "report.json").read_text()) | {"finished": False}
    (folder / "report.json").write_text(json.dumps(report))
    assert status_of(folder).killed


@pytest.mark.parametrize("what", ["missing", "file", "empty", "broken"])
def test_what_is_no_output_folder_is_one_line(tmp_path: Path, what: str) -> None:
    path = tmp_path / what
    if what == "file":
        path.touch()
    elif what != "missing":
        path.mkdir()
    if what == "broken":
        (path / "report.json").write_text("{")
    with pytest.raises(StoreError) as caught:
        status_of(path)
    assert what in str(caught.value)


@pytest.mark.parametrize(
    "content", ['{"scenes": ["a", 3]}', '{"scenes": null}', '{"scenes": [{"status": "failed"}]}', "[1]"]
)
def test_another_programs_report_tells_nothing(folder: Path, content: str) -> None:
    (folder / "report.json").write_text(content)
    found = status_of(folder)
    assert [scene.scene for scene in found.scenes] == ["done", "partial"]
    assert any("report.json holds no report of batchfuse (" in line for line in found.lines(verbose=False))
    for store in folder.glob("*.zarr"):
        shutil.rmtree(store)
    with pytest.raises(StoreError, match="has neither stores nor a report of batchfuse"):
        status_of(folder)


def test_a_run_beside_a_report_of_others_has_its_own_which_is_the_one_that_is_asked(folder: Path) -> None:
    (folder / "report.json").write_text("[" * 100_000)
    report = batchfuse.run(recipe_of(folder.parent, tiles={"size": 64}), only="[dpf]*")
    assert report.path == str(folder / "report-1.json")
    assert "report.json holds no report of batchfuse (nested too deeply)" in report.warnings[0]
    assert (folder / "report.json").read_text() == "[" * 100_000
    assert unfinished(folder) == {"failed"}
    states = {scene.scene: scene.state for scene in status_of(folder).scenes}
    assert states == {"done": "done", "partial": "done", "failed": "failed"}
    (folder / "report.json").unlink()
    assert unfinished(folder) == {"failed"}


def test_a_lease_that_cannot_be_read_is_told(folder: Path) -> None:
    os.mkfifo(folder / ".batchfuse-lease.json")
    result = CliRunner().invoke(commands, ["status", str(folder)])
    assert "lease.json can't be read (no regular file): if no run writes here, delete it" in result.output
    refused = CliRunner().invoke(commands, ["run", str(recipe_file(folder.parent))])
    assert refused.exit_code == 2
    assert refused.output.count("\n") == 1


def recipe_file(folder: Path) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(
        'inputs: {thermal: "{scene}_thermal.tif", optical: "{scene}_optical.tif"}\noutput: {path: fused}\n'
    )
    return path


def test_status_imports_nothing_heavy() -> None:
    import subprocess
    import sys

    code = (
        "import sys, batchfuse.cli.status, batchfuse.status\n"
        "print([m for m in ('torch', 'dask', 'distributed', 'numba', 'rasterio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
