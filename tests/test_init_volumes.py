"""``batchfuse init`` of NIfTI volumes: how their folders are laid out, and the recipe each should give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from shared_data import shared_data
from test_init import init, refused, uncommented
from test_init_layouts import Layout, each, paths_of, sketched, write_image
from volumes import write_nifti

import batchfuse

LAYOUTS = [
    Layout(
        "BIDS",
        each(
            "sub-@/anat/sub-@_T1w.nii.gz sub-@/pet/sub-@_pet.nii.gz sub-@/anat/sub-@_dseg.nii.gz", "01", "02"
        )
        + " sub-01/anat/sub-01_label-brain_mask.nii.gz derivatives/x/sub-01/sub-01_desc-brain_mask.nii.gz",
        {"pet": "sub-{sub}/pet/sub-{sub}_pet.nii.gz", "t1": "sub-{sub}/anat/sub-{sub}_T1w.nii.gz"},
        scenes=2,
    ),
    Layout(
        "BIDS with sessions and entities",
        each(
            "sub-01/ses-@/anat/sub-01_ses-@_acq-mprage_T1w.nii.gz"
            " sub-01/ses-@/pet/sub-01_ses-@_trc-18FFDG_rec-acdyn_pet.nii.gz",
            "1",
            "2",
        ),
        {
            "pet": "sub-{sub}/ses-{ses}/pet/sub-{sub}_ses-{ses}_trc-18FFDG_rec-acdyn_pet.nii.gz",
            "t1": "sub-{sub}/ses-{ses}/anat/sub-{sub}_ses-{ses}_acq-mprage_T1w.nii.gz",
        },
        scenes=2,
    ),
    Layout(
        "BIDS of one subject",
        "sub-01/anat/sub-01_T1w.nii.gz sub-01/anat/sub-01_T2w.nii.gz",
        {"t2": "sub-{sub}/anat/sub-{sub}_T2w.nii.gz", "t1": "sub-{sub}/anat/sub-{sub}_T1w.nii.gz"},
    ),
    Layout(
        "BIDS whose PET and MRI are sessions of their own",
        each("sub-@/ses-mri/anat/sub-@_ses-mri_T1w.nii sub-@/ses-pet/pet/sub-@_ses-pet_pet.nii", "01", "02"),
        {
            "pet": "sub-{scene}/ses-pet/pet/sub-*_ses-pet_pet.nii",
            "t1": "sub-{scene}/ses-mri/anat/sub-*_ses-mri_T1w.nii",
        },
        scenes=2,
    ),
    Layout(
        "BraTS 2020",
        each(
            "@/@_t1.nii.gz @/@_t1ce.nii.gz @/@_t2.nii.gz @/@_flair.nii.gz @/@_seg.nii.gz",
            "BraTS20_001",
            "BraTS20_002",
        ),
        {"flair": "{scene}/{scene}_flair.nii.gz", "t1": "{scene}/{scene}_t1.nii.gz"},
        scenes=2,
    ),
    Layout(
        "BraTS 2023",
        each(
            "@/@-t1n.nii.gz @/@-t1c.nii.gz @/@-t2f.nii.gz @/@-seg.nii.gz",
            "BraTS-GLI-00001-000",
            "BraTS-GLI-00002-000",
        ),
        {"flair": "{scene}/{scene}-t2f.nii.gz", "t1": "{scene}/{scene}-t1n.nii.gz"},
        scenes=2,
    ),
    Layout(
        "HECKTOR",
        each("imagesTr/@__CT.nii.gz imagesTr/@__PT.nii.gz labelsTr/@.nii.gz", "CHGJ007", "CHGJ008"),
        {"pet": "imagesTr/{scene}__PT.nii.gz", "ct": "imagesTr/{scene}__CT.nii.gz"},
        scenes=2,
    ),
    Layout(
        "autoPET",
        each(
            "@/CT.nii.gz @/CTres.nii.gz @/SUV.nii.gz @/PET.nii.gz @/SEG.nii.gz",
            "PETCT_0011f3deaf/03-23-2003",
            "PETCT_0143bab87a/04-01-2004",
        ),
        {"pet": "{scene}/{folder}/SUV.nii.gz", "ct": "{scene}/{folder}/CT.nii.gz"},
        scenes=2,
    ),
    Layout(
        "PET, CT and MRI of a patient",
        each("@_PET.nii @_CT.nii @_MR_T1.nii", "STS_001", "STS_002"),
        {"pet": "{scene}_PET.nii", "ct": "{scene}_CT.nii"},
        scenes=2,
    ),
    Layout(
        "SPM's prefixes",
        each("wT1_@.nii wPET_@.nii", "s1", "s2"),
        {"pet": "wPET_{scene}.nii", "t1": "wT1_{scene}.nii"},
        scenes=2,
    ),
    Layout("SPM's templates", "avg152T1.nii avg152T2.nii", {"t2": "{scene}T2.nii", "t1": "{scene}T1.nii"}),
    Layout(
        "folders that say what they hold",
        each("MRI/@.nii SPECT/@.nii masks/@.nii", "1", "2"),
        {"spect": "SPECT/{scene}.nii", "mri": "MRI/{scene}.nii"},
        scenes=2,
    ),
    Layout(
        "a folder a patient",
        each("@/MRI/T1.nii.gz @/PET/PET.nii", "p1", "p2"),
        {"pet": "{scene}/PET/PET.nii", "t1": "{scene}/MRI/T1.nii.gz"},
        scenes=2,
    ),
    Layout(
        "pairs of a header and its voxels",
        each("@_ADC.hdr @_T2.hdr", "a", "b"),
        {"adc": "{scene}_ADC.img", "t2": "{scene}_T2.img"},
        scenes=2,
    ),
    Layout("words alone", "t1w.nii.gz t2.nii.gz", {"t2": "t2.nii.gz", "t1": "t1w.nii.gz"}),
    Layout(
        "BIDS derivatives in two spaces",
        each(
            "sub-@/anat/sub-@_space-MNI152NLin6Asym_res-1_desc-brain_T1w.nii"
            " sub-@/anat/sub-@_desc-brain_T1w.nii sub-@/pet/sub-@_space-T1w_desc-mc_pet.nii"
            " sub-@/pet/sub-@_label-GM_probseg.nii",
            "03",
            "04",
        ),
        {
            "pet": "sub-{sub}/pet/sub-{sub}_space-T1w_desc-mc_pet.nii",
            "t1": "sub-{sub}/anat/sub-{sub}_desc-brain_T1w.nii",
        },
        scenes=2,
    ),
    Layout(
        "BIDS in a template's space alone",
        each(
            "sub-@_space-MNI152NLin6Asym_T1w.nii sub-@_space-MNI152NLin6Asym_desc-x_pet.nii sub-@_T2w.nii",
            "a",
        ),
        {
            "pet": "sub-{sub}_space-MNI152NLin6Asym_desc-x_pet.nii",
            "t1": "sub-{sub}_space-MNI152NLin6Asym_T1w.nii",
        },
    ),
    Layout(
        "series of several contrasts beside maps of the field that are called alike",
        each("sub-7/anat/sub-7_acq-@_echo-2_MPM.nii sub-7/fmap/sub-7_acq-@_TB1map.nii", "PDw", "T1w"),
        {
            "pd": "sub-{sub}/anat/sub-{sub}_acq-PDw_echo-2_MPM.nii",
            "t1": "sub-{sub}/anat/sub-{sub}_acq-T1w_echo-2_MPM.nii",
        },
    ),
    Layout(
        "a free label that differs from subject to subject",
        each("sub-@_pet.nii", "1", "2", "3") + " sub-1_acq-a_T1w.nii sub-2_acq-b_T1w.nii sub-3_acq-b_T1w.nii",
        {"pet": "sub-{sub}_pet.nii", "t1": "sub-{sub}_acq-*_T1w.nii"},
        scenes=3,
    ),
    Layout(
        "a free label that is called like a contrast",
        "sub-7_acq-T1w_bold.nii sub-7_acq-T2w_T1w.nii",
        {"bold": "sub-{sub}_acq-T1w_bold.nii", "t1": "sub-{sub}_acq-T2w_T1w.nii"},
    ),
    Layout(
        "a PET brought onto an MRI",
        "PET_in_T1.nii.gz T1_brain.nii.gz",
        {"pet": "PET_in_T1.nii.gz", "t1": "T1_brain.nii.gz"},
    ),
    Layout(
        "channels by number, as nnU-Net has them",
        each("case_@_0000.nii.gz case_@_0001.nii.gz", "001", "002"),
        {"source1": "{scene}_0000.nii.gz", "source2": "{scene}_0001.nii.gz"},
        scenes=2,
    ),
    Layout(
        "two files whose names mean nothing",
        "huey.nii dewey.nii.gz",
        {"source1": "dewey.nii.gz", "source2": "huey.nii"},
    ),
]


def write_volumes(folder: Path, files: str, shape: tuple[int, ...] = (6, 5, 4)) -> None:
    """NIfTI files of noise, whatever their names say."""
    for number, name in enumerate(files.split()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        voxels = np.random.default_rng(number).integers(0, 999, shape).astype(np.int16)
        write_nifti(path, voxels, np.diag([-1.0, 1, 2, 1]))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_layout_gives_the_recipe_one_would_write(tmp_path: Path, layout: Layout) -> None:
    write_volumes(tmp_path, layout.files)
    (tmp_path / "recipe.yaml").write_text(sketched(tmp_path).text, encoding="utf-8")
    recipe = batchfuse.Recipe.load(tmp_path / "recipe.yaml")
    assert paths_of(recipe) == layout.expected
    plan = batchfuse.make_plan(recipe)
    assert (len(plan.jobs), plan.failures) == (layout.scenes, ())


def test_a_scene_of_several_wildcards_is_called_by_all_of_them(tmp_path: Path) -> None:
    write_volumes(tmp_path, LAYOUTS[1].files)
    assert [job.scene.name for job in sketched(tmp_path).chosen.plan.jobs] == ["01_1", "01_2"]


def test_the_recipe_says_what_volumes_want(tmp_path: Path) -> None:
    write_volumes(tmp_path, "a_PET.nii a_CT.nii a_T1.nii a_seg.nii")
    text = sketched(tmp_path).text
    assert "# Not for diagnosis" in text
    assert "# int16, 6 x 5 x 4 voxels of 1 x 1 x 2 mm in the first scene, axes to LAS" in text
    assert yaml.safe_load(text)["fusion"] == {"plane": "axial"}
    assert yaml.safe_load(text)["reference"] == "ct"
    assert '# t1: "{scene}_T1.nii"' in text
    assert "1 file, such as a_seg.nii: seg: a label map, mask or result" in text
    told = yaml.safe_load(uncommented(text, "(?:also|t1): "))
    assert told["output"]["also"] == ["nifti"]
    assert list(told["inputs"]) == ["pet", "ct", "t1"]


def test_of_a_file_of_several_volumes_one_is_offered(tmp_path: Path) -> None:
    write_volumes(tmp_path, "a_pet.nii", (6, 5, 4, 3))
    write_volumes(tmp_path, "a_mri.nii")
    text = sketched(tmp_path).text
    assert "# It holds 3 volumes, and each is a scene of its own; one alone, counted from 0:" in text
    (tmp_path / "recipe.yaml").write_text(uncommented(text, "volume: "))
    assert len(batchfuse.make_plan(batchfuse.Recipe.load(tmp_path / "recipe.yaml")).jobs) == 1


def test_fmri_and_tissue_maps_are_taken_only_where_there_is_nothing_else(tmp_path: Path) -> None:
    write_volumes(tmp_path, "a_T1.nii a_T2.nii a_GM.nii a_bold.nii")
    assert [option.role for option in sketched(tmp_path).chosen.proposal.options] == ["t2", "t1"]
    (tmp_path / "a_T2.nii").unlink()
    assert sketched(tmp_path).chosen.proposal.roles[-1] == "t1"


def test_rasters_and_volumes_are_not_mixed(tmp_path: Path) -> None:
    write_volumes(tmp_path, "a_pet.nii b_pet.nii c_pet.nii a_mri.nii")
    write_image(tmp_path / "a_ct.png")
    write_image(tmp_path / "b_mri.png")
    made = sketched(tmp_path)
    assert made.chosen.proposal.roles == ("pet", "mri")
    assert made.chosen.names == ["a"]
    (tmp_path / "a_mri.nii").unlink()
    (tmp_path / "b_mri.png").unlink()
    assert "1 image and 3 NIfTI volumes" in refused(tmp_path)


@pytest.mark.parametrize("name", ["IM0001.dcm", "1.IMA"])
def test_dicom_is_to_be_converted_first(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    assert "1 DICOM file: convert each series to a NIfTI file first (dcm2niix" in refused(tmp_path)


def test_dicom_beside_volumes_is_told(tmp_path: Path) -> None:
    write_volumes(tmp_path, "a_pet.nii a_mri.nii")
    (tmp_path / "a.dcm").write_bytes(b"")
    assert "1 DICOM file: convert" in sketched(tmp_path).text


def test_volumes_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    for name in ("a_pet.nii", "a_mri.nii"):
        (tmp_path / name).write_bytes(b"no volume at all")
    assert "a_pet.nii is not NIfTI" in refused(tmp_path)


def test_an_img_of_envi_is_no_volume(tmp_path: Path) -> None:
    for name in ("a_ir", "a_vis"):
        (tmp_path / f"{name}.hdr").write_text("ENVI\n")
        (tmp_path / f"{name}.img").write_bytes(b"\0" * 100)
    assert "no images (4 other files)" in refused(tmp_path)


@pytest.mark.parametrize(
    ("name", "roles", "jobs"),
    [
        ("nifti", ["pet", "ct"], 1),
        ("nifti/pair_pet_ct_mr_sarcoma", ["pet", "ct"], 1),
        ("nifti/pair_spm_T1_T2", ["t2", "t1"], 1),
        ("nifti/pair_spine_T1_T2", ["t2", "t1"], 1),
        ("nifti/pair_mni152_1mm", ["gm", "t1"], 1),
        ("nifti/pair_same_brain_orientations", ["source1", "source2"], 1),
        ("nifti/pair_epi_anat_small", ["bold", "mri"], 20),
    ],
)
def test_a_real_folder_gives_a_recipe_that_plans(
    tmp_path: Path, name: str, roles: list[str], jobs: int
) -> None:
    done = init(shared_data(name), "-o", tmp_path / "recipe.yaml")
    assert done.exit_code == 0, done.output
    plan = batchfuse.make_plan(batchfuse.Recipe.load(tmp_path / "recipe.yaml"))
    assert list(plan.recipe.inputs) == roles
    assert (len(plan.jobs), plan.failures) == (jobs, ())


def test_real_volumes_that_have_no_partner_are_one_line() -> None:
    assert "no two that belong together" in refused(shared_data("nifti/nasty"), "-o", "-")
