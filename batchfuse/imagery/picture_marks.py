"""What a picture file says beside its pixels: how the camera was held, and that it shows measurements."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

__all__ = ["is_radiometric", "orientation_of"]

ORIENTATION = 274  # the tag's number, in TIFF and EXIF
MOST = 2**20  # bytes of a piece that are looked at
RAW = 30_000  # bytes of a segment that no camera but a thermal one writes: the least sensors have 160 x 120
OTHER = (b"_JPSJPS_", b"META\0\0", b"Meta\0\0", b"EXIF\0\0", b"Exif\0\0", b"Stim")  # what else APP3 can be


def orientation_of(path: Path) -> int:
    """How the pixels are to be turned to be seen, 1 to 8 as EXIF counts; 1 where nothing is said.

    Of TIFF, JPEG, PNG and WebP.
    """
    try:
        with path.open("rb") as stream:
            return _orientation(stream)
    except (OSError, struct.error):
        return 1


def is_radiometric(path: Path) -> bool:
    """Whether a JPEG is the rendering of temperatures that stand in it beside the picture (FLIR, DJI)."""
    raw = 0
    try:
        with path.open("rb") as stream:
            for kind, body in _segments(stream):
                if (kind == 0xE1 and body.startswith(b"FLIR\0")) or (
                    kind == 0xE4 and body.startswith(b"\xaa\x55\x12\x06")
                ):
                    return True
                raw += len(body) if kind == 0xE3 and not body.startswith(OTHER) else 0
    except (OSError, struct.error):
        return False
    return raw >= RAW


def _orientation(stream: BinaryIO) -> int:
    head = stream.read(12)
    stream.seek(0)
    if head.startswith((b"II*\0", b"MM\0*")):
        return _tag(stream, 0)
    if head.startswith(b"\xff\xd8"):
        pieces = (
            body[6:] for kind, body in _segments(stream) if kind == 0xE1 and body.startswith(b"Exif\0\0")
        )
    elif head.startswith(b"\x89PNG"):
        pieces = (body for kind, body in _chunks(stream, 8, ">I4s", 4) if kind == b"eXIf")
    elif head.startswith(b"RIFF"):
        found = (body for kind, body in _chunks(stream, 12, "<4sI", 0) if kind == b"EXIF")
        pieces = (body.removeprefix(b"Exif\0\0") for body in found)
    else:
        return 1
    return next((_tag(BytesIO(piece), 0) for piece in pieces), 1)


def _tag(stream: BinaryIO, start: int) -> int:
    """The orientation in the first directory of a TIFF structure."""
    stream.seek(start)
    order = ">" if stream.read(2) == b"MM" else "<"
    _, first = struct.unpack(f"{order}HI", stream.read(6))
    stream.seek(start + first)
    (many,) = struct.unpack(f"{order}H", stream.read(2))
    for _ in range(many):
        tag, _, _, value, _ = struct.unpack(f"{order}HHIHH", stream.read(12))
        if tag == ORIENTATION:
            return value if 1 <= value <= 8 else 1
    return 1


def _segments(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The segments of a JPEG before its picture: the marker's number and the content."""
    if stream.read(2) != b"\xff\xd8":
        return
    while (mark := stream.read(2)) and len(mark) == 2 and mark[0] == 0xFF and mark[1] != 0xDA:
        if mark[1] == 0xFF:  # bytes that fill
            stream.seek(-1, 1)
            continue
        (size,) = struct.unpack(">H", stream.read(2))
        yield mark[1], stream.read(max(0, size - 2))


def _chunks(stream: BinaryIO, start: int, form: str, sums: int) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a PNG or WebP: the kind and the content, as far as it is looked at."""
    stream.seek(start)
    while len(head := stream.read(8)) == 8:
        size, kind = sorted(struct.unpack(form, head), key=lambda part: isinstance(part, bytes))
        yield kind, stream.read(min(size, MOST))
        after = max(0, size - MOST) + sums + (size % 2 if not sums else 0)
        stream.seek(after, 1)
