"""What can be chosen of a strategy, from the recipe to the store."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner, Result
from test_engine import command, make_long_run, make_pair, recipe_of, tree, wait_for_tiles

import batchfuse
from batchfuse.cli import commands
from batchfuse.errors import RecipeError
from batchfuse.fusion import methods, windowed
from batchfuse.fusion.fuser import load_fuser
from batchfuse.fusion.methods import method
from batchfuse.fusion.moments import Moments
from batchfuse.fusion.parameters import Parameter, read_strategy, worded
from batchfuse.geometry.window import Window
from batchfuse.plan import make_plan
from batchfuse.profile import Profile
from batchfuse.recipe import recipe_schema
from batchfuse.storage.store import Store

DETAIL = method("res2netfuse").strategy("detail")
DEFAULTS = {parameter.name: parameter.default for parameter in DETAIL.parameters}
SMALL = {"tiles": {"size": 64}}


def chosen(**parameters: float) -> dict[str, Any]:
    return {**SMALL, "fusion": {"strategy": {"detail": parameters}}}


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(commands, [str(argument) for argument in arguments])


# --- as plain data


@pytest.mark.parametrize("value", [True, "1", None, [1], float("nan"), float("inf"), 0.9, 3.1, 1 + 0j])
def test_a_value_that_is_no_number_between_the_limits_is_refused(value: object) -> None:
    assert Parameter("a", 2, 1, 3).refusal(value) == "give a number from 1 to 3"


def test_whole_numbers_are_wanted_where_the_parameter_is_one() -> None:
    parameter = Parameter("radius", 2, 1, 3, "of the box", "int")
    assert [parameter.refusal(value) for value in (1, 3, np.int64(2))] == [None] * 3
    assert parameter.refusal(2.0) == "give a whole number from 1 to 3"
    assert type(parameter.of(np.int64(2))) is int
    assert parameter.schema()["type"] == "integer"


@pytest.mark.parametrize("value", [1, 1.5, np.float32(2.5), np.float64(3)])
def test_any_real_number_is_kept_as_a_float_that_json_knows(value: Any) -> None:
    parameter = Parameter("a", 2, 1, 3)
    assert parameter.refusal(value) is None
    assert type(parameter.of(value)) is float
    assert json.loads(json.dumps(parameter.of(value))) == value


def test_a_parameter_whose_default_is_beyond_its_limits_is_not_made() -> None:
    with pytest.raises(ValueError, match="default of parameter 'a': give a number from 1 to 3"):
        Parameter("a", 4, 1, 3)
    with pytest.raises(ValueError, match="is called 'a b'"):
        Parameter("a b", 2, 1, 3)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("detail", ("detail", {})),
        ("detail:contrast=1.2", ("detail", {"contrast": 1.2})),
        ("x:a=-1, b=2.5e-1", ("x", {"a": -1, "b": 0.25})),
    ],
)
def test_a_strategy_is_written_in_a_word(text: str, read: tuple[str, dict[str, float]]) -> None:
    assert read_strategy(text) == read


@pytest.mark.parametrize(
    "text", ["detail:", "detail:contrast", "detail:contrast=", "detail:=1", "d:a=1,a=1", "d:a=b"]
)
def test_a_word_that_is_no_strategy_is_one_line(text: str) -> None:
    with pytest.raises(
        RecipeError, match=r"give a name, or name:parameter=number, as in detail:contrast=1\.2"
    ):
        read_strategy(text)


def test_what_is_not_chosen_has_its_default_and_the_order_is_the_strategys() -> None:
    pair = (Parameter("a", 1, 0, 9), Parameter("b", 2, 0, 9))
    strategy = methods.Strategy("two", 0, None, "a test", pair)
    assert list(strategy.resolved({"b": 3}).items()) == [("a", 1), ("b", 3)]
    assert strategy.resolved({}) == {"a": 1, "b": 2}
    assert worded("two", strategy.resolved({"b": 0.5})) == "two (a 1, b 0.5)"
    assert worded("l1", {}) == "l1"


def test_a_method_with_parameters_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(method("res2netfuse"))) == method("res2netfuse")


# --- in a recipe


@pytest.mark.parametrize(
    ("strategy", "line"),
    [
        (
            "{detail: {contrsat: 1}}",
            "recipe.yaml:4: fusion.strategy.detail.contrsat: the strategy detail has no such parameter: "
            "did you mean 'contrast'? there is contrast, salience",
        ),
        (
            "{detail: {contrast: 9}}",
            "recipe.yaml:4: fusion.strategy.detail.contrast: found 9; give a number from 1",
        ),
        ("{detail: {contrast: yes}}", "fusion.strategy.detail.contrast: found 'yes'; give a number from 1"),
        ("{detail: {contrast: true}}", "fusion.strategy.detail.contrast: found True; give a number from 1"),
        ("{detail: {contrast: .nan}}", "fusion.strategy.detail.contrast: found nan; give a number from 1"),
        ("{detail: [1]}", "fusion.strategy.detail: found [1]; the parameters of detail are a mapping"),
        (
            "{l1: {contrast: 1}}",
            "fusion.strategy.l1.contrast: the strategy l1 takes no parameters: write `strategy: l1`",
        ),
        ("{detail: {}, l1: {}}", "give a name, or one name with its parameters"),
        ("detail:contrast", "give a name, or name:parameter=number"),
        ("detail:contrast=0.2", "fusion.strategy.detail.contrast: found 0.2; give a number from 1"),
    ],
)
def test_what_is_wrong_with_a_parameter_is_one_line(tmp_path: Path, strategy: str, line: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"inputs: {{a: a.tif, b: b.tif}}\nfusion:\n  # which\n  strategy: {strategy}\n")
    with pytest.raises(RecipeError) as caught:
        batchfuse.Recipe.load(path)
    (told,) = str(caught.value).splitlines()
    assert line in told


@pytest.mark.parametrize(
    "before", ["", "fusion: {strategy: l1}", "fusion: {strategy: {detail: {contrast: 3}}}"]
)
@pytest.mark.parametrize(
    "told", ["fusion.strategy.detail.contrast=1.2", "fusion.strategy=detail:contrast=1.2"]
)
def test_a_parameter_is_set_from_the_command_line(tmp_path: Path, before: str, told: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"inputs: {{a: a.tif, b: b.tif}}\n{before}\n")
    assert batchfuse.Recipe.load(path, [told]).fusion.strategy == {"detail": {"contrast": 1.2}}


def test_the_schema_tells_what_can_be_chosen() -> None:
    (name, mapping) = recipe_schema()["$defs"]["Fusion"]["properties"]["strategy"]["anyOf"]
    assert name == {"type": "string"}
    assert set(mapping["properties"]) == {"l1", "mean", "average", "detail"}
    assert mapping["properties"]["detail"]["additionalProperties"] is False
    gain = mapping["properties"]["detail"]["properties"]["contrast"]
    assert gain["minimum"] <= gain["default"] <= gain["maximum"]


def test_methods_list_the_parameters() -> None:
    assert f"contrast {DEFAULTS['contrast']:g} (1 to " in call("methods").output
    listed = json.loads(call("methods", "--json").output)[0]["strategies"]
    assert {s["name"]: list(s["parameters"]) for s in listed}["detail"] == list(DEFAULTS)


# --- in a store


def test_the_parameters_are_part_of_what_a_store_is(tmp_path: Path) -> None:
    make_pair(tmp_path, "a", (70, 80))
    assert batchfuse.run(recipe_of(tmp_path, **chosen(contrast=1.2))).exit_code == 0
    before = tree(tmp_path / "fused/a.zarr")
    record = Store.open(tmp_path / "fused/a.zarr").record
    assert record["identity"]["fusion"]["strategy"] == {"detail": {**DEFAULTS, "contrast": 1.2}}
    assert record["recipe"]["fusion"]["strategy"] == {"detail": {**DEFAULTS, "contrast": 1.2}}
    other = batchfuse.run(recipe_of(tmp_path, **chosen(contrast=1.3))).outcomes[0]
    assert other.status == "failed"
    assert "fusion.strategy.detail.contrast: 1.2 in the store, 1.3 in the recipe" in str(other.reason)
    named = batchfuse.run(recipe_of(tmp_path, fusion={"strategy": "l1"}, **SMALL)).outcomes[0]
    assert "fusion.strategy: detail in the store, l1 in the recipe" in str(named.reason)
    assert tree(tmp_path / "fused/a.zarr") == before
    assert batchfuse.run(recipe_of(tmp_path, **chosen(contrast=1.2))).outcomes[0].status == "kept"


def test_defaults_told_and_left_out_are_one_store(tmp_path: Path) -> None:
    make_pair(tmp_path, "a", (70, 80))
    batchfuse.run(recipe_of(tmp_path, fusion={"strategy": "detail"}, **SMALL))
    before = tree(tmp_path / "fused/a.zarr")
    assert batchfuse.run(recipe_of(tmp_path, **chosen(**DEFAULTS))).outcomes[0].status == "kept"
    batchfuse.run(recipe_of(tmp_path, **chosen(contrast=DEFAULTS["contrast"])), overwrite=True)
    assert tree(tmp_path / "fused/a.zarr") == before


def test_two_choices_of_one_run_after_the_other_are_two_images(tmp_path: Path) -> None:
    make_pair(tmp_path, "a", (70, 80))
    images = []
    for gain in (1.0, 2.0, 1.0):
        assert batchfuse.run(recipe_of(tmp_path, **chosen(contrast=gain)), overwrite=True).exit_code == 0
        images.append(Store.open(tmp_path / "fused/a.zarr").read(Window.whole((70, 80))))
    assert np.abs(images[0] - images[1]).max() > 0.01 * np.ptp(images[0])
    assert np.array_equal(images[0], images[2])


def test_info_and_plan_tell_the_parameters(tmp_path: Path) -> None:
    make_pair(tmp_path, "a", (70, 80))
    recipe = tmp_path / "recipe.yaml"
    inputs = "inputs: {thermal: '{scene}_thermal.tif', optical: '{scene}_optical.tif'}\n"
    recipe.write_text(f"{inputs}fusion: {{strategy: {{detail: {{contrast: 1.2}}}}}}\n")
    assert call("run", recipe, "-q").exit_code == 0
    assert "res2netfuse, strategy detail (contrast 1.2" in call("info", tmp_path / "fused/a.zarr").output
    assert "fused by res2netfuse, strategy detail (contrast 1.2" in call("plan", recipe, "-v").output
    (planned,) = json.loads(call("plan", recipe, "--json").output)["scenes"]
    assert planned["method"] == "res2netfuse"
    assert planned["strategy"] == {"detail": {**DEFAULTS, "contrast": 1.2}}


def test_fuse_without_a_recipe_takes_parameters(tmp_path: Path) -> None:
    make_pair(tmp_path, "a", (70, 80))
    sources = (tmp_path / "a_thermal.tif", tmp_path / "a_optical.tif")
    images = {}
    for strategy in ("detail", "detail:contrast=1.1"):
        out = tmp_path / f"{len(images)}.tif"
        done = call("fuse", *sources, "-o", out, "--strategy", strategy, "-q")
        assert done.exit_code == 0, done.output
        with rasterio.open(out) as dataset:
            images[strategy] = dataset.read(1)
    assert batchfuse.run(recipe_of(tmp_path, **chosen(contrast=1.1))).exit_code == 0
    stored = Store.open(tmp_path / "fused/a.zarr").read(Window.whole((70, 80)))[0]
    np.testing.assert_allclose(images["detail:contrast=1.1"], stored, rtol=0, atol=1e-6 * np.ptp(stored))
    assert np.abs(images["detail"] - stored).max() > 0.01 * np.ptp(stored)
    wrong = call("fuse", *sources, "-o", tmp_path / "x.tif", "--strategy", "detail:contrast=99")
    assert (wrong.exit_code, len(wrong.stderr.splitlines())) == (2, 1)
    assert "fusion.strategy.detail.contrast: found 99; give a number" in wrong.stderr


# --- the survey of the sources


def test_the_survey_takes_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*_: object) -> None:
        raise AssertionError("the network was loaded")

    monkeypatch.setattr(windowed, "load_weights", loaded)
    fuser = load_fuser(strategy="detail", device="cpu")
    images = np.random.default_rng(0).random((2, 40, 30), np.float32)
    valid = images > 0.1
    core = Window((3, 4), (33, 20))
    found = fuser.survey(images, valid, core)
    assert found == Moments.of(images[:, 3:33, 4:20], valid[:, 3:33, 4:20])
    with pytest.raises(AssertionError, match="loaded"):
        fuser.fuse(images, core, found)


@pytest.mark.parametrize("color", ["luma", "bands"])
def test_the_stored_survey_is_what_the_scaled_sources_are(tmp_path: Path, color: str) -> None:
    make_pair(tmp_path, "a", (70, 80))
    fusion = {"strategy": "detail", "color": color}
    batchfuse.run(recipe_of(tmp_path, fusion=fusion, output={"units": "unit"}, **SMALL))
    record = Store.open(tmp_path / "fused/a.zarr").record
    scaled = []
    for source in record["sources"]:
        with rasterio.open(tmp_path / source["files"][0]["name"]) as dataset:
            pixels = dataset.read(1).astype(np.float64)
        low, high = source["scaling"]["low"], source["scaling"]["high"]
        scaled.append(np.clip((pixels - low) / (high - low), 0, 1))
    found = Moments.from_json(record["survey"])
    assert found.common == 70 * 80
    np.testing.assert_allclose([found.mean_of(i) for i in (0, 1)], [s.mean() for s in scaled], atol=1e-6)
    np.testing.assert_allclose(
        found.covariance(0, 1), np.cov(*map(np.ravel, scaled), bias=True)[0, 1], atol=1e-6
    )


def test_processes_make_the_bytes_of_threads(tmp_path: Path) -> None:
    make_pair(tmp_path, "a")
    batchfuse.run(recipe_of(tmp_path, **chosen(contrast=1.2)))
    before = tree(tmp_path / "fused/a.zarr")
    two = Profile(cluster="processes", workers=2, threads=1)
    assert batchfuse.run(recipe_of(tmp_path, **chosen(contrast=1.2)), two, overwrite=True).exit_code == 0
    assert tree(tmp_path / "fused/a.zarr") == before


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    folder = make_long_run(tmp_path)
    asked = command(folder, "-q", "--set", "fusion.strategy.detail.contrast=1.2")
    assert subprocess.run(asked, check=False).returncode == 0
    wanted = tree(folder / "fused/a.zarr")
    (folder / "fused").rename(folder / "undisturbed")
    with subprocess.Popen(asked) as process:
        wait_for_tiles(folder / "fused/a.zarr", 5)
        process.kill()
    assert not Store.open(folder / "fused/a.zarr").complete
    assert subprocess.run(asked, check=False).returncode == 0
    assert tree(folder / "fused/a.zarr") == wanted


# --- methods of other packages


class Plain:
    """A fuser that was written before strategies had parameters."""

    device, precision = "cpu", "float32"

    def __init__(self, strategy: str, weights: str, device: str, precision: str, threads: int | None) -> None:
        del strategy, weights, device, precision, threads

    def fuse(self, sources: Any, core: Window, survey: object) -> Any:
        assert survey is None
        return sources[(0, *core.slices)]


class Choosing(Plain):
    """One whose strategy has a parameter, and a survey of its own merging."""

    def __init__(self, parameters: dict[str, float], **others: Any) -> None:
        super().__init__(**others)
        self.share = parameters["share"]

    def survey(self, sources: Any, valid: Any, core: Window) -> Moments:
        at = (slice(None), *core.slices)
        return Moments.of(sources[at], valid[at])

    def fuse(self, sources: Any, core: Window, survey: object) -> Any:
        assert isinstance(survey, Moments)
        one, other = sources[(slice(None), *core.slices)]
        return self.share * one + (1 - self.share) * other


SHARE = Parameter("share", 0.5, 0, 1, "of the first source")


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "_REGISTERED", dict(methods._REGISTERED))
    here = __name__
    plain = {"first": methods.Strategy("first", 0, None, "the first source")}
    methods.register(methods.Method("plain", f"{here}:Plain", plain, ""))
    shared = {"share": methods.Strategy("share", 0, 0, "a share of each", (SHARE,))}
    methods.register(methods.Method("choosing", f"{here}:Choosing", shared, ""))


@pytest.mark.usefixtures("others")
def test_a_fuser_is_told_parameters_only_if_its_strategy_has_any(tmp_path: Path) -> None:
    make_pair(tmp_path, "a", (70, 80))
    images = {}
    for name, fusion in (
        ("plain", {"method": "plain"}),
        ("half", {"method": "choosing"}),
        ("all", {"method": "choosing", "strategy": {"share": {"share": 1}}}),
    ):
        report = batchfuse.run(recipe_of(tmp_path, fusion=fusion, output={"path": name}))
        assert report.exit_code == 0, report.outcomes
        images[name] = Store.open(tmp_path / name / "a.zarr").read(Window.whole((70, 80)))
    assert np.array_equal(images["plain"], images["all"])
    assert not np.array_equal(images["plain"], images["half"])
    # what a store remembers is enough to go on
    (tmp_path / "half/a.zarr/fused/0.0.0").unlink()
    batchfuse.run(recipe_of(tmp_path, fusion={"method": "choosing"}, output={"path": "half"}))
    assert np.array_equal(Store.open(tmp_path / "half/a.zarr").read(Window.whole((70, 80))), images["half"])


@pytest.mark.usefixtures("others")
def test_a_parameter_of_another_package_is_checked_in_the_recipe(tmp_path: Path) -> None:
    make_pair(tmp_path, "a", (70, 80))
    with pytest.raises(
        RecipeError, match=r"fusion\.strategy\.share\.share: found 2; give a number from 0 to 1"
    ):
        recipe_of(tmp_path, fusion={"method": "choosing", "strategy": {"share": {"share": 2}}})
    # of what is not known, the plan tells
    unknown = recipe_of(tmp_path, fusion={"method": "nowhere", "strategy": {"share": {"share": 2}}})
    with pytest.raises(RecipeError, match="no fusion method 'nowhere'"):
        make_plan(unknown)
    with pytest.raises(RecipeError, match="no strategy 'shear'"):
        make_plan(recipe_of(tmp_path, fusion={"method": "choosing", "strategy": {"shear": {"share": 1}}}))


def test_asking_what_can_be_chosen_takes_no_torch() -> None:
    code = (
        "import sys, batchfuse.fusion.parameters, batchfuse.fusion.surveys, batchfuse.recipe; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
