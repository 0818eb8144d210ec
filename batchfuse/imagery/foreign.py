"""Files that are no image batchfuse reads: what they are, by content or by name, and what to do with them."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

__all__ = ["DICOM", "HEAD", "RAW", "Kind", "kind_by_name", "kind_of", "pointed_at"]

HEAD = 512
"""Bytes of a file's beginning that tell what it is."""
SHORT = 6  # bytes that numbers may begin with by chance
VOLUME_NAMES = re.compile(r"\.(nii|hdr|img)(\.gz)?$", re.IGNORECASE)
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
HDF5, NETCDF = (b"\x89HDF\r\n\x1a\n",), (b"CDF\1", b"CDF\2", b"CDF\5")
IMAGES = (*TIFF, b"\x89PNG", b"\xff\xd8\xff", b"\0\0\0\x0cjP  ", b"BM")
GZIP = b"\x1f\x8b"
ANNEX = re.compile(rb"\A[./\\\w-]*annex[/\\]objects[/\\]")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file that is not read."""

    noun: str
    """What it is, with its article."""
    remedy: str
    """What to do."""
    begins: tuple[bytes, ...] = ()
    """What its content begins with."""
    at: int = 0
    """The byte at which that is."""
    endings: tuple[str, ...] = ()
    """How its name ends, in lower case."""
    within: tuple[bytes, ...] = ()
    """What content of another kind begins with in which it may lie: there the name decides."""

    @property
    def bare(self) -> str:
        """The noun without its article, to be counted."""
        return self.noun.partition(" ")[2]


TO_NIFTI = "convert to NIfTI first"
ITK = f"{TO_NIFTI}, with 3D Slicer or SimpleITK (sitk.WriteImage(sitk.ReadImage(FILE), OUT.nii.gz))"
TO_GEOTIFF = "make a GeoTIFF of it first (gdal_translate FILE OUT.tif)"
INSIDE = (
    "make a GeoTIFF of the image within first (gdalinfo FILE lists what it holds, "
    "gdal_translate SUBDATASET OUT.tif)"
)
DEVELOP = "develop it to a TIFF first, such as with darktable-cli or dcraw -T"
AGAIN = "download it again, signed in where that is asked for"

DICOM = Kind(
    "a DICOM file",
    "convert each series to a NIfTI file first (dcm2niix -z y -o OUTPUT FOLDER)",
    (b"DICM",),
    128,
    (".dcm", ".dicom", ".ima"),
)
LFS = Kind(
    "a Git LFS pointer, not the image",
    "run `git lfs pull`",
    (b"version https://git-lfs", b"version https://hawser"),
)
ANNEXED = Kind(
    "a pointer of git-annex or DataLad whose content is not here",
    "run `datalad get FILE` or `git annex get FILE`",
)
DVC = Kind(
    "a DVC pointer",
    "run `dvc pull`, which fetches the file itself",
    (b"outs:\n", b"outs:\r\n"),
    endings=(".dvc",),
)
WEB_PAGE = Kind("a web page under this name, such as a login or an error page", AGAIN)
MESSAGE = Kind("a text under this name, such as a server's message", f"look into it, and {AGAIN}")
NIFTI_ELSEWHERE = Kind("a NIfTI volume under another name", "let its name end in .nii or, if packed, .nii.gz")
PACKED_IMAGE = Kind("an image packed with gzip", "unpack it first (gunzip FILE)")
MGH = Kind(
    "a FreeSurfer volume",
    f"{TO_NIFTI} (mri_convert FILE OUT.nii.gz)",
    (b"\0\0\0\1\0\0",),
    endings=(".mgz", ".mgh"),
)

RAW = Kind(
    "a camera's raw file",
    DEVELOP,
    (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"IIU\0", b"II*\0\x10\0\0\0CR\2"),
    endings=(
        *(".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf", ".rw2"),
        *(".pef", ".srw", ".x3f", ".3fr", ".iiq", ".erf", ".mrw", ".rwl"),
    ),
    within=TIFF,
)
ANIMATED = Kind(
    "an animated WebP picture", "take its frames out first (webpmux -get frame 1 FILE -o OUT.webp)"
)

KINDS = (
    Kind(
        "a MINC volume",
        f"{TO_NIFTI} (mnc2nii FILE OUT.nii)",
        endings=(".mnc", ".mnc2"),
        within=(*HDF5, *NETCDF),
    ),
    RAW,
    LFS,
    DVC,
    DICOM,
    MGH,
    Kind("an NRRD volume", ITK, (b"NRRD000",), endings=(".nrrd", ".nhdr")),
    Kind(
        "a MetaImage volume",
        ITK,
        (b"ObjectType", b"NDims", b"Comment = "),
        endings=(".mha", ".mhd"),
    ),
    Kind(
        "an AFNI volume",
        f"{TO_NIFTI} (3dAFNItoNIFTI FILE)",
        endings=(".head", ".brik", ".brik.gz"),
    ),
    Kind(
        "a Philips PAR/REC volume",
        f"{TO_NIFTI} (dcm2niix, or nibabel's parrec2nii)",
        (b"# === DATA DESCRIPTION FILE",),
        endings=(".rec",),
    ),
    Kind("a GIFTI surface", "give a volume: surfaces are not fused", endings=(".gii", ".gii.gz")),
    Kind("an HDF5 or netCDF-4 file", INSIDE, HDF5, endings=(".h5", ".hdf5", ".he5")),
    Kind("an HDF4 file", INSIDE, (b"\x0e\x03\x13\x01",), endings=(".hdf", ".hdf4")),
    Kind("a netCDF file", INSIDE, NETCDF, endings=(".nc", ".nc4", ".cdf")),
    Kind("a GRIB file", INSIDE, (b"GRIB",), endings=(".grib", ".grib2", ".grb", ".grb2")),
    Kind("a GDAL VRT", f"it leads to other files: {TO_GEOTIFF}", (b"<VRTDataset",), endings=(".vrt",)),
    Kind("an ERDAS IMAGINE file", TO_GEOTIFF, (b"EHFA_HEADER_TAG",), endings=()),
    Kind("an ASCII grid", TO_GEOTIFF, (b"ncols", b"NCOLS"), endings=(".asc",)),
    Kind("a MrSID file", TO_GEOTIFF, (b"msid",), endings=(".sid",)),
    Kind("an ECW file", TO_GEOTIFF, endings=(".ecw",)),
    Kind(
        "a GeoPackage or other SQLite file",
        TO_GEOTIFF,
        (b"SQLite format 3\0",),
        endings=(".gpkg", ".mbtiles"),
    ),
    Kind("a GIF", TO_GEOTIFF, (b"GIF87a", b"GIF89a"), endings=(".gif",)),
    Kind(
        "a HEIC or AVIF photograph",
        "make a TIFF or PNG of it first (heif-convert FILE OUT.png, or magick FILE OUT.tif)",
        (b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1", b"ftypavi"),
        4,
        (".heic", ".heif", ".avif"),
    ),
    Kind("a camera's raw file", DEVELOP, (b"ftypcrx",), 4),
    Kind(
        "a video",
        "take its frames out as images first (ffmpeg -i FILE OUT_%05d.png)",
        (b"ftyp",),
        4,
        (".mp4", ".mov", ".avi", ".mkv"),
    ),
    Kind(
        "a JPEG XL picture",
        "make a PNG of it first (djxl FILE OUT.png)",
        (b"\xff\x0a", b"\0\0\0\x0cJXL "),
        endings=(".jxl",),
    ),
    Kind(
        "a FLIR radiometric file",
        "export its temperatures as TIFF with FLIR's program, or with thermal-parser or exiftool",
        (b"FFF\0", b"AFF\0"),
        endings=(".fff", ".seq", ".csq"),
    ),
    Kind("a Photoshop file", "save it as TIFF first", (b"8BPS",), endings=(".psd", ".psb")),
    Kind(
        "a PDF",
        "export its image first (pdfimages -tiff FILE OUT, or gdal_translate)",
        (b"%PDF-",),
        endings=(".pdf",),
    ),
    Kind(
        "a NumPy array",
        "write it as GeoTIFF or NIfTI, which say where it lies",
        (b"\x93NUMPY",),
        endings=(".npy", ".npz"),
    ),
    Kind("a MATLAB file", "write its image as GeoTIFF or NIfTI, which say where it lies", (b"MATLAB 5.0",)),
    Kind("a ZIP archive", "unpack it first (unzip FILE)", (b"PK\3\4", b"PK\5\6"), endings=(".zip",)),
    Kind("a bzip2 archive", "unpack it first (bunzip2 FILE)", (b"BZh",), endings=(".bz2",)),
    Kind("an xz archive", "unpack it first (unxz FILE)", (b"\xfd7zXZ\0",), endings=(".xz",)),
    Kind("a zstd archive", "unpack it first (unzstd FILE)", (b"\x28\xb5\x2f\xfd",), endings=(".zst",)),
    Kind("a 7-Zip archive", "unpack it first (7z x FILE)", (b"7z\xbc\xaf\x27\x1c",), endings=(".7z",)),
    Kind("a RAR archive", "unpack it first (unrar x FILE)", (b"Rar!\x1a\x07",), endings=(".rar",)),
    Kind("a tar archive", "unpack it first (tar -xf FILE)", (b"ustar",), 257, (".tar", ".tar.gz", ".tgz")),
    Kind(
        "a file that a Mac keeps beside the image (AppleDouble)",
        "leave it out: the image has the name without ._",
        (b"\0\5\x16\7",),
    ),
)
"""What is looked for, in this order."""


def kind_of(name: str, head: bytes) -> Kind | None:
    """What a file is, by its name and the first ``HEAD`` bytes, if it is known for something not read."""
    if ANNEX.match(head):
        return ANNEXED
    for kind in KINDS:
        if kind.within and head.startswith(kind.within) and name.lower().endswith(kind.endings):
            return kind
    if _is_animated(head):
        return ANIMATED
    if head.startswith(GZIP):
        return _kind_of_packed(name, _inflated(head))
    if _is_nifti(head):
        return _unless_named_so(name)
    return _kind_by_content(head, name.lower().endswith(".img")) or _kind_of_text(head)


def kind_by_name(name: str) -> Kind | None:
    """What a file is by its name alone; None of images, volumes, and what is not known."""
    name = name.lower()
    return next((kind for kind in KINDS if kind.endings and name.endswith(kind.endings)), None)


def pointed_at(target: str) -> Kind | None:
    """Of a link that leads nowhere: whether it is one of git-annex, whose content was not fetched."""
    return ANNEXED if re.search(r"annex[/\\]objects[/\\]", target) else None


def _kind_by_content(head: bytes, surely: bool = False) -> Kind | None:
    """``surely``: of a file that may be bare voxels, which can begin with any few bytes."""
    for kind in KINDS:
        begins = tuple(magic for magic in kind.begins if len(magic) > SHORT or not surely)
        if begins and head[kind.at :].startswith(begins):
            return kind
    return None


def _kind_of_packed(name: str, inner: bytes) -> Kind | None:
    """What is packed with gzip; a NIfTI volume is read as it is, if its name says what it is."""
    if _is_nifti(inner):
        return _unless_named_so(name)
    if inner.startswith(IMAGES):
        return PACKED_IMAGE
    return _kind_by_content(inner)


def _is_nifti(head: bytes) -> bool:
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0")


def _is_animated(head: bytes) -> bool:
    """Of WebP, by the flag for it."""
    return head.startswith(b"RIFF") and head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & 2)


def _unless_named_so(name: str) -> Kind | None:
    return None if VOLUME_NAMES.search(name) else NIFTI_ELSEWHERE


def _kind_of_text(head: bytes) -> Kind | None:
    """A page or message that a server sent in place of the file."""
    if b"\0" in head:
        return None
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")) or (
        text.startswith((b"<?xml", b"<!--")) and b"<html" in text
    ):
        return WEB_PAGE
    return MESSAGE if text.startswith((b"<?xml", b'{"', b"{\n", b"<error")) else None


def _inflated(head: bytes) -> bytes:
    """The beginning of what is packed; nothing where it is damaged."""
    try:
        return zlib.decompressobj(31).decompress(head, HEAD)
    except zlib.error:
        return b""
