"""What names hold can't do anything to a terminal, a log or a file of JSON."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_engine import INPUTS, make_pair, recipe_of

import batchfuse
from batchfuse.cli import commands
from batchfuse.cli.options import echo, say_error
from batchfuse.report.lettering import Lettering
from batchfuse.report.progress import Lines
from batchfuse.report.report import Outcome
from batchfuse.system.words import json_text, printable, printable_lines

HOSTILE = "a\x1b[31m\n\r\x07\x9b2J\u202e\u200b\u2028\udcff\udcfeé火"
SAFE = "a\\x1b[31m\\n\\r\\x07\\x9b2J\\u202e\\u200b\\u2028\\xff\\xfeé火"


def test_what_moves_a_cursor_or_is_no_text_is_escaped_and_letters_are_themselves() -> None:
    assert printable(HOSTILE) == SAFE
    assert printable(Path("Köln, 東京 [1].tif")) == "Köln, 東京 [1].tif"
    assert printable_lines("one\x1b\ntwo\u202e") == "one\\x1b\ntwo\\u202e"


def test_each_byte_that_is_no_text_is_shown_as_that_byte_and_half_a_letter_by_its_number() -> None:
    for byte in range(0x80, 0x100):
        assert printable(os.fsdecode(bytes([byte]))) == f"\\x{byte:02x}"
    assert printable("\ud800\udc7f\udd00") == r"\ud800\udc7f\udd00"


@pytest.mark.parametrize("indent", [None, 2])
def test_json_comes_back_as_it_was_and_has_nothing_in_it_for_a_terminal(indent: int | None) -> None:
    value = {HOSTILE: [HOSTILE, 1.5, True, None], "é": "火"}
    text = json_text(value, indent)
    assert json.loads(text) == value
    assert text.encode().decode().replace("\n", "").isprintable()
    assert "火" in text
    assert json.loads(json_text({"a": (float("nan"), [float("inf")], 1)}, indent)) == {"a": [None, [None], 1]}


def test_every_way_out_for_people_escapes_names(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    lines = Lines(stream, tiles=True)
    lines.begin(1, 1)
    lines.warn(HOSTILE, HOSTILE)
    lines.end(Outcome(HOSTILE, "failed", HOSTILE), HOSTILE)
    echo(HOSTILE)
    say_error(printable(HOSTILE), 1, as_json=False)
    say_error(HOSTILE, 1, as_json=True)
    told = stream.getvalue() + "".join(capsys.readouterr())
    assert told.count(SAFE) == 6
    assert told.replace("\n", "").isprintable()
    assert Lettering(HOSTILE, 12).text.isprintable()


def test_a_stray_file_whose_name_is_no_text_is_listed_and_the_good_scene_fused(tmp_path: Path) -> None:
    make_pair(tmp_path, "a")
    stray = os.fsencode(tmp_path) + b"/\xff\xfe_thermal.tif"
    try:
        Path(os.fsdecode(stray)).write_bytes((tmp_path / "a_thermal.tif").read_bytes())
    except OSError:
        pytest.skip("this file system takes only names in UTF-8")
    report = batchfuse.run(recipe_of(tmp_path, tiles={"size": 64}))
    assert report.exit_code == 0
    told = json.loads((tmp_path / "fused/report.json").read_text(encoding="utf-8"))
    assert os.fsencode(told["unmatched"][0]["path"]) == stray
    (tmp_path / "recipe.yaml").write_text(json.dumps({"inputs": INPUTS, "output": {"path": "fused"}}))
    plain = CliRunner().invoke(commands, ["plan", str(tmp_path / "recipe.yaml")])
    assert (plain.exit_code, "\\xff\\xfe_thermal.tif" in plain.output) == (0, True)
    read = CliRunner().invoke(commands, ["plan", str(tmp_path / "recipe.yaml"), "--json"])
    assert os.fsencode(json.loads(read.output)["unmatched"][0]["path"]) == stray
    assert (
        CliRunner().invoke(commands, ["init", str(tmp_path), "-o", str(tmp_path / "r.yaml")]).exit_code == 0
    )


def test_each_mistake_is_a_line_whatever_the_path_holds(tmp_path: Path) -> None:
    folder = tmp_path / "a\nb\x1b"
    folder.mkdir()
    recipe = folder / "recipe.yaml"
    for content, lines in {"x: 1\ny: 2": 3, "manifest: m.csv\ninputs: {a: {}, b: {}}": 2, "": 1}.items():
        recipe.write_text(content)
        (folder / "m.csv").write_text("scene,a,b\n1,x.tif,y.tif\n")
        told = CliRunner().invoke(commands, ["plan", str(recipe)])
        assert (told.exit_code, len(told.output.splitlines())) == (2, lines), told.output
        assert "a\\nb\\x1b/recipe.yaml" in told.output or "a\\nb\\x1b/m.csv" in told.output


def test_a_scene_whose_own_name_is_no_text_is_one_line(tmp_path: Path) -> None:
    make_pair(tmp_path, "a")
    for role in ("thermal", "optical"):
        Path(
            os.fsdecode(os.fsencode(tmp_path) + f"/\udcff_{role}.tif".encode("utf-8", "surrogateescape"))
        ).write_bytes((tmp_path / f"a_{role}.tif").read_bytes())
    (tmp_path / "recipe.yaml").write_text(json.dumps({"inputs": INPUTS, "output": {"path": "fused"}}))
    told = CliRunner().invoke(commands, ["run", str(tmp_path / "recipe.yaml"), "--set", "tiles.size=64"])
    assert told.exit_code == 0, told.output
    assert '"\\xff" can\'t be the name of a scene' in told.output
    assert [store.name for store in (tmp_path / "fused").glob("*.zarr")] == ["a.zarr"]
