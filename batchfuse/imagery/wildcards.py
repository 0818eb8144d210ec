"""A path with wildcards: which files it means, and what its wildcards stand for."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from batchfuse.errors import RecipeError

__all__ = ["Pattern", "composed"]

PIECES = re.compile(r"\{\{|\}\}|\{[^{}]*\}|\*+|[{}]|[^{}*]+")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A path as a recipe writes it.

    - ``{name}`` stands for one or more characters within one path segment; used twice it stands for the same
      text both times. Where a file name can be cut in several ways, the earlier wildcard takes the most.
    - ``*`` stands for any characters within one segment, ``**`` as a whole segment for any folders, or none.
      ``**`` stands for no links to folders; other segments may.
    - ``{{`` and ``}}`` are braces. Everything else is literal, upper and lower case differ.
    - a wildcard at the beginning of a segment doesn't stand for a leading dot: hidden files want to be named.
    """

    text: str
    """As the recipe has it."""
    base: Path
    """The folder that all its files are in or below: the segments before the first wildcard."""
    wildcards: tuple[str, ...]
    """Their names, in the order they appear."""
    depth: int
    """Segments below the base, ``**`` not counted."""
    any_depth: bool
    """Whether it has a ``**``."""
    expression: re.Pattern[str]
    """Matches a path below the base, its segments joined by /."""

    @classmethod
    def parse(cls, text: str, folder: Path) -> Pattern:
        """Read a pattern; relative ones start from ``folder``.

        Raises RecipeError where a brace doesn't enclose a name.
        """
        segments = [s for s in text.split("/") if s not in ("", ".")]
        if not segments or text.endswith("/"):
            raise RecipeError(f'"{text}" names no file')
        first = next((i for i, s in enumerate(segments) if _is_wild(s, text)), len(segments) - 1)
        static, below = segments[:first], segments[first:]
        if ".." in below:
            raise RecipeError(f'"{text}": .. can\'t follow a wildcard, nor name a file')
        root = "/" if text.startswith("/") else ""
        start = os.path.expanduser(root + "/".join(_literal(s, text) for s in static))  # noqa: PTH111
        names: list[str] = []
        expression = "".join(_segment(s, names, i == len(below) - 1, text) for i, s in enumerate(below))
        return cls(
            text=text,
            base=folder / start,
            wildcards=tuple(names),
            depth=sum(s != "**" for s in below) or 1,
            any_depth="**" in below,
            expression=re.compile(expression),
        )

    @property
    def is_literal(self) -> bool:
        """Whether it names one file, without any wildcard or star."""
        return self.depth == 1 and not self.any_depth and not _is_wild(self.text, self.text)

    @property
    def literal(self) -> Path:
        """The one file that a literal pattern names."""
        return self.base / self.filled({}).rpartition("/")[2]

    @property
    def names_hidden(self) -> bool:
        """Whether one of its segments below the base begins with a dot."""
        return re.search(r"(?:^|/)\\\.", self.expression.pattern) is not None

    def values(self, path: str) -> tuple[str, ...] | None:
        """What the wildcards stand for in a path below the base, or None where it doesn't match."""
        match = self.expression.fullmatch(path if path.isascii() else composed(path))
        return match and tuple(match.group(name) for name in self.wildcards)

    def differs_in_case(self, path: str) -> bool:
        """Whether a path below the base would match if upper and lower case were the same."""
        return re.fullmatch(self.expression.pattern, composed(path), re.IGNORECASE) is not None

    def looks_at(self, depth: int) -> bool:
        """Whether a file in this many segments below the base could match."""
        return depth >= self.depth if self.any_depth else depth == self.depth

    def filled(self, values: Mapping[str, str]) -> str:
        """The pattern with its wildcards replaced: the file that was looked for."""
        return "".join(_filled(piece, values) for piece in PIECES.findall(self.text))


def composed(text: str) -> str:
    """Text with its accents composed (NFC): file systems differ in how they keep them."""
    return unicodedata.normalize("NFC", text)


def _pieces(segment: str, text: str) -> list[str]:
    pieces: list[str] = PIECES.findall(segment)
    for piece in pieces:
        named = re.fullmatch(r"\{[A-Za-z_][A-Za-z0-9_]*\}", piece)
        if piece[0] in "{}" and piece not in ("{{", "}}") and not named:
            raise RecipeError(
                f'"{text}": {piece} is no wildcard: write {{name}} with letters, digits and _, '
                "or {{ and }} for braces"
            )
    return pieces


def _filled(piece: str, values: Mapping[str, str]) -> str:
    if piece in ("{{", "}}"):
        return piece[0]
    return values[piece[1:-1]] if piece[0] == "{" else piece


def _is_wild(segment: str, text: str) -> bool:
    return any(p[0] == "*" or (p[0] == "{" and p != "{{") for p in _pieces(segment, text))


def _literal(segment: str, text: str) -> str:
    return "".join(p[0] if p in ("{{", "}}") else p for p in _pieces(segment, text))


def _segment(segment: str, names: list[str], last: bool, text: str) -> str:
    """The regular expression of one segment, and of the / behind it; wildcards are added to ``names``."""
    if segment == "**":
        return r"(?:(?!\.)[^/]+/)*" + (r"(?!\.)[^/]+" if last else "")
    expression = ""
    for piece in _pieces(segment, text):
        if piece[0] == "*":
            part = "[^/]*"
        elif piece in ("{{", "}}"):
            part = re.escape(piece[0])
        elif piece[0] == "{":
            name = piece[1:-1]
            part = f"(?P={name})" if name in names else f"(?P<{name}>[^/]+)"
            if name not in names:
                names.append(name)
        else:
            part = re.escape(composed(piece))
        hides = not expression and piece not in ("{{", "}}") and piece[0] in "{*"
        expression += (r"(?!\.)" if hides else "") + part
    return expression + ("" if last else "/")
