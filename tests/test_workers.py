"""Runs on processes of this machine and on the workers of a scheduler: the stores are those of threads."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from affine import Affine
from click.testing import CliRunner
from distributed import LocalCluster
from distributed.comm.core import CommClosedError
from distributed.security import Security
from rasters import photo, write_raster
from test_engine import GRID, command, make_long_run, make_pair, recipe_of, tree, wait_for_tiles

import batchfuse
from batchfuse import dask_pool, workers
from batchfuse.batch_system import job_arguments
from batchfuse.cli import commands
from batchfuse.cluster import Demand
from batchfuse.dask_pool import DaskPool
from batchfuse.errors import LostError, RecipeError
from batchfuse.fusion import methods
from batchfuse.fusion.device import gpus_for, resolved_device
from batchfuse.fusion.shipped import weights_path
from batchfuse.profile import BATCH_SYSTEMS, Profile
from batchfuse.storage.store import Store
from batchfuse.workers import LocalPool

pytestmark = pytest.mark.timeout(600)  # processes begin and end within one test

TWO = Profile(cluster="processes", workers=2, threads=1)
HERE: dict[str, Any] = {
    "processes": False,
    "protocol": "tcp",
    "host": "127.0.0.1",
    "dashboard_address": "127.0.0.1:0",
    "worker_dashboard_address": "127.0.0.1:0",
}
"""A scheduler of Dask's own, within this process, that is spoken to as any other."""
SETTINGS: dict[str, Any] = {"tiles": {"size": 64}, "fusion": {"strategy": "mean"}}


def make_scenes(folder: Path) -> None:
    """Three scenes: colour, a thermal image that has to be warped, one smaller than a tile."""
    make_pair(folder, "a")
    colour = np.rint(photo((130, 140), 4, bands=3) * 255).astype(np.uint8)
    write_raster(folder / "b_optical.tif", colour, transform=GRID)
    coarse = GRID @ Affine.translation(-3.3, 1.7) @ Affine.scale(3)
    write_raster(folder / "b_thermal.tif", photo((50, 50), 5)[0].astype(np.float32), transform=coarse)
    make_pair(folder, "c", (40, 50), 6)


@pytest.fixture(scope="module")
def by_threads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of scenes, and what threads made of them."""
    folder = tmp_path_factory.mktemp("scenes")
    make_scenes(folder)
    assert batchfuse.run(recipe_of(folder, **SETTINGS)).exit_code == 0
    (folder / "fused").rename(folder / "threads")
    return folder


def assert_same_stores(folder: Path) -> None:
    for name in ("a", "b", "c"):
        assert tree(folder / f"fused/{name}.zarr") == tree(folder / f"threads/{name}.zarr"), name


@pytest.fixture
def scenes(by_threads: Path) -> Iterator[Path]:
    yield by_threads
    shutil.rmtree(by_threads / "fused", ignore_errors=True)


def test_processes_make_the_stores_of_threads_byte_for_byte(scenes: Path) -> None:
    report = batchfuse.run(recipe_of(scenes, **SETTINGS), TWO)
    assert report.exit_code == 0, report.outcomes
    assert_same_stores(scenes)
    told = json.loads((scenes / "fused/report.json").read_text())
    assert told["cluster"] == "processes"
    assert told["finished"]
    assert [worker["threads"] for worker in told["workers"]] == [1, 1]
    assert len({worker["name"] for worker in told["workers"]}) == 2


STRANGER = """
import os, sys
from distributed import Client
from distributed.core import rpc
from distributed.security import Security
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
for address in sys.argv[1:]:
    for security in (None, Security.temporary()):
        where = address if security else address.replace("tls://", "tcp://")
        try:
            with Client(where, security=security, timeout=4) as client:
                print("served", where, client.submit(os.getuid).result(timeout=4))
        except (OSError, TimeoutError, ValueError) as error:
            print("refused", where, type(error).__name__)
print("tried as", os.getuid())
"""
"""Whoever else works on this machine: another user where the test may become one."""


def test_nobody_else_on_the_machine_reaches_scheduler_or_workers() -> None:
    """Neither in plain words nor with a certificate of his own; and the pool goes on."""
    pool = LocalPool(TWO, Demand())
    try:
        nannies = [worker.address for worker in pool._cluster.workers.values()]
        ours = [pool._cluster.scheduler_address, *pool._client.scheduler_info()["workers"], *nannies]
        assert all(address.startswith("tls://127.0.0.1:") for address in ours)
        assert len(set(ours)) == 5
        tried = subprocess.run(
            [sys.executable, "-c", STRANGER, *ours], capture_output=True, text=True, timeout=200, check=False
        )
        assert tried.stdout.count("refused") == 10, tried.stdout + tried.stderr
        assert "served" not in tried.stdout
        assert "tried as" in tried.stdout
        assert pool.result(pool.submit(max, (1, 2))) == 2
    finally:
        pool.close(at_once=True)


def test_nobody_else_on_the_machine_is_told_of_tasks_by_http() -> None:
    """Dask's own pages name files and lines; only its dashboard is left, where bokeh is installed."""
    pool = LocalPool(TWO, Demand())
    try:
        services = pool._client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.http_server.port)
        for page in ("info/main/workers.html", "json/identity.json", "metrics"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"http://127.0.0.1:{services}/{page}", timeout=5)
            assert refused.value.code == 404
            refused.value.close()
    finally:
        pool.close(at_once=True)


@pytest.fixture(scope="module")
def scheduler() -> Iterator[LocalCluster]:
    """A scheduler with two workers that somebody else has started."""
    with LocalCluster(n_workers=2, threads_per_worker=1, **HERE) as cluster:
        yield cluster


def test_the_workers_of_a_scheduler_make_the_same_and_are_left_running(
    scenes: Path, scheduler: LocalCluster
) -> None:
    profile = Profile.load(scheduler.scheduler_address)
    assert batchfuse.run(recipe_of(scenes, **SETTINGS), profile).exit_code == 0
    assert_same_stores(scenes)
    assert len(scheduler.scheduler_info["workers"]) == 2
    assert all("batchfuse" not in name for name in scheduler.scheduler.worker_plugins)


def test_workers_that_were_started_elsewhere_find_files_that_are_named_from_here(
    scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scenes / "mine.safetensors").write_bytes(weights_path("res2netfuse").read_bytes())
    monkeypatch.chdir("/")
    with LocalCluster(n_workers=1, threads_per_worker=1, **{**HERE, "processes": True}) as cluster:
        monkeypatch.chdir(scenes)
        recipe = recipe_of(
            Path(), **{**SETTINGS, "fusion": {"strategy": "mean", "weights": "mine.safetensors"}}
        )
        profile = Profile.load(cluster.scheduler_address)
        assert batchfuse.run(recipe, profile, only="[bc]").exit_code == 0
    for name in ("b", "c"):
        assert pixels(scenes / f"fused/{name}.zarr") == pixels(scenes / f"threads/{name}.zarr")


def pixels(store: Path) -> dict[str, bytes]:
    """The chunks: another recipe is told in the record, of which the digests have a copy."""
    return {name: content for name, content in tree(store).items() if name.startswith("fused/0.")}


def test_a_scheduler_file_leads_to_its_scheduler(scenes: Path, scheduler: LocalCluster) -> None:
    file = scenes / "scheduler.json"
    file.write_text(json.dumps({"type": "Scheduler", "address": scheduler.scheduler_address}))
    profile = scenes / "profile.yaml"
    profile.write_text("cluster: scheduler.json\n")
    report = batchfuse.run(recipe_of(scenes, **SETTINGS), Profile.load(profile), only="c")
    assert report.exit_code == 0
    assert tree(scenes / "fused/c.zarr") == tree(scenes / "threads/c.zarr")


def test_a_tls_address_is_reached_with_its_certificates(scenes: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate, and is not installed")
    make = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=batchfuse",
    ]
    subprocess.run(
        [*make, "-keyout", "key.pem", "-out", "cert.pem"], cwd=scenes, check=True, capture_output=True
    )
    cert, key = str(scenes / "cert.pem"), str(scenes / "key.pem")
    server = Security(
        require_encryption=True,
        tls_ca_file=cert,
        tls_scheduler_cert=cert,
        tls_scheduler_key=key,
        tls_worker_cert=cert,
        tls_worker_key=key,
        tls_client_cert=cert,
        tls_client_key=key,
    )
    with LocalCluster(n_workers=1, security=server, **{**HERE, "protocol": "tls"}) as cluster:
        address = cluster.scheduler_address
        profile = scenes / "profile.yaml"
        options = "{tls_ca_file: cert.pem, tls_client_cert: cert.pem, tls_client_key: key.pem}"
        profile.write_text(f"cluster: {address}\noptions: {options}\n")
        assert batchfuse.run(recipe_of(scenes, **SETTINGS), Profile.load(profile), only="c").exit_code == 0
        with pytest.raises(RecipeError, match="tls_ca_file"):
            batchfuse.run(recipe_of(scenes, **SETTINGS), Profile.load(address))
    profile.write_text(f"cluster: {address}\noptions: {{tls_ca_file: none.pem}}\n")
    with pytest.raises(RecipeError, match=r"none\.pem is not there"):
        batchfuse.run(recipe_of(scenes, **SETTINGS), Profile.load(profile))


def test_an_address_where_nobody_listens_is_one_line(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "CONNECTING", 0.5)
    with pytest.raises(RecipeError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9 within"):
        batchfuse.run(recipe_of(scenes), Profile.load("tcp://127.0.0.1:9"))
    with pytest.raises(RecipeError, match=r"gone\.json is not there"):
        batchfuse.run(recipe_of(scenes), Profile(cluster="gone.json", folder=scenes))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            '{"cluster": "processes"}',
            'no scheduler file, as it has no "address": .* a profile is a .yaml file',
        ),
        ("[]", 'no scheduler file, as it has no "address"'),
        ("cluster: processes", "can't be read \\(no JSON in line 1"),
    ],
)
def test_a_json_file_that_is_no_scheduler_file_is_one_line(scenes: Path, content: str, words: str) -> None:
    (scenes / "profile.json").write_text(content)
    with pytest.raises(RecipeError, match=words):
        batchfuse.run(recipe_of(scenes), Profile.load(scenes / "profile.json"))


def test_a_scheduler_without_workers_is_one_line(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PATIENCE", 0.3)
    with (
        LocalCluster(n_workers=0, **HERE) as cluster,
        pytest.raises(RecipeError, match=r"0 of 1 workers came within.*dask worker tcp://"),
    ):
        batchfuse.run(recipe_of(scenes), Profile.load(cluster.scheduler_address))


def test_a_worker_with_another_version_or_device_is_refused(
    scenes: Path, scheduler: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RecipeError, match=r"worker .*: device 'cuda:7' is not available"):
        batchfuse.run(recipe_of(scenes), Profile(cluster=scheduler.scheduler_address, device="cuda:7"))
    told = iter(["9.9.9", "1.0.0", "1.0.0", "9.9.9"])  # the run, the workers, the run
    monkeypatch.setattr(dask_pool, "version", lambda _: next(told))
    with pytest.raises(RecipeError, match=r"has batchfuse 1\.0\.0, here it is 9\.9\.9"):
        batchfuse.run(recipe_of(scenes), Profile.load(scheduler.scheduler_address))


def test_workers_of_any_cluster_class_make_the_same(scenes: Path) -> None:
    profile = scenes / "class.yaml"
    options = "{threads_per_worker: 1, processes: false, dashboard_address: '127.0.0.1:0'}"
    profile.write_text(f"cluster: distributed.LocalCluster\nworkers: 2\noptions: {options}\n")
    report = batchfuse.run(recipe_of(scenes, **SETTINGS), Profile.load(profile))
    assert report.exit_code == 0, report.outcomes
    assert [threads for _, _, threads in report.workers] == [1, 1]
    assert_same_stores(scenes)


@pytest.mark.parametrize(
    ("cluster", "options", "line"),
    [
        ("slurm", {}, r"cluster: slurm needs dask-jobqueue .*: pip install 'batchfuse\[slurm\]'"),
        ("lsf", {}, r"needs dask-jobqueue .*: pip install 'batchfuse\[lsf\]'"),
        ("dask_kubernetes.operator.KubeCluster", {}, r"pip install 'batchfuse\[kubernetes\]'"),
        ("mine.Cluster", {}, r"cluster: mine\.Cluster needs mine .*: install mine"),
        ("os.path.join", {}, r"cluster: os\.path\.join is no Dask cluster class"),
        ("distributed.LocalCluster", {"what": 1}, r"distributed\.LocalCluster can't be started"),
    ],
)
def test_a_cluster_class_that_can_not_be_had_is_one_line(
    scenes: Path, monkeypatch: pytest.MonkeyPatch, cluster: str, options: dict[str, Any], line: str
) -> None:
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    monkeypatch.setitem(sys.modules, "dask_kubernetes", None)
    with pytest.raises(RecipeError, match=line):
        batchfuse.run(recipe_of(scenes), Profile(cluster=cluster, options=options))
    assert not (scenes / "fused/a.zarr").exists()


@pytest.mark.parametrize("system", sorted(BATCH_SYSTEMS))
def test_a_plan_has_the_script_of_a_job_of_every_batch_system(scenes: Path, system: str) -> None:
    recipe_of(scenes)
    (scenes / "recipe.yaml").write_text(
        "inputs: {thermal: '{scene}_thermal.tif', optical: '{scene}_optical.tif'}\n"
    )
    called = CliRunner().invoke(
        commands, ["plan", str(scenes / "recipe.yaml"), "--profile", system, "--json"]
    )
    assert called.exit_code == 0, called.output
    script = json.loads(called.stdout)["job_script"]
    assert "distributed.cli.dask_worker" in script
    assert "--nthreads 4 --memory-limit 0" in script
    assert not (scenes / "fused").exists()


def test_a_job_asks_for_what_the_profile_says(tmp_path: Path) -> None:
    options: dict[str, Any] = {"processes": 2, "cores": 12, "walltime": "1-02:00:00", "security": False}
    made = job_arguments(
        Profile(cluster="slurm", threads=3, memory="4GB", options=options), tmp_path, 2_000_000_000
    )
    assert (made["cores"], made["processes"], made["memory"]) == (12, 2, "8150000000B")
    assert made["security"] is None
    assert made["worker_extra_args"][-4:] == ["--lifetime", "84240s", "--lifetime-stagger", "4680s"]
    with pytest.raises(RecipeError, match=r"options\.cores: found 5; 2 x 3 tiles at once need as many"):
        job_arguments(Profile(cluster="slurm", threads=3, options={**options, "cores": 5}), tmp_path, 1)
    for own in (["--lifetime", "10s"], ["--lifetime=10s"]):
        given = {**options, "worker_extra_args": own}
        extra = job_arguments(Profile(cluster="slurm", threads=3, options=given), tmp_path, 1)[
            "worker_extra_args"
        ]
        assert extra[-len(own) :] == own
        assert "--lifetime-stagger" not in extra
    unset = job_arguments(Profile(cluster="slurm"), tmp_path, 790_000_000)
    assert unset["memory"] == "1150000000B"
    assert unset["security"] is True
    # half an hour is what Dask asks for by itself: workers end before that, too
    assert unset["worker_extra_args"][-4:] == ["--lifetime", "1620s", "--lifetime-stagger", "90s"]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"job_extra_directives": "--gpus=1"}, "found '--gpus=1'; give a list of text"),
        ({"worker_extra_args": [1]}, r"found \[1\]; give a list of text"),
        ({"scheduler_options": "host"}, "found 'host'; give a mapping"),
        ({"security": "yes"}, "found 'yes'; give true or false"),
        ({"log_directory": 5}, "found 5; give a folder"),
        ({"log_directory": "my logs"}, "the folder my logs has ' ' in its path"),
    ],
)
def test_a_value_that_dask_would_stumble_over_is_refused(
    tmp_path: Path, options: dict[str, Any], line: str
) -> None:
    with pytest.raises(RecipeError, match=line):
        job_arguments(Profile(cluster="slurm", options=options), tmp_path, 1)


def test_jobs_write_into_no_folder_that_their_script_can_not_name(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"has ' ' in its path.* give another `output\.path`"):
        job_arguments(Profile(cluster="slurm"), tmp_path / "a b", 1)
    elsewhere: dict[str, Any] = {"log_directory": "/a", "shared_temp_directory": "/b"}
    made = job_arguments(Profile(cluster="slurm", options=elsewhere), tmp_path / "a b", 1)
    assert (made["log_directory"], made["shared_temp_directory"]) == ("/a", "/b")


def test_dask_may_log_again_after_a_pool_was_refused(tmp_path: Path) -> None:
    before = [logging.getLogger(name).level for name in dask_pool.LOGGERS]
    profile = Profile(cluster=str(tmp_path / "scheduler.json"))
    with pytest.raises(RecipeError, match="is not there"), workers.opened_pool(profile, Demand()):
        pass
    assert [logging.getLogger(name).level for name in dask_pool.LOGGERS] == before


def test_a_batch_system_s_library_is_imported_in_any_thread_and_takes_no_signal() -> None:
    program = """
import signal, threading
from batchfuse.batch_system import named_class
from batchfuse.profile import Profile
before = signal.getsignal(signal.SIGINT)
found = []
thread = threading.Thread(target=lambda: found.append(named_class(Profile(cluster="slurm")).__name__))
thread.start()
thread.join()
assert signal.getsignal(signal.SIGINT) is before
assert signal.signal.__module__ == "signal"
print(*found)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("SLURMCluster\n", "")


class Deadly:
    """A method that ends whoever uses it."""

    device, precision = "cpu", "float32"

    def __init__(self, **_: Any) -> None: ...

    def fuse(self, *_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_tile_that_ends_its_worker_three_times_is_blamed(
    scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "_REGISTERED", dict(methods._REGISTERED))
    strategies = {"l1": batchfuse.Strategy("l1", 0, None, "deadly")}
    batchfuse.register(batchfuse.Method("deadly", "test_workers:Deadly", strategies, ""))
    report = batchfuse.run(recipe_of(scenes, fusion={"method": "deadly"}), TWO, only="c")
    assert report.exit_code == 1
    assert "ended 3 workers" in (report.outcomes[0].reason or "")
    assert "tiles.size" in (report.outcomes[0].reason or "")


# through real processes


@pytest.fixture
def long_run(tmp_path: Path) -> Path:
    (tmp_path / "two.yaml").write_text("cluster: processes\nworkers: 2\nthreads: 1\n")
    return make_long_run(tmp_path)


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that fuse: those that Python's multiprocessing has spawned."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def test_a_worker_that_is_killed_loses_nothing_and_an_interrupt_spares_the_workers(long_run: Path) -> None:
    store = long_run / "fused/a.zarr"
    assert subprocess.run(command(long_run, "-q"), check=False).returncode == 0
    wanted = tree(store)
    shutil.rmtree(long_run / "fused")
    run = command(long_run, "--profile", str(long_run / "two.yaml"))
    with subprocess.Popen(run, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        wait_for_tiles(store, 3)
        workers_of(process)[0].kill()
        wait_for_tiles(store, 20)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "interrupted after" in errors
    assert "Traceback" not in errors
    again = subprocess.run(run, check=False, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert tree(store) == wanted
    assert not list((long_run / "fused").glob("*.partial"))


def test_the_second_interrupt_ends_a_run_at_once(tmp_path: Path) -> None:
    make_long_run(tmp_path, 512, (900, 1000))
    with subprocess.Popen(command(tmp_path), stderr=subprocess.PIPE, text=True) as process:
        for _ in range(1200):
            if (tmp_path / "fused/a.zarr").exists():  # the first tiles are in hand, for seconds
                break
            time.sleep(0.05)
        assert process.stderr is not None
        process.send_signal(signal.SIGINT)
        assert any("Ctrl-C again" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert not Store.open(tmp_path / "fused/a.zarr").complete
    told = json.loads((tmp_path / "fused/report.json").read_text())
    assert told["interrupted"]
    assert not list((tmp_path / "fused").glob(".batchfuse-lease*"))


def test_a_second_run_is_refused_and_a_killed_one_is_taken_over(long_run: Path) -> None:
    with subprocess.Popen(command(long_run, "-q")) as process:
        wait_for_tiles(long_run / "fused/a.zarr", 2)
        process.send_signal(signal.SIGSTOP)
        second = subprocess.run(command(long_run), check=False, capture_output=True, text=True)
        status = [sys.executable, "-m", "batchfuse", "status", str(long_run / "fused")]
        told = subprocess.run(status, check=False, capture_output=True, text=True).stdout
        process.send_signal(signal.SIGKILL)
    assert second.returncode == 2
    assert f"process {process.pid} on " in second.stderr
    assert len(second.stderr.splitlines()) == 1
    assert f"process {process.pid} on" in told
    assert "a: partial" in told
    told = subprocess.run(status, check=False, capture_output=True, text=True).stdout
    assert "the last run was killed" in told
    assert subprocess.run(command(long_run, "-q"), check=False).returncode == 0
    assert subprocess.run(status, check=False, capture_output=True, text=True).returncode == 0


def test_a_program_without_its_guard_is_told_of_it(long_run: Path) -> None:
    program = long_run / "program.py"
    program.write_text(
        "import batchfuse\n"
        f"recipe = batchfuse.Recipe.load({str(long_run / 'recipe.yaml')!r})\n"
        f"batchfuse.run(recipe, batchfuse.Profile.load({str(long_run / 'two.yaml')!r}))\n"
    )
    done = subprocess.run(
        [sys.executable, str(program)], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "run them below `if __name__" in done.stderr.splitlines()[-1]


# numbers and devices


@pytest.mark.parametrize(
    ("cores", "gpus", "profile", "expected"),
    [
        (2, 0, {}, (2, 1)),
        (16, 0, {}, (4, 4)),
        (1, 0, {}, (1, 1)),
        (16, 4, {}, (4, 4)),
        (16, 1, {}, (4, 4)),
        (16, 2, {}, (2, 8)),
        (16, 2, {"device": "cpu"}, (4, 4)),
        (64, 8, {"threads": 3}, (8, 3)),
        (16, 4, {"workers": 2, "threads": 5}, (2, 5)),
    ],
)
def test_processes_suit_the_cores_and_the_gpus(
    cores: int, gpus: int, profile: dict[str, Any], expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchfuse.profile.cores", lambda: cores)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    chosen = Profile(cluster="processes", **profile)
    assert chosen.numbers(gpus_for(chosen.device)) == expected


def test_each_of_several_processes_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(resolved_device("auto", rank)) for rank in range(4)] == ["cuda:0", "cuda:1"] * 2
    assert str(resolved_device("cuda", 1)) == "cuda:1"
    assert str(resolved_device("cuda:0", 1)) == "cuda:0"
    assert str(resolved_device("cpu", 1)) == "cpu"


@pytest.mark.parametrize("error", [CancelledError(), CommClosedError("in <TCP>: timed out"), OSError("away")])
def test_a_lost_scheduler_is_one_line(error: Exception) -> None:
    class Lost:
        def result(self) -> None:
            raise error

    pool = DaskPool("cpu", Demand())
    pool._client = SimpleNamespace(close=lambda **_: None, status="closed")
    with pytest.raises(LostError, match="the connection to it, was lost"):
        pool.result(Lost())  # type: ignore[arg-type]
    pool.close(at_once=True)
