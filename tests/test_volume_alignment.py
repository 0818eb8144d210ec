"""Where volumes lie to each other, what they share, and how that is told; the grid of a scene of volumes."""

from __future__ import annotations

from itertools import starmap

import numpy as np
import pytest
from rasters import write_raster
from shared_data import shared_data
from volumes import turned, write_nifti

from batchfuse.errors import DisjointError, GridError, RecipeError
from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.geometry.window import Window
from batchfuse.imagery import aligned
from batchfuse.imagery.aligned import AlignedSource, counted_windows, measured_scaling
from batchfuse.imagery.discovery import discover
from batchfuse.imagery.geotiff import open_source
from batchfuse.imagery.nifti import open_volumes
from batchfuse.imagery.reference import reference_of
from batchfuse.imagery.target import Target, scene_grid
from batchfuse.imagery.volume_alignment import align_volumes
from batchfuse.imagery.volume_overlap import box_around, box_in_common


def grid(shape, spacing=(1, 1, 1), origin=(0, 0, 0), angles=(0, 0, 0), placed=True):
    return VolumeGrid.of(shape, turned(angles, spacing, origin), placed)


def volume(tmp_path, name, shape, affine=None, **told):
    """A source of a volume of this shape (i, j, k)."""
    voxels = told.pop("voxels", None)
    if voxels is None:
        voxels = np.random.default_rng(len(name)).integers(0, 1000, shape).astype("int16")
    keys = {key: told.pop(key) for key in ("labels", "nodata") if key in told}
    (source,) = open_volumes(name, write_nifti(tmp_path / f"{name}.nii", voxels, affine, **told), **keys)
    return source


def test_the_same_grid_is_identical():
    one = grid((4, 5, 6), (1, 2, 3), (-90, 126, -72), (0.1, 0.2, 0.3))
    float32 = VolumeGrid.of(one.shape, one.affine.astype(np.float32))
    for other in (one, float32):
        alignment = align_volumes(one, other)
        assert alignment.identical
        assert alignment.shift == (0, 0, 0)
        assert alignment.footprint == (1, 1, 1)
        assert alignment.coverage == 1
        assert alignment.differences() == []
        assert alignment.source_window() == Window.whole(one.shape)


def test_a_thousandth_of_a_voxel_is_another_grid():
    one, other = grid((4, 5, 6)), grid((4, 5, 6), origin=(1e-3, 0, 0))
    assert not align_volumes(one, other).identical
    assert align_volumes(one, other).shift is None
    assert align_volumes(one, grid((4, 5, 6), origin=(5e-5, 0, 0))).identical


def test_whole_shifts_are_found_and_told():
    reference, source = grid((10, 10, 10), (2, 2, 2)), grid((4, 10, 10), (2, 2, 2), (-4, 0, 6))
    alignment = align_volumes(reference, source)
    assert alignment.shift == (-3, 0, 2)
    assert not alignment.identical
    assert alignment.coverage == pytest.approx(0.4 * 0.8)
    assert alignment.source_window() == Window((0, 0, 2), (4, 10, 10))
    assert alignment.source_window(Window((3, 0, 0), (4, 1, 1))) == Window((0, 0, 2), (1, 1, 3))
    assert alignment.source_window(Window((3, 0, 0), (4, 1, 1)), margin=2) == Window((0, 0, 0), (3, 3, 5))
    assert alignment.source_window(Window((0, 0, 0), (1, 1, 1))) is None
    assert alignment.differences() == [
        "begins 4 mm left and 6 mm superior of the reference (2 and 3 voxels)",
        "covers 32 % of the reference",
    ]


def test_differences_in_sentences():
    reference = grid((40, 40, 40))
    assert align_volumes(reference, grid((13, 13, 13), (3, 3, 3), (1, 1, 1))).differences() == [
        "3 mm voxels instead of 1 mm",
        "covers 92 % of the reference",
    ]
    finer = align_volumes(reference, grid((80, 80, 80), (0.5, 0.5, 0.5), (-0.25, -0.25, -0.25)))
    assert finer.footprint == (2, 2, 2)
    assert "`resampling: average`" in finer.differences()[-1]
    flipped = align_volumes(reference, grid((40, 40, 40), (-1, 1, 1), (39, 0, 0)))
    assert flipped.differences() == ["stored LAS instead of RAS"]
    assert flipped.is_on_lattice
    assert flipped.shift is None
    oblique = align_volumes(reference, grid((40, 40, 40), origin=(0, -2, 2), angles=(0.1, 0, 0)))
    assert oblique.differences()[0] == "its axes are turned by up to 5.73°"
    assert 0.8 < oblique.coverage < 0.95


def test_coverage_of_oblique_grids():
    reference = grid((32, 32, 32), origin=(-15.5, -15.5, -15.5))
    turn = turned((0, 0, np.pi / 4), (1, 1, 1), (0, 0, 0))
    turn[:3, 3] = -turn[:3, :3] @ np.array([15.5, 15.5, 15.5])
    # two squares turned by 45° share 8 (sqrt(2) - 1) r² of 4 r²
    found = align_volumes(reference, VolumeGrid.of((32, 32, 32), turn)).coverage
    assert found == pytest.approx(2 * (np.sqrt(2) - 1), abs=0.01)


def test_disjoint_volumes_are_refused():
    with pytest.raises(DisjointError, match=r"b.nii \(x 99.5 to 103.5, .*mm\) does not overlap a.nii"):
        align_volumes(grid((4, 4, 4)), grid((4, 4, 4), origin=(100, 0, 0)), ("a.nii", "b.nii"))
    # their boxes in the world overlap, they do not
    one = grid((2, 40, 2), angles=(0, 0, 0.7))
    with pytest.raises(DisjointError):
        align_volumes(one, grid((2, 40, 2), origin=(8, 0, 0), angles=(0, 0, 0.7)))


def test_volumes_without_a_world():
    lost, same = grid((4, 5, 6), placed=False), grid((4, 5, 6), (2, 2, 2), (7, 7, 7), placed=False)
    assert align_volumes(lost, same).identical
    assert align_volumes(lost, same).differences() == []
    with pytest.raises(GridError, match=r"b.nii has 6 x 5 x 5 voxels and a.nii 6 x 5 x 4"):
        align_volumes(lost, grid((5, 5, 6), placed=False), ("a.nii", "b.nii"))
    for pair, lacking in (((lost, grid((4, 5, 6))), "a.nii"), ((grid((4, 5, 6)), lost), "b.nii")):
        with pytest.raises(GridError, match=f"^{lacking} has no world space.*fslorient"):
            align_volumes(*pair, ("a.nii", "b.nii"))


def test_boxes_of_what_is_shared_and_of_all():
    reference = grid((10, 10, 10))
    assert box_in_common(reference, [grid((4, 4, 4), origin=(2, 3, 8))]) == Window((8, 3, 2), (10, 7, 6))
    assert box_in_common(reference, [grid((4, 4, 4), origin=(2.4, 3, 8))]) == Window((8, 3, 2), (10, 7, 7))
    assert box_in_common(reference, [grid((4, 4, 4), origin=(9.5, 0, 0))]) == Window((0, 0, 9), (4, 4, 10))
    assert box_in_common(reference, [grid((4, 4, 4), origin=(10, 0, 0))]) is None
    both = [grid((4, 4, 4)), grid((4, 4, 4), origin=(5, 5, 5))]
    assert box_in_common(reference, both) is None
    assert box_around(reference, both) == Window((0, 0, 0), (9, 9, 9))
    assert box_around(reference, [grid((4, 4, 4), origin=(-3, 0, 8))]) == Window((8, 0, -3), (12, 4, 1))
    # a square on its corner: its tips do not reach the edges of its box in what is shared
    turn = grid((1, 10, 10), origin=(0, -6, 0), angles=(0, 0, np.pi / 4))
    assert box_in_common(reference, [turn]).shape[0] == 1


def test_the_reference_is_the_volume_of_least_voxels(tmp_path):
    coarse = volume(tmp_path, "pet", (8, 8, 8), np.diag([4.0, 4, 4, 1]))
    fine = volume(tmp_path, "ct", (20, 20, 8), np.diag([1.0, 1, 4, 1]))
    twin = volume(tmp_path, "mr", (20, 20, 8), np.diag([1.0, 1, 4, 1]))
    assert reference_of([fine, coarse], None) == 0
    assert reference_of([fine, coarse, twin], None) == 2
    assert reference_of([fine, coarse], "pet") == 1


def test_rasters_and_volumes_are_no_scene(tmp_path):
    raster = open_source("optical", [write_raster(tmp_path / "a.tif", np.zeros((4, 4), "uint8"))])
    ct = volume(tmp_path, "ct", (4, 4, 4))
    for sources in ([raster, ct], [ct, raster]):
        for role in (None, "ct"):
            with pytest.raises(GridError, match=r"ct.nii is a volume and .*a.tif a raster"):
                reference_of(sources, role)


def test_the_grid_of_a_scene_of_volumes(tmp_path):
    affine = turned((0.1, 0, 0), (1, 1, 2), (5, 5, 5))
    shifted = affine.copy()
    shifted[:3, 3] += affine[:3, :3] @ np.array([3, -2, 4])
    ct = volume(tmp_path, "ct", (10, 12, 14), affine)
    mr = volume(tmp_path, "mr", (10, 12, 14), shifted)
    own = scene_grid([ct, mr], 0, Target())
    assert own.grid == ct.place
    assert own.words == "like ct"
    assert own.is_mismatch(own.aligned(mr, ct))
    assert not own.is_mismatch(own.aligned(ct, ct))
    shared = scene_grid([ct, mr], 0, Target("intersection"))
    assert shared.grid == ct.place.cropped(Window((4, 0, 3), (14, 10, 10)))
    assert shared.words == "like ct, where all sources are"
    assert not shared.is_mismatch(shared.aligned(mr, ct))
    assert shared.aligned(mr, ct).coverage == 1
    union = scene_grid([ct, mr], 0, Target("union"))
    assert union.grid.shape == (18, 14, 13)
    assert union.aligned(ct, ct).shift == (0, -2, 0)
    assert union.differences(mr, union.aligned(mr, ct))[-1].endswith("% of the union")
    for key in ({"crs": "x"}, {"resolution": (1, 1)}, {"bounds": (0, 0, 1, 1)}):
        with pytest.raises(GridError, match=f"`grid.{next(iter(key))}` is of maps"):
            scene_grid([ct, mr], 0, Target(**key))


def test_an_absurd_union_is_refused(tmp_path):
    one, other = volume(tmp_path, "a", (400, 1, 1)), volume(tmp_path, "b", (1, 400, 1))
    with pytest.raises(GridError, match="union"):
        scene_grid([one, other], 0, Target("union"))


def test_sources_are_read_scaled_on_the_grid(tmp_path, monkeypatch):
    monkeypatch.setattr(aligned, "COUNTED", 100)
    voxels = np.random.default_rng(0).normal(size=(12, 11, 10)).astype("float32")
    voxels[3, 4, 5], voxels[3, 4, 6] = np.nan, np.inf
    affine = np.diag([1.0, 1, 1, 1])
    ct = volume(tmp_path, "ct", (12, 11, 10), affine, voxels=voxels)
    pet = volume(tmp_path, "pet", (6, 6, 5), np.diag([2.0, 2, 2, 1]) + np.eye(4, k=3) * 0.5)
    placed = scene_grid([ct, pet], 0, Target())
    for source in (ct, pet):
        alignment = placed.aligned(source, ct)
        windows = list(counted_windows(source, alignment))
        assert max(window.size for window in windows) <= 110
        seen = np.zeros(source.place.shape, int)
        for window in windows:
            seen[window.slices] += 1
        assert (seen == 1).all()
        scaling = measured_scaling(source, alignment, None, None, starmap)
        assert scaling.pixels == seen.size
        whole = Window.whole(placed.grid.shape)
        values, valid = AlignedSource(source, alignment, scaling, "bilinear").read(whole)
        assert values.shape == (1, *whole.shape)
        assert values.dtype == np.float32
        assert valid.shape == whole.shape
        assert np.isfinite(values).all()
        assert values.min() >= 0
        assert (values[0][~valid] == 0).all()
    assert scene_grid([ct, pet], 0, Target()).aligned(ct, ct).identical


def test_labels_are_never_mixed(tmp_path):
    mri = volume(tmp_path, "mri", (12, 12, 12))
    names = np.random.default_rng(0).choice([0, 2, 1000], (6, 6, 6)).astype("int16")
    seg = volume(
        tmp_path, "seg", (6, 6, 6), np.diag([2.0, 2, 2, 1]) + np.eye(4, k=3) * 0.5, voxels=names, labels=True
    )
    placed = scene_grid([mri, seg], 0, Target())
    alignment = placed.aligned(seg, mri)
    scaling = measured_scaling(seg, alignment, (0, 1000), None, starmap)
    values, valid = AlignedSource(seg, alignment, scaling, "bilinear").read(Window.whole((12, 12, 12)))
    assert set(np.unique(np.round(values * 1000)[:, valid])) == {0, 2, 1000}


@pytest.mark.parametrize("dtype", ["int64", "uint64", "float64"])
def test_wide_types_are_counted_and_scaled(tmp_path, dtype):
    voxels = np.arange(60).reshape(5, 4, 3).astype(dtype)
    voxels[0, 0, 0] = 2**53
    source = volume(tmp_path, "seg", None, voxels=voxels)
    alignment = align_volumes(source.place, source.place)
    scaling = measured_scaling(source, alignment, (0, 59), None, starmap)
    assert scaling.maximum == 2**53
    values, valid = AlignedSource(source, alignment, scaling, "nearest").read(Window.whole((3, 4, 5)))
    assert valid.all()
    np.testing.assert_allclose(values[0].T.ravel()[1:], np.arange(1, 60) / 59, rtol=1e-6)


def test_dicom_slices_are_told_with_the_remedy(tmp_path):
    for case in ("a", "b"):
        (tmp_path / "ct" / case).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "ct" / case / f"{number}.dcm").write_bytes(b"\0" * 128 + b"DICM")
        (tmp_path / f"{case}.nii").write_bytes(b"x")
    with pytest.raises(RecipeError, match=r"ct/a is a folder of DICOM slices: .*dcm2niix"):
        discover(tmp_path, {"ct": ["ct/{case}"], "mr": ["{case}.nii"]})
    with pytest.raises(RecipeError, match=r"these are DICOM slices, .*dcm2niix"):
        discover(tmp_path, {"ct": ["ct/{case}/*.dcm"], "mr": ["{case}.nii"]})
    with pytest.raises(RecipeError, match=r"ct is a folder of DICOM slices|a is a folder of DICOM slices"):
        discover(tmp_path, {"ct": ["ct/a"], "mr": ["a.nii"]})
    with pytest.raises(Exception, match=r"is a DICOM file: .*dcm2niix"):
        open_source("ct", [tmp_path / "ct" / "a" / "0.dcm"])
    with pytest.raises(Exception, match=r"is a folder of DICOM slices: .*dcm2niix"):
        open_source("ct", [tmp_path / "ct" / "a"])


def test_the_same_brain_in_two_orientations_is_one_lattice():
    folder = shared_data("nifti") / "pair_same_brain_orientations"
    (one,), (two,) = (open_volumes("mri", folder / name) for name in ("AIL.nii.gz", "LPS.nii.gz"))
    alignment = align_volumes(one.place, two.place)
    assert alignment.is_on_lattice
    assert alignment.differences() == ["stored LPS instead of AIL"]


def test_a_manifest_that_names_a_folder_of_slices(tmp_path):
    (tmp_path / "ct").mkdir()
    (tmp_path / "ct" / "1.dcm").write_bytes(b"x")
    (tmp_path / "mr.nii").write_bytes(b"x")
    (tmp_path / "m.csv").write_text("scene,ct,mr\na,ct,mr.nii\n")
    with pytest.raises(RecipeError, match=r"m\.csv:2: .*ct is a folder of DICOM slices: .*dcm2niix"):
        discover(tmp_path, {"ct": [], "mr": []}, "m.csv")
