"""Volumes on the reference's grid: any window equal to the whole, and the whole equal to nibabel."""

from __future__ import annotations

from itertools import permutations

import nibabel
import numpy as np
import pytest
from nibabel.processing import resample_from_to
from shared_data import shared_data
from volumes import turned

from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.geometry.window import Window
from batchfuse.imagery import volume_resample
from batchfuse.imagery.nifti import open_volumes
from batchfuse.imagery.pixels import read_pixels
from batchfuse.imagery.volume_alignment import align_volumes
from batchfuse.imagery.volume_resample import resampled_volume

METHODS = ("nearest", "bilinear", "cubic", "average")


def reader(values, valid=None):
    """Windows of an array (z, y, x); what invalid voxels hold is nonsense."""
    values = values.astype(np.float32)
    valid = np.ones(values.shape, bool) if valid is None else valid
    values = np.where(
        valid, values, np.where(np.arange(values.size).reshape(values.shape) % 2, np.nan, np.inf)
    )

    def read(window):
        return values[window.slices][None].astype(np.float32), valid[window.slices]

    return read


def whole(grid):
    return Window.whole(grid.shape)


def noise(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def random_grids(seed):
    """Two oblique, sheared and flipped grids that overlap in part."""
    rng = np.random.default_rng(seed)
    grids = []
    for _ in range(2):
        shape = tuple(int(n) for n in rng.integers(6, 26, 3))
        affine = turned(
            rng.uniform(-0.7, 0.7, 3), rng.choice([-1, 1], 3) * rng.uniform(0.5, 2.5, 3), (0, 0, 0)
        )
        if seed % 2:
            affine[:3, :3] = affine[:3, :3] @ (np.eye(3) + np.triu(rng.uniform(-0.5, 0.5, (3, 3)), 1))
        affine[:3, :3] = affine[:3, rng.permutation(3)]
        middle = affine[:3, :3] @ (np.array(shape[::-1]) / 2)
        affine[:3, 3] = rng.uniform(-3, 3, 3) - middle
        grids.append(VolumeGrid.of(shape, affine))
    return grids


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(12))
def test_any_window_equals_the_whole_bit_for_bit(method, seed):
    reference, source = random_grids(seed)
    rng = np.random.default_rng(seed)
    read = reader(noise(source.shape), rng.random(source.shape) > 0.1 if seed % 3 else None)
    alignment = align_volumes(reference, source)
    values, valid = resampled_volume(alignment, whole(reference), read, method)
    for _ in range(25):
        start = [int(rng.integers(0, n)) for n in reference.shape]
        stop = [int(rng.integers(a + 1, n + 1)) for a, n in zip(start, reference.shape, strict=True)]
        window = Window(tuple(start), tuple(stop))
        some, some_valid = resampled_volume(alignment, window, read, method)
        np.testing.assert_array_equal(some.view(np.uint32), values[:, *window.slices].view(np.uint32))
        np.testing.assert_array_equal(some_valid, valid[window.slices])
    assert np.isfinite(values).all()
    assert (values[:, ~valid] == 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_parts_equal_the_whole(method, monkeypatch):
    reference, source = random_grids(3)
    read, alignment = reader(noise(source.shape)), align_volumes(reference, source)
    expected = resampled_volume(alignment, whole(reference), read, method)
    asked = []

    def counted(window):
        asked.append(window.size)
        return read(window)

    monkeypatch.setattr(volume_resample, "OUTPUT", 300)
    monkeypatch.setattr(volume_resample, "INPUT", 900)
    found = resampled_volume(alignment, whole(reference), counted, method)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(asked) > 4
    assert max(asked) <= 900


def inside(reference, source):
    """Where the reference's centres lie within the source's outermost centres (z, y, x)."""
    places = np.stack([*np.indices(reference.shape)[::-1], np.ones(reference.shape)]).reshape(4, -1)
    i, j, k, _ = np.linalg.solve(source.affine, reference.affine) @ places
    found = np.ones(i.shape, bool)
    for place, n in zip((k, j, i), source.shape, strict=True):
        found &= (place >= 1e-5) & (place <= n - 1 - 1e-5)
    return found.reshape(reference.shape), np.stack([k, j, i])


@pytest.mark.parametrize("seed", range(8))
def test_trilinear_is_what_nibabel_gives(seed):
    reference, source = random_grids(seed)
    values = noise(source.shape)
    found, valid = resampled_volume(
        align_volumes(reference, source), whole(reference), reader(values), "bilinear"
    )
    image = nibabel.Nifti1Image(values.T.astype(np.float64), source.affine)
    expected = resample_from_to(image, (reference.shape[::-1], reference.affine), order=1).get_fdata().T
    at, _ = inside(reference, source)
    assert at.sum() > 50
    assert valid[at].all()
    assert np.abs(found[0] - expected)[at].max() <= 1e-5 * np.ptp(values)


FILES = {
    "CT": "pair_pet_ct_mr_sarcoma/STS_002_CT.nii.gz",
    "PET": "pair_pet_ct_mr_sarcoma/STS_002_PET.nii.gz",
    "MR": "pair_pet_ct_mr_sarcoma/STS_002_MR_T1.nii.gz",
    "T1": "pair_mni152_1mm/T1.nii.gz",
    "zmap": "pair_T1_statmap/image_10426.nii.gz",
    "spine1": "pair_spine_T1_T2/t1w.nii.gz",
    "spine2": "pair_spine_T1_T2/t2.nii.gz",
    "AIL": "pair_same_brain_orientations/AIL.nii.gz",
    "LPS": "pair_same_brain_orientations/LPS.nii.gz",
    "anatomical": "pair_epi_anat_small/anatomical.nii",
    "functional": "pair_epi_anat_small/functional.nii",
    "sheared": "nasty/sheared_affine_4d.nii.gz",
    "oblique": "nasty/example4d.nii.gz",
    "spm1": "pair_spm_T1_T2/avg152T1.nii",
    "spm2": "pair_spm_T1_T2/avg152T2.nii",
}
GROUPS = (
    ("CT", "PET", "MR"),
    ("T1", "zmap"),
    ("spine1", "spine2"),
    ("AIL", "LPS"),
    ("anatomical", "functional"),
    ("sheared", "oblique"),
    ("spm1", "spm2"),
)
PAIRS = [pair for group in GROUPS for pair in permutations(group, 2)]


@pytest.mark.parametrize(("reference", "source"), PAIRS)
def test_real_pairs_land_where_nibabel_puts_them(reference, source):
    paths = [shared_data("nifti") / FILES[name] for name in (reference, source)]
    (one, *_), (two, *_) = (open_volumes("role", path) for path in paths)

    def read(window):
        pixels, valid = read_pixels(two, window)
        return pixels.astype(np.float32), valid

    pixels, _ = read_pixels(two, Window.whole(two.place.shape))
    image = nibabel.Nifti1Image(pixels[0].T.astype(np.float64), nibabel.load(paths[1]).affine)
    grid = (one.place.shape[::-1], nibabel.load(paths[0]).affine)
    alignment = align_volumes(one.place, two.place)
    at, places = inside(one.place, two.place)
    spread = float(np.ptp(pixels.astype(float)))

    found, valid = resampled_volume(alignment, whole(one.place), read, "bilinear")
    expected = resample_from_to(image, grid, order=1).get_fdata().T
    assert valid[at].all()
    assert np.abs(found[0] - expected)[at].max(initial=0) <= 1e-5 * spread

    found, valid = resampled_volume(alignment, whole(one.place), read, "nearest")
    expected = resample_from_to(image, grid, order=0).get_fdata().T
    # half-way between two voxels either is the nearest
    untied = (np.abs(places - np.floor(places) - 0.5) > 1e-5).all(0).reshape(one.place.shape)
    assert np.array_equal(found[0][at & untied], expected[at & untied].astype(np.float32))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_same_lattice_stored_otherwise_gives_the_values_themselves(method, order):
    voxels = noise((7, 9, 11))
    affine = np.diag([2.0, 1.5, 3.0, 1]) + np.array(
        [[0, 0, 0, -71.3], [0, 0, 0, 12.7], [0, 0, 0, 0.1], [0] * 4]
    )
    image = nibabel.Nifti1Image(voxels.T, affine)
    signs = (-1, 1, -1)
    turn = nibabel.orientations.inv_ornt_aff(np.array(list(zip(order, signs, strict=True))), image.shape)
    other = nibabel.Nifti1Image(
        nibabel.orientations.apply_orientation(voxels.T, np.array(list(zip(order, signs, strict=True)))),
        (affine @ turn).astype(np.float32),
    )
    reference = VolumeGrid.of(voxels.shape, affine)
    source = VolumeGrid.of(other.shape[::-1], other.affine)
    alignment = align_volumes(reference, source)
    values, valid = resampled_volume(alignment, whole(reference), reader(np.asarray(other.dataobj).T), method)
    assert valid.all()
    np.testing.assert_array_equal(values[0], voxels)


@pytest.mark.parametrize("method", METHODS)
def test_what_invalid_voxels_hold_never_bleeds(method):
    source = VolumeGrid.of((9, 9, 9), np.eye(4))
    reference = VolumeGrid.of((16, 16, 16), np.diag([0.5, 0.5, 0.5, 1]) + 0.01 * np.eye(4, k=3))
    rng = np.random.default_rng(0)
    valid = rng.random(source.shape) > 0.3
    values, found = resampled_volume(
        align_volumes(reference, source), whole(reference), reader(np.full(source.shape, 7.25), valid), method
    )
    assert found.any()
    assert not found.all()
    # cubic weights add up to 1 only to the last bit of a double
    np.testing.assert_allclose(values[0][found], 7.25, rtol=1e-7)
    assert (values[0][~found] == 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_source_ends_half_a_voxel_beyond_its_centres(method):
    source = VolumeGrid.of((4, 5, 6), np.eye(4))
    affine = np.diag([0.25, 0.25, 0.25, 1])
    affine[:3, 3] = -2
    reference = VolumeGrid.of((40, 40, 48), affine)
    _, valid = resampled_volume(
        align_volumes(reference, source), whole(reference), reader(noise(source.shape)), method
    )
    z, y, x = (np.indices(reference.shape) * 0.25) - 2
    expected = np.ones(reference.shape, bool)
    for place, n in zip((z, y, x), source.shape, strict=True):
        expected &= (place >= -0.5) & (place < n - 0.5)
    np.testing.assert_array_equal(valid, expected)


def test_a_voxel_needs_half_of_its_weights():
    source = VolumeGrid.of((2, 2, 2), np.eye(4))
    affine = np.eye(4)
    affine[:3, 3] = 0.5
    reference = VolumeGrid.of((1, 1, 1), affine)
    for many in range(9):
        valid = (np.arange(8) < many).reshape(2, 2, 2)
        for method in ("bilinear", "average"):
            values, found = resampled_volume(
                align_volumes(reference, source),
                whole(reference),
                reader(np.arange(8.0).reshape(2, 2, 2), valid),
                method,
            )
            assert found.item() == (many >= 4)
            assert values.item() == (np.arange(many).mean() if many >= 4 else 0)


def test_average_is_the_mean_of_what_lies_under_a_voxel():
    values = noise((8, 12, 16))
    source = VolumeGrid.of(values.shape, np.eye(4))
    affine = np.diag([4.0, 3.0, 2.0, 1])
    affine[:3, 3] = 1.5, 1, 0.5
    reference = VolumeGrid.of((4, 4, 4), affine)
    found, valid = resampled_volume(
        align_volumes(reference, source), whole(reference), reader(values), "average"
    )
    assert valid.all()
    expected = values.reshape(4, 2, 4, 3, 4, 4).mean((1, 3, 5), dtype=np.float64)
    np.testing.assert_allclose(found[0], expected, atol=1e-7)


def test_cubic_is_exact_for_squares():
    z, y, x = np.indices((10, 11, 12)).astype(float)
    affine = np.eye(4)
    affine[:3, 3] = 2.3, 2.6, 2.125
    source, reference = VolumeGrid.of(z.shape, np.eye(4)), VolumeGrid.of((4, 4, 4), affine)
    found, _ = resampled_volume(
        align_volumes(reference, source), whole(reference), reader(z * z + y * x + x * x), "cubic"
    )
    k, j, i = np.indices((4, 4, 4)) + np.array([2.125, 2.6, 2.3])[:, None, None, None]
    np.testing.assert_allclose(found[0], k * k + j * i + i * i, rtol=1e-5)


def test_a_window_beside_the_source_is_invalid_and_reads_one_voxel_at_most():
    source = VolumeGrid.of((4, 4, 4), np.eye(4))
    reference = VolumeGrid.of((4, 4, 30), np.diag([0.9, 0.9, 0.9, 1]))
    asked = []

    def read(window):
        asked.append(window)
        return np.ones((1, *window.shape), np.float32), np.ones(window.shape, bool)

    alignment = align_volumes(reference, source)
    values, valid = resampled_volume(alignment, Window((0, 0, 20), (4, 4, 30)), read, "bilinear")
    assert values.shape == (1, 4, 4, 10)
    assert not valid.any()
    assert [window.size for window in asked] == [1]


def test_another_method_is_refused():
    grid = VolumeGrid.of((2, 2, 2), np.eye(4))
    with pytest.raises(ValueError, match="lanczos"):
        resampled_volume(align_volumes(grid, grid), whole(grid), reader(np.ones((2, 2, 2))), "lanczos")


def test_a_thin_slab_of_an_oblique_volume_reads_little_more_than_lies_under_it():
    source = VolumeGrid.of((60, 400, 400), turned((0.1, 0.1, 0.3), (1, 1, 1), (0, 0, 0)))
    reference = VolumeGrid.of((60, 400, 400), np.eye(4))
    values, asked = noise(source.shape), []

    def read(window):
        asked.append(window.size)
        return values[window.slices][None], np.ones(window.shape, bool)

    alignment = align_volumes(reference, source)
    slab = Window((20, 0, 0), (36, 400, 400))
    found, valid = resampled_volume(alignment, slab, read, "bilinear")
    assert max(asked) < 2**21
    part = Window((25, 100, 150), (30, 250, 330))
    at = part.relative_to(slab).slices
    some, some_valid = resampled_volume(alignment, part, read, "bilinear")
    np.testing.assert_array_equal(found[0][at], some[0])
    np.testing.assert_array_equal(valid[at], some_valid)
