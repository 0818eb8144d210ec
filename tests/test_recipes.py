"""Every recipe in recipes/ runs as it stands, on files named as it expects."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from rasters import photo, write_raster
from shared_data import shared_data

import batchfuse
from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.geometry.window import Window
from batchfuse.storage.store import Store

RECIPES = Path(__file__).parents[1] / "recipes"
GRID = Affine(30, 0, 500_000, 0, -30, 5_600_000)
TRIED_HERE = {
    *("landsat.yaml", "drone.yaml", "images.yaml"),
    *("mri-pet.yaml", "ct-mri.yaml", "t1-t2.yaml", "bids.yaml"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in TRIED_HERE:
        shutil.copy(RECIPES / name, tmp_path)
    return tmp_path


def run(recipe: Path, *overrides: str) -> batchfuse.Report:
    report = batchfuse.run(batchfuse.Recipe.load(recipe, overrides))
    assert report.exit_code == 0, report.outcomes
    return report


def opened(store: Path) -> tuple[NDArray[np.float64], SimpleNamespace]:
    """Values as float64, NaN where invalid, and what rasterio says of the store."""
    with rasterio.open(store) as dataset:
        values = dataset.read().astype(np.float64)
        values[dataset.read_masks() == 0] = np.nan
        return values, SimpleNamespace(**dataset.profile, scales=dataset.scales, offsets=dataset.offsets)


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(image).save(path)


def write_landsat(folder: Path, product: str, seed: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Files of one product as USGS names them, 0 where the swath ends; thermal and optical numbers.

    A cloud lies on rows 20 to 30 and columns 50 to 60, its shadow on the ten columns before.
    """
    thermal = np.rint(photo((90, 110), seed)[0] * 9000 + 38_000).astype(np.uint16)
    optical = np.rint(photo((90, 110), seed + 1, bands=3) * 12_000 + 8000).astype(np.uint16)
    thermal[:, :10] = optical[:, :, :10] = 0
    write_raster(folder / f"{product}_ST_B10.TIF", thermal, transform=GRID, nodata=0)
    for number, band in zip((4, 3, 2), optical, strict=True):
        write_raster(folder / f"{product}_SR_B{number}.TIF", band, transform=GRID, nodata=0)
    quality = np.full(thermal.shape, 21_824, np.uint16)  # clear land
    quality[:, :10] = 1
    quality[20:30, 50:60] = 22_280  # cloud
    quality[20:30, 40:50] = 23_888  # cloud shadow
    write_raster(folder / f"{product}_QA_PIXEL.TIF", quality, transform=GRID)
    write_raster(folder / f"{product}_QA_RADSAT.TIF", quality * 0, transform=GRID)
    return thermal, optical


def test_every_recipe_is_tried_by_a_test() -> None:
    assert {path.name for path in RECIPES.glob("*.yaml")} == TRIED_HERE


def test_the_landsat_recipe_gives_reflectance_in_the_place_of_the_optical_bands(folder: Path) -> None:
    products = [f"LC09_L2SP_195028_2024061{day}_20240620_02_T1" for day in (1, 5)]
    _, optical = write_landsat(folder / "scenes", products[0], 1)
    write_landsat(folder / "scenes" / products[1], products[1], 3)
    report = run(folder / "landsat.yaml")
    assert [outcome.scene for outcome in report.outcomes] == products
    assert not any(outcome.warnings for outcome in report.outcomes)
    # other quality bands are told of, and not used
    assert sorted(Path(path).name for path, _ in report.unmatched) == [f"{p}_QA_RADSAT.TIF" for p in products]
    fused, dataset = opened(folder / "landsat" / f"{products[0]}.zarr")
    assert dataset.transform.almost_equals(GRID)
    assert dataset.crs.to_epsg() == 32632
    assert np.isnan(fused[:, :, :10]).all()
    clear = np.ones(fused.shape[1:], bool)
    clear[:, :10] = clear[20:30, 40:60] = False
    assert (np.isfinite(fused).all(0) == clear).all()
    valid = fused[:, clear]
    reflectance = optical[:, clear] * 2.75e-05 - 0.2
    # the colours are the optical image's own: fusing adds the same to each band
    assert np.allclose(np.diff(valid, axis=0), np.diff(reflectance, axis=0), atol=1e-5)
    thermal_low, thermal_high = report.outcomes[0].scaling["thermal"]["low"], 149 + 0.00341802 * 47_000
    assert 149 + 0.00341802 * 38_000 <= thermal_low < thermal_high


def test_the_landsat_recipe_as_uint16_keeps_the_numbers_of_the_files(folder: Path) -> None:
    write_landsat(folder / "scenes", "LC09_X", 1)
    run(folder / "landsat.yaml")
    run(folder / "landsat.yaml", "output.path=whole", "output.dtype=uint16")
    reflectance, _ = opened(folder / "landsat" / "LC09_X.zarr")
    numbers, dataset = opened(folder / "whole" / "LC09_X.zarr")
    assert (dataset.dtype, dataset.nodata) == ("uint16", 0)
    assert dataset.scales == pytest.approx((2.75e-05,) * 3)
    assert dataset.offsets == pytest.approx((-0.2,) * 3)
    assert np.nanmax(np.abs(numbers * 2.75e-05 - 0.2 - reflectance)) <= 0.51 * 2.75e-05


def write_flight(folder: Path) -> tuple[NDArray[np.uint8], Affine]:
    """A colour mosaic of 2 cm with an alpha band, a thermal one of 5 cm that begins 1.3 m to the west."""
    fine = Affine(0.02, 0, 400_000, 0, -0.02, 5_200_000)
    rgba = np.rint(photo((160, 180), 5, bands=4) * 200 + 20).astype(np.uint8)
    rgba[3] = 255
    rgba[3, :30, :40] = 0
    colour = folder / "mosaics" / "field7_rgb.tif"
    write_raster(colour, rgba, transform=fine, photometric="RGB", alpha="yes")
    thermal = (photo((100, 110), 6)[0] * 25 + 8).astype(np.float32)
    thermal[80:, 90:] = -10_000
    coarse = Affine(0.05, 0, 399_998.7, 0, -0.05, 5_200_001)
    write_raster(folder / "mosaics" / "field7_thermal.tif", thermal, transform=coarse, nodata=-10_000)
    return rgba, fine


def test_the_drone_recipe_brings_the_thermal_mosaic_onto_the_colour_one(folder: Path) -> None:
    rgba, fine = write_flight(folder)
    report = run(folder / "drone.yaml")
    assert any("0.05 m pixels instead of 0.02 m" in line for line in report.outcomes[0].differences)
    fused, dataset = opened(folder / "drone" / "field7.zarr")
    assert (dataset.dtype, dataset.height, dataset.width, dataset.count) == ("uint8", 160, 180, 3)
    assert dataset.transform.almost_equals(fine)
    # alpha is validity, no fourth colour; there the thermal image alone is shown, in gray
    assert (np.ptp(fused[:, :30, :40], axis=0) <= 1).all()
    coloured = np.ptp(rgba[:3].astype(float), axis=0) > 30
    coloured[:30, :40] = False
    assert (np.ptp(fused, axis=0)[coloured] > 10).all()


def test_the_drone_recipe_takes_a_png_with_a_world_file(folder: Path) -> None:
    rgba, fine = write_flight(folder)
    run(folder / "drone.yaml")
    mosaics = folder / "mosaics"
    (mosaics / "field7_rgb.tif").unlink()
    write_png(mosaics / "field7_rgb.png", np.moveaxis(rgba, 0, -1))
    x, y = fine @ (0.5, 0.5)
    (mosaics / "field7_rgb.pgw").write_text(f"{fine.a}\n0\n0\n{fine.e}\n{x!r}\n{y!r}\n")
    png_path = "inputs.rgb.path=mosaics/{flight}_rgb.png"
    run(folder / "drone.yaml", png_path, "inputs.rgb.crs=EPSG:32632", "output.path=png")
    of_tif, tif = opened(folder / "drone" / "field7.zarr")
    of_png, png = opened(folder / "png" / "field7.zarr")
    assert png.crs == tif.crs
    assert np.nanmax(np.abs(of_tif - of_png)) <= 1


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_image_recipe_fuses_pairs_that_have_no_place(folder: Path) -> None:
    shapes = {"01": (70, 80), "02": (64, 90)}
    for number, (name, shape) in enumerate(shapes.items()):
        for role in ("IR", "VIS"):
            image = np.rint(photo(shape, 10 * number + len(role))[0] * 255).astype(np.uint8)
            write_png(folder / "pairs" / f"{role}{name}.png", image)
    report = run(folder / "images.yaml")
    assert [outcome.scene for outcome in report.outcomes] == ["01", "02"]
    for name, shape in shapes.items():
        fused, dataset = opened(folder / "fused" / f"{name}.zarr")
        assert (dataset.height, dataset.width, dataset.count) == (*shape, 1)
        assert (dataset.crs, dataset.dtype) == (None, "uint8")
        assert np.nanstd(fused) > 10


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_image_recipe_fuses_a_pair_of_tno(folder: Path) -> None:
    (folder / "pairs").mkdir()
    images = {}
    for role in ("IR", "VIS"):
        shutil.copyfile(shared_data(f"tno/{role}01.png"), folder / "pairs" / f"{role}01.png")
        images[role] = np.asarray(Image.open(folder / "pairs" / f"{role}01.png"), float)
    run(folder / "images.yaml")
    fused, _ = opened(folder / "fused" / "01.zarr")
    assert fused.shape[1:] == images["VIS"].shape
    # it looks like both, and more so than they look like each other
    alike = {role: np.corrcoef(fused.ravel(), image.ravel())[0, 1] for role, image in images.items()}
    assert min(alike.values()) > np.corrcoef(images["IR"].ravel(), images["VIS"].ravel())[0, 1]


# --- volumes ------------------------------------------------------------------------------------


def head(shape: tuple[int, int, int], affine: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Values of 0..1 along (i, j, k) that belong to places in the world: a ball of waves."""
    places = (
        np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) @ affine[:3, :3].T + affine[:3, 3]
    )
    waves = np.sin(places / (3.0 + seed)).sum(-1) / 6 + 0.5
    return np.where(np.linalg.norm(places, axis=-1) < 30, waves, 0.0)


def write_volume(
    path: Path, spacing: float, seed: int, orientation: str = "RAS", low: float = 0, high: float = 1000
) -> nibabel.Nifti1Image:
    """A head of 64 mm around the world's origin."""
    count = round(64 / spacing)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -spacing * (count - 1) / 2
    values = head((count, count, count), affine, seed) * (high - low) + low
    image = nibabel.Nifti1Image(values.astype(np.float32), affine)
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(orientation)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image.as_reoriented(turn), path)
    return nibabel.load(path)


def fused_like(store: Path, reference: nibabel.Nifti1Image) -> NDArray[np.float64]:
    """The voxels (i, j, k) of a store that has to lie where the reference does."""
    fused = Store.open(store)
    grid = fused.layout.grid
    assert isinstance(grid, VolumeGrid)
    assert grid.shape[::-1] == reference.shape
    assert np.allclose(grid.affine, reference.affine, atol=1e-5)
    return np.asarray(fused.read(Window.whole(grid.shape))[0].T, np.float64)


def likeness(fused: NDArray[np.float64], image: nibabel.Nifti1Image) -> float:
    return float(np.corrcoef(fused.ravel(), np.asarray(image.dataobj).ravel())[0, 1])


def test_the_mri_pet_recipe_gives_a_volume_in_the_mris_place(folder: Path) -> None:
    write_volume(folder / "volumes" / "anna_pet.nii.gz", 4, 1, "LPS", high=12)
    mri = write_volume(folder / "volumes" / "anna_mri.nii.gz", 2, 2, "PSR")
    run(folder / "mri-pet.yaml")
    fused = fused_like(folder / "mri-pet" / "anna.zarr", mri)
    pet = write_volume(folder / "same.nii.gz", 2, 1, "PSR", high=12)  # the PET as it lies on the MRI's grid
    assert min(likeness(fused, mri), likeness(fused, pet)) > 0.5
    assert (folder / "mri-pet" / "anna.quicklook.png").is_file()


def test_the_ct_mri_recipe_takes_hounsfield_units_by_their_window(folder: Path) -> None:
    write_volume(folder / "volumes" / "7_ct.nii.gz", 2, 1, "LAS", low=-1000, high=1000)
    mri = write_volume(folder / "volumes" / "7_mri.nii.gz", 2, 2)
    (outcome,) = run(folder / "ct-mri.yaml").outcomes
    ct = outcome.scaling["ct"]
    assert (ct["low"], ct["high"]) == (-160, 240)
    assert ct["minimum"] == pytest.approx(-1000)
    fused_like(folder / "ct-mri" / "7.zarr", mri)


def test_the_t1_t2_recipe_fuses_two_contrasts_in_each_plane(folder: Path) -> None:
    write_volume(folder / "volumes" / "a_T2w.nii.gz", 2, 1)
    t1 = write_volume(folder / "volumes" / "a_T1w.nii.gz", 2, 2)
    run(folder / "t1-t2.yaml", "grid.mismatch=error")
    run(folder / "t1-t2.yaml", "fusion.plane=sagittal", "output.path=sagittal")
    axial, sagittal = (fused_like(folder / path / "a.zarr", t1) for path in ("t1-t2", "sagittal"))
    assert 0 < np.abs(axial - sagittal).max() < 500


def test_the_bids_recipe_finds_subjects_and_sessions(folder: Path) -> None:
    for sub, ses in (("01", "pre"), ("01", "post"), ("02", "pre")):
        stem = f"sub-{sub}_ses-{ses}"
        write_volume(folder / f"sub-{sub}/ses-{ses}/pet/{stem}_trc-18FFDG_pet.nii.gz", 4, 1)
        write_volume(folder / f"sub-{sub}/ses-{ses}/anat/{stem}_T1w.nii.gz", 4, 2)
    (folder / "sub-02/ses-pre/pet/sub-02_ses-pre_trc-18FFDG_pet.nii.gz").unlink()
    report = run(folder / "bids.yaml")
    assert sorted(outcome.scene for outcome in report.outcomes) == ["01_post", "01_pre"]
    assert (folder / "derivatives" / "batchfuse" / "01_post.zarr").is_dir()
