"""Standard output and error: whatever becomes of whoever reads them, the work goes on."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, TextIO

__all__ = ["guard_streams", "output_fault"]


class _Patient(io.FileIO):
    """Takes all that is written to a descriptor, and remembers why it could not be passed on."""

    def __init__(self, number: int, *, gone: bool) -> None:
        """``gone`` is whether the descriptor was closed before we began."""
        super().__init__(number, "w", closefd=False)
        self.fault: OSError | None = None
        self._gone = gone

    def write(self, data: Any) -> int:
        if self.fault is None:
            try:
                if self._gone:
                    raise OSError(errno.EBADF, os.strerror(errno.EBADF))
                return super().write(data)
            except OSError as error:  # the reader went away, or the disk is full
                self.fault = error
        return memoryview(data).nbytes


def guard_streams() -> None:
    """Let nothing that is printed from now on end the process, or be lost in a file that is no stream.

    A descriptor that was closed before we began is opened, as nothing: else the next file that is opened, an
    image perhaps, would have its number, and get what libraries write to standard error. Streams that a
    caller has replaced are left.
    """
    gone = {number for number in range(3) if _is_closed(number)}
    for number in sorted(gone):
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor != number:
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.set_inheritable(number, True)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _guarded(sys.stdout, 1, gone=1 in gone)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _guarded(sys.stderr, 2, gone=2 in gone)


def output_fault() -> OSError | None:
    """Why something could not be written to standard output; None where all was, or it isn't guarded."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, _Patient):
        return None
    sys.stdout.flush()
    return raw.fault


def _is_closed(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False


def _guarded(stream: TextIO | None, number: int, *, gone: bool) -> TextIO:
    if stream is not None:
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Patient(number, gone=gone)),
        encoding=getattr(stream, "encoding", None) or "utf-8",
        errors="backslashreplace",  # a terminal without these letters, LANG=C say
        line_buffering=number == 2 or (stream is not None and stream.isatty()),
    )
