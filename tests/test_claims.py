"""What a run reads is never what it writes, by whatever name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from rasters import photo, write_raster

import batchfuse
from batchfuse.cli import commands
from batchfuse.errors import RecipeError
from batchfuse.system import claims
from batchfuse.system.claims import Claims

INPUTS = {"t": "in/{scene}_t.tif", "o": "in/{scene}_o.tif"}


def pair(folder: Path, scene: str = "K", **settings: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for role, seed in (("t", 1), ("o", 2)):
        write_raster(folder / f"{scene}_{role}.tif", np.rint(photo((30, 40), seed)[0] * 250), **settings)


def png(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(photo((30, 40), 3)[0] * 250).astype(np.uint8)).save(path, "PNG")
    return path


def refused(folder: Path, match: str, **settings: Any) -> None:
    """That a recipe is refused in one line, and nothing is changed in the folder."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(RecipeError, match=match) as caught:
        batchfuse.run(batchfuse.Recipe(folder=folder, **{"inputs": INPUTS, **settings}))
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


# --- runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["a", "b/../a", "link", "{absolute}"])
def test_a_quicklook_is_never_written_over_a_source(tmp_path: Path, output: str) -> None:
    png(tmp_path / "a/K.quicklook.png")
    pair(tmp_path / "a", crs=None, transform=None)
    (tmp_path / "b").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    path = output.format(absolute=tmp_path / "a")
    inputs = {"thermal": "a/{scene}.quicklook.png", "optical": "a/{scene}_o.tif"}
    line = r"the quicklook of K would be written over the source .*K\.quicklook\.png.*: give another `output"
    refused(tmp_path, line, inputs=inputs, output={"path": path})


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_source_that_is_a_link_to_an_output_is_no_source_of_it(tmp_path: Path, link: Any) -> None:
    pair(tmp_path / "in", crs=None, transform=None)
    picture = png(tmp_path / "out/K.quicklook.png")
    (tmp_path / "in/K_t.tif").unlink()
    link(picture, tmp_path / "in/K_t.png")
    inputs = {"t": "in/{scene}_t.png", "o": "in/{scene}_o.tif"}
    line = r"the quicklook of K would be written over the source .*K_t\.png, which is .*K\.quicklook\.png"
    refused(tmp_path, line, inputs=inputs, output={"path": "out"})


@pytest.mark.parametrize(
    ("source", "also", "what"),
    [
        ("K.png", ["png"], "an export of K"),
        ("K.tif", ["cog"], "an export of K"),
        ("K.checksums.json", [], "the checksums of K"),
        ("K.faults.json", [], "the faults of K"),
        ("report.json", [], "the report"),
        ("campaign.json", [], "the campaign's ranges"),
        (".batchfuse-lease.json", [], "the lease"),
    ],
)
def test_no_name_of_ours_is_that_of_a_source(tmp_path: Path, source: str, also: list[str], what: str) -> None:
    pair(tmp_path / "in")
    (tmp_path / "in/K_o.tif").rename(tmp_path / "in" / source)
    (tmp_path / "m.csv").write_text(f"scene,t,o\nK,in/K_t.tif,in/{source}\n")
    settings = {"inputs": {"t": {}, "o": {}}, "manifest": "m.csv", "output": {"path": "in", "also": also}}
    refused(tmp_path, f"{what} would be written over the source .*{source}: give", **settings)


@pytest.mark.parametrize("place", ["in/K.zarr/o.tif", "in/K.levels.zarr/1/o.tif", "in/logs/o.tif"])
def test_no_source_lies_where_a_folder_of_ours_goes(tmp_path: Path, place: str) -> None:
    pair(tmp_path / "in")
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / "in/K_o.tif").rename(tmp_path / place)
    (tmp_path / "m.csv").write_text(f"scene,t,o\nK,in/K_t.tif,{place}\n")
    settings = {"inputs": {"t": {}, "o": {}}, "manifest": "m.csv", "output": {"path": "in"}}
    refused(tmp_path, r"the source .*o\.tif lies in .*, the .*: give another `output\.path`", **settings)


def test_masks_sidecars_and_the_manifest_are_read_too(tmp_path: Path) -> None:
    pair(tmp_path / "in")
    write_raster(tmp_path / "in/K.tif", np.ones((30, 40), np.uint8))
    masked = {"t": {"path": INPUTS["t"], "mask": {"path": "in/{scene}.tif", "reject_values": [0]}}}
    also = {"path": "in", "also": ["cog"]}
    line = r"an export of K would be written over the source .*K\.tif"
    refused(tmp_path, line, inputs={**INPUTS, **masked}, output=also)
    (tmp_path / "in/K.tif").unlink()
    (tmp_path / "in/campaign.json").write_text("scene,t,o\nK,K_t.tif,K_o.tif\n")
    settings = {"inputs": {"t": {}, "o": {}}, "manifest": "in/campaign.json", "output": {"path": "in"}}
    refused(tmp_path, r"ranges would be written over the manifest .*campaign\.json", **settings)


def test_a_world_file_of_a_source_is_not_written_over(tmp_path: Path) -> None:
    pair(tmp_path / "in", crs=None, transform=None)
    png(tmp_path / "in/K.jpg.png").rename(tmp_path / "in/K.PNG")
    (tmp_path / "in/K.pgw").write_text("1\n0\n0\n-1\n0.5\n-0.5\n")
    inputs = {"t": "in/{scene}_t.tif", "o": "in/{scene}.PNG"}
    line = r"the world file of K would be written over the source .*K\.pgw"
    refused(tmp_path, line, inputs=inputs, output={"path": "in", "also": ["png"]})


def test_files_of_scenes_that_are_not_asked_for_count(tmp_path: Path) -> None:
    pair(tmp_path / "in", "K")
    pair(tmp_path / "in", "L")
    (tmp_path / "in/L_o.tif").rename(tmp_path / "in/K.tif")
    (tmp_path / "m.csv").write_text("scene,t,o\nK,in/K_t.tif,in/K_o.tif\nL,in/L_t.tif,in/K.tif\n")
    recipe = batchfuse.Recipe(
        inputs={"t": {}, "o": {}}, manifest="m.csv", folder=tmp_path, output={"path": "in", "also": ["cog"]}
    )
    with pytest.raises(RecipeError, match=r"written over the source .*K\.tif"):
        batchfuse.make_plan(recipe, "K")


def test_the_recipe_the_weights_and_the_profile_are_read_too(tmp_path: Path) -> None:
    pair(tmp_path)
    for name in ("report.json", "K.faults.json"):
        recipe = tmp_path / name
        recipe.write_text('{"inputs": {"t": "{scene}_t.tif", "o": "{scene}_o.tif"}, "output": {"path": "."}}')
        done = CliRunner().invoke(commands, ["run", str(recipe)])
        assert (done.exit_code, "would be written over the recipe" in done.stderr) == (2, True), done.stderr
        recipe.rename(tmp_path / "r.yaml")
    loaded = batchfuse.Recipe.load(tmp_path / "r.yaml")
    profile = batchfuse.Profile(file=tmp_path / "campaign.json")
    with pytest.raises(RecipeError, match="the campaign's ranges would be written over the profile"):
        batchfuse.run(loaded, profile)
    assert not list(tmp_path.glob("*.zarr"))


def test_a_report_elsewhere_is_no_input_and_in_no_store(tmp_path: Path) -> None:
    pair(tmp_path)
    recipe = tmp_path / "r.yaml"
    recipe.write_text("inputs: {t: '{scene}_t.tif', o: '{scene}_o.tif'}\n")
    for report, line in (
        ("K_t.tif", "the report of --report would be written over the source"),
        ("r.yaml", "the report of --report would be written over the recipe"),
        ("fused/K.zarr/r.json", "the report of --report"),
        ("fused/K.quicklook.png", "would both be written to"),
    ):
        done = CliRunner().invoke(commands, ["run", str(recipe), "--report", str(tmp_path / report)])
        assert (done.exit_code, line in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "fused").exists()


def test_a_plan_says_so_before_a_run_does(tmp_path: Path) -> None:
    pair(tmp_path)
    (tmp_path / "K_o.tif").rename(tmp_path / "K.tif")
    (tmp_path / "r.yaml").write_text(
        "inputs: {t: '{scene}_t.tif', o: '{scene}.tif'}\noutput: {path: ., also: [cog]}\n"
    )
    for command in (["plan"], ["run", "-n"]):
        done = CliRunner().invoke(commands, [*command, str(tmp_path / "r.yaml")])
        assert (done.exit_code, "would be written over the source" in done.stderr) == (2, True)


# --- claims ---------------------------------------------------------------------------------------


def test_names_that_differ_in_case_are_one_where_the_file_system_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ignored in (False, True):
        monkeypatch.setattr(claims, "_ignores_case", lambda _, ignored=ignored: ignored)
        found = Claims("move it")
        found.write(tmp_path / "K.zarr", "the store of K")
        if ignored:
            with pytest.raises(RecipeError, match=r"would both be written to .*k\.zarr: rename one"):
                found.write(tmp_path / "k.zarr", "the store of k")
        else:
            found.write(tmp_path / "k.zarr", "the store of k")


def test_a_letter_with_its_accent_apart_is_the_same_name_where_case_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As macOS has it."""
    monkeypatch.setattr(claims, "_ignores_case", lambda _: True)
    found = Claims("move it")
    found.write(tmp_path / "\u00e9.zarr", "the store")
    with pytest.raises(RecipeError, match="would both be written"):
        found.write(tmp_path / "e\u0301.zarr", "another store")


def test_what_is_read_late_is_compared_with_what_is_written(tmp_path: Path) -> None:
    found = Claims("move it")
    found.write(tmp_path / "K.zarr", "the store of K")
    found.read(tmp_path / "K_t.tif", "the source")
    for name in ("K.zarr", "K.zarr/in/o.tif"):
        with pytest.raises(RecipeError, match=r"the (store of K|source) .*: move it"):
            found.read(tmp_path / name, "the source")


def test_many_paths_are_compared_in_no_time(tmp_path: Path) -> None:
    found = Claims("move it")
    for i in range(2000):
        found.read(tmp_path / f"in/{i}.tif", "the source")
    for i in range(2000):
        found.write(tmp_path / f"out/{i}.zarr", f"the store of {i}")
    with pytest.raises(RecipeError):
        found.write(tmp_path / "in/1999.tif", "the export")
