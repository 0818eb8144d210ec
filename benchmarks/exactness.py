"""How far tiled fusion is from whole fusion, on real scenes.

    python benchmarks/exactness.py FOLDER [--pairs 21] [--only tno mosaic warped float64 reading]

FOLDER holds ``tno/`` (IR01.png, VIS01.png, ...) and ``geo/`` (``pair_*/`` folders of GeoTIFFs). Prints the
largest differences in the scaled range 0..1, before output units:

- float32, at most 1e-6 from one tile as large as the image: tiles of 128, 200 and 512 pixels, each read
  through its own haloed window and the survey (at most 1e-7 away) merged over them; and the same at once,
  without the inner windows in which the fuser works through a tile. ``plain`` is the plain network over the
  plain whole arrays: torch's other convolutions add up in another order and round otherwise, hence 2e-6.
- float64: tiles against the plain network, with the strategy's halo (at most 1e-13) and with one pixel less
  (above 1e-10), which float32 could not tell apart.
- reading: windows of a warped scene that are not, bit for bit, those of the whole. None.

An exclamation mark is a violation; the exit code is 1 if there is one.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, reduce
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from affine import Affine
from numpy.typing import NDArray
from rasterio.warp import Resampling, calculate_default_transform, reproject

from batchfuse.fusion.color import recolored
from batchfuse.fusion.extremes import Extremes
from batchfuse.fusion.moments import Moments
from batchfuse.fusion.res2netfuse import Res2NetFuse
from batchfuse.fusion.rules import rule_of
from batchfuse.fusion.strategies import channel_mean
from batchfuse.fusion.surveys import Survey
from batchfuse.fusion.weights import load_weights
from batchfuse.fusion.windowed import Res2NetFuser
from batchfuse.geometry.tiling import Tiling
from batchfuse.geometry.window import Window
from batchfuse.imagery.aligned import measured_scaling
from batchfuse.imagery.scaling import Scaling
from batchfuse.imagery.scene import Source
from batchfuse.job import Job
from batchfuse.plan import make_plan
from batchfuse.recipe import Recipe
from batchfuse.task import Compute, ScenePixels, Work, fuse_window, read_scene, survey_tile

Array = NDArray[Any]

SIZES = (128, 200, 512)
STRATEGIES = ("l1", "mean", "average", "detail")
RESAMPLINGS = ("nearest", "bilinear", "cubic", "average")
SINGLE, OTHER_KERNELS, SURVEYED = 1e-6, 2e-6, 1e-7
DOUBLE, TOO_SMALL = 1e-13, 1e-10
MOSAIC, CELLS, OVERLAP = 2000, 4, 64
SECTIONS = ("tno", "mosaic", "warped", "float64", "reading")
CORES = len(os.sched_getaffinity(0))


@dataclass
class Scene:
    """The files of a scene, by role, and which role is the reference."""

    name: str
    files: dict[str, Path]
    reference: str

    def work(self, strategy: str, resampling: str = "bilinear") -> Work:
        """All that has to be known before a tile is fused, but for the survey."""
        recipe = Recipe.model_validate(
            {
                "inputs": {role: str(path) for role, path in self.files.items()},
                "reference": self.reference,
                "grid": {"resampling": resampling},
                "fusion": {"strategy": strategy},
            }
        )
        plan = make_plan(recipe)
        if plan.failures:
            sys.exit(f"{self.name}: {plan.failures[0].reason}")
        job = plan.jobs[0]
        scalings = tuple(scaling_of(source, job) for source in job.scene.sources)
        return Work(uuid.uuid4().hex, job, scalings, (), Compute("cpu", "float32", CORES))


def scaling_of(source: Source, job: Job) -> Scaling:
    """What a run finds out first, one window after the other."""
    alignment = job.alignments[job.scene.sources.index(source)]
    return measured_scaling(source, alignment, None, None, starmap)


# --- the scenes


def tno_pairs(folder: Path, count: int) -> Iterator[Scene]:
    """The pairs, the smaller ones first."""
    pairs = sorted(folder.glob("IR*.png"), key=lambda path: (image_of(path).size, path.name))
    for infrared in pairs[:count]:
        visible = infrared.with_name(infrared.name.replace("IR", "VIS"))
        yield Scene(f"TNO {infrared.stem[2:]}", {"infrared": infrared, "visible": visible}, "visible")


def mosaic(folder: Path, scratch: Path) -> Scene:
    """Sixteen TNO pairs, mirrored to one size and faded into each other: one raster without seams."""
    files = {}
    for role, pattern in (("infrared", "IR*.png"), ("visible", "VIS*.png")):
        images = sorted(folder.glob(pattern))[: CELLS**2]
        files[role] = scratch / f"mosaic_{role}.tif"
        write(
            files[role], faded([image_of(path) for path in images]), Affine(10, 0, 5e5, 0, -10, 5.6e6), 32632
        )
    return Scene(f"mosaic of {MOSAIC}²", files, "visible")


def faded(images: list[Array]) -> Array:
    """Images as the cells of a raster whose overlaps fade from one to the next, uint8."""
    edge = (MOSAIC + (CELLS - 1) * OVERLAP) // CELLS
    ramp = np.minimum(1, (np.minimum(np.arange(edge), np.arange(edge)[::-1]) + 0.5) / OVERLAP)
    weight = np.outer(ramp, ramp)
    total, weights = np.zeros((2, MOSAIC, MOSAIC))
    for number, image in enumerate(images):
        top, left = ((edge - OVERLAP) * place for place in divmod(number, CELLS))
        missing = [max(0, edge - n) for n in image.shape]
        cell = np.pad(image, [(0, n) for n in missing], mode="symmetric")[:edge, :edge]
        total[top : top + edge, left : left + edge] += weight * cell
        weights[top : top + edge, left : left + edge] += weight
    return np.rint(total / weights).astype(np.uint8)


def warped_scenes(folder: Path, scratch: Path) -> Iterator[Scene]:
    """Each pair whose grids differ, and pairs one of which was brought elsewhere before."""
    mismatch = {
        "nir": folder / "pair_crs_mismatch" / "rgb1_fake_nir_epsg3857.tif",
        "optical": folder / "pair_crs_mismatch" / "rgb1.tif",
    }
    yield Scene("crs_mismatch, onto 3857", mismatch, "nir")
    yield Scene("crs_mismatch, onto UTM (colour)", mismatch, "optical")
    place = folder / "pair_landsat8_pan_marburg"
    bands = {role: next(place.glob(f"*_{band}.TIF")) for role, band in (("thermal", "B10"), ("pan", "B8"))}
    yield Scene("pan_marburg, 30 to 15 m", bands, "pan")
    yield Scene("pan_marburg, 15 to 30 m", bands, "thermal")
    place = folder / "pair_partial_overlap"
    parts = {"thermal": place / "ST_B10_window.tif", "optical": place / "SR_B4_window.tif"}
    yield Scene("partial_overlap", parts, "optical")
    for name, optical, thermal, epsg, spacing in (
        ("newengland", "*_B4_toa.tif", "*_B10_toa.tif", 3857, 120.0),  # a sixth of the thermal is NaN
        ("brazil", "*_B3.TIF", "*_B6.TIF", 32623, 15.0),
        ("greenland", "*_SR_B4.TIF", "*_ST_B10.TIF", 3413, 400.0),
    ):
        moved = scratch / f"{name}.tif"
        warp(next(folder.glob(f"pair_*{name}/{optical}")), moved, epsg, spacing)
        files = {"thermal": next(folder.glob(f"pair_*{name}/{thermal}")), "optical": moved}
        yield Scene(f"{name}, onto {epsg} at {spacing:g} m", files, "optical")
        yield Scene(f"{name}, from {epsg} at {spacing:g} m", files, "thermal")


def image_of(path: Path) -> Array:
    with rasterio.open(path) as dataset:
        return np.asarray(dataset.read(1))


def write(path: Path, pixels: Array, transform: Affine, epsg: int, nodata: float | None = None) -> None:
    """(y, x) pixels as a tiled GeoTIFF."""
    rows, columns = pixels.shape
    profile = {"driver": "GTiff", "count": 1, "height": rows, "width": columns, "dtype": pixels.dtype}
    with rasterio.open(
        path,
        "w",
        crs=f"EPSG:{epsg}",
        transform=transform,
        nodata=nodata,
        tiled=True,
        compress="deflate",
        **profile,
    ) as dataset:
        dataset.write(pixels, 1)


def warp(source: Path, path: Path, epsg: int, spacing: float) -> None:
    """A real image as GDAL brings it elsewhere, whole: from there on it is a source like any other."""
    with rasterio.open(source) as dataset:
        crs = f"EPSG:{epsg}"
        where = (dataset.width, dataset.height, *dataset.bounds)
        transform, width, height = calculate_default_transform(dataset.crs, crs, *where, resolution=spacing)
        nodata = np.nan if dataset.nodata is None else dataset.nodata
        pixels = np.full((height, width), nodata, dataset.dtypes[0])
        reproject(
            rasterio.band(dataset, 1),
            pixels,
            dst_crs=crs,
            dst_transform=transform,
            dst_nodata=nodata,
            resampling=Resampling.bilinear,
        )
    write(path, pixels, transform, epsg, nodata)


# --- whole and tiled


def plain(work: Work, pixels: ScenePixels, precision: str) -> Array:
    """The network over whole arrays at once, without tiles and inner windows: the fused luminance, (y, x)."""
    dtype, network = getattr(torch, precision), network_of(precision)
    torch.set_num_threads(CORES)
    with torch.inference_mode():
        images = [torch.from_numpy(s).to(dtype)[None, None] for s in pixels.luminances]
        features = [network.encode(image) for image in images]
        rule = rule_of(work.job.strategy, work.job.strategy_parameters)
        made = rule.merged(features, images, seen(work, pixels, features))
        del features
        return np.asarray(made.finished(network.decode(made.features))[0, 0].numpy())


def seen(work: Work, pixels: ScenePixels, features: list[torch.Tensor]) -> Survey:
    """The survey of the whole at once."""
    if work.job.strategy == "detail":
        return Moments.of(pixels.luminances, pixels.valid)
    means = [channel_mean(f)[0, 0].numpy()[there] for f, there in zip(features, pixels.valid, strict=True)]
    return Extremes(tuple(float(m.min()) for m in means), tuple(float(m.max()) for m in means))


@cache
def network_of(precision: str) -> Res2NetFuse:
    return load_weights("res2netfuse").network().to(getattr(torch, precision))


def fused_by_run(work: Work, size: int) -> tuple[Array, Survey | None]:
    """Bands, y, x, NaN where invalid, and the survey: every tile by the functions that a run's tasks call."""
    job = work.job
    shape = job.scene.grid.shape
    tiling = Tiling(shape, size, job.tiling.halo)
    asked = None if job.survey_tiling is None else Tiling(shape, size, job.survey_tiling.halo)
    work = replace(work, job=replace(job, tiling=tiling, survey_tiling=asked))
    if asked is not None:
        surveys = [survey for tile in asked for survey in survey_tile(work, tile.index)]
        work = replace(work, surveys=(reduce(merged, surveys),))
    fused = np.full((3 if job.reference.is_colour else 1, *shape), np.inf, np.float32)
    for tile in tiling:
        values, valid = fuse_window(work, tile.core, tile.window)
        fused[(slice(None), *tile.core.slices)] = np.where(valid, values, np.nan)
    return fused, next(iter(work.surveys), None)


def merged(one: Survey, other: Survey) -> Survey:
    return one.merge(other)


def at_once(work: Work, pixels: ScenePixels, survey: Survey | None) -> Array:
    """The fused luminance, (y, x), by the fuser without inner windows."""
    fuser = fuser_of(work, "float32", inner=1 << 30)
    return fuser.fuse(pixels.luminances, Window.whole(pixels.luminances.shape[1:]), survey)


def fuser_of(work: Work, precision: str, inner: int | None = None) -> Res2NetFuser:
    told = work.job.strategy_parameters
    return Res2NetFuser(work.job.strategy, "res2netfuse", "cpu", precision, CORES, inner, told)


def shown(pixels: ScenePixels, fused: Array) -> Array:
    """Bands, y, x of a fused luminance, NaN where invalid."""
    bands = fused[None].copy() if pixels.colour is None else recolored(pixels.colour, fused)
    bands[:, ~pixels.shown("any")] = np.nan
    return bands


def fused_luminance(work: Work, fuser: Res2NetFuser, size: int, halo: int) -> Array:
    """The fused luminance, (y, x), in the fuser's precision, with any halo."""
    shape = work.job.scene.grid.shape
    survey = None
    if work.job.survey_tiling is not None:
        surveys = []
        for tile in Tiling(shape, size, work.job.survey_tiling.halo):
            pixels = read_scene(work, tile.window)
            core = tile.core.relative_to(tile.window)
            surveys.append(fuser.survey(pixels.luminances, pixels.valid, core))
        survey = reduce(merged, surveys)
    fused = np.full(shape, np.nan, fuser.precision)
    for tile in Tiling(shape, size, halo):
        pixels = read_scene(work, tile.window)
        fused[tile.core.slices] = fuser.fuse(pixels.luminances, tile.core.relative_to(tile.window), survey)
    return fused


def difference(one: Array, other: Array) -> float:
    """The largest; infinite where one is NaN and the other is not."""
    if not np.array_equal(np.isnan(one), np.isnan(other)):
        return np.inf
    return float(np.nanmax(np.abs(one.astype(np.float64) - other)))


# --- the tables


@dataclass
class Tables:
    """Prints figures against their limits and remembers whether one was beyond."""

    broken: bool = False

    def figure(self, value: float, within: bool) -> str:
        """The value, marked where it is not within its limit."""
        self.broken |= not within
        return f"{value:9.1e}{' ' if within else '!'}"

    def single(self, scenes: Iterator[Scene]) -> None:
        """Tiles, and other ways to fuse the whole, against one tile; surveys against its survey."""
        columns = [*(f"tile {size}" for size in SIZES), "at once", "plain", "survey"]
        titles = "".join(f"{title:>9} " for title in columns)
        print(f"\nfloat32{'':27}{'pixels':>11}  strategy{titles}{'s':>6}")
        for scene in scenes:
            for strategy in STRATEGIES:
                self._single(scene, strategy)

    def _single(self, scene: Scene, strategy: str) -> None:
        started = time.perf_counter()
        work = scene.work(strategy)
        shape = work.job.scene.grid.shape
        one, survey = fused_by_run(work, max(shape))
        found = [fused_by_run(work, size) for size in SIZES]
        pixels = read_scene(work, Window.whole(shape))
        off = [difference(image, one) for image, _ in found]
        off.append(difference(one, shown(pixels, at_once(work, pixels, survey))))
        other = difference(one, shown(pixels, plain(work, pixels, "float32")))
        figures = "".join(self.figure(value, value <= SINGLE) for value in off)
        figures += self.figure(other, other <= OTHER_KERNELS)
        surveys = [away(seen, survey) for _, seen in found if seen is not None and survey is not None]
        told = self.figure(max(surveys), max(surveys) <= SURVEYED) if surveys else f"{'':10}"
        seconds = time.perf_counter() - started
        print(
            f"{scene.name:34}{f'{shape[0]}x{shape[1]}':>11}  {strategy:8}{figures}{told}{seconds:6.1f}",
            flush=True,
        )

    def double(self, scenes: Iterator[Scene]) -> None:
        """Tiles against the plain network, all in float64, with the halo and with one pixel less."""
        print(f"\nfloat64{'':27}{'pixels':>11}  strategy  tile 128  tile 200  halo - 1")
        for scene in scenes:
            for strategy in ("l1", "mean", "detail"):
                work = scene.work(strategy)
                shape = work.job.scene.grid.shape
                # a scene smaller than a tile is cut all the same
                sizes = [min(size, max(shape) * 2 // 3) for size in SIZES[:2]]
                wanted = plain(work, read_scene(work, Window.whole(shape)), "float64")
                fuser, halo = fuser_of(work, "float64"), max(work.job.tiling.halos)
                off = [difference(fused_luminance(work, fuser, size, halo), wanted) for size in sizes]
                less = difference(fused_luminance(work, fuser, sizes[0], halo - 1), wanted)
                figures = "".join(self.figure(value, value <= DOUBLE) for value in off)
                figures += self.figure(less, less > TOO_SMALL)
                print(f"{scene.name:34}{f'{shape[0]}x{shape[1]}':>11}  {strategy:8}{figures}", flush=True)

    def reading(self, scenes: Iterator[Scene], count: int) -> None:
        """Windows whose luminances, validity or colours are not those of the whole, bit for bit."""
        print(f"\nreading{'':27}{'pixels':>11}  valid" + "".join(f"{name:>14}" for name in RESAMPLINGS))
        for scene in scenes:
            told = []
            for resampling in RESAMPLINGS:
                work = scene.work("l1", resampling)
                whole = read_scene(work, Window.whole(work.job.scene.grid.shape))
                wrong = sum(not same_bits(work, whole, w) for w in some_windows(whole.valid.shape[1:], count))
                self.broken |= wrong > 0
                told.append(f"{wrong} of {count}{'!' if wrong else ' '}")
            shape = f"{whole.valid.shape[1]}x{whole.valid.shape[2]}"
            share = whole.valid.mean((1, 2)).min()
            print(f"{scene.name:34}{shape:>11}  {share:5.0%}" + "".join(f"{t:>14}" for t in told), flush=True)


def away(one: Survey, other: Survey) -> float:
    """The largest difference between two surveys; moments are exact."""
    if not isinstance(one, Extremes) or not isinstance(other, Extremes):
        return 0 if one == other else np.inf
    ends = zip((*one.minimum, *one.maximum), (*other.minimum, *other.maximum), strict=True)
    return max(abs(a - b) for a, b in ends)


def some_windows(shape: tuple[int, ...], count: int) -> Iterator[Window]:
    """Windows of all sizes, anywhere."""
    random = np.random.default_rng(0)
    for _ in range(count):
        sizes = [int(np.ceil(n ** random.random())) for n in shape]
        start = tuple(int(random.integers(0, n - size + 1)) for n, size in zip(shape, sizes, strict=True))
        yield Window(start, tuple(a + size for a, size in zip(start, sizes, strict=True)))


def same_bits(work: Work, whole: ScenePixels, window: Window) -> bool:
    found = read_scene(work, window)
    at = (slice(None), *window.slices)
    pairs = [(found.luminances, whole.luminances), (found.valid, whole.valid), (found.colour, whole.colour)]
    return all(one is None or np.array_equal(one, other[at]) for one, other in pairs if other is not None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=21, help="how many TNO pairs, the smallest first")
    parser.add_argument("--windows", type=int, default=60, help="how many windows are read of each scene")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("rasterio").setLevel(logging.CRITICAL)
    folder, tables = arguments.folder.resolve(), Tables()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        sections: dict[str, Callable[[], None]] = {
            "tno": lambda: tables.single(tno_pairs(folder / "tno", arguments.pairs)),
            "mosaic": lambda: tables.single(iter([mosaic(folder / "tno", scratch)])),
            "warped": lambda: tables.single(warped_scenes(folder / "geo", scratch)),
            "float64": lambda: tables.double(precise_scenes(folder, scratch)),
            "reading": lambda: tables.reading(warped_scenes(folder / "geo", scratch), arguments.windows),
        }
        for section in arguments.only:
            sections[section]()
    sys.exit(1 if tables.broken else 0)


def precise_scenes(folder: Path, scratch: Path) -> Iterator[Scene]:
    """Few and small: float64 takes its time."""
    yield from tno_pairs(folder / "tno", 3)
    yield from (
        s for s in warped_scenes(folder / "geo", scratch) if s.name.startswith(("pan", "crs", "part"))
    )


if __name__ == "__main__":
    main()
