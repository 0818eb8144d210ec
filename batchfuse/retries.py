"""What may pass is tried again: how often, and after which pauses."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from batchfuse.report.progress import duration

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
    note: Callable[[str], None]
    """Told of each."""
    done: int = 0
    """How many there have been."""

    def again(self, what: str, failed: float | None = None) -> bool:
        """Waits, and says so; False at once where there is no further try.

        Args:
            what: what stops it.
            failed: when it did, by ``time.monotonic``, if not now: what has passed since counts as waiting.
        """
        if self.done >= self.most:
            return False
        pause = PAUSE * 4**self.done - (0.0 if failed is None else time.monotonic() - failed)
        self.done += 1
        when = f"in {duration(pause)}" if pause > 0 else "now"
        self.note(f"{what}; tried again {when} ({self.done} of {self.most})")
        self.halted.wait(max(0.0, pause))
        return True
