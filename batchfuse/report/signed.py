"""Pictures that say in their file that they are ours: no other is ever drawn over."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO, Literal

from PIL import Image, PngImagePlugin

from batchfuse.errors import SceneError
from batchfuse.system.partials import partial_path

__all__ = ["Kind", "refuse_unsigned", "save_signed"]

Kind = Literal["quicklook", "losses"]
"""What a picture shows."""

KEYWORD = "BATCHFUSE"
"""Of the text in the PNG, as in the PNGs that are exported."""
PNG = b"\x89PNG\r\n\x1a\n"
CHUNKS, LONGEST = 32, 4096  # looked at before the pixels begin; bytes of a text that is looked at


def save_signed(image: Image.Image, path: Path, kind: Kind, optimize: bool = False) -> None:
    """Write a PNG with our signature, whole or not at all; folders are made.

    Raises:
        SceneError: what lies at ``path`` is no picture of ours of this kind: it is left alone.
        OSError: it can't be written.
    """
    refuse_unsigned(path, kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = PngImagePlugin.PngInfo()
    text.add_text(KEYWORD, kind)
    partial = partial_path(path)
    try:
        image.save(partial, "PNG", optimize=optimize, pnginfo=text)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def refuse_unsigned(path: Path, kind: Kind) -> None:
    """SceneError where something lies at ``path`` that is no picture of ours of this kind."""
    if os.path.lexists(path) and _signature(path) != kind:
        raise SceneError(f"{path} is there and was not drawn by batchfuse: move it away")


def _signature(path: Path) -> str | None:
    """What the PNG at ``path`` says under our keyword; None where it is no file of ours."""
    if not stat.S_ISREG(path.lstat().st_mode):  # a link is none either; nor is a pipe waited for
        return None
    try:
        with path.open("rb") as file:
            return _text(file) if file.read(len(PNG)) == PNG else None
    except OSError:
        return None


def _text(file: BinaryIO) -> str | None:
    for _ in range(CHUNKS):
        head = file.read(8)
        size, name = int.from_bytes(head[:4]), head[4:]
        if name in (b"", b"IDAT", b"IEND"):
            return None
        if name == b"tEXt" and size <= LONGEST:
            keyword, _, text = file.read(size).partition(b"\0")
            if keyword == KEYWORD.encode():
                return text.decode("latin-1")
            size = 0
        file.seek(size + 4, os.SEEK_CUR)
    return None
