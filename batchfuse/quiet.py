"""Lines that libraries would print beside ours."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["libraries_told", "quiet_libraries"]


def quiet_libraries() -> None:
    """Keeps GDAL's own lines, which rasterio logs, off the terminal of this process."""
    logging.getLogger("rasterio").addHandler(logging.NullHandler())
    logging.getLogger("rasterio").propagate = False


@contextmanager
def libraries_told(tell: Callable[[str, str, str], None]) -> Iterator[None]:
    """Within it ``tell(level, logger, message)`` gets what libraries log or warn of, not the terminal.

    The level is warning or error; what is below is not told.
    """
    handler = _Telling(tell)
    root = logging.getLogger()
    logging.captureWarnings(True)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        logging.captureWarnings(False)


class _Telling(logging.Handler):
    def __init__(self, tell: Callable[[str, str, str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warning"
        self._tell(level, record.name, record.getMessage().strip())
