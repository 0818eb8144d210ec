"""Kills runs and workers at random moments; the continued stores must be those of an undisturbed run.

    python benchmarks/faults.py [--kills 20] [--seed 0]

For threads: kill -9 of the run. For processes: of the run, and of single workers. After each kill of a run
the same command continues it; a killed worker is replaced while the run goes on. Every store is compared,
byte for byte, with that of a run nobody disturbed. A moment is a random number of tiles that are there
(none: somewhere in the start) and a random part of a second. Prints a line a kill: what was killed, the
tiles there at that time, the tiles fused again, and whether the stores are identical.
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
from engine import make_pair

TILE = 96
SIZE = 900


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(folder)
        bad = 0
        for cluster, victim in (("threads", "run"), ("processes", "run"), ("processes", "worker")):
            undisturbed(folder, cluster)
            for number in range(arguments.kills):
                bad += not killed_once(folder, cluster, victim, rng, number)
        print(f"{3 * arguments.kills} kills, {bad} stores that differ")
        sys.exit(bad > 0)


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


def killed_once(folder: Path, cluster: str, victim: str, rng: random.Random, number: int) -> bool:
    """Kills once, continues if need be, and says whether the stores are those of an undisturbed run."""
    shutil.rmtree(folder / "fused", ignore_errors=True)
    wait_for = rng.randrange(chunks(folder / "wanted"))
    with subprocess.Popen(command(folder, cluster), stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and chunks(folder / "fused") < wait_for:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5) if wait_for else rng.uniform(0, 4))
        there = chunks(folder / "fused")
        found = victims(process.pid) if victim == "worker" else [psutil.Process(process.pid)]
        for each in found[:1]:
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
        f"{number:>3} {cluster:>9} {victim:>6} killed with {there:>3} tiles there, exit code {code}, "
        f"{again} fused twice: {'identical' if same and not left else f'DIFFERENT {left}'}",
        flush=True,
    )
    return same and not left


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
