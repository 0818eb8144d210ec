"""What may pass is tried again: how often, and after which pauses."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["PAUSE", "Retries"]

PAUSE = 2.0
"""Seconds before the first of them, and four times as many before each one more."""


@dataclass
class Retries:
    """The tries of one thing, such as a scene."""

    most: int
    """How many there are beside the first."""
    halted: threading.Event
    """Ends a pause."""
    tell: Callable[[str, str, float, int, int], None]
    """Told of each, as ``Progress.retry`` is."""
    done: int = 0
    """How many there have been."""

    def again(self, scene: str, what: str, failed: float | None = None) -> bool:
        """Waits, and says so; False at once where there is no further try.

        Args:
            scene: what is tried again.
            what: what stops it.
            failed: when it did, by ``time.monotonic``, if not now: what has passed since counts as waiting.
        """
        if self.done >= self.most:
            return False
        waited = 0.0 if failed is None else time.monotonic() - failed
        pause = max(0.0, PAUSE * 4**self.done - waited)
        self.done += 1
        self.tell(scene, what, pause, self.done, self.most)
        self.halted.wait(pause)
        return True
