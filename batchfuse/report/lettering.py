"""Text on a picture, whatever script it is in."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any

from PIL import ImageFont

from batchfuse.system.words import printable

__all__ = ["Lettering", "lettering"]

# Pillow's own font has little more than ASCII; these are looked for where the system keeps its fonts
OTHERS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "arialuni.ttf",
    "arial.ttf",
    "msyh.ttc",
)
NOWHERE = "\U0010ffff"  # a character that no font has


class Lettering:
    """One line of text, in letters that can be drawn."""

    def __init__(self, text: str, size: int) -> None:
        text = printable(text)  # a line break in a file's name must not break the picture
        fonts = (found for name in (None, *OTHERS) if (found := _font(name, size)) is not None)
        font = next((font for font in fonts if _covers(font, text)), None)
        self.font: Any = font if font is not None else _font(None, size)
        self.text = text if font is not None else _plain(self.font, text)

    @property
    def width(self) -> float:
        """In pixels."""
        return float(self.font.getlength(self.text))


def lettering(text: str, size: int, width: float) -> Lettering:
    """The text, its middle left out where it is wider than ``width``: names differ at their ends."""
    whole = Lettering(text, size)
    kept = len(text)
    while whole.width > width and kept > 4:
        kept -= 1
        whole = Lettering(f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}", size)
    return whole


@lru_cache(maxsize=64)
def _font(name: str | None, size: int) -> Any:
    if name is None:
        return ImageFont.load_default(size=size)
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def _covers(font: Any, text: str) -> bool:
    return all(_has(font, character) for character in set(text) if character != " ")


@lru_cache(maxsize=4096)
def _has(font: Any, character: str) -> bool:
    """Whether the font draws anything but its box for what it lacks."""
    return bytes(font.getmask(character)) != bytes(font.getmask(NOWHERE))


def _plain(font: Any, text: str) -> str:
    """What the font has: accents taken off, other scripts as question marks."""
    apart = unicodedata.normalize("NFKD", text)
    kept = [c for c in apart if not unicodedata.combining(c)]
    return "".join(c if c == " " or _has(font, c) else "?" for c in kept)
