"""How far work is that consists of many alike: plain lines in a log now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

from batchfuse.report.progress import counted, duration
from batchfuse.system.words import printable

__all__ = ["StepLines", "Steps"]

ENDED = 1 - 1e-6  # shares are sums of fractions


@dataclass
class Steps:
    """How far it is, in shares of whole things."""

    total: int
    """How many things there are."""
    noun: str
    """What one is called."""
    clock: Callable[[], float] = time.monotonic
    """Seconds that only go forward."""
    shares: dict[str, float] = field(default_factory=dict)
    """How much of each is done, 0..1."""

    def __post_init__(self) -> None:
        self._began = self.clock()

    def add(self, name: str, share: float) -> None:
        """Some share of a thing was done."""
        self.shares[name] = self.shares.get(name, 0.0) + share

    @property
    def ended(self) -> int:
        """Things that are done."""
        return sum(share >= ENDED for share in self.shares.values())

    @property
    def share(self) -> float:
        """How much of everything is done, 0..1."""
        return min(1.0, sum(self.shares.values()) / max(1, self.total))

    @property
    def seconds_left(self) -> float | None:
        """At the rate so far; None before there is one."""
        return (self.clock() - self._began) * (1 - self.share) / self.share if self.share else None

    def __str__(self) -> str:
        """7 of 20 scenes, about 2 min 5 s left."""
        left = self.seconds_left
        rest = f", about {duration(left)} left" if left is not None and self.share < ENDED else ""
        return f"{self.ended} of {counted(self.total, self.noun)}{rest}"


class StepLines:
    """A line on standard error every ten seconds; of what ends before, nothing."""

    def __init__(self, steps: Steps, every: float = 10.0, stream: TextIO | None = None) -> None:
        self._steps = steps
        self._every = every
        self._stream = stream
        self._told = steps.clock()

    def add(self, name: str, share: float) -> None:
        """Some share of a thing was done."""
        self._steps.add(name, share)
        now = self._steps.clock()
        if now - self._told >= self._every and self._steps.share < ENDED:
            self._told = now
            print(printable(self._steps), file=self._stream or sys.stderr, flush=True)
