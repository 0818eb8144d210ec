"""NIfTI headers as bytes: what a store keeps of its reference's, and what an export says (nibabel)."""

from __future__ import annotations

import gzip
import io
import json
import sys
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.nifti1 import Nifti1Extension, Nifti1Extensions, data_type_codes
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from batchfuse.errors import StoreError, said
from batchfuse.geometry.volume_grid import VolumeGrid, millimetres

__all__ = ["export_header", "file_header", "header_for", "read_header", "signature_in", "stored_type"]

Header = Any
"""A nibabel.Nifti1Header or Nifti2Header: nibabel has no types."""

KINDS: Mapping[bytes, Any] = {
    b"n+1": nibabel.Nifti1Header,
    b"ni1": nibabel.nifti1.Nifti1PairHeader,
    b"n+2": nibabel.Nifti2Header,
    b"ni2": nibabel.nifti2.Nifti2PairHeader,
}
"""nibabel's headers by the magic of the file."""
MAGIC = {348: 344, 540: 4}
"""Where the magic stands, by the size of the header."""
LONGEST = 32767
"""Voxels along an axis that NIfTI-1 can count."""
ALIGNED = 2
"""NIFTI_XFORM_ALIGNED_ANAT: said of a form that we have to add where the reference has none."""
COMMENT = 6
"""NIFTI_ECODE_COMMENT."""
SIGNATURE = b"BATCHFUSE "
"""How the comment begins that says what an export was made of."""
TEXTS = ("data_type", "db_name", "aux_file", "intent_name")
"""Fields of free text, beside descrip."""


def header_for(
    reference: Path, grid: VolumeGrid, dtype: str, scale: float | None, offset: float | None
) -> bytes:
    """Make the header that a store keeps: that of the reference's file, its extensions included.

    Each field and extension is as in the file; of a native little-endian file (.nii or .nii.gz) the bytes
    are the same. What is set, and only where it says something else: the shape (three axes), type, slope and
    intercept; the offsets of both forms where the grid is cropped; magic and offset of the voxels for a pair
    of files. A header that can't count so many voxels becomes one of NIfTI-2.

    Args:
        reference: a .nii, .nii.gz, .hdr or .img.
        grid: of the fused volume: the reference's, or cut out of its lattice.
        dtype: of the stored values; float16, which NIfTI lacks, is said to be float32.
        scale: physical value = stored value · scale + offset.
        offset: see ``scale``.

    Returns:
        Bytes as a .nii file begins with, up to the voxels.

    Raises:
        StoreError: the file can't be read, or has no NIfTI header.
    """
    try:
        content = file_header(reference)
        header, tail = _single(content)
    except (OSError, EOFError, ValueError, zlib.error, HeaderDataError) as error:
        raise StoreError(f"{reference}: its NIfTI header can't be read ({said(error)})") from None
    header = _with_room(header, grid)
    _set_place(header, grid)
    _set_values(header, dtype, scale, offset)
    return _bytes(header, tail)


def export_header(
    stored: bytes,
    dtype: str,
    packing: tuple[float | None, float | None],
    description: str,
    signature: Mapping[str, Any],
    *,
    keep_text: bool,
    keep_display: bool,
) -> bytes:
    """Make the header of an exported file from the one in its store.

    Place, units and orientation are the store's; ``description`` (cut to 79 bytes) says what made it.

    Args:
        stored: the store's header.
        dtype: of the file's voxels.
        packing: physical value = voxel · first + second.
        description: for the field descrip.
        signature: kept in a comment; ``signature_in`` gives it back.
        keep_text: keep the reference's own texts and extensions, which may name the patient.
        keep_display: keep the reference's display range: the values are in its units.
    """
    header, tail = _single(stored)
    _set_values(header, dtype, *packing)
    header["descrip"] = description.encode("ascii", "replace")[:79]
    # the fused values are none of the statistics or labels that the reference may have been
    header["intent_code"] = 0
    for name in ("intent_p1", "intent_p2", "intent_p3"):
        header[name] = 0
    if not keep_display:
        header["cal_min"] = header["cal_max"] = 0
    extensions = Nifti1Extensions()
    if keep_text:
        extensions.extend(_extensions(header, tail))
    else:
        for name in TEXTS:
            # NIfTI-2 has dropped some
            if name in header.keys():  # noqa: SIM118  (a header is no dict)
                header[name] = b""
    comment = SIGNATURE + json.dumps(signature, sort_keys=True).encode()
    extensions.append(Nifti1Extension(COMMENT, comment))
    return _bytes(header, _tail(extensions))


def read_header(content: bytes) -> Header:
    """A header made by this module, as nibabel has it, with its extensions.

    Raises ValueError where it is damaged.
    """
    header, tail = _single(content)
    try:
        header.extensions = _extensions(header, tail)
    except HeaderDataError as error:
        raise ValueError(said(error)) from None
    return header


def signature_in(content: bytes) -> dict[str, Any] | None:
    """What the header of an export says it was made of, or None where it isn't one of ours."""
    try:
        comments = [e for e in read_header(content).extensions if e.get_code() == COMMENT]
        for comment in comments:
            text = bytes(comment.get_content()).rstrip(b"\0")
            if text.startswith(SIGNATURE):
                found = json.loads(text.removeprefix(SIGNATURE))
                return found if isinstance(found, dict) else None
    except (ValueError, HeaderDataError):
        return None
    return None


def stored_type(dtype: str) -> str:
    """The type that a NIfTI file has for stored values of this type: it has no float16."""
    return "float32" if dtype == "float16" else dtype


def file_header(path: Path) -> bytes:
    """A NIfTI file from its beginning to its voxels; of a pair, all of the .hdr.

    Raises OSError, EOFError, zlib.error or ValueError where it is none.
    """
    names = {".img": ".hdr", ".IMG": ".HDR"}
    stem, compressed = (path.stem, path.suffix) if path.suffix.lower() == ".gz" else (path.name, "")
    if (ending := Path(stem).suffix) in names:
        path = path.with_name(stem.removesuffix(ending) + names[ending] + compressed)
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as file:
        start = file.read(540)
        header = _parsed(start)
        if header.is_single:
            end = max(int(header["vox_offset"]), header.sizeof_hdr)
            return bytes(start + file.read(max(0, end - len(start))))[:end]
        return bytes(start + file.read())


def _parsed(content: bytes) -> Header:
    """The fields, without extensions, in the byte order of the file."""
    for size, at in MAGIC.items():
        sizes = {int.from_bytes(content[:4], order) for order in ("little", "big")}
        kind: Any = KINDS.get(content[at : at + 3])
        if kind is not None and size in sizes and len(content) >= size:
            return kind(content[:size], check=False)
    raise ValueError("it doesn't begin as NIfTI does")


def _single(content: bytes) -> tuple[Header, bytes]:
    """The fields as little-endian ones of a single file, and what follows them: untouched where they were."""
    header = _parsed(content)
    size = header.sizeof_hdr
    if header.is_single and header.endianness == "<":
        return header, content[size:]
    extensions = _extensions(header, content[size:])
    native = header if header.endianness == "<" else header.as_byteswapped("<")
    kind: Any = nibabel.Nifti1Header if size == 348 else nibabel.Nifti2Header
    single = kind(native.binaryblock, "<", check=False)
    single["magic"] = kind.single_magic
    return single, _tail(extensions)


def _extensions(header: Header, tail: bytes) -> Nifti1Extensions:
    """What stands between the fields and the voxels."""
    if len(tail) < 4 or not tail[0]:
        return Nifti1Extensions()
    swapped = (header.endianness == "<") != (sys.byteorder == "little")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes that are no multiple of 16
        found: Nifti1Extensions = header.exts_klass.from_fileobj(io.BytesIO(tail[4:]), len(tail) - 4, swapped)
        return found


def _tail(extensions: Nifti1Extensions) -> bytes:
    if not extensions:
        return bytes(4)
    file = io.BytesIO(b"\1\0\0\0")
    file.seek(4)
    extensions.write_to(file, sys.byteorder != "little")
    return file.getvalue()


def _bytes(header: Header, tail: bytes) -> bytes:
    _put(header, "vox_offset", header.sizeof_hdr + len(tail))
    return bytes(header.binaryblock) + tail


def _put(header: Header, name: str, value: Any) -> None:
    """Set a field where it says something else."""
    if not np.array_equal(header[name], value):
        header[name] = value


def _with_room(header: Header, grid: VolumeGrid) -> Header:
    """The header, as one of NIfTI-2 if its own can't count the voxels."""
    if header.sizeof_hdr == 540 or max(grid.shape) <= LONGEST:
        return header
    wide = nibabel.Nifti2Header(endianness="<", check=False)
    for name in set(header.keys()) & set(wide.keys()) - {"sizeof_hdr", "magic", "vox_offset"}:
        wide[name] = header[name]
    return wide


def _set_place(header: Header, grid: VolumeGrid) -> None:
    """Set shape and forms to a grid on the reference's lattice, in the header's own unit."""
    affine = grid.affine.copy()
    affine[:3] /= millimetres(int(header["xyzt_units"]))
    before = header.get_best_affine()
    start = np.linalg.solve(before[:3, :3], affine[:3, 3] - before[:3, 3])
    dim = np.array(header["dim"])
    if dim[0] != 3:
        dim[4:] = 1
    dim[:4] = 3, *grid.shape[::-1]
    _put(header, "dim", dim)
    start = np.rint(start)
    if start.any():
        turn: NDArray[np.float64] = header.get_qform()[:3, :3]
        for name, row in zip(("srow_x", "srow_y", "srow_z"), header.get_sform()[:3], strict=True):
            header[name][3] += row[:3] @ start
        for name, moved in zip(("qoffset_x", "qoffset_y", "qoffset_z"), turn @ start, strict=True):
            header[name] += moved
    if not _agree(header.get_best_affine(), affine, grid.shape):
        # no form, which means a place that follows from the shape, or a grid of somebody's own
        code = int(header["sform_code"]) or int(header["qform_code"]) or ALIGNED
        header.set_sform(affine, code)
        if header["qform_code"] > 0:
            header.set_qform(affine, int(header["qform_code"]))
        else:
            header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)


def _agree(found: NDArray[np.float64], wanted: NDArray[np.float64], shape: tuple[int, int, int]) -> bool:
    """Whether an affine that went through a header's float32 is the wanted one, to 1/1000 of a voxel."""
    limit = 1e-3 * np.linalg.norm(wanted[:3, :3], axis=0).min() + 1e-6 * np.abs(wanted).max()
    ends = np.array([[*np.array(shape[::-1]) - 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
    return bool(np.abs(ends @ (found - wanted).T).max() <= limit)


def _set_values(header: Header, dtype: str, scale: float | None, offset: float | None) -> None:
    kind = np.dtype(stored_type(dtype))
    _put(header, "datatype", data_type_codes.code[kind])
    _put(header, "bitpix", kind.itemsize * 8)
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0:
        slope, inter = 1.0, 0.0  # what NIfTI takes for unscaled
    wanted = np.array([1.0 if scale is None else scale, offset or 0.0], np.float32)
    if not np.array_equal(np.array([slope, inter], np.float32), wanted):
        header["scl_slope"], header["scl_inter"] = wanted
