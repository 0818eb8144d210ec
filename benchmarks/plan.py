"""How long a plan of many scenes takes, and how long ``batchfuse --help``.

    python benchmarks/plan.py [--pairs 1000] [--profile]

Makes pairs of small GeoTIFFs in a temporary folder, optical in one UTM zone and thermal in the next, each
pair at a place of its own. Times whole processes: the plan (limit 10 s), and the median of five calls for
help (limit 0.5 s). The exit code is 1 where a limit is broken.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.warp import transform_bounds

PLAN, HELP = 10.0, 0.5  # seconds
EDGE, SPACING, AROUND = 30, 10.0, 90.0  # pixels, metres, metres
HERE, THERE = "EPSG:32632", "EPSG:32633"
RECIPE = """inputs:
  thermal: scenes/{scene}_thermal.tif
  optical: scenes/{scene}_optical.tif
"""


def make_pairs(folder: Path, count: int) -> Path:
    """The recipe of ``count`` pairs."""
    (folder / "scenes").mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        west, north = 4e5 + 1000.0 * (number % 100), 5.6e6 - 1000.0 * (number // 100)
        south, east = north - EDGE * SPACING, west + EDGE * SPACING
        write(folder / f"scenes/{number:05}_optical.tif", HERE, west, north, SPACING, EDGE, random)
        around = (west - AROUND, south - AROUND, east + AROUND, north + AROUND)
        left, bottom, _, top = transform_bounds(HERE, THERE, *around)
        edge = int((top - bottom) / (3 * SPACING)) + 1
        write(folder / f"scenes/{number:05}_thermal.tif", THERE, left, top, 3 * SPACING, edge, random)
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE)
    return recipe


def write(
    path: Path, crs: str, left: float, top: float, spacing: float, edge: int, random: np.random.Generator
) -> None:
    """A square raster of noise."""
    profile = {"driver": "GTiff", "count": 1, "height": edge, "width": edge, "dtype": "uint16", "nodata": 0}
    transform = Affine(spacing, 0, left, 0, -spacing, top)
    with rasterio.open(path, "w", crs=crs, transform=transform, **profile) as dataset:
        dataset.write(random.integers(1, 9000, (edge, edge), np.uint16), 1)


def seconds(*arguments: str) -> tuple[float, float, str]:
    """Wall and CPU seconds of a whole process, and the last line it prints."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "batchfuse", *arguments], capture_output=True, text=True)
    took = time.perf_counter() - started
    if done.returncode:
        sys.exit(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return took, cpu, done.stdout.splitlines()[-1]


def profile(recipe: Path) -> None:
    """Where a plan's time goes."""
    from batchfuse.plan import make_plan
    from batchfuse.recipe import Recipe

    profiler = cProfile.Profile()
    profiler.runcall(make_plan, Recipe.load(recipe))
    pstats.Stats(profiler).sort_stats("cumulative").print_stats("batchfuse|rasterio|pyproj", 30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--profile", action="store_true", help="also print where the time goes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recipe = make_pairs(Path(folder), options.pairs)
        planning, cpu, last = seconds("plan", str(recipe))
        helping = statistics.median(seconds("--help")[0] for _ in range(5))
        if options.profile:
            profile(recipe)
    print(last)
    print(f"plan of {options.pairs} pairs: {planning:.2f} s, of them {cpu:.2f} s at work (limit {PLAN:g} s)")
    print(f"batchfuse --help: {helping:.3f} s, median of 5 (limit {HELP:g} s)")
    sys.exit(1 if planning > PLAN or helping > HELP else 0)


if __name__ == "__main__":
    main()
