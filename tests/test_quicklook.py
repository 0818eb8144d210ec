from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from batchfuse.geometry.tiling import Tiling
from batchfuse.report.quicklook import Mosaic, write_quicklook
from batchfuse.task import reduced


@given(st.integers(5, 60), st.integers(5, 60), st.integers(3, 40), st.integers(1, 9))
def test_a_mosaic_of_tiles_is_the_block_mean_of_the_whole(
    rows: int, columns: int, size: int, step: int
) -> None:
    image = np.random.default_rng(0).random((2, rows, columns))
    image[:, :3, :4] = np.nan
    shape = (-(-rows // step), -(-columns // step))
    mosaic = Mosaic(shape, step)
    for tile in Tiling((rows, columns), size, 0):
        mosaic.add([reduced(image[(slice(None), *tile.core.slices)], tile.core, step)])
    found = mosaic.images()[0]
    for y in range(shape[0]):
        for x in range(shape[1]):
            block = image[:, y * step : (y + 1) * step, x * step : (x + 1) * step]
            if np.isnan(block).all():
                assert np.isnan(found[:, y, x]).all()
            else:
                assert np.allclose(found[:, y, x], np.nanmean(block, axis=(1, 2)))


def test_the_picture_has_a_panel_an_image_and_shows_invalid_pixels_as_transparent(tmp_path: Path) -> None:
    gray = np.linspace(0, 1, 300 * 200).reshape(1, 300, 200)
    gray[:, 100:150, 50:80] = np.nan
    write_quicklook([gray, np.repeat(gray, 3, axis=0)], ["thermal", "fused"], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as file:
        picture = np.asarray(file)
    assert picture.shape[2] == 4
    assert (picture[..., 3] == 0).sum() == 2 * 50 * 30
    assert picture.shape[1] > 400
    assert len(list(tmp_path.iterdir())) == 1


def test_a_scene_without_any_valid_pixel_or_contrast_still_gives_a_picture(tmp_path: Path) -> None:
    images: list[NDArray[np.float64]] = [np.full((1, 20, 20), np.nan), np.full((3, 20, 20), 7.0)]
    write_quicklook(images, ["a", "b"], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as file:
        assert file.size[0] > 40
