"""A campaign of real scenes on a real Slurm, disturbed: the stores must be those of threads.

    python benchmarks/slurm.py DATA [--workers 2] [--queue debug] [--cancel 3] [--kill 2] [--folder OUT]

DATA holds ``geo/pair_*/`` (thermal and optical GeoTIFFs) and ``tno/`` (infrared and visible pictures); four
made scenes are added. All are one recipe, by a manifest. It is fused by threads, and then by jobs of Slurm,
of which some are cancelled in mid-run, and whose driver is killed (kill -9) and started again. Prints what
happened, how many tiles were fused more than once, and whether every store is the same, byte for byte.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from engine import make_pair
from real_scenes import pairs

TILE = 256
NAME = "batchfuse-disturbed"
"""Of the jobs: others of this user are left alone."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--queue", default="debug")
    parser.add_argument("--cancel", type=int, default=3, help="jobs")
    parser.add_argument("--kill", type=int, default=2, help="times the driver")
    parser.add_argument("--folder", type=Path, help="kept; on a cluster one that all nodes see")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.folder or Path(scratch)).resolve()
        scenes = write_manifest(arguments.data.resolve(), folder)
        write_recipes(folder, arguments.workers, arguments.queue)
        began = time.monotonic()
        if not (folder / "threads/report.json").exists():
            subprocess.run(command(folder, "-q"), check=False)
            (folder / "fused").rename(folder / "threads")
        print(f"{scenes} scenes; threads: {time.monotonic() - began:.0f} s", flush=True)
        disturbed(folder, arguments.cancel, arguments.kill)
        compare(folder)


def write_manifest(data: Path, folder: Path) -> int:
    """One row a scene; how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, inputs in pairs(data / "geo"):
        rows.append([name, inputs["thermal"], ";".join(inputs["optical"])])
    infrared = sorted((data / "tno").rglob("IR*"))
    for path in infrared:
        visible = path.with_name(path.name.replace("IR", "VIS"))
        if visible.exists():
            rows.append([f"tno_{path.stem.removeprefix('IR')}", str(path), str(visible)])
    for number in range(4):
        make_pair(folder, f"made{number}", 1000 + 300 * number)
        rows.append([f"made{number}", f"made{number}_thermal.tif", f"made{number}_optical.tif"])
    with (folder / "scenes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["scene", "thermal", "optical"], *rows])
    return len(rows)


def write_recipes(folder: Path, workers: int, queue: str) -> None:
    """The recipe and the profile."""
    (folder / "recipe.yaml").write_text(
        "manifest: scenes.csv\n"
        "inputs: {thermal: {}, optical: {}}\n"
        "reference: optical\n"
        f"tiles: {{size: {TILE}}}\n"
        "fusion: {strategy: mean}\n"
    )
    (folder / "slurm.yaml").write_text(
        f"cluster: slurm\nworkers: {workers}\nthreads: 1\noptions: {{queue: {queue}, walltime: '01:00:00', "
        f"job_name: {NAME}}}\n"
    )


def command(folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "batchfuse", "run", str(folder / "recipe.yaml"), *more]


def disturbed(folder: Path, cancels: int, kills: int) -> None:
    """Runs on Slurm until it is done, whatever happens to it."""
    rng = random.Random(0)
    plan = json.loads(
        subprocess.run(
            [sys.executable, "-m", "batchfuse", "plan", str(folder / "recipe.yaml"), "--json"],
            check=False,
            capture_output=True,
        ).stdout
    )
    total, lost = plan["tiles"], 0
    events = sorted(
        (rng.uniform(0.05, 0.9) * total, kind)
        for kind, many in (("cancel", cancels), ("kill", kills))
        for _ in range(many)
    )
    log = folder / "slurm.jsonl"
    log.unlink(missing_ok=True)
    began = time.monotonic()
    while True:
        with log.open("a") as file:
            run = command(folder, "--profile", str(folder / "slurm.yaml"), "--log-json")
            driver = subprocess.Popen(run, stderr=file)
        while driver.poll() is None:
            time.sleep(0.5)
            done = sum('"event": "tile"' in line for line in log.read_text().splitlines())
            if not events or done < events[0][0]:
                continue
            _, kind = events.pop(0)
            if kind == "kill":
                driver.send_signal(signal.SIGKILL)
                driver.wait()
                print(f"driver killed after {done} of {total} tiles", flush=True)
            elif numbers := running():
                victim = rng.choice(numbers)
                subprocess.run(["scancel", victim], check=True)
                lost += 1
                print(f"job {victim} cancelled after {done} of {total} tiles", flush=True)
        if driver.returncode != -signal.SIGKILL:
            break
    fused = sum('"event": "tile"' in line for line in log.read_text().splitlines())
    print(
        f"slurm: exit {driver.returncode}, {time.monotonic() - began:.0f} s, {lost} jobs cancelled; "
        f"{fused} tiles told of {total}",
        flush=True,
    )
    begun = ended = 0
    busy = there = 0.0
    for path in (folder / "fused/logs").glob("*.log"):
        told: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
        begun += sum(e["event"] == "task_begun" and e["phase"] == "fusing" for e in told)
        ended += sum(e["event"] == "task_done" and e["phase"] == "fusing" for e in told)
        tasks = [e for e in told if e["event"].startswith("task_")]
        busy += sum(e.get("seconds", 0) for e in tasks)
        if tasks:
            there += (moment(tasks[-1]) - moment(tasks[0])).total_seconds()
    print(f"workers' logs: {begun} tiles begun, {ended} done, of {total}", flush=True)
    print(f"a worker is at a task {busy / there:.0%} of the time from its first to its last", flush=True)


def moment(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["time"])


def running() -> list[str]:
    told = subprocess.run(
        ["squeue", "--noheader", "--format=%i", "--states=RUNNING", "--me", f"--name={NAME}"],
        check=True,
        capture_output=True,
        text=True,
    )
    return told.stdout.split()


def compare(folder: Path) -> None:
    """Every store against that of threads, byte for byte."""
    stores = sorted((folder / "threads").glob("*.zarr"))
    same = [tree(store) == tree(folder / "fused" / store.name) for store in stores]
    partial = [*(folder / "fused").rglob("*.partial"), *(folder / "fused").glob("*lease*")]
    print(f"{sum(same)} of {len(same)} stores identical; {len(partial)} temporary files left", flush=True)
    sys.exit(0 if all(same) and stores and not partial else 1)


def tree(store: Path) -> dict[str, bytes]:
    return {
        path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()
    }


if __name__ == "__main__":
    main()
