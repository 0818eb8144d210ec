"""The commands as a person calls them: what they print, and their exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from click.testing import CliRunner, Result
from rasters import photo, write_raster

from batchfuse.cli import commands

RECIPE = """\
inputs:
  thermal: "{scene}_thermal.tif"
  optical: "{scene}_optical.tif"
tiles: {size: 64}
"""
GRID = Affine(10, 0, 500_000, 0, -10, 5_600_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        for role in ("thermal", "optical"):
            pixels = np.rint(photo((90, 100), ord(name) + len(role))[0] * 9000).astype(np.uint16)
            write_raster(tmp_path / f"{name}_{role}.tif", pixels, transform=GRID)
    write_raster(tmp_path / "lonely_thermal.tif", pixels, transform=GRID)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(commands, [str(a) for a in arguments])


def test_run_prints_a_line_a_scene_and_where_the_report_is(folder: Path) -> None:
    done = call("run", folder / "recipe.yaml")
    assert done.exit_code == 0, done.output
    assert "[1/2] " in done.stderr
    assert "complete, 4 of 4 tiles fused" in done.stderr
    assert "2 scenes fused" in done.stderr
    assert "lonely_thermal.tif" in done.stderr
    assert (folder / "fused/report.json").is_file()


def test_only_set_report_and_overwrite_do_what_they_say(folder: Path) -> None:
    recipe = folder / "recipe.yaml"
    report = folder / "elsewhere" / "r.json"
    done = call("run", recipe, "--only", "a", "--set", "fusion.strategy=average", "--report", report, "-q")
    assert (done.exit_code, done.output) == (0, "")
    assert not (folder / "fused/b.zarr").exists()
    assert json.loads(report.read_text())["scenes"][0]["scene"] == "a"
    assert (
        call("run", recipe, "--only", "a", "--set", "fusion.strategy=average", "--report", report).exit_code
        == 0
    )
    report.write_text("[]")
    refused = call("run", recipe, "--only", "a", "--set", "fusion.strategy=average", "--report", report)
    assert (refused.exit_code, "r.json is there and is no report of batchfuse" in refused.stderr) == (2, True)
    assert report.read_text() == "[]"
    refused = call("run", recipe, "--only", "a")
    assert refused.exit_code == 1
    assert "average in the store" in refused.stderr
    assert call("run", recipe, "--only", "a", "--overwrite", "-q").exit_code == 0


def test_a_dry_run_says_what_would_be_done_and_does_nothing(folder: Path) -> None:
    done = call("run", folder / "recipe.yaml", "-n")
    assert done.exit_code == 0
    assert "2 scenes to fuse" in done.output
    assert not (folder / "fused").exists()


def test_plan_tells_scenes_grids_tiles_and_unmatched_files(folder: Path) -> None:
    shifted = GRID @ Affine.translation(0.5, 0)
    write_raster(folder / "b_thermal.tif", np.ones((90, 100), np.uint16), transform=shifted)
    made = json.loads(call("plan", folder / "recipe.yaml", "--json").output)
    assert [scene["scene"] for scene in made["scenes"]] == ["a", "b"]
    assert made["tiles"] == 8
    assert made["bytes_out"] == 2 * 90 * 100 * 4
    assert made["memory_of_a_worker"] > 100e6
    assert any("0.5 pixel" in line for line in made["scenes"][1]["differences"])
    assert made["unmatched"][0]["path"].endswith("lonely_thermal.tif")
    people = call("plan", folder / "recipe.yaml").output
    assert "0.5 pixel" in people
    assert "lonely_thermal.tif" in people


def test_a_grid_that_differs_is_refused_where_the_recipe_says_so(folder: Path) -> None:
    write_raster(folder / "b_thermal.tif", np.ones((45, 50), np.uint16), transform=GRID @ Affine.scale(2))
    done = call("plan", folder / "recipe.yaml", "--set", "grid.mismatch=error")
    assert done.exit_code == 1
    assert "b: can't be fused: thermal: 20 m pixels instead of 10 m" in done.output


def test_info_says_how_a_store_was_made(folder: Path) -> None:
    call("run", folder / "recipe.yaml", "-q")
    people = call("info", folder / "fused/a.zarr")
    assert "complete" in people.output
    assert "EPSG:32632" in people.output
    assert "a_thermal.tif" in people.output
    found = json.loads(call("info", folder / "fused/a.zarr", "--json").output)
    assert found["shape"] == [90, 100]
    assert found["weights"]["name"] == "res2netfuse"
    assert found["sources"][0]["scaling"]["maximum"] > 0
    assert (found["tiles_written"], found["complete"]) == (4, True)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run", "none.yaml"], "none.yaml"),
        (["run", "{recipe}", "--set", "fusion.stategy=l1"], 'did you mean "strategy"'),
        (["run", "{recipe}", "--only", "zzz"], "--only zzz matches none"),
        (["run", "{recipe}", "--profile", "nope"], "laptop"),
        (["run", "{recipe}", "--set", "fusion.strategy=detial"], "did you mean 'detail'"),
        (["run", "{recipe}", "--set", "fusion.strategy.detail.contrsat=1"], "did you mean 'contrast'"),
        (["run", "{recipe}", "--set", "fusion.method=res2netfus"], "res2netfuse"),
        (["run", "{recipe}", "--set", "output.path=recipe.yaml/x"], "can't be written"),
        (["run"], "RECIPE"),
        (["run", "{recipe}", "--nonsense"], "--nonsense"),
        (["nonsense"], "nonsense"),
    ],
)
def test_a_wrong_call_gets_a_line_and_exit_code_2(folder: Path, arguments: list[str], line: str) -> None:
    filled = [a.replace("{recipe}", str(folder / "recipe.yaml")) for a in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "batchfuse", *filled], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert line in done.stderr
    assert "Traceback" not in done.stderr


def test_info_of_no_store_is_one_line_and_exit_code_1(folder: Path) -> None:
    done = call("info", folder)
    assert done.exit_code == 1
    assert "not a store of batchfuse" in done.stderr


def test_verbose_shows_the_traceback_behind_a_line(folder: Path) -> None:
    done = call("run", folder / "recipe.yaml", "--set", "fusion.strategy=detial", "-v")
    assert done.exit_code == 2
    assert "Traceback" in done.stderr


def test_schema_and_methods_print_what_machines_read() -> None:
    assert "inputs" in json.loads(call("schema").output)["properties"]
    assert "cluster" in json.loads(call("schema", "--profile").output)["properties"]
    methods = json.loads(call("methods", "--json").output)
    halos = {s["name"]: s["halo"] for s in methods[0]["strategies"]}
    assert halos == {"l1": 12, "mean": 12, "average": 12, "detail": 20}
    assert "halo 12" in call("methods").output


def test_train_writes_weights_that_a_recipe_can_name(folder: Path) -> None:
    photograph = write_raster(folder / "photo.tif", np.rint(photo((80, 80))[0] * 255).astype(np.uint8))
    mine = folder / "mine.safetensors"
    done = call("train", photograph, "-o", mine, "--iterations", "2")
    assert done.exit_code == 0, done.output
    assert "dB" in done.output
    again = call("run", folder / "recipe.yaml", "--set", "fusion.weights=mine.safetensors", "-q")
    assert again.exit_code == 0, again.output


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    """Twelve scenes of different sizes whose thermal images are constant and twice as coarse."""
    for number in range(12):
        edge = 10 + 9 * number
        optical = np.rint(photo((edge, edge), number)[0] * 9000).astype(np.uint16)
        write_raster(tmp_path / f"s{number}_optical.tif", optical, transform=GRID)
        thermal = np.full((edge // 2, edge // 2), 7, np.uint16)
        write_raster(tmp_path / f"s{number}_thermal.tif", thermal, transform=GRID @ Affine.scale(2))
        write_raster(tmp_path / f"s{number}_QA.tif", thermal)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def test_a_plan_of_many_scenes_has_aligned_numbers_and_tells_what_they_share_once(campaign: Path) -> None:
    said = call("plan", campaign / "recipe.yaml").stdout.splitlines()
    scenes = [line for line in said if "pixels like optical" in line and not line.startswith("12 ")]
    assert len(scenes) == 12
    assert len({line.index(" pixels like") for line in scenes}) == 1
    assert len({len(line) for line in scenes}) == 1
    assert said.count("12 scenes, such as s0: thermal: 20 m pixels instead of 10 m") == 1
    assert sum("20 m pixels" in line for line in said) == 1
    every = call("plan", campaign / "recipe.yaml", "-v").stdout.splitlines()
    assert every.count("  thermal: 20 m pixels instead of 10 m") == 12


def test_a_line_break_in_a_file_name_breaks_no_line(folder: Path) -> None:
    (folder / "two\nlines\x1b[31m_thermal.tif").touch()
    said = call("plan", folder / "recipe.yaml").stdout
    assert "\x1b" not in said
    assert r"two\nlines\x1b[31m_thermal.tif: " in said


def test_many_unmatched_files_of_a_kind_are_told_once(campaign: Path) -> None:
    for number in range(5):
        (campaign / f"s{number}_thermal.tif").unlink()
    arguments = ("plan", campaign / "recipe.yaml", "--only", "s9")
    said = [line for line in call(*arguments).stdout.splitlines() if line.startswith("unmatched:")]
    assert len(said) == 2
    assert said[0].startswith("unmatched: 12 files, such as ")
    assert said[0].endswith(" (-v lists them)")
    assert said[1].startswith("unmatched: 5 files, such as ")
    assert call(*arguments, "-v").stdout.count("unmatched: ") == 17


def test_a_warning_that_many_scenes_have_is_told_when_it_comes_and_once_more_with_their_number(
    campaign: Path,
) -> None:
    said = call("run", campaign / "recipe.yaml").stderr.splitlines()
    warnings = [line for line in said if line.startswith("warning: ")]
    assert len(warnings) == 2
    assert warnings[1].startswith("warning: 12 scenes, such as s0: ")
    assert all(line.endswith("is constant (7): it has nothing to show") for line in warnings)
    assert said[-1].startswith("12 scenes fused, 0 complete before, 0 not, 12 with warnings; report: ")


def on_a_terminal(recipe: Path, **environment: str) -> str:
    """What a run writes to a terminal."""
    here, there = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "batchfuse", "run", str(recipe)],
        stderr=there,
        stdout=there,
        env={**os.environ, "COLUMNS": "150", "TERM": "xterm", **environment},
    ) as process:
        os.close(there)
        shown = b""
        while True:
            try:
                piece = os.read(here, 65536)
            except OSError:  # the terminal closed
                break
            if not piece:
                break
            shown += piece
    os.close(here)
    assert process.returncode == 0
    return shown.decode()


needs_a_terminal = pytest.mark.skipif(not hasattr(pty, "openpty"), reason="needs a pseudo-terminal")


@needs_a_terminal
def test_a_terminal_gets_bars_with_tiles_and_speed_and_its_cursor_back(folder: Path) -> None:
    text = on_a_terminal(folder / "recipe.yaml")
    assert "8/8 tiles" in text
    assert "Mpixel/s" in text
    assert "2 of 2 scenes" in text
    assert "[2/2] " in text
    assert "2 scenes fused" in text
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l")


@needs_a_terminal
@pytest.mark.parametrize(
    "environment",
    [{"TERM": "dumb"}, {"NO_COLOR": "1"}, {"PYTHONIOENCODING": "ascii:backslashreplace", "PYTHONUTF8": "0"}],
)
def test_a_terminal_gets_nothing_that_it_can_not_show(folder: Path, environment: dict[str, str]) -> None:
    text = on_a_terminal(folder / "recipe.yaml", **environment)
    assert "2 scenes fused" in text
    if "TERM" in environment:
        assert "\x1b" not in text
    if "NO_COLOR" in environment:
        assert not re.search(r"\x1b\[[\d;]*3\dm", text)
    if "PYTHONIOENCODING" in environment:
        assert text.isascii()
