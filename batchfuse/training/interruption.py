"""Ctrl-C while work is in hand that must not be left half done."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

__all__ = ["Interruption"]


class Interruption:
    """While its block runs the first Ctrl-C is only noted; the second ends the block at once.

    Whatever signal would raise KeyboardInterrupt is meant, and nothing is changed in other threads
    than the main one: none reaches them.
    """

    def __init__(self) -> None:
        self.asked = False
        """Whether to stop at the next good moment."""
        self._held: list[int] = []

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is signal.default_int_handler:
                    signal.signal(number, self._note)
                    self._held.append(number)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in self._held:
            signal.signal(number, signal.default_int_handler)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  (as signal calls it)
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
