"""A lease on an output folder: one run at a time writes there.

The lease is a file beside the stores that names host and process, and whose time of change is its
heartbeat. No file lock is used, since network file systems differ in what theirs mean.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from batchfuse.errors import BusyError, RecipeError, may_pass
from batchfuse.storage.beside import LEASE
from batchfuse.system.notes import Kind, UnreadableError, encoded, read_note

__all__ = ["Holder", "Lease", "fault_of", "holder_of"]

BEAT = 10.0  # seconds between heartbeats
STALE = 60.0  # seconds without one after which the lease of another host counts as left behind
TRIES, PAUSE = 50, 0.1  # for the lease while others, too, find a stale one; seconds between
LONGEST, SIZE = 300, 16 * 1024  # signs of a name of a machine; bytes of a lease
YOUNG = 2.0  # seconds for which an empty lease counts as one that is being written
SAME_START = 2.0  # seconds by which two readings of a process's start may differ


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease."""

    host: str
    """Name of the machine."""
    machine: str
    """What tells this machine, since it was started, from every other; of containers, this container."""
    process: int
    """Process number."""
    started: float
    """When the process began, in seconds since 1970: a number may be given out again."""
    token: str
    """Tells this lease from every other."""

    @classmethod
    def here(cls) -> Holder:
        """The process that asks."""
        started = psutil.Process().create_time()
        return cls(socket.gethostname(), _machine(), os.getpid(), started, uuid.uuid4().hex)

    @property
    def runs(self) -> bool:
        """Whether the process, one of this machine, is still there."""
        try:
            return abs(psutil.Process(self.process).create_time() - self.started) < SAME_START
        except psutil.Error:
            return False

    def to_json(self) -> str:
        """The file's text."""
        return encoded(KIND, {name: getattr(self, name) for name in self.__slots__}).decode()


def _is_a_holder(values: Mapping[str, Any]) -> bool:
    """Whether these are the values of a holder: what is said of it is printed, and the process looked for."""
    names = [values.get("host"), values.get("machine")]
    process, started, token = (values.get(name) for name in ("process", "started", "token"))
    return (
        values.keys() == set(Holder.__slots__)
        and all(isinstance(name, str) and name.isprintable() and len(name) < LONGEST for name in names)
        and type(process) is int
        and 0 < process < 2**31
        and isinstance(started, float)
        and isinstance(token, str)
        and re.fullmatch("[0-9a-f]{32}", token) is not None
    )


KIND = Kind("lease", _is_a_holder)


class Lease:
    """Held while the block runs, with a heartbeat; whoever else wants the folder meanwhile is refused."""

    def __init__(self, folder: Path, on_loss: Callable[[str], None] | None = None) -> None:
        """``on_loss`` is told, in a line, if another run takes the lease over."""
        self.path = folder / LEASE
        self.holder = Holder.here()
        self._on_loss = on_loss
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        """Raises BusyError while another run holds it, RecipeError where it can't be read or written."""
        for _ in range(TRIES):
            if self._made() or self._taken_over():
                self._heart.start()
                return self
            time.sleep(PAUSE)
        raise BusyError(f"{self.path} changes hands at this moment: try again")

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        with suppress(OSError, RecipeError):
            if _read(self.path) == self.holder:
                self.path.unlink()

    def _made(self) -> bool:
        """Whether the file could be made, which only one of many can."""
        with self._written() as partial:
            try:
                os.link(partial, self.path)  # as exclusive as O_EXCL, and never seen half-written
                return True
            except FileExistsError:
                return False
            except OSError:  # a file system without hard links
                return _made_alone(self.path, self.holder.to_json())

    def _taken_over(self) -> bool:
        """Whether a lease that a dead run left could be replaced; raises BusyError where the run lives.

        Of many that find it stale, only the one that makes the claim, which is named after what was found,
        may replace it; and only while it is still what was found.
        """
        found = _read(self.path)
        if found is None:
            return False
        if why := _alive(found, self.path):
            raise BusyError(
                f"{self.path.parent} is in use: process {found.process} on {found.host} is fusing into it "
                f"({why}). Wait for it or stop it; `batchfuse status {self.path.parent}` says how far it is"
            )
        name = hashlib.sha256(found.to_json().encode()).hexdigest()[:32]
        claim = self.path.with_name(f"{LEASE}.{name}.claim.partial")
        with self._written() as partial:
            if not _made_alone(claim, self.holder.to_json()):
                if _age(claim) >= STALE:  # whoever made it died within that moment
                    claim.unlink(missing_ok=True)
                return False
            try:
                if _read(self.path) != found:
                    return False
                partial.replace(self.path)
                return True
            finally:
                claim.unlink(missing_ok=True)

    @contextmanager
    def _written(self) -> Iterator[Path]:
        """The lease under a name of its own, which is gone afterwards."""
        partial = self.path.with_name(f"{LEASE}.{self.holder.token}.partial")
        try:
            partial.write_text(self.holder.to_json(), encoding="utf-8")
            yield partial
        except OSError as error:
            raise RecipeError(f"the lease {self.path} can't be written ({error.strerror})") from error
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            try:
                found = _read(self.path)
                if found is not None and found != self.holder:
                    if self._on_loss is not None:
                        self._on_loss(
                            f"process {found.process} on {found.host} took the output folder over, as no "
                            f"heartbeat of this run was seen for {STALE:g} s"
                        )
                    return
                if found is None:
                    self._made()
                os.utime(self.path)
            except (OSError, RecipeError):
                continue  # a file system that is away for a moment


def _made_alone(path: Path, text: str) -> bool:
    """Whether a file that was not there could be made, which only one of many can."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        return True
    except FileExistsError:
        return False


def holder_of(folder: Path) -> Holder | None:
    """The run that writes into a folder at this moment, if any; None where its lease can't be read."""
    path = folder / LEASE
    try:
        found = _read(path)
    except RecipeError:
        return None
    return found if found is not None and _alive(found, path) else None


def fault_of(folder: Path) -> str | None:
    """Why the lease of a folder can't be read, in a line with the remedy; None if it can, or is not there."""
    try:
        _read(folder / LEASE)
    except RecipeError as error:
        return str(error)
    return None


def _alive(holder: Holder, path: Path) -> str:
    """Why this holder's run counts as living, in words; empty where it doesn't."""
    if holder.machine == _machine():
        return "it runs" if holder.runs else ""
    age = _age(path)
    return f"last heard of {age:.0f} s ago" if age < STALE else ""


def _age(path: Path) -> float:
    """Seconds since the last heartbeat, by the file server's own clock: hosts' clocks differ."""
    probe = path.with_name(f"{LEASE}.{uuid.uuid4().hex}.partial")
    try:
        beat = path.stat().st_mtime
    except FileNotFoundError:
        return STALE
    try:
        probe.touch()
        now = probe.stat().st_mtime
    except OSError:  # a folder that may only be read
        now = time.time()
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return max(0.0, now - beat)


def _read(path: Path) -> Holder | None:
    """Who holds the lease; None where there is none, or none for now.

    Raises RecipeError where what lies there is no lease: whether a run is there can't be told.
    """
    try:
        return Holder(**read_note(path, KIND, most=SIZE).values)
    except FileNotFoundError:
        if not path.is_symlink():
            return None
        why = "a link to nothing"
    except UnreadableError as error:
        if _is_begun(path):
            return None
        why = str(error)
    except OSError as error:
        if may_pass(error):
            return None
        why = str(error.strerror)
    raise RecipeError(f"the lease {path} can't be read ({why}): if no run writes here, delete it")


def _is_begun(path: Path) -> bool:
    """Whether somebody makes the file at this moment, where it can't be made whole at once."""
    try:
        return path.is_file() and path.stat().st_size == 0 and _age(path) < YOUNG
    except OSError:
        return False


def _machine() -> str:
    """Host, boot and process namespace: where process numbers mean the same."""

    def told(read: Callable[[], Any]) -> str:
        try:
            return str(read()).strip()
        except OSError:
            return ""

    boot = told(lambda: Path("/proc/sys/kernel/random/boot_id").read_text())
    return "/".join((socket.gethostname(), boot, told(lambda: Path("/proc/self/ns/pid").readlink())))
