"""``color: bands``: each band of the reference is fused on its own (tiles and whole: test_exactness.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasters import photo, write_raster
from shared_data import shared_data

import batchfuse
from batchfuse.errors import RecipeError, StoreError
from batchfuse.exports import export
from batchfuse.geometry.window import Window
from batchfuse.plan import make_plan
from batchfuse.recipe import Export
from batchfuse.storage.store import Store

SHAPE = (60, 70)
INPUTS: dict[str, Any] = {"thermal": "{scene}_T.tif", "optical": "{scene}_O.tif"}


def recipe_of(folder: Path, inputs: dict[str, Any] | None = None, **settings: Any) -> batchfuse.Recipe:
    fusion = {"color": "bands", **settings.pop("fusion", {})}
    return batchfuse.Recipe(
        inputs=inputs or INPUTS, reference="optical", fusion=fusion, folder=folder, **settings
    )


def write_scene(folder: Path, bands: int = 4, names: tuple[str, ...] = (), **options: Any) -> None:
    write_raster(folder / "a_T.tif", np.rint(photo(SHAPE, 1)[0] * 900 + 30).astype(np.uint16))
    optical = np.rint(photo(SHAPE, 2, bands) * 9000 + 500).astype(np.uint16)
    path = write_raster(folder / "a_O.tif", optical, **{"photometric": "MINISBLACK", **options})
    if names:
        with rasterio.open(path, "r+") as dataset:
            dataset.descriptions = names


def fused(folder: Path) -> Store:
    return Store.open(folder / "fused/a.zarr")


@pytest.mark.parametrize(
    ("names", "settings", "wanted"),
    [
        ((), {}, ("band 1", "band 2", "band 3", "band 4")),
        ((), {"bands": [4, 2]}, ("band 4", "band 2")),
        (("R", "G", "B", "NIR"), {}, ("R", "G", "B", "NIR")),
        (("R", "G", "R", "NIR"), {}, ("band 1", "band 2", "band 3", "band 4")),
        (("R", "G", "B", "NIR"), {"bands": [4]}, ("NIR",)),
    ],
)
def test_the_store_has_the_bands_of_the_reference_by_name_or_number(
    tmp_path: Path, names: tuple[str, ...], settings: dict[str, Any], wanted: tuple[str, ...]
) -> None:
    write_scene(tmp_path, names=names)
    inputs = {**INPUTS, "optical": {"path": INPUTS["optical"], **settings}}
    assert batchfuse.run(recipe_of(tmp_path, inputs)).exit_code == 0
    assert fused(tmp_path).bands == wanted
    with rasterio.open(tmp_path / "fused/a.zarr") as dataset:
        assert dataset.count == len(wanted)


def test_every_band_of_a_file_a_band_is_counted_through(tmp_path: Path) -> None:
    write_scene(tmp_path)
    with rasterio.open(tmp_path / "a_O.tif") as dataset:
        for number, band in enumerate(dataset.read()):
            write_raster(tmp_path / f"a_B{number}.tif", band)
    (tmp_path / "a_O.tif").unlink()
    inputs = {**INPUTS, "optical": ["{scene}_B3.tif", "{scene}_B0.tif"]}
    assert batchfuse.run(recipe_of(tmp_path, inputs)).exit_code == 0
    assert fused(tmp_path).bands == ("band 1", "band 2")


def test_alpha_is_no_band_but_validity(tmp_path: Path) -> None:
    pixels = np.rint(photo(SHAPE, 2, 5) * 9000 + 500).astype(np.uint16)
    pixels[4, :20] = 0
    write_scene(tmp_path)
    write_raster(tmp_path / "a_O.tif", pixels, photometric="RGB", alpha="YES")
    with rasterio.open(tmp_path / "a_O.tif", "r+") as dataset:
        names = ("red", "green", "blue", "undefined", "alpha")
        dataset.colorinterp = [rasterio.enums.ColorInterp[name] for name in names]
    assert batchfuse.run(recipe_of(tmp_path, validity="all")).exit_code == 0
    image = fused(tmp_path).read(Window.whole(SHAPE))
    assert len(image) == 4
    assert (np.isfinite(image).all(0) == (pixels[4] > 0)).all()


def test_the_bands_share_one_range(tmp_path: Path) -> None:
    write_scene(tmp_path)
    batchfuse.run(recipe_of(tmp_path))
    with rasterio.open(tmp_path / "a_O.tif") as dataset:
        pixels = dataset.read()
    scaling = fused(tmp_path).record["sources"][1]["scaling"]
    assert scaling["low"] == pixels.min()
    assert scaling["high"] == pytest.approx(np.percentile(pixels, 99.5))


def test_where_the_reference_is_invalid_all_bands_show_the_other_source(tmp_path: Path) -> None:
    write_scene(tmp_path, nodata=0)
    with rasterio.open(tmp_path / "a_O.tif", "r+") as dataset:
        pixels = dataset.read()
        pixels[:, :, :35] = 0
        dataset.write(pixels)
    batchfuse.run(recipe_of(tmp_path))
    image = fused(tmp_path).read(Window.whole(SHAPE))
    assert np.isfinite(image).all()
    assert np.ptp(image[:, :, : 35 - 12], axis=0).max() <= 1e-6 * np.ptp(image)
    assert np.ptp(image[:, :, 35 + 12 :], axis=0).max() > 0.1 * np.ptp(image)


def test_a_gray_pair_is_the_same_in_bands_and_in_luma(tmp_path: Path) -> None:
    write_scene(tmp_path, bands=1)
    images = []
    for color in ("luma", "bands"):
        batchfuse.run(recipe_of(tmp_path, fusion={"color": color}, output={"path": color}))
        images.append(Store.open(tmp_path / f"{color}/a.zarr").read(Window.whole(SHAPE)))
    assert np.array_equal(*images)


def test_the_survey_is_kept_a_band_and_continued_from(tmp_path: Path) -> None:
    write_scene(tmp_path)
    recipe = recipe_of(tmp_path, fusion={"strategy": "mean"}, tiles={"size": 32})
    batchfuse.run(recipe)
    store = tmp_path / "fused/a.zarr"
    survey = fused(tmp_path).record["survey"]
    assert len(survey) == 4
    assert len({str(of_band) for of_band in survey}) == 4
    chunk = store / "fused/0.1.1"
    before = chunk.read_bytes()
    chunk.unlink()
    assert batchfuse.run(recipe).outcomes[0].fused == 1
    assert chunk.read_bytes() == before


def test_a_luma_store_keeps_its_one_survey(tmp_path: Path) -> None:
    write_scene(tmp_path, bands=3)
    batchfuse.run(recipe_of(tmp_path, fusion={"strategy": "mean", "color": "luma"}))
    assert fused(tmp_path).record["survey"].keys() == {"minimum", "maximum"}


def test_many_bands_are_for_the_reference_alone(tmp_path: Path) -> None:
    write_scene(tmp_path)
    recipe = batchfuse.Recipe(inputs=INPUTS, reference="thermal", fusion={"color": "bands"}, folder=tmp_path)
    (failure,) = make_plan(recipe).failures
    assert "a_O.tif has 4 bands and is not the reference" in failure.reason
    assert "`reference: optical`" in failure.reason
    luma = batchfuse.Recipe(inputs=INPUTS, folder=tmp_path)
    (failure,) = make_plan(luma).failures
    assert "`fusion.color: bands`" in failure.reason


def test_a_source_of_many_bands_is_the_reference_of_equally_fine_ones(tmp_path: Path) -> None:
    write_scene(tmp_path)
    inputs = {"optical": INPUTS["optical"], "thermal": INPUTS["thermal"]}
    recipe = batchfuse.Recipe(inputs=inputs, fusion={"color": "bands"}, folder=tmp_path)
    assert make_plan(recipe).jobs[0].reference.role == "optical"


def test_integers_and_pictures_of_four_bands(tmp_path: Path) -> None:
    write_scene(tmp_path, names=("NIR", "red", "green", "blue"))
    assert batchfuse.run(recipe_of(tmp_path, output={"dtype": "uint16"})).exit_code == 0
    assert fused(tmp_path).dtype == "uint16"
    assert make_plan(recipe_of(tmp_path)).jobs[0].reference.shown == (1, 2, 3)
    assert (tmp_path / "fused/a.quicklook.png").exists()


@pytest.mark.parametrize("bands", [2, 4, 5])
def test_a_picture_of_bands_that_are_no_colours_is_refused_before_anything_is_fused(
    tmp_path: Path, bands: int
) -> None:
    write_scene(tmp_path, bands)
    (failure,) = make_plan(recipe_of(tmp_path, output={"also": ["cog", "png"]})).failures
    assert failure.reason.startswith("`output.also`: a PNG holds one band or red, green and blue")
    assert f"has {bands} bands" in failure.reason
    assert batchfuse.run(recipe_of(tmp_path, output={"also": ["cog"]})).exit_code == 0
    with rasterio.open(tmp_path / "fused/a.tif") as dataset:
        assert dataset.read().tobytes() == fused(tmp_path).read(Window.whole(SHAPE)).tobytes()
    with pytest.raises(StoreError, match=f"a.zarr: a PNG holds .* has {bands} bands: export a cog"):
        export(fused(tmp_path), Export(to="png"), tmp_path / "a.png")
    one = {**INPUTS, "optical": {"path": INPUTS["optical"], "bands": [2]}}
    assert make_plan(recipe_of(tmp_path, one, output={"also": ["png"]})).failures == ()


def test_real_files_of_four_bands_run_or_say_why_not(tmp_path: Path) -> None:
    alpha = shared_data("geo/nasty/alpha_uint16.tif")
    empty = shared_data("geo/nasty/all_nodata_rgbn.tif")
    for name, path in (("alpha", alpha), ("empty", empty)):
        with rasterio.open(path) as dataset:
            thermal = np.rint(photo(dataset.shape, 3)[0] * 900 + 30).astype(np.uint16)
            write_raster(tmp_path / f"{name}_T.tif", thermal, transform=dataset.transform, crs=dataset.crs)
        (tmp_path / f"{name}_O.tif").symlink_to(path)
    report = batchfuse.run(recipe_of(tmp_path))
    assert [o.status for o in report.outcomes] == ["complete", "failed"]
    assert any("constant" in warning for warning in report.outcomes[0].warnings)
    assert Store.open(tmp_path / "fused/alpha.zarr").shape[0] == 3
    assert "has no valid pixel within the scene (nodata is 0)" in (report.outcomes[1].reason or "")


def test_a_palette_has_no_bands_to_choose_several_of(tmp_path: Path) -> None:
    write_scene(tmp_path)
    pixels = np.stack([np.zeros(SHAPE, np.uint8)] * 2)
    path = write_raster(tmp_path / "a_O.tif", pixels, photometric="MINISBLACK")
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {0: (1, 2, 3, 255)})
        dataset.colorinterp = [rasterio.enums.ColorInterp.palette, rasterio.enums.ColorInterp.undefined]
    (failure,) = make_plan(recipe_of(tmp_path)).failures
    assert "has a colour table: name that band alone" in failure.reason


def test_color_takes_one_of_two_words(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="allowed: luma, bands"):
        recipe_of(tmp_path, fusion={"color": "band"})
