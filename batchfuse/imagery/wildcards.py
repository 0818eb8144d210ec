"""A path with wildcards: which files it means, and what its wildcards stand for."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from batchfuse.errors import RecipeError

__all__ = ["Pattern", "composed"]

PIECES = re.compile(r"\{\{|\}\}|\{[^{}]*\}|\*+|[{}]|[^{}*]+")
LONGEST = 4096
"""Characters of a pattern: no file system has longer paths."""
STEPS = 100_000
"""Looks at one path at most, where a wildcard stands twice; every other path is matched in linear time."""


class Gap(NamedTuple):
    """What a wildcard or a star leaves open within a segment."""

    name: str | None
    """The wildcard's; None of a star."""
    least: int
    """Characters at least."""


Segment = tuple[str | Gap, ...]
"""Literal text and gaps in turn, no two texts beside each other; () stands for ``**``."""


@dataclass(frozen=True)
class Pattern:
    """A path as a recipe writes it.

    - ``{name}`` stands for one or more characters within one path segment; used twice it stands for the same
      text both times. Where a file name can be cut in several ways, the earlier wildcard takes the most.
    - ``*`` stands for any characters within one segment, ``**`` as a whole segment for any folders, or none.
      ``**`` goes through a link only to a folder that it finds in no other way; other segments through any.
    - ``{{`` and ``}}`` are braces. Everything else is literal, upper and lower case differ.
    - a wildcard at the beginning of a segment doesn't stand for a leading dot: hidden files want to be named.
    """

    text: str
    """As the recipe has it."""
    base: Path
    """The folder that all its files are in or below: the segments before the first wildcard."""
    segments: tuple[Segment, ...]
    """The segments below the base."""

    @classmethod
    def parse(cls, text: str, folder: Path) -> Pattern:
        """Read a pattern; relative ones start from ``folder``.

        Raises RecipeError where a brace doesn't enclose a name, or it is longer than any path.
        """
        if len(text) > LONGEST:
            raise RecipeError(f'"{text[:40]}…" has {len(text):,} characters: a path has {LONGEST:,} at most')
        segments = [s for s in text.split("/") if s not in ("", ".")]
        if not segments or text.endswith("/"):
            raise RecipeError(f'"{text}" names no file')
        first = next((i for i, s in enumerate(segments) if _is_wild(s, text)), len(segments) - 1)
        static, below = segments[:first], segments[first:]
        if ".." in below:
            raise RecipeError(f'"{text}": .. can\'t follow a wildcard, nor name a file')
        root = "/" if text.startswith("/") else ""
        start = os.path.expanduser(root + "/".join(_literal(s, text) for s in static))  # noqa: PTH111
        parsed = [() if s == "**" else _segment(s, text) for s in below]
        if not parsed[-1]:
            parsed.append((Gap(None, 1),))
        return cls(text, folder / start, tuple(parsed))

    @cached_property
    def gaps(self) -> tuple[str | None, ...]:
        """The name of each gap in order, the same one as often as it stands there."""
        return tuple(p.name for segment in self.segments for p in segment if isinstance(p, Gap))

    @cached_property
    def wildcards(self) -> tuple[str, ...]:
        """Their names, in the order they appear."""
        return tuple(dict.fromkeys(name for name in self.gaps if name is not None))

    @cached_property
    def depth(self) -> int:
        """Segments below the base, ``**`` not counted."""
        return sum(bool(segment) for segment in self.segments)

    @cached_property
    def any_depth(self) -> bool:
        """Whether it has a ``**``."""
        return () in self.segments

    @property
    def is_literal(self) -> bool:
        """Whether it names one file, without any wildcard or star."""
        return self.depth == 1 and not self.any_depth and not self.gaps

    @property
    def literal(self) -> Path:
        """The one file that a literal pattern names."""
        return self.base / self.filled({}).rpartition("/")[2]

    @property
    def names_hidden(self) -> bool:
        """Whether one of its segments below the base begins with a dot."""
        return any(_begins_hidden(segment) for segment in self.segments)

    def values(self, path: str) -> tuple[str, ...] | None:
        """What the wildcards stand for in a path below the base, or None where it doesn't match.

        Raises RecipeError where a wildcard stands twice, and the path can be cut in too many ways.
        """
        path = path if path.isascii() else composed(path)
        match = self._backward.fullmatch(path[::-1])
        if match is None:
            return None
        taken: dict[str, str] = {}
        for name, text in zip(self.gaps, match.groups()[::-1], strict=True):
            if name is not None and taken.setdefault(name, text[::-1]) != text[::-1]:
                # were it not for the same text both times it would match in this way
                return self._searched(path)
        return tuple(taken.values())

    def differs_in_case(self, path: str) -> bool:
        """Whether a path below the base would match if upper and lower case were the same.

        A wildcard that stands twice may be different texts here.
        """
        return re.fullmatch(self._backward.pattern, composed(path)[::-1], re.IGNORECASE) is not None

    def looks_at(self, depth: int) -> bool:
        """Whether a file in this many segments below the base could match."""
        return depth >= self.depth if self.any_depth else depth == self.depth

    def filled(self, values: Mapping[str, str]) -> str:
        """The pattern with its wildcards replaced: the file that was looked for."""
        return "".join(_filled(piece, values) for piece in PIECES.findall(self.text))

    @cached_property
    def _backward(self) -> re.Pattern[str]:
        """Matches a path below the base from its end, with a group for each gap, the last one first.

        Read backward, each gap but the first takes as little as it can, and literals lie as near the end as
        they can: so the first takes the most. No other place of a literal makes more room for those before
        it, and none is tried: atomic groups keep the time linear in the path, whatever the number of gaps.
        The same holds for the segments between two ``**``.
        """
        last, *others = reversed(self.segments)
        runs = [_reversed(last)]  # the segments behind the last **, between two of them, and before the first
        for segment in others:
            if segment:
                runs[-1] += "/" + _reversed(segment)
            else:
                runs.append("")
        folders = r"(?:/[^/]++(?<!\.))"
        tail, *between = runs
        if between:
            tail += "".join(f"(?>{folders}*?{run})" for run in between[:-1]) + f"{folders}*{between[-1]}"
        return re.compile(tail)

    def _searched(self, path: str) -> tuple[str, ...] | None:
        """As ``values``, with each wildcard the same text wherever it stands: cuts are tried, longest first.

        A place in the pattern and the path is looked at once for the same texts of what stands twice.
        """
        parts: list[str | Gap | None] = []  # None for **
        for number, segment in enumerate(self.segments):
            parts += ["/"] if number and self.segments[number - 1] else []
            parts += segment or [None]
        twice = {name for name, many in Counter(self.gaps).items() if many > 1}
        waiting: list[tuple[int, int, tuple[str, ...]]] = [(0, 0, ())]
        seen: set[tuple[int, int, tuple[str, ...]]] = set()
        for _ in range(STEPS):
            if not waiting:
                return None
            part, at, values = waiting.pop()
            key = part, at, tuple(v for v, name in zip(values, self.wildcards, strict=False) if name in twice)
            if key in seen:
                continue
            seen.add(key)
            if part == len(parts):
                if at == len(path):
                    return values
            else:
                taken = dict(zip(self.wildcards, values, strict=False))
                piece = parts[part]
                new = isinstance(piece, Gap) and piece.name not in (None, *taken)
                for stop in _stops(piece, path, at, taken):
                    waiting.append((part + 1, stop, (*values, path[at:stop]) if new else values))
        raise RecipeError(
            f'"{self.text}" can be cut in too many ways for {path}: name each wildcard once, '
            "or use fewer stars"
        )


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


def _segment(segment: str, text: str) -> Segment:
    """The parts of one segment that is not ``**``."""
    parts: list[str | Gap] = []
    for piece in _pieces(segment, text):
        if piece[0] == "*":
            parts.append(Gap(None, 0))
        elif piece[0] == "{" and piece != "{{":
            parts.append(Gap(piece[1:-1], 1))
        else:
            literal = piece[0] if piece in ("{{", "}}") else composed(piece)
            before = parts[-1] if parts else None
            if isinstance(before, str):
                parts[-1] = before + literal
            else:
                parts.append(literal)
    return tuple(parts)


def _begins_hidden(segment: Segment) -> bool:
    return bool(segment) and isinstance(segment[0], str) and segment[0].startswith(".")


def _reversed(segment: Segment) -> str:
    """The regular expression of one segment read backward, up to the / before it."""
    expression = ""
    parts = list(segment)
    while parts:
        part = parts.pop()
        if isinstance(part, str):
            expression += re.escape(part[::-1])
        elif not any(isinstance(p, Gap) for p in parts):
            expression += f"([^/]{{{part.least},}})"
        else:
            before = parts[-1]
            literal = ""
            if isinstance(before, str):
                literal = re.escape(before[::-1])
                parts.pop()
            expression += f"(?>([^/]{{{part.least},}}?){literal})"
    shown = r"(?<!\.)" if isinstance(segment[0], Gap) else ""
    return f"(?>{expression}{shown}(?![^/]))"


def _stops(part: str | Gap | None, path: str, at: int, taken: Mapping[str, str]) -> Sequence[int]:
    """Where a part of a pattern may end that begins here in a path; the one to try first comes last."""
    if isinstance(part, str):
        return [at + len(part)] if path.startswith(part, at) else []
    if part is None:  # folders, each with the / behind it
        stops = [at]
        while (end := path.find("/", stops[-1])) >= 0 and path[stops[-1]] != ".":
            stops.append(end + 1)
        return stops
    if path.startswith(".", at) and (not at or path[at - 1] == "/"):
        return []
    known = None if part.name is None else taken.get(part.name)
    if known is not None:
        return [at + len(known)] if path.startswith(known, at) else []
    end = path.find("/", at)
    return range(at + part.least, (end if end >= 0 else len(path)) + 1)
