"""How many tiles one task takes: few where a tile is work, many where it is next to nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import TypeVar

__all__ = ["Pace"]

ENOUGH = 0.1  # seconds of work beside which a task's own cost, some milliseconds, is small
MOST = 64  # tiles a task: what a kill may cost, and how long an interrupt may wait
SHARES = 4  # tasks that each slot is left at least, so that all slots end at about the same time
WEIGHT = 0.2  # of the latest task in the mean

T = TypeVar("T")


class Pace:
    """The mean time of a tile in each phase, learnt from the tasks of a run.

    Scenes share it, from several threads. What is said of tiles holds for whatever else a phase does one by
    one, such as a window whose values are counted.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def learn(self, phase: str, tiles: int, seconds: float) -> None:
        """A task of so many tiles took so long."""
        with self._lock:
            mean = seconds / tiles
            known = self._seconds.get(phase, mean)
            self._seconds[phase] = known + WEIGHT * (mean - known)

    def size(self, phase: str, left: int, slots: int) -> int:
        """Tiles of the next task, where ``left`` tiles are left for ``slots`` tasks at a time."""
        with self._lock:
            if phase not in self._seconds:
                return 1
            wanted = int(ENOUGH / max(self._seconds[phase], ENOUGH / MOST))
        return max(1, min(wanted, left // (SHARES * slots)))

    def groups(self, phase: str, items: Sequence[T], slots: int) -> Iterator[Sequence[T]]:
        """The items, in order, in groups whose size is chosen when each is asked for."""
        at = 0
        while at < len(items):
            end = at + self.size(phase, len(items) - at, slots)
            yield items[at:end]
            at = end
