"""Runs whose workers are jobs of a real Slurm on this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from shared_data import ROOT
from test_engine import command, make_long_run, tree, wait_for_tiles

pytestmark = pytest.mark.timeout(600)  # jobs wait for their turn

START = ROOT.parent / "tools" / "start-slurm"
PROFILE = """\
cluster: slurm
workers: 2
threads: 1
options: {{queue: {queue}, walltime: "00:10:00", job_name: {name}}}
"""
NAME = f"batchfuse-test-{os.getpid()}"
"""Of the jobs of these tests: others of this user are left alone."""


def asked(*arguments: str) -> str:
    """What a command prints; nothing where it doesn't answer."""
    try:
        return subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=60).stdout
    except subprocess.TimeoutExpired:
        return ""


def jobs(state: str = "") -> list[str]:
    """Numbers of the jobs of these tests that wait or run."""
    states = ["--states", state] if state else []
    told = asked("squeue", "--noheader", "--format=%i %T", "--name", NAME, *states)
    return [line.split()[0] for line in told.splitlines() if "COMPLET" not in line]


def wait_until(happened: object, seconds: float = 60) -> None:
    assert callable(happened)
    for _ in range(int(seconds * 5)):
        if happened():
            return
        time.sleep(0.2)
    raise AssertionError("it did not happen")


@pytest.fixture(scope="module")
def slurm() -> str:
    """The name of a partition where jobs run."""
    if shutil.which("sinfo") is None or not asked("sinfo", "--noheader"):
        if not START.exists():
            pytest.skip("no Slurm answers here, and there is no script that starts one")
        started = subprocess.run(["bash", START], check=False, capture_output=True, text=True, timeout=300)
        if started.returncode:
            pytest.skip(f"Slurm can't be started here: {started.stderr.strip().splitlines()[-1:]}")
    partitions = asked("sinfo", "--noheader", "--format=%R").split()
    if not partitions:
        pytest.skip("Slurm has no partition here")
    return partitions[0]


@pytest.fixture(scope="module")
def by_threads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, some twenty seconds long, and the store that threads make of it."""
    folder = make_long_run(tmp_path_factory.mktemp("slurm"), 192, (2000, 2100))
    done = subprocess.run(command(folder, "-q"), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (folder / "fused/a.zarr").rename(folder / "threads.zarr")
    return folder


@pytest.fixture
def scene(by_threads: Path, slurm: str) -> Iterator[Path]:
    shutil.rmtree(by_threads / "fused", ignore_errors=True)
    (by_threads / "slurm.yaml").write_text(PROFILE.format(queue=slurm, name=NAME))
    yield by_threads
    if jobs():
        subprocess.run(["scancel", *jobs()], check=False, capture_output=True)


def on_slurm(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    run = command(folder, "--profile", str(folder / "slurm.yaml"), *arguments)
    return subprocess.Popen(run, stderr=subprocess.PIPE, text=True)


def with_one_worker(folder: Path, workers: str = "1", more: str = "") -> None:
    """Changes the profile: its number of workers, and more options."""
    profile = folder / "slurm.yaml"
    text = profile.read_text().replace("workers: 2", f"workers: {workers}")
    profile.write_text(text.replace("options: {", f"options: {{{more}"))


def ended(process: subprocess.Popen[str], seconds: float = 180) -> str:
    _, errors = process.communicate(timeout=seconds)
    assert "Traceback" not in errors
    return errors


def test_a_cancelled_job_loses_nothing_and_is_submitted_again(scene: Path) -> None:
    store = scene / "fused/a.zarr"
    with_one_worker(scene)  # without another job nothing would go on
    process = on_slurm(scene)
    wait_for_tiles(store, 6)
    subprocess.run(["scancel", *jobs("RUNNING")], check=True)
    errors = ended(process)
    assert process.returncode == 0, errors
    assert "1 job ended: submitting again" in errors
    assert tree(store) == tree(scene / "threads.zarr")
    assert not list(store.rglob("*.partial"))
    told = json.loads((scene / "fused/report.json").read_text())
    assert told["cluster"] == "slurm"
    assert told["workers"]
    wait_until(lambda: not jobs())
    # a run that finds all complete asks for no job
    submitted = len(list((scene / "fused/logs").glob("*.err")))
    again = on_slurm(scene)
    assert "complete before, kept" in ended(again)
    assert again.returncode == 0
    assert len(list((scene / "fused/logs").glob("*.err"))) == submitted


def test_a_killed_driver_is_continued_by_the_next_run_and_its_jobs_end(scene: Path) -> None:
    store = scene / "fused/a.zarr"
    first = on_slurm(scene, "-q")
    wait_for_tiles(store, 6)
    left = jobs()
    first.send_signal(signal.SIGKILL)
    first.communicate()
    there = sum(path.name.startswith("0.") for path in (store / "fused").iterdir())
    status = [sys.executable, "-m", "batchfuse", "status", str(scene / "fused")]
    assert "the last run was killed" in asked(*status)
    second = on_slurm(scene)
    errors = ended(second)
    assert second.returncode == 0, errors
    fused = re.search(r"complete, (\d+) of 121 tiles fused", errors)
    assert fused
    assert int(fused[1]) <= 121 - there
    assert tree(store) == tree(scene / "threads.zarr")
    wait_until(lambda: not set(left) & set(jobs()), 120)
    assert not list((scene / "fused/logs").glob(".dask-jobqueue*"))


def test_workers_that_come_and_go_by_the_tiles_left_are_submitted_again_too(scene: Path) -> None:
    with_one_worker(scene, "{minimum: 0, maximum: 1}")
    process = on_slurm(scene)
    wait_for_tiles(scene / "fused/a.zarr", 6)
    subprocess.run(["scancel", *jobs("RUNNING")], check=True)
    errors = ended(process)
    assert process.returncode == 0, errors
    assert "submitting again" in errors
    assert tree(scene / "fused/a.zarr") == tree(scene / "threads.zarr")


def test_a_full_queue_is_told_and_an_interrupt_cancels_the_jobs(scene: Path, slurm: str) -> None:
    wait_until(lambda: not jobs(), 120)
    blocking = [
        "sbatch",
        "--parsable",
        "--exclusive",
        f"--job-name={NAME}",
        "-p",
        slurm,
        "-o",
        "/dev/null",
        "--wrap",
        "exec sleep 300",
    ]
    blocker = asked(*blocking).strip()
    assert blocker
    process = on_slurm(scene)
    assert process.stderr is not None
    began = time.monotonic()
    for line in process.stderr:
        if "no worker is there yet" in line:
            break
    assert time.monotonic() - began < 60
    assert "job pending (Resources)" in line or "jobs pending (" in line, line
    process.send_signal(signal.SIGINT)
    ended(process, 60)
    assert process.returncode == 130
    wait_until(lambda: jobs() == [blocker])
    subprocess.run(["scancel", blocker], check=True)
    wait_until(lambda: not jobs())


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("queue: nowhere", "sbatch refuses a job (invalid partition specified: nowhere; "),
        ("queu: x", 'options.queu: SLURMCluster has no such option; did you mean "queue"?'),
        ("queue: {queue}, job_script_prologue: ['echo no module cuda >&2', exit 3]", "no module cuda ("),
        ("queue: {queue}; threads: 1024", "GB each, will never start (PartitionConfig)"),
    ],
)
def test_jobs_that_can_not_be_had_are_one_line(scene: Path, slurm: str, options: str, line: str) -> None:
    options, _, threads = options.replace("{queue}", slurm).partition("; threads: ")
    threads = threads or "1"
    (scene / "slurm.yaml").write_text(
        f"cluster: slurm\nthreads: {threads}\noptions: {{{options}, job_name: {NAME}}}\n"
    )
    began = time.monotonic()
    process = on_slurm(scene, "-q")
    errors = ended(process, 60)
    assert process.returncode == 2
    assert line in errors
    assert len(errors.splitlines()) == 1
    assert time.monotonic() - began < 60
    assert not (scene / "fused/a.zarr").exists()


def test_a_plan_shows_the_script_of_a_job_and_submits_nothing(scene: Path) -> None:
    plan = [sys.executable, "-m", "batchfuse", "plan", str(scene / "recipe.yaml"), "--profile"]
    before = jobs()
    told = asked(*plan, str(scene / "slurm.yaml"))
    assert "2 workers of slurm; nothing is submitted" in told
    assert "#SBATCH -t 00:10:00" in told
    assert re.search(r"#SBATCH --mem=\d+[MG]", told)
    assert jobs() == before
    assert not (scene / "fused").exists()
