"""What one raster file says of itself."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import CRSError, RasterioError
from rasterio.transform import GCPTransformer

from batchfuse.errors import SourceError, said
from batchfuse.geometry.grid import ControlPoints, Grid
from batchfuse.imagery.crs import same_plane
from batchfuse.imagery.files import identified
from batchfuse.imagery.gdal_options import PINNED
from batchfuse.imagery.picture_marks import PictureMarks, marks_of
from batchfuse.imagery.raster_files import SIDECARS, opened, said_by, unless_odd
from batchfuse.imagery.scene import Band, refuse_impossible, refuse_unusable

__all__ = ["Header", "crs_of"]

ELSEWHERE = re.compile(r"\s*([A-Za-z][\w+.-]+:)?/|.*(/vsi|\+init=|[A-Za-z]://)", re.DOTALL)
"""What GDAL or PROJ would look up in a file or on the network."""
COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


class Header:
    """What one file says of itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with opened(path) as dataset:
            self.count = dataset.count
            self.dtypes = dataset.dtypes
            self.shape = (dataset.height, dataset.width)
            self.transform = dataset.transform
            self.nodatas = dataset.nodatavals
            self.scales = dataset.scales
            self.offsets = dataset.offsets
            self.flags = dataset.mask_flag_enums
            self.block = dataset.block_shapes[0] if dataset.count else (1, 1)
            self.units = _texts(lambda: dataset.units, self.count)
            self.descriptions = _texts(lambda: dataset.descriptions, self.count)
            self.colours = unless_odd(lambda: dataset.colorinterp, (ColorInterp.undefined,) * self.count)
            self.nbits = [_bits(dataset, n) for n in dataset.indexes]
            self.palettes = [self._palette(dataset, n) for n in dataset.indexes]
            self._look_for_place(dataset)
            inside: list[str] = unless_odd(lambda: dataset.subdatasets, [])
            self.pages = sum(name.startswith("GTIFF_DIR:") for name in inside)
            beside = [f"{path}{ending}" for ending in SIDECARS]
            sidecars = [Path(name) for name in unless_odd(lambda: dataset.files, beside)]
            sidecars = [sidecar for sidecar in sidecars if sidecar.is_file()]
            spoken = said_by(dataset)
        if not self.count:
            raise SourceError(f"{path} holds subdatasets, not bands: extract one with gdal_translate")
        self.file = identified(path, sorted(set(sidecars) - {path, path.absolute()}), spoken)

    def orientation(self) -> int:
        """How a viewer turns the picture, 1 to 8 as EXIF counts; 1 where a place in the world tells it."""
        return 1 if self._is_placed() else self._marks.orientation

    @cached_property
    def _marks(self) -> PictureMarks:
        return marks_of(self.path)

    def warnings(self) -> Iterator[str]:
        """What a person should know of what is in the file and not used."""
        if self.pages > 1:
            yield (
                f"{self.path} has {self.pages} pages, page 1 is used: for another one "
                f"make it a file of its own (gdal_translate GTIFF_DIR:2:{self.path.name} page2.tif)"
            )
        marks = self._marks
        if marks.pictures > 1:
            yield (
                f"{self.path} holds {marks.pictures} pictures, the first is used: for another one make it a "
                "file of its own (exiftool -b -MPImage2 FILE, or ffmpeg -i FILE OUT_%05d.png)"
            )
        if marks.orientation != 1:
            yield (
                f"{self.path} says orientation {marks.orientation}, which is not applied: its pixels are "
                "fused as they "
                + (
                    "are placed in the world"
                    if self._is_placed()
                    else "lie in the file, and viewers turn them"
                )
            )
        if marks.is_radiometric:
            yield (
                f"{self.path} is the picture of a radiometric JPEG, drawn in the camera's colours "
                "or grays: its brightness is not temperature; convert it (dji_irp, thermal_base, or "
                "exiftool -b -RawThermalImage)"
            )

    @property
    def points(self) -> tuple[tuple[float, float, float, float, float], ...]:
        """Row, column, x, y and z of each ground control point."""
        return tuple((p.row, p.col, p.x, p.y, p.z or 0.0) for p in self.gcps)

    def _is_placed(self) -> bool:
        return bool(self.crs or self.gcps or not self.transform.is_identity)

    def _palette(self, dataset: Any, number: int) -> Any:
        """The colour table of a band that is said to have one; None where there is none."""
        if self.colours[number - 1] != ColorInterp.palette:
            return None
        return unless_odd(lambda: dataset.colormap(number), None)

    def _look_for_place(self, dataset: Any) -> None:
        """What may place the pixels, ground control points and RPCs only where there is no geotransform."""
        self.crs, self.crs_fault = None, ""
        try:
            self.crs = dataset.crs
        except (CRSError, CPLE_BaseError, ValueError) as error:
            self.crs_fault = said(error)
        self.gcps, self.gcps_crs, self.has_rpcs = [], None, False
        if self.transform.is_identity:
            points = unless_odd(lambda: dataset.gcps, None)
            if points is None:
                raise SourceError(
                    f"{self.path} has no geotransform, and ground control points that can't be read: give it "
                    "others, or warp it first (gdalwarp)"
                )
            self.gcps, self.gcps_crs = points
            self.has_rpcs = bool(unless_odd(lambda: dataset.tags(ns="RPC"), True))

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
        refuse_unusable(scale, offset, self.path)
        if nodata is not None:
            refuse_impossible(nodata, self.dtypes[i], self.path)
        colour = self.colours[i].name if self.colours[i] in COLOURS else None
        return Band(
            file=file,
            number=number,
            name=self.descriptions[i] or colour or "",
            scale=scale,
            offset=offset,
            nodata=self.nodatas[i] if nodata is None else nodata,
        )

    def has_mask(self, number: int) -> bool:
        """Whether GDAL keeps a mask beside the band's pixels, internal or .msk, one for all bands."""
        flags = self.flags[number - 1]
        return MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags

    def alpha(self, number: int) -> int | None:
        """The band that says where another is valid; GDAL's own mask forgets it beside a nodata value."""
        first = next((n for n, colour in enumerate(self.colours, 1) if colour == ColorInterp.alpha), None)
        return None if self.colours[number - 1] == ColorInterp.alpha else first

    def shares_grid(self, other: Header, crs: str | None = None) -> bool:
        """Whether the pixels of both files lie in the same places; ``crs`` is the recipe's for this one."""
        return (
            self.shape == other.shape
            and self.transform.almost_equals(other.transform, precision=1e-6 * abs(self.transform.a or 1.0))
            and (not self.points or not other.points or self.points == other.points)
            and (_is_one(self.crs, other.crs) or (crs is not None and _is_one(crs_of(crs), other.crs)))
        )

    def bits(self, number: int) -> int:
        return self.nbits[number - 1] if self.dtypes[number - 1] == "uint8" else 0

    def place(self, crs: str | None) -> Grid | ControlPoints:
        """The grid, or the ground control points where the file has only those."""
        if crs is None and self.crs_fault:
            raise SourceError(
                f"{self.path} has a CRS that can't be read ({self.crs_fault}): say it with `crs:` in the "
                "recipe, or write it anew (gdal_edit -a_srs EPSG:…)"
            )
        known = crs_of(crs) if crs is not None else self.crs
        if self.transform.is_identity and self.gcps:
            self._refuse_unusable_points()
            known = known or self.gcps_crs
            return ControlPoints(self.shape, self.points, known.to_wkt() if known else None)
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

    def _refuse_unusable_points(self) -> None:
        numbers = [number for point in self.points for number in point]
        try:
            if not all(map(math.isfinite, numbers)):
                raise ValueError("some are not finite")
            with GCPTransformer(self.gcps):
                return
        except (CPLE_BaseError, RasterioError, ValueError) as error:
            raise SourceError(
                f"{self.path} has {len(self.gcps)} ground control points that place no pixel "
                f"({' '.join(str(error).split())}): give it others, or warp it first (gdalwarp)"
            ) from error


def _is_one(crs: Any, other: Any) -> bool:
    """Whether two CRSs are one; GDAL calls all local systems one."""
    return bool(crs == other) and (not crs or same_plane(crs.to_wkt(), other.to_wkt()))


def _texts(read: Callable[[], tuple[str | None, ...]], count: int) -> tuple[str | None, ...]:
    """A text of each band, which older programs wrote in Latin-1: rasterio then gives none of them."""
    try:
        return read()
    except UnicodeDecodeError as error:
        if count == 1:
            return (error.object.decode("latin-1"),)
        return (None,) * count


def _bits(dataset: Any, number: int) -> int:
    """NBITS of a band; 0 where it says nothing that can be."""
    text = unless_odd(lambda: dataset.get_tag_item("NBITS", "IMAGE_STRUCTURE", bidx=number), None) or ""
    return int(text) if text.isascii() and text.isdecimal() and 0 < int(text) < 64 else 0


def crs_of(text: str) -> Any:
    """The CRS that a text means; rasterio's CRSError or a ValueError where it means none."""
    if ELSEWHERE.match(text):
        raise ValueError("a CRS is told by its code or its definition")
    with rasterio.Env(**PINNED):  # which also keeps PROJ's own lines off the terminal
        return CRS.from_user_input(text)
