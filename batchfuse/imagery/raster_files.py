"""Raster files as rasterio opens them: kept open a while, and one line where they can't be read."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from batchfuse.errors import ChangedError, SourceError, said
from batchfuse.geometry.window import Window
from batchfuse.imagery.files import changed_part, fault_of, told_if_away
from batchfuse.imagery.foreign import kind_by_name
from batchfuse.imagery.gdal_options import PINNED
from batchfuse.imagery.scene import SourceFile

__all__ = ["CACHE", "opened", "read_band", "said_by", "speaker", "unless_odd"]

# A file without a georeference is a case that align.py names in one line of its own.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

T = TypeVar("T")

PALETTE = ColorInterp.palette
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
    # libdeflate leaves the end of a block as it lay in memory where the damaged stream runs beyond it
    "GDAL_TIFF_DEFLATE_SUBCODEC": "ZLIB",
    # libjpeg fills what it can't decode with grey, and only warns
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",
}
CACHE = 256_000_000
"""Bytes of decoded blocks that GDAL keeps in the process, at most: rasterio takes bytes, not megabytes."""
WHOLE = 2**30  # bytes that may have to be in memory at once: a block, or an image that has only rows
BANDS = 4096  # at most: a series of daily images over ten years
RATIO = 100_000  # bytes that one byte of a file can become: more than any compression of pixels makes
CODEC = re.compile(r"missing codec (?:of code )?(\w+)|compression (?:scheme )?(\w+) .*not configured", re.I)
UNSUPPORTED = re.compile(
    r"not supported|unsupported|not implemented|SampleFormat=\w+ and BitsPerSample=", re.I
)
"""What GDAL says of files that are whole, and that this build of it can't read."""
HANDLES = 8  # open files a thread: 100 threads stay below the usual limit of 1024


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A file for a look at its header; SourceError where GDAL can't open it."""
    try:
        with rasterio.Env(**SAFE), _opened(path) as dataset:
            yield dataset
    except UnicodeDecodeError as error:  # of what rasterio reads unasked: the CRS
        raise SourceError(
            f"{path} has a CRS whose name is not in UTF-8 ({error.object[:80]!r}): write it anew "
            "(gdal_edit -a_srs EPSG:…)"
        ) from error
    except (RasterioError, CPLE_BaseError, OSError) as error:
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
        raise SourceError(_no_image(path))
    _refuse_leading_elsewhere(path)
    # absolute, because GDAL takes names that begin with some words for more than a path
    dataset = rasterio.open(path.absolute(), driver=driver)
    try:
        with suppress(RasterioError, CPLE_BaseError, ValueError):
            # what GDAL finds wrong with an .aux.xml comes up at whatever is asked first
            _ = dataset.colorinterp
        if _names_overviews(dataset):
            raise SourceError(
                f"{path} names another file as its overview: take that out (gdal_edit -unsetmd)"
            )
        _refuse_impossible_size(path, dataset, driver)
    except BaseException:
        dataset.close()
        raise
    return dataset


def _no_image(path: Path) -> str:
    """The line for a file that no driver opens."""
    if kind := kind_by_name(path.name):
        return f"{path} is, by its name, {kind.noun}: {kind.remedy}"
    with path.open("rb") as stream:
        head = stream.read(4096)
    if not any(head):
        return f"{path} begins with nothing but zeros: it was never written whole, copy or download it again"
    return (
        f"{path} is not an image that can be read (it begins with {head[:12]!r}): give {TOLD}, "
        "such as gdal_translate makes, or a NIfTI volume"
    )


def _names_overviews(dataset: Any) -> bool:
    """Whether a file says that its overviews are in another one."""
    try:
        return bool(dataset.get_tag_item("OVERVIEW_FILE", dm="OVERVIEWS"))
    except UnicodeDecodeError:
        return True


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
    pixel = sum(map(_bytes_of, dataset.dtypes))
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
    nothing: tuple[Any, ...] = ()
    points, crs = unless_odd(lambda: dataset.gcps, (nothing, None))
    colours = unless_odd(lambda: dataset.colorinterp, nothing)
    spoken = (
        *(dataset.shape, dataset.dtypes, tuple(dataset.transform), _wkt(dataset.crs), _wkt(crs)),
        [(p.row, p.col, p.x, p.y, p.z) for p in points],
        *(dataset.nodatavals, dataset.scales, dataset.offsets),
        *(colours, dataset.mask_flag_enums),
        [unless_odd(partial(dataset.colormap, n), None) for n, c in enumerate(colours, 1) if c == PALETTE],
    )
    return hashlib.sha256(repr(spoken).encode()).hexdigest()


def unless_odd(read: Callable[[], T], otherwise: T) -> T:
    """What isn't needed to fuse a file; where it can't be read, what does no harm."""
    try:
        return read()
    except (RasterioError, CPLE_BaseError, LookupError, ValueError):
        return otherwise


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


def _bytes_of(dtype: str) -> int:
    """Bytes of a pixel; GDAL has types that numpy has not, such as complex_int16."""
    try:
        return int(np.dtype(dtype).itemsize)
    except TypeError:
        return 4


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
    detail = said(error.__cause__ or error).removesuffix(".")
    if found := CODEC.search(detail):
        codec = found[1] or found[2]
        codec = f"code {codec}" if codec.isdigit() else codec
        return SourceError(
            f"{path} is compressed with {codec}, which the GDAL of this "
            "installation can't decode: write it anew with one that can, such as that of QGIS or conda-forge "
            "(gdal_translate -co COMPRESS=DEFLATE FILE OUT.tif)"
        )
    if UNSUPPORTED.search(detail) and "corrupt" not in detail:
        return SourceError(
            f"{path} is of a kind that GDAL doesn't read ({detail}): convert it to a plain GeoTIFF with the "
            "program that made it"
        )
    return SourceError(
        f"{path} can't be read ({detail}): the file is damaged or cut off, copy or download it again"
    )
