"""What a run tells while it goes on: plain lines in a log, silence, or bars drawn by the caller."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TextIO

from batchfuse.report.account import Account, Size
from batchfuse.report.alike import Kinds
from batchfuse.report.report import Outcome
from batchfuse.system.words import printable, printable_lines

__all__ = [
    "FusedTile",
    "Lines",
    "Progress",
    "Silence",
    "counted",
    "duration",
    "retried",
    "shortened",
    "sized",
    "warned",
]

NAMED = 3  # scenes under way that a line of a log names


@dataclass(frozen=True, slots=True)
class FusedTile:
    """A tile that was fused and written, and by whom."""

    index: tuple[int, ...]
    """Its place in the tiling, (y, x) or (z, y, x)."""
    pixels: int
    """Pixels, or voxels, of its core."""
    bytes: int
    """Bytes on disk."""
    worker: str
    """The process, as host:pid."""
    worker_name: str | None
    """What the cluster calls it, where it has a name."""
    began: float
    """When, by the worker's clock, in seconds since 1970."""
    seconds: float
    """How long it took."""

    def __str__(self) -> str:
        """A line for people, without the scene."""
        name = f" ({self.worker_name})" if self.worker_name else ""
        return f"tile {self.index} fused in {self.seconds:.3g} s by {self.worker}{name}, {sized(self.bytes)}"


class Progress(Protocol):
    """Told of each step; called from several threads."""

    def begin(self, scenes: int, tiles: int) -> None:
        """A run of this size begins."""

    def more(self, tiles: int) -> None:
        """Scenes with so many tiles have joined that could not be planned before."""

    def phase(self, scene: str, phase: str, done: int, total: int) -> None:
        """A scene is that far in a phase before or after its tiles: statistics, survey, quicklook."""

    def tile(self, scene: str, tile: FusedTile) -> None:
        """A tile was fused and written."""

    def skip(self, scene: str, tiles: int) -> None:
        """Tiles need no fusing: they are there already, or their scene failed."""

    def retry(self, scene: str, reason: str, pause: float, number: int, most: int) -> None:
        """A scene is tried again in ``pause`` seconds, for the ``number``-th time of ``most``."""

    def end(self, outcome: Outcome, line: str) -> None:
        """A scene is done with; ``line`` says how."""

    def warn(self, scene: str | None, warning: str) -> None:
        """A person should look at something of a scene, or of the run as a whole."""

    def note(self, line: str) -> None:
        """Something about the run as a whole, such as that it is being stopped."""


class Silence:
    """Says nothing."""

    def begin(self, scenes: int, tiles: int) -> None: ...

    def more(self, tiles: int) -> None: ...

    def phase(self, scene: str, phase: str, done: int, total: int) -> None: ...

    def tile(self, scene: str, tile: FusedTile) -> None: ...

    def skip(self, scene: str, tiles: int) -> None: ...

    def retry(self, scene: str, reason: str, pause: float, number: int, most: int) -> None: ...

    def end(self, outcome: Outcome, line: str) -> None: ...

    def warn(self, scene: str | None, warning: str) -> None: ...

    def note(self, line: str) -> None: ...


class Lines:
    """Plain lines for a log: one a scene, and one every few seconds in between.

    Args:
        stream: standard error without one.
        every: seconds between the lines that say how far the run is.
        sizes: tiles and pixels of each scene, for the time left; without them every tile counts the same.
        clock: seconds that only go forward.
        tiles: whether each tile has a line, with who fused it, and a bug its traceback.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        every: float = 10.0,
        sizes: Mapping[str, Size] | None = None,
        clock: Callable[[], float] = time.monotonic,
        tiles: bool = False,
    ) -> None:
        self.stream = stream or sys.stderr
        self.every = every
        self._clock = clock
        self._tiles = tiles
        self._lock = threading.Lock()
        self._account = Account(sizes or {}, clock)
        self._kinds = Kinds()
        self._told = clock()

    def begin(self, scenes: int, tiles: int) -> None:
        """See ``Progress``."""
        with self._lock:
            self._account.begin(scenes, tiles)
            self._told = self._clock()
            self._say(f"{counted(scenes, 'scene')}, {counted(tiles, 'tile')}")

    def more(self, tiles: int) -> None:
        """See ``Progress``."""
        with self._lock:
            self._account.more(tiles)

    def phase(self, scene: str, phase: str, done: int, total: int) -> None:
        """See ``Progress``."""
        with self._lock:
            self._account.phase(scene, phase, done, total)
            self._say_if_due()

    def tile(self, scene: str, tile: FusedTile) -> None:
        """See ``Progress``."""
        with self._lock:
            self._account.tile(scene, tile.pixels)
            if self._tiles:
                self._say(f"{scene}: {tile}")
            self._say_if_due()

    def skip(self, scene: str, tiles: int) -> None:
        """See ``Progress``."""
        with self._lock:
            self._account.skip(scene, tiles)

    def retry(self, scene: str, reason: str, pause: float, number: int, most: int) -> None:
        """See ``Progress``."""
        self.note(retried(scene, reason, pause, number, most))

    def end(self, outcome: Outcome, line: str) -> None:
        """See ``Progress``."""
        with self._lock:
            self._account.end(outcome.scene)
            if self._tiles and outcome.traceback:
                print(printable_lines(outcome.traceback.rstrip()), file=self.stream, flush=True)
            self._say(f"[{self._account.ended}/{self._account.scenes}] {outcome.scene}: {line}")

    def warn(self, scene: str | None, warning: str) -> None:
        """The first warning of each kind; how many scenes have it is told at the end of the run."""
        with self._lock:
            if self._kinds.is_new(scene or "", warning):
                self._say(warned(scene, warning))

    def note(self, line: str) -> None:
        """See ``Progress``."""
        with self._lock:
            self._say(line)

    def _say_if_due(self) -> None:
        now = self._clock()
        if now - self._told >= self.every:
            self._told = now
            self._say(self._line())

    def _line(self) -> str:
        """How far the run is, and what it is at."""
        account = self._account
        parts = [f"{account.tiles_done}/{account.tiles} tiles"]
        if account.rate is not None:
            parts.append(f"{account.rate / 1e6:.2f} Mpixel/s")
        if account.seconds_left is not None:
            parts.append(f"about {duration(account.seconds_left)} left")
        now = [f"{name}: {at.phase} {at}" for name, at in account.under_way.items()]
        more = f", and {len(now) - NAMED} more" if len(now) > NAMED else ""
        return f"{', '.join(parts)} ({', '.join(now[:NAMED])}{more})"

    def _say(self, line: str) -> None:
        print(printable(line), file=self.stream, flush=True)


def retried(scene: str, reason: str, pause: float, number: int, most: int) -> str:
    """The line for a scene that is tried again."""
    return f"{scene}: {reason}; tried again in {duration(pause)} ({number} of {most})"


def warned(scene: str | None, warning: str) -> str:
    """The line for a warning of a scene, or of the run as a whole."""
    return f"warning: {warning}" if scene is None else f"warning: {scene}: {warning}"


def counted(number: int, noun: str) -> str:
    """1 scene, 2 scenes."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def shortened(text: str, width: int, gap: str = "…") -> str:
    """The text, its middle left out where it is longer than ``width``: scenes differ at their ends."""
    if len(text) <= width:
        return text
    kept = max(0, width - len(gap))
    return text[: kept - kept // 2] + gap + text[len(text) - kept // 2 :]


def sized(size: float) -> str:
    """Bytes as people say them: 144 kB, 3.2 GB."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.3g} {unit}"
