"""A NIfTI header without the flaws that programs differ over: mended once, for all that use it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from batchfuse.errors import said

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

__all__ = ["MAGIC", "SIZES", "is_usable", "mended"]

SIZES = {348: "NIfTI-1", 540: "NIfTI-2"}
"""Bytes of a header, which its first number says in its byte order."""
MAGIC = {348: slice(344, 347), 540: slice(4, 7)}
"""Where a header of this size says that it is NIfTI, and whether its voxels are in the same file."""
SMALLEST, LARGEST, FARTHEST = 1e-9, 1e6, 1e9  # edge of a voxel and its place, in the header's unit
TIMES = range(0, 56, 8)
"""NIfTI's units of the fourth axis, which share a number with those of space."""
silent = logging.Logger("batchfuse.nifti")  # nibabel tells each small flaw of a header that it mends
silent.addHandler(logging.NullHandler())


def mended(raw: bytes, order: str) -> tuple[Nifti1Header, tuple[str, ...]]:
    """The fields of a header as those of a little-endian single file, flaws mended as nibabel mends them.

    The form that places the volume is believed, and the other one, where it is unusable, is written after
    it: the sform before the qform, as ever. Of a header without flaws no byte differs. The offset of the
    voxels stays as it is.

    Args:
        raw: the fields alone, 348 or 540 bytes.
        order: their byte order, "<" or ">".

    Returns:
        The fields, and what was mended of what decides where voxels lie, in phrases.

    Raises:
        HeaderDataError: of what can't be mended: nibabel's own.
    """
    given = _as_read(raw, order)
    header = given.copy()
    header.check_fix(silent)
    told = [*_mended_codes(given, header), *_mended_units(header), *_mended_forms(given, header)]
    return _single(header), tuple(told)


def _as_read(raw: bytes, order: str) -> Nifti1Header:
    from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
    from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader

    single = raw[MAGIC[len(raw)]][1:2] == b"+"
    kinds: Any = (Nifti1Header, Nifti1PairHeader) if len(raw) == 348 else (Nifti2Header, Nifti2PairHeader)
    header: Nifti1Header = kinds[0 if single else 1](raw, order, check=False)
    return header


def _single(header: Nifti1Header) -> Nifti1Header:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    if header.endianness != "<":
        header = header.as_byteswapped("<")
    kind: Any = Nifti1Header if header.sizeof_hdr == 348 else Nifti2Header
    made: Nifti1Header = kind(header.binaryblock, "<", check=False)
    made["magic"] = kind.single_magic
    return made


def _mended_codes(given: Nifti1Header, header: Nifti1Header) -> Iterator[str]:
    for name in ("sform", "qform"):
        if given[f"{name}_code"] != header[f"{name}_code"]:
            yield f"its {name} has the code {given[f'{name}_code']}, which NIfTI lacks: it is left out"


def _mended_units(header: Nifti1Header) -> Iterator[str]:
    units = int(header["xyzt_units"])
    space = units % 8
    if space > 3:
        yield f"its unit of space has the code {space}, which NIfTI lacks: millimetres are taken"
        space = 0
    time = units - units % 8
    header["xyzt_units"] = space + (time if time in TIMES else 0)


def _mended_forms(given: Nifti1Header, header: Nifti1Header) -> Iterator[str]:
    """Makes sform and qform agree where one of them is unusable; where both are, the header stays so."""
    qfac, *sizes = (float(size) for size in given["pixdim"][:4])
    flawed = not all(np.isfinite(size) and size > 0 for size in sizes)
    for axis in range(1, 4):  # NaN and infinities, which nibabel overlooks
        if not np.isfinite(header["pixdim"][axis]):
            header["pixdim"][axis] = 1
    sform, (qform, fault) = _sform(header), _qform(header)
    codes = int(header["sform_code"]), int(header["qform_code"])
    if codes[0] > 0 and sform is not None:
        if qfac not in (-1, 1):
            header["pixdim"][0] = np.sign(np.linalg.det(sform[:3, :3]))
        if flawed or qform is None:
            header.set_qform(sform, codes[1])
            if codes[1] > 0:
                yield f"its qform is unusable ({fault or f'voxels of {_text(sizes)}'}): the sform is used"
        elif codes[1] == 0:
            by_sform = np.linalg.norm(sform[:3, :3], axis=0)
            if not np.allclose(sizes, by_sform, 1e-3):  # which ITK believes, whatever the sform says
                header["pixdim"][1:4] = by_sform
        return
    if codes[0] > 0 and codes[1] > 0 and qform is not None:
        header.set_sform(qform, codes[0])
        yield "its sform is unusable (no numbers that can be a place): the qform is used"
    if codes[1] == 0 and qform is None:
        for name in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
            header[name] = 0
    if flawed:
        yield f"its voxels are {_text(sizes)} large: {_text(header['pixdim'][1:4])} is taken"
    if codes[1] > 0 and qfac not in (-1, 0, 1):
        yield f"its qfac is {qfac:g}, neither 1 nor -1: 1 is taken"


def _sform(header: Nifti1Header) -> NDArray[np.float64] | None:
    """The sform, None where it is unusable."""
    return _usable(np.array(header.get_sform(), np.float64))


def _qform(header: Nifti1Header) -> tuple[NDArray[np.float64] | None, str]:
    """The qform, None where it is unusable, and why it is."""
    from nibabel.spatialimages import HeaderDataError

    try:
        found = _usable(np.array(header.get_qform(), np.float64))
    except (HeaderDataError, ValueError) as error:
        return None, said(error)
    return found, "" if found is not None else "no numbers that can be a place"


def is_usable(affine: NDArray[np.float64]) -> bool:
    """Whether a form's numbers may be a place: finite, with a volume, and of a size that something has."""
    with np.errstate(all="ignore"):
        sizes = np.linalg.norm(affine[:3, :3], axis=0)
        sized = ((sizes > SMALLEST) & (sizes < LARGEST)).all() and (np.abs(affine[:3, 3]) < FARTHEST).all()
        return bool(sized and abs(np.linalg.det(affine[:3, :3] / sizes)) > 0)


def _usable(affine: NDArray[np.float64]) -> NDArray[np.float64] | None:
    return affine if is_usable(affine) else None


def _text(sizes: Iterable[float]) -> str:
    return " x ".join(f"{size:g}" for size in sizes)
