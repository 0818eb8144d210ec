"""``batchfuse evaluate``: its numbers are those of ``batchfuse.metrics``, however images are named."""

from __future__ import annotations

import csv
import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image

from batchfuse import metrics
from batchfuse.cli import commands
from batchfuse.evaluation import windows
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


@pytest.mark.parametrize(("option", "name"), [("--csv", "t.csv"), ("--json", "t.json")])
def test_a_table_of_ours_is_replaced_and_a_file_of_others_never(
    folder: Path, option: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ["--sources", folder / "ir1.png", folder / "vis1.png", "--fused", folder / "f1.png"]
    table = folder / name
    table.touch()  # nothing of anybody's, as mktemp leaves it
    assert call(*files, option, table, "-q").exit_code == 0
    ours = table.read_bytes()
    monkeypatch.setattr("batchfuse.evaluate.evaluate", lambda *_, **__: pytest.fail("was measured"))
    for content in (b"scene;image", b"{}", b"scene,day\n", b"%PDF", b"\xff\xfes"):
        table.write_bytes(content)
        refused = call(*files, option, table, "-q")
        assert (refused.exit_code, "was not written by `batchfuse evaluate`" in refused.output) == (2, True)
        assert table.read_bytes() == content
    monkeypatch.undo()
    table.write_bytes(ours)
    assert call(*files, option, table, "-q").exit_code == 0
    assert table.read_bytes() == ours


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


PLACE = Affine(10, 0, 500_000, 0, -10, 5_600_000)


def raster(path: Path, values: NDArray, nodata: float | None = None, place: Affine = PLACE) -> Path:
    """A GeoTIFF of one band in UTM."""
    described = {"dtype": values.dtype, "nodata": nodata, "crs": "EPSG:32632", "transform": place, "count": 1}
    rows, columns = values.shape
    with rasterio.open(path, "w", driver="GTiff", height=rows, width=columns, **described) as file:
        file.write(values, 1)
    return path


@pytest.fixture
def physical(tmp_path: Path) -> Path:
    """A scene a.tif, b.tif of floats in other units each, and the average of their looks in those of b."""
    first, second = gray(1).astype(np.float32), gray(11).astype(np.float32)
    raster(tmp_path / "a.tif", first * 10 + 1000)
    raster(tmp_path / "b.tif", second / 100)
    raster(tmp_path / "f.tif", (first + second) / 200)
    return tmp_path


def of_physical(folder: Path, *arguments: str | Path) -> Result:
    return call("--sources", folder / "a.tif", folder / "b.tif", "--fused", *arguments)


def the_one(found: Result) -> dict:
    """The one scene of what was printed as JSON."""
    assert found.exit_code == 0, found.output
    (scene,) = json.loads(found.stdout)["scenes"]
    return scene


@pytest.mark.parametrize("left", [500_000, 500_010])
def test_a_picture_with_a_world_file_lies_where_that_says(physical: Path, left: int) -> None:
    picture = physical / "picture.png"
    Image.fromarray(gray(3)).save(picture)
    (physical / "picture.pgw").write_text(f"10\n0\n0\n-10\n{left + 5}\n5599995\n")
    found = of_physical(physical, picture, "--json", "-q")
    if left == 500_000:
        raster(physical / "same.tif", gray(3))
        same = of_physical(physical, physical / "same.tif", "--json", "-q")
        assert the_one(found)["figures"] == the_one(same)["figures"]
    else:
        assert found.exit_code == 1
        assert "lies elsewhere" in found.output


def test_a_picture_without_a_place_is_told_to_be_taken_where_the_sources_lie(physical: Path) -> None:
    picture = physical / "picture.png"
    Image.fromarray(gray(3)).save(picture)
    notes = the_one(of_physical(physical, picture, "--json", "-q"))["notes"]
    assert any("picture.png has no place" in note and "b.tif" in note for note in notes)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("1000 times", gray(3) * np.float32(10)),
        ("constant", np.full((60, 70), 1e30, np.float32)),
        ("16 bits", gray(3) * np.uint16(200)),
        ("few levels", gray(3) // 40),
    ],
)
def test_a_fused_image_in_other_units_is_refused(physical: Path, name: str, values: NDArray) -> None:
    fused = raster(physical / f"{name}.tif", values)
    found = of_physical(physical, fused)
    assert found.exit_code == 1
    assert f"{name}.tif reaches from" in found.output
    assert "--fused-range" in found.output
    (low, high) = (float(values.min()), float(values.max()) + 1e-9)
    if low < high - 1:
        assert of_physical(physical, fused, "--fused-range", str(low), str(high)).exit_code == 0


def test_it_is_told_how_much_of_a_fused_image_is_cut(physical: Path) -> None:
    fused = raster(physical / "unit.tif", gray(3) / np.float32(255))
    notes = the_one(of_physical(physical, fused, "--json", "-q"))["notes"]
    assert any("of its values lie beyond black and white" in note for note in notes)
    notes = the_one(of_physical(physical, physical / "f.tif", "--json", "-q"))["notes"]
    assert not any("lie beyond" in note for note in notes)


def test_a_fused_image_without_a_valid_pixel_is_named(physical: Path) -> None:
    fused = raster(physical / "none.tif", np.full((60, 70), -1, np.float32), nodata=-1)
    found = of_physical(physical, fused)
    assert found.exit_code == 1
    assert "its fused image has no valid pixel" in found.output


def test_where_an_image_is_invalid_nothing_is_measured(tmp_path: Path) -> None:
    first, second, fused = gray(1), gray(11), np.maximum(gray(3), 1)
    first[:, :30], second[40:], fused[20, 60] = 0, 0, 0
    for name, image in (("a", first), ("b", second), ("f", fused)):
        raster(tmp_path / f"{name}.tif", np.maximum(image, image > 0), nodata=0)
    scene = the_one(of_physical(tmp_path, tmp_path / "f.tif", "--json", "-q", "--figures", "all"))
    (box,) = scene["windows"]
    assert box == [0, 30, 40, 60]
    part = (slice(0, 40), slice(30, 60))
    wanted = metrics.figures(fused[part], first[part], second[part], names=metrics.FIGURES)
    for name, value in scene["figures"]["fused"].items():
        assert (
            value == pytest.approx(wanted[name], rel=1e-12) if value is not None else np.isnan(wanted[name])
        )
    assert scene["share"] == pytest.approx(1200 / 4200)


@pytest.mark.parametrize(
    ("shape", "counts"),
    [((4000, 6200), (3, 3)), ((2100, 9000), (2, 4)), ((20_001, 900), (9, 1)), ((700, 6000), (1, 5))],
)
def test_windows_lie_in_the_middle_of_equal_parts(shape: tuple[int, int], counts: tuple[int, int]) -> None:
    found = [(w.start, w.stop) for w in windows.measured_windows(shape)]
    middles = [
        [n * (2 * part + 1) / (2 * count) for part in range(count)]
        for n, count in zip(shape, counts, strict=True)
    ]
    assert len(found) == counts[0] * counts[1]
    for (start, stop), middle in zip(found, product(*middles), strict=True):
        assert [b - a for a, b in zip(start, stop, strict=True)] == [min(1024, n) for n in shape]
        assert np.abs(np.add(start, stop) / 2 - middle).max() <= 0.5


def test_a_large_scene_is_measured_in_windows_spread_over_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "WHOLE", 10_000)
    monkeypatch.setattr(windows, "EDGE", 70)
    first, second = gray(1, (240, 250)), gray(11, (240, 250))
    images = [first // 2 + second // 2, first, second]
    for name, image in zip("fab", images, strict=True):
        raster(tmp_path / f"{name}.tif", image)
    scene = the_one(of_physical(tmp_path, tmp_path / "f.tif", "--json", "-q", "--workers", "1"))
    boxes = scene["windows"]
    assert len({tuple(box) for box in boxes}) == 9
    parts = [[image[t:b, left:r] for image in images] for t, left, b, r in boxes]
    for name, value in scene["figures"]["fused"].items():
        assert value == pytest.approx(np.mean([metrics.FIGURES[name](*part) for part in parts]), rel=1e-12)


def test_a_figure_that_is_not_defined_is_told_with_the_reason_and_of_what(folder: Path) -> None:
    same = folder / "same.png"
    Image.fromarray(pixels(folder / "ir1.png")).save(same)
    files = ["--sources", folder / "ir1.png", folder / "vis1.png", "--fused", same, "--figures", "scd,ssim_a"]
    found = call(*files, "--baselines")
    assert found.exit_code == 0, found.output
    assert "SCD of fused is not defined where a source is constant, or the fused image is one" in found.output
    assert "SCD is not defined" in call(*files).output


@pytest.mark.parametrize("size", [1, 2, 5, 11])
def test_a_tiny_image_has_the_figures_that_it_allows(tmp_path: Path, size: int) -> None:
    images = [gray(seed, (size, size)) for seed in (3, 1, 11)]
    for name, image in zip("fab", images, strict=True):
        raster(tmp_path / f"{name}.tif", image)
    found = of_physical(tmp_path, tmp_path / "f.tif", "--json", "-q", "--figures", "all", "--baselines")
    scene = the_one(found)
    wanted = metrics.figures(*images, names=metrics.FIGURES)
    for name, value in scene["figures"]["fused"].items():
        assert np.isnan(wanted[name]) if value is None else value == pytest.approx(wanted[name], abs=1e-12)
    assert any("MS_SSIM is not defined below 44 pixels" in note for note in scene["notes"])


def test_a_store_is_refused_where_its_recipe_has_changed_or_it_is_not_complete(folder: Path) -> None:
    recipe = folder / "recipe.yaml"
    recipe.write_text("inputs: {infrared: ir1.png, visible: vis1.png}\noutput: {path: fused}\n")
    assert CliRunner().invoke(commands, ["run", str(recipe), "-q"]).exit_code == 0
    found = call(recipe, "--set", "fusion.strategy=mean")
    assert found.exit_code == 1
    assert "strategy: l1 in the store, mean in the recipe" in found.output
    found = call(folder / "fused")
    assert found.exit_code == 2
    assert "is a folder: name the recipe" in found.output
    (store,) = folder.glob("fused/*.zarr")
    (chunk,) = (path for path in (store / "fused").rglob("*") if path.is_file() and path.name[0].isdigit())
    chunk.unlink()
    found = call(recipe)
    assert found.exit_code == 1
    assert "is missing" in found.output
