"""What is common to all workers that Dask leads: tasks go there, and workers come and go."""

from __future__ import annotations

import itertools
import logging
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from copy import deepcopy
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import dask
from distributed import Future, KilledWorker, get_worker
from distributed.comm.core import CommClosedError

from batchfuse.cluster import Demand, Worker
from batchfuse.errors import BlamedError, LostError, RecipeError, SceneError, said
from batchfuse.place import device_named
from batchfuse.report.progress import counted
from batchfuse.storage.beside import LOGS
from batchfuse.worker_log import end_log, keep_log, this_worker

__all__ = ["LOOK", "SETTINGS", "TOLD", "TOLD_AGAIN", "DaskPool", "shortly", "silenced", "with_settings"]

LOOK = 5.0  # seconds after which workers are counted anew
TOLD, TOLD_AGAIN = 15.0, 60.0  # seconds without a worker until it is said, and said again
TRIES, PAUSE = 5, 1.0  # for workers to introduce themselves while some come and go; seconds between
LOGGERS = ("distributed", "distributed.client")  # the second has a level of its own by Dask's configuration
DEATHS = 3  # workers that may die on one task before the task is blamed
SETTINGS = {
    "distributed.scheduler.allowed-failures": DEATHS - 1,
    # a worker holds what it is at, and no task more that its death would make suspect
    "distributed.scheduler.worker-saturation": 1.0,
    # a worker that is not heard of for so long is taken for lost: its host may have gone without a word
    "distributed.scheduler.worker-ttl": "60s",
    # nobody looks at what Dask measures of its own processes
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.system-monitor.gil.enabled": False,
    # what Dask tells by HTTP of tasks and workers, anyone on the machine could read: its dashboard is enough
    "distributed.scheduler.http.routes": ["distributed.http.statics"],
    "distributed.worker.http.routes": [],
    # a fork would carry over threads' locks, and CUDA
    "distributed.worker.multiprocessing-method": "spawn",
}


def with_settings() -> Any:
    """A context in which Dask has these settings: a copy of them, since it adds to the list of pages."""
    return dask.config.set(deepcopy(SETTINGS))


class DaskPool:
    """Tasks on Dask's workers: paths, windows and a few numbers go there, a few numbers come back."""

    _client: Any

    def __init__(self, device: str, demand: Demand, logs: bool = False) -> None:
        """``logs``: whether each worker keeps a log of its own below the output folder."""
        self.device = device
        """See ``Pool``."""
        self.demand = demand
        """What the run asks for."""
        self.slots = 1
        """See ``Pool``."""
        self._token, self._numbers = uuid.uuid4().hex, itertools.count()
        self._run = _Run(self._token, version("batchfuse"), device, demand.folder / LOGS if logs else None)
        self._met: dict[str, Worker] = {}
        self._ended = threading.Event()
        self._alone = time.monotonic()
        self._alone_told = 0.0

    @property
    def workers(self) -> Sequence[Worker]:
        """See ``Pool``: all that have been there."""
        return list(self._met.values())

    @property
    def dashboard(self) -> str | None:
        """See ``Pool``: Dask shows it by means of bokeh, where that is installed."""
        return self._client.dashboard_link or None if find_spec("bokeh") else None

    def submit(self, function: Callable[..., Any], item: tuple[Any, ...]) -> Any:
        """See ``Pool``."""
        # one group for all: a large one is kept at the scheduler until a thread of a worker is free, so that
        # a worker that dies takes with it, and makes suspect, what it was at and nothing else
        key = (f"batchfuse-{self._token}", next(self._numbers))
        with self._loss_told():
            return self._client.submit(run_as, self._run, function, *item, key=key)

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

    def _meet(self, addresses: Sequence[str] | None = None) -> None:
        """Asks workers, all without a list, who they are.

        Raises RecipeError where one has another batchfuse, or lacks the device.
        """
        for _ in range(TRIES):
            try:
                answers = self._client.run(_introduction, self.device, workers=addresses, on_error="return")
            except Exception as error:  # a worker's import of us may raise anything
                raise RecipeError(f"the workers can't be used: {shortly(error)}") from error
            if answers and not any(isinstance(answer, OSError) for answer in answers.values()):
                break
            time.sleep(PAUSE)  # one died meanwhile, and another takes its place
        mine = version("batchfuse")
        threads = self._client.nthreads()
        # one that left meanwhile is no worker that can't be used
        answers = {address: answer for address, answer in answers.items() if address in threads}
        for address, answer in answers.items():
            if isinstance(answer, RecipeError):
                raise RecipeError(f"worker {address}: {answer}")
            if not isinstance(answer, tuple):
                raise RecipeError(
                    f"worker {address} has no batchfuse that works ({shortly(answer)}): install {mine} there"
                )
            if answer[0] != mine:
                raise RecipeError(_other_version(address, answer[0], mine))
        for address, (_, name, device) in answers.items():
            self._met[address] = Worker(name, device, threads[address])

    def _wait_for_workers(self, number: int, patience: float, remedy: str) -> None:
        try:
            self._client.wait_for_workers(number, timeout=patience)
        except TimeoutError:
            there = len(self._client.nthreads())
            raise RecipeError(f"{there} of {number} workers came within {patience:g} s: {remedy}") from None

    def _keep_up(self) -> None:
        """From now on workers may join and leave."""
        self._look()
        self._watch()

    def _watch(self) -> None:
        """Looks after the workers from now on."""
        threading.Thread(target=self._look_again, name="workers", daemon=True).start()

    def _look_again(self) -> None:
        while not self._ended.wait(LOOK):
            try:
                self._look()
            except (OSError, SceneError, CancelledError):
                pass  # the connection is away for a moment, or for good: tasks say so
            except Exception:
                if not self._ended.is_set() and self._client.status == "running":
                    traceback.print_exc()  # a bug; the run goes on with the workers that there are

    def _look(self) -> None:
        """Counts the workers, and greets new ones."""
        there = self._client.nthreads()
        self.slots = max(1, sum(there.values()))
        now = time.monotonic()
        if there:
            self._alone, self._alone_told = now, 0.0
        elif now - self._alone > TOLD and (not self._alone_told or now - self._alone_told > TOLD_AGAIN):
            self._alone_told = now
            self.demand.tell(self._want())
        new = [address for address in there if address not in self._met]
        if not new:
            return
        try:
            self._meet(new)
        except RecipeError as error:
            self._met.update((address, Worker(address, "unknown", there[address])) for address in new)
            self.demand.tell(f"warning: {error}")
        else:
            self.demand.tell(f"{counted(len(new), 'worker')} joined, {len(there)} in all")

    def _want(self) -> str:
        """Said when there is no worker."""
        return "no worker is there: waiting for one to join"

    @contextmanager
    def _opening(self) -> Iterator[None]:
        """Closes the pool where it can't be opened."""
        try:
            yield
        except BaseException:
            self.close(at_once=True)
            raise

    def close(self, at_once: bool) -> None:
        """See ``Pool``; workers that were started elsewhere are left as they were found."""
        self._ended.set()
        if self._run.logs is not None and not at_once:
            with suppress(Exception):  # they may all be gone
                self._client.run(end_log, wait=False)
        with suppress(OSError):  # too late, or lost
            self._client.close(timeout=1 if at_once else 10)


@contextmanager
def silenced() -> Iterator[None]:
    """Within it Dask logs next to nothing: what goes wrong is told by us, in one line."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class _Run(NamedTuple):
    """What a worker has to know of the run that its task is of."""

    token: str
    version: str
    device: str
    logs: Path | None


def run_as(run: _Run, function: Callable[..., Any], *item: Any) -> Any:
    """Run by a worker: ``function(*item)``, unless another batchfuse than the run's own would do it."""
    _join(run)
    return function(*item)


@lru_cache(maxsize=1)
def _join(run: _Run) -> None:
    """What a worker does before its first task of a run."""
    there = version("batchfuse")
    if there != run.version:
        raise SceneError(_other_version(this_worker()[0], there, run.version))
    if run.logs is not None:
        worker = get_worker()
        threads = worker.state.nthreads
        keep_log(run.logs, str(worker.name), device=device_named(run.device), threads=threads)


def _introduction(device: str) -> tuple[str, str, str] | RecipeError:
    """Run by a worker: batchfuse's version, its own name, its device; or why it can't be used."""
    try:
        return version("batchfuse"), this_worker()[0], device_named(device)
    except RecipeError as error:
        return error


def _other_version(worker: str, there: str, here: str) -> str:
    return f"worker {worker} has batchfuse {there}, here it is {here}: install one version"


def shortly(error: object) -> str:
    """The beginning of an error's own words: Dask's can be pages."""
    return said(error)[:200]
