"""The fuser against the plain network on the whole image, on the same CPU cores.

python benchmarks/cpu.py                      a synthetic pair of 2048 x 2048
python benchmarks/cpu.py thermal.png optical.png
python benchmarks/cpu.py --size 1024 --rounds 5 --cores 1

Each way runs in a process of its own, one after the other, round by round, so that a machine with other work
treats them alike; the least of the rounds counts. CPU seconds are what all threads spent, and suffer less
from other work than wall seconds do.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pair = NDArray[np.float32]

TILE = 1024
TUNED = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_TOP_PAD_": str(1 << 26),
}
WAYS = {
    "whole, eager": "eager",
    "whole, eager, allocator tuned": "eager",
    "tiles, one thread a core": "tiles",
    "tiles one by one, all cores": "serial",
}


def synthetic(size: int) -> Pair:
    """Two pictures with the falling spectrum of photographs, edges, and things only one of them shows."""
    random = np.random.default_rng(0)
    rows, columns = np.meshgrid(np.fft.fftfreq(size), np.fft.rfftfreq(size), indexing="ij")
    falling = 1 / np.maximum(np.hypot(rows, columns), 1 / size) ** 1.2
    sources = []
    for _ in range(2):
        noise = np.fft.rfft2(random.standard_normal((size, size)))
        picture = np.fft.irfft2(noise * falling, s=(size, size))
        for _ in range(60):
            top, left = random.integers(size, size=2)
            height, width = random.integers(4, max(5, size // 8), size=2)
            picture[top : top + height, left : left + width] += random.normal(0, picture.std())
        low, high = np.percentile(picture, [0.1, 99.9])
        sources.append(np.clip((picture - low) / (high - low), 0, 1))
    return np.stack(sources).astype(np.float32)


def pair_of(paths: list[Path], size: int) -> Pair:
    """The pair of two image files, gray and scaled to 0..1, or a synthetic one."""
    if not paths:
        return synthetic(size)
    from PIL import Image

    pictures = [np.asarray(Image.open(path).convert("L"), np.float32) / 255 for path in paths]
    rows, columns = (min(p.shape[axis] for p in pictures) for axis in (0, 1))
    return np.stack([p[:rows, :columns] for p in pictures])


def eager(pair: Pair, strategy: str, cores: int) -> Callable[[], Pair]:
    """The network as its module is, on the whole image."""
    import torch

    from batchfuse.fusion.extremes import Extremes
    from batchfuse.fusion.strategies import channel_mean, fused_features
    from batchfuse.fusion.weights import load_weights

    torch.set_num_threads(cores)
    network = load_weights("res2netfuse").network()

    def fuse() -> Pair:
        with torch.no_grad():
            features = [network.encode(torch.from_numpy(source)[None, None]) for source in pair]
            means = [channel_mean(feature) for feature in features] if strategy == "mean" else []
            survey = Extremes(tuple(float(m.min()) for m in means), tuple(float(m.max()) for m in means))
            fused: Pair = network.decode(fused_features(strategy, features, survey))[0, 0].numpy()
        return fused

    return fuse


def tiles(pair: Pair, strategy: str, python_threads: int, torch_threads: int) -> Callable[[], Pair]:
    """The fuser, tile by tile, as a run does it."""
    from batchfuse.fusion.fuser import load_fuser
    from batchfuse.fusion.methods import method
    from batchfuse.fusion.surveys import Survey
    from batchfuse.geometry.tiling import Tile, Tiling

    asked = method("res2netfuse").strategy(strategy)
    fuser = load_fuser(strategy=strategy, device="cpu", threads=torch_threads)
    fused = np.empty(pair.shape[1:], np.float32)
    valid = np.ones(pair.shape, bool)

    def survey(tile: Tile) -> Survey:
        at = (slice(None), *tile.window.slices)
        return fuser.survey(pair[at], valid[at], tile.core.relative_to(tile.window))

    def fuse_tile(tile: Tile, survey: Survey | None) -> None:
        window = pair[(slice(None), *tile.window.slices)]
        fused[tile.core.slices] = fuser.fuse(window, tile.core.relative_to(tile.window), survey)

    def fuse() -> Pair:
        found: Survey | None = None
        with ThreadPoolExecutor(python_threads) as pool:
            if asked.survey_halo is not None:
                for seen in pool.map(survey, Tiling(fused.shape, TILE, asked.survey_halo)):
                    found = found.merge(seen) if found else seen
            list(pool.map(lambda tile: fuse_tile(tile, found), Tiling(fused.shape, TILE, asked.halo)))
        return fused

    return fuse


def measured(fuse: Callable[[], Pair], out: Path) -> dict[str, float]:
    """Seconds, CPU seconds and peak memory of one go, imports and weights apart."""
    wall, cpu = time.perf_counter(), time.process_time()
    fused = fuse()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    np.save(out, fused)
    return {"wall": wall, "cpu": cpu, "peak": peak}


def in_process(way: str, pair: Path, out: Path, options: argparse.Namespace) -> dict[str, float]:
    """What ``measured`` says of a way, in a fresh process."""
    kind = WAYS[way]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    environment |= TUNED if "tuned" in way else {}
    environment["OMP_NUM_THREADS"] = "1" if kind == "tiles" else str(options.cores)
    arguments = ["--way", kind, "--pair", pair, "--out", out]
    arguments += ["--cores", options.cores, "--strategy", options.strategy]
    done = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(options: argparse.Namespace) -> None:
    """Prints the table."""
    best: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        pair = Path(folder, "pair.npy")
        np.save(pair, pair_of(options.images, options.size))
        shape = np.load(pair, mmap_mode="r").shape
        for _ in range(options.rounds):
            for number, way in enumerate(WAYS):
                found = in_process(way, pair, Path(folder, f"{number}.npy"), options)
                before = best.get(way, found)
                best[way] = {key: min(before[key], found[key]) for key in found}
        images = [np.load(Path(folder, f"{number}.npy")) for number in range(len(WAYS))]
    print(f"\n{shape[1]} x {shape[2]}, {shape[0]} sources, {options.strategy}, {options.cores} cores")
    print(f"{'':32}{'s':>7}{'CPU s':>8}{'times':>7}{'tuned':>7}{'MB':>7}{'share':>7}  difference")
    first, second = (best[way] for way in list(WAYS)[:2])
    for way, image in zip(WAYS, images, strict=True):
        b = best[way]
        print(
            f"{way:32}{b['wall']:7.2f}{b['cpu']:8.2f}{first['wall'] / b['wall']:7.2f}"
            f"{second['wall'] / b['wall']:7.2f}{b['peak']:7.0f}{b['peak'] / first['peak']:7.2f}"
            f"  {np.abs(image - images[0]).max():.1e}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("images", nargs="*", type=Path, help="two image files in place of the synthetic pair")
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--strategy", default="l1")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    for hidden in ("--way", "--pair", "--out"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way is None:
        compare(options)
        return
    pair: Any = np.load(options.pair)
    if options.way == "eager":
        fuse = eager(pair, options.strategy, options.cores)
    elif options.way == "tiles":
        fuse = tiles(pair, options.strategy, options.cores, 1)
    else:
        fuse = tiles(pair, options.strategy, 1, options.cores)
    print(json.dumps(measured(fuse, Path(options.out))))


if __name__ == "__main__":
    main()
