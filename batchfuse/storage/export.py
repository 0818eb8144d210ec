"""An image written as one file, window by window: a cloud optimised GeoTIFF, or a PNG (GDAL)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import warnings
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
import rasterio.windows
from affine import Affine
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError

from batchfuse.errors import StoreError, is_full
from batchfuse.geometry.grid import Grid
from batchfuse.geometry.window import Window
from batchfuse.storage.beside import world_path
from batchfuse.storage.files import full, lacks_room
from batchfuse.system.notes import decoded
from batchfuse.system.partials import partial_path

__all__ = ["WORLD", "Picture", "signature_of", "write_cog", "write_png"]

Pieces = Iterable[tuple[Window, NDArray[Any]]]
"""Windows that cover the image, each once, with their pixels (band, y, x)."""

CACHE = 256_000_000  # bytes: GDAL has one for the process, and imagery.raster_files sets it to the same
SIGNATURE = "BATCHFUSE"
"""The metadata item that says what a file was made of: it tells our files from a user's."""
WORLD, LONGEST = "world", 4096  # in the signature of a PNG, its world file's digest; bytes of such a file
BLOCK = 512
# deflate is what every reader has; what the others save is in docs/decisions/exports.md
COG = {
    "compress": "deflate",
    "predictor": "yes",
    "blocksize": BLOCK,
    "bigtiff": "if_safer",
}
PLAIN = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "bigtiff": "if_safer"}
# An image without a place is no mistake. Set once: to do and undo it around each opening is not thread-safe.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

NO_ROOM = re.compile("no space left|disk space", re.IGNORECASE)
"""What GDAL says of a full disk, if it says anything."""
LOST = "some of its pixels did not arrive, the disk is full or damaged"
COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


@dataclass(frozen=True)
class Picture:
    """What a file holds, but for its pixels."""

    grid: Grid
    """Where the pixels lie; axis-aligned."""
    bands: tuple[str, ...]
    """Name of each band but alpha: one, or red, green and blue."""
    dtype: str
    """Type of the pixels."""
    nodata: float | None = None
    """The value of invalid pixels."""
    alpha: bool = False
    """Whether one more band says where the pixels are valid."""
    scale: float | None = None
    """Physical value = pixel · scale + offset."""
    offset: float | None = None
    """See ``scale``."""
    units: str | None = None
    """Unit of the physical values."""
    signature: Mapping[str, Any] = field(default_factory=dict)
    """What the file is made of, as JSON can hold it; ``signature_of`` gives it back."""

    @property
    def colours(self) -> tuple[ColorInterp, ...]:
        """What each band is to a viewer."""
        plain = COLOURS if len(self.bands) == 3 else (ColorInterp.gray,) * len(self.bands)
        return (*plain, ColorInterp.alpha) if self.alpha else plain


def write_cog(picture: Picture, pieces: Pieces, path: Path, threads: int = 1) -> None:
    """Write a GeoTIFF, cloud optimised, with overviews; what was at ``path`` is replaced once it is whole.

    Raises StoreError where the file system refuses, a FullError where it has no room, or where the CRS can't
    be read.
    """
    _write(picture, pieces, path, {**COG, "driver": "COG", "num_threads": threads})


def write_png(picture: Picture, pieces: Pieces, path: Path) -> None:
    """Write a PNG of uint8 or uint16, with a world file beside it where the grid has a place.

    See ``write_cog``. A PNG has room for no CRS. StoreError, too, where the world file is somebody else's.
    """
    _refuse_foreign_world(picture.grid, path)
    told = {**picture.signature, WORLD: _digest(_world_file(picture.grid).encode())}
    options = {"driver": "PNG", "write_metadata_as_text": "yes"}
    _write(replace(picture, signature=told), pieces, path, options)


def signature_of(path: Path) -> dict[str, Any] | None:
    """What the file at ``path`` was made of, or None where it is no file of ours."""
    try:
        driver = "PNG" if path.suffix.lower() == ".png" else "GTiff"
        if not path.is_file():
            return None
        # whatever lies at the place, nothing else is opened for it
        with rasterio.Env(GDAL_PAM_ENABLED="NO"), rasterio.open(path.absolute(), driver=driver) as dataset:
            found = decoded(dataset.tags().get(SIGNATURE, "null"))
    except (RasterioError, OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write(picture: Picture, pieces: Pieces, path: Path, options: Mapping[str, Any]) -> None:
    # everything temporary, GDAL's own overviews too, is in one folder that goes in any case
    folder = partial_path(path)
    # no .aux.xml: what a file can't hold itself is not kept beside it
    quiet = rasterio.Env(GDAL_PAM_ENABLED="NO", GDAL_NUM_THREADS=1, GDAL_CACHEMAX=CACHE)
    try:
        folder.mkdir(parents=True)
        _refuse_too_little_room(picture, folder, path)
        with quiet:
            plain, made = folder / "plain.tif", folder / "made"
            checksums = _write_plain(picture, pieces, plain)
            if options["driver"] == "COG":
                _add_overviews(plain, picture.grid.shape)
            rasterio.shutil.copy(plain, made, **options)
            _check_pixels(made, checksums)
            if options["driver"] == "COG":
                _check_overviews(plain)
                _check_overviews(made)
        _place(picture.grid, made, path, beside=options["driver"] == "PNG")
    except CRSError as error:
        raise StoreError(f"{path} can't be written: GDAL can't read the CRS ({_said(error)})") from None
    # rasterio.shutil gives some of GDAL's own errors as they are
    except (RasterioError, CPLE_BaseError, OSError) as error:
        if is_full(error) or NO_ROOM.search(_said(error)) or lacks_room(folder):
            raise full(f"{path} can't be written") from None
        raise StoreError(f"{path} can't be written: {_said(error)}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse_too_little_room(picture: Picture, folder: Path, path: Path) -> None:
    """A FullError where not even the plain pixels have room: of that GDAL makes many lines, and none sure."""
    rows, columns = picture.grid.shape
    needed = rows * columns * len(picture.colours) * np.dtype(picture.dtype).itemsize
    free = shutil.disk_usage(folder).free
    if free < needed:
        reason = f"No space left on device (it takes {needed:,} bytes on the way, {free:,} are free)"
        raise full(f"{path} can't be written", reason)


def _write_plain(picture: Picture, pieces: Pieces, path: Path) -> list[tuple[Window, int]]:
    """Write a plain GeoTIFF, which GDAL's drivers read in whatever order they need; give its checksums."""
    rows, columns = picture.grid.shape
    options = {
        "mode": "w",
        "driver": "GTiff",
        "height": rows,
        "width": columns,
        "count": len(picture.colours),
        "dtype": picture.dtype,
        "nodata": picture.nodata,
        "crs": CRS.from_wkt(picture.grid.crs) if picture.grid.crs else None,
        "transform": picture.grid.affine,
        **PLAIN,
    }
    checksums = []
    with rasterio.open(path, **options) as dataset:
        _describe(picture, dataset)
        for window, pixels in pieces:
            dataset.write(pixels, window=_box(window))
            checksums.append((window, zlib.crc32(pixels.tobytes())))
    return checksums


def _describe(picture: Picture, dataset: Any) -> None:
    dataset.colorinterp = picture.colours
    dataset.descriptions = (*picture.bands, "alpha") if picture.alpha else picture.bands
    every = len(picture.colours)
    if picture.scale is not None:
        dataset.scales = (picture.scale,) * every
    if picture.offset is not None:
        dataset.offsets = (picture.offset,) * every
    if picture.units is not None:
        dataset.units = (picture.units,) * every
    dataset.update_tags(**{SIGNATURE: json.dumps(picture.signature, sort_keys=True)})


def _add_overviews(path: Path, shape: tuple[int, int]) -> None:
    """Halve the image until it fits into one block; invalid pixels don't count in the averages."""
    factors, factor = [], 2
    while -(-max(shape) * 2 // factor) > BLOCK:
        factors.append(factor)
        factor *= 2
    with (
        rasterio.Env(GDAL_TIFF_OVR_BLOCKSIZE=BLOCK),
        rasterio.open(path, mode="r+", driver="GTiff") as dataset,
    ):
        dataset.build_overviews(factors, Resampling.average)


def _check_overviews(path: Path) -> None:
    """Look for each block of the overviews; see ``_check_pixels``."""
    length = path.stat().st_size
    with rasterio.open(path) as dataset:
        levels = len(dataset.overviews(1))
        for level in range(levels):
            with rasterio.open(path, overview_level=level) as reduced:
                blocks = [f"{column}_{row}" for (row, column), _ in reduced.block_windows(1)]
            for block in blocks:
                start, size = (
                    int(dataset.get_tag_item(f"BLOCK_{what}_{block}", "TIFF", bidx=1, ovr=level) or 0)
                    for what in ("OFFSET", "SIZE")
                )
                if not 0 < start + size <= length:
                    raise OSError(LOST)


def _check_pixels(path: Path, checksums: Iterable[tuple[Window, int]]) -> None:
    """Read all of it again: where the disk is full as GDAL closes a file, it leaves pixels out silently."""
    with rasterio.open(path) as dataset:
        for window, checksum in checksums:
            if zlib.crc32(dataset.read(window=_box(window))) != checksum:
                raise OSError(LOST)


def _box(window: Window) -> Any:
    return rasterio.windows.Window.from_slices(*zip(window.start, window.stop, strict=True))


def _place(grid: Grid, made: Path, path: Path, beside: bool) -> None:
    """Bring the file under its name; ``beside`` with the grid's place in a world file."""
    if beside:
        world, lines = world_path(path), made.with_name("world")
        if text := _world_file(grid):
            lines.write_text(text)
            lines.replace(world)
        else:
            world.unlink(missing_ok=True)
    made.replace(path)


def _world_file(grid: Grid) -> str:
    """The text of a world file; none where the grid has no place."""
    if grid.affine == Affine.identity():
        return ""
    a, b, _, d, e, _ = tuple(grid.affine)[:6]
    x, y = grid.affine @ (0.5, 0.5)
    return "".join(f"{float(n)!r}\n" for n in (a, d, b, e, x, y))


def _refuse_foreign_world(grid: Grid, path: Path) -> None:
    """StoreError where the world file beside a PNG is neither what we write nor what we wrote.

    It can't say itself whose it is: the PNG that it was written with does.
    """
    world = world_path(path)
    if not os.path.lexists(world):
        return
    if world.is_file() and not world.is_symlink() and world.stat().st_size <= LONGEST:
        before = signature_of(path) or {}
        if _digest(world.read_bytes()) in (before.get(WORLD), _digest(_world_file(grid).encode())):
            return
    raise StoreError(f"{world} is there and was not written by batchfuse: move it away")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _said(error: BaseException) -> str:
    """Put the innermost error's words on one line: GDAL's own stand behind rasterio's."""
    said = getattr(error, "strerror", None) or str(error.__cause__ or error)
    return " ".join(str(said).split()) or type(error).__name__
