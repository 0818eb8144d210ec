"""Which files could be fused with which: every way to pair what was found, the most sensible first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, combinations

from batchfuse.scout.marks import Marked
from batchfuse.scout.objections import objection
from batchfuse.scout.places import marked_by_place
from batchfuse.scout.series import Key, Option, Series, options_of, series_of
from batchfuse.scout.templates import choices, escaped, template
from batchfuse.scout.together import together
from batchfuse.scout.tokens import shared_tokens
from batchfuse.scout.words import ANATOMY, DETAIL, SIGNAL, TISSUES, VOLUME_ANATOMY, VOLUME_ORDER

__all__ = ["Patterns", "Proposal", "proposals", "third_sources"]

MOST_OPTIONS = 60
"""Options of one way to cut names that are paired with each other."""
MOST_PLAIN = 8
"""Series that nothing is known of."""
LABEL = re.compile(r"(_(?:acq|rec|run|dir)-)[A-Za-z0-9+]+")
"""Labels of BIDS that may differ from subject to subject in one source."""
LEVELS = 100
"""Steps between one kind of signal and the next."""
UNSURE = LEVELS // 2
"""Steps by which a pair is less likely whose names only share something."""

Patterns = dict[str, tuple[str, ...]]
"""The paths of each role."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Sources that could be fused, and the paths that find them."""

    options: tuple[Option, ...]
    """The sources, in the recipe's order: what brings the colours one knows comes last."""
    roles: tuple[str, ...]
    """Their names in the recipe."""
    ways: tuple[Patterns, ...]
    """The paths of each role; the first that works is taken."""
    files: tuple[str, ...]
    """The files of one scene, all series in order."""
    level: int
    """How far it is from what one most likely wants."""
    scenes: int
    """How many are expected to be complete."""
    guessed: bool = False
    """Whether nothing in the names brings them together."""

    @property
    def order(self) -> tuple[int, int, int]:
        """Sorts proposals, the best first."""
        return self.level, -self.scenes, sum(option.rank for option in self.options)

    @property
    def firsts(self) -> tuple[str, ...]:
        """The first file of each source, of one scene."""
        places = accumulate((len(option.series) for option in self.options[:-1]), initial=0)
        return tuple(self.files[place] for place in places)

    def is_apart_from(self, chosen: Proposal) -> bool:
        """Whether it is as likely a pair as the chosen one, of other scenes or of other files."""
        ours, theirs = (set.intersection(*(o.keys for o in p.options)) for p in (self, chosen))
        lone = any(option.is_one_colour for option in self.options)
        as_likely = self.level // UNSURE == chosen.level // UNSURE and not lone
        others = not ours & theirs or not set(self.files) & set(chosen.files)
        return as_likely and bool(ours) and others and not self.paths <= chosen.paths

    @property
    def paths(self) -> set[str]:
        """All files of its sources."""
        return {path for option in self.options for one in option.series for path in one.files.values()}


def proposals(files: Sequence[Marked], these: bool = False) -> list[Proposal]:
    """All that could be fused, the best first: by names that mean something, else by names that differ.

    Two images are a pair whatever they are called, if need be; the first choice if just ``these`` are meant.
    """
    usable = [file for file in files if not file.no_image]
    found = list(_by_meaning(usable))
    if not any(proposal.level < LEVELS * LEVELS for proposal in found):
        found += _by_difference(usable)
    if len(usable) == 2:
        level = -1 if these else LEVELS * LEVELS * 2
        found.append(replace(_two_images(usable), level=level, guessed=not these))
    found += _several_partners(found)
    best: dict[tuple[str, ...], Proposal] = {}
    for proposal in sorted(found, key=lambda proposal: proposal.order):
        best.setdefault((*proposal.roles, *proposal.files), proposal)
    return list(best.values())


def _several_partners(found: Iterable[Proposal]) -> Iterator[Proposal]:
    """Proposals of one source with different partners as one, where the names allow it."""
    likely = [proposal for proposal in found if proposal.level == 0 and proposal.options[0].role in ANATOMY]
    for pair, paths in together(proposal.options for proposal in likely):
        patterns: Patterns = {role: (path,) for role, path in zip(_roles(pair), paths, strict=True)}
        files = tuple(next(iter(option.series[0].files.values())) for option in pair)
        yield Proposal(pair, _roles(pair), (patterns,), files, 0, len(pair[1].keys))


def _by_meaning(files: Sequence[Marked]) -> Iterator[Proposal]:
    """Pairs of sources that are told apart by words and bands."""
    told: list[tuple[tuple[Option, Option], int]] = []
    for way in ("exact", "folders", "anywhere"):
        series = series_of(files, way)
        plain = [Option("", (one,)) for one in series if one.example.meaning is None][:MOST_PLAIN]
        options = options_of(series)
        options = [*options, *_of_any_acquisition(options)][:MOST_OPTIONS]
        for first, second in combinations([*options, *plain], 2):
            pair = _ordered(first, second)
            if pair is None:
                continue
            proposal = _joined(pair)
            if proposal:
                yield proposal
            if way == "exact" and "" not in (first.role, second.role) and _is_partial(proposal, pair):
                told.append((pair, proposal.scenes if proposal else 0))
    for pair, scenes in sorted(told, key=lambda one: _level(one[0]))[:MOST_OPTIONS]:
        yield from _loosely_joined(pair, scenes)


def _of_any_acquisition(options: Sequence[Option]) -> Iterator[Option]:
    """Sources of BIDS that are called alike but for a label that no two of their scenes have in common."""
    found: dict[tuple[str, tuple[str, ...]], list[Series]] = {}
    for option in options:
        one = option.series[0]
        if option.family == "BIDS":
            skeleton = tuple(LABEL.sub(r"\1*", text) for text in one.skeleton)
            found.setdefault((option.role, skeleton), []).append(one)
    for (role, skeleton), series in found.items():
        files = {key: path for one in series for key, path in one.files.items()}
        if len(series) > 1 and len(files) == sum(len(one.files) for one in series):
            yield Option(role, (Series(skeleton, series[0].example, files),))


def _ordered(first: Option, second: Option) -> tuple[Option, Option] | None:
    """The two with the one that gives grid and colours last; None where they are no pair."""
    if first.role == second.role:
        return None
    return (second, first) if _weight(first) > _weight(second) else (first, second)


def _weight(option: Option) -> tuple[int, int]:
    """Sorts the sources of a recipe: what is unseen, unknown, then what is seen; mri before its colours."""
    if option.is_volume:
        return 0, VOLUME_ORDER.index(option.role)
    if option.role in ANATOMY:
        return 0, 0
    if option.role in SIGNAL:
        return 1, SIGNAL.index(option.role)
    return (2, 0) if not option.role else (3, -DETAIL.index(option.role))


def _level(pair: Sequence[Option]) -> int:
    """How far a pair is from what one most likely wants: thermal with colour is 0."""
    signal, detail = pair
    if signal.is_volume:
        return _volume_level(signal.role, detail.role)
    if "" in (signal.role, detail.role):
        return LEVELS * (LEVELS - 1)
    if signal.role in ANATOMY:
        return 0
    if signal.role in DETAIL or detail.role in SIGNAL:  # two of a kind
        return LEVELS * (LEVELS - 2) + 10 * ("pan" not in (signal.role, detail.role)) - _weight(detail)[1]
    worse = 3 * detail.is_one_colour + 3 * signal.is_one_colour  # a pan band shows more than a lone red one
    return LEVELS * SIGNAL.index(signal.role) + DETAIL.index(detail.role) + worse


def _volume_level(signal: str, anatomy: str) -> int:
    """The same of volumes: PET or SPECT with CT is 0, then with MRI, then CT with MRI, then two contrasts."""
    if "" in (signal, anatomy):
        return LEVELS * (LEVELS - 1)
    unlike = LEVELS * (LEVELS // 2) * (signal == "bold" or bool({signal, anatomy} & set(TISSUES)))
    if anatomy not in VOLUME_ANATOMY:
        return unlike + LEVELS * (LEVELS // 4) + VOLUME_ORDER.index(anatomy)
    same_scanner = anatomy == "ct" and signal in ("pet", "spect")
    worse = 0 if same_scanner else 1 + VOLUME_ANATOMY.index(anatomy)
    return unlike + LEVELS * VOLUME_ORDER.index(signal) + worse


def _joined(pair: tuple[Option, Option], unsure: int = 0) -> Proposal | None:
    """The pair as its files share the parts of their names that are no mark."""
    shared = pair[0].keys & pair[1].keys
    if not shared:
        return None
    first = min(shared)
    ways = tuple(dict(zip(_roles(pair), way, strict=True)) for way in _ways(pair, first))
    files = tuple(one.files[first] for option in pair for one in option.series)
    return Proposal(pair, _roles(pair), ways, files, _level(pair) + unsure, len(shared))


def _is_partial(proposal: Proposal | None, pair: Sequence[Option]) -> bool:
    """Whether equal names join at most half of the scenes that the lesser of two sources has."""
    return proposal is None or 2 * proposal.scenes <= min(len(option.keys) for option in pair)


def _loosely_joined(pair: tuple[Option, Option], scenes: int) -> Iterator[Proposal]:
    """The pair as its names share a date, a tile or a number; or one file that goes with all others.

    Where equal names join some ``scenes`` already, only what joins all of them is more likely.
    """
    links = shared_tokens(pair)
    all_of_one = links is not None and links.scenes == min(len(option.keys) for option in pair)
    if links and (all_of_one or not scenes):
        ways = (dict(zip(_roles(pair), links.paths, strict=True)),)
        level = _level(pair) + (-1 if scenes else UNSURE)
        yield Proposal(pair, _roles(pair), ways, links.files, level, links.scenes)
    lone = [all(len(one.files) == 1 for one in option.series) for option in pair]
    if any(lone) and not scenes:
        yield _with_lone_file(pair, lone)


def _with_lone_file(pair: tuple[Option, Option], lone: Sequence[bool]) -> Proposal:
    patterns, files, scenes = {}, [], 1
    for (role, option), alone in zip(_named(pair), lone, strict=True):
        first = min(option.keys)
        choice = () if alone else choices(option.series)[-1]
        scenes *= 1 if alone else len(option.keys)
        files += [one.files[first] for one in option.series]
        patterns[role] = tuple(
            escaped(one.files[first]) if alone else template(one, choice, first) for one in option.series
        )
    level = _level(pair) + UNSURE + 1
    return Proposal(pair, _roles(pair), (patterns,), tuple(files), level, scenes, guessed=True)


def _named(pair: Sequence[Option]) -> Iterator[tuple[str, Option]]:
    return zip(_roles(pair), pair, strict=True)


def _roles(pair: Sequence[Option]) -> tuple[str, ...]:
    """The names of the sources: source1, source2 where nothing tells."""
    return tuple(option.role or f"source{number}" for number, option in enumerate(pair, 1))


# --- names that mean nothing -------------------------------------------------------------------


def _by_difference(files: Sequence[Marked]) -> Iterator[Proposal]:
    """Pairs of files whose names differ at one place only: a folder, the last word, the first, the ending."""
    for marked in marked_by_place(files):
        series = [one for one in series_of(marked, "exact") if one.example.meaning is not None]
        options = [Option(_role(one), (one,)) for one in series[:MOST_OPTIONS]]
        options.sort(key=lambda option: option.series[0].skeleton)
        for first, second in combinations(options, 2):
            pair = _ordered(first, second) if first.role or second.role else (first, second)
            proposal = pair and _joined(pair, unsure=LEVELS * LEVELS)
            if proposal and (proposal.scenes > 1 or not _are_numbers(pair or ())):
                yield replace(proposal, guessed=True)


def _role(series: Series) -> str:
    meaning = series.example.meaning
    return meaning.role if meaning else ""


def _are_numbers(pair: Iterable[Option]) -> bool:
    """Whether the two differ in a number only: one picture and the next, more likely than two sources."""
    marks = [_mark(option.series[0].example) for option in pair]
    return all(mark.isdigit() for mark in marks)


def _mark(file: Marked) -> str:
    return "".join(file.path[start:stop] for start, stop in file.spans)


def _two_images(files: Sequence[Marked]) -> Proposal:
    """The only two images there are, whatever they are called."""
    options = []
    for file in files:
        series = Series((escaped(file.path),), file, {(): file.path})
        options.append(Option(file.meaning.role if file.meaning else "", (series,)))
    first, second = options
    pair = _ordered(first, second) or (first, second)
    patterns: Patterns = {role: (escaped(option.series[0].files[()]),) for role, option in _named(pair)}
    paths = tuple(option.series[0].files[()] for option in pair)
    return Proposal(pair, _roles(pair), (patterns,), paths, 0, 1)


def third_sources(proposal: Proposal, files: Sequence[Marked]) -> Iterator[tuple[str, tuple[str, ...], int]]:
    """Other sources whose files go with the scenes of a proposal: name, paths below the base, scenes."""
    keys: set[Key] = set.intersection(*(option.keys for option in proposal.options))
    paths = {
        series.files[key] for option in proposal.options for series in option.series for key in series.files
    }
    taken = set(proposal.roles)
    whole = {option.role for option in proposal.options if not option.is_one_colour}
    volumes = proposal.options[0].is_volume
    alike = (file for file in files if not file.no_image and file.is_volume == volumes)
    firsts = [marked for marked in files if marked.path in proposal.firsts]
    for option in options_of(series_of(alike, "exact")):
        shared = option.keys & keys
        if any(objection([one, option.series[0].example], False, False) for one in firsts if shared):
            continue
        used = any(one.example.path in paths for one in option.series)
        if option.name in taken or option.role in whole or used or not shared:
            continue
        for way in _ways((*proposal.options, option), min(shared)):
            if way[0] in [paths[proposal.roles[0]] for paths in proposal.ways]:
                taken.add(option.name)
                yield option.name, way[-1], len(shared)
                break


def _ways(options: Sequence[Option], key: Key) -> Iterator[list[tuple[str, ...]]]:
    """The paths of each option, for each choice of wildcards."""
    for choice in choices([one for option in options for one in option.series]):
        yield [tuple(template(one, choice, key) for one in option.series) for option in options]
