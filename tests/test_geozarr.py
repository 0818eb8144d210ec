"""Every reader gets back the grid the store was made with."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import odc.geo.xr
import pyproj
import pytest
import rasterio
import rioxarray
import xarray
from affine import Affine
from pyproj.database import query_crs_info
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning

from batchfuse.errors import StoreError
from batchfuse.geometry.grid import Grid
from batchfuse.geometry.tiling import Tiling
from batchfuse.storage.geozarr import Georeference, grid_from, pixel_centres
from batchfuse.storage.store import RasterLayout, Store

# xarray, rioxarray and odc-geo still multiply affines with *
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

assert rioxarray
assert odc.geo.xr


def wkt(name: str) -> str:
    return CRS.from_user_input(name).to_wkt()


UTM = wkt("EPSG:32632")
NORTH_UP = Affine(30, 0, 399999.5, 0, -30, 5200000)
GRIDS = {
    "utm": Grid((50, 70), NORTH_UP, UTM),
    "geographic": Grid((50, 70), Affine(0.00141295, 0, 7.123456789, 0, -0.00141295, 47.1), wkt("EPSG:4326")),
    "grads": Grid((50, 70), Affine(0.01, 0, 1.3, 0, -0.01, 52.1), wkt("EPSG:4807")),
    "south up": Grid((50, 70), Affine(30, 0, 400000, 0, 30, 5200000), UTM),
    "west up": Grid((50, 70), Affine(-30, 0, 400000, 0, -30, 5200000), UTM),
    "not square": Grid((50, 70), Affine(0.3, 0, 400000.1, 0, -17.7, 5200000.7), UTM),
    "metres of a geostationary satellite": Grid(
        (50, 70),
        Affine(1002.0086577437705, 0, -3000000.3, 0, -2004.017315487541, 4500000.1),
        wkt("+proj=geos +h=35785831 +lon_0=-75 +sweep=x +datum=WGS84"),
    ),
    "utm without a code": Grid((50, 70), NORTH_UP, wkt("+proj=utm +zone=18 +a=6378249 +rf=293.465")),
    "Albers in survey feet": Grid(
        (50, 70), NORTH_UP, wkt("+proj=aea +lat_1=29.5 +lat_2=45.5 +lon_0=-96 +datum=NAD83 +units=us-ft")
    ),
    "ESRI": Grid((50, 70), NORTH_UP, wkt("ESRI:102003")),
    "IGNF": Grid((50, 70), NORTH_UP, wkt("IGNF:LAMB93")),
    "rotated pole": Grid(
        (50, 70),
        Affine(0.11, 0, -28.43, 0, -0.11, 21.8),
        wkt("+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39.25 +lon_0=18 +R=6371229"),
    ),
    "with a shift to WGS 84": Grid(
        (50, 70), NORTH_UP, wkt("+proj=tmerc +ellps=bessel +towgs84=600,70,460,0,0,0,0 +lon_0=9")
    ),
    "with heights": Grid((50, 70), NORTH_UP, wkt("EPSG:6160")),
    "south-west axes": Grid((50, 70), NORTH_UP, wkt("EPSG:2053")),
    "local": Grid((50, 70), NORTH_UP, CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]').to_wkt()),
    "no CRS": Grid((50, 70), NORTH_UP, None),
    "two by two": Grid((2, 2), Affine(10, 0, 400000.25, 0, -10, 5200000.75), UTM),
}
SLIVERS = {
    "one row": Grid((1, 70), Affine(30, 0, 400000, 0, -20, 5200000), UTM),
    "one column": Grid((50, 1), Affine(30, 0, 400000, 0, -20, 5200000), UTM),
    "one pixel": Grid((1, 1), Affine(30, 0, 400000, 0, 20, 5200000), UTM),
}


def sealed(path: Path, grid: Grid, dtype: str = "float32", fill: float = math.nan, **more: Any) -> Store:
    store = Store.create(path / "scene.zarr", RasterLayout(grid, ("fused",), dtype, fill, 32, **more), {})
    for tile in Tiling(grid.shape, 32, 0):
        store.write(tile, np.full((1, *tile.core.shape), 7, dtype))
    store.seal()
    return store


FORMS: dict[str, dict[str, Any]] = {
    "format 2": {},
    "format 3": {"zarr_format": 3},
    "shards": {"zarr_format": 3, "inner": 16},
}
every_form = pytest.mark.parametrize("form", FORMS)


def crs_of(grid: Grid) -> CRS | None:
    return None if grid.crs is None else CRS.from_wkt(grid.crs)


def assert_same_place(affine: Affine, grid: Grid) -> None:
    pixel = min(grid.spacing_yx)
    for found, expected in zip(tuple(affine)[:6], tuple(grid.affine)[:6], strict=True):
        assert abs(found - expected) <= max(1e-9 * pixel, 1e-15 * abs(expected))


@pytest.mark.parametrize("name", GRIDS)
def test_gdal_gives_back_crs_transform_and_size(tmp_path: Path, name: str) -> None:
    grid = GRIDS[name]
    with rasterio.open(sealed(tmp_path, grid).path) as dataset:
        assert dataset.shape == grid.shape
        assert dataset.crs == crs_of(grid)
        assert_same_place(dataset.transform, grid)
        assert np.isnan(dataset.nodata)
        assert (dataset.read() == 7).all()


@every_form
@pytest.mark.parametrize("name", [*GRIDS, *SLIVERS])
def test_plain_xarray_and_rioxarray_give_back_the_very_same_grid(
    tmp_path: Path, name: str, form: str
) -> None:
    grid = {**GRIDS, **SLIVERS}[name]
    dataset = xarray.open_zarr(sealed(tmp_path, grid, **FORMS[form]).path)
    for found in (dataset.rio, dataset.fused.rio):
        assert found.crs == crs_of(grid)
        assert found.transform() == grid.affine
        assert (found.height, found.width) == grid.shape
    assert np.isnan(dataset.fused.rio.nodata)
    assert (dataset.fused == 7).all()
    y, x = pixel_centres(grid)
    assert (dataset.y == y).all()
    assert (dataset.x == x).all()


@every_form
@pytest.mark.parametrize("name", [*GRIDS, *SLIVERS])
def test_odc_geo_gives_back_the_very_same_grid(tmp_path: Path, name: str, form: str) -> None:
    grid = {**GRIDS, **SLIVERS}[name]
    dataset = xarray.open_zarr(sealed(tmp_path, grid, **FORMS[form]).path)
    for box in (dataset.odc.geobox, dataset.fused.odc.geobox):
        if grid.crs is None:
            assert box.crs is None
        else:
            assert box.crs.proj == pyproj.CRS.from_wkt(grid.crs)
        assert box.affine == grid.affine
        assert box.shape == grid.shape


@pytest.mark.parametrize("name", SLIVERS)
def test_gdal_opens_an_image_one_pixel_thin_and_knows_its_crs(tmp_path: Path, name: str) -> None:
    # GDAL before 3.13 takes the affine from the coordinates, and needs two of each
    path = sealed(tmp_path, SLIVERS[name]).path
    with pytest.warns(NotGeoreferencedWarning):
        dataset = rasterio.open(path)
    with dataset:
        assert dataset.shape == SLIVERS[name].shape
        assert dataset.crs == crs_of(SLIVERS[name])


def test_an_image_without_any_georeference_reads_as_pixels(tmp_path: Path) -> None:
    grid = Grid((50, 70), Affine.identity(), None)
    store = sealed(tmp_path, grid, "uint8", 0)
    with rasterio.open(store.path) as dataset:
        assert (dataset.crs, dataset.transform, dataset.shape) == (None, Affine.identity(), (50, 70))
    dataset = xarray.open_zarr(store.path)
    assert dataset.fused.rio.crs is None
    assert dataset.fused.rio.transform() == Affine.identity()
    assert dataset.odc.geobox.affine == Affine.identity()


@pytest.mark.parametrize(
    ("dtype", "fill", "seen"),
    [
        ("float32", math.nan, "float32"),
        ("float16", math.nan, "float32"),  # GDAL 3.10 has no half floats and shows them wider
        ("uint8", 0, "uint8"),
        ("uint16", 65535, "uint16"),
        ("int16", -32768, "int16"),
    ],
)
def test_every_reader_shows_type_nodata_scale_and_offset(
    tmp_path: Path, dtype: str, fill: float, seen: str
) -> None:
    store = sealed(tmp_path, GRIDS["utm"], dtype, fill, scale=0.25, offset=-3.0, units="K", long_name="heat")
    with rasterio.open(store.path) as dataset:
        assert (dataset.dtypes, dataset.scales, dataset.offsets) == ((seen,), (0.25,), (-3.0,))
        assert dataset.units == ("K",)
        assert np.array_equal(dataset.nodata, fill, equal_nan=True)
        assert (dataset.read() == 7).all()
    assert_xarray_shows_it(store, dtype, fill)


@pytest.mark.parametrize("form", ["format 3", "shards"])
@pytest.mark.parametrize(
    ("dtype", "fill"),
    [("float32", math.nan), ("float16", math.nan), ("uint8", 0), ("uint16", 65535), ("int16", -32768)],
)
def test_xarray_shows_type_nodata_scale_and_offset_of_format_3(
    tmp_path: Path, dtype: str, fill: float, form: str
) -> None:
    more = {"scale": 0.25, "offset": -3.0, "units": "K", "long_name": "heat", **FORMS[form]}
    assert_xarray_shows_it(sealed(tmp_path, GRIDS["utm"], dtype, fill, **more), dtype, fill)


def assert_xarray_shows_it(store: Store, dtype: str, fill: float) -> None:
    physical = xarray.open_zarr(store.path).fused
    assert (physical == 7 * 0.25 - 3).all()
    assert np.array_equal(physical.rio.encoded_nodata, fill, equal_nan=True)
    assert physical.attrs["units"] == "K"
    assert physical.attrs["long_name"] == "heat"
    raw = xarray.open_zarr(store.path, mask_and_scale=False).fused
    assert raw.dtype == dtype
    assert np.array_equal(raw.rio.nodata, fill, equal_nan=True)


@every_form
def test_xarray_masks_what_is_invalid_in_integers(tmp_path: Path, form: str) -> None:
    grid = GRIDS["utm"]
    layout = RasterLayout(grid, ("fused",), "uint16", 9, 64, **FORMS[form])
    store = Store.create(tmp_path / "s.zarr", layout, {})
    pixels = np.arange(grid.shape[0] * grid.shape[1], dtype="uint16").reshape(1, *grid.shape)
    for tile in Tiling(grid.shape, 64, 0):
        store.write(tile, pixels[(slice(None), *tile.core.slices)])
    store.seal()
    shown = xarray.open_zarr(store.path).fused
    assert (shown.isnull().values == (pixels == 9)).all()


def test_invalid_pixels_are_masked_by_gdal_and_by_xarray(tmp_path: Path) -> None:
    grid = GRIDS["utm"]
    store = Store.create(tmp_path / "s.zarr", RasterLayout(grid, ("fused",), "uint16", 0, 64), {})
    for tile in Tiling(grid.shape, 64, 0):
        pixels = np.full((1, *tile.core.shape), 9, "uint16")
        pixels[:, 3, 4] = 0
        store.write(tile, pixels)
    store.seal()
    with rasterio.open(store.path) as dataset:
        masked = dataset.read(1, masked=True).mask
    assert masked[3, 4]
    assert masked.sum() == 2
    assert (xarray.open_zarr(store.path).fused[0].isnull().values == masked).all()


def test_colour_stays_three_bands_in_every_reader(tmp_path: Path) -> None:
    grid = GRIDS["utm"]
    store = Store.create(
        tmp_path / "s.zarr", RasterLayout(grid, ("red", "green", "blue"), "uint8", 0, 64), {}
    )
    image = np.random.default_rng(1).integers(1, 255, store.shape, dtype="uint8")
    for tile in Tiling(grid.shape, 64, 0):
        store.write(tile, image[(slice(None), *tile.core.slices)])
    store.seal()
    with rasterio.open(store.path) as dataset:
        assert (dataset.read() == image).all()
        assert dataset.count == 3
    dataset = xarray.open_zarr(store.path)
    assert (dataset.fused == image).all()
    assert list(dataset.band.values) == [1, 2, 3]
    assert dataset.band.attrs["names"] == ["red", "green", "blue"]


@pytest.mark.parametrize("name", [*GRIDS, *SLIVERS])
def test_the_grid_comes_back_bit_for_bit(name: str) -> None:
    grid = {**GRIDS, **SLIVERS}[name]
    assert grid_from(Georeference(grid).grid_mapping(), grid.shape) == grid


def test_the_geozarr_conventions_say_what_the_grid_says() -> None:
    grid = GRIDS["geographic"]
    for found in (Georeference(grid).group(), Georeference(grid).image()):
        assert [c["name"] for c in found["zarr_conventions"]] == ["proj:", "spatial:"]
        assert found["proj:code"] == "EPSG:4326"
        assert Affine(*found["spatial:transform"]) == grid.affine
        assert found["spatial:shape"] == [50, 70]
        assert found["spatial:bbox"] == list(grid.bounds)
    assert "proj:code" not in Georeference(GRIDS["utm without a code"]).group()
    stated = Georeference(GRIDS["utm without a code"]).group()["proj:wkt2"]
    assert CRS.from_wkt(stated) == crs_of(GRIDS["utm without a code"])
    assert [c["name"] for c in Georeference(GRIDS["no CRS"]).group()["zarr_conventions"]] == ["spatial:"]


@pytest.mark.parametrize(
    ("name", "standard_name", "units"),
    [
        ("utm", "projection_x_coordinate", "m"),
        ("geographic", "longitude", "degrees_east"),
        ("grads", "longitude", "grad"),
        ("Albers in survey feet", "projection_x_coordinate", "0.304800609601219 metre"),
        ("rotated pole", "grid_longitude", "degrees"),
        ("south-west axes", "projection_x_coordinate", None),
        ("no CRS", None, None),
    ],
)
def test_the_axes_say_their_meaning_in_cf(name: str, standard_name: str | None, units: str | None) -> None:
    axis = Georeference(GRIDS[name]).axis("x")
    assert (axis["axis"], axis.get("standard_name"), axis.get("units")) == ("X", standard_name, units)


def test_gdal_reads_the_same_crs_from_what_is_written_for_any_of_80_systems() -> None:
    rng = random.Random(5)
    kinds = {"PROJECTED_CRS", "GEOGRAPHIC_2D_CRS", "COMPOUND_CRS"}
    for authority in ("EPSG", "ESRI"):
        codes = [i.code for i in query_crs_info(auth_name=authority) if i.type.name in kinds]
        for code in rng.sample(codes, 40):
            crs = CRS.from_wkt(wkt(f"{authority}:{code}"))
            written = Georeference(Grid((4, 4), NORTH_UP, crs.to_wkt())).image()["_CRS"]
            assert CRS.from_user_input(written.get("url", written["wkt"])) == crs, f"{authority}:{code}"


def test_cf_readers_build_the_crs_from_the_parameters_alone() -> None:
    for name in ("utm", "geographic", "metres of a geostationary satellite"):
        found = Georeference(GRIDS[name]).grid_mapping()
        alone = {k: v for k, v in found.items() if k not in {"crs_wkt", "spatial_ref", "GeoTransform"}}
        built = pyproj.CRS.from_cf(alone)
        here = pyproj.Transformer.from_crs(pyproj.CRS.from_wkt(GRIDS[name].crs), built, always_xy=True)
        x, y = GRIDS[name].affine @ (25, 25)
        assert here.transform(x, y) == pytest.approx((x, y), rel=1e-9, abs=1e-6)


def test_a_rotated_grid_is_a_bug_of_the_caller() -> None:
    with pytest.raises(ValueError, match="axis-aligned"):
        Georeference(Grid((4, 4), Affine.rotation(30), None))


def test_a_crs_that_proj_cannot_read_is_one_line_with_the_remedy() -> None:
    with pytest.raises(StoreError, match=r"PROJ can't read the CRS .*`crs:` in the recipe") as caught:
        Georeference(Grid((4, 4), Affine.identity(), 'PROJCS["nonsense"]'))
    assert "\n" not in str(caught.value)


def test_a_damaged_geotransform_is_refused() -> None:
    with pytest.raises(ValueError, match="5 numbers"):
        grid_from({"GeoTransform": "1 2 3 4 5"}, (4, 4))
