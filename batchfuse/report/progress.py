"""What a run tells while it goes on: plain lines in a log, silence, or a bar drawn by the caller."""

from __future__ import annotations

import sys
import threading
import time
from typing import Protocol, TextIO

__all__ = ["Lines", "Progress", "Silence", "counted", "duration"]


class Progress(Protocol):
    """Told of each step; called from several threads."""

    def begin(self, scenes: int, tiles: int) -> None:
        """A run of this size begins."""

    def phase(self, scene: str, phase: str, done: int, total: int) -> None:
        """A scene is that far in a phase before or after its tiles: statistics, survey, quicklook, export."""

    def tile(self, scene: str, pixels: int) -> None:
        """A tile was fused and written."""

    def skip(self, scene: str, tiles: int) -> None:
        """Tiles need no fusing: they are there already, or their scene failed."""

    def end(self, scene: str, line: str) -> None:
        """A scene is done with; ``line`` says how."""

    def note(self, line: str) -> None:
        """Something of the whole run."""


class Silence:
    """Says nothing."""

    def begin(self, scenes: int, tiles: int) -> None: ...

    def phase(self, scene: str, phase: str, done: int, total: int) -> None: ...

    def tile(self, scene: str, pixels: int) -> None: ...

    def skip(self, scene: str, tiles: int) -> None: ...

    def end(self, scene: str, line: str) -> None: ...

    def note(self, line: str) -> None: ...


class Lines:
    """Plain lines for a log: one a scene, and one every few seconds in between."""

    def __init__(self, stream: TextIO | None = None, every: float = 10.0) -> None:
        self.stream = stream or sys.stderr
        self.every = every
        self._lock = threading.Lock()
        self._started = self._told = time.monotonic()
        self._scenes = self._tiles = self._done = self._skipped = self._pixels = self._ended = 0

    def begin(self, scenes: int, tiles: int) -> None:
        """See ``Progress``."""
        self._scenes, self._tiles = scenes, tiles
        self._started = self._told = time.monotonic()
        self._say(f"{counted(scenes, 'scene')}, {counted(tiles, 'tile')}")

    def phase(self, scene: str, phase: str, done: int, total: int) -> None:
        """See ``Progress``."""
        with self._lock:
            due = self._due()
        if due:
            self._say(f"{scene}: {phase}, {done} of {total} parts")

    def tile(self, scene: str, pixels: int) -> None:
        """See ``Progress``."""
        with self._lock:
            self._done += 1
            self._pixels += pixels
            if not self._due():
                return
            passed = self._told - self._started
            rate = self._pixels / 1e6 / passed
            left = (self._tiles - self._done - self._skipped) * passed / self._done
        self._say(
            f"{self._done + self._skipped}/{self._tiles} tiles, {rate:.2f} Mpixel/s, "
            f"about {duration(left)} left (now {scene})"
        )

    def skip(self, scene: str, tiles: int) -> None:  # noqa: ARG002
        """See ``Progress``."""
        with self._lock:
            self._skipped += tiles

    def end(self, scene: str, line: str) -> None:
        """See ``Progress``."""
        with self._lock:
            self._ended += 1
        self._say(f"[{self._ended}/{self._scenes}] {scene}: {line}")

    def note(self, line: str) -> None:
        """See ``Progress``."""
        self._say(line)

    def _due(self) -> bool:
        """Whether it is time for another line; then it counts as told."""
        now = time.monotonic()
        if now - self._told < self.every:
            return False
        self._told = now
        return True

    def _say(self, line: str) -> None:
        print(line, file=self.stream, flush=True)


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
