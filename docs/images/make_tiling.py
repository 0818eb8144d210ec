"""Draws tiling.png: how one tile of the quickstart's scene is read, fused and written.

python docs/images/make_tiling.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import rasterio
from make_exact_tiles import SCENES, TILE, quickstart
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import batchfuse
from batchfuse.geometry.tiling import Tile, Tiling

HERE = Path(__file__).parent
RECIPE = HERE.parents[1] / "recipes" / "quickstart" / "recipe.yaml"
HALO, CHOSEN = 12, (1, 1)
PANEL, GAP, TEXT = 360, 60, 72
ORANGE, WHITE, PALE = (255, 120, 0), (255, 255, 255), 0.6

Picture = NDArray[np.uint8]


def main() -> None:
    """Fuses the scene, and draws four panels from the scene to the chunk."""
    thermal = _bytes(np.repeat(quickstart()[1][None], 3, axis=0))
    with rasterio.open(SCENES / "valley_optical.tif") as dataset:
        optical = _bytes(dataset.read())
    fused = _bytes(_fused())
    tile = Tiling((640, 640), TILE, HALO)[CHOSEN]
    panels = {
        "1  The scene is cut into\ncores of one size.": _cut(optical, tile),
        "2  A task reads one core and\na halo of 12 pixels around it,": _read(optical, tile),
        "of every source.\n": _read(thermal, tile),
        "3  It fuses all it read, keeps\nthe core, drops the halo.": _kept(fused, tile),
    }
    sheet = _side_by_side(panels).quantize(256, dither=Image.Dither.FLOYDSTEINBERG)  # a third of the bytes
    sheet.save(HERE / "tiling.png", optimize=True)


def _fused() -> NDArray[np.float32]:
    with tempfile.TemporaryDirectory() as folder:
        report = batchfuse.run(batchfuse.Recipe.load(RECIPE, [f"output.path={folder}"]))
        if report.exit_code:
            raise SystemExit(str(report.outcomes))
        with rasterio.open(Path(folder) / "valley.zarr") as dataset:
            return np.asarray(dataset.read())


def _bytes(image: NDArray[np.generic]) -> Picture:
    """(3, y, x) to (y, x, 3), stretched for the eye."""
    values = np.nan_to_num(np.moveaxis(image, 0, -1).astype(np.float32))
    low, high = np.percentile(values, [1, 99])
    return np.asarray(np.clip((values - low) / (high - low) * 255, 0, 255), np.uint8)


def _cut(image: Picture, tile: Tile) -> Image.Image:
    """The whole scene with the edges of its tiles, one of them marked."""
    panel = Image.fromarray(image).resize((PANEL, PANEL), Image.Resampling.LANCZOS)
    pen, scale = ImageDraw.Draw(panel), PANEL / image.shape[0]
    for edge in range(TILE, image.shape[0], TILE):
        at = round(edge * scale)
        pen.line((0, at, PANEL, at), WHITE, 2)
        pen.line((at, 0, at, PANEL), WHITE, 2)
    pen.rectangle(_box(tile.core.start, tile.core.stop, scale), outline=ORANGE, width=4)
    return panel


def _read(image: Picture, tile: Tile) -> Image.Image:
    """What is read: the core bright, the halo pale."""
    core = tile.core.relative_to(tile.window)
    seen = image[tile.window.slices].astype(np.float32)
    halo = np.ones(seen.shape[:2], bool)
    halo[core.slices] = False
    seen[halo] += (255 - seen[halo]) * PALE
    return _framed(seen.astype(np.uint8), tile)


def _kept(image: Picture, tile: Tile) -> Image.Image:
    """What is kept: the core alone."""
    kept = np.full((*tile.window.shape, 3), 255, np.uint8)
    kept[tile.core.relative_to(tile.window).slices] = image[tile.core.slices]
    return _framed(kept, tile)


def _framed(window: Picture, tile: Tile) -> Image.Image:
    panel = Image.fromarray(window).resize((PANEL, PANEL), Image.Resampling.LANCZOS)
    core, scale = tile.core.relative_to(tile.window), PANEL / window.shape[0]
    pen = ImageDraw.Draw(panel)
    pen.rectangle(_box(core.start, core.stop, scale), outline=ORANGE, width=4)
    pen.rectangle((0, 0, PANEL - 1, PANEL - 1), outline="gray")
    return panel


def _box(start: tuple[int, ...], stop: tuple[int, ...], scale: float) -> tuple[float, float, float, float]:
    (top, left), (bottom, right) = start, stop
    return (left * scale, top * scale, right * scale, bottom * scale)


def _side_by_side(panels: dict[str, Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (len(panels) * (PANEL + GAP) - GAP, TEXT + PANEL), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=25)
    for number, (text, panel) in enumerate(panels.items()):
        left = number * (PANEL + GAP)
        pen.text((left, 0), text, fill="black", font=font)
        sheet.paste(panel, (left, TEXT))
    return sheet


if __name__ == "__main__":
    main()
