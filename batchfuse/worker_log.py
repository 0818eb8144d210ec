"""What a worker tells in a file of its own: when it began, each task begun and done, what went wrong.

Where ``keep_log`` was not called, nothing is written. What a killed worker was at is what its file says that
it began and does not say that it did.
"""

from __future__ import annotations

import atexit
import os
import platform
import socket
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from batchfuse.errors import BatchfuseError
from batchfuse.report.events import event_line

__all__ = ["Task", "end_log", "keep_log", "noted", "taken_fault", "this_worker"]

JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "OAR_JOB_ID", "CONDOR_JOB_ID", "JOB_ID")
"""Where batch systems tell a process which job it is part of; the last is SGE's."""

_keeping = threading.Lock()
_log: _Log | None = None
_name: str | None = None
_fault: str | None = None


def keep_log(
    folder: Path, name: str | None = None, *, device: str | None = None, threads: int | None = None
) -> None:
    """Begins ``<folder>/<host>-<pid>.log`` for this process, or goes on with it; called again, does nothing.

    A process keeps one log: with another folder, as in a worker that serves one run after the other, the log
    before is ended. It never raises: that the file can't be written is left for ``taken_fault``.

    Args:
        folder: where the logs of all workers are; made if it isn't there.
        name: what the cluster calls this worker; part of what ``this_worker`` says from now on.
        device: where its network computes.
        threads: how many tasks it runs at the same time.
    """
    global _log, _name, _fault
    path = folder / f"{socket.gethostname()}-{os.getpid()}.log"
    with _keeping:
        _name = name
        if _log is not None and _log.path == path:
            return
        if _log is not None:
            _log.end()
        _log = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _log = _Log(path)
        except OSError as error:
            _fault = _fault_of(path, error)
            return
        atexit.register(end_log)
    _log.tell(
        "started",
        worker_name=name,
        version=version("batchfuse"),
        python=platform.python_version(),
        device=device,
        threads=threads,
        job=next((os.environ[key] for key in JOBS if os.environ.get(key)), None),
        gpus=os.environ.get("CUDA_VISIBLE_DEVICES"),
    )


def end_log() -> None:
    """Writes the last line of this process's log, if it keeps one, and closes it."""
    global _log, _name
    with _keeping:
        log, _log, _name = _log, None, None
        atexit.unregister(end_log)
        if log is not None:
            log.end()


def noted(scene: str, message: str) -> None:
    """Something to know of this worker, such as that its GPU's memory is short; told once."""
    if (log := _log) is not None and log.is_new(message):
        log.tell("note", "warning", scene=scene, message=message)


def taken_fault() -> str | None:
    """Why this process's log could not be written, in one line; only the first time it is asked."""
    global _fault
    fault, _fault = _fault, None
    return fault


def this_worker() -> tuple[str, str | None]:
    """Who this process is, as host:pid, and what the cluster calls it, where ``keep_log`` was told."""
    return _host_and_process(), _name


@cache
def _host_and_process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


class Task:
    """A task of this worker while its block runs: timed, and told in the log if there is one."""

    __slots__ = ("_about", "_clock", "began", "bytes", "seconds")

    def __init__(self, scene: str, phase: str, tile: tuple[int, ...] | None = None) -> None:
        self._about = (scene, phase, tile)
        self.bytes: int | None = None
        """Bytes it wrote, where that is known."""
        self.began = self.seconds = 0.0
        """Seconds since 1970, and how many it took."""

    def __enter__(self) -> Self:
        if _log is not None:
            self._tell(_log, "task_begun")
        self.began, self._clock = time.time(), time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self._clock
        if (log := _log) is None:
            return
        took = round(self.seconds, 6)
        if error is None:
            self._tell(log, "task_done", seconds=took, bytes=self.bytes)
        elif isinstance(error, BatchfuseError):
            self._tell(log, "task_failed", "error", seconds=took, message=str(error))
        else:  # a bug, or lack of memory
            told = "".join(traceback.format_exception(kind, error, trace))
            message = " ".join(f"{type(error).__name__}: {error}".split())
            self._tell(log, "task_failed", "error", seconds=took, message=message, traceback=told)

    def _tell(self, log: _Log, event: str, level: str = "info", **more: Any) -> None:
        scene, phase, tile = self._about
        log.tell(event, level, scene=scene, phase=phase, tile=tile, **more)


class _Log:
    """The file. Each line is written at once; after one that can't be, no more are tried."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a", encoding="ascii", buffering=1)
        self._lock = threading.Lock()
        self._notes: set[str] = set()

    def tell(self, event: str, level: str = "info", **about: Any) -> None:
        line = self._line(event, level, about)
        with self._lock:
            self._write(line)

    def is_new(self, message: str) -> bool:
        """Whether it was not noted before; now it is."""
        with self._lock:
            new = message not in self._notes
            self._notes.add(message)
            return new

    def end(self) -> None:
        with self._lock:
            self._write(self._line("ended", "info", {}))
            self._close()

    def _line(self, event: str, level: str, about: Mapping[str, Any]) -> str:
        return f"{event_line(event, level, {'worker': _host_and_process(), **about})}\n"

    def _write(self, line: str) -> None:
        global _fault
        if self._file.closed:
            return
        try:
            self._file.write(line)
        except OSError as error:
            _fault = _fault_of(self.path, error)
            self._close()

    def _close(self) -> None:
        with suppress(OSError):  # it wants to write what it could not write before
            self._file.close()


def _fault_of(path: Path, error: OSError) -> str:
    return f"the worker's log {path} can't be written ({error.strerror}): the run goes on without it"
