"""Raster files as rasterio opens them: kept open a while, and one line where they can't be read."""

from __future__ import annotations

import hashlib
import os
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
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from batchfuse.errors import ChangedError, SourceError
from batchfuse.geometry.window import Window
from batchfuse.imagery.files import changed_part, fault_of, told_if_away
from batchfuse.imagery.gdal_options import PINNED
from batchfuse.imagery.scene import SourceFile

__all__ = ["CACHE", "opened", "read_band", "said_by", "speaker"]

# A file without a georeference is a case that align.py names in one line of its own.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

FORMATS = {
    "GTiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "JP2OpenJPEG": (b"\0\0\0\x0cjP  \r\n", b"\xff\x4f\xff\x51"),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "BMP": (b"BM",),
    "WEBP": (b"RIFF",),
}
"""What files begin with, by the GDAL driver that opens them. No other driver is asked: some of them follow
links to other files or to the network, and none of them is needed."""
TOLD = "a GeoTIFF, JPEG 2000, PNG, JPEG, BMP or WebP"
SIDECARS = (".msk", ".ovr", ".msk.ovr", ".ovr.msk", ".aux.xml", ".msk.aux.xml", ".ovr.aux.xml")
"""What GDAL opens beside a file unasked, by whatever driver; all but the last three are images, of TIFF."""
SAFE = {
    **PINNED,
    # sidecars are asked for by name: a folder of thousands need not be listed for each
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",
    # no file of ours lies on the network, and none may lead there
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
    # its short cut calls a PNG that is cut off read, and gives what lay in memory for pixels
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",
    # libjpeg fills what it can't decode with grey, and only warns
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",
}
CACHE = 256_000_000
"""Bytes of decoded blocks that GDAL keeps in the process, at most: rasterio takes bytes, not megabytes."""
WHOLE = 2**30  # bytes that may have to be in memory at once: a block, or an image that has only rows
BANDS = 4096  # at most: a series of daily images over ten years
RATIO = 100_000  # bytes that one byte of a file can become: more than any compression of pixels makes
HANDLES = 8  # open files a thread: 100 threads stay below the usual limit of 1024


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A file for a look at its header; SourceError where GDAL can't open it."""
    try:
        with rasterio.Env(**SAFE), _opened(path) as dataset:
            yield dataset
    except (RasterioError, CPLE_BaseError, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def read_band(file: SourceFile, band: int, window: Window, mask: bool = False) -> NDArray[Any]:
    """A window of one band, (y, x), or of its mask: 0 where invalid. SourceError where it can't be read."""
    with told_if_away(file):
        try:
            return _read(file, band, window, mask)
        except ChangedError:
            raise
        except SourceError:
            if not _handles.drop(file):
                raise
            # a mount that went away and came back leaves handles behind that no read succeeds with
            return _read(file, band, window, mask)


def _read(file: SourceFile, band: int, window: Window, mask: bool) -> NDArray[Any]:
    box = tuple(zip(window.start, window.stop, strict=True))
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE, GDAL_NUM_THREADS=1, **SAFE):
            dataset = _handles.get(file)
            read = dataset.read_masks if mask else dataset.read
            return np.asarray(read(band, window=box))
    except (RasterioError, CPLE_BaseError, OSError) as error:
        raise _unreadable(file.path, error) from error


def _opened(path: Path) -> Any:
    """The one door to GDAL: the dataset of a file, if it points nowhere else and promises what it can hold.

    Raises SourceError, OSError or rasterio's own errors where it can't be opened.
    """
    if fault := fault_of(path):
        raise SourceError(fault)
    driver = _driver(path)
    if driver is None:
        with path.open("rb") as stream:
            head = stream.read(12)
        raise SourceError(
            f"{path} is not an image that can be read (it begins with {head!r}): give {TOLD}, "
            "such as gdal_translate makes"
        )
    _refuse_leading_elsewhere(path)
    # absolute, because GDAL takes names that begin with some words for more than a path
    dataset = rasterio.open(path.absolute(), driver=driver)
    try:
        if dataset.get_tag_item("OVERVIEW_FILE", dm="OVERVIEWS"):
            raise SourceError(
                f"{path} names another file as its overview: take that out (gdal_edit -unsetmd)"
            )
        _refuse_impossible_size(path, dataset, driver)
    except BaseException:
        dataset.close()
        raise
    return dataset


def _driver(path: Path) -> str | None:
    """The GDAL driver that opens a file, by its first bytes."""
    with path.open("rb") as stream:
        head = stream.read(12)
    if head.startswith(b"RIFF") and head[8:] != b"WEBP":
        return None
    return next((name for name, begins in FORMATS.items() if head.startswith(begins)), None)


def _refuse_leading_elsewhere(path: Path) -> None:
    """SourceError where what lies beside a file would have GDAL open yet another file."""
    for ending in SIDECARS:
        sidecar = path.with_name(path.name + ending)
        if not os.path.lexists(sidecar):
            continue
        if not sidecar.is_file():
            raise SourceError(f"{sidecar}, beside {path.name}, is no file: move it away")
        if not ending.endswith(".xml"):
            if _driver(sidecar) != "GTiff":
                raise SourceError(
                    f"{sidecar}, beside {path.name}, is no TIFF file: move it away, or convert it"
                )
        elif b"OVERVIEW_FILE" in sidecar.read_bytes().upper():
            raise SourceError(f"{sidecar} names another file as an overview: move it away")


def _refuse_impossible_size(path: Path, dataset: Any, driver: str) -> None:
    """SourceError where a header promises more than the file can hold, or than memory should."""
    if not dataset.count:
        return
    if dataset.count > BANDS:
        raise SourceError(
            f"{path} has {dataset.count:,} bands, {BANDS:,} at most: extract some with gdal_translate"
        )
    pixel = sum(np.dtype(dtype).itemsize for dtype in dataset.dtypes)
    told, size = dataset.width * dataset.height * pixel, path.stat().st_size
    shape = f"{dataset.width:,} x {dataset.height:,} pixels of {pixel} bytes"
    if told > max(WHOLE, size * RATIO):
        raise SourceError(
            f"{path} promises {shape} in a file of {size:,} bytes: its header is damaged, "
            "copy or download it again"
        )
    rows, columns = dataset.block_shapes[0]
    whole = rows * columns * pixel if driver in ("GTiff", "JP2OpenJPEG") else told
    if whole > WHOLE:
        raise SourceError(
            f"{path} has {shape} in blocks of {columns:,} x {rows:,}, each to be held in memory whole: "
            "make a tiled GeoTIFF of it (gdal_translate -co TILED=YES -co BIGTIFF=YES)"
        )


def said_by(dataset: Any) -> str:
    """A digest of what header, masks and sidecars of an open file say of its pixels and their place.

    Statistics and histograms, which viewers write into an .aux.xml, are no part of it.
    """
    points, crs = dataset.gcps
    said = (
        *(dataset.shape, dataset.dtypes, tuple(dataset.transform), _wkt(dataset.crs), _wkt(crs)),
        [(p.row, p.col, p.x, p.y, p.z) for p in points],
        *(dataset.nodatavals, dataset.scales, dataset.offsets),
        *(dataset.colorinterp, dataset.mask_flag_enums),
        [dataset.colormap(n) for n, c in enumerate(dataset.colorinterp, 1) if c == ColorInterp.palette],
    )
    return hashlib.sha256(repr(said).encode()).hexdigest()


def _wkt(crs: Any) -> str | None:
    return crs.to_wkt() if crs else None


def _changed(file: SourceFile, dataset: Any) -> Path | None:
    """What is not as it was when the file was planned with: the file, or what lies beside it."""
    if part := changed_part(file):
        return part
    return None if said_by(dataset) == file.said else speaker(file)


def speaker(file: SourceFile) -> Path:
    """Which file says otherwise than before, while a file and its sidecars have the bytes that they had."""
    beside = (file.path.with_name(file.path.name + ending) for ending in SIDECARS)
    return next((path for path in beside if path.exists() and path not in file.sidecars), file.path)


class _Handles(threading.local):
    """Open files of this thread: a handle opened anew for each tile defeats GDAL's block cache."""

    def __init__(self) -> None:
        self.open: OrderedDict[SourceFile, Any] = OrderedDict()

    def get(self, file: SourceFile) -> Any:
        dataset = self.open.pop(file, None)
        if dataset is None:
            dataset = _opened(file.path)
            if other := _changed(file, dataset):
                dataset.close()
                raise ChangedError.of(other)
        self.open[file] = dataset
        while len(self.open) > HANDLES:
            self.open.popitem(last=False)[1].close()
        return dataset

    def drop(self, file: SourceFile) -> bool:
        """Closes the handle of a file; whether there was one."""
        dataset = self.open.pop(file, None)
        if dataset is not None:
            dataset.close()
        return dataset is not None


_handles = _Handles()


def _unreadable(path: Path, error: Exception) -> SourceError:
    """The one line for a file that GDAL can't open or read."""
    if fault := fault_of(path, error):
        return SourceError(fault)
    detail = str(error.__cause__ or error).splitlines()[0].removesuffix(".")
    return SourceError(
        f"{path} can't be read ({detail}): the file is damaged or cut off, copy or download it again"
    )
