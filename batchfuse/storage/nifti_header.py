"""NIfTI headers as bytes: what a store keeps of its reference's, and what an export says (nibabel).

All of them are as a .nii file begins, little-endian and without flaws: the reader of the reference made them
so (``imagery.volume_header``), or this module did.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import nibabel
import numpy as np
from nibabel.nifti1 import Nifti1Extension, data_type_codes
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from batchfuse.errors import said
from batchfuse.geometry.volume_grid import VolumeGrid, millimetres
from batchfuse.system.notes import decoded

__all__ = ["export_header", "header_for", "read_header", "signature_in", "stored_type"]

Header = Any
"""A nibabel.Nifti1Header or Nifti2Header: nibabel has no types."""

KINDS: Mapping[int, Any] = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
"""nibabel's headers by their size, which stands at the beginning."""
LONGEST = 32767
"""Voxels along an axis that NIfTI-1 can count."""
ALIGNED = 2
"""NIFTI_XFORM_ALIGNED_ANAT: said of a form that we have to add where the reference has none."""
COMMENT = 6
"""NIFTI_ECODE_COMMENT."""
SIGNATURE = b"BATCHFUSE "
"""How the comment begins that says what an export was made of."""
LONGEST_OURS = 2**25
"""Bytes of a header that may be ours: its reference's extensions are less."""
TEXTS = ("data_type", "db_name", "aux_file", "intent_name")
"""Fields of free text, beside descrip."""


def header_for(
    reference: bytes, grid: VolumeGrid, dtype: str, scale: float | None, offset: float | None
) -> bytes:
    """Make the header that a store keeps: that of its reference, extensions included.

    What is set, and only where it says something else: the shape (three axes), type, slope and intercept,
    the offset of the voxels, and both forms where the grid is cropped. A header that can't count so many
    voxels becomes one of NIfTI-2.

    Args:
        reference: the reference's header.
        grid: of the fused volume: the reference's, or cut out of its lattice.
        dtype: of the stored values; float16, which NIfTI lacks, is said to be float32.
        scale: physical value = stored value · scale + offset.
        offset: see ``scale``.

    Returns:
        Bytes as a .nii file begins with, up to the voxels.

    Raises:
        ValueError: it is no header.
    """
    header, tail = _parts(reference)
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
    header, tail = _parts(stored)
    _set_values(header, dtype, *packing)
    header["descrip"] = description.encode("ascii", "replace")[:79]
    # the fused values are none of the statistics or labels that the reference may have been
    header["intent_code"] = 0
    for name in ("intent_p1", "intent_p2", "intent_p3"):
        header[name] = 0
    if not keep_display:
        header["cal_min"] = header["cal_max"] = 0
    extensions = list(_extensions(tail)) if keep_text else []
    if not keep_text:
        for name in TEXTS:
            # NIfTI-2 has dropped some
            if name in header.keys():  # noqa: SIM118  (a header is no dict)
                header[name] = b""
    comment = SIGNATURE + json.dumps(signature, sort_keys=True).encode()
    return _bytes(header, _tail([*extensions, (COMMENT, comment)]))


def read_header(content: bytes) -> Header:
    """A header made by this module, as nibabel has it, with its extensions.

    Raises ValueError where it is damaged.
    """
    header, tail = _parts(content)
    header.extensions.extend(Nifti1Extension(code, text) for code, text in _extensions(tail))
    return header


def signature_in(file: BinaryIO) -> dict[str, Any] | None:
    """What the header at the beginning of an inflated file says it was made of; None where it isn't ours."""
    try:
        start = file.read(max(KINDS))
        end = min(int(_parts(start)[0]["vox_offset"]), LONGEST_OURS)
        content = (start + file.read(max(0, end - len(start))))[:end]
        for code, text in _extensions(_parts(content)[1]):
            if code == COMMENT and text.startswith(SIGNATURE):
                found = decoded(text.removeprefix(SIGNATURE))
                return found if isinstance(found, dict) else None
    except (ValueError, OverflowError, RecursionError):
        return None
    return None


def stored_type(dtype: str) -> str:
    """The type that a NIfTI file has for stored values of this type: it has no float16."""
    return "float32" if dtype == "float16" else dtype


def _parts(content: bytes) -> tuple[Header, bytes]:
    """The fields, and what follows them; ValueError where it is no header."""
    kind = KINDS.get(int.from_bytes(content[:4], "little"))
    if kind is None or len(content) < (size := kind.sizeof_hdr):
        raise ValueError("it doesn't begin as a NIfTI file does")
    try:
        return kind(content[:size], "<", check=False), content[size:]
    except HeaderDataError as error:
        raise ValueError(said(error)) from None


def _extensions(tail: bytes) -> Iterator[tuple[int, bytes]]:
    """Code and content of each extension, without the zeros that fill it up; ValueError of damage."""
    at = 4 if tail[:1] > b"\0" else len(tail)
    while at + 8 <= len(tail):
        size, code = struct.unpack_from("<ii", tail, at)
        if size < 8 or at + size > len(tail):
            raise ValueError("an extension of its header is damaged")
        yield code, tail[at + 8 : at + size].rstrip(b"\0")
        at += size


def _tail(extensions: Iterable[tuple[int, bytes]]) -> bytes:
    """What follows the fields of a header with these extensions."""
    told = b""
    for code, content in extensions:
        size = -(-(len(content) + 8) // 16) * 16
        told += struct.pack("<ii", size, code) + content.ljust(size - 8, b"\0")
    return b"\1\0\0\0" + told if told else bytes(4)


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
