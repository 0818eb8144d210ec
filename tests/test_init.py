"""``batchfuse init`` as a person calls it: the recipe runs, its comments are true, and nothing breaks it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from rasters import photo, write_raster
from shared_data import shared_data
from test_init_layouts import L8, L9, LAYOUTS, Layout, make, sketched, write_image

import batchfuse
from batchfuse.cli import commands
from batchfuse.errors import RecipeError
from batchfuse.scout.wording import yaml_text

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def init(*arguments: str | Path) -> Result:
    return CliRunner().invoke(commands, ["init", *map(str, arguments)])


def refused(*arguments: str | Path) -> str:
    """The line of a call that is refused."""
    done = init(*arguments)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


def layout(name: str) -> Layout:
    (found,) = (each for each in LAYOUTS if each.name == name)
    return found


def uncommented(text: str, wanted: str) -> str:
    """The recipe with its commented lines that match a regular expression in force."""
    return re.sub(rf"^( *)# ({wanted})", r"\1\2", text, flags=re.MULTILINE)


# --- the recipe ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "Landsat, a folder a scene",
        "Sentinel-2 SAFE",
        "MSRS",
        "words as names",
        "braces, spaces and other scripts",
    ],
)
def test_the_recipe_runs_unchanged(tmp_path: Path, name: str) -> None:
    make(tmp_path / "in", layout(name))
    done = init(tmp_path / "in", "-o", tmp_path / "recipe.yaml")
    assert done.exit_code == 0, done.output
    ran = CliRunner().invoke(commands, ["run", str(tmp_path / "recipe.yaml"), "-q"])
    assert (ran.exit_code, ran.output) == (0, "")
    assert len(list((tmp_path / "fused").glob("*.zarr"))) == layout(name).scenes


def test_the_summary_says_what_was_recognised_and_what_comes_next(tmp_path: Path) -> None:
    make(tmp_path, layout("Landsat with one product that has no temperature"))
    done = init(tmp_path, "-o", tmp_path / "recipe.yaml")
    first, scenes, thermal, optical, *left, last = done.stdout.splitlines()
    assert first == "Landsat 8 or 9, Collection 2, level 2: thermal with optical"
    assert scenes == f"1 scene with all files, such as {L8}:"
    assert thermal == f"  thermal: {L8}_ST_B10.TIF"
    assert optical == f"  optical: {L8}_SR_B4.TIF, {L8}_SR_B3.TIF, {L8}_SR_B2.TIF"
    assert any(f'scene "{L9}" has no thermal' in line for line in left)
    assert last == f"next: batchfuse plan {tmp_path / 'recipe.yaml'}"


def test_to_standard_output_goes_the_recipe_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "in", layout("words at the end"))
    monkeypatch.chdir(tmp_path)
    done = init("in", "-o", "-")
    assert done.exit_code == 0
    assert yaml.safe_load(done.stdout)["inputs"]["infrared"] == {"path": "in/{scene}_ir.tif"}
    assert "2 scenes" in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "in"]


def test_a_recipe_that_is_there_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    make(tmp_path, layout("words at the end"))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("thesis, chapter 1")
    assert "is no recipe: it is left alone" in refused(tmp_path, "-o", recipe, "--overwrite")
    assert recipe.read_text() == "thesis, chapter 1"
    recipe.write_text("inputs: mine")
    assert "--overwrite" in refused(tmp_path, "-o", recipe)
    assert recipe.read_text() == "inputs: mine"
    assert init(tmp_path, "-o", recipe, "--overwrite").exit_code == 0
    assert len(batchfuse.make_plan(batchfuse.Recipe.load(recipe)).jobs) == 2


def test_paths_are_relative_to_the_recipe_wherever_it_is_called(tmp_path: Path) -> None:
    make(tmp_path / "data" / "deep", layout("words at the end"))
    (tmp_path / "recipes").mkdir()
    recipe = tmp_path / "recipes" / "mine.yaml"
    assert init(tmp_path / "data", "-o", recipe).exit_code == 0
    assert batchfuse.Recipe.load(recipe).patterns["visible"] == ("../data/deep/{scene}_vis.tif",)


def test_two_folders_and_single_files_may_be_shown(tmp_path: Path) -> None:
    make(tmp_path, layout("a word in one folder only"))
    images, thermal = tmp_path / "images", tmp_path / "thermal"
    shown = init(images, thermal, "-o", tmp_path / "folders.yaml")
    assert "2 scenes" in shown.stdout
    shown = init(images / "a.tif", thermal / "a.tif", "-o", tmp_path / "files.yaml")
    assert "1 scene" in shown.stdout
    assert len(batchfuse.make_plan(batchfuse.Recipe.load(tmp_path / "files.yaml")).jobs) == 1


# --- its comments -------------------------------------------------------------------------------


def test_the_sources_that_are_commented_out_can_be_fused_too(tmp_path: Path) -> None:
    make(tmp_path, layout("Landsat Collection 2 level 2, all files in one folder"))
    text = sketched(tmp_path).text
    assert '# nir: "{scene}_SR_B5.TIF"' in text
    (tmp_path / "recipe.yaml").write_text(uncommented(text, "nir:"))
    (job, _) = batchfuse.make_plan(batchfuse.Recipe.load(tmp_path / "recipe.yaml")).jobs
    assert [source.role for source in job.scene.sources] == ["thermal", "optical", "nir"]


@pytest.mark.parametrize("one", LAYOUTS[:6], ids=lambda one: one.name)
def test_the_keys_that_are_commented_out_are_yaml_and_known(tmp_path: Path, one: Layout) -> None:
    make(tmp_path, one)
    text = sketched(tmp_path).text.replace("[low, high]", "[1, 2]")
    (tmp_path / "recipe.yaml").write_text(uncommented(text, r"(?:range|dtype|offset): "))
    recipe = batchfuse.Recipe.load(tmp_path / "recipe.yaml")
    assert recipe.output.dtype == "uint16"
    assert all(source.range == (1, 2) for source in recipe.inputs.values())


def test_an_offset_that_only_some_products_have_is_a_comment(tmp_path: Path) -> None:
    safe = layout("Sentinel-2 SAFE")
    make(tmp_path, Layout("", safe.files.replace("_20240628T101029_N0510_", "_20240628T101029_N0300_"), {}))
    text = sketched(tmp_path).text
    assert "offset" not in str(yaml.safe_load(text))
    assert text.count("    # offset: -0.1\n") == 2
    assert yaml.safe_load(text)["inputs"]["optical"]["scale"] == 0.0001


def test_the_quality_band_is_offered_as_a_mask_and_nothing_else(tmp_path: Path) -> None:
    make(tmp_path, layout("Landsat, a folder a scene"))
    text = sketched(tmp_path).text
    masks = re.findall(r"# (mask: .*)", text)
    assert yaml.safe_load(masks[0]) == {
        "mask": {"path": "{scene}/{scene}_QA_PIXEL.TIF", "reject_bits": [3, 4]}
    }
    assert "QA" not in str(yaml.safe_load(text))


def test_what_was_left_out_is_told_with_its_reason(tmp_path: Path) -> None:
    make(tmp_path, layout("Landsat 5 and 8 by their old ids, of which there are more"))
    (tmp_path / "cube.nii.gz").write_bytes(b"")
    (tmp_path / "a.dcm").write_bytes(b"")
    text = sketched(tmp_path).text
    assert "thermal of Landsat 5, not among the sources" in text
    assert "1 file, such as cube.nii.gz: nothing like it in the sources" in text
    assert "1 DICOM file: convert each series to a NIfTI file first" in text
    assert '# 1 scene of thermal and optical:\n#   thermal: "{scene}_B6.TIF"' in text


def test_scenes_that_fail_are_told_and_do_not_stop_the_others(tmp_path: Path) -> None:
    make(tmp_path, layout("words at the end"))
    (tmp_path / "a_vis.tif").write_text("no image")
    made = sketched(tmp_path)
    assert "a: " in made.text
    assert "a_vis.tif is not an image that can be read" in made.text
    assert [job.scene.name for job in made.chosen.plan.jobs] == ["b"]


def test_colours_are_kept_where_the_other_source_is_finer(tmp_path: Path) -> None:
    write_image(tmp_path / "a_rgb.tif", bands=3, size=32)
    write_image(tmp_path / "a_ir.tif", size=64)
    assert (
        "reference: optical  # to keep its colours; the grid of infrared is finer" in sketched(tmp_path).text
    )


def test_a_wildcard_for_the_kind_of_partner_is_explained(tmp_path: Path) -> None:
    make(tmp_path, layout("CDDFuse's folders of three kinds of partner"))
    made = sketched(tmp_path)
    assert made.summary(None)[0] == "mri with ct or pet or spect"
    assert "# {kind} is the word for ct or pet or spect, the same wherever it stands." in made.text


@given(st.text(min_size=1))
def test_any_text_is_written_as_yaml_that_reads_the_same(text: str) -> None:
    if all(ord(sign) >= 32 and not 0xD800 <= ord(sign) < 0xE000 for sign in text):
        assert yaml.safe_load(f"a: {yaml_text(text)}") == {"a": text}
        assert yaml.safe_load(f"{{a: {yaml_text(text, flow=True)}}}") == {"a": text}


# --- nothing to pair ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ("", "no images: show a folder with"),
        ("notes.md", "no images (1 other file): show a folder with"),
        ("a_thermal.tif", "1 image (a_thermal.tif), of which 1 thermal, but no two"),
        (f"{L8}_SR_B4.TIF {L8}_SR_B3.TIF {L8}_SR_B2.TIF", "of which 3 optical, but no two"),
        (f"{L8}_ST_B10.TIF {L8}_QA_PIXEL.TIF", "2 images"),
        ("frame_1.tif frame_2.tif frame_3.tif", "no two that belong together"),
        ("a_rgb.tif b_rgb.tif c_rgb.tif", "of which 3 optical, but no two"),
        ("a.nii b.nii.gz", "2 NIfTI volumes (a.nii, b.nii.gz), but none can be fused: "),
        ("a_pet.nii", "1 NIfTI volume (a_pet.nii), of which 1 pet, but no two"),
        ("a_seg.nii a_mask.nii a_T1.nii", "3 NIfTI volumes"),
        ("thermal/v-ab-7-x.tif thermal/v-cd-7-y.tif rgb/w-ef-7-z.tif rgb/w-gh-7-q.tif", "but no two"),
        ("thermal/v-1.tif thermal/v-2.tif rgb/w-8.tif rgb/w-9.tif", "2 thermal, but no two"),
    ],
)
def test_where_nothing_can_be_paired_a_line_says_what_was_seen(tmp_path: Path, files: str, line: str) -> None:
    make(tmp_path, Layout("", files, {}))
    assert line in refused(tmp_path, "-o", tmp_path / "recipe.yaml")
    assert not (tmp_path / "recipe.yaml").exists()


def test_files_that_cannot_be_fused_are_one_line(tmp_path: Path) -> None:
    for name in ("a_thermal.tif", "a_rgb.tif"):
        (tmp_path / name).write_text("no image")
    assert "a_thermal.tif is not an image that can be read" in refused(tmp_path)
    write_image(tmp_path / "a_thermal.png", size=20)
    write_image(tmp_path / "a_rgb.png", size=30)
    assert "20x20" in refused(tmp_path / "a_thermal.png", tmp_path / "a_rgb.png")


def test_a_wrong_call_is_one_line(tmp_path: Path) -> None:
    make(tmp_path, layout("words at the end"))
    assert "no such file or folder" in refused(tmp_path / "nowhere")
    assert "a folder; name the recipe in it" in refused(tmp_path, "-o", tmp_path)
    (tmp_path / "a\nb").mkdir()
    assert "no recipe can name this folder" in refused(tmp_path / "a\nb")
    assert "there is no folder" in refused(tmp_path, "-o", tmp_path / "x" / "recipe.yaml")


# --- many files, any names ----------------------------------------------------------------------


def test_of_thousands_of_files_the_headers_of_a_few_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "one.tif")
    for number in range(1500):
        for role in ("thermal", "rgb"):
            os.link(tmp_path / "one.tif", tmp_path / f"{number:04}_{role}.tif")
    (tmp_path / "one.tif").unlink()
    opened = []
    from batchfuse.imagery import header

    original = header.opened
    monkeypatch.setattr(header, "opened", lambda path: opened.append(path) or original(path))
    made = sketched(tmp_path)
    assert len(made.chosen.names) == 1500
    assert len(opened) < 30
    assert "1500 scenes with all files (5 of them looked into)" in made.summary(None)[1]


WORDS = """
    thermal rgb IR VIS T W B4 B10 ST_B10 B04 TCI qa a b 01 2024 x{1} { }} * ä é . - ~ # ' scene
"""
PARTS = st.sampled_from([*WORDS.split(), " ", "e\u0301", L8, "T32TPT_20240101T101010"])
NAMES = st.builds(
    lambda folder, parts, sign, suffix: f"{folder}{sign.join(parts)}{suffix}",
    st.sampled_from(["", "", "thermal/", "rgb/", "x/", "x/y/", f"{L8}/", "a*b/", "{/", "~/"]),
    st.lists(PARTS, min_size=1, max_size=4),
    st.sampled_from(["_", "", "-"]),
    st.sampled_from([".tif", ".tif", ".TIF", ".tiff", ".png", ".txt", ".tif.aux.xml", ""]),
)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image")
    return write_raster(folder / "one.tif", (photo((16, 16))[0] * 200).astype(np.uint8))


@settings(max_examples=150)
@given(names=st.sets(NAMES, min_size=0, max_size=8))
def test_any_names_give_a_recipe_that_plans_or_one_error(image: Path, names: set[str]) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in names:
            path = folder / name
            with contextlib.suppress(
                FileExistsError, NotADirectoryError
            ):  # { is a file, and {/a wants a folder
                path.parent.mkdir(parents=True, exist_ok=True)
                os.link(image, path)
        try:
            made = sketched(folder)
        except RecipeError as refusal:
            told = str(refusal).splitlines()
        else:
            told = [""]
        assert len(told) == 1
        if told != [""]:
            return
        (folder / "recipe.yaml").write_text(made.text, encoding="utf-8")
        plan = batchfuse.make_plan(batchfuse.Recipe.load(folder / "recipe.yaml"))
        assert [job.scene.name for job in plan.jobs] == made.chosen.names


def test_init_imports_neither_torch_nor_dask(tmp_path: Path) -> None:
    make(tmp_path, layout("words at the end"))
    code = (
        "import sys\nfrom batchfuse.cli import main\n"
        f"sys.argv = ['batchfuse', 'init', {str(tmp_path)!r}, '-o', {str(tmp_path / 'r.yaml')!r}]\n"
        "try:\n    main()\nexcept SystemExit as done:\n    assert not done.code\n"
        "print([name for name in ('torch', 'dask', 'distributed', 'zarr') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# --- real folders -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "roles", "scenes"),
    [
        ("geo", ["thermal", "optical"], 1),
        ("geo/pair_crs_mismatch", ["nir", "optical"], 1),
        ("geo/pair_landsat5_para_brazil", ["thermal", "optical"], 1),
        ("geo/pair_landsat8_l2_greenland", ["thermal", "optical"], 1),
        ("geo/pair_landsat8_pan_marburg", ["thermal", "pan"], 1),
        ("geo/pair_landsat8_toa_newengland", ["thermal", "optical"], 1),
        ("geo/pair_partial_overlap", ["thermal", "optical"], 1),
        ("tno", ["infrared", "visible"], 21),
        ("harvard", ["mri", "other"], 10),
    ],
)
def test_a_real_folder_gives_a_recipe_that_plans(
    tmp_path: Path, name: str, roles: list[str], scenes: int
) -> None:
    done = init(shared_data(name), "-o", tmp_path / "recipe.yaml")
    assert done.exit_code == 0, done.output
    plan = batchfuse.make_plan(batchfuse.Recipe.load(tmp_path / "recipe.yaml"))
    assert list(plan.recipe.inputs) == roles
    assert (len(plan.jobs), plan.failures) == (scenes, ())
