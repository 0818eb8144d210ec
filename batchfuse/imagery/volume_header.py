"""What one NIfTI file says of itself: where its voxels lie in the world, and where in the file."""

from __future__ import annotations

import itertools
import math
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from batchfuse.errors import ChangedError, SourceError
from batchfuse.geometry.volume_grid import VolumeGrid, millimetres
from batchfuse.imagery.files import DICOM_REMEDY, changed_part, fault_of, identified
from batchfuse.imagery.mended_header import MAGIC, SIZES, is_usable, mended
from batchfuse.imagery.nifti_extensions import LONGEST_TAIL, good_extensions
from batchfuse.imagery.scene import SourceFile

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

__all__ = [
    "GZIP",
    "VolumeHeader",
    "has_volume_header",
    "header_bytes",
    "header_of",
    "partner",
    "read_header",
]

GZIP = b"\x1f\x8b"
PIECE = 64 * 1024  # bytes read at once of what is compressed
LONGEST, LARGEST = 10**6, 4 * 10**10  # voxels along an edge, and in a volume: more is damage
DEFLATED = 1032  # bytes that one byte of a gzip file can become at most
CIFTI = range(3000, 3100)  # intent codes of grayordinates and their connections
APART = 1e-3  # voxels: sform and qform that differ by more place the volume differently
COMPLEX = "complex voxels: save their magnitude or phase as real numbers first"
COLOUR = "RGB voxels: save one channel, or their luminance, as numbers first"
REFUSED = {
    1: "voxels of one bit: save them as uint8 first",
    32: COMPLEX,
    128: COLOUR,
    1536: "float128 voxels: save them as float64 first",
    1792: COMPLEX,
    2048: COMPLEX,
    2304: COLOUR,
}
"""By NIfTI's code of the type."""


@dataclass(frozen=True)
class VolumeHeader:
    """A NIfTI file whose voxels can be read: one volume, or several of one shape."""

    file: SourceFile
    """The file that was named, with its partner where .hdr and .img belong together."""
    told: Path
    """The file that holds the header."""
    fields: bytes
    """The header as a .nii file begins, little-endian, its flaws mended: 348 or 540 bytes."""
    order: str
    """Byte order of the file, "<" or ">"."""
    data: Path
    """The file that holds the voxels."""
    start: int
    """Bytes before them, counted after inflating."""
    compressed: bool
    """Whether the voxels are deflated (gzip), told by the file's content and not its name."""
    dtype: np.dtype[Any]
    """Type of a voxel, in the file's byte order."""
    volumes: int
    """How many there are: 1 for three axes."""
    grid: VolumeGrid
    """Where the voxels lie."""
    scale: float
    """Physical value = file value · scale + offset."""
    offset: float
    """See ``scale``."""
    space: int
    """NIfTI's code of the space that the affine leads to: 1 the scanner's, 3 Talairach, 4 MNI152."""
    warnings: tuple[str, ...]
    """What a person should know, in sentences."""

    @property
    def size(self) -> int:
        """Bytes from the beginning of the (inflated) file to the end of its last voxel."""
        return self.start + self.volumes * math.prod(self.grid.shape) * self.dtype.itemsize


def has_volume_header(path: Path) -> bool:
    """Whether a file begins as a NIfTI (or ANALYZE) header does; False where it can't be read."""
    try:
        return path.is_file() and _order(_head(path, 4)) is not None
    except (OSError, SourceError):
        return False


@lru_cache(maxsize=256)
def header_of(file: SourceFile) -> VolumeHeader:
    """The header of a file that was opened before; ChangedError where it is another by now."""
    header = read_header(file.path)
    if part := changed_part(file):
        raise ChangedError.of(part)
    return header


def header_bytes(file: SourceFile) -> tuple[bytes, tuple[str, ...]]:
    """The header of a file as a .nii file begins, up to the voxels, and what had to be left out of it.

    Its fields are those that ``read_header`` goes by, mended and little-endian, and its extensions follow,
    but for damaged ones. Of a little-endian .nii without flaws these are its own bytes.

    Raises:
        SourceError: the file can't be read.
    """
    found = header_of(file)
    size = len(found.fields)
    length = found.start - size if found.told == found.data else LONGEST_TAIL
    try:
        raw = _head(found.told, size + min(length, LONGEST_TAIL))[size:]
    except OSError as error:
        raise SourceError(f"{found.told} can't be read: {error.strerror}") from error
    tail, lost = good_extensions(raw, found.order, length if found.told == found.data else len(raw))
    told = tuple(
        f"{file.path} has {what} among its NIfTI extensions: left out of the fused volume's header"
        for what in lost
    )
    return found.fields + tail, told


def read_header(path: Path) -> VolumeHeader:
    """What a file, or either file of a .hdr/.img pair, says.

    Raises:
        SourceError: it can't be read, is no NIfTI, or holds no volume of real numbers; in one line.
    """
    from nibabel.spatialimages import HeaderDataError

    told = partner(path, ".hdr") if _has_suffix(path, ".img") else path
    if fault := fault_of(path) or (told != path and fault_of(told)):
        raise SourceError(f"{fault} (the header of {path})" if not fault.startswith(str(path)) else fault)
    try:
        raw = _head(told, max(SIZES))
        size, magic = _recognised(told, raw)
        order = _order(raw) or "<"
        header, flaws = _checked(path, raw[:size], order)
        data = told if magic[1:2] == b"+" else _beside(told)
        # a single file with no offset at all means the first place there can be, as niftilib has it
        least = size + 4 if data == told else 0
        start = max(least, int(header["vox_offset"]))
        shape = _shape(path, header)
        scale, offset = header.get_slope_inter()
        grid, doubts = _place(path, header, shape)
    except (HeaderDataError, ValueError, OverflowError) as error:  # the last two of numbers such as NaN
        raise SourceError(
            f"{path} has a damaged NIfTI header ({error}): mend it, or convert it again"
        ) from error
    except OSError as error:
        raise SourceError(f"{path} can't be read: {error.strerror}") from error
    compressed = _begins(data, GZIP)
    found = VolumeHeader(
        file=identified(path, [part for part in {told, data} if part != path]),
        told=told,
        fields=header.binaryblock,
        order=order,
        data=data,
        start=start,
        compressed=compressed,
        dtype=np.dtype(header.get_data_dtype()).newbyteorder(order),
        volumes=shape[3],
        grid=grid,
        scale=1.0 if scale is None else float(scale),
        offset=0.0 if offset is None else float(offset),
        space=next((code for form in "sq" if (code := int(header[f"{form}form_code"])) > 0), 0),
        warnings=(*(f"{path}: {flaw}" for flaw in flaws), *doubts),
    )
    _refuse_cut_off(found)
    return found


def _refuse_cut_off(found: VolumeHeader) -> None:
    length = found.data.stat().st_size
    if length * (DEFLATED if found.compressed else 1) < found.size:
        raise SourceError(
            f"{found.data} is cut off: its header promises {found.size:,} bytes, and it has {length:,}"
            f"{' compressed' if found.compressed else ''}: copy or download it again"
        )


def _head(path: Path, length: int) -> bytes:
    """The first bytes of a file, inflated, and no more of it than that."""
    found = b""
    with path.open("rb") as stream:
        raw = stream.read(PIECE)
        if not raw.startswith(GZIP):
            return raw[:length] + stream.read(max(0, length - len(raw)))
        inflater = zlib.decompressobj(31)
        try:
            while len(found) < length and (raw := raw or stream.read(PIECE)):
                if inflater.eof:  # the members of gzip files may be small
                    inflater = zlib.decompressobj(31)
                found += inflater.decompress(raw, length - len(found))
                raw = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
        except zlib.error as error:
            if not found:
                raise SourceError(f"{path} is damaged ({error}): copy or download it again") from error
    return found


def _order(raw: bytes) -> str | None:
    """The byte order of a header, None where it is none."""
    for order in ("<", ">"):
        if len(raw) >= 4 and int(np.frombuffer(raw[:4], f"{order}i4")[0]) in SIZES:
            return order
    return None


def _recognised(path: Path, raw: bytes) -> tuple[int, bytes]:
    """Bytes of the header, and what NIfTI calls magic."""
    order = _order(raw)
    if order is None and len(raw) >= 4:
        if raw[128:132] == b"DICM":
            raise SourceError(f"{path} is a DICOM file: {DICOM_REMEDY}")
        raise SourceError(f"{path} is not NIfTI (it begins with {raw[:12]!r}): convert it first")
    size = int(np.frombuffer(raw[:4], f"{order}i4")[0]) if order else min(SIZES)
    if len(raw) < size:
        raise SourceError(
            f"{path} is cut off within its header ({len(raw)} of {size} bytes): copy or download it again"
        )
    magic = raw[MAGIC[size]]
    if magic[:1] == b"n" and magic[1:2] in (b"+", b"i"):
        return size, magic
    if size == 348:
        raise SourceError(
            f"{path} is ANALYZE 7.5, which does not say left from right: make a NIfTI file of it where its "
            "orientation is known (from the scanner's DICOM files with dcm2niix)"
        )
    raise SourceError(f"{path} is not NIfTI (its magic is {magic!r}): convert it first")


def _checked(path: Path, raw: bytes, order: str) -> tuple[Nifti1Header, tuple[str, ...]]:
    """The header, mended, and what of it was; HeaderDataError where it can't be."""
    at = {348: 70, 540: 12}[len(raw)]
    if refused := REFUSED.get(int(np.frombuffer(raw[at : at + 2], f"{order}i2")[0])):
        raise SourceError(f"{path} has {refused}")
    return mended(raw, order)


def _shape(path: Path, header: Nifti1Header) -> tuple[int, int, int, int]:
    """Voxels along x, y, z, and volumes."""
    dim = [int(n) for n in header["dim"]]
    shape = dim[1 : 1 + max(0, min(dim[0], 7))]
    text = " x ".join(map(str, shape)) or "no axes"
    if int(header["intent_code"]) in CIFTI:
        raise SourceError(f"{path} is CIFTI-2 (surfaces and grayordinates), not a volume: extract one first")
    if not 1 <= dim[0] <= 7 or min(shape) < 0:
        raise SourceError(f"{path} has a damaged NIfTI header (dimensions {dim}): copy or convert it again")
    if min(shape) == 0:
        raise SourceError(f"{path} has no voxels ({text}): only its header was written")
    if max(shape[4:], default=1) > 1:
        raise SourceError(
            f"{path} has {len(shape)} axes ({text}): save the volumes to fuse with three or four axes first"
        )
    if len(shape) < 2:
        raise SourceError(f"{path} has one axis ({text}), not a volume's three")
    x, y, z, volumes = (*shape, 1, 1)[:4]
    if max(x, y, z, volumes) > LONGEST or x * y * z > LARGEST:
        raise SourceError(
            f"{path} tells of {text} voxels, more than any volume has (at most {LONGEST:,} along an edge and "
            f"{LARGEST:.0e} in all): its header is damaged, copy or convert it again"
        )
    return x, y, z, volumes


def _place(
    path: Path, header: Nifti1Header, shape: tuple[int, int, int, int]
) -> tuple[VolumeGrid, tuple[str, ...]]:
    """The grid by the best affine that the header has, in mm, and what is doubtful about it."""
    affine = np.array(header.get_best_affine(), np.float64)
    usable = is_usable(affine)
    codes = int(header["sform_code"]), int(header["qform_code"])
    # units of 0 are unknown: all programs take them for millimetres
    affine[:3] *= millimetres(int(header["xyzt_units"]))
    placed = max(codes) > 0
    x, y, z, _ = shape
    try:
        grid = VolumeGrid.of((z, y, x), affine, placed)
        if not usable:
            raise ValueError(f"{grid.rows} places voxels beyond all measure")
    except ValueError as error:
        form = "sform" if codes[0] > 0 else "qform" if codes[1] > 0 else "pixdim"
        raise SourceError(
            f"{path} has an unusable {form} ({error}): mend its header (such as with nibabel or fslorient)"
        ) from error
    if not placed:
        return grid, (
            f"{path} has no world space (sform and qform code are 0): voxels placed by spacing alone, "
            "left and right can't be known",
        )
    if min(codes) > 0 and (apart := _apart(header, shape)) is not None:
        return grid, (
            f"{path}: its sform and qform place voxels up to {apart:.4g} mm apart: the sform is used",
        )
    return grid, ()


def _apart(header: Nifti1Header, shape: tuple[int, int, int, int]) -> float | None:
    """How far apart sform and qform place the voxels, in mm, None where it is no matter."""
    sform = np.asarray(header.get_sform(), np.float64)
    qform = np.asarray(header.get_qform(), np.float64)
    corners = np.array([(*c, 1.0) for c in itertools.product(*((0.0, n - 1.0) for n in shape[:3]))]).T
    apart: NDArray[np.float64] = (qform - sform)[:3] @ corners
    voxels = np.linalg.solve(sform[:3, :3], apart)
    if not np.linalg.norm(voxels, axis=0).max() > APART:
        return None
    return float(np.linalg.norm(apart, axis=0).max()) * millimetres(int(header["xyzt_units"]))


def _has_suffix(path: Path, suffix: str) -> bool:
    return path.name.lower().endswith((suffix, f"{suffix}.gz"))


def partner(path: Path, suffix: str) -> Path:
    """The file that belongs to a .hdr or .img, compressed or not; where there is none, what it would be.

    Of several the one that is written as ``path`` is: in capitals or not, compressed or not.
    """
    packed = path.name[-3:] if path.name.lower().endswith(".gz") else ""
    name = path.name.removesuffix(packed)
    ends = [suffix, suffix.upper()]
    if name.endswith(name[-4:].upper()):
        ends.reverse()
    packings = dict.fromkeys((packed, "", ".gz", ".GZ"))
    candidates = [path.with_name(name[:-4] + end + packing) for packing in packings for end in ends]
    return next((c for c in candidates if c.is_file()), candidates[0])


def _beside(header: Path) -> Path:
    data = partner(header, ".img")
    if not data.is_file():
        raise SourceError(
            f"{header} is the header of a pair and {data.name} is not beside it: copy or download both"
        )
    if fault := fault_of(data):
        raise SourceError(fault)
    return data


def _begins(path: Path, magic: bytes) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(magic)) == magic
