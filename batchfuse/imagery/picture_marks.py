"""What a picture file says beside its pixels: how the camera was held, what it shows, what else is in it."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

__all__ = ["PictureMarks", "holds_raw", "marks_of"]

# numbers of tags, in TIFF and EXIF
REDUCED, SHOWS, ORIENTATION, INSIDE = 254, 262, 274, 330
PARTS, PART = 0xB001, 0xB002
FILTERS = 32803  # what a pixel shows: one colour, by the filter that lies over it
MOST = 2**20  # bytes of a piece that are looked at
RAW = 30_000  # bytes of a segment that no camera but a thermal one writes: the least sensors have 160 x 120
OTHER = (b"_JPSJPS_", b"META\0\0", b"Meta\0\0", b"EXIF\0\0", b"Exif\0\0", b"Stim")  # what else APP3 can be
FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
"""Segments of a JPEG that tell its size."""
VIEW, OWN = 2, 0  # what another picture in a JPEG is: a part of a panorama or another view; not said


@dataclass(frozen=True, slots=True)
class PictureMarks:
    """What TIFF, JPEG, PNG and WebP files say."""

    orientation: int = 1
    """How the pixels are to be turned to be seen, 1 to 8 as EXIF counts; 1 where nothing is said."""
    is_radiometric: bool = False
    """Whether it is the rendering of temperatures that stand in the JPEG beside it (FLIR, DJI)."""
    pictures: int = 1
    """How many there are in a JPEG or PNG; previews and maps of brightness are none."""


def marks_of(path: Path) -> PictureMarks:
    """The marks of a picture file; of one that can't be read, or of another kind, those of nothing said."""
    try:
        with path.open("rb") as stream:
            head = stream.read(12)
            stream.seek(0)
            if head.startswith(b"\xff\xd8"):
                return _marks_of_jpeg(stream)
            if head.startswith(b"\x89PNG"):
                return _marks_of_png(stream)
            if head.startswith(b"RIFF"):
                exif = [body for kind, body in _chunks(stream, 12, "<4sI", 0) if kind == b"EXIF"]
                return PictureMarks(_turn(exif[0].removeprefix(b"Exif\0\0")) if exif else 1)
            return PictureMarks(_turn(stream))
    except (OSError, struct.error):
        return PictureMarks()


def holds_raw(path: Path) -> bool:
    """Whether a TIFF begins with what a camera's raw file does: a preview, or pixels behind filters.

    True as well where its beginning can't be read.
    """
    try:
        with path.open("rb") as stream:
            tags = _directory(stream)
            stream.seek(8)
            is_canons = stream.read(3) == b"CR\2"
    except (OSError, struct.error):
        return True
    return is_canons or bool(tags.get(REDUCED, 0) & 1) or tags.get(SHOWS) == FILTERS or INSIDE in tags


def _marks_of_jpeg(stream: BinaryIO) -> PictureMarks:
    turn, raw, is_radiometric, pictures = 0, 0, False, 1
    for kind, body in _segments(stream):
        if kind == 0xE1 and body.startswith(b"Exif\0\0"):
            turn = turn or _turn(body[6:])
        elif kind == 0xE2 and body.startswith(b"MPF\0"):
            after = stream.tell()
            pictures = 1 + sum(_others(stream, body[4:], after - len(body) + 4))
            stream.seek(after)
        elif kind == 0xE3 and not body.startswith(OTHER):
            raw += len(body)
        is_radiometric |= kind == 0xE1 and body.startswith(b"FLIR\0")
        is_radiometric |= kind == 0xE4 and body.startswith(b"\xaa\x55\x12\x06")
    return PictureMarks(turn or 1, is_radiometric or raw >= RAW, pictures)


def _others(stream: BinaryIO, listed: bytes, start: int) -> Iterator[bool]:
    """Of each part of a JPEG that is listed after the first, whether it is another picture.

    Of what kind the part is, few programs write; maps of brightness and the like are smaller than the first.
    """
    try:
        tags = _directory(BytesIO(listed))
        order = ">" if listed.startswith(b"MM") else "<"
        for number in range(1, min(tags.get(PARTS, 0), 1000)):
            kind, _, place = struct.unpack_from(f"{order}III", listed, tags[PART] + 16 * number)
            kind = kind >> 16 & 0xFF
            yield kind == VIEW or (kind == OWN and _size_at(stream, start + place) == _size_at(stream, 0))
    except (KeyError, struct.error):
        return


def _size_at(stream: BinaryIO, start: int) -> bytes:
    """Height and width of the JPEG that begins at a place, as they are written; nothing where none does."""
    stream.seek(start)
    return next((body[1:5] for kind, body in _segments(stream) if kind in FRAMES), b"")


def _marks_of_png(stream: BinaryIO) -> PictureMarks:
    found = {kind: body for kind, body in _chunks(stream, 8, ">I4s", 4) if kind in (b"eXIf", b"acTL")}
    frames = int.from_bytes(found.get(b"acTL", b"")[:4], "big")
    return PictureMarks(_turn(found.get(b"eXIf", b"")), pictures=max(1, frames))


def _turn(told: bytes | BinaryIO) -> int:
    """The orientation in the first directory of a TIFF structure."""
    try:
        turn = _directory(BytesIO(told) if isinstance(told, bytes) else told).get(ORIENTATION, 1)
    except struct.error:
        return 1
    return turn if 1 <= turn <= 8 else 1


def _directory(stream: BinaryIO) -> Mapping[int, int]:
    """The tags of the first directory of a TIFF or BigTIFF structure, each with its first number or place.

    Nothing of what is no such structure; struct.error where it is cut off.
    """
    head = stream.read(8)
    order = ">" if head.startswith(b"MM") else "<"
    if head[:4] in (b"II*\0", b"MM\0*"):
        (first,) = struct.unpack(f"{order}I", head[4:])
        entry, length = "HHI4s", "H"
    elif head[:4] in (b"II+\0", b"MM\0+"):
        (first,) = struct.unpack(f"{order}Q", stream.read(8))
        entry, length = "HHQ8s", "Q"
    else:
        return {}
    stream.seek(first)
    (many,) = struct.unpack(f"{order}{length}", stream.read(struct.calcsize(f"{order}{length}")))
    size = struct.calcsize(f"{order}{entry}")
    tags = struct.iter_unpack(f"{order}{entry}", stream.read(min(many, MOST // size) * size))
    return {
        tag: struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", value)[0]
        for tag, kind, _, value in tags
    }


def _segments(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The segments of a JPEG before its picture: the marker's number and the content."""
    if stream.read(2) != b"\xff\xd8":
        return
    while (mark := stream.read(2)) and len(mark) == 2 and mark[0] == 0xFF and mark[1] != 0xDA:
        if mark[1] == 0xFF:  # bytes that fill
            stream.seek(-1, 1)
            continue
        size = int.from_bytes(stream.read(2), "big")
        yield mark[1], stream.read(max(0, size - 2))


def _chunks(stream: BinaryIO, start: int, form: str, sums: int) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a PNG or WebP: the kind and the content, but for pixels and as far as it is looked at."""
    stream.seek(start)
    while len(head := stream.read(8)) == 8:
        size, kind = sorted(struct.unpack(form, head), key=lambda part: isinstance(part, bytes))
        told = stream.read(min(size, MOST)) if kind in (b"eXIf", b"EXIF", b"acTL") else b""
        yield kind, told
        stream.seek(max(0, size - len(told)) + sums + (size % 2 if not sums else 0), 1)
