"""Sources and scenes: what is known of the files before a pixel is read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from batchfuse.errors import SourceError
from batchfuse.geometry.grid import ControlPoints, Grid
from batchfuse.geometry.volume_grid import VolumeGrid

__all__ = [
    "Band",
    "MaskRule",
    "QualityMask",
    "Scene",
    "Source",
    "SourceFile",
    "can_hold",
    "refuse_impossible",
    "refuse_turned",
    "refuse_unusable",
]

COLOURS = ("red", "green", "blue")


def can_hold(dtype: str, value: float) -> bool:
    """Whether a pixel of this integer type can have the value."""
    info = np.iinfo(dtype)
    return info.min <= value <= info.max and value == int(value)


def refuse_impossible(nodata: float, dtype: str, path: Path) -> None:
    """SourceError where no pixel can have a nodata of the recipe: that is a mistake, not a rule."""
    if np.dtype(dtype).kind == "f" or math.isnan(nodata):
        return
    if not can_hold(dtype, nodata):
        info = np.iinfo(dtype)
        raise SourceError(
            f"`nodata: {nodata:g}` can't stand in {path}, whose {dtype} pixels hold whole numbers "
            f"from {info.min} to {info.max}: correct it, or leave it out"
        )


def refuse_unusable(scale: float, offset: float, path: Path) -> None:
    """SourceError where file values can't be told from physical ones."""
    if not (math.isfinite(scale) and math.isfinite(offset)) or scale == 0:
        raise SourceError(
            f"{path} has scale {scale:g} and offset {offset:g}: "
            "give usable ones with `scale:` and `offset:` in the recipe"
        )


def refuse_turned(one: str, orientation: int, other: str, its: int) -> None:
    """SourceError where viewers turn two pictures differently: they would be fused upside down."""
    if orientation != its:
        raise SourceError(
            f"{one} says orientation {orientation} and {other} says {its}: viewers turn them differently; "
            "turn the pixels themselves first (mogrify -auto-orient, or exiftran -ai)"
        )


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source, with what tells it from another file of the same name."""

    path: Path
    """Where it lies."""
    size: int
    """Bytes, sidecar files (.msk, .ovr, the .img of a .hdr) included."""
    checksum: str
    """SHA-256 over the first and last 128 KiB of the file and of its sidecars."""
    states: tuple[tuple[int, int], ...]
    """Size and time of the last change in ns, of the file and each of its sidecars; never in a store."""
    sidecars: tuple[Path, ...] = ()
    """The files beside it that belong to it. An .aux.xml counts by what it says, and is none of them."""
    said: str = ""
    """A digest of what its header, masks and sidecars say, as GDAL reads them here; never in a store."""

    @property
    def stamp(self) -> int:
        """Time of the last change in ns."""
        return max(changed for _, changed in self.states)

    def identity(self, written: Callable[[Path], str]) -> dict[str, Any]:
        """What a store remembers of the file, its path as ``written``: nothing of the machine."""
        path = written(self.path)
        return {"name": self.path.name, "path": path, "size": self.size, "checksum": self.checksum}

    def absolute(self) -> SourceFile:
        """The same file, found from whatever folder a process was started in."""
        beside = tuple(path.absolute() for path in self.sidecars)
        return replace(self, path=self.path.absolute(), sidecars=beside)


@dataclass(frozen=True, slots=True)
class Band:
    """One band of a source."""

    file: int
    """Which of the source's files holds it."""
    number: int
    """1-based, as GDAL counts; of a NIfTI file the volume, counted so too."""
    name: str
    """Its description or colour, for the band coordinate of a store."""
    scale: float
    """Physical value = file value · scale + offset."""
    offset: float
    """See ``scale``."""
    nodata: float | None
    """The file value that says invalid; NaN and infinities always do."""


@dataclass(frozen=True, slots=True)
class MaskRule:
    """How the values of a mask tell which pixels are valid: where all the rules given say so."""

    reject_bits: tuple[int, ...] = ()
    """A pixel is invalid where any of these bits is set, counted from 0, the lowest."""
    reject_values: tuple[int, ...] = ()
    """A pixel is invalid where the mask has one of these values."""
    accept_values: tuple[int, ...] = ()
    """A pixel is invalid where the mask has none of these values; empty: any value will do."""


@dataclass(frozen=True, slots=True)
class QualityMask:
    """A raster of whole numbers on a source's own grid that says which of its pixels are valid."""

    file: SourceFile
    """Where it lies."""
    rule: MaskRule
    """How to read it."""
    masked: bool
    """Whether it has a nodata value or a mask of its own: where that says invalid, the pixel is."""
    nodata: float | None = None
    """That value."""


@dataclass(frozen=True, slots=True)
class Source:
    """One input image: one band, or three that mean colour; more where each is fused on its own."""

    role: str
    """What it is in the recipe: thermal, optical, …"""
    files: tuple[SourceFile, ...]
    """One file, or one a band."""
    place: Grid | ControlPoints | VolumeGrid
    """Where its pixels or voxels lie."""
    dtype: str
    """NumPy name of the type of the file values."""
    bands: tuple[Band, ...]
    """One or three, or any number; a palette of colours counts as three, one of grays as one."""
    masks: tuple[tuple[int, int], ...] = ()
    """(file, band) to ask for the mask GDAL keeps beside a file's pixels: internal or .msk."""
    alphas: tuple[tuple[int, int], ...] = ()
    """(file, band) of alpha: a pixel is valid where it is above 0, as partly transparent ones are."""
    quality: QualityMask | None = None
    """The mask that the recipe names beside the files."""
    palette: tuple[tuple[int, int, int, int], ...] = ()
    """Red, green, blue, alpha of each file value, where the file has a colour table."""
    block: tuple[int, int] = (256, 256)
    """Rows and columns of the file's own blocks: reads that follow them decode each once."""
    bits: int = 0
    """Bits a pixel where fewer than the type has (NBITS), else 0."""
    units: str | None = None
    """Physical unit, where the file names one."""
    labels: bool = False
    """Whether its values are names, not amounts: resampled to the nearest always."""
    warnings: tuple[str, ...] = ()
    """What a person should know of the files' headers."""
    orientation: int = 1
    """How viewers turn it, 1 to 8 as EXIF counts; not applied."""

    @property
    def is_volume(self) -> bool:
        """Whether it has three axes: windows of it are (z, y, x)."""
        return isinstance(self.place, VolumeGrid)

    @property
    def is_colour(self) -> bool:
        """Whether the source has red, green and blue, or still more bands."""
        return len(self.bands) > 1

    def absolute(self) -> Source:
        """The same source, its files found from whatever folder a process was started in."""
        quality = self.quality and replace(self.quality, file=self.quality.file.absolute())
        return replace(self, files=tuple(file.absolute() for file in self.files), quality=quality)

    def identity(self, written: Callable[[Path], str]) -> dict[str, Any]:
        """What a store remembers of its files, their paths as ``written``."""
        mask = {"mask": self.quality.file.identity(written)} if self.quality else {}
        return {"role": self.role, "files": [file.identity(written) for file in self.files], **mask}

    @property
    def every_file(self) -> tuple[SourceFile, ...]:
        """Its files, its mask the last."""
        return (*self.files, *([self.quality.file] if self.quality else []))

    @property
    def numbers(self) -> tuple[int, ...]:
        """The bands' numbers: those of its file, or, with a file a band, counted through the bands."""
        several = len({band.file for band in self.bands}) > 1 or self.palette
        return tuple(i if several else band.number for i, band in enumerate(self.bands, start=1))

    @property
    def shown(self) -> tuple[int, ...]:
        """Which of the bands a picture shows: red, green and blue by name, else the first three, or one."""
        names = [band.name.lower() for band in self.bands]
        if all(names.count(colour) == 1 for colour in COLOURS):
            return tuple(names.index(colour) for colour in COLOURS)
        return (0, 1, 2) if len(names) >= 3 else (0,)

    @property
    def name(self) -> str:
        """Its files' names, as errors quote them."""
        return " + ".join(str(file.path) for file in self.files)


@dataclass(frozen=True, slots=True)
class Scene:
    """Two or more sources that are fused into one image."""

    name: str
    """Names the store."""
    sources: tuple[Source, ...]
    """In the recipe's order."""
    reference: int
    """Which source gives the grid, the units and the colour."""
    grid: Grid | VolumeGrid
    """The grid the fused image has: the reference's; of rasters, turned north-up where that is rotated."""
