"""Workers in other processes: of this machine, or those of a scheduler elsewhere (Dask)."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import socket
import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from importlib.metadata import version
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Future, KilledWorker, LocalCluster
from distributed.comm.core import CommClosedError
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.security import Security

from batchfuse.cluster import Pool, Worker
from batchfuse.errors import BlamedError, LostError, RecipeError
from batchfuse.machine import cores_each
from batchfuse.place import device_named, take_place
from batchfuse.profile import Profile

__all__ = ["LocalPool", "RemotePool", "opened_pool"]

PATIENCE = 60.0  # seconds for workers to come up
CONNECTING = 10.0  # seconds for a scheduler to answer
LOOK = 5.0  # seconds after which workers are counted anew
TRIES, PAUSE = 5, 1.0  # for workers to introduce themselves while some come and go; seconds between
LOGGERS = ("distributed", "distributed.client")  # the second has a level of its own by Dask's configuration
DEATHS = 3  # workers that may die on one task before the task is blamed
NVIDIA = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg")  # one of these is there where CUDA works
SETTINGS = {
    "distributed.scheduler.allowed-failures": DEATHS - 1,
    # nobody looks at what Dask measures of its own processes
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.system-monitor.gil.enabled": False,
    # a fork would carry over threads' locks, and CUDA
    "distributed.worker.multiprocessing-method": "spawn",
}


def opened_pool(profile: Profile) -> Pool:
    """The workers of a profile whose cluster is not ``threads``.

    Raises RecipeError where they can't be had.
    """
    return LocalPool(profile) if profile.cluster == "processes" else RemotePool(profile)


class _DaskPool:
    """Tasks on Dask's workers: paths, windows and a few numbers go there, a few numbers come back."""

    _client: Any

    def __init__(self, device: str) -> None:
        self.device = device
        """See ``Pool``."""
        self._token, self._numbers = uuid.uuid4().hex, itertools.count()
        self.workers: Sequence[Worker] = ()
        """See ``Pool``."""
        self._levels = {name: logging.getLogger(name).level for name in LOGGERS}
        # what goes wrong is told by us, in one line
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)

    def submit(self, function: Callable[..., Any], item: tuple[Any, ...]) -> Any:
        """See ``Pool``."""
        # a key that names the task's own function: Dask learns how long each kind takes, and, since they
        # are one group, keeps them at the scheduler until a worker is free
        name = getattr(item[0], "__name__", function.__name__)
        with self._loss_told():
            return self._client.submit(function, *item, key=(f"{name}-{self._token}", next(self._numbers)))

    def result(self, future: Future[Any]) -> Any:
        """See ``Pool``."""
        try:
            with self._loss_told():
                return future.result()
        except KilledWorker as error:
            deaths = error.allowed_failures + 1  # of a scheduler that was started elsewhere, its own number
            raise BlamedError(
                f"ended {deaths} workers, one after the other (killed by the system, most likely for "
                "lack of memory): use a smaller `tiles.size`, or fewer `workers` or `threads` in the profile"
            ) from error

    def withdraw(self, future: Future[Any]) -> bool:
        """See ``Pool``: tasks that a worker holds stay, one that runs and one that waits for it."""
        with self._loss_told():
            held = {key for keys in self._client.processing().values() for key in keys}
        if future.done() or future.key in held:
            return False
        future.cancel()
        return True

    @contextmanager
    def _loss_told(self) -> Iterator[None]:
        """LostError where the scheduler can't be reached: Dask raises one thing or another then."""
        try:
            yield
        except Exception as error:
            lost = isinstance(error, CancelledError | CommClosedError)
            if not lost and (isinstance(error, KilledWorker) or self._client.status == "running"):
                raise
            raise LostError(
                "the scheduler, or the connection to it, was lost: run it again to continue"
            ) from error

    def _introduced(self) -> Sequence[Worker]:
        """Each worker's own words; RecipeError where one has another batchfuse, or lacks the device."""
        for _ in range(TRIES):
            try:
                answers = self._client.run(_introduction, self.device, on_error="return")
            except Exception as error:  # a worker's import of us may raise anything
                raise RecipeError(f"the workers can't be used: {_said(error)}") from error
            if answers and not any(isinstance(answer, OSError) for answer in answers.values()):
                break
            time.sleep(PAUSE)  # one died meanwhile, and another takes its place
        mine = version("batchfuse")
        for address, answer in answers.items():
            if isinstance(answer, RecipeError):
                raise RecipeError(f"worker {address}: {answer}")
            if not isinstance(answer, tuple):
                raise RecipeError(
                    f"worker {address} has no batchfuse that works ({_said(answer)}): install {mine} there"
                )
            if answer[0] != mine:
                raise RecipeError(
                    f"worker {address} has batchfuse {answer[0]}, here it is {mine}: install one version"
                )
        threads = self._client.nthreads()
        return [Worker(name, device, threads.get(a, 1)) for a, (_, name, device) in answers.items()]

    def _wait_for_workers(self, number: int, remedy: str) -> None:
        try:
            self._client.wait_for_workers(number, timeout=PATIENCE)
        except TimeoutError:
            there = len(self._client.nthreads())
            raise RecipeError(f"{there} of {number} workers came within {PATIENCE:g} s: {remedy}") from None

    def _leave(self, at_once: bool) -> None:
        with suppress(OSError):  # too late, or lost
            self._client.close(timeout=1 if at_once else 10)
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)


class LocalPool(_DaskPool):
    """Processes of this machine. One that dies is started again, and its tasks are run by others."""

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile.device)
        workers, threads = profile.numbers(_gpus(profile))
        self.slots = workers * threads
        """See ``Pool``."""
        self._cluster = _started(workers, threads)
        self._client = Client(self._cluster, set_as_default=False)
        try:
            self._client.register_plugin(_Place())
            self._wait_for_workers(workers, "use fewer `workers` in the profile")
            self.workers = self._introduced()
        except BaseException:
            self.close(at_once=True)
            raise

    def kernel_threads(self, tiles: int) -> int | None:
        """See ``Pool``: the cores are shared by all that runs at a time on this machine."""
        return cores_each(self.slots, tiles)

    def close(self, at_once: bool) -> None:
        """See ``Pool``."""
        self._leave(at_once)
        with suppress(TimeoutError):
            self._cluster.close(timeout=1 if at_once else 30)


class RemotePool(_DaskPool):
    """The workers of a scheduler that runs already. They are left as they were found."""

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile.device)
        self._client = _connected(profile)
        self._slots, self._looked = 0, -LOOK
        try:
            self._wait_for_workers(1, f"start some: dask worker {profile.cluster}")
            self.workers = self._introduced()
        except BaseException:
            self.close(at_once=True)
            raise

    @property
    def slots(self) -> int:
        """See ``Pool``: workers may join and leave."""
        now = time.monotonic()
        if now - self._looked >= LOOK:
            self._looked = now
            with suppress(OSError):  # a scheduler that is lost is told by what it was to do
                self._slots = sum(self._client.nthreads().values())
        return max(1, self._slots)

    def kernel_threads(self, tiles: int) -> int | None:  # noqa: ARG002
        """See ``Pool``: whoever started the workers has decided."""
        return None

    def close(self, at_once: bool) -> None:
        """See ``Pool``."""
        self._leave(at_once)


def _started(workers: int, threads: int) -> Any:
    """Dask's cluster of processes; RecipeError where they don't come up."""
    try:
        with dask.config.set(SETTINGS), _spared_from_interrupts():
            return LocalCluster(
                n_workers=workers,
                threads_per_worker=threads,
                processes=True,
                # Dask serves its state over HTTP: to this machine only, on any free port
                dashboard_address="127.0.0.1:0",
                worker_dashboard_address="127.0.0.1:0",
                memory_limit=0,
                silence_logs=logging.CRITICAL,
            )
    except (RuntimeError, OSError, TimeoutError) as error:
        raise RecipeError(
            f"the worker processes can't be started ({_said(error)}): use `cluster: threads`; in a program "
            'of your own, run them below `if __name__ == "__main__":`: Python starts each from its beginning'
        ) from error


def _gpus(profile: Profile) -> int:
    """GPUs to share out, where the number of workers is left to us; torch is imported only to count them."""
    if profile.workers != "auto" or not any(map(os.path.exists, NVIDIA)):
        return 0
    from batchfuse.fusion.device import gpus_for

    return gpus_for(profile.device)


class _Place(WorkerPlugin):
    """Tells a process of this machine which of them it is."""

    name = "batchfuse-place"

    def setup(self, worker: Any) -> None:
        take_place(int(worker.name))


def _introduction(device: str) -> tuple[str, str, str] | RecipeError:
    """Run by a worker: batchfuse's version, its own name, its device; or why it can't be used."""
    try:
        return version("batchfuse"), f"{socket.gethostname()}:{os.getpid()}", device_named(device)
    except RecipeError as error:
        return error


def _connected(profile: Profile) -> Any:
    """The client of a scheduler's address, or of its scheduler file."""
    target = profile.cluster
    if target.endswith(".json"):
        path = profile.located(target)
        if not path.is_file():
            raise RecipeError(f"the scheduler file {path} is not there: start `dask scheduler` with it first")
        return _client(str(path), scheduler_file=str(path))
    return _client(target, address=target, security=_security(profile))


def _client(target: str, **where: Any) -> Any:
    try:
        return Client(**where, set_as_default=False, timeout=CONNECTING)
    except ssl.SSLError as error:
        raise RecipeError(
            f"the scheduler at {target} refuses TLS ({_said(error)}): check `options`"
        ) from error
    except (OSError, TimeoutError, ValueError) as error:
        raise RecipeError(
            f"no scheduler answers at {target} within {CONNECTING:g} s ({_said(error)}): "
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
def _spared_from_interrupts() -> Iterator[None]:
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


def _said(error: object) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
