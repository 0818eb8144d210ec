"""Draws exact-tiles.png: how far four ways of tiling are from the image fused whole.

python docs/images/make_exact_tiles.py

The quickstart's scene, 640 x 640 pixels, is fused whole and in tiles of 160 pixels: with no halo, with
windows that overlap by a quarter and are blended by a Gaussian, with a halo of 6, and with the halo of 12
that the network needs. Needs the repository and half a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from batchfuse.fusion.color import luminance
from batchfuse.fusion.fuser import Fuser, load_fuser
from batchfuse.geometry.tiling import Tiling
from batchfuse.geometry.window import Window

HERE = Path(__file__).parent
SCENES = HERE.parents[1] / "recipes" / "quickstart" / "scenes"
TILE = 160
PANEL, MARGIN, TITLE, LEGEND, FONT = 320, 20, 72, 88, 24
DECADES = (-8, 0)  # powers of ten between the ends of the colours
COLOURS = ((255, 255, 255), (255, 237, 160), (254, 178, 76), (240, 59, 32), (128, 0, 38), (20, 0, 10))

Image2D = NDArray[np.float32]


def main() -> None:
    """Fuses, compares, draws."""
    sources = quickstart()
    fuser = load_fuser(strategy="l1", device="cpu")
    whole = fuser.fuse(sources, Window.whole(sources.shape[1:]), None)
    ways = {
        "no halo": tiled(fuser, sources, 0),
        "overlap of a quarter, blended": blended(fuser, sources),
        "halo of 6": tiled(fuser, sources, 6),
        "halo of 12": tiled(fuser, sources, 12),
    }
    draw({name: np.abs(image - whole) for name, image in ways.items()}).save(
        HERE / "exact-tiles.png", optimize=True
    )


def quickstart() -> Image2D:
    """Both sources on the optical grid, (2, y, x), scaled to 0..1 by minimum and 99.5th percentile."""
    with rasterio.open(SCENES / "valley_optical.tif") as optical:
        colours = optical.read().astype(np.float32)
        there = [(optical.read() > 0).all(0)]
        with (
            rasterio.open(SCENES / "valley_thermal.tif") as file,
            WarpedVRT(
                file,
                crs=optical.crs,
                transform=optical.transform,
                width=optical.width,
                height=optical.height,
                resampling=Resampling.bilinear,
            ) as thermal,
        ):
            images = [luminance(colours), thermal.read(1).astype(np.float32)]
            there.append(thermal.read_masks(1) > 0)
    scaled = []
    for image, valid in zip(images, there, strict=True):
        low, high = np.percentile(image[valid], [0, 99.5])
        scaled.append((image - low) / (high - low))
    # where one is missing the other stands in, as in a run
    first, second = scaled
    return np.stack(
        [np.where(there[0], first, second), np.where(there[1], second, first)],
    ).astype(np.float32)


def tiled(fuser: Fuser, sources: Image2D, halo: int) -> Image2D:
    """Each tile fused on its own, read with a halo."""
    fused = np.empty(sources.shape[1:], np.float32)
    for tile in Tiling(fused.shape, TILE, halo):
        window = sources[(slice(None), *tile.window.slices)]
        fused[tile.core.slices] = fuser.fuse(window, tile.core.relative_to(tile.window), None)
    return fused


def blended(fuser: Fuser, sources: Image2D) -> Image2D:
    """Windows that overlap by a quarter, averaged by weights that fall towards a window's edge."""
    total, weights = np.zeros(sources.shape[1:]), np.zeros(sources.shape[1:])
    along = np.exp(-0.5 * ((np.arange(TILE) - (TILE - 1) / 2) / (TILE / 8)) ** 2)
    weight = np.maximum(np.outer(along, along), 1e-3)
    for window in _overlapping(sources.shape[1:]):
        image = fuser.fuse(sources[(slice(None), *window.slices)], Window.whole(window.shape), None)
        total[window.slices] += weight * image
        weights[window.slices] += weight
    return (total / weights).astype(np.float32)


def _overlapping(shape: tuple[int, ...]) -> Iterator[Window]:
    starts = [[*range(0, n - TILE, TILE * 3 // 4), n - TILE] for n in shape]
    for top in starts[0]:
        for left in starts[1]:
            yield Window((top, left), (top + TILE, left + TILE))


def draw(differences: dict[str, Image2D]) -> Image.Image:
    """Panels side by side, with the largest difference of each and one legend."""
    width = len(differences) * (PANEL + MARGIN) + MARGIN
    sheet = Image.new("RGB", (width, TITLE + PANEL + LEGEND), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=FONT)
    for number, (name, difference) in enumerate(differences.items()):
        left = MARGIN + number * (PANEL + MARGIN)
        pen.text((left, 4), f"{name}\n{_off(difference.max())}", fill="black", font=font)
        sheet.paste(Image.fromarray(coloured(_shrunk(difference))), (left, TITLE))
        pen.rectangle((left, TITLE, left + PANEL - 1, TITLE + PANEL - 1), outline="gray")
    _legend(pen, sheet, font)
    return sheet


def _off(largest: float) -> str:
    return f"off by up to {100 * largest:.2g} %" if largest else "not off at all"


def _legend(pen: ImageDraw.ImageDraw, sheet: Image.Image, font: Any) -> None:
    """The ramp of colours, ticked every second power of ten in percent of the range."""
    (low, high), top, width = DECADES, TITLE + PANEL + 14, 2 * PANEL
    ramp = coloured(np.tile(10 ** np.linspace(low, high, width), (20, 1)))
    sheet.paste(Image.fromarray(ramp), (MARGIN, top))
    pen.rectangle((MARGIN, top, MARGIN + width, top + 20), outline="gray")
    for power in range(low, high + 1, 2):
        x = MARGIN + (power - low) * width // (high - low)
        anchor = "la" if power == low else "ra" if power == high else "ma"
        text = f"{100 * 10**power:g} %" if power > low else "none"
        pen.text((x, top + 28), text, fill="black", font=font, anchor=anchor)
    text = "difference from the scene fused whole,\nin percent of the range that is shown as 0 to 1"
    pen.text((MARGIN + width + 30, top), text, fill="black", font=font)


def coloured(differences: NDArray[np.floating]) -> NDArray[np.uint8]:
    """(y, x) to colours by the power of ten: white for nothing, dark for everything."""
    low, high = DECADES
    with np.errstate(divide="ignore"):
        place = np.clip((np.log10(differences) - low) / (high - low), 0, 1)
    at = np.linspace(0, 1, len(COLOURS))
    bands = [np.interp(place, at, [colour[band] for colour in COLOURS]) for band in range(3)]
    return np.stack(bands, axis=-1).astype(np.uint8)


def _shrunk(image: Image2D) -> Image2D:
    """To the panel's size by the largest of each block: a seam of one pixel stays to be seen."""
    factor = image.shape[0] // PANEL
    blocks = image.reshape(PANEL, factor, PANEL, factor)
    return np.asarray(blocks.max(axis=(1, 3)))


if __name__ == "__main__":
    main()
