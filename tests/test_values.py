"""File values to stored pixels, through whole runs, against the same steps in plain NumPy.

Most other tests of whole runs compare the code with itself (tiles with whole, export with store): an error
that all of it shares shows here alone.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import rasterio
import zarr
from numpy.typing import NDArray
from plain_pipeline import (
    Image,
    PlainNetwork,
    brightest_of,
    difference,
    ends_of,
    fused,
    mean_of,
    on_grid,
    scaled,
    stored,
)
from rasters import NORTH_UP, photo, write_raster
from safetensors.numpy import load_file

import batchfuse
from batchfuse import scene_run
from batchfuse.fusion import methods
from batchfuse.fusion.shipped import weights_path

SHAPE = (22, 27)
MERGES = {"mean": mean_of, "brightest": brightest_of}
SLACK = 2e-6  # of the scaled range, which is computed in float32


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain method is known, and no pictures are drawn: nothing of them is looked at here."""
    monkeypatch.setattr(methods, "_REGISTERED", dict(methods._REGISTERED))
    kinds = {name: batchfuse.Strategy(name, 0, None, "pixel by pixel") for name in MERGES}
    batchfuse.register(batchfuse.Method("plain", "plain_pipeline:PlainFuser", kinds, ""))
    monkeypatch.setattr(scene_run, "draw_quicklook", lambda *_: None)


def values(dtype: str, low: float, high: float, seed: int, bands: int = 1, zoom: int = 1) -> NDArray[Any]:
    """A photograph from low to high, (band, y, x)."""
    image = photo((SHAPE[0] * zoom, SHAPE[1] * zoom), seed, bands) * (high - low) + low
    return (np.rint(image) if np.dtype(dtype).kind in "ui" else image).astype(dtype)


def hole(image: NDArray[Any], nodata: float, seed: int = 0) -> NDArray[Any]:
    """The same with invalid pixels: a strip that differs by seed, and single ones."""
    out = image.copy()
    out[:, 3 + 4 * (seed % 3) : 8 + 4 * (seed % 3), : 9 + 5 * (seed % 2)] = nodata
    out[:, 15 + seed % 5, 20] = nodata
    return out


def mask(seed: int) -> NDArray[np.bool_]:
    return np.asarray(hole(np.ones((1, *SHAPE)), 0, seed)[0] > 0)


def spoiled(image: NDArray[Any]) -> NDArray[Any]:
    """With NaN and both infinities."""
    out = image.copy()
    out[:, 2, 3], out[:, 12, 13], out[:, 12, 14] = np.nan, np.inf, -np.inf
    return out


def with_black(image: NDArray[Any]) -> NDArray[Any]:
    """Of colours in 8 bits: black is nodata, and red without green and blue is not."""
    out = image.copy()
    out[:, :5, :9], out[1:, 10:12, :9], out[0, 10:12, :9] = 0, 0, 200
    return out


LEAST = -3.4028234663852886e38  # of float32, which its tag writes as -3.40282347e+38
IMAGES = {
    "bytes": Image(values("uint8", 3, 250, 1)),
    "bytes with a nodata and a scale": Image(hole(values("uint8", 3, 250, 2), 0), 0.5, 10, 0),
    "bytes whose nodata is 255": Image(hole(values("uint8", 3, 250, 3), 255, 1), nodata=255),
    "Landsat reflectance": Image(hole(values("uint16", 7300, 43000, 4), 0), 2.75e-5, -0.2, 0),
    "Landsat temperature": Image(hole(values("uint16", 38000, 51000, 5), 0, 1), 0.00341802, 149.0, 0),
    "16 bits up to their end": Image(hole(values("uint16", 1, 65535, 6), 0, 2), nodata=0),
    "signed, all below zero": Image(hole(values("int16", -9000, -20, 7), -9999, 1), 0.01, nodata=-9999),
    "a negative scale": Image(hole(values("int16", -500, 800, 8), 32767, 2), -0.1, 5, 32767),
    "nodata amid the values": Image(hole(values("int16", -500, 800, 9), 17), nodata=17),
    "floats around zero": Image(spoiled(values("float32", -3, 5, 10))),
    "floats with a nodata": Image(hole(spoiled(values("float32", 250, 310, 11)), -9999), nodata=-9999),
    "the least float as nodata": Image(hole(values("float32", 0.1, 0.9, 12), LEAST, 1), nodata=LEAST),
    "a nodata that no float32 is": Image(hole(values("float32", -2, -1, 13), 0.1), 3.0, -7.0, nodata=0.1),
    "doubles": Image(hole(values("float64", -1e-3, 2e-3, 14), 1e20, 1), 2e4, 273.15, nodata=1e20),
    "32 bits far from zero": Image(values("int32", -2_000_000_000, -1_000_000_000, 15)),
    "32 bits unsigned": Image(hole(values("uint32", 5, 4_000_000_000, 16), 0, 2), nodata=0),
    "nearly all one value": Image(np.where(values("uint16", 0, 100, 17) > 99, 700, 300).astype("uint16")),
    "one value": Image(np.full((1, *SHAPE), 42, "uint16")),
    "an internal mask": Image(values("uint16", 5, 900, 18), mask=mask(1)),
    "a mask of bytes": Image(values("uint8", 5, 90, 19), mask=mask(2)),
    "beyond the grid": Image(values("uint16", 100, 5000, 20), at=(-6, 9)),
    "only a corner": Image(values("float32", -1, 1, 21), at=(12, -17)),
    "twice as fine": Image(hole(values("uint16", 9, 3000, 22, zoom=2), 0, 1), nodata=0, finer=2),
}
"""Every kind of file value, each invalid in other places, so that all sets of valid sources occur."""
NAMES = list(IMAGES)
REFERENCES = [name for name in NAMES if IMAGES[name].at == (0, 0) and IMAGES[name].finer == 1]


def write(path: Path, image: Image, **options: Any) -> None:
    """The image as a GeoTIFF where it lies on the grid; its mask inside the file."""
    row, column = image.at
    place = NORTH_UP @ rasterio.Affine.translation(column, row) @ rasterio.Affine.scale(1 / image.finer)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"):
        write_raster(
            path,
            image.values,
            transform=place,
            nodata=image.nodata,
            scale=image.scale,
            offset=image.offset,
            mask=image.mask,
            **options,
        )


def write_scene(folder: Path, name: str, images: Sequence[Image]) -> None:
    for role, image in zip("abc", images, strict=False):
        colours = {"photometric": "RGB"} if len(image.values) == 3 else {}
        write(folder / f"{name}_{role}.tif", image, **colours)


def run(folder: Path, sources: int, strategy: str = "mean", **settings: Any) -> batchfuse.Report:
    """A run over all scenes of the folder; the last source is the reference."""
    roles = "abc"[:sources]
    inputs = {r: {"path": f"{{s}}_{r}.tif", **settings.pop(f"of_{r}", {})} for r in roles}
    fusion = settings.pop("fusion", {"method": "plain", "strategy": strategy})
    recipe = batchfuse.Recipe.model_validate(
        {
            "inputs": inputs,
            "reference": roles[-1],
            "fusion": fusion,
            "tiles": {"size": 16},
            "folder": folder,
            **settings,
        }
    )
    report = batchfuse.run(recipe, batchfuse.Profile(threads=1))
    assert [(o.scene, o.reason) for o in report.outcomes if o.status != "complete"] == []
    return report


def off(
    store: Path, images: Sequence[Image], dtype: str = "float32", units: str = "reference", **how: Any
) -> float:
    """By how much a store's values are off what the plain pipeline gives, in the store's own units."""
    reference = images[-1]
    image, valid, ends = fused(images, len(images) - 1, how.pop("merge", mean_of), **how)
    wanted, fill = stored(image, valid, ends, reference, dtype, units)
    with rasterio.open(store) as dataset:
        found, told = dataset.read(), dataset.nodata
        assert np.isnan(told) if np.isnan(fill) else told == fill
        if np.dtype(dtype).kind != "f":
            top = float(np.iinfo(dtype).max)
            back = (1 / top, 0.0) if units == "unit" else (reference.scale, reference.offset)
            assert (dataset.scales[0], dataset.offsets[0]) == pytest.approx(back, rel=1e-12)
    span = 1.0 if units == "unit" else ends[1] - ends[0]
    if np.dtype(dtype).kind != "f":
        span *= float(np.iinfo(dtype).max) if units == "unit" else 1 / abs(reference.scale)
    found = found.astype(dtype) if dtype == "float16" else found  # GDAL widens it
    return difference(found, wanted, fill, SLACK * span * max(1, np.abs(image).max())) / (span or 1)


def pairs_of(names: Sequence[str], step: int, references: Sequence[str] = REFERENCES) -> dict[str, list[str]]:
    """Each of the names with a reference some steps further, named by their numbers."""
    return {
        f"{NAMES.index(name)}": [name, references[(i * 3 + step) % len(references)]]
        for i, name in enumerate(names)
    }


@pytest.mark.parametrize("validity", ["any", "all"])
def test_two_sources_of_any_type_scale_and_nodata(tmp_path: Path, validity: str) -> None:
    scenes = pairs_of(NAMES, 1) if validity == "any" else pairs_of(NAMES[::3], 4)
    for name, kinds in scenes.items():
        write_scene(tmp_path, name, [IMAGES[kind] for kind in kinds])
    run(tmp_path, 2, validity=validity)
    for name, kinds in scenes.items():
        found = off(tmp_path / "fused" / f"{name}.zarr", [IMAGES[k] for k in kinds], validity=validity)
        assert found <= 0, kinds


@pytest.mark.parametrize("strategy", MERGES)
def test_three_sources_of_which_one_two_or_all_are_valid(tmp_path: Path, strategy: str) -> None:
    kinds = REFERENCES[::3] if strategy == "mean" else REFERENCES[1::3]
    scenes = {f"{i}": [kinds[i], kinds[i - 3], kinds[i - 1]] for i in range(len(kinds))}
    for name, three in scenes.items():
        write_scene(tmp_path, name, [IMAGES[kind] for kind in three])
    run(tmp_path, 3, strategy, output={"units": "unit"})
    for name, three in scenes.items():
        images = [IMAGES[kind] for kind in three]
        found = off(tmp_path / "fused" / f"{name}.zarr", images, units="unit", merge=MERGES[strategy])
        assert found <= 0, three


@pytest.mark.parametrize("units", ["reference", "unit"])
@pytest.mark.parametrize("dtype", ["float16", "uint8", "uint16", "int16"])
def test_every_type_of_output(tmp_path: Path, dtype: str, units: str) -> None:
    kinds = ["bytes whose nodata is 255", "Landsat reflectance", "a negative scale", "floats around zero"]
    scenes = {f"{i}": ["nodata amid the values", kind] for i, kind in enumerate(kinds)}
    for name, two in scenes.items():
        write_scene(tmp_path, name, [IMAGES[kind] for kind in two])
    run(tmp_path, 2, "brightest", output={"dtype": dtype, "units": units})
    for name, two in scenes.items():
        images = [IMAGES[kind] for kind in two]
        store = tmp_path / "fused" / f"{name}.zarr"
        assert off(store, images, dtype, units, merge=brightest_of) <= 0, two


@pytest.mark.parametrize("units", ["reference", "unit"])
def test_a_store_has_the_references_unit_where_it_has_its_values(tmp_path: Path, units: str) -> None:
    write_scene(tmp_path, "x", [IMAGES["bytes"], IMAGES["floats around zero"]])
    for role, unit in (("a", "m"), ("b", "K")):
        with rasterio.open(tmp_path / f"x_{role}.tif", "r+") as dataset:
            dataset.units = (unit,)
    run(tmp_path, 2, output={"units": units})
    with rasterio.open(tmp_path / "fused/x.zarr") as dataset:
        assert dataset.units == ("K" if units == "reference" else None,)


@pytest.mark.parametrize(
    "ends",
    [
        {"range": (-0.15, 0.55)},
        {"range": (0.05, 0.2)},
        {"percentiles": (2, 98)},
        {"percentiles": (0, 99.9)},
    ],
    ids=str,
)
def test_ranges_and_percentiles_are_told_in_physical_values(tmp_path: Path, ends: dict[str, Any]) -> None:
    kinds = {
        "0": "Landsat reflectance",
        "1": "doubles",
        "2": "a negative scale",
        "3": "bytes with a nodata and a scale",
    }
    reference = Image(IMAGES["Landsat reflectance"].values[:, ::-1], 2.75e-5, -0.2, 0, **ends)
    scenes = {}
    for name, kind in kinds.items():
        given = IMAGES[kind]
        image = Image(given.values, given.scale, given.offset, given.nodata, given.mask, **ends)
        scenes[name] = [image, reference]
        write_scene(tmp_path, name, scenes[name])
    run(tmp_path, 2, of_a=ends, of_b=ends)
    for name, images in scenes.items():
        assert off(tmp_path / "fused" / f"{name}.zarr", images) <= 0, kinds[name]


def test_the_recipes_scale_offset_and_nodata_replace_the_files(tmp_path: Path) -> None:
    file = IMAGES["Landsat reflectance"]
    nodata = int(np.sort(file.values.ravel())[-9])
    told = Image(file.values, 0.5, -40.0, nodata)
    write_scene(tmp_path, "x", [file, IMAGES["bytes"]])
    run(tmp_path, 2, of_a={"scale": 0.5, "offset": -40.0, "nodata": nodata})
    assert off(tmp_path / "fused" / "x.zarr", [told, IMAGES["bytes"]]) <= 0


@pytest.mark.parametrize("nodata", [0.1, -3.4028235e38, -9999.9])
def test_a_nodata_of_the_recipe_means_the_nearest_float_of_the_file(tmp_path: Path, nodata: float) -> None:
    file = Image(hole(values("float32", -2, 3, 32), nodata))
    assert (file.values.astype(np.float64) != nodata).all()
    write_scene(tmp_path, "x", [file, IMAGES["bytes"]])
    run(tmp_path, 2, of_a={"nodata": nodata}, validity="all")
    told = Image(file.values, nodata=nodata)
    assert off(tmp_path / "fused" / "x.zarr", [told, IMAGES["bytes"]], validity="all") <= 0


MASKS = {
    "zero": ({}, [1, 3, 255], [0]),
    "reject_bits": ({"reject_bits": [1, 3]}, [0, 1, 4, 5, 240], [2, 8, 10, 11]),
    "reject_values": ({"reject_values": [1, 9]}, [0, 2, 255], [1, 9]),
    "accept_values": ({"accept_values": [4, 5]}, [4, 5], [0, 1, 9, 255]),
    "both": ({"accept_values": [4, 6], "reject_bits": [1]}, [4], [0, 6, 2]),
}


@pytest.mark.parametrize("rule", MASKS)
def test_a_quality_mask(tmp_path: Path, rule: str) -> None:
    settings, good, bad = MASKS[rule]
    lets = mask(1)
    rng = np.random.default_rng(0)
    quality = np.where(lets, rng.choice(good, SHAPE), rng.choice(bad, SHAPE)).astype(np.uint8)
    write_raster(tmp_path / "x_q.tif", quality)
    file = IMAGES["16 bits up to their end"]
    write_scene(tmp_path, "x", [file, IMAGES["floats with a nodata"]])
    run(tmp_path, 2, of_a={"mask": {"path": "{s}_q.tif", **settings} if settings else "{s}_q.tif"})
    masked = Image(file.values, nodata=0, mask=lets)
    assert off(tmp_path / "fused" / "x.zarr", [masked, IMAGES["floats with a nodata"]]) <= 0


def test_an_alpha_band_and_a_mask_file_beside(tmp_path: Path) -> None:
    lets = mask(1)
    alpha = np.where(lets, np.where(mask(2), 255, 1), 0).astype(np.uint8)  # partly transparent is valid
    grey = values("uint8", 1, 200, 30)
    write_raster(tmp_path / "x_a.tif", np.concatenate([grey, alpha[None]]), alpha="yes")
    beside = values("float32", 1, 200, 31)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="NO"):
        write_raster(tmp_path / "x_b.tif", beside[0], mask=mask(2))
    assert (tmp_path / "x_b.tif.msk").exists()
    run(tmp_path, 2)
    images = [Image(grey, mask=lets), Image(beside, mask=mask(2))]
    assert off(tmp_path / "fused" / "x.zarr", images) <= 0


COLOURS = {
    "bytes": Image(with_black(values("uint8", 5, 250, 40, bands=3)), nodata=0),
    "reflectance": Image(hole(values("uint16", 7300, 43000, 41, bands=3), 0), 2.75e-5, -0.2, 0),
    "floats": Image(spoiled(values("float32", -1, 1, 42, bands=3))),
}
COLOURS["floats"].values[1, 17, :6] = np.nan  # one band of three is enough


@pytest.mark.parametrize("dtype", ["float32", "uint16"])
def test_a_colour_reference_gets_its_new_luminance(tmp_path: Path, dtype: str) -> None:
    for name, colour in COLOURS.items():
        write_scene(tmp_path, name, [IMAGES["floats with a nodata"], colour])
    run(tmp_path, 2, "brightest", output={"dtype": dtype})
    for name, colour in COLOURS.items():
        images = [IMAGES["floats with a nodata"], colour]
        assert off(tmp_path / "fused" / f"{name}.zarr", images, dtype, merge=brightest_of) <= 0, name


def test_of_a_colour_source_that_is_no_reference_the_luminance_counts(tmp_path: Path) -> None:
    for name, colour in COLOURS.items():
        write_scene(tmp_path, name, [IMAGES["bytes"], colour, IMAGES["a negative scale"]])
    run(tmp_path, 3)
    for name, colour in COLOURS.items():
        images = [IMAGES["bytes"], colour, IMAGES["a negative scale"]]
        assert off(tmp_path / "fused" / f"{name}.zarr", images) <= 0, name


def test_each_band_is_fused_on_its_own(tmp_path: Path) -> None:
    four = Image(hole(values("uint16", 7300, 43000, 43, bands=4), 0), 2.75e-5, -0.2, 0)
    write_scene(tmp_path, "x", [IMAGES["floats with a nodata"], COLOURS["bytes"], four])
    fusion = {"method": "plain", "strategy": "mean", "color": "bands"}
    run(tmp_path, 3, fusion=fusion)
    images = [IMAGES["floats with a nodata"], COLOURS["bytes"], four]
    assert off(tmp_path / "fused" / "x.zarr", images, color="bands") <= 0


CAMPAIGNS = {
    "bytes of unequal scale": [
        Image(values("uint8", 20, 200, 50), 0.5, 0.0),
        Image(values("uint8", 5, 250, 51), 2.0, -30.0),
        Image(values("uint8", 5, 250, 52), 0.1, 7.0),
    ],
    "bits and bytes": [
        Image(values("uint8", 5, 250, 53)),
        Image(hole(values("uint16", 50, 900, 54), 0), 0.5, -3.0, 0),
        Image(hole(values("int16", -900, -50, 55), 0, 1), nodata=0),
    ],
    "floats": [
        Image(spoiled(values("float32", -1, 1, 56))),
        Image(hole(values("float64", 40, 60, 57), -1), 0.1, 1.0, -1),
        Image(values("int32", 5, 90000, 58), 1e-4),
    ],
}


@pytest.mark.parametrize("percentiles", [None, (3, 97)], ids=str)
@pytest.mark.parametrize("kind", CAMPAIGNS)
def test_a_campaign_has_one_range_a_role(
    tmp_path: Path, kind: str, percentiles: tuple[float, float] | None
) -> None:
    others = [IMAGES["Landsat reflectance"], IMAGES["one value"], IMAGES["beyond the grid"]]
    how: dict[str, Any] = {"percentiles": percentiles} if percentiles else {}
    role = [Image(i.values, i.scale, i.offset, i.nodata, **how) for i in CAMPAIGNS[kind]]
    for name, other, image in zip("012", others, role, strict=True):
        write_scene(tmp_path, name, [other, image])
    run(tmp_path, 2, scaling="campaign", of_b=how)
    ends = [ends_of(images, SHAPE) for images in (others, role)]
    for name, other, image in zip("012", others, role, strict=True):
        found = off(tmp_path / "fused" / f"{name}.zarr", [other, image], ends=ends)
        assert found <= 0, name


@pytest.mark.parametrize("strategy", ["l1", "mean", "average"])
def test_the_network_is_that_of_the_paper_with_the_shipped_weights(tmp_path: Path, strategy: str) -> None:
    merge = PlainNetwork(load_file(weights_path("res2netfuse")), strategy)
    scenes = {
        "0": ["Landsat temperature", "Landsat reflectance"],
        "1": ["floats with a nodata", "nodata amid the values", "bytes with a nodata and a scale"],
    }
    for name, kinds in scenes.items():
        (tmp_path / name).mkdir()
        images = [IMAGES[kind] for kind in kinds]
        write_scene(tmp_path / name, name, images)
        run(tmp_path / name, len(kinds), fusion={"strategy": strategy})
        assert off(tmp_path / name / "fused" / f"{name}.zarr", images, merge=merge) <= 0, kinds


# --- volumes ------------------------------------------------------------------------------------

VOXELS = (9, 12, 14)  # (z, y, x)
PLANES = ["axial", "coronal", "sagittal"]


def write_volume(path: Path, image: Image, letters: str) -> nibabel.Nifti1Image:
    """The voxels, told along right, anterior, superior as (z, y, x), stored as the letters say."""
    affine = np.diag([2.0, 2.5, 3.0, 1.0])
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(letters)
    )
    made = nibabel.Nifti1Image(image.values[0].T, affine).as_reoriented(turn)
    made.header.set_slope_inter(image.scale, image.offset)
    nibabel.save(made, path)
    return made


def volume_of(dtype: str, low: float, high: float, seed: int, **more: Any) -> Image:
    flat = photo((VOXELS[0] * VOXELS[1], VOXELS[2]), seed).reshape(1, *VOXELS) * (high - low) + low
    return Image((np.rint(flat) if np.dtype(dtype).kind in "ui" else flat).astype(dtype), **more)


def seen(volume: NDArray[Any], plane: str) -> NDArray[Any]:
    """Slices (n, row, column) as radiologists see them, of a volume (z, y, x) along R, A, S; its own inverse
    but for the order of axes.
    """
    if plane == "axial":  # from anterior to posterior, from the patient's right to left
        return volume[:, ::-1, ::-1]
    if plane == "coronal":  # from superior to inferior, from right to left
        return volume[::-1, :, ::-1].transpose(1, 0, 2)
    return volume[::-1, ::-1].transpose(2, 0, 1)  # from superior to inferior, from anterior to posterior


def unseen(slices: NDArray[Any], plane: str) -> NDArray[Any]:
    if plane == "axial":
        return slices[:, ::-1, ::-1]
    if plane == "coronal":
        return slices.transpose(1, 0, 2)[::-1, :, ::-1]
    return slices.transpose(1, 2, 0)[::-1, ::-1]


@pytest.mark.parametrize("plane", [*PLANES, "triplanar"])
def test_voxels_of_volumes_in_each_plane(tmp_path: Path, plane: str) -> None:
    t1 = volume_of("float32", -40, 90, 60)
    t1.values[0, 2:5, 3:7, :6] = np.nan
    pet = volume_of("int16", -300, 2000, 61, scale=0.25, offset=-11.0)
    write_volume(tmp_path / "x_a.nii.gz", t1, "LPS")
    reference = write_volume(tmp_path / "x_b.nii", pet, "PIR")
    recipe = batchfuse.Recipe.model_validate(
        {
            "inputs": {"a": "{s}_a.nii.gz", "b": "{s}_b.nii"},
            "reference": "b",
            "fusion": {"strategy": "mean", "plane": plane},
            "folder": tmp_path,
        }
    )
    assert batchfuse.run(recipe, batchfuse.Profile(threads=1)).exit_code == 0
    merge = PlainNetwork(load_file(weights_path("res2netfuse")), "mean")
    ends = [ends_of([flat(image)]) for image in (t1, pet)]
    stack = np.stack([scaled(image, e)[0] for image, e in zip((t1, pet), ends, strict=True)])
    valid = np.stack([np.isfinite(image.values[0]) for image in (t1, pet)])
    stack[0][~valid[0]] = stack[1][~valid[0]]
    planes = PLANES if plane == "triplanar" else [plane]
    wanted = np.mean([merged_slices(merge, stack, valid, p) for p in planes], axis=0)
    low, high = ends[1]
    group = zarr.open_group(tmp_path / "fused" / "x.zarr", mode="r")
    found = nibabel.Nifti1Image(np.asarray(group["0"]).T, reference.affine)
    canonical = np.asarray(nibabel.as_closest_canonical(found).dataobj).T
    assert np.abs((canonical - low) / (high - low) - wanted).max() <= 2 * SLACK


def flat(image: Image) -> Image:
    """A volume's voxels as one row after the other."""
    return Image(image.values.reshape(1, -1, VOXELS[2]), image.scale, image.offset, image.nodata)


def merged_slices(merge: PlainNetwork, stack: NDArray[Any], valid: NDArray[Any], plane: str) -> NDArray[Any]:
    """The volume fused slice by slice; what is normalised is over all slices."""
    slices = [np.stack([seen(image, plane) for image in images]) for images in (stack, valid)]
    return unseen(merge.over_slices(*slices), plane)


def test_integer_volumes_keep_their_slope_and_intercept(tmp_path: Path) -> None:
    a, b = volume_of("uint8", 0, 255, 62, scale=2.0, offset=-100.0), volume_of("int16", -1024, 3000, 63)
    for role, image, letters in (("a", a, "RAS"), ("b", b, "LAS")):
        write_volume(tmp_path / f"x_{role}.nii", image, letters)
    for reference, image in (("a", a), ("b", b)):
        recipe = batchfuse.Recipe.model_validate(
            {
                "inputs": {r: {"path": f"{{s}}_{r}.nii"} for r in "ab"},
                "reference": reference,
                "fusion": {"method": "plain", "strategy": "brightest"},
                "output": {"dtype": "int16", "path": reference},
                "folder": tmp_path,
            }
        )
        assert batchfuse.run(recipe, batchfuse.Profile(threads=1)).exit_code == 0
        ends = {"a": ends_of([flat(a)]), "b": ends_of([flat(b)])}
        assert ends["a"] == (-100, 410)
        brightest = np.maximum(scaled(a, ends["a"]), scaled(b, ends["b"]))
        wanted, fill = stored(
            brightest, np.ones((1, *VOXELS), bool), ends[reference], image, "int16", "reference"
        )
        group = zarr.open_group(tmp_path / reference / "x.zarr", mode="r")
        found = np.asarray(group["0"])
        found = found if reference == "a" else found[..., ::-1]  # LAS runs from right to left
        slack = SLACK * (ends[reference][1] - ends[reference][0]) / image.scale
        assert difference(found[None], wanted, fill, slack) <= 0
        header = nibabel.Nifti1Header.from_fileobj(io.BytesIO(group["nifti"][:].tobytes()))
        assert header.get_slope_inter() == (image.scale, image.offset)


def test_the_images_of_these_tests_try_every_set_of_valid_sources() -> None:
    """Or the oracle would be blind where one source alone is valid."""
    kinds = REFERENCES[::3]
    seen_sets = set()
    for i in range(len(kinds)):
        images = [IMAGES[kinds[j]] for j in (i, i - 3, i - 1)]
        there = [on_grid(image, image.values.astype(float), SHAPE)[1].ravel() for image in images]
        seen_sets |= set(zip(*(t.tolist() for t in there), strict=True))
    assert seen_sets == set(itertools.product([False, True], repeat=3))
