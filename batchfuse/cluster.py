"""Where tasks run: Dask, behind one small door."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from distributed import Client, Future, LocalCluster, as_completed

from batchfuse.errors import BatchfuseError, SceneError
from batchfuse.machine import cores
from batchfuse.recipe import Profile

__all__ = ["Cluster", "Stopped"]

AHEAD = 2  # tasks waiting for each one running: enough to keep threads busy, and memory bounded

T = TypeVar("T")


class Stopped(Exception):  # noqa: N818  (an event, not an error)
    """The run was stopped, for the reason given: no further task is submitted."""


@dataclass(frozen=True, slots=True)
class _Refused:
    """A task's BatchfuseError on its way back: it isn't a worker's failure, and Dask need not log it."""

    error: BatchfuseError


class Cluster:
    """Runs tasks with a bounded number of them under way, whoever asks for how many.

    Several threads may map over one cluster at a time: that is how the end of one scene overlaps
    the start of the next.
    """

    def __init__(self, profile: Profile) -> None:
        self.threads = cores() if profile.threads == "auto" else profile.threads
        """Tasks that run at the same time."""
        self._places = threading.BoundedSemaphore(self.threads * (1 + AHEAD))
        self._stopped: str | None = None
        self._level = logging.NOTSET
        self._client: Any = None
        self._cluster: Any = None

    def __enter__(self) -> Cluster:
        self._level = logging.getLogger("distributed").level
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        self._cluster = LocalCluster(
            n_workers=1,
            threads_per_worker=self.threads,
            processes=False,
            # Dask's scheduler always serves its state: to this machine only, on any free port
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            memory_limit=0,
            silence_logs=logging.CRITICAL,
        )
        self._client = Client(self._cluster, set_as_default=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()
        self._cluster.close()
        logging.getLogger("distributed").setLevel(self._level)

    def stop(self, reason: str) -> None:
        """No further task is submitted; those under way, three a thread at most, finish."""
        self._stopped = reason

    def map(self, function: Callable[..., T], items: Iterable[tuple[Any, ...]]) -> Iterator[T]:
        """``function(*item)`` of each item, in the order they finish.

        Raises:
            BatchfuseError: what the first failing task raised; the others are dropped.
            Stopped: the run was interrupted.
        """
        waiting = iter(items)
        under_way: Any = as_completed(loop=self._client.loop)
        held: set[Future[Any]] = set()
        try:
            more = self._submit_next(function, waiting, under_way, held, block=True)
            while held:
                while more and len(held) < self.threads * (1 + AHEAD):
                    before = len(held)
                    more = self._submit_next(function, waiting, under_way, held, block=False)
                    if len(held) == before:
                        break
                future = next(under_way)
                held.discard(future)
                self._places.release()
                result = future.result()
                if isinstance(result, _Refused):
                    raise result.error
                yield result
                if more and not held:
                    more = self._submit_next(function, waiting, under_way, held, block=True)
            if self._stopped is not None:
                raise Stopped(self._stopped)
        finally:
            for future in held:
                future.cancel()
                self._places.release()

    def _submit_next(
        self,
        function: Callable[..., T],
        waiting: Iterator[Any],
        under_way: Any,
        held: set[Future[Any]],
        block: bool,
    ) -> bool:
        """Submits one more item if there is a place for it; False once there is no item left."""
        if not self._places.acquire(blocking=block):
            return True
        try:
            item = None if self._stopped is not None else next(waiting, None)
            future = None if item is None else self._client.submit(_guarded, function, item, pure=False)
        except BaseException:
            self._places.release()
            raise
        if future is None:
            self._places.release()
            return False
        held.add(future)
        under_way.add(future)
        return True


def _guarded(function: Callable[..., T], item: tuple[Any, ...]) -> T | _Refused:
    try:
        return function(*item)
    except BatchfuseError as error:
        return _Refused(error)
    except (MemoryError, RuntimeError) as error:
        if not _is_lack_of_memory(error):
            raise
        return _Refused(
            SceneError(
                f"out of memory ({str(error).splitlines()[0] if str(error) else 'MemoryError'}): "
                "use a smaller `tiles.size`, or fewer `threads` in the profile"
            )
        )


def _is_lack_of_memory(error: Exception) -> bool:
    """Torch's own kinds are told by name and text: it is not imported here."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )
