"""Where tasks run, behind one small door: threads of this process, or workers that Dask leads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from batchfuse.errors import BatchfuseError, BlamedError, SceneError, refusal_of
from batchfuse.machine import cores_each
from batchfuse.place import device_named
from batchfuse.profile import Profile
from batchfuse.worker_log import this_worker

__all__ = ["Cluster", "Demand", "Pool", "Stopped", "ThreadPool", "Worker", "guarded", "opened_cluster"]

AHEAD = 2  # tasks waiting for each one running: enough to keep workers busy, and memory bounded
LOOK = 1.0  # seconds after which a map looks whether workers have joined, or the run was stopped

T = TypeVar("T")


class Stopped(BaseException):
    """The run was stopped, for the reason given: no further task is submitted.

    An event, not an error: what looks for errors of a scene doesn't take it for one.
    """


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that runs tasks."""

    name: str
    """The host and the process, for people."""
    device: str
    """Where its network computes."""
    threads: int
    """Tasks it runs at the same time."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a run asks of those who start workers for it, and how it is told of them."""

    folder: Path = Path()
    """The output folder, which all workers see."""
    memory: Callable[[], int] = lambda: 0
    """Bytes that a worker needs; reckoned where it is asked for."""
    tiles_left: Callable[[], int] = lambda: 1
    """Tiles that were not fused yet; none only when all is done."""
    tell: Callable[[str], None] = lambda _: None
    """Takes a line for people."""
    halt: Callable[[str], None] = lambda _: None
    """Ends the run, for this reason: no workers are to be had any more."""


class Pool(Protocol):
    """What runs tasks. Futures are those of ``concurrent.futures``, or Dask's, which are alike."""

    @property
    def slots(self) -> int:
        """Tasks that run at the same time; more once workers join."""

    @property
    def workers(self) -> Sequence[Worker]:
        """The processes there are."""

    @property
    def device(self) -> str:
        """What tasks are told of the device."""

    @property
    def dashboard(self) -> str | None:
        """The URL where a person sees what the workers are at, or None."""

    def windows_each(self, tiles: int) -> int | None:
        """Windows that the network computes at once in each tile of a run of so many; None leaves it open."""

    def submit(self, function: Callable[..., Any], item: tuple[Any, ...]) -> Any:
        """The future of ``function(*item)``."""

    def result(self, future: Any) -> Any:
        """What a finished future holds; BlamedError where workers died on it."""

    def withdraw(self, future: Any) -> bool:
        """Whether a task that has not begun could be taken back."""

    def close(self, at_once: bool) -> None:
        """Ends the workers; ``at_once`` without waiting for what they have in hand."""


@contextmanager
def opened_cluster(profile: Profile, demand: Demand | None = None) -> Iterator[Cluster]:
    """The cluster that a profile describes; closed at once where the run is broken off.

    Raises RecipeError where its workers or its device can't be had.
    """
    with _opened_pool(profile, demand or Demand()) as pool:
        finished = False
        try:
            yield Cluster(pool)
            finished = True
        finally:
            pool.close(at_once=not finished)


def _opened_pool(profile: Profile, demand: Demand) -> AbstractContextManager[Pool]:
    if profile.cluster == "threads":
        return nullcontext(ThreadPool(profile.numbers()[1], profile.device))
    from batchfuse.workers import opened_pool  # imports Dask, which takes a second

    return opened_pool(profile, demand)


class Cluster:
    """Runs tasks with a bounded number of them under way, whoever asks for how many.

    Several threads may map over one cluster at a time: that is how the end of one scene overlaps
    the start of the next.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        """What runs the tasks."""
        self._places = threading.Condition()
        self._taken = 0
        self._stopped: str | None = None

    @property
    def slots(self) -> int:
        """Tasks that run at the same time."""
        return self.pool.slots

    def stop(self, reason: str) -> None:
        """No further task is submitted; those that run finish."""
        self._stopped = reason

    def map(self, function: Callable[..., T], items: Iterable[tuple[Any, ...]]) -> Iterator[T]:
        """``function(*item)`` of each item, in the order they finish.

        Raises:
            BatchfuseError: what the first failing task raised; the others are dropped.
            Stopped: the run was interrupted.
        """
        waiting = iter(items)
        finished: SimpleQueue[Any] = SimpleQueue()
        held: dict[Any, tuple[Any, ...]] = {}
        try:
            more = self._submit_next(function, waiting, finished, held, block=True)
            while held:
                while more and len(held) < self._most():
                    before = len(held)
                    more = self._submit_next(function, waiting, finished, held, block=False)
                    if len(held) == before:
                        break
                self._withdraw_if_stopped(held)
                if not held:
                    break
                try:
                    future = finished.get(timeout=LOOK)
                except Empty:  # more workers may have joined, or the run was stopped while there is none
                    continue
                if future not in held:  # withdrawn
                    continue
                item = held.pop(future)
                self._release()
                result = self._result(future, item)
                if isinstance(result, _Refused):
                    raise result.error
                yield result
                if more and not held:
                    more = self._submit_next(function, waiting, finished, held, block=True)
            if self._stopped is not None:
                raise Stopped(self._stopped)
        finally:
            for future in held:
                future.cancel()
                if future.done():
                    self._release()
                else:  # it runs: its place is taken until it ends
                    future.add_done_callback(lambda _: self._release())

    def _result(self, future: Any, item: tuple[Any, ...]) -> Any:
        """What a finished future holds; a worker that is lost while the run is stopped is no failure."""
        try:
            return self.pool.result(future)
        except SceneError as error:
            if self._stopped is not None:
                raise Stopped(self._stopped) from None
            if isinstance(error, BlamedError):
                error.item = item
            raise

    def _submit_next(
        self,
        function: Callable[..., T],
        waiting: Iterator[Any],
        finished: SimpleQueue[Any],
        held: dict[Any, tuple[Any, ...]],
        block: bool,
    ) -> bool:
        """Submits one more item if there is a place for it; False once there is no item left."""
        if not self._acquire(block):
            return True
        try:
            item = None if self._stopped is not None else next(waiting, None)
            future = None if item is None else self.pool.submit(guarded, (function, item))
        except BaseException:
            self._release()
            raise
        if future is None:
            self._release()
            return False
        assert item is not None
        held[future] = item
        future.add_done_callback(finished.put)
        return True

    def _withdraw_if_stopped(self, held: dict[Any, tuple[Any, ...]]) -> None:
        if self._stopped is None:
            return
        for future in list(held):
            if self.pool.withdraw(future):
                del held[future]
                self._release()

    def _most(self) -> int:
        return self.pool.slots * (1 + AHEAD)

    def _acquire(self, block: bool) -> bool:
        with self._places:
            while self._taken >= self._most():
                if not block:
                    return False
                self._places.wait(LOOK)
            self._taken += 1
        return True

    def _release(self) -> None:
        with self._places:
            self._taken -= 1
            self._places.notify()


class ThreadPool:
    """Threads of this process."""

    dashboard = None
    """See ``Pool``."""

    def __init__(self, threads: int, device: str) -> None:
        self.slots = threads
        self.device = device_named(device)
        self.workers = (Worker(this_worker()[0], self.device, threads),)
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="tile")

    def windows_each(self, tiles: int) -> int | None:
        """See ``Pool``: they take the cores that tiles at once leave idle."""
        return cores_each(self.slots, tiles)

    def submit(self, function: Callable[..., Any], item: tuple[Any, ...]) -> Future[Any]:
        """See ``Pool``."""
        return self._executor.submit(function, *item)

    def result(self, future: Future[Any]) -> Any:
        """See ``Pool``."""
        return future.result()

    def withdraw(self, future: Future[Any]) -> bool:
        """See ``Pool``."""
        return future.cancel()

    def close(self, at_once: bool) -> None:
        """See ``Pool``."""
        self._executor.shutdown(wait=not at_once, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class _Refused:
    """A task's BatchfuseError on its way back: it isn't a worker's failure, and Dask need not log it."""

    error: BatchfuseError


def guarded(function: Callable[..., T], item: tuple[Any, ...]) -> T | _Refused:
    """``function(*item)``; whatever it raises, a bug, too, as a value that travels."""
    try:
        return function(*item)
    except Exception as error:
        refused = refusal_of(error)
        # Dask sends along what an error comes from, and GDAL's own can't be put together again
        refused.__cause__ = refused.__context__ = refused.__traceback__ = None
        return _Refused(refused)
