"""Kills runs and workers, flips bits and swaps chunks: the stores must become those of an undisturbed run.

    python benchmarks/faults.py [--kills 25] [--flips 60] [--swaps 20] [--seed 0]

For threads: kill -9 of the run. For processes: of the run, of a worker, and of all workers. After each kill
of a run the same command continues it; a killed worker is replaced while the run goes on. Every store is
compared, byte for byte, with that of a run nobody disturbed. A moment is a random number of tiles that are
there (none: somewhere in the start) and a random part of a second. Prints a line a kill: what was killed, the
tiles there at that time, the tiles fused again, and whether the stores are identical.

A flip changes a random bit of a random file of a complete store, of a chunk or of what lies beside them:
`verify` must name the file, and the next run mend that alone. A swap exchanges the chunks of two tiles, of
one store or of two: `verify` must name both, and the next run fuse both and no other.
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

KINDS = (("threads", "run"), ("processes", "run"), ("processes", "worker"), ("processes", "workers"))
TILE = 96
SIZE = 900


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=25, help="of each kind")
    parser.add_argument("--flips", type=int, default=60)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(folder)
        undisturbed(folder, "threads")
        bad = not flipped(folder, arguments.flips, rng, "chunks", "*.zarr/fused/0.*")
        bad |= not flipped(folder, arguments.flips, rng, "metadata", "*.zarr/**/*")
        bad |= not swapped(folder, arguments.swaps, rng)
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


def flipped(folder: Path, flips: int, rng: random.Random, what: str, pattern: str) -> bool:
    """Flips one bit after the other; whether each was found, named and repaired."""
    recipe, wanted = whole(folder), stores(folder / "wanted")
    found = repaired = 0
    files = sorted(path for path in (folder / "fused").glob(pattern) if path.is_file())
    if what == "metadata":
        files = [path for path in files if not path.name.startswith("0.") or path.parent.name != "fused"]
    for _ in range(flips):
        path = rng.choice(files)
        content = bytearray(path.read_bytes())
        bit = rng.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        found += named(path)
        fused = sum(outcome.fused for outcome in batchfuse.run(recipe).outcomes)
        repaired += fused == (what == "chunks") and stores(folder / "fused") == wanted
    alone = "alone and to the same bytes"
    print(f"{flips} flipped bits in {what}: {found} found and named, {repaired} repaired {alone}", flush=True)
    return repaired == found == flips


def swapped(folder: Path, swaps: int, rng: random.Random) -> bool:
    """Swaps two chunks after the other; whether each was found, named and repaired."""
    recipe, wanted = whole(folder), stores(folder / "wanted")
    found = repaired = 0
    chunks = sorted((folder / "fused").glob("*.zarr/fused/0.*"))
    for _ in range(swaps):
        one, other = rng.sample(chunks, 2)
        contents = one.read_bytes(), other.read_bytes()
        one.write_bytes(contents[1])
        other.write_bytes(contents[0])
        found += named(one) and named(other)
        fused = sum(outcome.fused for outcome in batchfuse.run(recipe).outcomes)
        repaired += fused == 2 and stores(folder / "fused") == wanted
    print(f"{swaps} swaps of two chunks: {found} found and named, {repaired} repaired", flush=True)
    return repaired == found == swaps


def whole(folder: Path) -> batchfuse.Recipe:
    """The recipe of the scenes, whose stores are as an undisturbed run left them."""
    shutil.rmtree(folder / "fused", ignore_errors=True)
    shutil.copytree(folder / "wanted", folder / "fused")
    return batchfuse.Recipe.load(folder / "recipe.yaml")


def named(path: Path) -> bool:
    """Whether `verify` finds something wrong with a file's store, and names the file or all of its store."""
    store = next(folder for folder in path.parents if folder.suffix == ".zarr")
    told = CliRunner().invoke(commands, ["verify", str(store)])
    name = path.relative_to(store).as_posix()
    return told.exit_code == 1 and (f": {name}: " in told.output or f"damaged: {store}" in told.output)


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
