"""What a campaign's size costs: the engine with a fuser that does nothing, at 10,000 and 100,000 tiles.

    python benchmarks/scaling.py                        every case below
    python benchmarks/scaling.py scheduler:1000x100     one case: CLUSTER:SCENESxTILES[:OPTION…]

CLUSTER is threads, processes or scheduler; TILES are those of each scene, of 32 pixels. `scheduler` starts
`dask scheduler` and two workers as processes of their own. OPTION is `single`, a task a tile, as where tiles
take longer than a tenth of a second; or `asleep=SECONDSxTHREADS`: tiles that take so long and no CPU, with so
many threads in the workers together.

A line a case: seconds of planning, of the whole run, and tiles a second from the first to the last; CPU
milliseconds a tile, over the whole run, of the driver, the scheduler and the workers together, which a loaded
machine leaves nearly as they are; peak memory of driver, scheduler and the largest worker; the most tasks
that were under way and the most futures that Dask's client held; and what report.json takes: kB, ms to write.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from engine import Clock, Nothing, make_pair

from batchfuse import cluster as clusters
from batchfuse import pace
from batchfuse.report.progress import FusedTile

TILE = 32
WORKERS = 2
CASES = (
    "threads:1x10000",
    "threads:1x100000",
    "threads:1000x100",
    "threads:1000x1",
    "processes:1x10000",
    "processes:1x100000",
    "scheduler:1x10000",
    "scheduler:1x100000",
    "scheduler:100x100",
    "scheduler:1000x100",
    "scheduler:1x10000:single",
    "scheduler:1x4000:asleep=0.5x32",
    "scheduler:1x4000:asleep=0.5x64",
    "scheduler:1x4000:asleep=0.5x128",
)
COLUMNS = (
    "plan s",
    "run s",
    "tiles/s",
    "driver ms",
    "scheduler ms",
    "workers ms",
    "planned MB",
    "driver MB",
    "scheduler MB",
    "worker MB",
    "under way",
    "futures",
    "report kB",
    "report ms",
)


class Asleep(Nothing):
    """A fuser that takes its time and no CPU."""

    def fuse(self, *arguments: Any) -> Any:
        time.sleep(float(os.environ["SCALING_SECONDS"]))
        return super().fuse(*arguments)


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    cluster: str
    scenes: int
    tiles: int
    single: bool = False
    seconds: float = 0.0
    threads: int = WORKERS

    @classmethod
    def of(cls, text: str) -> Case:
        found = re.fullmatch(
            r"(threads|processes|scheduler):(\d+)x(\d+)(:single)?(?::asleep=([\d.]+)x(\d+))?", text
        )
        if found is None:
            raise argparse.ArgumentTypeError(f"{text} is no CLUSTER:SCENESxTILES[:OPTION…]")
        cluster, scenes, tiles, single, seconds, threads = found.groups()
        return cls(
            cluster, int(scenes), int(tiles), bool(single), float(seconds or 0), int(threads or WORKERS)
        )

    def __str__(self) -> str:
        asleep = f":asleep={self.seconds:g}x{self.threads}" if self.seconds else ""
        return f"{self.cluster}:{self.scenes}x{self.tiles}{':single' if self.single else ''}{asleep}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("cases", nargs="*", type=Case.of, default=[Case.of(text) for text in CASES])
    parser.add_argument("--drive", nargs=2, metavar=("FOLDER", "PROFILE"), help="one case, in this process")
    arguments = parser.parse_args()
    if arguments.drive:
        folder, profile = arguments.drive
        print(json.dumps(driven(arguments.cases[0], Path(folder), profile)))
        return
    print(f"{'case':>36} " + " ".join(f"{name:>12}" for name in COLUMNS))
    for case in arguments.cases:
        with tempfile.TemporaryDirectory() as folder:
            figures = measured(case, Path(folder))
        print(f"{case!s:>36} " + " ".join(f"{figures.get(name, '–'):>12}" for name in COLUMNS), flush=True)


# --- the processes around a run -----------------------------------------------------------------


def measured(case: Case, folder: Path) -> dict[str, Any]:
    """The figures of a case, whose driver is a process of its own."""
    make_scenes(case, folder)
    here = str(Path(__file__).parent)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH")))),
        "SCALING_SECONDS": str(case.seconds),
        # as batchfuse's own processes have it
        "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    }
    with started(case, folder, environment) as (profile, scheduler, workers):
        before = [busy(process) for process in (scheduler, workers)]
        drive = [sys.executable, __file__, str(case), "--drive", str(folder), profile]
        done = subprocess.run(drive, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        if scheduler:
            tiles = case.scenes * figures["tiles"]
            spent = [busy(p) - b for p, b in zip((scheduler, workers), before, strict=True)]
            figures["scheduler ms"], figures["workers ms"] = (round(s / tiles * 1e3, 2) for s in spent)
            figures["scheduler MB"], figures["worker MB"] = peak(scheduler), peak(workers)
    return figures


@contextmanager
def started(
    case: Case, folder: Path, environment: dict[str, str]
) -> Iterator[tuple[str, list[psutil.Process], list[psutil.Process]]]:
    """The profile of a case, and the processes of scheduler and workers where they are on their own."""
    if case.cluster != "scheduler":
        yield case.cluster, [], []
        return
    file = folder / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    told = ["--scheduler-file", str(file)]
    each = str(case.threads // WORKERS)
    commands = (
        [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", *told],
        [*dask, "worker", "--nworkers", str(WORKERS), "--nthreads", each, "--no-dashboard", *told],
    )
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    processes = []
    try:
        for command in commands:
            processes.append(subprocess.Popen(command, **quiet))
            while not file.exists():
                time.sleep(0.1)
        nanny = psutil.Process(processes[1].pid)
        while len(workers := [p for p in nanny.children(True) if "spawn_main" in " ".join(p.cmdline())]) < 2:
            time.sleep(0.5)
        yield str(file), [psutil.Process(processes[0].pid)], workers
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(60)


def busy(processes: list[psutil.Process]) -> float:
    """CPU seconds so far."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def peak(processes: list[psutil.Process]) -> int:
    """The largest peak of resident memory, MB."""
    texts = [Path(f"/proc/{process.pid}/status").read_text() for process in processes]
    return max(int(text.split("VmHWM:")[1].split()[0]) for text in texts) // 1000


def make_scenes(case: Case, folder: Path) -> None:
    """Scenes of about so many tiles each; all are hard links to one pair."""
    make_pair(folder, "pair", round(case.tiles**0.5) * TILE)
    for role in ("thermal", "optical"):
        pair = folder / f"pair_{role}.tif"
        for number in range(case.scenes):
            (folder / f"{number:06}_{role}.tif").hardlink_to(pair)
        pair.unlink()


# --- the driver ---------------------------------------------------------------------------------


class Watched(clusters.Cluster):
    """A cluster that remembers how many tasks were under way at most."""

    most = 0

    def _acquire(self, block: bool) -> bool:
        taken = super()._acquire(block)
        Watched.most = max(Watched.most, self._taken)
        return taken


class Watch(Clock):
    """A clock that looks at Dask's client, too."""

    def __init__(self) -> None:
        super().__init__()
        self.futures = 0
        self.client: Any = None

    def tile(self, scene: str, tile: FusedTile) -> None:
        super().tile(scene, tile)
        if self.client is None and "distributed" in sys.modules:
            from distributed import Client

            self.client = next(iter(Client._instances), None)
        if self.client is not None:
            self.futures = max(self.futures, len(self.client.futures))


def driven(case: Case, folder: Path, profile: str) -> dict[str, Any]:
    """Plans and runs a case in this process, whose memory and CPU time are the driver's."""
    import batchfuse
    from batchfuse.engine import run_plan
    from batchfuse.plan import make_plan
    from batchfuse.profile import Profile

    clusters.Cluster = Watched  # type: ignore[misc]
    if case.single:
        pace.MOST = 1
    fuser = "scaling:Asleep" if case.seconds else "engine:Nothing"
    batchfuse.register(
        batchfuse.Method("nothing", fuser, {"l1": batchfuse.Strategy("l1", 0, None, "nothing")}, "")
    )
    recipe = batchfuse.Recipe.model_validate(
        {
            "inputs": {role: f"{{scene}}_{role}.tif" for role in ("thermal", "optical")},
            "folder": folder,
            "fusion": {"method": "nothing"},
            "tiles": {"size": TILE},
            "output": {"path": "fused"},
        }
    )
    where = Profile(cluster=profile, threads="auto" if case.cluster == "scheduler" else threads(case))
    began = time.monotonic()
    plan = make_plan(recipe)
    planned = time.monotonic()
    here = [psutil.Process()]
    at_plan = peak(here)
    watch = Watch()
    before = busy(here)
    report = run_plan(plan, where, progress=watch)
    ran = time.monotonic()
    assert report.exit_code == 0, [o.reason for o in report.outcomes if o.reason][:3]
    spent = busy(here) - before
    memory = peak(here)
    del plan
    gc.collect()
    report.write(folder / "again.json")
    return {
        **asdict(case),
        "tiles": watch.tiles // case.scenes,
        "plan s": round(planned - began, 1),
        "run s": round(ran - planned, 1),
        "tiles/s": round((watch.tiles - 1) / (watch.last - watch.first)),
        "driver ms": round(spent / watch.tiles * 1e3, 2),
        "planned MB": at_plan,
        "driver MB": memory,
        "under way": Watched.most,
        "futures": watch.futures or "–",
        "report kB": (folder / "again.json").stat().st_size // 1000,
        "report ms": round((time.monotonic() - ran) * 1e3),
    }


def threads(case: Case) -> int:
    return WORKERS if case.cluster == "threads" else 1


if __name__ == "__main__":
    main()
