"""Kills runs and workers, and flips bits: the stores must become those of an undisturbed run.

    python benchmarks/faults.py [--kills 25] [--flips 60] [--seed 0]

For threads: kill -9 of the run. For processes: of the run, of a worker, and of all workers. After each kill
of a run the same command continues it; a killed worker is replaced while the run goes on. Every store is
compared, byte for byte, with that of a run nobody disturbed. A moment is a random number of tiles that are
there (none: somewhere in the start) and a random part of a second. Prints a line a kill: what was killed, the
tiles there at that time, the tiles fused again, and whether the stores are identical.

A flip changes a random bit of a random chunk of a complete store: `verify` must name its tile, and the next
run fuse that tile alone. A bit that changes no pixel can't be found, and is counted apart.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from click.testing import CliRunner
from engine import make_pair

import batchfuse
from batchfuse.cli import commands
from batchfuse.geometry.window import Window
from batchfuse.storage.store import Store

KINDS = (("threads", "run"), ("processes", "run"), ("processes", "worker"), ("processes", "workers"))
TILE = 96
SIZE = 900


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=25, help="of each kind")
    parser.add_argument("--flips", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(folder)
        undisturbed(folder, "threads")
        bad = not flipped(folder, arguments.flips, rng)
        twice: list[int] = []
        differ = 0
        for cluster, victim in KINDS if arguments.kills else ():
            undisturbed(folder, cluster)
            for number in range(arguments.kills):
                same, again = killed_once(folder, cluster, victim, rng, number)
                differ += not same
                twice.append(again)
        if twice:
            work = f"{sum(twice) / len(twice):.1f} tiles fused twice (at most {max(twice)})"
            print(f"{len(twice)} kills, {differ} stores that differ, {work}")
        sys.exit(bad or differ > 0)


def flipped(folder: Path, flips: int, rng: random.Random) -> bool:
    """Flips one bit after the other; whether each that changes a pixel was found, named and repaired."""
    shutil.rmtree(folder / "fused", ignore_errors=True)
    shutil.copytree(folder / "wanted", folder / "fused")
    recipe, wanted = batchfuse.Recipe.load(folder / "recipe.yaml"), stores(folder / "wanted")
    found = repaired = harmless = others = 0
    chunks = sorted((folder / "fused").glob("*.zarr/fused/0.*"))
    while found < flips:
        chunk = rng.choice(chunks)
        good = chunk.read_bytes()
        bit = rng.randrange(8 * len(good))
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        chunk.write_bytes(bad)
        told = CliRunner().invoke(commands, ["verify", str(chunk.parent.parent)])
        if told.exit_code == 0:
            harmless += same_pixels(chunk, good, bytes(bad))
            others += not same_pixels(chunk, good, bytes(bad))
            chunk.write_bytes(good)
            continue
        found += chunk.name in told.output
        outcomes = batchfuse.run(recipe).outcomes
        alone = sum(outcome.fused for outcome in outcomes) == 1
        repaired += alone and stores(folder / "fused") == wanted
    print(
        f"{flips} flipped bits: {found} found and named, {repaired} repaired alone and to the same bytes; "
        f"{harmless} more changed no pixel, {others} were missed",
        flush=True,
    )
    return repaired == flips and not others


def same_pixels(chunk: Path, good: bytes, bad: bytes) -> bool:
    """Whether two files of a chunk mean the same pixels; the second is left there."""
    store = Store.open(chunk.parent.parent)
    images = []
    for content in (good, bad):
        chunk.write_bytes(content)
        images.append(store.read(Window.whole(store.grid.shape)).tobytes())
    return images[0] == images[1]


def prepare(folder: Path) -> None:
    """Three scenes with a survey, and profiles."""
    for name in "abc":
        make_pair(folder, name, SIZE if name == "a" else SIZE // 3)
    inputs = "inputs:\n  thermal: '{scene}_thermal.tif'\n  optical: '{scene}_optical.tif'\n"
    (folder / "recipe.yaml").write_text(f"{inputs}tiles: {{size: {TILE}}}\nfusion: {{strategy: mean}}\n")
    (folder / "threads.yaml").write_text("cluster: threads\nthreads: 2\n")
    (folder / "processes.yaml").write_text("cluster: processes\nworkers: 2\nthreads: 1\n")


def command(folder: Path, cluster: str) -> list[str]:
    run = [sys.executable, "-m", "batchfuse", "run", str(folder / "recipe.yaml"), "-q"]
    return [*run, "--profile", str(folder / f"{cluster}.yaml")]


def undisturbed(folder: Path, cluster: str) -> None:
    """A whole run; its stores are kept to compare with."""
    shutil.rmtree(folder / "fused", ignore_errors=True)
    subprocess.run(command(folder, cluster), check=True)
    if (folder / "wanted").exists():
        assert stores(folder / "fused") == stores(folder / "wanted"), "threads and processes differ"
    else:
        (folder / "fused").rename(folder / "wanted")


def killed_once(folder: Path, cluster: str, victim: str, rng: random.Random, number: int) -> tuple[bool, int]:
    """Kills once, continues if need be; whether the stores are as undisturbed, and the tiles fused twice."""
    shutil.rmtree(folder / "fused", ignore_errors=True)
    wait_for = rng.randrange(chunks(folder / "wanted"))
    with subprocess.Popen(command(folder, cluster), stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and chunks(folder / "fused") < wait_for:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5) if wait_for else rng.uniform(0, 4))
        there = chunks(folder / "fused")
        found = [psutil.Process(process.pid)] if victim == "run" else victims(process.pid)
        for each in found if victim == "workers" else found[:1]:
            each.kill()
        code = process.wait()
    again = 0
    if code:
        before = chunks(folder / "fused")
        subprocess.run(command(folder, cluster), check=True)
        report = json.loads((folder / "fused/report.json").read_text())
        again = sum(scene["fused"] for scene in report["scenes"]) - (chunks(folder / "wanted") - before)
    same = stores(folder / "fused") == stores(folder / "wanted")
    left = sorted(p.name for p in (folder / "fused").rglob("*") if "partial" in p.name or "lease" in p.name)
    print(
        f"{number:>3} {cluster:>9} {victim:>7} killed with {there:>3} tiles there, exit code {code}, "
        f"{again} fused twice: {'identical' if same and not left else f'DIFFERENT {left}'}",
        flush=True,
    )
    return same and not left, again


def victims(run: int) -> list[psutil.Process]:
    """The workers of a run, one chosen first by chance; none before they are up."""
    try:
        children = psutil.Process(run).children(recursive=True)
        workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    except psutil.Error:
        return []
    random.shuffle(workers)
    return workers


def chunks(fused: Path) -> int:
    return sum(1 for path in fused.glob("*.zarr/fused/0.*") if "partial" not in path.name)


def stores(fused: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(fused)): path.read_bytes()
        for store in sorted(fused.glob("*.zarr"))
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }


if __name__ == "__main__":
    main()
