"""`output.also`: what a run makes beside a complete store, and keeps or makes again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasters import photo, write_raster
from rio_cogeo.cogeo import cog_validate

import batchfuse
from batchfuse.errors import RecipeError
from batchfuse.system.partials import partial_path

# another thread's export may open a file that has no place by design
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

INPUTS = {"thermal": "{scene}_thermal.tif", "optical": "{scene}_optical.tif"}
BOTH = ["cog", {"to": "png", "stretch": "minmax"}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for role, seed in (("thermal", 1), ("optical", 2)):
        pixels = np.rint(photo((60, 70), seed)[0] * 250).astype(np.uint8)
        write_raster(tmp_path / f"a_{role}.tif", pixels)
    return tmp_path


def run(folder: Path, also: Any, **settings: Any) -> batchfuse.Outcome:
    output = {"also": also, **settings.pop("output", {})}
    report = batchfuse.run(batchfuse.Recipe(inputs=INPUTS, folder=folder, output=output), **settings)
    assert report.exit_code == (0 if report.outcomes[0].status in ("complete", "kept") else 1)
    return report.outcomes[0]


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "fused").glob("a.*")}


def test_exports_lie_beside_the_store_and_are_in_the_report(folder: Path) -> None:
    outcome = run(folder, BOTH)
    fused = folder / "fused"
    assert outcome.exports == (str(fused / "a.png"), str(fused / "a.tif"))
    assert json.loads((fused / "report.json").read_text())["scenes"][0]["exports"] == list(outcome.exports)
    assert sorted(stamps(folder)) == ["a.pgw", "a.png", "a.quicklook.png", "a.tif", "a.zarr"]
    assert cog_validate(fused / "a.tif", strict=True, quiet=True) == (True, [], [])
    with rasterio.open(fused / "a.tif") as dataset, rasterio.open(fused / "a.zarr") as store:
        pixels = store.read()
        assert dataset.read().tobytes() == pixels.tobytes()
    with Image.open(fused / "a.png") as image:
        wide = pixels[0].astype(np.float64)
        assert (np.asarray(image) == np.trunc((wide - wide.min()) / np.ptp(wide) * 255)).all()


@pytest.mark.parametrize(
    ("dtype", "units", "step"),
    [
        ("float16", "reference", 0.5),
        ("uint16", "reference", 0.01),
        ("int16", "reference", 0.01),
        ("uint8", "unit", 1 / 255),
        ("uint16", "unit", 1 / 65535),
        ("float32", "unit", 1e-6),
    ],
)
def test_every_type_of_store_comes_out_as_the_same_physical_values(
    folder: Path, dtype: str, units: str, step: float
) -> None:
    numbers = np.rint(photo((60, 70), 2)[0] * 9000 + 3000).astype(np.uint16)
    write_raster(folder / "a_optical.tif", numbers, scale=0.01, offset=200.0)
    run(folder, ["cog"], output={"units": units})
    with rasterio.open(folder / "fused/a.tif") as dataset:
        exact = dataset.read(1)
    run(folder, ["cog"], output={"units": units, "dtype": dtype}, overwrite=True)
    with rasterio.open(folder / "fused/a.tif") as dataset:
        physical = dataset.read(1) * dataset.scales[0] + dataset.offsets[0]
    whole = units == "unit" and dtype.startswith("u")  # an integer can't hold what lies above 1
    wanted = np.clip(exact, step if whole else None, 1 if whole else None)
    assert np.abs(physical - wanted).max() <= step / 2 * (1 + 1e-3) + 2e-5
    assert np.ptp(exact) > 100 * step or dtype == "float16"


def test_what_is_there_is_kept_and_what_is_missing_is_made(folder: Path) -> None:
    run(folder, BOTH)
    before = stamps(folder)
    again = run(folder, BOTH)
    assert (again.status, len(again.exports)) == ("kept", 2)
    assert stamps(folder) == before
    (folder / "fused/a.tif").unlink()
    assert run(folder, BOTH).status == "kept"
    after = stamps(folder)
    assert {name for name in after if after[name] != before[name]} == {"a.tif"}


def test_exports_are_no_part_of_what_a_store_is(folder: Path) -> None:
    run(folder, [])
    assert sorted(stamps(folder)) == ["a.quicklook.png", "a.zarr"]
    outcome = run(folder, ["png"])
    assert (outcome.status, outcome.fused) == ("kept", 0)
    assert (folder / "fused/a.png").exists()


def test_an_export_of_other_settings_or_another_store_is_made_again(folder: Path) -> None:
    run(folder, ["png"])
    plain = (folder / "fused/a.png").read_bytes()
    run(folder, [{"to": "png", "stretch": "minmax"}])
    stretched = (folder / "fused/a.png").read_bytes()
    assert stretched != plain
    # the store is replaced by a run that wants no export, so the picture is an old one
    old = run(folder, [], output={"units": "unit"}, overwrite=True)
    assert "a.png beside it shows an earlier image: export it again, or delete it" in old.warnings
    run(folder, [{"to": "png"}], output={"units": "unit"})
    assert (folder / "fused/a.png").read_bytes() not in (plain, stretched)


def test_a_store_that_is_fused_again_is_exported_again(folder: Path) -> None:
    run(folder, ["cog"])
    before = stamps(folder)["a.tif"]
    again = run(folder, ["cog"], overwrite=True)
    assert (again.status, "shows an earlier image" in str(again.warnings)) == ("complete", False)
    assert stamps(folder)["a.tif"] != before


def test_an_export_that_fails_fails_the_scene_and_the_store_is_complete(folder: Path) -> None:
    (folder / "fused").mkdir()
    (folder / "fused/a.png").write_bytes(b"somebody's own")
    outcome = run(folder, BOTH)
    assert outcome.status == "failed"
    assert "the fused image is complete, but an export failed" in (outcome.reason or "")
    assert "a.png is there and is no export of batchfuse" in (outcome.reason or "")
    assert (folder / "fused/a.png").read_bytes() == b"somebody's own"
    (folder / "fused/a.png").unlink()
    assert run(folder, BOTH).status == "kept"


def test_an_export_never_takes_the_place_of_a_source(folder: Path) -> None:
    (folder / "a_thermal.tif").rename(folder / "a.tif")
    inputs = {"thermal": "{scene}.tif", "optical": "{scene}_optical.tif"}
    recipe = batchfuse.Recipe(inputs=inputs, folder=folder, output={"path": ".", "also": ["cog"]})
    with pytest.raises(RecipeError, match=r"written over the source .*a\.tif: give another `output.path`"):
        batchfuse.make_plan(recipe)


def test_what_a_killed_run_left_of_an_export_is_swept(folder: Path) -> None:
    left = partial_path(folder / "fused/a.tif")
    left.mkdir(parents=True)
    (left / "plain.tif").touch()
    run(folder, ["cog"])
    assert not left.exists()


@pytest.mark.parametrize(
    ("also", "line"),
    [
        ([{"to": "cog", "keep_text": True}], "output.also[0].keep_text: goes with nifti alone"),
        (["cog", "png", "cog"], "output.also[2]: cog is there twice"),
        ([{"to": "png", "dtype": "float32"}], 'output.also[0].dtype: found "float32"; a PNG holds uint8'),
        ([{"to": "png", "strech": "minmax"}], 'unknown key (found "minmax"); did you mean "stretch"?'),
        (["jpg"], 'output.also[0].to: found "jpg"; did you mean "png"? allowed: cog, nifti, png'),
    ],
)
def test_a_wrong_export_is_refused_before_anything_starts(folder: Path, also: Any, line: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(line)):
        batchfuse.Recipe(inputs=INPUTS, folder=folder, output={"also": also})
