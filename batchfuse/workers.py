"""Workers in other processes: of this machine, or those of a scheduler elsewhere (Dask)."""

from __future__ import annotations

import logging
import os
import signal
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from distributed import Client, LocalCluster
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.security import Security

from batchfuse.cluster import Demand, Pool
from batchfuse.dask_pool import DaskPool, shortly, silenced, with_settings
from batchfuse.errors import RecipeError, said
from batchfuse.machine import cores_each
from batchfuse.place import take_place
from batchfuse.profile import Profile, is_remote
from batchfuse.system.notes import UnreadableError, read

__all__ = ["LocalPool", "Place", "RemotePool", "opened_pool", "spared_from_interrupts"]

PATIENCE = 60.0  # seconds for workers to come up
CONNECTING = 10.0  # seconds for a scheduler to answer
NVIDIA = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg")  # one of these is there where CUDA works


@contextmanager
def opened_pool(profile: Profile, demand: Demand) -> Iterator[Pool]:
    """The workers of a profile whose cluster is not ``threads``; whoever opens them closes the pool.

    Raises RecipeError where they can't be had.
    """
    with silenced():
        yield _pool(profile, demand)


def _pool(profile: Profile, demand: Demand) -> Pool:
    if is_remote(profile.cluster):
        return RemotePool(profile, demand)
    if not profile.is_elsewhere:
        return LocalPool(profile, demand)
    from batchfuse.started_workers import StartedPool

    return StartedPool(profile, demand)


class LocalPool(DaskPool):
    """Processes of this machine. One that dies is started again, and its tasks are run by others."""

    def __init__(self, profile: Profile, demand: Demand) -> None:
        super().__init__(profile.device, demand)
        gpus = _gpus(profile)
        if profile.cluster == "cuda" and not gpus:
            raise RecipeError("cluster: cuda: torch sees no CUDA GPU here: say `cluster: processes`")
        workers, threads = profile.numbers(gpus)
        self.slots = workers * threads
        """See ``Pool``."""
        self._processes = workers
        self._cluster = _started(workers, threads)
        self._client = Client(self._cluster, set_as_default=False)
        with self._opening():
            self._client.register_plugin(Place())
            self._wait_for_workers(workers, PATIENCE, "use fewer `workers` in the profile")
            self._meet()
            self._watch()

    def _look(self) -> None:
        """Starts what Dask gave up: a process that dies while it starts is not replaced by it."""
        if len(self._client.nthreads()) < self._processes:
            self._cluster.scale(self._processes)

    def windows_each(self, tiles: int) -> int | None:
        """See ``Pool``: the cores are shared by all that runs at a time on this machine."""
        return cores_each(self.slots, tiles)

    def close(self, at_once: bool) -> None:
        """See ``Pool``."""
        super().close(at_once)
        with suppress(TimeoutError):
            self._cluster.close(timeout=1 if at_once else 30)


class RemotePool(DaskPool):
    """The workers of a scheduler that runs already. They are left as they were found."""

    def __init__(self, profile: Profile, demand: Demand) -> None:
        super().__init__(profile.device, demand, logs=True)
        self._client = _connected(profile)
        with self._opening():
            self._wait_for_workers(1, PATIENCE, f"start some: dask worker {profile.cluster}")
            self._meet()
            self._keep_up()

    def windows_each(self, tiles: int) -> int | None:  # noqa: ARG002
        """See ``Pool``: whoever started the workers has decided."""
        return None


def _started(workers: int, threads: int) -> Any:
    """Dask's cluster of processes; RecipeError where they don't come up."""
    try:
        with with_settings(), spared_from_interrupts():
            return LocalCluster(
                n_workers=workers,
                threads_per_worker=threads,
                processes=True,
                # Dask serves its state over HTTP: to this machine only, on any free port
                dashboard_address="127.0.0.1:0",
                worker_dashboard_address="127.0.0.1:0",
                memory_limit=0,
                silence_logs=logging.CRITICAL,
                # other users of the machine reach its loopback, too, and who reaches a scheduler runs code:
                # only who has this run's certificate does, which is in the memory of its processes alone
                security=Security.temporary(),
            )
    except (RuntimeError, OSError, TimeoutError) as error:
        raise RecipeError(
            f"the worker processes can't be started ({shortly(error)}): use `cluster: threads`; in a program "
            'of your own, run them below `if __name__ == "__main__":`: Python starts each from its beginning'
        ) from error


def _gpus(profile: Profile) -> int:
    """GPUs to share out, where the number of workers is left to us; torch is imported only to count them."""
    counted = profile.workers == "auto" or profile.cluster == "cuda"
    if not counted or not any(map(os.path.exists, NVIDIA)):
        return 0
    from batchfuse.fusion.device import gpus_for

    return gpus_for(profile.device)


class Place(WorkerPlugin):
    """Tells a process which of those of its machine, or its job, it is: each takes a GPU of its own.

    The last number of its name says it.
    """

    name = "batchfuse-place"

    def setup(self, worker: Any) -> None:
        """Run by the worker when it starts."""
        take_place(int(str(worker.name).rpartition("-")[2]))


def _connected(profile: Profile) -> Any:
    """The client of a scheduler's address, or of its scheduler file."""
    target = profile.cluster
    if target.endswith(".json"):
        path = profile.located(target)
        if not path.is_file():
            raise RecipeError(f"the scheduler file {path} is not there: start `dask scheduler` with it first")
        _check_scheduler_file(path)
        return _client(str(path), scheduler_file=str(path))
    return _client(target, address=target, security=_security(profile))


def _check_scheduler_file(path: Path) -> None:
    """RecipeError where it names no scheduler: a profile that was written as JSON, say."""
    try:
        told = read(path)
    except (OSError, UnreadableError) as error:
        raise RecipeError(f"the scheduler file {path} can't be read ({said(error)}): give another") from None
    if not isinstance(told, dict) or not isinstance(told.get("address"), str):
        raise RecipeError(
            f'{path} is no scheduler file, as it has no "address": give the one of `dask scheduler '
            "--scheduler-file`; a profile is a .yaml file"
        )


def _client(target: str, **where: Any) -> Any:
    try:
        return Client(**where, set_as_default=False, timeout=CONNECTING)
    except ssl.SSLError as error:
        raise RecipeError(
            f"the scheduler at {target} refuses TLS ({shortly(error)}): check `options`"
        ) from error
    except (OSError, TimeoutError, ValueError) as error:
        raise RecipeError(
            f"no scheduler answers at {target} within {CONNECTING:g} s ({shortly(error)}): "
            "start `dask scheduler`, or correct the address"
        ) from error


def _security(profile: Profile) -> Any:
    if not profile.cluster.startswith("tls://"):
        return None
    options = {key: str(profile.located(str(value))) for key, value in profile.options.items()}
    missing = [path for path in options.values() if not Path(path).is_file()]
    if missing:
        raise RecipeError(f"the TLS file {missing[0]} is not there: correct `options` in the profile")
    security: Any = Security(require_encryption=True, **options)
    if not options and security.tls_ca_file is None:
        raise RecipeError(
            "a tls:// address needs `options: {tls_ca_file: …, tls_client_cert: …, tls_client_key: …}`, "
            "or Dask's own settings for them"
        )
    return security


@contextmanager
def spared_from_interrupts() -> Iterator[None]:
    """Processes that Dask starts, now or later, never see Ctrl-C, which a terminal sends to all of them.

    What a thread blocks is blocked in the threads and processes that it starts: here Dask's event loop
    is started, and that starts the processes. A Ctrl-C meanwhile is delivered afterwards.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # multiprocessing starts it with the first process, and unblocks
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
