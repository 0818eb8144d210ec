"""What a scene may be called: its name becomes a file name."""

from __future__ import annotations

import re
import unicodedata

from batchfuse.system.words import printable

__all__ = ["name_fault", "natural_order"]

LONGEST = 200
"""Bytes of a name in UTF-8: file systems take 255, and suffixes are added."""


def name_fault(name: str) -> str | None:
    r"""Why a scene can't be called so, or None.

    Letters and digits of any script, spaces and most signs are taken. Refused are ``/ \ : * ? " < > |`` and
    control characters, which some file systems or GDAL read as something else; names that begin with a dot
    (hidden, or the folder above), or begin or end with a space, or end with a dot.
    """
    if not name:
        return "it is empty"
    signs = {
        sign
        for sign in name
        if sign in '/\\:*?"<>|' or unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp")
    }
    if signs:
        return f"it has {' '.join(printable(sign) for sign in sorted(signs))} in it"
    if name != name.strip() or name.startswith(".") or name.endswith("."):
        return "it begins with a dot or a space, or ends with one"
    if len(name.encode()) > LONGEST:
        return f"it is longer than {LONGEST} bytes"
    return None


def natural_order(name: str) -> tuple[list[tuple[str, int]], str]:
    """A key that sorts scene2 before scene10."""
    parts = re.split(r"([0-9]+)", name)
    texts, numbers = parts[::2], [*(int(digits) for digits in parts[1::2]), -1]
    return list(zip(texts, numbers, strict=True)), name
