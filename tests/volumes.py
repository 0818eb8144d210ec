"""Small NIfTI files for tests, written byte by byte so that nothing but the format itself is trusted."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

CODES = {
    "uint8": 2, "int16": 4, "int32": 8, "float32": 16, "complex64": 32, "float64": 64, "int8": 256,
    "uint16": 512, "uint32": 768, "int64": 1024, "uint64": 1280, "float128": 1536,
}  # fmt: skip


def nifti_bytes(
    voxels: np.ndarray,
    affine: np.ndarray | None = None,
    *,
    version: int = 1,
    order: str = "<",
    pair: bool = False,
    slope: float = 0.0,
    inter: float = 0.0,
    units: int = 2,
    sform: int = 1,
    qform: int = 0,
    spacing: Sequence[float] = (1, 1, 1),
    quaternion: Sequence[float] = (0, 0, 0),
    origin: Sequence[float] = (0, 0, 0),
    qfac: float = 1.0,
    dims: Sequence[int] | None = None,
    code: int | None = None,
    intent: int = 0,
) -> tuple[bytes, bytes]:
    """Header (with its four bytes of no extension, if it is no pair's) and data of voxels (i, j, k, ...)."""
    affine = np.eye(4) if affine is None else affine
    shape = list(voxels.shape) if dims is None else list(dims)
    dim = [len(shape), *shape, *[1] * (7 - len(shape))]
    pixdim = [qfac, *spacing, 1, 1, 1, 1]
    number = CODES[voxels.dtype.name] if code is None else code
    bits = voxels.dtype.itemsize * 8
    rows = [float(n) for row in affine[:3] for n in row]
    text = b"\0" * 80, b"\0" * 24
    if version == 1:
        magic = b"ni1\0" if pair else b"n+1\0"
        header = struct.pack(
            order + "i35xB8h3f4h8f3fh2B4f2i80s24s2h6f12f16s4s",
            348, 0, *dim, 0, 0, 0, intent, number, bits, 0, *pixdim, 0 if pair else 352, slope, inter,
            0, 0, units, 0, 0, 0, 0, 0, 0, *text, qform, sform, *quaternion, *origin, *rows, b"", magic,
        )  # fmt: skip
    else:
        magic = (b"ni2\0" if pair else b"n+2\0") + b"\r\n\x1a\n"
        header = struct.pack(
            order + "i8s2h8q3d8dq2d4d2q80s24s2i6d12d3i16sB15x",
            540, magic, number, bits, *dim, 0, 0, 0, *pixdim, 0 if pair else 544, slope, inter,
            0, 0, 0, 0, 0, 0, *text, qform, sform, *quaternion, *origin, *rows, 0, units, intent, b"", 0,
        )  # fmt: skip
    data = np.asfortranarray(voxels.astype(voxels.dtype.newbyteorder(order))).tobytes(order="F")
    return header + (b"" if pair else b"\0" * 4), data


def write_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None, **told: Any) -> Path:
    """A NIfTI file of voxels (i, j, k, ...); a pair if it is called .hdr; compressed if it ends in .gz."""
    pair = path.suffix == ".hdr"
    header, data = nifti_bytes(voxels, affine, pair=pair, **told)
    if pair:
        path.write_bytes(header)
        path.with_suffix(".img").write_bytes(data)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(header + data, 1))
    else:
        path.write_bytes(header + data)
    return path


def turned(angles: Sequence[float], spacing: Sequence[float], origin: Sequence[float]) -> np.ndarray:
    """An oblique affine: rotations about x, y, z in radians."""
    affine = np.eye(4)
    for axis, angle in enumerate(angles):
        one, two = (n for n in range(3) if n != axis)
        turn = np.eye(3)
        turn[one, one] = turn[two, two] = np.cos(angle)
        turn[one, two], turn[two, one] = -np.sin(angle), np.sin(angle)
        affine[:3, :3] = affine[:3, :3] @ turn
    affine[:3, :3] = affine[:3, :3] @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine
