"""How far a training is: its iteration, what that found, and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from batchfuse.report.progress import duration
from batchfuse.system.words import printable

__all__ = ["IterationLines", "Iterations"]

LINES = 20  # of a log, for all of a training


@dataclass(frozen=True, slots=True)
class _Told:
    iteration: int
    loss: float
    psnr: float
    at: float
    """Seconds of the clock."""


class Iterations:
    """The last iteration that was told of; the first may be any, where a training goes on.

    Args:
        total: how many there are.
        clock: seconds that only go forward.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self._clock = clock
        self._first: _Told | None = None
        self._last: _Told | None = None

    def tell(self, iteration: int, loss: float, psnr: float) -> None:
        """An iteration was done: its number from 1, its loss, and dB of the image given back."""
        self._last = _Told(iteration, loss, psnr, self._clock())
        self._first = self._first or self._last

    @property
    def share(self) -> float:
        """How much of everything is done, 0..1."""
        return self._last.iteration / self.total if self._last else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At the rate since the first iteration told of; None before there is one."""
        first, last = self._first, self._last
        if first is None or last is None or last.iteration == first.iteration:
            return None
        each = (last.at - first.at) / (last.iteration - first.iteration)
        return each * (self.total - last.iteration)

    def __str__(self) -> str:
        """Iteration 120 of 2000: loss 0.012345, 45.1 dB, about 2 min 5 s left."""
        last, left = self._last, self.seconds_left
        if last is None:
            return "starting"
        rest = f", about {duration(left)} left" if left else ""
        return f"iteration {last.iteration} of {self.total}: loss {last.loss:.6f}, {last.psnr:.1f} dB{rest}"


class IterationLines:
    """Twenty lines on standard error in all of a training."""

    def __init__(self, iterations: Iterations, stream: TextIO | None = None) -> None:
        self._iterations = iterations
        self._every = max(1, iterations.total // LINES)
        self._stream = stream

    def tell(self, iteration: int, loss: float, psnr: float) -> None:
        """As ``Iterations.tell``."""
        self._iterations.tell(iteration, loss, psnr)
        if iteration % self._every == 0 or iteration == self._iterations.total:
            print(printable(self._iterations), file=self._stream or sys.stderr, flush=True)
