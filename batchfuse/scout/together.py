"""One source with several kinds of partner, each named twice in the files: mri with ct, pet and spect."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from batchfuse.scout.marks import Marked
from batchfuse.scout.series import Option, Series, series_of
from batchfuse.scout.templates import choices, template
from batchfuse.scout.words import Meaning

__all__ = ["OTHER", "WILDCARD", "kinds", "together"]

OTHER = "other"
"""The role of the partner, whatever it is in a scene."""
WILDCARD = "{kind}"
"""Stands for the word that names the partner, in both of its places."""

Paths = tuple[str, str]
"""Of the source that is in all pairs, and of its partners."""


def together(pairs: Iterable[Sequence[Option]]) -> list[tuple[tuple[Option, Option], Paths]]:
    """Pairs of a source with different partners, as pairs whose partner's kind is a wildcard.

    ``ctmri_1_ct.png`` with ``ctmri_1_mri.png`` and ``petmri_2_pet.png`` with ``petmri_2_mri.png`` are
    ``{kind}mri_{scene}_{kind}.png`` with ``{kind}mri_{scene}_mri.png``: a wildcard that is there twice stands
    for the same both times. Only where the partner's word is in the names of both.
    """
    found: dict[Paths, list[tuple[Series, Series]]] = {}
    for first, second in pairs:
        if len(first.series) == len(second.series) == 1 and first.role and second.role:
            words = _word(first.series[0]), _word(second.series[0])
            if twin := _with_kind(first, second, words):
                paths, series = twin
                found.setdefault(paths, []).append(series)
    return [
        ((_merged([a for a, _ in twins]), _merged([b for _, b in twins], OTHER)), paths)
        for paths, twins in found.items()
        if len({_role(b) for _, b in twins}) > 1
    ]


def kinds(option: Option) -> list[str]:
    """What the partners are of which one source was made."""
    return sorted({key[0] for key in option.series[0].files})


def _word(series: Series) -> str:
    """The last word that says what a series is."""
    file = series.example
    return file.path[slice(*file.spans[-1])] if file.spans else ""


def _with_kind(
    first: Option, second: Option, words: tuple[str, str]
) -> tuple[Paths, tuple[Series, Series]] | None:
    """The pair with its partner's word as a wildcard, as paths and as series; None where that can't be."""
    keys = first.keys & second.keys
    made = []
    for option in (first, second):
        series = option.series[0]
        files = [_marked(series.example, series.files[key], words) for key in sorted(keys)]
        cut = series_of(files, "exact")
        if len(cut) != 1 or not all(words):
            return None
        made.append(cut[0])
    both, lone = made[1], made[0]
    if both.files.keys() != lone.files.keys():
        return None
    choice, key = choices(made)[0], min(both.files)
    ours, theirs = (template(one, choice, key) for one in made)
    if words[1] not in ours or theirs.count(words[1]) < 2:
        return None
    paths = ours.replace(words[1], WILDCARD), theirs.replace(words[1], WILDCARD)
    return paths, (lone, both)


def _marked(example: Marked, path: str, words: tuple[str, str]) -> Marked:
    """A file with all places of both words as its marks."""
    either = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    spans = tuple(found.span() for found in re.finditer(either, path)) if either else ()
    return replace(example, path=path, spans=spans)


def _role(series: Series) -> str:
    return series.example.meaning.role if series.example.meaning else ""


def _merged(series: Sequence[Series], role: str = "") -> Option:
    """The files of several series as one, keyed by their paths' own words too."""
    first = series[0]
    files = {(_role(one), *key): path for one in series for key, path in one.files.items()}
    meaning = first.example.meaning or Meaning("")
    return Option(role or meaning.role, (Series(first.skeleton, first.example, files),))
