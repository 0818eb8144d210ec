"""What ``init`` never pairs, though nothing else is there, what it says, and what plan and run warn of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from affine import Affine
from test_init import init, refused
from test_init_layouts import Layout, make, sketched, write_image
from test_init_volumes import write_volumes
from volumes import write_nifti

import batchfuse

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ("june_thermal.tif july_thermal.tif", "both are thermal"),
        ("DJI_20230701_T.JPG DJI_20230702_T.JPG", "both are thermal"),
        ("DJI_20230701_T.JPG DJI_20230702_W.JPG", "taken on 2023-07-01 and 2023-07-02"),
        ("june_foo_x.tif june_thermal_y.tif july_foo_x.tif july_thermal_y.tif", "july and june"),
        ("flight_7_lst.tif flight_08_rgb.tif", "flight 7 and flight 8"),
        ("day/a.png night/a.png day/b.png night/b.png", "day and night"),
        ("cam_20220401T104500.tif cam_20220401T224500.tif", "taken at 10:45 and 22:45"),
        ("cam/2022-04-01.tif cam/2022-04-09.tif", "taken on 2022-04-01 and 2022-04-09"),
        ("LST_20220401T213000.tif S2_20220401T101500.tif", "taken at 21:30 and 10:15"),
        ("LST_20220401T101500.tif NDVI_20220402T101500.tif", "taken on 2022-04-01 and 2022-04-02"),
        ("cam_20220401T1045.tif cam_20220401T2245.tif", "taken at 10:45 and 22:45"),
        ("cam_2022-04-01T10-45-00.tif cam_2022-04-01T22-45-00.tif", "taken at 10:45 and 22:45"),
        ("cam20220401.tif cam20220409.tif", "taken on 2022-04-01 and 2022-04-09"),
        ("thermal_2019.tif rgb_2021.tif", "of 2019 and 2021"),
        ("site1_thermal.tif site2_rgb.tif", "site 1 and site 2"),
        ("LST_T17RLP_a.tif S2_T18TQM_a.tif", "17RLP and 18TQM are two tiles"),
        ("x-0000000000-0000000000.tif x-0000000000-0000012544.tif", "two parts of one image"),
        ("anna_ir.jpg bert_rgb.jpg", "anna and bert: not the same scene"),
        ("anna_mri.png bert_pet.png", "anna and bert: not the same person"),
        ("p_1_lst.tif p_2_lst.tif p_3_lst.tif", "3 thermal, but no two"),
    ],
)
def test_images_that_do_not_belong_together_are_never_paired(tmp_path: Path, files: str, why: str) -> None:
    make(tmp_path, Layout("", files, {}))
    line = refused(tmp_path, "-o", tmp_path / "recipe.yaml")
    assert why in line
    assert "`manifest:`" in line
    assert not (tmp_path / "recipe.yaml").exists()


@pytest.mark.parametrize(
    "files",
    [
        "flight_T.tif flight_W.tif",
        "site_T.tif site_V.tif",
        "thermal_2000m.tif rgb_2048m.tif",
        "thermal_2048x2000.tif rgb_1990x1980.tif",
        "may_thermal.tif maybe_rgb.tif",
    ],
)
def test_letters_of_modalities_and_numbers_of_pixels_are_no_objection(tmp_path: Path, files: str) -> None:
    make(tmp_path, Layout("", files, {}))
    assert len(sketched(tmp_path).chosen.names) == 1


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ("sub-07/sub-07_T1w.nii sub-08/sub-08_T1w.nii", "sub-07 and sub-08: another person"),
        ("sub-07/anat/sub-07_T1w.nii sub-08/pet/sub-08_pet.nii", "sub-08 and sub-07: another person"),
        ("sub-07/anat/T1.nii sub-08/pet/PET.nii", "sub-08 and sub-07: another person"),
        ("sub-1_ses-a_T1w.nii sub-1_ses-b_pet.nii", "ses-b and ses-a: another visit"),
        ("sub-1_chunk-1_T1w.nii sub-1_chunk-2_T2w.nii", "chunk-2 and chunk-1: another part"),
        ("sub-1_T1w.nii sub-1_space-MNI152Lin_res-2_pet.nii", "space-MNI152Lin and no space-"),
        ("sub-1_space-fsaverage_T1w.nii sub-1_space-MNI152Lin_pet.nii", "another space"),
        ("anna_T1.nii bert_PET.nii", "bert and anna: not the same person"),
        ("anna/T1.nii bert/PET.nii", "bert and anna: not the same person"),
        ("anna_1_T1.nii bert_2_T1.nii carl_1_PET.nii dora_2_PET.nii", "not the same person"),
        ("anna_T1.nii bert_T1.nii carl_PET.nii", "not the same person"),
        ("x/AP.nii x/PA.nii", "ap and pa"),
        ("P1_T1.nii P2_PET.nii", "p2 and p1: not the same person"),
        ("anna_baseline_T1.nii anna_followup_PET.nii", "followup and baseline"),
        ("sub-1/anat/sub-1_T1w.nii sub-1/fmap/sub-1_dir-PA_epi.nii", "fmap: a map of the scanner's field"),
        ("sub-1_T1w.nii sub-1_dir-PA_epi.nii", "epi: a field map"),
        ("sub-1_T1w.nii sub-1_acq-T2w_TB1TFL.nii", "TB1TFL: a map of the scanner's field"),
        ("sub-1_T1w.nii sub-1_asl.nii", "asl: control and label images in turn"),
        ("anna_T1.nii anna_asl.nii", "asl: control and label images in turn"),
    ],
)
def test_volumes_of_two_persons_visits_or_spaces_are_never_paired(
    tmp_path: Path, files: str, why: str
) -> None:
    write_volumes(tmp_path, files)
    assert why in refused(tmp_path, "-o", tmp_path / "recipe.yaml")
    assert not (tmp_path / "recipe.yaml").exists()


def write_coded(folder: Path, **codes: int) -> None:
    for number, (name, code) in enumerate(codes.items()):
        voxels = np.random.default_rng(number).integers(0, 999, (6, 5, 4)).astype(np.int16)
        write_nifti(folder / f"{name}.nii", voxels, np.diag([-1.0, 1, 2, 1]), sform=code)


@pytest.mark.parametrize(
    ("first", "second", "warned"), [(1, 4, True), (3, 4, True), (1, 1, False), (2, 4, False), (1, 5, True)]
)
def test_headers_of_two_spaces_are_refused_by_init_and_warned_of_by_plan(
    tmp_path: Path, first: int, second: int, warned: bool
) -> None:
    write_coded(tmp_path, a_T1=first, a_PET=second)
    recipe = batchfuse.Recipe(inputs={"pet": "{s}_PET.nii", "t1": "{s}_T1.nii"}, folder=tmp_path)
    told = [
        w for w in batchfuse.make_plan(recipe).jobs[0].warnings if "as the codes of their headers tell" in w
    ]
    assert len(told) == warned
    done = init(tmp_path, "-o", tmp_path / "recipe.yaml")
    assert done.exit_code == (2 if warned else 0), done.output
    assert ("as the codes of their headers tell" in done.output) == warned


@pytest.mark.parametrize(
    ("pet", "wanted"),
    [
        (
            "sub-2_ses-x_pet.nii",
            "pet has sub-2 and t1 has sub-1 in its name (sub-2_ses-x_pet.nii, sub-1_ses-x_T1w.nii): "
            "another person",
        ),
        ("sub-1_ses-y_pet.nii", "pet has ses-y and t1 has ses-x in its name"),
        ("sub-1_ses-x_space-MNI152Lin_pet.nii", "pet has space-MNI152Lin and t1 has no space- in its name"),
        ("sub-1_ses-x_space-T1w_pet.nii", ""),
        ("sub-1_ses-x_pet.nii", ""),
    ],
)
def test_plan_and_report_warn_once_of_names_that_are_not_of_one_person_visit_and_space(
    tmp_path: Path, pet: str, wanted: str
) -> None:
    write_volumes(tmp_path, f"{pet} sub-1_ses-x_T1w.nii")
    recipe = batchfuse.Recipe(
        inputs={"pet": pet, "t1": "sub-1_ses-x_T1w.nii"},
        fusion={"strategy": "mean"},
        folder=tmp_path,
    )
    (job,) = batchfuse.make_plan(recipe).jobs
    told = [warning for warning in job.warnings if "in its name" in warning]
    assert [warning[: len(wanted)] for warning in told] == ([wanted] if wanted else [])
    if "sub-2" in wanted:  # one run will do
        (outcome,) = batchfuse.run(recipe).outcomes
        assert [warning for warning in outcome.warnings if "in its name" in warning] == told


OLD, NEW = "S2A_MSIL2A_20211206T101031", "S2A_MSIL2A_20220806T101031"


# --- what the terminal says -----------------------------------------------------------------------


def told_by_init(folder: Path) -> list[str]:
    done = init(folder, "-o", folder / "recipe.yaml")
    assert done.exit_code == 0, done.output
    return [line for line in done.stdout.splitlines() if line.startswith(("note: ", "left out: "))]


def test_parts_of_one_image_get_one_range(tmp_path: Path) -> None:
    parts = [f"0000000000-00000{column:05}" for column in (0, 12544)]
    make(
        tmp_path, Layout("", " ".join(f"{role}_a-{part}.tif" for role in ("LST", "S2") for part in parts), {})
    )
    (line,) = told_by_init(tmp_path)
    assert line.startswith("note: 2 scenes look like parts of one image")
    assert "`scaling: campaign`" in line
    assert batchfuse.Recipe.load(tmp_path / "recipe.yaml").scaling == "campaign"


@pytest.mark.parametrize(("shift", "told"), [(32, True), (33, False), (31, False), (32.5, False)])
def test_scenes_edge_to_edge_are_told_and_keep_their_own_ranges(
    tmp_path: Path, shift: float, told: bool
) -> None:
    for number, name in enumerate(("west", "east")):
        for role in ("ir", "vis"):
            write_image(tmp_path / f"{name}_{role}.tif")
            with rasterio.open(tmp_path / f"{name}_{role}.tif", "r+") as dataset:
                dataset.transform = dataset.transform @ Affine.translation(number * shift, 3 * number)
    lines = told_by_init(tmp_path)
    assert [("scenes east and west lie edge to edge" in line) for line in lines] == ([True] if told else [])
    assert batchfuse.Recipe.load(tmp_path / "recipe.yaml").scaling == "scene"


@pytest.mark.parametrize(
    ("products", "told"),
    [
        ([f"{OLD}_N0301_R022_x/T32TPT_20211206T101031", f"{NEW}_N0400_R022_x/T32TPT_20220806T101031"], True),
        ([f"{OLD}_N0500_R022_x/T32TPT_20211206T101031", f"{NEW}_N0400_R022_x/T32TPT_20220806T101031"], False),
        (["a/T32TPT_20211206T101031", "b/T32TPT_20220806T101031"], True),
        (["a/T32TPT_20220306T101031", "b/T32TPT_20220806T101031"], False),
    ],
)
def test_sentinel_2_of_two_baselines_is_told(tmp_path: Path, products: list[str], told: bool) -> None:
    make(tmp_path, Layout("", " ".join(f"{p}_{b}.tif" for p in products for b in ("B04", "B08")), {}))
    lines = [line for line in told_by_init(tmp_path) if "04.00" in line]
    assert len(lines) == told
    assert all("1 scene of Sentinel-2 from processing baseline 04.00" in line for line in lines)


def test_a_series_of_volumes_is_told_with_the_number_of_scenes(tmp_path: Path) -> None:
    write_volumes(tmp_path, "sub-1_task-x_bold.nii", (6, 5, 4, 7))
    write_volumes(tmp_path, "sub-1_T1w.nii")
    (line,) = told_by_init(tmp_path)
    assert "bold: 7 volumes in a file" in line
    assert "7 scenes in all; `volume: 0` under bold takes one alone" in line


def test_a_subject_with_two_runs_is_told_with_its_reason(tmp_path: Path) -> None:
    names = [f"sub-{k}_T1w.nii" for k in (1, 2, 3)]
    names += ["sub-1_pet.nii", "sub-3_pet.nii", "sub-2_run-1_pet.nii", "sub-2_run-2_pet.nii"]
    write_volumes(tmp_path, " ".join(names))
    lines = told_by_init(tmp_path)
    assert any('scene "2" has no pet' in line for line in lines)
    assert any(
        "2 files" in line and "pet in several runs" in line and "`manifest:`" in line for line in lines
    )


def test_another_pair_of_the_same_scenes_is_offered_and_told(tmp_path: Path) -> None:
    names = (
        "sub-1_T1w.nii sub-1_space-T1w_pet.nii sub-1_space-MNI152Lin_T1w.nii sub-1_space-MNI152Lin_pet.nii"
    )
    write_volumes(tmp_path, names)
    assert "note: other pairs are there, too (pet with t1)" in told_by_init(tmp_path)[0]
    text = (tmp_path / "recipe.yaml").read_text()
    spaces = [path for path in names.split() if "MNI" in path]
    assert all(f": sub-{{sub}}{path.removeprefix('sub-1')}" in text.replace('"', "") for path in spaces)
    inputs = yaml.safe_load(text)["inputs"]
    assert not any("MNI" in source["path"] for source in inputs.values())


def test_a_third_source_of_another_space_is_not_offered(tmp_path: Path) -> None:
    write_volumes(tmp_path, "sub-1_T1w.nii sub-1_pet.nii sub-1_space-MNI152Lin_FLAIR.nii sub-1_T2w.nii")
    text = sketched(tmp_path).text
    assert "# t2: " in text
    assert "# flair: " not in text


def test_a_day_with_two_images_of_one_source_is_refused_with_both_names(tmp_path: Path) -> None:
    names = [
        f"202204{day}_{time}_24_2486_3B_AnalyticMS.tif"
        for day, time in (("01", "101512"), ("01", "101514"), ("09", "101010"), ("17", "101010"))
    ]
    make(
        tmp_path, Layout("", " ".join([*names, *(f"202204{day}_lst.tif" for day in ("01", "09", "17"))]), {})
    )
    line = refused(tmp_path)
    assert 'scene "20220401" has 2 files' in line
    assert names[0] in line
    assert names[1] in line
