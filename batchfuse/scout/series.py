"""Files that are called alike and are the same of different scenes, and the sources they can make."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from batchfuse.scout.marks import Marked, Span, ending_of

__all__ = ["COLOURS", "Key", "Option", "Series", "Way", "options_of", "series_of"]

Key = tuple[str, ...]
"""The parts of a path that say which scene it is of."""
Way = Literal["exact", "folders", "anywhere"]
"""How names are cut: at the marks; at the whole folders that hold one, or else at the innermost; or at the
marks of the file's own name, wherever it lies."""
COLOURS = ("red", "green", "blue")
PICTURES = {"png": 1, "jpg": 2, "jpeg": 2, "bmp": 2}
"""By how much a picture comes after a raster of the same name, which may have a georeference."""
SEPARATORS = "_-. "


@dataclass(frozen=True, slots=True)
class Series:
    """The files of one kind."""

    skeleton: tuple[str, ...]
    """What their paths have in common: the text before, between and behind the parts of the key."""
    example: Marked
    """The first of them."""
    files: dict[Key, str]
    """Their paths below the folder that all files are in, by key."""

    @property
    def rank(self) -> int:
        """Among those of one role the lower is taken."""
        meaning, ending = self.example.meaning, self.example.path.rpartition(".")[2].lower()
        return (meaning.rank if meaning else 9) + PICTURES.get(ending, 0)


@dataclass(frozen=True, slots=True)
class Option:
    """A source that could be fused: one series, or three that are red, green and blue."""

    role: str
    """Its name in a recipe."""
    series: tuple[Series, ...]
    """One, or three."""

    @property
    def is_one_colour(self) -> bool:
        """Whether it is a third of a colour image whose other thirds are missing."""
        meaning = self.series[0].example.meaning
        return len(self.series) == 1 and meaning is not None and meaning.colour != ""

    @property
    def is_volume(self) -> bool:
        """Whether it is of NIfTI volumes."""
        return self.series[0].example.is_volume

    @property
    def family(self) -> str:
        """The sensor and product, if known."""
        return self.series[0].example.family

    @property
    def rank(self) -> int:
        """Among options of one role the lower is taken."""
        meaning = self.series[0].example.meaning
        alone = 10 + COLOURS.index(meaning.colour) if meaning and self.is_one_colour else 0
        return self.series[0].rank + alone

    @property
    def name(self) -> str:
        """What it is called beside another of its role: its colour, if it is a lone one."""
        meaning = self.series[0].example.meaning
        return meaning.colour if meaning and self.is_one_colour else self.role

    @property
    def keys(self) -> set[Key]:
        """Of which scenes all of its files are there."""
        return set.intersection(*(set(series.files) for series in self.series))


def series_of(files: Iterable[Marked], way: Way) -> list[Series]:
    """Group files by what is left of their paths without the parts that tell scenes apart."""
    found: dict[tuple[object, ...], Series] = {}
    for file in files:
        if way == "anywhere" and all(stop <= file.path.rfind("/") for _, stop in file.spans):
            continue  # without its folder nothing would tell what it is
        skeleton, key = _cut(file, way)
        kind = skeleton, file.meaning, file.family
        series = found.setdefault(kind, Series(skeleton, file, {}))
        series.files.setdefault(key, file.path)
        if file.numbers != series.example.numbers:  # what holds for some of the files only isn't written
            ours, theirs = (one.numbers.partition(" from ")[0] for one in (file, series.example))
            common = ours if ours == theirs else ""
            found[kind] = replace(series, example=replace(series.example, numbers=common))
    return sorted(found.values(), key=lambda s: (-len(s.files), s.skeleton))


def options_of(series: Sequence[Series]) -> list[Option]:
    """The sources that some series make, three colours together where they are there."""
    made: list[Option] = []
    colours: dict[tuple[object, ...], dict[str, Series]] = {}
    for one in series:
        meaning = one.example.meaning
        if meaning is None:
            continue
        made.append(Option(meaning.role, (one,)))
        if meaning.colour:
            ending = one.skeleton[-1].rpartition(".")[2]
            place = (meaning.role, meaning.rank, one.example.family, len(one.skeleton), ending)
            colours.setdefault(place, {}).setdefault(meaning.colour, one)
    for (role, *_), thirds in colours.items():
        if len(thirds) == 3:
            together = Option(str(role), tuple(thirds[colour] for colour in COLOURS))
            if together.keys:
                made.append(together)
    return sorted(made, key=lambda option: (option.rank, -len(option.keys)))


def _cut(file: Marked, way: Way) -> tuple[tuple[str, ...], Key]:
    """A path as the text that its series shares, and the parts between."""
    path, spans = file.path, list(file.spans)
    start = path.rfind("/") + 1
    if way == "folders":
        inner = path.rfind("/", 0, max(start - 1, 0)) + 1
        spans = [_whole_folder(path, span) for span in spans] or [(inner, max(start - 1, 0))]
    if way == "anywhere":
        spans = [span for span in spans if span[0] >= start]
        path, shift = "**/" + path[start:], start - 3
        spans = [(s - shift, e - shift) for s, e in spans]
        spans = [(0, 3), *spans]
    spans.append((len(path) - len(ending_of(path)), len(path)))
    skeleton, key, last = [""], [], 0
    for s, e in _merged(spans):
        for text, is_piece in _pieces(path[last:s]):
            if is_piece:
                key.append(text)
                skeleton.append("")
            else:
                skeleton[-1] += text
        skeleton[-1] += path[s:e]
        last = e
    return tuple(skeleton), tuple(key)


def _merged(spans: Iterable[Span]) -> list[Span]:
    """Spans in order, none within another."""
    merged: list[Span] = []
    for s, e in sorted(spans):
        if merged and s < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(e, merged[-1][1]))
        else:
            merged.append((s, e))
    return merged


def _whole_folder(path: str, span: Span) -> Span:
    stop = path.find("/", span[1])
    return span if stop < 0 else (path.rfind("/", 0, span[0]) + 1, stop)


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """Text between marks, cut at folders; separators at the ends of a part are no part of it."""
    for number, segment in enumerate(text.split("/")):
        if number:
            yield "/", False
        inner = segment.strip(SEPARATORS)
        before, _, behind = segment.partition(inner) if inner else (segment, "", "")
        yield before, False
        if inner:
            yield inner, True
            yield behind, False
