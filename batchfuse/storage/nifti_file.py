"""A volume written as one .nii.gz, with memory that doesn't grow with it."""

from __future__ import annotations

import gzip
import math
import shutil
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from batchfuse.geometry.window import Window
from batchfuse.storage.files import refusals
from batchfuse.storage.nifti_header import signature_in
from batchfuse.system.partials import partial_path

__all__ = ["nifti_signature_of", "write_nifti"]

Pieces = Iterable[tuple[Window, NDArray[Any]]]
"""Windows that cover the volume, each once, with their voxels (1, z, y, x)."""

AT_ONCE = 4 << 20
"""Bytes that are compressed or read back at a time."""
LEVEL = 6
"""Of gzip: what the program of that name takes."""


def write_nifti(header: bytes, shape: tuple[int, ...], dtype: str, pieces: Pieces, path: Path) -> None:
    """Write a .nii.gz; what was at ``path`` is replaced once the file is whole and has been read back.

    Equal arguments give equal bytes: there is neither a time nor a name inside. An uncompressed copy lies
    beside the file while it is made, because tiles don't come in the order of the voxels.

    Args:
        header: all that comes before the voxels.
        shape: of the volume, (z, y, x).
        dtype: of the voxels, little-endian in the file.
        pieces: the voxels.
        path: the file.

    Raises:
        StoreError: the file system refuses, or what was written does not come back.
    """
    folder = partial_path(path)
    kind = np.dtype(dtype).newbyteorder("<")
    try:
        with refusals(f"{path} can't be written"):
            folder.mkdir(parents=True)
            plain, made = folder / "plain", folder / "made"
            with plain.open("wb", buffering=0) as file:
                for window, voxels in pieces:
                    _put(file, window, shape, np.ascontiguousarray(voxels[0], kind))
            if plain.stat().st_size != math.prod(shape) * kind.itemsize:
                raise OSError("some of its voxels did not arrive")
            checksum = _compress(header, plain, made)
            with gzip.open(made, "rb") as again:
                if _checksum(_blocks(cast("BinaryIO", again))) != checksum:
                    raise OSError("what was written does not come back, the disk is damaged")
            made.replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def nifti_signature_of(path: Path) -> dict[str, Any] | None:
    """What the file at ``path`` was made of, or None where it is no file of ours."""
    try:
        with gzip.open(path) as file:
            return signature_in(cast("BinaryIO", file))
    except (OSError, EOFError, zlib.error):
        return None


def _put(file: Any, window: Window, shape: tuple[int, ...], voxels: NDArray[Any]) -> None:
    """Write a window of a plain file of voxels, in the longest runs that lie together there."""
    _, rows, columns = shape
    (z, y, x), size = window.start, voxels.itemsize
    if voxels.shape[2] < columns:
        runs = ((z + i, y + j, voxels[i, j]) for i in range(voxels.shape[0]) for j in range(voxels.shape[1]))
    else:
        runs = ((z + i, y, voxels[i]) for i in range(voxels.shape[0]))
    for slab, row, run in runs:
        file.seek(((slab * rows + row) * columns + x) * size)
        left = memoryview(run.reshape(-1)).cast("B")
        while left:
            left = left[file.write(left) :]


def _compress(header: bytes, plain: Path, made: Path) -> int:
    """Write header and voxels through gzip; the checksum of both."""
    checksum = zlib.crc32(header)
    with (
        plain.open("rb") as voxels,
        made.open("wb") as file,
        gzip.GzipFile("", "wb", LEVEL, file, mtime=0) as packed,
    ):
        packed.write(header)
        for block in _blocks(voxels):
            packed.write(block)
            checksum = zlib.crc32(block, checksum)
    return checksum


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(AT_ONCE):
        yield block


def _checksum(blocks: Iterable[bytes]) -> int:
    checksum = 0
    for block in blocks:
        checksum = zlib.crc32(block, checksum)
    return checksum
