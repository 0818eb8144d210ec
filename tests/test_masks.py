"""Quality masks: what they reject, which are refused, how they are found, and what a run makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from numpy.typing import NDArray
from rasters import NORTH_UP, photo, write_raster
from shared_data import shared_data

import batchfuse
from batchfuse.cli import commands
from batchfuse.errors import RecipeError, SourceError
from batchfuse.geometry.window import Window
from batchfuse.imagery.discovery import discover
from batchfuse.imagery.geotiff import open_source
from batchfuse.imagery.pixels import read_pixels
from batchfuse.imagery.scene import MaskRule
from batchfuse.plan import make_plan
from batchfuse.storage.store import Store

SHAPE = (40, 50)
FILL, DILATED, CLOUD, SHADOW = 0, 1, 3, 4  # bits of Landsat's QA_PIXEL
INPUTS: dict[str, Any] = {
    "thermal": "{scene}_T.tif",
    "optical": {"path": "{scene}_O.tif", "mask": {"path": "{scene}_QA.tif", "reject_bits": [CLOUD, SHADOW]}},
}


def quality(dtype: str = "uint16", seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 127, SHAPE).astype(dtype)


def valid_by(folder: Path, mask: NDArray[Any], rule: MaskRule, **options: Any) -> NDArray[np.bool_]:
    image = write_raster(folder / "image.tif", np.ones(mask.shape, np.uint16))
    path = write_raster(folder / "mask.tif", mask, **options)
    source = open_source("optical", [image], mask=(path, rule))
    return read_pixels(source, Window.whole(mask.shape))[1]


# --- what a mask says


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32"])
def test_a_pixel_is_invalid_where_any_of_the_bits_is_set(tmp_path: Path, dtype: str) -> None:
    mask = quality(dtype)
    found = valid_by(tmp_path, mask, MaskRule(reject_bits=(CLOUD, SHADOW)))
    wanted = [[not (int(v) >> CLOUD & 1 or int(v) >> SHADOW & 1) for v in row] for row in mask]
    assert found.tolist() == wanted
    assert 0 < found.sum() < found.size


def test_the_highest_bit_of_a_signed_type_is_its_sign(tmp_path: Path) -> None:
    mask = quality("int16") - 60
    assert (valid_by(tmp_path, mask.astype(np.int16), MaskRule(reject_bits=(15,))) == (mask >= 0)).all()


def test_values_are_rejected_or_accepted_and_all_rules_have_to_agree(tmp_path: Path) -> None:
    mask = quality("uint8") % 12  # as the scene classification of Sentinel-2
    clear = ~np.isin(mask, [0, 1, 3, 8, 9, 10])
    assert (valid_by(tmp_path, mask, MaskRule(reject_values=(0, 1, 3, 8, 9, 10))) == clear).all()
    assert (valid_by(tmp_path, mask, MaskRule(accept_values=(4, 5))) == np.isin(mask, [4, 5])).all()
    both = valid_by(tmp_path, mask, MaskRule(reject_bits=(0,), accept_values=(4, 5)))
    assert (both == (mask == 4)).all()


def test_the_masks_own_nodata_is_invalid(tmp_path: Path) -> None:
    mask = quality()
    found = valid_by(tmp_path, mask, MaskRule(reject_bits=(14,)), nodata=5)
    assert (found == (mask != 5)).all()


def test_any_window_of_a_mask_is_that_of_the_whole(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", np.ones(SHAPE, np.float32))
    path = write_raster(tmp_path / "m.tif", quality(), tiled=True, blockxsize=16, blockysize=16)
    source = open_source("optical", [image], mask=(path, MaskRule(reject_bits=(3,))))
    whole = read_pixels(source, Window.whole(SHAPE))[1]
    window = Window((7, 11), (33, 40))
    assert (read_pixels(source, window)[1] == whole[window.slices]).all()


@pytest.mark.parametrize(
    ("change", "rule", "line"),
    [
        ({"transform": NORTH_UP @ Affine.translation(1, 0)}, {"reject_bits": (3,)}, "not on the grid of"),
        ({"crs": "EPSG:32633"}, {"reject_bits": (3,)}, "not on the grid of"),
        ({"shape": (20, 25)}, {"reject_bits": (3,)}, r"25x20 pixels .* not on the grid of .* \(50x40 pixels"),
        ({"dtype": "float32"}, {"reject_bits": (3,)}, "float32 pixels: a mask holds whole numbers"),
        ({"dtype": "uint8"}, {"reject_bits": (3, 8)}, "names bit 8 of 8, counted from 0"),
        ({"dtype": "uint8"}, {"reject_values": (256,)}, "`reject_values` names 256"),
        ({"dtype": "uint8"}, {"accept_values": (-1,)}, "`accept_values` names -1"),
        ({"bands": 3}, {"reject_bits": (3,)}, "has 3 bands: a mask is a file of one"),
    ],
)
def test_a_mask_that_does_not_fit_is_one_line(
    tmp_path: Path, change: dict[str, Any], rule: dict[str, Any], line: str
) -> None:
    shape, bands = change.pop("shape", SHAPE), change.pop("bands", 1)
    image = write_raster(tmp_path / "image.tif", np.ones(SHAPE, np.uint16))
    pixels = np.ones((bands, *shape), change.pop("dtype", "uint16"))
    path = write_raster(tmp_path / "mask.tif", pixels, **change)
    with pytest.raises(SourceError, match=line) as caught:
        open_source("optical", [image], mask=(path, MaskRule(**rule)))
    assert "mask.tif" in str(caught.value)
    assert "\n" not in str(caught.value)


# --- in the recipe


@pytest.mark.parametrize("own", [None, "EPSG:32633"])
@pytest.mark.parametrize("masks", [None, "EPSG:32632"])
def test_the_mask_of_a_source_whose_crs_the_recipe_tells_may_have_that_or_the_files(
    tmp_path: Path, own: str | None, masks: str | None
) -> None:
    image = write_raster(tmp_path / "image.tif", np.ones(SHAPE, np.uint16), crs=own)
    path = write_raster(tmp_path / "mask.tif", quality(), crs=masks or own)
    mask = (path, MaskRule(reject_bits=(CLOUD,)))
    assert open_source("optical", [image], mask=mask, crs="EPSG:32632").quality is not None
    if masks:
        with pytest.raises(SourceError, match="is not on the grid of"):
            open_source("optical", [image], mask=mask, crs="EPSG:32631")


def test_a_path_alone_rejects_0(tmp_path: Path) -> None:
    short, long = (
        batchfuse.Recipe(inputs={"a": "a.tif", "b": {"path": "b.tif", "mask": mask}}, folder=tmp_path)
        for mask in ("m.tif", {"path": "m.tif", "reject_values": [0]})
    )
    assert short.identity() == long.identity()
    assert short.patterns == {"a": ("a.tif",), "b": ("b.tif",), "b.mask": ("m.tif",)}


@pytest.mark.parametrize(
    ("mask", "line"),
    [
        ({"path": "m.tif"}, "says nothing of its values: give reject_bits, reject_values or accept_values"),
        ({"path": "m.tif", "reject_bits": []}, "give one or more whole numbers, each once"),
        ({"path": "m.tif", "reject_bits": [3, 3]}, "give one or more whole numbers, each once"),
        ({"path": "m.tif", "reject_bits": [-1]}, r"inputs.b.mask.reject_bits\[0\]: found -1"),
        ({"path": "m.tif", "reject_values": [0.5]}, r"inputs.b.mask.reject_values\[0\]: found 0.5"),
        ({"reject_bits": [3]}, "inputs.b.mask: has no path"),
        ({"path": "m.tif", "reject_bit": [3]}, r'unknown key .*did you mean "reject_bits"'),
        ([3], "give a path, or a mapping with keys among path, reject_bits"),
    ],
)
def test_a_wrong_mask_in_a_recipe_is_one_line(tmp_path: Path, mask: Any, line: str) -> None:
    with pytest.raises(RecipeError, match=line) as caught:
        batchfuse.Recipe(inputs={"a": "a.tif", "b": {"path": "b.tif", "mask": mask}}, folder=tmp_path)
    assert "\n" not in str(caught.value)


def touched(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()


def test_a_scene_whose_mask_is_missing_is_incomplete(tmp_path: Path) -> None:
    touched(tmp_path, "1_T.tif", "1_O.tif", "1_QA.tif", "2_T.tif", "2_O.tif", "3_QA.tif")
    recipe = batchfuse.Recipe(inputs=INPUTS, folder=tmp_path)
    found = discover(tmp_path, recipe.patterns)
    assert [(s.name, s.masks["optical"].name, list(s.files)) for s in found.scenes] == [
        ("1", "1_QA.tif", ["thermal", "optical"])
    ]
    left = {item.path.name: item.reason for item in found.unmatched}
    assert left.keys() == {"2_T.tif", "2_O.tif", "3_QA.tif"}
    assert left["2_O.tif"] == 'scene "2" has no optical.mask: no 2_QA.tif'
    assert 'scene "3" has no thermal' in left["3_QA.tif"]


def test_two_sources_may_share_a_mask_which_is_told_of_once(tmp_path: Path) -> None:
    touched(tmp_path, "1_T.tif", "1_O.tif", "1_QA.tif", "2_QA.tif")
    mask = INPUTS["optical"]["mask"]
    inputs = {"thermal": {"path": INPUTS["thermal"], "mask": mask}, "optical": INPUTS["optical"]}
    found = discover(tmp_path, batchfuse.Recipe(inputs=inputs, folder=tmp_path).patterns)
    (scene,) = found.scenes
    assert scene.masks["thermal"] == scene.masks["optical"]
    assert [item.path.name for item in found.unmatched] == ["2_QA.tif"]


def test_a_manifest_names_masks_in_a_column_of_their_own(tmp_path: Path) -> None:
    touched(tmp_path, "t.tif", "o.tif", "q.tif")
    inputs = {"thermal": {}, "optical": {"mask": {"reject_bits": [3]}}}
    recipe = batchfuse.Recipe(inputs=inputs, manifest="m.csv", folder=tmp_path)
    manifest = tmp_path / "m.csv"
    manifest.write_text("scene,thermal,optical,optical.mask\na,t.tif,o.tif,q.tif\n")
    (scene,) = discover(tmp_path, recipe.patterns, "m.csv").scenes
    assert scene.masks == {"optical": tmp_path / "q.tif"}
    manifest.write_text("scene,thermal,optical,optical.mask\na,t.tif,o.tif,none.tif\n")
    with pytest.raises(RecipeError, match=r"none.tif does not exist"):
        discover(tmp_path, recipe.patterns, "m.csv")
    manifest.write_text("scene,thermal,optical,optical.mask\na,t.tif,o.tif,q.tif;q.tif\n")
    with pytest.raises(RecipeError, match=r"optical.mask takes one file, not 2"):
        discover(tmp_path, recipe.patterns, "m.csv")
    manifest.write_text("scene,thermal,optical\na,t.tif,o.tif\n")
    with pytest.raises(RecipeError, match=r"no column optical.mask"):
        discover(tmp_path, recipe.patterns, "m.csv")
    masked = {"thermal": {}, "optical": {"mask": {"path": "q.tif", "reject_bits": [3]}}}
    with pytest.raises(RecipeError, match=r"inputs.optical.mask: has a path beside the manifest"):
        batchfuse.Recipe(inputs=masked, manifest="m.csv", folder=tmp_path)


# --- in a run


def write_scene(folder: Path, name: str = "a") -> NDArray[np.bool_]:
    """Three files on one grid; where the mask has clouds the optical image is bright. Where it is clear."""
    optical = np.rint(photo(SHAPE, 3)[0] * 5000 + 1000).astype(np.uint16)
    clouds = photo(SHAPE, 4)[0] > 0.6
    optical[clouds] = 60_000
    write_raster(folder / f"{name}_T.tif", np.rint(photo(SHAPE, 5)[0] * 900 + 30).astype(np.uint16))
    write_raster(folder / f"{name}_O.tif", optical)
    write_raster(folder / f"{name}_QA.tif", np.where(clouds, 1 << CLOUD, 1 << 6).astype(np.uint16))
    return np.asarray(~clouds)


def run(folder: Path, inputs: dict[str, Any] | None = None, **settings: Any) -> batchfuse.Report:
    return batchfuse.run(
        batchfuse.Recipe(inputs=inputs or INPUTS, reference="optical", folder=folder, **settings)
    )


def test_rejected_pixels_are_as_if_they_were_nodata(tmp_path: Path) -> None:
    clear = write_scene(tmp_path)
    assert run(tmp_path, validity="all", output={"path": "masked"}).exit_code == 0
    with rasterio.open(tmp_path / "a_O.tif") as dataset:
        bare = dataset.read()
    write_raster(tmp_path / "a_O.tif", np.where(clear, bare, 0), nodata=0)
    plain = {"thermal": "{scene}_T.tif", "optical": "{scene}_O.tif"}
    assert run(tmp_path, plain, validity="all", output={"path": "nodata"}).exit_code == 0
    masked, wanted = (Store.open(tmp_path / f"{name}/a.zarr") for name in ("masked", "nodata"))
    pixels = masked.read(Window.whole(SHAPE))
    assert np.array_equal(pixels, wanted.read(Window.whole(SHAPE)), equal_nan=True)
    assert (np.isfinite(pixels[0]) == clear).all()
    # the clouds count in no statistics
    assert masked.record["sources"][1]["scaling"]["maximum"] == bare[0][clear].max()


def test_a_mask_takes_part_where_the_source_is_warped(tmp_path: Path) -> None:
    clear = write_scene(tmp_path)
    coarse = NORTH_UP @ Affine.scale(2)
    write_raster(
        tmp_path / "a_T.tif", np.ones((20, 25), np.uint16) + np.arange(25, dtype=np.uint16), transform=coarse
    )
    batchfuse.run(batchfuse.Recipe(inputs=INPUTS, reference="thermal", validity="all", folder=tmp_path))
    found = np.isfinite(Store.open(tmp_path / "fused/a.zarr").read(Window.whole((20, 25)))[0])
    blocks = clear.reshape(20, 2, 25, 2)
    share = blocks.mean(axis=(1, 3))  # a resampled pixel is valid where half of what lies under it is
    assert (found == (share >= 0.5)).all()


def test_the_record_has_the_mask_and_another_one_is_refused(tmp_path: Path) -> None:
    write_scene(tmp_path)
    run(tmp_path)
    record = Store.open(tmp_path / "fused/a.zarr").record["sources"][1]
    assert record["mask"]["name"] == "a_QA.tif"
    assert record["mask"]["size"] == (tmp_path / "a_QA.tif").stat().st_size
    assert "mask" not in Store.open(tmp_path / "fused/a.zarr").record["sources"][0]
    assert run(tmp_path).outcomes[0].status == "kept"
    write_raster(tmp_path / "a_QA.tif", quality())
    assert "optical: a_QA.tif has changed since" in (run(tmp_path).outcomes[0].reason or "")
    other = {
        **INPUTS,
        "optical": {**INPUTS["optical"], "mask": {"path": "{scene}_QA.tif", "reject_bits": [5]}},
    }
    assert "mask.reject_bits" in (run(tmp_path, other).outcomes[0].reason or "")
    assert "mask" in (run(tmp_path, {**INPUTS, "optical": "{scene}_O.tif"}).outcomes[0].reason or "")


def test_plan_and_info_name_the_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scene(tmp_path)
    run(tmp_path)
    monkeypatch.chdir(tmp_path)
    text = "inputs:\n  thermal: '{scene}_T.tif'\n  optical: {path: '{scene}_O.tif', mask: '{scene}_QA.tif'}\n"
    (tmp_path / "recipe.yaml").write_text(text)
    told = CliRunner().invoke(commands, ["plan", "recipe.yaml", "-v"]).output
    assert "  optical: a_O.tif, mask a_QA.tif\n" in told
    planned = json.loads(CliRunner().invoke(commands, ["plan", "recipe.yaml", "--json"]).output)
    assert planned["scenes"][0]["sources"]["optical"]["mask"] == "a_QA.tif"
    assert planned["scenes"][0]["sources"]["thermal"]["mask"] is None
    assert (
        "  optical: a_O.tif, mask a_QA.tif, " in CliRunner().invoke(commands, ["info", "fused/a.zarr"]).output
    )


def test_a_mask_that_rejects_everything_is_named(tmp_path: Path) -> None:
    write_scene(tmp_path)
    write_raster(tmp_path / "a_QA.tif", np.full(SHAPE, 1 << SHADOW, np.uint16))
    reason = run(tmp_path).outcomes[0].reason or ""
    assert "has no valid pixel" in reason
    assert "a_QA.tif" in reason
    assert "`mask:`" in reason


def test_the_real_quality_band_of_greenland_masks_its_clouds() -> None:
    folder = shared_data("geo/pair_landsat8_l2_greenland")
    qa = next(folder.glob("*_QA_PIXEL.TIF"))
    inputs: dict[str, Any] = {
        "thermal": str(folder / "{scene}_ST_B10.TIF"),
        "optical": {
            "path": [str(folder / f"{{scene}}_SR_B{n}.TIF") for n in (4, 3, 2)],
            "mask": {"path": str(folder / "{scene}_QA_PIXEL.TIF"), "reject_bits": [CLOUD, SHADOW]},
        },
    }
    (job,) = make_plan(batchfuse.Recipe(inputs=inputs)).jobs
    _, valid = read_pixels(job.scene.sources[1], Window.whole(job.scene.grid.shape))
    with rasterio.open(qa) as dataset:
        bits = dataset.read(1)
    there = np.ones(valid.shape, bool)
    for file in job.scene.sources[1].files:
        with rasterio.open(file.path) as dataset:
            there &= dataset.read_masks(1) > 0
    assert (valid == there & (bits >> CLOUD & 1 == 0) & (bits >> SHADOW & 1 == 0)).all()
    assert 0.05 < valid.sum() / there.sum() < 0.95
