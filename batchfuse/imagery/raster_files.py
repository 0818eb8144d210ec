"""Raster files as rasterio opens them: kept open a while, and one line where they can't be read."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from batchfuse.errors import SourceError
from batchfuse.geometry.window import Window
from batchfuse.imagery.files import fault_of, told_if_away
from batchfuse.imagery.scene import SourceFile

__all__ = ["opened", "read_band"]

# A file without a georeference is a case that align.py names in one line of its own.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

HANDLES = 8  # open files a thread: 100 threads stay below the usual limit of 1024


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A file for a look at its header; SourceError where GDAL can't open it."""
    try:
        # sidecars are asked for by name: a folder of thousands need not be listed for each
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="TRUE"), rasterio.open(path) as dataset:
            yield dataset
    except (RasterioError, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def read_band(file: SourceFile, band: int, window: Window, mask: bool = False) -> NDArray[Any]:
    """A window of one band, (y, x), or of its mask: 0 where invalid. SourceError where it can't be read."""
    with told_if_away(file):
        try:
            return _read(file, band, window, mask)
        except SourceError:
            if not _handles.drop(file):
                raise
            # a mount that went away and came back leaves handles behind that no read succeeds with
            return _read(file, band, window, mask)


def _read(file: SourceFile, band: int, window: Window, mask: bool) -> NDArray[Any]:
    box = tuple(zip(window.start, window.stop, strict=True))
    try:
        with rasterio.Env(GDAL_CACHEMAX=256, GDAL_NUM_THREADS=1, GDAL_DISABLE_READDIR_ON_OPEN="TRUE"):
            dataset = _handles.get(file)
            read = dataset.read_masks if mask else dataset.read
            return np.asarray(read(band, window=box))
    except (RasterioError, OSError) as error:
        raise _unreadable(file.path, error) from error


class _Handles(threading.local):
    """Open files of this thread: a handle opened anew for each tile defeats GDAL's block cache."""

    def __init__(self) -> None:
        self.open: OrderedDict[tuple[Path, int], Any] = OrderedDict()

    def get(self, file: SourceFile) -> Any:
        key = (file.path, file.stamp)
        dataset = self.open.pop(key, None)
        if dataset is None:
            dataset = rasterio.open(file.path)
        self.open[key] = dataset
        while len(self.open) > HANDLES:
            self.open.popitem(last=False)[1].close()
        return dataset

    def drop(self, file: SourceFile) -> bool:
        """Closes the handle of a file; whether there was one."""
        dataset = self.open.pop((file.path, file.stamp), None)
        if dataset is not None:
            dataset.close()
        return dataset is not None


_handles = _Handles()


def _unreadable(path: Path, error: Exception) -> SourceError:
    """The one line for a file that GDAL can't open or read."""
    if fault := fault_of(path, error):
        return SourceError(fault)
    if "not recognized" in str(error):
        with path.open("rb") as stream:
            head = stream.read(12)
        return SourceError(f"{path} is not an image GDAL can read (it begins with {head!r})")
    detail = str(error.__cause__ or error).splitlines()[0].removesuffix(".")
    return SourceError(
        f"{path} can't be read ({detail}): the file is damaged or cut off, copy or download it again"
    )
