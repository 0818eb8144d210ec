"""Names that mean nothing: where in them could stand what tells one source from another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from batchfuse.scout.marks import Marked, Span, ending_of
from batchfuse.scout.words import Meaning

__all__ = ["marked_by_place"]

MOST_MARKS = 8
"""Different words at one place of a name that can tell sources apart; more tell scenes apart."""


def marked_by_place(files: Sequence[Marked]) -> Iterator[list[Marked]]:
    """The files as if one place of their names told what they are, for each place that could."""
    deepest = max((file.path.count("/") for file in files), default=0)
    for level in range(deepest):
        yield from _few_marks(files, [_folder_span(file.path, level) for file in files])
    for expression in (r"[^_\-. ]+$", r"(?<=[0-9])[A-Za-z]+$", r"^[A-Za-z]+", r"^[^_\-. ]+"):
        yield from _few_marks(files, [_name_span(file.path, expression) for file in files])
    yield [replace(file, meaning=Meaning(""), spans=()) for file in files]


def _few_marks(files: Sequence[Marked], spans: Sequence[Span | None]) -> Iterator[list[Marked]]:
    found = [(file, span) for file, span in zip(files, spans, strict=True) if span]
    marks = {file.path[slice(*span)] for file, span in found}
    if 2 <= len(marks) <= MOST_MARKS:
        yield [
            replace(file, meaning=Meaning(file.meaning.role if file.meaning else ""), spans=(span,))
            for file, span in found
        ]


def _folder_span(path: str, level: int) -> Span | None:
    *folders, _ = path.split("/")
    if level >= len(folders):
        return None
    start = sum(len(folder) + 1 for folder in folders[:level])
    return start, start + len(folders[level])


def _name_span(path: str, expression: str) -> Span | None:
    start = path.rfind("/") + 1
    stem = path[start:].removesuffix(ending_of(path))
    found = re.search(expression, stem)
    if not found or found.span() == (0, len(stem)):
        return None
    return found.start() + start, found.end() + start
