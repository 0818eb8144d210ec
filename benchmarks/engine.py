"""What the engine itself costs: tiles a second with a fuser that does nothing, and the driver's memory.

    python benchmarks/engine.py                 threads and processes, 1,000 and 10,000 tiles
    python benchmarks/engine.py --halves        two workers against two runs that do half each

The first prints, for each case, the tiles a second between the first and the last (reading, encoding and
writing of tiny tiles included), the peak resident memory of the process that drives (Dask's scheduler is
part of it), and of the largest worker. The second fuses with the network and prints the ratio of the wall
times of whole commands, taken in turn.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchfuse.report.progress import FusedTile, Silence

TILE = 64
CASES = (("threads", 1_000), ("threads", 10_000), ("processes", 1_000), ("processes", 10_000))


class Nothing:
    """A fuser that hands back its first source: what is left is the engine."""

    device, precision = "cpu", "float32"

    def __init__(self, **_: Any) -> None:
        pass

    def fuse(self, sources: NDArray[Any], core: Any, survey: Any) -> NDArray[np.float32]:  # noqa: ARG002
        return np.ascontiguousarray(sources[(0, *core.slices)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs=3, metavar=("CLUSTER", "TILES", "FOLDER"), help="one case, here")
    parser.add_argument("--halves", action="store_true", help="two workers against two runs of half each")
    parser.add_argument("--rounds", type=int, default=3, help="of --halves")
    parser.add_argument("--pairs", type=int, default=8, help="of 2048² pixels, of --halves")
    arguments = parser.parse_args()
    if arguments.case:
        cluster, tiles, folder = arguments.case
        run_case(cluster, int(tiles), Path(folder))
    elif arguments.halves:
        compare_halves(arguments.rounds, arguments.pairs)
    else:
        run_cases()


def run_cases() -> None:
    print(f"{'cluster':>10} {'tiles':>7} {'tiles/s':>8} {'driver MB':>10} {'worker MB':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for cluster, tiles in CASES:
            command = [sys.executable, __file__, "--case", cluster, str(tiles), folder]
            subprocess.run(command, check=True)


class Clock(Silence):
    """Takes the time of the first and of the last tile."""

    def __init__(self) -> None:
        self.first = self.last = 0.0
        self.tiles = 0

    def tile(self, scene: str, tile: FusedTile) -> None:  # noqa: ARG002
        self.last = time.monotonic()
        self.first = self.first or self.last
        self.tiles += 1


def run_case(cluster: str, tiles: int, folder: Path) -> None:
    """One case in this process, whose peak memory is its own."""
    import batchfuse
    from batchfuse.profile import Profile

    edge = round(tiles**0.5)
    make_pair(folder, f"pair{tiles}", edge * TILE)
    strategies = {"l1": batchfuse.Strategy("l1", 0, None, "nothing")}
    # by the module's name and not __main__: workers have to find it
    batchfuse.register(batchfuse.Method("nothing", "engine:Nothing", strategies, ""))
    recipe = batchfuse.Recipe.model_validate(
        {
            "inputs": {role: f"pair{tiles}_{role}.tif" for role in ("thermal", "optical")},
            "folder": folder,
            "fusion": {"method": "nothing"},
            "tiles": {"size": TILE},
            "output": {"path": f"{cluster}{tiles}"},
        }
    )
    profile = Profile(cluster=cluster, threads=2 if cluster == "threads" else 1)
    clock = Clock()
    assert batchfuse.run(recipe, profile, progress=clock).exit_code == 0
    rate = (clock.tiles - 1) / (clock.last - clock.first)
    driver, worker = (
        resource.getrusage(who).ru_maxrss / 1000 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(f"{cluster:>10} {clock.tiles:>7} {rate:>8.0f} {driver:>10.0f} {worker:>10.0f}", flush=True)


def compare_halves(rounds: int, pairs: int) -> None:
    """Wall time of one run on two workers, and of two runs at a time that have half of the scenes each."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for number in range(pairs):
            make_pair(folder, f"{'ab'[number % 2]}{number}", 2048)
        (folder / "two.yaml").write_text("cluster: processes\nworkers: 2\nthreads: 1\n")
        (folder / "one.yaml").write_text("cluster: threads\nthreads: 1\n")
        inputs = "inputs:\n  thermal: '{scene}_thermal.tif'\n  optical: '{scene}_optical.tif'\n"
        (folder / "recipe.yaml").write_text(f"{inputs}tiles: {{size: 512}}\n")
        ratios = []
        for number in range(rounds):
            together = timed(run_of(folder, "two.yaml", f"together{number}", "*"))
            # a core each, so that neither takes both for the network's own threads
            halves = [
                ["taskset", "-c", str(core), *run_of(folder, "one.yaml", f"{half}{number}", f"{half}*")]
                for core, half in enumerate("ab")
            ]
            apart = timed(*halves)
            ratios.append(apart / together)
            print(f"two workers {together:.1f} s, two runs {apart:.1f} s: {ratios[-1]:.3f}", flush=True)
        print(f"median of the ratios: {float(np.median(ratios)):.3f} (1: no loss by working together)")


def run_of(folder: Path, profile: str, output: str, only: str) -> list[str]:
    run = [sys.executable, "-m", "batchfuse", "run", str(folder / "recipe.yaml"), "-q", "--only", only]
    return [*run, "--profile", str(folder / profile), "--set", f"output.path={output}"]


def timed(*commands: list[str]) -> float:
    """Wall time until all of the commands, begun together, have ended."""
    began = time.monotonic()
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait() for process in processes] == [0] * len(processes)
    return time.monotonic() - began


def make_pair(folder: Path, name: str, size: int) -> None:
    """Two registered images of noise, in blocks, unless they are there."""
    import rasterio
    from affine import Affine

    for seed, role in enumerate(("thermal", "optical")):
        path = folder / f"{name}_{role}.tif"
        if path.exists():
            continue
        pixels = np.random.default_rng(seed).integers(0, 4000, (size, size)).astype(np.uint16)
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            width=size,
            height=size,
            count=1,
            dtype="uint16",
            crs="EPSG:32632",
            transform=Affine(10, 0, 500_000, 0, -10, 5_600_000),
            tiled=True,
        ) as dataset:
            dataset.write(pixels, 1)


if __name__ == "__main__":
    main()
