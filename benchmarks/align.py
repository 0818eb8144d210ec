"""How exactly and how fast sources come onto the reference grid, beside GDAL's warper.

python benchmarks/align.py [FOLDER]

FOLDER holds folders `pair*` of GeoTIFFs whose grids differ. Prints a row for each pair of grids and
resampling: the largest difference between windows with a halo and the whole, ours and WarpedVRT's; the
median and the largest difference between our whole and GDAL's, as a share of the range (where the source
is finer we average and GDAL widens its kernels: not one question); and megapixels a second of CPU time
for windows of 1024, reading included: ours, WarpedVRT as it comes, and WarpedVRT with its kernel pinned
and its transform exact, which ours is compared with.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from batchfuse.geometry.grid import Grid
from batchfuse.geometry.tiling import Tiling
from batchfuse.geometry.window import Window
from batchfuse.imagery.align import Alignment, align
from batchfuse.imagery.resample import resampled

METHODS = ("nearest", "bilinear", "cubic", "average")
TILE, HALO = 397, 12  # tiles of an odd size, so that no window begins where a cell or a block does
SPEED = 1024
Pixels = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Case:
    """A source file and the grid it is brought onto."""

    name: str
    path: Path
    reference: Grid


def grid_of(path: Path) -> Grid:
    with rasterio.open(path) as file:
        return Grid(file.shape, file.transform, file.crs.to_wkt())


def synthetic(folder: Path) -> Iterator[Case]:
    """Noise in tiled, compressed files, across UTM zones: upwards, with 5 % NaN, downwards."""
    for name, source, target, share in (
        ("30 to 10 m, zones 33 to 32", 30.0, 10.0, 0.0),
        ("30 to 10 m, 5 % NaN", 30.0, 10.0, 0.05),
        ("10 to 30 m, zones 33 to 32", 10.0, 30.0, 0.0),
        ("10 to 12 m, zones 33 to 32", 10.0, 12.0, 0.0),
    ):
        n = 2000 if target < 30 else 1100
        reference = Grid((n, n), Affine(target, 0, 480000, 0, -target, 5400000), CRS(32632).to_wkt())
        yield Case(
            name,
            noise_around(reference, folder / f"{len(name)}{source}{target}.tif", source, share),
            reference,
        )


def noise_around(reference: Grid, path: Path, size: float, share: float) -> Path:
    rows, columns = reference.shape
    x, y = reference.affine @ (columns / 2, rows / 2)
    x, y = Transformer.from_crs(reference.crs, 32633, always_xy=True).transform(x, y)
    n = int(columns * reference.affine.a * 1.2 / size)
    generator = np.random.default_rng(0)
    values = generator.random((n, n), dtype=np.float32)
    values[generator.random((n, n)) < share] = np.nan
    profile = {"driver": "GTiff", "count": 1, "dtype": "float32", "nodata": float("nan"), "crs": "EPSG:32633"}
    affine = Affine(size, 0, x - size * n / 2, 0, -size, y + size * n / 2)
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    with rasterio.open(path, "w", height=n, width=n, transform=affine, **profile, **layout) as file:
        file.write(values, 1)
    return path


def real(folder: Path) -> Iterator[Case]:
    """Each two files of a folder that lie on different grids, one way and the other."""
    for pair in sorted(p for p in folder.iterdir() if p.is_dir() and p.name.startswith("pair")):
        grids: dict[Grid, Path] = {}
        for path in sorted(pair.iterdir()):
            grids.setdefault(grid_of(path), path)
        for (reference, _), (_, path) in itertools.permutations(grids.items(), 2):
            yield Case(f"{pair.name}: {path.stem[-12:]}", path, reference)


class Read:
    """Windows of a file as values of 0..1 and validity."""

    def __init__(self, path: Path) -> None:
        self.file = rasterio.open(path)
        whole = self.file.read(1, masked=True)
        self.top = float(np.ma.masked_invalid(whole).max())

    def __call__(self, window: Window) -> tuple[Pixels, Mask]:
        (top, left), (bottom, right) = window.start, window.stop
        values = self.file.read(1, window=((top, bottom), (left, right)), out_dtype="float32")
        nodata = self.file.nodata
        valid = np.isfinite(values) if nodata is None or np.isnan(nodata) else values != nodata
        return values[None] / np.float32(self.top), valid


class Gdal:
    """The same of a WarpedVRT."""

    def __init__(self, read: Read, alignment: Alignment, method: str, pinned: bool) -> None:
        self.top, reference = read.top, alignment.reference
        sy, sx = alignment.footprint
        exactly: dict[str, Any] = {"tolerance": 1e-9, "XSCALE": 1 / sx, "YSCALE": 1 / sy} if pinned else {}
        self.vrt = WarpedVRT(
            read.file,
            crs=reference.crs,
            transform=reference.affine,
            height=reference.shape[0],
            width=reference.shape[1],
            resampling=Resampling[method],
            nodata=np.nan,
            dtype="float32",
            **exactly,
        )

    def __call__(self, window: Window) -> tuple[Pixels, Mask]:
        (top, left), (bottom, right) = window.start, window.stop
        values = self.vrt.read(1, window=((top, bottom), (left, right)))
        return values[None] / np.float32(self.top), np.isfinite(values)


Warp = Callable[[Window], tuple[Pixels, Mask]]


def difference(one: tuple[Pixels, Mask], other: tuple[Pixels, Mask]) -> NDArray[np.float64]:
    both = one[1] & other[1]
    off = np.abs(one[0][0].astype(np.float64) - other[0][0])[both]
    return off if off.size else np.zeros(1)


def windowed(warp: Warp, whole: tuple[Pixels, Mask]) -> float:
    """Largest difference of haloed tiles from the whole; 1 where they differ in what is valid."""
    largest = 0.0
    for tile in Tiling(whole[1].shape, TILE, HALO):
        at = tile.window.slices
        found = warp(tile.window)
        largest = max(largest, difference(found, (whole[0][:, *at], whole[1][at])).max())
        if not np.array_equal(found[1], whole[1][at]):
            largest = 1.0
    return float(largest)


def speed(warp: Warp, shape: tuple[int, int], seconds: float = 1.0) -> float:
    """Megapixels a second of this thread's CPU time, the best of some windows; NaN for small images."""
    if min(shape) < SPEED:
        return float("nan")  # GDAL keeps all of it in its cache
    start = tuple(max(0, (n - SPEED) // 2) for n in shape)
    stop = tuple(min(n, a + SPEED) for n, a in zip(shape, start, strict=True))
    window, best, begun = Window(start, stop), float("inf"), time.perf_counter()
    warp(window)
    while best == float("inf") or time.perf_counter() - begun < seconds:
        before = time.thread_time()
        warp(window)
        best = min(best, time.thread_time() - before)
    return window.size / best / 1e6


def row(case: Case, method: str) -> str:
    read = Read(case.path)
    alignment = align(case.reference, grid_of(case.path))

    def ours(window: Window) -> tuple[Pixels, Mask]:
        return resampled(alignment, window, read, method, channels=1)

    plain, pinned = (Gdal(read, alignment, method, exact) for exact in (False, True))
    all_of_it = Window.whole(case.reference.shape)
    whole = ours(all_of_it)
    off = difference(whole, pinned(all_of_it))
    cells = [
        case.name,
        method,
        f"{windowed(ours, whole):.1e}",
        f"{windowed(plain, plain(all_of_it)):.1e}",
        f"{np.median(off):.1e}",
        f"{off.max():.1e}",
        f"{(off > 1e-3).mean():.2%}",
        *(f"{speed(warp, case.reference.shape):.1f}" for warp in (ours, plain, pinned)),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    print(
        "| pair | resampling | window-whole, ours | GDAL's | median off GDAL | largest | over 1e-3 |", end=""
    )
    print(" Mpixel/s ours | WarpedVRT | pinned |\n|" + "---|" * 10)
    with tempfile.TemporaryDirectory() as folder:
        cases = list(synthetic(Path(folder)))
        cases += real(Path(sys.argv[1])) if len(sys.argv) > 1 else []
        for case, method in itertools.product(cases, METHODS):
            print(row(case, method), flush=True)


if __name__ == "__main__":
    main()
