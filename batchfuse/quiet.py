"""Lines that libraries would print beside ours."""

from __future__ import annotations

import logging

__all__ = ["quiet_libraries"]


def quiet_libraries() -> None:
    """Keeps GDAL's own lines, which rasterio logs, off the terminal of this process."""
    logging.getLogger("rasterio").addHandler(logging.NullHandler())
    logging.getLogger("rasterio").propagate = False
