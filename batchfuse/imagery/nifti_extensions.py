"""What a NIfTI file holds between its header and its voxels: the good extensions of it."""

from __future__ import annotations

import struct

__all__ = ["LONGEST_TAIL", "good_extensions"]

LONGEST_TAIL = 16 * 2**20
"""Bytes of extensions that are read: DICOM fields or a history have some thousands."""
LEAST, STEP = 16, 16  # bytes of an extension, and what they are a multiple of


def good_extensions(raw: bytes, order: str, length: int) -> tuple[bytes, tuple[str, ...]]:
    """What follows the fields of a header, as little-endian bytes without damaged extensions.

    Where nothing is damaged these are the bytes as they are in a little-endian file. An extension of a
    length that is no multiple of 16 is left out, and the next ones are kept; one that claims more bytes
    than there are (or were read) is left out with all after it, since nothing tells where they begin.

    Args:
        raw: what follows the fields, LONGEST_TAIL bytes of it at most.
        order: byte order of the file, "<" or ">".
        length: how many bytes there are up to the voxels, or to the end of the .hdr.

    Returns:
        Four bytes that say whether there are extensions, and these; and what was left out, in phrases.
    """
    if len(raw) < 4 or not raw[0]:
        return (raw if order == "<" and 4 <= len(raw) == length else bytes(4)), ()
    at, kept, lost = 4, b"", []
    while at + 8 <= len(raw) and any(raw[at : at + 16]):  # zeros fill up the rest
        size, code = struct.unpack_from(f"{order}ii", raw, at)
        if size < LEAST or at + size > len(raw):
            there = len(raw) - at
            lost.append(f"an extension that claims {size:,} bytes where {there:,} are")
            break
        if size % STEP:
            lost.append(f"an extension of {size:,} bytes, which is no multiple of {STEP}")
        elif code < 0 or code % 2:
            lost.append(f"an extension of the code {code}, which NIfTI lacks")
        else:
            kept += struct.pack("<ii", size, code) + raw[at + 8 : at + size]
        at += size
    whole = order == "<" and not lost and at == len(raw) == length
    return (raw if whole else b"\1\0\0\0" + kept if kept else bytes(4)), tuple(lost)
