"""Processes of this machine that each do one thing at a time: no thread in them, none left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from batchfuse.errors import BatchfuseError
from batchfuse.quiet import quiet_libraries

__all__ = ["Submit", "processes"]

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
"""What libraries read when they are loaded: the processes are the parallelism."""


Submit = Callable[..., Future[Any]]
"""Does ``function(*arguments)``, now or elsewhere."""


@contextmanager
def processes(number: int) -> Iterator[Submit]:
    """So many processes, spawned anew, so that it works everywhere; with 1, this one.

    They end with the block, at once where it is left by an exception.

    Raises:
        BatchfuseError: one of them was killed.
    """
    if number == 1:
        yield _here
        return
    before = set(multiprocessing.active_children())
    kept = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    pool = ProcessPoolExecutor(number, multiprocessing.get_context("spawn"), initializer=_begin)
    try:
        yield pool.submit
        pool.shutdown()
    except BrokenProcessPool:
        raise BatchfuseError(
            f"one of {number} processes was killed, for want of memory it seems: give a smaller --workers"
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        for name, value in kept.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _begin() -> None:
    """What a new process does first: Ctrl-C is for the one that leads, and so are lines on the terminal."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    quiet_libraries()


def _here(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
    done: Future[Any] = Future()
    try:
        done.set_result(function(*arguments))
    except Exception as error:
        done.set_exception(error)
    return done
