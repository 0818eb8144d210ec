"""Exports: the store's pixels in files that other programs read, checked with those programs."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from rasterio.crs import CRS
from rio_cogeo.cogeo import cog_validate
from stores import PLACE, UTM32, scenery, write_store

from batchfuse.cli import commands
from batchfuse.errors import StoreError
from batchfuse.exports import Exported, export
from batchfuse.geometry.window import Window
from batchfuse.recipe import Export
from batchfuse.storage.export import Picture, write_png
from batchfuse.storage.store import Store

# rio-cogeo and rasterio say so of images that have no place
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

DTYPES = ("float32", "float16", "uint8", "uint16", "int16")


def exported(store: Store, to: str, **wanted: Any) -> Exported:
    return export(store, Export(to=to, **wanted), Export(to=to).beside(store.path))


def pixels_of(path: Path) -> NDArray[Any]:
    """(band, y, x), as Pillow reads a picture."""
    with Image.open(path) as image:
        found = np.asarray(image)
    return found[None] if found.ndim == 2 else np.moveaxis(found, -1, 0)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- cloud optimised GeoTIFF ----------------------------------------------------------------------


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_cog_is_valid_and_holds_the_stores_pixels_bit_for_bit(
    tmp_path: Path, dtype: str, bands: int
) -> None:
    pixels = scenery(dtype, bands, (700, 1100))
    extra = {"scale": 0.5, "offset": -3.0, "units": "K"} if dtype == "uint16" else {}
    path = exported(write_store(tmp_path / "a.zarr", pixels, **extra), "cog").path
    assert cog_validate(path, strict=True, quiet=True) == (True, [], [])
    with rasterio.open(path) as dataset:
        found = dataset.read()
        wanted = pixels.astype(np.float32) if dtype == "float16" else pixels
        assert found.dtype == wanted.dtype
        assert found.tobytes() == wanted.tobytes()
        assert dataset.crs == CRS.from_epsg(32632)
        assert dataset.transform == PLACE
        assert dataset.overviews(1) == [2, 4]
        assert dataset.descriptions == (("red", "green", "blue") if bands == 3 else ("fused",))
        colours = [colour.name for colour in dataset.colorinterp]
        assert colours == (["red", "green", "blue"] if bands == 3 else ["gray"])
        assert np.isnan(dataset.nodata) if "float" in dtype else dataset.nodata == 0
        assert (dataset.read_masks(1) == 0).sum() == (700 // 3) * (1100 // 4)
        packed = (dataset.scales[0], dataset.offsets[0], dataset.units[0])
        assert packed == ((0.5, -3.0, "K") if extra else (1.0, 0.0, None))


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int16"])
def test_overviews_average_the_valid_pixels_alone(tmp_path: Path, dtype: str) -> None:
    pixels = scenery(dtype, 1, (600, 640))
    rng = np.random.default_rng(1)
    pixels[:, rng.random((600, 640)) < 0.3] = np.nan if dtype == "float32" else 0
    path = exported(write_store(tmp_path / "a.zarr", pixels), "cog").path
    with rasterio.open(path, overview_level=0) as dataset:
        found = dataset.read(1, masked=True)
    values = np.where(pixels[0] == 0, np.nan, pixels[0].astype(np.float64))
    blocks = values.reshape(300, 2, 320, 2).swapaxes(1, 2).reshape(300, 320, 4)
    many = np.isfinite(blocks).sum(-1)
    assert ((many > 0) == ~np.ma.getmaskarray(found)).all()
    mean = np.nansum(blocks, -1)[many > 0] / many[many > 0]
    assert np.abs(found.data[many > 0] - mean).max() <= (1e-3 if dtype == "float32" else 1)


@pytest.mark.parametrize(
    ("affine", "crs"),
    [
        (Affine(10, 0, 500_000, 0, 10, 5_600_000), UTM32),  # south-up
        (Affine(0.001, 0, 11.25, 0, -0.002, 48.5), CRS.from_epsg(4326).to_wkt()),
        (Affine(2, 0, 7, 0, -2, 9), None),
        (Affine.identity(), None),
        (PLACE, CRS.from_proj4("+proj=laea +lat_0=47 +lon_0=11 +datum=WGS84 +units=m").to_wkt()),
        (PLACE, CRS.from_proj4("+proj=geos +h=35785831 +lon_0=-75 +sweep=y +datum=WGS84").to_wkt()),
    ],
    ids=["south-up", "geographic", "no CRS", "no place", "nameless", "geostationary"],
)
def test_a_cog_lies_where_the_store_lies(tmp_path: Path, affine: Affine, crs: str | None) -> None:
    path = exported(write_store(tmp_path / "a.zarr", scenery("uint8"), affine=affine, crs=crs), "cog").path
    assert cog_validate(path, strict=True, quiet=True)[0]
    with rasterio.open(path) as dataset:
        assert dataset.transform == affine
        assert dataset.crs == (CRS.from_wkt(crs) if crs else None)


def test_a_cog_is_the_same_however_many_threads_compress_it(tmp_path: Path) -> None:
    store = write_store(tmp_path / "a.zarr", scenery("float32", 3, (900, 1300)))
    for threads in (1, 4):
        export(store, Export(to="cog"), tmp_path / f"{threads}.tif", threads=threads)
    assert (tmp_path / "1.tif").read_bytes() == (tmp_path / "4.tif").read_bytes()


def test_what_geotiff_cannot_hold_is_said(tmp_path: Path) -> None:
    made = exported(write_store(tmp_path / "a.zarr", scenery("float16")), "cog")
    assert made.dtype == "float32"
    assert "no float16" in made.warnings[0]
    assert exported(write_store(tmp_path / "b.zarr", scenery("float32")), "cog").warnings == ()


def test_another_type_rounds_saturates_and_keeps_nodata_apart(tmp_path: Path) -> None:
    pixels = np.array([[[-5, 0, 0.4, 0.5, 1.5, 254.6, 300, np.nan]]], np.float32)
    path = exported(write_store(tmp_path / "a.zarr", pixels), "cog", dtype="uint8").path
    with rasterio.open(path) as dataset:
        # 0 means nodata, so what would be 0 is 1
        assert dataset.read().tolist() == [[[1, 1, 1, 1, 2, 255, 255, 0]]]
        assert dataset.nodata == 0


def test_a_stretched_cog_is_a_picture_in_its_place(tmp_path: Path) -> None:
    pixels = scenery("float32", 3, (600, 700))
    made = exported(write_store(tmp_path / "a.zarr", pixels), "cog", stretch="minmax")
    assert cog_validate(made.path, strict=True, quiet=True) == (True, [], [])
    with rasterio.open(made.path) as dataset:
        assert (dataset.dtypes[0], dataset.crs, dataset.transform) == ("uint8", CRS.from_epsg(32632), PLACE)
        found = dataset.read(masked=True)
    assert (found.min(), found.max()) == (1, 255)
    assert (np.ma.getmaskarray(found) == np.isnan(pixels)).all()


def test_integers_in_units_of_one_export_to_other_types_as_the_same_share(tmp_path: Path) -> None:
    pixels = np.array([[[0, 1, 32768, 65535]]], np.uint16)
    store = write_store(tmp_path / "a.zarr", pixels, stored_as="unit", scale=1 / 65535, offset=0.0)
    with rasterio.open(exported(store, "cog", dtype="uint8").path) as dataset:
        assert dataset.read().tolist() == [[[0, 1, 128, 255]]]
        assert dataset.scales[0] == 1 / 255
    assert pixels_of(exported(store, "png").path).tolist()[0] == [[0, 0, 128, 255]]
    (tmp_path / "a.tif").unlink()
    with rasterio.open(exported(store, "cog", dtype="float32").path) as dataset:
        assert np.allclose(dataset.read()[0, 0, 1:], pixels[0, 0, 1:] / 65535)
        assert dataset.scales[0] == 1


# --- PNG ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [17, 64, 300])
@pytest.mark.parametrize("bands", [1, 3])
def test_minmax_is_the_papers_protocol_over_the_whole_image(tmp_path: Path, bands: int, tile: int) -> None:
    pixels = scenery("float32", bands, hole=False)
    path = exported(write_store(tmp_path / "a.zarr", pixels, tile=tile), "png", stretch="minmax").path
    wide = pixels.astype(np.float64)
    wanted = ((wide - wide.min()) / (wide.max() - wide.min()) * 255).astype(np.uint8)  # truncates
    assert (pixels_of(path) == wanted).all()
    with Image.open(path) as image:
        assert image.mode == ("L" if bands == 1 else "RGB")


@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint8"), (3, "uint8"), (1, "uint16"), (3, "uint16")])
def test_nodata_is_transparent(tmp_path: Path, bands: int, dtype: str) -> None:
    pixels = scenery("float32", bands)
    path = exported(write_store(tmp_path / "a.zarr", pixels), "png", stretch="minmax", dtype=dtype).path
    with rasterio.open(path) as dataset:
        assert dataset.count == bands + 1
        assert dataset.dtypes[0] == dtype
        assert dataset.colorinterp[-1].name == "alpha"
        opaque = dataset.read(bands + 1)
        top = np.iinfo(dtype).max
        assert dataset.read(1).max() == top or bands == 3
    assert (opaque == np.where(np.isnan(pixels).any(0), 0, top)).all()


def between(ordered: NDArray[np.float64], q: float) -> float:
    """The percentile as it is defined: linear between the two values around its place."""
    place = (len(ordered) - 1) * q / 100
    lower, upper = ordered[math.floor(place)], ordered[math.ceil(place)]
    return float(lower + (upper - lower) * (place - math.floor(place)))


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_percentiles_are_those_of_the_whole_image_whatever_the_tiles(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    dtype = data.draw(st.sampled_from(DTYPES))
    shape = (data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40)))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    values = rng.normal(120, 30, (3, *shape)) * (1 if data.draw(st.booleans()) else -0.01)
    info = np.finfo(dtype) if "float" in dtype else np.iinfo(dtype)
    pixels = np.clip(values, info.min, info.max).astype(dtype)
    fill = None if "float" in dtype else info.max
    missing = rng.random(shape) < 0.2
    pixels[:, missing] = np.nan if fill is None else fill
    valid = np.ones(shape, bool) & ~missing
    if fill is not None:
        valid &= (pixels != fill).all(0)
    folder = tmp_path_factory.mktemp("percentiles")
    store = write_store(folder / "a.zarr", pixels, fill=fill, tile=data.draw(st.integers(1, 50)))
    found = pixels_of(exported(store, "png", stretch="percentiles").path)[:3]
    wanted = np.zeros(pixels.shape, np.uint8)
    if valid.any():
        chosen = pixels[:, valid].astype(np.float64)
        low, high = (between(np.sort(chosen, axis=None), q) for q in (2, 98))
        assert np.allclose((low, high), np.percentile(chosen, (2, 98)), rtol=1e-12)
        share = (chosen - low) / (high - low) if high > low else np.zeros_like(chosen)
        wanted[:, valid] = np.clip(share, 0, 1) * 255
    assert (found == wanted).all()


@pytest.mark.parametrize("stretch", ["minmax", "percentiles"])
def test_a_constant_image_is_black_and_said_to_be_constant(tmp_path: Path, stretch: str) -> None:
    store = write_store(tmp_path / "a.zarr", np.full((1, 20, 30), 7.5, np.float32))
    made = exported(store, "png", stretch=stretch)
    assert (pixels_of(made.path) == 0).all()
    assert "constant" in made.warnings[0]


def test_an_image_without_a_valid_pixel_is_transparent(tmp_path: Path) -> None:
    store = write_store(tmp_path / "a.zarr", np.full((1, 20, 30), np.nan, np.float32))
    for stretch in ("none", "minmax", "percentiles"):
        path = tmp_path / f"{stretch}.png"
        export(store, Export(to="png", stretch=stretch), path)
        assert (pixels_of(path) == 0).all()


def test_without_a_stretch_values_stay_what_they_are(tmp_path: Path) -> None:
    pixels = np.arange(12, dtype=np.float32).reshape(1, 3, 4) * 20 + 0.6
    made = exported(write_store(tmp_path / "a.zarr", pixels), "png")
    assert (pixels_of(made.path) == np.rint(pixels)).all()
    assert made.warnings == ()
    store = write_store(tmp_path / "b.zarr", pixels / 255, stored_as="unit")
    assert (pixels_of(exported(store, "png").path) == np.rint(pixels)).all()
    whole = (pixels * 100).astype(np.uint16)
    assert (
        pixels_of(exported(write_store(tmp_path / "c.zarr", whole), "png", dtype="uint16").path) == whole
    ).all()


@pytest.mark.parametrize(
    ("factor", "told"), [(100.0, "lie beyond 0 to 255 and are cut"), (0.01, "rounds to a few whole numbers")]
)
def test_a_type_that_hardly_holds_the_image_is_warned_about(tmp_path: Path, factor: float, told: str) -> None:
    pixels = (scenery("float32") * factor).astype(np.float32)
    (warning,) = exported(write_store(tmp_path / "a.zarr", pixels), "png").warnings
    assert told in warning
    assert "minmax" in warning


def test_a_png_keeps_its_place_in_a_world_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    affine = Affine(0.1, 0, 1 / 3, 0, -0.1, 2 / 3)
    path = exported(write_store(tmp_path / "a.zarr", scenery("uint8"), affine=affine), "png").path
    with rasterio.open(path) as dataset:
        assert dataset.transform.almost_equals(affine, precision=1e-12)
    assert names_in(tmp_path) == ["a.pgw", "a.png", "a.zarr"]
    placeless = write_store(tmp_path / "b.zarr", scenery("uint8"), affine=Affine.identity(), crs=None)
    exported(placeless, "png")
    assert names_in(tmp_path) == ["a.pgw", "a.png", "a.zarr", "b.png", "b.zarr"]


def test_a_world_file_of_others_is_neither_replaced_nor_deleted(tmp_path: Path) -> None:
    world, wanted = tmp_path / "a.pgw", Export(to="png")
    for name, affine in (("placed", PLACE), ("unplaced", Affine.identity())):
        store = write_store(tmp_path / f"{name}.zarr", scenery("uint8"), affine=affine, crs=None)
        world.write_text("mine")
        with pytest.raises(
            StoreError, match=r"a\.pgw is there and was not written by batchfuse: move it away"
        ):
            export(store, wanted, tmp_path / "a.png")
        assert (world.read_text(), (tmp_path / "a.png").exists()) == ("mine", False)
        world.unlink()
        export(store, wanted, tmp_path / "a.png")
        assert world.exists() == (name == "placed")
        export(store, wanted, tmp_path / "a.png", overwrite=True)
        (tmp_path / "a.png").unlink()
        world.unlink(missing_ok=True)


def test_the_world_file_of_an_earlier_export_goes_with_it(tmp_path: Path) -> None:
    placed, bare = (
        write_store(tmp_path / f"{name}.zarr", scenery("uint8"), affine=affine, crs=None)
        for name, affine in (("placed", PLACE), ("bare", Affine.identity()))
    )
    export(placed, Export(to="png"), tmp_path / "a.PNG")
    export(bare, Export(to="png"), tmp_path / "a.PNG", overwrite=True)
    assert not (tmp_path / "a.pgw").exists()


def test_no_export_goes_into_a_store_or_through_a_link(tmp_path: Path) -> None:
    store = write_store(tmp_path / "a.zarr", scenery("uint8"))
    with pytest.raises(StoreError, match=r"lies in the store .*a\.zarr: name a place outside of it"):
        export(store, Export(to="cog"), store.path / "fused/a.tif")
    export(store, Export(to="cog"), tmp_path / "b.tif")
    (tmp_path / "a.tif").symlink_to(tmp_path / "b.tif")
    with pytest.raises(StoreError, match=r"a\.tif is there and is no export of batchfuse"):
        export(store, Export(to="cog"), tmp_path / "a.tif", overwrite=True)


# --- refusals -------------------------------------------------------------------------------------


def test_an_incomplete_store_is_refused(tmp_path: Path) -> None:
    store = write_store(tmp_path / "a.zarr", scenery("uint8"), sealed=False)
    with pytest.raises(StoreError, match="not complete: run its recipe again"):
        exported(store, "cog")


def test_a_file_that_is_there_is_replaced_on_demand_only(tmp_path: Path) -> None:
    store = write_store(tmp_path / "a.zarr", scenery("uint8"))
    place = tmp_path / "a.tif"
    place.write_text("mine")
    with pytest.raises(StoreError, match="is there already: name another file, or --overwrite"):
        exported(store, "cog")
    with pytest.raises(StoreError, match="is no export of batchfuse: move it away, or name another file"):
        export(store, Export(to="cog"), place, overwrite=True)
    assert place.read_text() == "mine"
    place.unlink()
    export(store, Export(to="cog"), place)
    with pytest.raises(StoreError, match="is there already"):
        exported(store, "cog")
    export(store, Export(to="cog"), place, overwrite=True)
    assert cog_validate(place, strict=True, quiet=True)[0]


@pytest.mark.parametrize("to", ["cog", "png"])
def test_a_damaged_chunk_is_named_and_nothing_is_left(tmp_path: Path, to: str) -> None:
    store = write_store(tmp_path / "a.zarr", scenery("uint16"), tile=48)
    chunk = tmp_path / "a.zarr/fused/0.1.2"
    damaged = bytearray(chunk.read_bytes())
    damaged[len(damaged) // 2] ^= 255
    chunk.write_bytes(damaged)
    with pytest.raises(StoreError, match=r"tile \(1, 2\) is damaged"):
        exported(store, to)
    assert names_in(tmp_path) == ["a.zarr"]


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
@pytest.mark.parametrize("to", ["cog", "png"])
@pytest.mark.parametrize("share", [0.1, 0.99, 1.05])
def test_a_disk_that_runs_full_leaves_no_file(tmp_path: Path, to: str, share: float) -> None:
    """GDAL doesn't tell of what is lost as it closes a file: the pixels are checked, and the overviews."""
    noise = np.random.default_rng(0).integers(1, 255, (1, 600, 700)).astype(np.uint8)
    store = write_store(tmp_path / "a.zarr", noise)
    limit = int(1024 * 1024 * share)  # four blocks without compression; the overviews are 1/4 more
    code = (
        "import resource, sys\nfrom batchfuse.cli import main\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, -1))\n"
        f"sys.argv = ['batchfuse', 'export', {str(store.path)!r}, '--to', {to!r}]\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if to == "png" and share > 1:
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 1, done.stdout
    assert "can't be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert names_in(tmp_path) == ["a.zarr"]


def test_what_a_driver_refuses_is_one_line(tmp_path: Path) -> None:
    store = write_store(tmp_path / "a.zarr", scenery("uint8"))
    whole = Window.whole(store.grid.shape)
    picture = Picture(store.grid, ("a", "b", "c", "d", "e"), "uint8")
    with pytest.raises(StoreError, match=r"a.png can't be written: PNG driver doesn't support 5 bands"):
        write_png(picture, [(whole, np.zeros((5, *store.grid.shape), np.uint8))], tmp_path / "a.png")
    assert names_in(tmp_path) == ["a.zarr"]


# --- the command ----------------------------------------------------------------------------------


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(commands, ["export", *map(str, arguments)])


def test_a_folder_exports_each_complete_store(tmp_path: Path) -> None:
    for name in ("a", "b.c"):
        write_store(tmp_path / f"{name}.zarr", scenery("uint8"))
    write_store(tmp_path / "d.zarr", scenery("uint8"), sealed=False)
    done = call(tmp_path, "--to", "cog")
    assert done.exit_code == 1
    assert "d.zarr is not complete" in done.stderr
    assert sorted(p.name for p in tmp_path.glob("*.tif")) == ["a.tif", "b.c.tif"]
    into = call(tmp_path / "a.zarr", tmp_path / "b.c.zarr", "--to", "png", "-o", tmp_path / "pictures")
    assert into.exit_code == 0, into.output
    assert {p.name for p in (tmp_path / "pictures").glob("*.png")} == {"a.png", "b.c.png"}


def test_the_one_store_of_a_folder_goes_into_a_folder_too(tmp_path: Path) -> None:
    write_store(tmp_path / "fused/a.zarr", scenery("uint8"))
    done = call(tmp_path / "fused", "--to", "cog", "-o", tmp_path / "files")
    assert done.exit_code == 0, done.output
    assert names_in(tmp_path / "files") == ["a.tif"]


def test_a_name_that_ends_with_a_slash_is_a_folder(tmp_path: Path) -> None:
    write_store(tmp_path / "a.zarr", scenery("uint8"))
    done = call(tmp_path / "a.zarr", "--to", "cog", "-o", f"{tmp_path}/files/")
    assert done.exit_code == 0, done.output
    assert names_in(tmp_path / "files") == ["a.tif"]


@pytest.mark.parametrize(("to", "name"), [("cog", "a.png"), ("png", "a.tif"), ("cog", "a")])
def test_a_file_is_not_called_what_it_is_not(tmp_path: Path, to: str, name: str) -> None:
    write_store(tmp_path / "a.zarr", scenery("uint8"))
    done = call(tmp_path / "a.zarr", "--to", to, "-o", tmp_path / name)
    assert done.exit_code == 2
    assert f"{name}: a {to} is a " in done.stderr
    assert not (tmp_path / name).exists()


def test_one_store_becomes_the_file_that_is_named(tmp_path: Path) -> None:
    write_store(tmp_path / "a.zarr", scenery("float32"))
    wanted = ("--to", "png", "--dtype", "uint8", "--stretch", "minmax", "-o", tmp_path / "new/x.png")
    done = call(tmp_path / "a.zarr", *wanted)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"{tmp_path / 'new/x.png'}: uint8, ")
    again = call(tmp_path / "a.zarr", *wanted)
    assert (again.exit_code, "--overwrite" in again.stderr) == (1, True)
    assert call(tmp_path / "a.zarr", *wanted, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("options", "code", "line"),
    [
        (["--to", "nifti"], 1, "NIfTI is for volumes, and the image is a raster: export a cog or a png"),
        (["--to", "cog", "--keep-text"], 2, "keep_text: goes with nifti alone"),
        (["--to", "tiff"], 2, 'found "tiff"; allowed: cog, nifti, png'),
        (["--to", "png", "--dtype", "float32"], 2, "a PNG holds uint8 or uint16"),
        (["--to", "png", "--stretch", "minmx"], 2, 'did you mean "minmax"?'),
        ([], 2, "--to"),
        (["--to", "cog", "-o", "/dev/null/x.tif"], 1, "can't be written"),
    ],
)
def test_a_wrong_call_is_one_line(tmp_path: Path, options: list[str], code: int, line: str) -> None:
    write_store(tmp_path / "a.zarr", scenery("uint8"))
    done = call(tmp_path / "a.zarr", *options)
    assert done.exit_code == code
    assert line in done.stderr
    assert names_in(tmp_path) == ["a.zarr"]
