"""Scheduler, workers and driver on hosts of their own, as far as the network goes; links are cut.

Each host is a network namespace with one address, all on a bridge in a namespace of its own: no packet leaves
them, and the machine's own network is left alone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from test_engine import command, make_long_run, tree, wait_for_tiles

TCP = 15
"""Seconds after which a connection on which nothing is acknowledged counts as lost; Dask's default is 30."""
TTL = 20
"""Seconds after which a worker that says nothing counts as lost; Dask's default is 300."""
DASK = [sys.executable, "-m", "dask"]
SCHEDULER = "tcp://10.77.0.1:8786"


class Hosts:
    """Network namespaces that see only each other."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self._names: dict[str, str] = {}
        self._addresses: dict[str, str] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._hub = self._added("hub")
        ip("-n", self._hub, "link", "add", "hub", "type", "bridge")
        ip("-n", self._hub, "link", "set", "hub", "up")

    def add(self, host: str) -> None:
        """A host with the next address, on the bridge."""
        name = self._added(host)
        self._addresses[host] = f"10.77.0.{len(self._addresses) + 1}"
        peer = ("peer", "name", "eth0", "netns", name)
        ip("-n", self._hub, "link", "add", host, "type", "veth", *peer)
        ip("-n", self._hub, "link", "set", host, "master", "hub", "up")
        ip("-n", name, "address", "add", f"{self._addresses[host]}/24", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "link", "set", "lo", "up")

    def _added(self, host: str) -> str:
        name = f"batchfuse-{os.getpid()}-{host}"
        ip("netns", "add", name)
        self._names[host] = name
        return name

    def cut(self, host: str) -> None:
        """Takes a host's link down: what was sent is not answered any more."""
        ip("-n", self._hub, "link", "set", host, "down")

    def command(self, host: str, *arguments: str) -> list[str]:
        return ["ip", "netns", "exec", self._names[host], *arguments]

    def start(self, host: str, *arguments: str) -> None:
        """A process on a host; what it says is in the file named after the host."""
        settings = {
            "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": f"{TCP}s",
            "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": f"{TTL}s",
        }
        with (self.logs / host).open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    self.command(host, *arguments), stdout=log, stderr=log, env={**os.environ, **settings}
                )
            )

    def start_scheduler(self) -> None:
        self.start("scheduler", *DASK, "scheduler", "--host", self._addresses["scheduler"], "--no-dashboard")

    def start_worker(self, host: str) -> None:
        self.start(host, *DASK, "worker", SCHEDULER, "--nthreads", "1", "--no-dashboard")

    def wait_for(self, host: str, words: str) -> None:
        """Waits until a host has said this."""
        for _ in range(600):
            if words in (self.logs / host).read_text():
                return
            time.sleep(0.1)
        raise AssertionError((self.logs / host).read_text())

    def processes(self, host: str) -> list[int]:
        return [int(line) for line in ip("netns", "pids", self._names[host]).split()]

    def close(self) -> None:
        """Ends every process on the hosts, then the hosts."""
        for host, name in self._names.items():
            for process in self.processes(host):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            ip("netns", "del", name)
        for started in self._processes:
            started.wait(30)


def ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=30)
    return done.stdout


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    if not sys.platform.startswith("linux") or shutil.which("ip") is None or os.geteuid():
        pytest.skip("network namespaces need Linux, iproute2 and root")
    (tmp_path / "logs").mkdir()
    made = Hosts.__new__(Hosts)
    made._names, made._processes = {}, []
    try:
        made.__init__(tmp_path / "logs")  # type: ignore[misc]
        for host in ("scheduler", "one", "two", "driver"):
            made.add(host)
    except subprocess.CalledProcessError as error:
        made.close()
        pytest.skip(f"network namespaces can't be made here: {error.stderr.strip()}")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def running(hosts: Hosts) -> Hosts:
    """A scheduler and a worker on each of two hosts."""
    hosts.start_scheduler()
    hosts.start_worker("one")
    hosts.start_worker("two")
    for host in ("one", "two"):
        hosts.wait_for(host, "Registered to")
    return hosts


@pytest.fixture
def long_run(tmp_path: Path) -> tuple[Path, dict[str, bytes]]:
    """A recipe, and the store that threads make of it."""
    folder = make_long_run(tmp_path)
    assert subprocess.run(command(folder, "-q"), check=False, timeout=300).returncode == 0
    (folder / "fused").rename(folder / "threads")
    return folder, tree(folder / "threads/a.zarr")


def started(hosts: Hosts, folder: Path) -> subprocess.Popen[str]:
    run = hosts.command("driver", *command(folder, "--profile", SCHEDULER))
    return subprocess.Popen(run, stderr=subprocess.PIPE, text=True)


def cut_off(hosts: Hosts) -> None:
    hosts.cut("one")


def silent(hosts: Hosts) -> None:
    for process in hosts.processes("one"):  # its host still acknowledges what arrives
        os.kill(process, signal.SIGSTOP)


@pytest.mark.parametrize("lost", [cut_off, silent], ids=lambda lost: lost.__name__)
def test_a_worker_that_is_cut_off_for_good_or_falls_silent_loses_nothing(
    running: Hosts, long_run: tuple[Path, dict[str, bytes]], lost: Callable[[Hosts], None]
) -> None:
    folder, wanted = long_run
    with started(running, folder) as run:
        wait_for_tiles(folder / "fused/a.zarr", 6)
        lost(running)
        _, said = run.communicate(timeout=180)
    assert run.returncode == 0, said
    assert tree(folder / "fused/a.zarr") == wanted
    if lost is cut_off:  # one that was silent may be started anew
        assert len(json.loads((folder / "fused/report.json").read_text())["workers"]) == 2
    assert "Traceback" not in said


def test_a_scheduler_that_is_cut_off_is_one_line_and_the_next_run_continues(
    running: Hosts, long_run: tuple[Path, dict[str, bytes]]
) -> None:
    folder, wanted = long_run
    for role in ("thermal", "optical"):
        shutil.copy(folder / f"a_{role}.tif", folder / f"b_{role}.tif")
    with started(running, folder) as run:
        wait_for_tiles(folder / "fused/a.zarr", 6)
        running.cut("scheduler")
        began = time.monotonic()
        _, said = run.communicate(timeout=180)
    assert time.monotonic() - began < 60, said
    assert run.returncode == 1
    assert "Traceback" not in said
    assert said.count("the scheduler, or the connection to it, was lost") == 1, said
    assert subprocess.run(command(folder, "-q"), check=False, timeout=300).returncode == 0
    assert tree(folder / "fused/a.zarr") == wanted


@pytest.mark.parametrize("address", ["tcp://10.77.0.1:9", "tcp://10.77.0.99:8786", "tcp://10.78.0.1:8786"])
def test_an_address_where_nobody_is_gives_one_line(hosts: Hosts, tmp_path: Path, address: str) -> None:
    """A port that is closed, a host that is not there, a network that has no route."""
    assert_refused(hosts, tmp_path, address)


def test_a_scheduler_whose_packets_are_dropped_gives_one_line(hosts: Hosts, tmp_path: Path) -> None:
    hosts.start_scheduler()
    hosts.wait_for("scheduler", "Scheduler at")
    hosts.cut("scheduler")
    assert_refused(hosts, tmp_path, SCHEDULER)


def assert_refused(hosts: Hosts, folder: Path, address: str) -> None:
    run = command(make_long_run(folder), "--profile", address)
    done = subprocess.run(
        hosts.command("driver", *run), check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert f"no scheduler answers at {address} within" in line
