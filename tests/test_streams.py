"""Standard output and error that are closed, full or not read: a line where one can be, the work done."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_engine import INPUTS, make_pair

import batchfuse

if os.name == "nt":
    pytest.skip("shells differ", allow_module_level=True)

NEEDS_FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")


def in_shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a line of bash in which ``$B`` is batchfuse."""
    script = folder / "script.py"  # as the installed command is
    script.write_text("from batchfuse.cli import main\nmain()\n")
    package = Path(batchfuse.__file__).parents[1]
    told = {**os.environ, "B": f"{sys.executable} {script}", "PYTHONPATH": str(package)}
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=told, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    make_pair(tmp_path, "a")
    path = tmp_path / "recipe.yaml"
    path.write_text(f'{{"inputs": {INPUTS}, "tiles": {{"size": 64}}, "output": {{"path": "fused"}}}}')
    return path


@NEEDS_FULL
def test_output_that_cannot_be_written_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    done = in_shell("$B methods >/dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (
        1,
        "batchfuse: standard output can't be written (No space left on device)\n",
    )


def test_output_that_was_closed_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    done = in_shell("$B methods >&-", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "standard output can't be written (" in done.stderr


def test_a_reader_that_went_away_ends_a_command_that_prints_without_a_word(tmp_path: Path) -> None:
    done = in_shell("$B schema | true; echo ${PIPESTATUS[0]}", tmp_path)
    assert (done.stdout, done.stderr) == ("141\n", "")


@pytest.mark.parametrize(
    "how", ["2>&1 | true", "<&- >&- 2>&-", pytest.param("2>/dev/full", marks=NEEDS_FULL)]
)
def test_a_run_that_nobody_hears_finishes_and_exits_by_what_it_did(recipe: Path, how: str) -> None:
    done = in_shell(f"$B run recipe.yaml {how}; echo ${{PIPESTATUS[0]}} >code", recipe.parent)
    assert (recipe.parent / "code").read_text() == "0\n"
    assert (done.stdout, done.stderr) == ("", "")
    assert '"finished": true' in (recipe.parent / "fused/report.json").read_text()
    assert (recipe.parent / "fused/a.zarr/.zmetadata").exists()


def test_a_folder_that_is_gone_is_one_line(recipe: Path) -> None:
    line = f"mkdir gone; cd gone; rmdir ../gone; $B run {recipe}"
    done = in_shell(line, recipe.parent)
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        "batchfuse: the folder that this was called in is gone: change to one that is there\n",
    )


def test_letters_that_a_terminal_has_not_are_no_error(recipe: Path) -> None:
    (recipe.parent / "a_thermal.tif").rename(recipe.parent / "火_thermal.tif")
    (recipe.parent / "a_optical.tif").rename(recipe.parent / "火_optical.tif")
    done = in_shell("PYTHONIOENCODING=ascii $B plan recipe.yaml", recipe.parent)
    assert (done.returncode, done.stderr) == (0, "")
