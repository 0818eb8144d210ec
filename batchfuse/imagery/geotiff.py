"""Rasters on disk: their headers as sources, their pixels window by window (rasterio)."""

from __future__ import annotations

import hashlib
import math
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError

from batchfuse.errors import RecipeError, SourceError
from batchfuse.geometry.grid import ControlPoints, Grid
from batchfuse.geometry.window import Window
from batchfuse.imagery.scene import Band, Source, SourceFile, can_hold

__all__ = ["checked_crs", "open_source", "plane_crs", "read_pixels"]

# A file without a georeference is a case that align.py names in one line of its own.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

ENDS = 128 * 1024  # bytes of each end of a file that go into its checksum
HANDLES = 8  # open files a thread: 100 threads stay below the usual limit of 1024
COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def open_source(
    role: str,
    paths: Sequence[Path],
    *,
    bands: Sequence[int] | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    crs: str | None = None,
) -> Source:
    """The source these files make: one file, or one file a band, in order.

    ``bands`` counts through all files from 1; without it every band but alpha is taken. ``scale``,
    ``offset``, ``nodata`` and ``crs`` override what the files say.

    Raises:
        SourceError: a file can't be opened, or its pixels are no image.
    """
    headers = [_Header(path) for path in paths]
    for other in headers[1:]:
        _refuse_other_grid(headers[0], other)
    chosen = _chosen_bands(headers, bands)
    palette = _palette(headers, chosen)
    first = headers[0]
    made = tuple(headers[f].band(f, n, scale, offset, nodata) for f, n in chosen)
    if palette:
        made = tuple(
            Band(made[0].file, made[0].number, name, scale or 1.0, offset or 0.0, made[0].nodata)
            for name in (("",) if _is_gray(palette) else ("red", "green", "blue"))
        )
    return Source(
        role=role,
        files=tuple(header.file for header in headers),
        place=first.place(crs),
        dtype=_dtype(headers, chosen),
        bands=made,
        masks=tuple({f: (f, n) for f, n in chosen if headers[f].has_mask(n)}.values()),
        palette=palette,
        block=first.block,
        bits=0 if palette else max(headers[f].bits(n) for f, n in chosen),
        units=first.units[chosen[0][1] - 1] or None,
    )


def read_pixels(source: Source, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """File values (bands, y, x) and validity (y, x) of a window of the source's own pixels.

    A palette is expanded to its colours (uint8), to one band if they are all gray.

    Raises:
        SourceError: the pixels can't be read.
    """
    values: list[NDArray[Any]] = []
    for band in source.bands[:1] if source.palette else source.bands:
        values.append(_read(source.files[band.file], band.number, window))
    pixels = np.stack(values)
    valid = _valid(source, pixels)
    for file, band_number in source.masks:
        valid &= _read(source.files[file], band_number, window, mask=True) > 0
    if source.palette:
        colours = np.zeros((max(256, len(source.palette)), 4), np.uint8)
        colours[: len(source.palette)] = source.palette
        expanded = colours[pixels[0]]
        valid &= expanded[..., 3] > 0
        pixels = np.moveaxis(expanded[..., : len(source.bands)], -1, 0)
    return pixels, valid


class _Header:
    """What one file says of itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _opened(path) as dataset:
            self.dtypes = dataset.dtypes
            self.shape = (dataset.height, dataset.width)
            self.transform = dataset.transform
            self.crs = dataset.crs
            self.gcps, self.gcps_crs = dataset.gcps
            self.has_rpcs = dataset.rpcs is not None
            self.nodatas = dataset.nodatavals
            self.scales = dataset.scales
            self.offsets = dataset.offsets
            self.units = dataset.units
            self.descriptions = dataset.descriptions
            self.colours = dataset.colorinterp
            self.flags = dataset.mask_flag_enums
            self.nbits = [int(dataset.tags(n, ns="IMAGE_STRUCTURE").get("NBITS", 0)) for n in dataset.indexes]
            self.palettes = [
                dataset.colormap(n) if self.colours[n - 1] == ColorInterp.palette else None
                for n in dataset.indexes
            ]
            self.block = dataset.block_shapes[0] if dataset.count else (1, 1)
            self.count = dataset.count
            sidecars = [Path(name) for name in dataset.files if Path(name).is_file()]
        if not self.count:
            raise SourceError(f"{path} holds subdatasets, not bands: extract one with gdal_translate")
        self.file = _identified(path, sorted(set(sidecars) - {path}))

    def visible_bands(self) -> list[int]:
        """Every band but alpha, in file order; red, green, blue where exactly they are named."""
        numbers = [n for n in range(1, self.count + 1) if self.colours[n - 1] != ColorInterp.alpha]
        named = {self.colours[n - 1]: n for n in numbers}
        if len(numbers) == 3 and set(COLOURS) <= set(named):
            return [named[colour] for colour in COLOURS]
        return numbers

    def band(
        self, file: int, number: int, scale: float | None, offset: float | None, nodata: float | None
    ) -> Band:
        i = number - 1
        scale = self.scales[i] if scale is None else scale
        offset = self.offsets[i] if offset is None else offset
        if not (math.isfinite(scale) and math.isfinite(offset)) or scale == 0:
            raise SourceError(
                f"{self.path} has scale {scale:g} and offset {offset:g}: "
                "give usable ones with `scale:` and `offset:` in the recipe"
            )
        if nodata is not None:
            self._refuse_impossible(nodata, self.dtypes[i])
        colour = self.colours[i].name if self.colours[i] in COLOURS else None
        return Band(
            file=file,
            number=number,
            name=self.descriptions[i] or colour or "",
            scale=scale,
            offset=offset,
            nodata=self.nodatas[i] if nodata is None else nodata,
        )

    def _refuse_impossible(self, nodata: float, dtype: str) -> None:
        """A nodata of the recipe that no pixel can have is a mistake, not a rule."""
        if np.dtype(dtype).kind == "f" or math.isnan(nodata):
            return
        if not can_hold(dtype, nodata):
            info = np.iinfo(dtype)
            raise SourceError(
                f"`nodata: {nodata:g}` can't stand in {self.path}, whose {dtype} pixels hold whole numbers "
                f"from {info.min} to {info.max}: correct it, or leave it out"
            )

    def has_mask(self, number: int) -> bool:
        """Whether GDAL keeps a mask beside the band's pixels: internal, .msk or alpha, one for all bands."""
        return MaskFlags.per_dataset in self.flags[number - 1]

    def bits(self, number: int) -> int:
        return self.nbits[number - 1] if self.dtypes[number - 1] == "uint8" else 0

    def place(self, crs: str | None) -> Grid | ControlPoints:
        """The grid, or the ground control points where the file has only those."""
        known = _crs(crs) if crs is not None else self.crs
        if self.transform.is_identity and self.gcps:
            points = tuple((p.row, p.col, p.x, p.y, p.z or 0.0) for p in self.gcps)
            known = known or self.gcps_crs
            return ControlPoints(self.shape, points, known.to_wkt() if known else None)
        if self.transform.is_identity and self.has_rpcs:
            raise SourceError(
                f"{self.path} has no geotransform, only RPCs, which need a terrain model: "
                "orthorectify it first (gdalwarp -rpc -to RPC_DEM=dem.tif)"
            )
        if self.transform.is_degenerate or not all(map(math.isfinite, self.transform[:6])):
            raise SourceError(
                f"{self.path} has the unusable geotransform {tuple(self.transform)[:6]}: "
                "mend it with gdal_edit -a_ullr"
            )
        return Grid(self.shape, self.transform, known.to_wkt() if known else None)


def _chosen_bands(headers: Sequence[_Header], wanted: Sequence[int] | None) -> list[tuple[int, int]]:
    """(file, band number) of each band of the source."""
    names = " + ".join(str(header.path) for header in headers)
    if wanted is None:
        chosen = [(f, n) for f, header in enumerate(headers) for n in header.visible_bands()]
        if len(chosen) not in (1, 3):
            raise SourceError(
                f"{names} has {len(chosen)} bands: say which one or which three (red, green, blue) "
                "with `bands:` in the recipe"
            )
        return chosen
    every = [(f, n) for f, header in enumerate(headers) for n in range(1, header.count + 1)]
    if max(wanted) > len(every):
        raise SourceError(f"{names} has {len(every)} bands, the recipe asks for band {max(wanted)}")
    if len(wanted) not in (1, 3):
        raise SourceError(f"`bands: {list(wanted)}` names {len(wanted)} bands of {names}: name one or three")
    return [every[number - 1] for number in wanted]


def _palette(
    headers: Sequence[_Header], chosen: Sequence[tuple[int, int]]
) -> tuple[tuple[int, int, int, int], ...]:
    palettes = [headers[f].palettes[n - 1] for f, n in chosen]
    if not any(palettes):
        return ()
    if len(chosen) > 1:
        raise SourceError(f"{headers[0].path} has a colour table: name that band alone with `bands:`")
    table = palettes[0] or {}
    return tuple(table.get(i, (0, 0, 0, 255)) for i in range(max(table) + 1))


def _is_gray(palette: Sequence[tuple[int, int, int, int]]) -> bool:
    return all(red == green == blue for red, green, blue, _ in palette)


def _dtype(headers: Sequence[_Header], chosen: Sequence[tuple[int, int]]) -> str:
    found = {headers[f].dtypes[n - 1] for f, n in chosen}
    names = " + ".join(str(header.path) for header in headers)
    if any("complex" in dtype for dtype in found):
        raise SourceError(f"{names} has complex pixels: save their magnitude as a real raster first")
    if len(found) > 1:
        raise SourceError(f"the bands of {names} have different types ({', '.join(sorted(found))})")
    return str(found.pop())


def _refuse_other_grid(first: _Header, other: _Header) -> None:
    same = (
        first.shape == other.shape
        and first.transform.almost_equals(other.transform, precision=1e-6 * abs(first.transform.a or 1.0))
        and first.crs == other.crs
    )
    if not same:
        raise SourceError(
            f"the bands of one source must share a grid, but {first.path} is "
            f"{first.shape[1]}x{first.shape[0]} and {other.path} is {other.shape[1]}x{other.shape[0]}"
            if first.shape != other.shape
            else f"the bands of one source must share a grid, but {first.path} and {other.path} "
            f"differ in geotransform or CRS: make them sources of their own, or warp one"
        )


def checked_crs(text: str, key: str) -> str:
    """The WKT of a CRS of the recipe; RecipeError where ``text``, which stands at ``key``, is none."""
    try:
        return str(_crs(text).to_wkt())
    except (CRSError, ValueError) as error:
        raise RecipeError(f"{key}: {text!r} is no known CRS: write it as EPSG:32632, or as WKT") from error


def plane_crs(text: str, key: str) -> str:
    """The WKT of a CRS of the recipe in which a grid can lie; RecipeError where ``text`` is none."""
    wkt = checked_crs(text, key)
    known = CRS.from_wkt(wkt)
    if not (known.is_geographic or known.is_projected):
        raise RecipeError(
            f"{key}: {text!r} is neither geographic nor projected, and has no plane for a grid: "
            "write one such as EPSG:32632"
        )
    return wkt


def _crs(text: str) -> Any:
    with rasterio.Env():  # keeps PROJ's own lines off the terminal
        return CRS.from_user_input(text)


def _identified(path: Path, sidecars: Sequence[Path]) -> SourceFile:
    digest = hashlib.sha256()
    size = 0
    for part in (path, *sidecars):
        length = part.stat().st_size
        size += length
        with part.open("rb") as stream:
            digest.update(stream.read(ENDS))
            stream.seek(max(ENDS, length - ENDS))
            digest.update(stream.read(ENDS))
    return SourceFile(path, size, digest.hexdigest(), path.stat().st_mtime_ns)


def _valid(source: Source, pixels: NDArray[Any]) -> NDArray[np.bool_]:
    """Where the file values themselves say valid.

    A colour pixel is invalid where any of its bands is, except in 8-bit images whose nodata is an
    ordinary ink (black is 0, 0, 0): there all three have to say so, as GDAL's own mask has it.
    """
    told = np.stack(
        [_is_nodata(values, band.nodata) for values, band in zip(pixels, source.bands, strict=False)]
    )
    invalid = told.all(0) if pixels.dtype == np.uint8 else told.any(0)
    if pixels.dtype.kind == "f":
        invalid |= ~np.isfinite(pixels).all(0)
    return np.asarray(~invalid)


def _is_nodata(values: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    if nodata is None or not math.isfinite(nodata):
        return np.zeros(values.shape, bool)  # NaN and infinity are invalid anyway
    if values.dtype.kind != "f":
        if not can_hold(values.dtype.name, nodata):
            return np.zeros(values.shape, bool)
        return np.asarray(values == values.dtype.type(nodata))
    # the tag is decimal text: it names the pixel's float only to about seven digits
    tolerance = abs(nodata) * (1e-6 if values.dtype == np.float32 else 1e-12)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(np.abs(values.astype(np.float64) - nodata) <= tolerance)


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


_handles = _Handles()


def _read(file: SourceFile, band: int, window: Window, mask: bool = False) -> NDArray[Any]:
    box = tuple(zip(window.start, window.stop, strict=True))
    try:
        with rasterio.Env(GDAL_CACHEMAX=256, GDAL_NUM_THREADS=1, GDAL_DISABLE_READDIR_ON_OPEN="TRUE"):
            dataset = _handles.get(file)
            read = dataset.read_masks if mask else dataset.read
            return np.asarray(read(band, window=box))
    except (RasterioError, OSError) as error:
        raise _unreadable(file.path, error) from error


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        # sidecars are asked for by name: a folder of thousands need not be listed for each
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="TRUE"), rasterio.open(path) as dataset:
            yield dataset
    except (RasterioError, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> SourceError:
    """The one line for a file that GDAL can't open or read."""
    if not path.exists():
        return SourceError(f"{path} does not exist")
    if path.is_dir():
        return SourceError(f"{path} is a folder, not an image")
    try:
        with path.open("rb") as stream:
            head = stream.read(64)
    except OSError as refused:
        return SourceError(f"{path} can't be read: {refused.strerror}")
    if not head:
        return SourceError(f"{path} is empty (0 bytes): copy or download it again")
    if head.startswith(b"version https://git-lfs"):
        return SourceError(f"{path} is a Git LFS pointer, not the image: run `git lfs pull`")
    if "Too many open files" in str(error):
        return SourceError(f"{path} can't be opened, too many files are open: raise `ulimit -n`")
    if "not recognized" in str(error):
        return SourceError(f"{path} is not an image GDAL can read (it begins with {head[:12]!r})")
    detail = str(error.__cause__ or error).splitlines()[0].removesuffix(".")
    return SourceError(
        f"{path} can't be read ({detail}): the file is damaged or cut off, copy or download it again"
    )
