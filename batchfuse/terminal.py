"""Progress as a bar on a terminal (rich)."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from batchfuse.report.progress import counted, duration

__all__ = ["Bar"]


class Bar:
    """One bar over all tiles of the run: tiles, Mpixel/s and the time left."""

    def __init__(self, console: Console | None = None) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("tiles  {task.fields[speed]}"),
            console=console or Console(stderr=True),
            transient=True,
        )
        self._lock = threading.Lock()
        self._task = self._progress.add_task("reading", total=None, speed="")
        self._started = time.monotonic()
        self._pixels = self._fused = self._tiles = self._skipped = 0

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, scenes: int, tiles: int) -> None:
        """See ``report.progress.Progress``."""
        self._tiles, self._started = tiles, time.monotonic()
        self._progress.update(self._task, total=tiles, description=counted(scenes, "scene"))

    def phase(self, scene: str, phase: str, done: int, total: int) -> None:
        """See ``report.progress.Progress``."""
        self._progress.update(self._task, description=f"{scene}: {phase} {done}/{total}")

    def tile(self, scene: str, pixels: int) -> None:
        """See ``report.progress.Progress``."""
        with self._lock:
            self._fused += 1
            self._pixels += pixels
            passed = max(time.monotonic() - self._started, 1e-3)
            left = (self._tiles - self._fused - self._skipped) * passed / self._fused
            speed = f"{self._pixels / 1e6 / passed:.2f} Mpixel/s  {duration(left)} left"
        self._progress.update(self._task, advance=1, description=f"{scene}: fusing", speed=speed)

    def skip(self, scene: str, tiles: int) -> None:  # noqa: ARG002
        """See ``report.progress.Progress``."""
        with self._lock:
            self._skipped += tiles
        self._progress.update(self._task, advance=tiles)

    def end(self, scene: str, line: str) -> None:
        """See ``report.progress.Progress``."""
        self._progress.console.print(f"{scene}: {line}", markup=False, highlight=False, soft_wrap=True)

    def note(self, line: str) -> None:
        """See ``report.progress.Progress``."""
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
