"""What nobody expected, met in the work on one scene: it has its line, and the other scenes are complete."""

from __future__ import annotations

import json
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from distributed.protocol.pickle import dumps, loads
from rasterio._err import CPLE_AppDefinedError
from rasters import photo, write_raster
from tblib import pickling_support
from test_engine import make_pair, recipe_of

import batchfuse
from batchfuse import campaign_passes, measuring, scene_jobs, scene_run, scene_tasks
from batchfuse.cli import commands
from batchfuse.cluster import guarded
from batchfuse.errors import BugError, FullError, PassingError, SceneError, SourceError, bugs_told, refusal_of
from batchfuse.fusion import methods
from batchfuse.geometry.window import Window
from batchfuse.profile import Profile
from batchfuse.scout import sketch
from batchfuse.storage.store import Store

SETTINGS: dict[str, Any] = {"fusion": {"strategy": "mean"}, "output": {"path": "fused", "also": ["cog"]}}
MEAN = ("--set", "fusion.strategy=mean")
RECIPE = (
    'inputs:\n  thermal: "{scene}_thermal.tif"\n  optical: "{scene}_optical.tif"\nfusion: {strategy: mean}\n'
)


class MuteError(Exception):
    """Neither its text nor its pickle works."""

    def __init__(self, stage: str, detail: object) -> None:
        super().__init__(stage)
        self.detail = detail

    def __str__(self) -> str:
        raise TypeError("no text")

    def __reduce__(self) -> Any:
        raise pickle.PicklingError("no pickle")


def is_of(scene: str, arguments: tuple[Any, ...]) -> bool:
    """Whether a call is about a scene."""
    told = " ".join(str(getattr(one, "path", one)) for one in arguments)
    return any(name in told for name in (f"/{scene}_", f"/{scene}.zarr", f"name='{scene}'"))


def break_of(
    monkeypatch: pytest.MonkeyPatch, scene: str, home: Any, name: str, error: Callable[[], BaseException]
) -> None:
    """Lets a function raise where it is called for a scene."""
    whole = getattr(home, name)

    def broken(*arguments: Any, **options: Any) -> Any:
        if is_of(scene, arguments):
            raise error()
        return whole(*arguments, **options)

    monkeypatch.setattr(home, name, broken)


def three(folder: Path, names: str = "abc") -> None:
    for seed, name in enumerate(names):
        make_pair(folder, name, (40, 50), seed)


STAGES: list[tuple[Any, str, Callable[[], BaseException]]] = [
    (scene_jobs, "open_source", lambda: KeyError("HEIGHT_OFF")),
    (scene_jobs, "scene_grid", lambda: RecursionError("maximum recursion depth exceeded")),
    (scene_run, "measured_scaling", lambda: np.exceptions.AxisError("axis 3")),
    (scene_run, "layout_of", lambda: UnicodeDecodeError("utf-8", b"\xb0C", 0, 1, "invalid start byte")),
    (scene_tasks, "fuse_tile", lambda: struct.error("unpack requires\na buffer of 4 bytes")),
    (scene_tasks, "fuse_tile", lambda: MuteError("fuse", object())),
    (scene_run, "misregistrations", lambda: ZeroDivisionError()),
    (scene_run, "thumbnail_tile", lambda: IndexError("index 7 is out of bounds")),
    (scene_run, "draw_quicklook", lambda: zlib.error("Error -3")),
    (scene_run, "export_again", lambda: AssertionError()),
    (Store, "seal", lambda: AttributeError("'NoneType' object has no attribute 'x'")),
]


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Outcomes and written scenes, by name, of one run in which each stage fails for a scene of its own."""
    folder = tmp_path_factory.mktemp("bugs")
    scenes = [f"s{number:02}" for number in range(len(STAGES))]
    for seed, scene in enumerate([*scenes, "good"]):
        make_pair(folder, scene, (40, 50), seed)
    with pytest.MonkeyPatch.context() as patch:
        for scene, stage in zip(scenes, STAGES, strict=True):
            break_of(patch, scene, *stage)
        report = batchfuse.run(recipe_of(folder, **SETTINGS))
    written = json.loads((folder / "fused/report.json").read_text())["scenes"]
    return {outcome.scene: outcome for outcome in report.outcomes}, {one["scene"]: one for one in written}


@pytest.mark.parametrize("number", range(len(STAGES)), ids=[f"{s[1]}-{s[2]()!r:.12}" for s in STAGES])
def test_a_bug_in_one_scene_is_one_line_of_it(one_run: Any, number: int) -> None:
    outcomes, _ = one_run
    assert_one_line_of_a_bug(outcomes[f"s{number:02}"], STAGES[number][2]())


def assert_one_line_of_a_bug(outcome: Any, error: BaseException) -> None:
    reason = outcome.reason or ""
    assert outcome.status == "failed"
    assert "\n" not in reason
    assert reason.count("this is a bug of batchfuse") == 1
    assert type(error).__name__ in reason
    assert "(batchfuse/" in reason  # where


def test_a_scene_without_a_bug_is_complete_beside_all_that_have_one(one_run: Any) -> None:
    outcomes, written = one_run
    assert [scene for scene, one in outcomes.items() if one.status == "complete"] == ["good"]
    assert written["good"]["traceback"] is None
    # of those that came the same way only the first has one
    assert sum("in broken" in (one["traceback"] or "") for one in written.values()) >= len(STAGES) - 2


def test_a_bug_in_continuing_a_store_is_one_line_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three(tmp_path, "bc")
    assert batchfuse.run(recipe_of(tmp_path, **SETTINGS)).exit_code == 0
    break_of(monkeypatch, "b", scene_run, "survey_of", lambda: OSError("odd"))
    report = batchfuse.run(recipe_of(tmp_path, **SETTINGS))
    assert report.exit_code == 1
    broken, good = report.outcomes
    assert_one_line_of_a_bug(broken, OSError("odd"))
    assert good.status == "kept"


@pytest.mark.parametrize("name", ["fuse_tile", "draw_quicklook"])
def test_a_rerun_goes_as_far_and_a_mended_batchfuse_completes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    three(tmp_path, "bc")
    home = scene_tasks if name == "fuse_tile" else scene_run
    break_of(monkeypatch, "b", home, name, lambda: KeyError("odd"))
    for good in ("complete", "kept"):
        report = batchfuse.run(recipe_of(tmp_path, fusion={"strategy": "mean"}))
        assert [outcome.status for outcome in report.outcomes] == ["failed", good]
    monkeypatch.undo()
    assert batchfuse.run(recipe_of(tmp_path, fusion={"strategy": "mean"})).exit_code == 0


class RaisesWhereBright:
    """A method that meets a bug where a tile is bright."""

    device, precision = "cpu", "float32"

    def __init__(self, **_: Any) -> None: ...

    def fuse(self, sources: Any, core: Window, survey: Any) -> Any:  # noqa: ARG002
        if sources[0][core.slices].max() > 0.99:
            raise MuteError("bright", lambda: None)
        return sources[(0, *core.slices)].astype(np.float32)


def test_a_bug_in_a_process_is_one_line_of_its_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "_REGISTERED", dict(methods._REGISTERED))
    strategies = {"l1": batchfuse.Strategy("l1", 0, None, "raises")}
    batchfuse.register(batchfuse.Method("raises", "test_bugs:RaisesWhereBright", strategies, ""))
    for name, top in (("a", 200), ("b", 255), ("c", 200)):
        for role in ("thermal", "optical"):
            write_raster(tmp_path / f"{name}_{role}.tif", (photo((40, 50))[0] * top).astype(np.uint8))
    recipe = recipe_of(tmp_path, fusion={"method": "raises"})
    report = batchfuse.run(recipe, Profile(cluster="processes", workers=1, threads=1))
    assert [outcome.status for outcome in report.outcomes] == ["complete", "failed", "complete"]
    assert "MuteError" in (report.outcomes[1].reason or "")
    assert "in fuse" in (report.outcomes[1].traceback or "")


def test_a_bug_that_all_scenes_meet_has_one_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    three(tmp_path)
    (tmp_path / "recipe.yaml").write_text(RECIPE)

    def broken(*_: Any) -> Any:
        raise KeyError("everywhere")

    monkeypatch.setattr(scene_tasks, "fuse_tile", broken)
    with pytest.raises(SystemExit) as ended:
        commands(["run", str(tmp_path / "recipe.yaml"), "-v"], standalone_mode=False)
    assert ended.value.code == 1
    lines = capsys.readouterr().err
    assert lines.count("failed: KeyError: 'everywhere' (batchfuse/") == 3
    assert lines.count("Traceback (most recent call last)") == 1
    scenes = json.loads((tmp_path / "fused/report.json").read_text())["scenes"]
    assert sum(scene["traceback"] is not None for scene in scenes) == 1


def test_without_verbose_a_bug_is_told_without_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three(tmp_path)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    break_of(monkeypatch, "b", scene_jobs, "open_source", lambda: KeyError("HEIGHT_OFF"))
    for command, seen in (("run", "[3/3]"), ("plan", "2 scenes to fuse")):
        result = CliRunner().invoke(commands, [command, str(tmp_path / "recipe.yaml")])
        assert result.exit_code == 1
        assert "this is a bug of batchfuse" in result.output
        assert "Traceback" not in result.output
        assert seen in result.output
        loud = CliRunner().invoke(commands, [command, str(tmp_path / "recipe.yaml"), "-v"])
        assert "Traceback" in loud.output


@pytest.mark.parametrize("pass_", ["tally_window", "refine_window"])
def test_a_bug_in_one_scene_keeps_no_campaign_from_its_ranges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pass_: str
) -> None:
    for folder in ("with", "without"):
        for seed, name in enumerate("abc"):
            if (folder, name) == ("without", "b"):
                continue
            for role in ("thermal", "optical"):
                image = photo((40, 50), seed)[0].astype(np.float32) * (9 if name == "b" else 1)
                write_raster(tmp_path / folder / f"{name}_{role}.tif", image)
    break_of(monkeypatch, "b", campaign_passes, pass_, lambda: KeyError("odd"))
    inputs = {r: {"path": f"{{scene}}_{r}.tif", "percentiles": [2, 98]} for r in ("thermal", "optical")}
    settings: dict[str, Any] = {"inputs": inputs, "scaling": "campaign", "fusion": {"strategy": "mean"}}
    reports = [
        batchfuse.run(batchfuse.Recipe(folder=tmp_path / folder, **settings))
        for folder in ("with", "without")
    ]
    a, b, c = reports[0].outcomes
    assert (a.status, b.status, c.status) == ("complete", "failed", "complete")
    assert "KeyError: 'odd'" in (b.reason or "")
    assert "Traceback" in (b.traceback or "")
    ranges = [
        json.loads((tmp_path / f / "fused/campaign.json").read_text())["ranges"] for f in ("with", "without")
    ]
    assert ranges[0] == ranges[1]


def test_evaluate_measures_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    three(tmp_path)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    assert batchfuse.run(batchfuse.Recipe.load(tmp_path / "recipe.yaml")).exit_code == 0
    break_of(monkeypatch, "b", measuring, "compared_store", lambda: MuteError("odd", object()))
    call = ["evaluate", str(tmp_path / "recipe.yaml"), "--workers", "1", "-v"]
    result = CliRunner().invoke(commands, call)
    assert result.exit_code == 1
    assert "batchfuse: b: MuteError (batchfuse/" in result.output
    assert "Traceback" in result.output
    assert all(f"\n{name} " in result.output for name in "ac")


def test_verify_and_export_look_at_the_other_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    three(tmp_path)
    assert batchfuse.run(recipe_of(tmp_path, fusion={"strategy": "mean"})).exit_code == 0
    folder = str(tmp_path / "fused")
    break_of(monkeypatch, "b", Store, "open", lambda: KeyError("odd"))
    for command in (["verify", folder], ["export", folder, "--to", "cog"], ["verify", folder, "--exact"]):
        result = CliRunner().invoke(commands, command)
        assert result.exit_code == 1
        assert result.output.count("this is a bug of batchfuse") == 1, command
        assert all(f"{name}.zarr: all right" in result.output for name in "ac") or "export" in command
        assert "Traceback" not in result.output
        assert (
            "Traceback"
            in CliRunner().invoke(commands, [*command, "-v", *["--overwrite"] * ("export" in command)]).output
        )
    assert sorted(path.name for path in (tmp_path / "fused").glob("*.tif")) == ["a.tif", "c.tif"]


@pytest.mark.parametrize("where", ["settings_of", "make_plan"])
def test_init_goes_on_with_another_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    three(tmp_path)
    whole = getattr(sketch, where)
    calls: list[Any] = []

    def broken(*arguments: Any) -> Any:
        calls.append(arguments)
        if where == "settings_of" and len(calls) == 1:
            raise KeyError("HEIGHT_OFF")
        return whole(*arguments)

    monkeypatch.setattr(sketch, where, broken)
    if where == "make_plan":
        break_of(monkeypatch, "b", scene_jobs, "open_source", lambda: KeyError("HEIGHT_OFF"))
    result = CliRunner().invoke(commands, ["init", str(tmp_path), "-o", str(tmp_path / "recipe.yaml")])
    assert result.exit_code == 0, result.output
    assert "3 scenes with all files" in result.output


def test_what_hits_all_scenes_alike_is_no_bug() -> None:
    assert isinstance(refusal_of(OSError(28, "No space left on device", "/x")), FullError)
    assert isinstance(refusal_of(OSError(5, "Input/output error", "/x")), PassingError)
    assert "smaller `tiles.size`" in str(refusal_of(MemoryError("of one read")))
    assert not isinstance(refusal_of(MemoryError()), BugError)
    known = SourceError("x.tif is empty")
    assert refusal_of(known) is known
    with pytest.raises(SceneError, match=r"^x\.tif is empty$"), bugs_told():
        raise known
    for end in (KeyboardInterrupt, SystemExit):
        with pytest.raises(end), bugs_told():
            raise end


def test_a_bug_travels_with_its_traceback() -> None:
    with pytest.raises(BugError) as met, bugs_told():
        json.loads("[" * 100_000)
    again = pickle.loads(pickle.dumps(met.value))
    assert str(again) == str(met.value)
    assert again.behind == met.value.behind
    assert "\n" not in str(again)
    assert "RecursionError" in str(again)


def read_as_gdal_fails() -> None:
    raise SourceError("a.tif is cut off") from CPLE_AppDefinedError(3, 1, "IReadBlock failed")


def test_a_refusal_travels_without_the_error_of_gdal_that_it_comes_from() -> None:
    pickling_support.install()  # as Dask does in its workers
    told: Any = guarded(read_as_gdal_fails, ())
    assert str(loads(dumps(told)).error) == "a.tif is cut off"
