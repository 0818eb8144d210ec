"""Words on their way out of the program: to a terminal, a log, a picture, a file of JSON."""

from __future__ import annotations

import json
import math
from typing import Any

__all__ = ["json_text", "printable", "printable_lines"]


def printable(text: object) -> str:
    r"""Text as one line that any terminal shows as it is.

    What moves a cursor, colours, turns the direction of writing, ends the line or can't be seen is escaped as
    Python does it (``\x1b``, ``\u202e``), a byte of a name that is not UTF-8 as ``\xff``.
    """
    told = str(text)
    return told if told.isprintable() else "".join(map(_escaped, told))


def printable_lines(text: object) -> str:
    """The same of text that has several lines, such as a traceback."""
    return "\n".join(map(printable, str(text).split("\n")))


def json_text(value: Any, indent: int | None = 2) -> str:
    r"""JSON that any program can read back and any terminal shows as it is.

    Letters of all scripts are themselves. What ``printable`` escapes is escaped as JSON does it, so that it
    comes back, bytes of names that are not UTF-8 too (``\udcff``). What is no number in JSON is null.
    """
    try:
        text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)
    lines = (line if line.isprintable() else "".join(map(_as_in_json, line)) for line in text.split("\n"))
    return "\n".join(lines)


def _escaped(sign: str) -> str:
    if sign.isprintable():
        return sign
    if "\udc80" <= sign <= "\udcff":  # what Python makes of a byte that is no UTF-8
        return f"\\x{ord(sign) - 0xDC00:02x}"
    return sign.encode("unicode_escape").decode()


def _as_in_json(sign: str) -> str:
    return sign if sign.isprintable() else json.dumps(sign)[1:-1]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
