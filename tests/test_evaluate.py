"""``batchfuse evaluate``: its numbers are those of ``batchfuse.metrics``, however images are named."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from batchfuse import metrics
from batchfuse.cli import commands
from batchfuse.evaluation.baselines import BASELINES, baseline, gained
from batchfuse.evaluation.eight_bit import rounded, stretched
from batchfuse.metrics import SIX


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(commands, ["evaluate", *map(str, arguments)])


def gray(seed: int, shape: tuple[int, int] = (60, 70)) -> np.ndarray:
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    waves = 60 * np.sin(y / (5 + seed)) * np.cos(x / 7)
    image = 120 + waves + 40 * (x > y + seed) + random.normal(0, 5, shape)
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two scenes a/1 and a/2, as ir<n>.png and vis<n>.png, with what was fused of them."""
    for number in (1, 2):
        first, second = gray(number), gray(number + 10)
        Image.fromarray(first).save(tmp_path / f"ir{number}.png")
        Image.fromarray(second).save(tmp_path / f"vis{number}.png")
        Image.fromarray(((first.astype(int) + second) // 2).astype(np.uint8)).save(
            tmp_path / f"f{number}.png"
        )
    return tmp_path


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def expected(folder: Path, number: int) -> dict[str, float]:
    images = [pixels(folder / f"{name}{number}.png") for name in ("f", "ir", "vis")]
    return metrics.figures(*images)


def test_single_files_give_the_figures_of_the_library(folder: Path) -> None:
    files = [folder / "ir1.png", folder / "vis1.png", "--fused", folder / "f1.png"]
    found = call("--sources", *files, "--json", "-q")
    assert found.exit_code == 0, found.output
    (scene,) = json.loads(found.stdout)["scenes"]
    assert scene["figures"]["fused"] == pytest.approx(expected(folder, 1), rel=1e-12)


def test_patterns_give_a_row_a_scene_and_the_mean(folder: Path) -> None:
    table = folder / "table.csv"
    patterns = [folder / "ir{n}.png", folder / "vis{n}.png", "--fused", folder / "f{n}.png"]
    found = call("--sources", *patterns, "--csv", table, "--workers", "1")
    assert found.exit_code == 0, found.output
    with table.open() as file:
        rows = {row["scene"]: row for row in csv.DictReader(file)}
    for number in (1, 2):
        for name, value in expected(folder, number).items():
            assert float(rows[str(number)][name]) == pytest.approx(value, rel=1e-12)
    mean = found.output.splitlines()[-1].split()
    assert mean[0] == "mean"
    both = [expected(folder, number) for number in (1, 2)]
    for shown, name in zip(mean[1:], SIX, strict=True):
        assert float(shown) == pytest.approx(np.mean([f[name] for f in both]), abs=5.1e-5)


def test_processes_give_the_same_numbers(folder: Path) -> None:
    patterns = ["--sources", folder / "ir{n}.png", folder / "vis{n}.png", "--fused", folder / "f{n}.png"]
    one, two = (call(*patterns, "--json", "-q", "--workers", number).stdout for number in ("1", "2"))
    assert json.loads(one) == json.loads(two)


@pytest.mark.parametrize("protocol", [[], ["--stretch"]])
def test_the_baselines_are_measured_beside_the_fused_image(folder: Path, protocol: list[str]) -> None:
    files = [folder / "ir1.png", folder / "vis1.png", "--fused", folder / "f1.png"]
    found = call("--sources", *files, "--json", "-q", "--baselines", "--figures", "scd,ssim_a", *protocol)
    assert found.exit_code == 0, found.output
    (scene,) = json.loads(found.stdout)["scenes"]
    sources = np.stack([pixels(folder / "ir1.png"), pixels(folder / "vis1.png")])
    made = stretched if protocol else rounded
    images = {rule: baseline(rule, sources / 255) for rule in BASELINES}
    values = [metrics.scd(made(image), *sources) for image in images.values()]
    if not protocol:
        values += [metrics.scd(rounded(gained(image)), *sources) for image in images.values()]
    told = [figures["scd"] for figures in scene["figures"].values()]
    for value in values:
        # halves are rounded up or down by the last bit of what they were computed from
        assert min(abs(value - one) for one in told) < 1e-3


def test_three_sources_have_no_scd_and_all_else(folder: Path) -> None:
    files = [folder / "ir1.png", folder / "vis1.png", folder / "ir2.png", "--fused", folder / "f1.png"]
    found = call("--sources", *files, "--json", "-q")
    assert found.exit_code == 0, found.output
    figures = json.loads(found.stdout)["scenes"][0]["figures"]["fused"]
    assert figures["scd"] is None
    assert all(figures[name] is not None for name in SIX if name != "scd")


def test_a_recipe_s_stores_are_measured_against_their_sources(folder: Path) -> None:
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        "inputs:\n  infrared: ir{n}.png\n  visible: vis{n}.png\nreference: visible\n"
        "fusion: {strategy: average}\noutput: {path: fused, units: unit}\ntiles: {size: 64}\n"
    )
    not_yet = call(recipe, "-q")
    assert not_yet.exit_code != 0
    assert not isinstance(not_yet.exception, (KeyError, TypeError, OSError))
    ran = CliRunner().invoke(commands, ["run", str(recipe), "-q"])
    assert ran.exit_code == 0, ran.output
    found = call(recipe, "--json", "-q", "--only", "1")
    assert found.exit_code == 0, found.output
    (scene,) = json.loads(found.stdout)["scenes"]
    import zarr

    fused = rounded(np.asarray(zarr.open_group(folder / "fused/1.zarr", mode="r")["fused"])[0])
    wanted = metrics.figures(fused, pixels(folder / "ir1.png"), pixels(folder / "vis1.png"))
    assert scene["figures"]["fused"] == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "recipe"),
        (["--sources", "{0}/ir1.png", "--fused", "{0}/f1.png"], "two"),
        (["--sources", "{0}/ir1.png", "{0}/vis1.png"], "--fused"),
        (["--sources", "{0}/ir1.png", "{0}/none.png", "--fused", "{0}/f1.png"], "none.png"),
        (["--sources", "{0}/ir1.png", "{0}/vis1.png", "--fused", "{0}/f1.png", "--figures", "sim"], "sim"),
        (["--sources", "{0}/ir1.png", "{0}/vis1.png", "--fused", "{0}/small.png"], "small.png"),
        (["--sources", "{0}/ir1.png", "{0}/vis1.png", "--fused", "{0}/text.png"], "text.png"),
    ],
)
def test_a_wrong_call_or_image_is_one_line(folder: Path, arguments: list[str], line: str) -> None:
    Image.fromarray(gray(5, (30, 30))).save(folder / "small.png")
    (folder / "text.png").write_text("no image")
    found = call(*(argument.format(folder) for argument in arguments))
    assert found.exit_code in (1, 2)
    assert line in found.output
    assert "Traceback" not in found.output
    assert found.exception is None or isinstance(found.exception, SystemExit)
