from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from affine import Affine
from PIL import Image
from rasterio.enums import ColorInterp
from rasters import write_raster
from shared_data import shared_data

from batchfuse.errors import RecipeError, SourceError
from batchfuse.geometry.grid import ControlPoints, Grid
from batchfuse.geometry.window import Window
from batchfuse.imagery.geotiff import checked_crs, open_source
from batchfuse.imagery.header import Header
from batchfuse.imagery.masks import open_mask
from batchfuse.imagery.pixels import read_pixels
from batchfuse.imagery.scene import MaskRule

WHOLE = Window.whole((12, 14))


def ramp(dtype: str = "uint16", bands: int = 1) -> np.ndarray:
    return np.arange(bands * 12 * 14).reshape(bands, 12, 14).astype(dtype)


def test_a_window_reads_what_rasterio_reads(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", ramp(bands=3))
    window = Window((3, 5), (11, 9))
    pixels, valid = read_pixels(open_source("optical", [path]), window)
    with rasterio.open(path) as dataset:
        assert (pixels == dataset.read(window=((3, 11), (5, 9)))).all()
    assert valid.all()


def test_a_file_a_band_reads_as_one_colour_source(tmp_path: Path) -> None:
    paths = [write_raster(tmp_path / f"B{i}.tif", ramp() + i) for i in (4, 3, 2)]
    source = open_source("optical", paths)
    assert source.is_colour
    pixels, _ = read_pixels(source, WHOLE)
    assert (pixels[:, 0, 0] == [4, 3, 2]).all()


def test_bands_of_one_source_must_share_a_grid(tmp_path: Path) -> None:
    a = write_raster(tmp_path / "a.tif", ramp())
    b = write_raster(tmp_path / "b.tif", ramp(), transform=Affine(10, 0, 500_005, 0, -10, 5_600_000))
    c = write_raster(tmp_path / "c.tif", ramp()[:, :6])
    for other in (b, c):
        with pytest.raises(SourceError, match=rf"share a grid.*{other.name}"):
            open_source("optical", [a, other])


# what a header says and fusing doesn't need


def odd(path: Path, bands: int, items: str, geo: bool = True) -> Path:
    """A GeoTIFF whose metadata are these items in Latin-1."""
    text = f"<GDALMetadata>{items}</GDALMetadata>".encode("latin-1")
    keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632)
    place = [
        (33550, "d", 3, (10.0, 10.0, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, 500_000.0, 5_600_000.0, 0.0), True),
        (34735, "H", len(keys), keys, True),
    ]
    tags = [(42112, "s", len(text) + 1, text, True), *(place if geo else [])]
    pixels = ramp()[0] if bands == 1 else ramp(bands=bands)
    options = {"planarconfig": "separate"} if bands > 1 else {}
    tifffile.imwrite(path, pixels, extratags=tags, photometric="minisblack", **options)
    return path


@pytest.mark.parametrize(
    ("items", "unit", "name"),
    [
        ('<Item name="UNITTYPE" sample="0" role="unittype">°C</Item>', "°C", ""),
        ('<Item name="DESCRIPTION" sample="0" role="description">Température</Item>', None, "Température"),
        ('<Item name="Auteur">René</Item><Item name="Zoé" sample="0">é</Item>', None, ""),
        ('<Item name="NBITS" domain="IMAGE_STRUCTURE" sample="0">a few</Item>', None, ""),
        ('<Item name="LINE_OFF" domain="RPC">1</Item><Item name="SAMP_OFF" domain="RPC">é</Item>', None, ""),
        ('<Item name="COLORINTERP" sample="0" role="colorinterp">Café</Item>', None, ""),
        ("<Item name=<<<", None, ""),
    ],
)
def test_odd_metadata_decide_nothing(tmp_path: Path, items: str, unit: str | None, name: str) -> None:
    source = open_source("thermal", [odd(tmp_path / "a.tif", 1, items)])
    assert (source.units, source.bands[0].name, source.bits) == (unit, name, 0)
    assert isinstance(source.place, Grid)
    assert "32632" in str(source.place.crs)
    pixels, valid = read_pixels(source, WHOLE)
    assert (pixels == ramp()).all()
    assert valid.all()


def test_texts_in_latin_1_of_several_bands_are_left_out(tmp_path: Path) -> None:
    items = '<Item name="DESCRIPTION" sample="1" role="description">Température</Item>'
    source = open_source("thermal", [odd(tmp_path / "a.tif", 3, items)])
    assert [band.name for band in source.bands] == ["", "", ""]


def test_rpcs_that_lack_numbers_are_told_where_they_are_all_there_is(tmp_path: Path) -> None:
    path = odd(tmp_path / "a.tif", 1, '<Item name="LINE_OFF" domain="RPC">1</Item>', geo=False)
    with pytest.raises(SourceError, match="no geotransform, only RPCs"):
        open_source("thermal", [path])


def test_what_gdal_finds_wrong_beside_a_file_comes_up_nowhere_else(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", ramp())
    points = (
        '<GCPList Projection="no CRS"><GCP Id="é" Pixel="0" Line="0" X="x" Y="1"/><GCP Id="2"/></GCPList>'
    )
    band = '<PAMRasterBand band="1"><ColorInterp>Palette</ColorInterp><UnitType>°C</UnitType></PAMRasterBand>'
    (tmp_path / "a.tif.aux.xml").write_bytes(f"<PAMDataset>{points}{band}</PAMDataset>".encode("latin-1"))
    source = open_source("thermal", [path])
    assert (source.units, source.palette) == ("°C", ())
    assert (read_pixels(source, WHOLE)[0] == ramp()).all()


def test_a_crs_whose_name_is_not_utf_8_is_no_damage(tmp_path: Path) -> None:
    text = b"\xe9\xe8 Lat"
    keys = (1, 1, 0, 4, 1024, 0, 1, 32767, 1025, 0, 1, 1, 1026, 34737, 5, 0, 3072, 0, 1, 32767)
    tags = [
        (33550, "d", 3, (10.0, 10.0, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, 500_000.0, 5_600_000.0, 0.0), True),
        (34735, "H", len(keys), keys, True),
        (34737, "s", len(text) + 1, text, True),
    ]
    tifffile.imwrite(tmp_path / "a.tif", ramp()[0], extratags=tags, photometric="minisblack")
    with pytest.raises(SourceError, match="a CRS whose name is not in UTF-8"):
        open_source("thermal", [tmp_path / "a.tif"])


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint64"])
def test_whole_numbers_of_any_size_are_read(tmp_path: Path, dtype: str) -> None:
    path = write_raster(tmp_path / "a.tif", ramp(dtype), nodata=7)
    pixels, valid = read_pixels(open_source("thermal", [path]), WHOLE)
    assert (pixels == ramp(dtype)).all()
    assert (valid == (ramp(dtype)[0] != 7)).all()


@pytest.mark.parametrize("dtype", ["complex_int16", "complex64"])
def test_complex_pixels_are_refused_in_one_line(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "slc.tif"
    options = {"driver": "GTiff", "count": 1, "height": 12, "width": 14, "transform": Affine.scale(2)}
    with rasterio.open(path, "w", dtype=dtype, **options) as dataset:
        dataset.write(ramp("complex64"))
    with pytest.raises(SourceError, match="complex pixels: save their magnitude"):
        open_source("thermal", [path])
    image = Header(write_raster(tmp_path / "a.tif", ramp()))
    with pytest.raises(SourceError, match=rf"has {dtype} pixels: a mask holds whole numbers"):
        open_mask(image, path, MaskRule())


@pytest.mark.parametrize(("dtype", "nodata"), [("uint16", 7.0), ("float32", 7.0), ("float32", float("nan"))])
def test_nodata_of_the_tag_is_invalid(tmp_path: Path, dtype: str, nodata: float) -> None:
    pixels = ramp(dtype)
    pixels[0, 2, 2] = nodata
    path = write_raster(tmp_path / "a.tif", pixels, nodata=nodata)
    _, valid = read_pixels(open_source("thermal", [path]), WHOLE)
    with rasterio.open(path) as dataset:
        assert (valid == (dataset.read_masks(1) > 0)).all()
    assert not valid[2, 2]


def test_nodata_matches_after_decimal_rounding(tmp_path: Path) -> None:
    pixels = ramp("float32")
    pixels[0, 0, :3] = np.float32(-3.4e38)
    path = write_raster(tmp_path / "a.tif", pixels)
    _, valid = read_pixels(open_source("thermal", [path], nodata=-3.3999999521443642e38), WHOLE)
    assert not valid[0, :3].any()
    assert valid.sum() == 12 * 14 - 3


def test_nan_and_infinity_are_invalid_without_any_tag(tmp_path: Path) -> None:
    pixels = ramp("float64")
    pixels[0, 0, :3] = (np.nan, np.inf, -np.inf)
    _, valid = read_pixels(open_source("thermal", [write_raster(tmp_path / "a.tif", pixels)]), WHOLE)
    assert valid.sum() == 12 * 14 - 3


def test_the_recipes_nodata_overrides_the_tag(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", ramp(), nodata=3)
    _, valid = read_pixels(open_source("thermal", [path], nodata=5), WHOLE)
    assert valid[0, 3]
    assert not valid[0, 5]


def test_an_internal_mask_says_what_is_valid(tmp_path: Path) -> None:
    mask = np.ones((12, 14), bool)
    mask[4:, 6:] = False
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = write_raster(tmp_path / "a.tif", ramp(), mask=mask)
    _, valid = read_pixels(open_source("thermal", [path]), WHOLE)
    assert (valid == mask).all()


def test_a_mask_file_beside_the_image_says_what_is_valid_and_belongs_to_its_checksum(tmp_path: Path) -> None:
    bare = open_source("thermal", [write_raster(tmp_path / "a.tif", ramp())])
    mask = np.ones((12, 14), bool)
    mask[:3] = False
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
        path = write_raster(tmp_path / "a.tif", ramp(), mask=mask)
    assert path.with_suffix(".tif.msk").exists()
    source = open_source("thermal", [path])
    _, valid = read_pixels(source, WHOLE)
    assert (valid == mask).all()
    assert source.files[0].checksum != bare.files[0].checksum


def test_alpha_is_validity_and_no_band(tmp_path: Path) -> None:
    pixels = ramp("uint8", bands=4)
    pixels[3] = 255
    pixels[3, :2] = 0
    path = write_raster(tmp_path / "a.tif", pixels, photometric="RGB", alpha="YES")
    source = open_source("optical", [path])
    _, valid = read_pixels(source, WHOLE)
    assert len(source.bands) == 3
    assert (valid == (pixels[3] > 0)).all()


@pytest.mark.parametrize("nodata", [None, 9999])
@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
@pytest.mark.parametrize("colours", [1, 3])
def test_alpha_of_any_type_is_valid_above_0_also_beside_a_nodata_value(
    tmp_path: Path, dtype: str, colours: int, nodata: float | None
) -> None:
    pixels = ramp(dtype, bands=colours + 1)
    pixels[-1] = 0
    pixels[-1, :, 7:] = 30_000
    pixels[-1, :, 6] = 1  # hardly there is there: GDAL's own 8-bit view of it keeps it, too
    kind = {"photometric": "RGB"} if colours == 3 else {}
    path = write_raster(tmp_path / "a.tif", pixels, alpha="YES", nodata=nodata, **kind)
    source = open_source("optical", [path])
    _, valid = read_pixels(source, WHOLE)
    assert len(source.bands) == colours
    assert (valid == (pixels[-1] > 0)).all()
    with rasterio.open(path) as dataset:
        if dtype == "uint16" and nodata is None:  # where GDAL knows alpha as a mask
            assert (valid == (dataset.read_masks(1) > 0)).all()


def test_an_alpha_band_asked_for_by_its_number_is_a_band(tmp_path: Path) -> None:
    pixels = ramp("uint8", bands=4)
    pixels[3, :2] = 0
    path = write_raster(tmp_path / "a.tif", pixels, photometric="RGB", alpha="YES")
    found, valid = read_pixels(open_source("optical", [path], bands=[4]), WHOLE)
    assert (found[0] == pixels[3]).all()
    assert valid.all()


def test_a_palette_beside_an_alpha_band_has_its_colours_and_that_validity(tmp_path: Path) -> None:
    pixels = np.stack([ramp("uint8")[0] % 3, np.full((12, 14), 255, np.uint8)])
    pixels[1, :4] = 0
    path = write_raster(tmp_path / "a.tif", pixels, alpha="YES")
    colours = {0: (10, 20, 30, 255), 1: (40, 50, 60, 255), 2: (70, 80, 90, 255)}
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = (ColorInterp.palette, ColorInterp.alpha)
        dataset.write_colormap(1, colours)
    found, valid = read_pixels(open_source("optical", [path]), WHOLE)
    assert found[:, 5, 1].tolist() == list(colours[int(pixels[0, 5, 1])][:3])
    assert (valid == (pixels[1] > 0)).all()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_transparent_colours_of_a_palette_are_invalid_and_half_transparent_ones_valid(tmp_path: Path) -> None:
    numbers = ramp("uint8")[0] % 4
    image = Image.fromarray(numbers, "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    image.save(tmp_path / "a.png", transparency=bytes([0, 128, 255, 0]))
    found, valid = read_pixels(open_source("optical", [tmp_path / "a.png"]), WHOLE)
    assert found[:, 0, 1].tolist() == [40, 50, 60]
    assert (valid == np.isin(numbers, [1, 2])).all()


def test_four_bands_of_which_none_is_alpha_are_asked_about(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", ramp(bands=4))
    with pytest.raises(SourceError, match=r"has 4 bands: say which .*`bands:`.*`fusion.color: bands`"):
        open_source("optical", [path])
    assert [band.number for band in open_source("optical", [path], bands=[3, 2, 1]).bands] == [3, 2, 1]


def test_bands_named_blue_green_red_come_in_the_order_of_luminance(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", ramp(bands=3), photometric="MINISBLACK")
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = (ColorInterp.blue, ColorInterp.green, ColorInterp.red)
    assert [band.number for band in open_source("optical", [path]).bands] == [3, 2, 1]


def test_a_black_pixel_of_a_photograph_is_nodata_only_where_all_bands_are(tmp_path: Path) -> None:
    pixels = ramp("uint8", bands=3)
    pixels[:, 0, 0] = 0
    pixels[0, 5, 5] = 0
    path = write_raster(tmp_path / "a.tif", pixels, nodata=0)
    _, valid = read_pixels(open_source("optical", [path]), WHOLE)
    with rasterio.open(path) as dataset:
        assert (valid == (dataset.dataset_mask() > 0)).all()
    wide = write_raster(tmp_path / "b.tif", pixels.astype(np.uint16), nodata=0)
    _, strict = read_pixels(open_source("optical", [wide]), WHOLE)
    assert not strict[5, 5]


def test_a_palette_is_expanded_to_its_colours(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", ramp("uint8") % 3, photometric="palette")
    colours = {0: (10, 20, 30, 255), 1: (40, 50, 60, 255), 2: (70, 80, 90, 0)}
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, colours)
    source = open_source("optical", [path])
    pixels, valid = read_pixels(source, WHOLE)
    assert source.is_colour
    assert pixels[:, 0, 1].tolist() == [40, 50, 60]
    assert pixels.dtype == np.uint8
    assert valid[0, 0]


def test_one_bit_gray_reads_as_black_and_white(tmp_path: Path) -> None:
    source = open_source("thermal", [write_raster(tmp_path / "a.tif", ramp("uint8") % 2, nbits=1)])
    pixels, valid = read_pixels(source, WHOLE)
    assert not source.is_colour
    assert (pixels[0] > pixels[0].min()).mean() == 0.5
    assert valid.all()


def test_complex_pixels_are_refused(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", ramp("complex64"))
    with pytest.raises(SourceError, match="complex"):
        open_source("thermal", [path])


def test_scale_and_offset_come_from_the_tags_or_the_recipe(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", ramp(), scale=0.5, offset=2.0)
    band = open_source("thermal", [path]).bands[0]
    assert (band.scale, band.offset) == (0.5, 2.0)
    band = open_source("thermal", [path], scale=3.0).bands[0]
    assert (band.scale, band.offset) == (3.0, 2.0)


def test_a_crs_of_the_recipe_overrides_the_files(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", ramp(), crs=None)
    place = open_source("thermal", [path], crs="EPSG:3857").place
    assert isinstance(place, Grid)
    assert place.crs is not None
    assert "Pseudo-Mercator" in place.crs
    for wrong in ("EPSG:nonsense", "EPSG:99999", "north"):
        with pytest.raises(RecipeError, match="no known CRS"):
            checked_crs(wrong, "inputs.thermal.crs")


@pytest.mark.parametrize("nodata", [float("inf"), float("-inf"), float("nan")])
def test_a_nodata_that_is_not_finite_says_nothing_about_finite_pixels(tmp_path: Path, nodata: float) -> None:
    path = write_raster(tmp_path / "a.tif", ramp("float32"), nodata=nodata)
    assert read_pixels(open_source("thermal", [path]), WHOLE)[1].all()


@pytest.mark.parametrize("nodata", [0.5, -9999, 70_000])
def test_a_nodata_of_the_recipe_that_no_pixel_can_have_is_refused(tmp_path: Path, nodata: float) -> None:
    path = write_raster(tmp_path / "a.tif", ramp())
    with pytest.raises(SourceError, match=r"can't stand in .*uint16"):
        open_source("thermal", [path], nodata=nodata)


def test_a_scale_that_is_no_number_is_refused(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", ramp(), scale=float("nan"))
    with pytest.raises(SourceError, match="scale nan"):
        open_source("thermal", [path])
    assert open_source("thermal", [path], scale=2.0).bands[0].scale == 2.0


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "is empty"),
        (b"plainly no image", "is not an image"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"),
        (b"II*\x00garbage", "is damaged|not an image"),
    ],
)
def test_a_file_that_is_no_image_gets_one_line_with_its_name(
    tmp_path: Path, content: bytes, line: str
) -> None:
    path = tmp_path / "x.tif"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=line) as caught:
        open_source("thermal", [path])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        open_source("thermal", [tmp_path / "none.tif"])
    with pytest.raises(SourceError, match="is a folder"):
        open_source("thermal", [tmp_path])


def test_a_file_cut_off_is_refused_when_its_pixels_are_read(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).random((300, 300))
    path = write_raster(tmp_path / "a.tif", noise, compress="deflate")
    path.write_bytes(path.read_bytes()[:-200_000])
    with pytest.raises(SourceError, match=r"a\.tif can't be read.*cut off"):
        read_pixels(open_source("thermal", [path]), Window.whole((300, 300)))


def test_a_file_that_changed_is_read_anew(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", ramp())
    first, _ = read_pixels(open_source("thermal", [path]), WHOLE)
    write_raster(path, ramp() + 1)
    second, _ = read_pixels(open_source("thermal", [path]), WHOLE)
    assert (second == first + 1).all()


def test_real_ground_control_points_are_read() -> None:
    place = open_source("thermal", [shared_data("geo/nasty/gcps_only.tif")]).place
    assert isinstance(place, ControlPoints)
    assert len(place.points) == 24


def test_real_rpcs_are_refused_with_the_remedy() -> None:
    with pytest.raises(SourceError, match=r"RPC.*gdalwarp"):
        open_source("optical", [shared_data("geo/nasty/rpc_only_crop.tif")])


def test_a_real_big_endian_file_reads_as_the_little_endian_one() -> None:
    there = Window((100, 50), (200, 150))
    big = open_source("thermal", [shared_data("geo/nasty/bigendian_thermal.tif")])
    little = open_source(
        "thermal", [shared_data("geo/pair_landsat5_para_brazil/LT52240631988227CUB02_B6.TIF")]
    )
    assert (read_pixels(big, there)[0] == read_pixels(little, there)[0]).all()
