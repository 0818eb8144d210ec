"""One range a role over many scenes: the passes over all their pixels, merged exactly in any order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from batchfuse.cluster import Cluster
from batchfuse.errors import PassingError, RecipeError, SceneError, bugs_told
from batchfuse.geometry.window import Window
from batchfuse.imagery.align import Alignment
from batchfuse.imagery.aligned import counted_windows, refine_window, tally_window
from batchfuse.imagery.distribution import Column, Distribution, Unit
from batchfuse.imagery.scaling import byte_range, is_byte, nothing_valid, units_of
from batchfuse.imagery.scene import Source
from batchfuse.imagery.tally import Tally
from batchfuse.imagery.volume_alignment import VolumeAlignment
from batchfuse.job import Job
from batchfuse.retries import Retries

__all__ = ["Found", "measured_over"]

MOST_UNITS = 256  # tallies of a role that are held at a time, up to 1 MB each

Range = tuple[float, float]
Part = tuple[str, int, list[Unit], Source, Window, list[set[int]]]
"""Of the second pass: the scene, the source's index and units, the source, the window, each unit's bins."""
Told = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Found:
    """What the passes found."""

    ranges: dict[str, Range]
    """By role: the physical values that map to 0 and 1 in every scene."""
    unreadable: dict[str, SceneError]
    """By scene: why it could not be measured; it counts in no range."""


def measured_over(cluster: Cluster, jobs: Sequence[Job], told: Told, retries: Retries) -> Found:
    """The range of each role over the pixels of all scenes, each scene's sources cropped to it.

    What the recipe gives as ``range`` is kept, and 8-bit files have the range of their type. All else is
    counted in one pass over the pixels, and in a second where there are floats. ``told(phase, done, total)``
    hears of each scene. Memory holds the tallies of a role and those of the scenes under way. Scenes that
    can't be read for now are counted again after all others, together. Where one that was read in the first
    pass can't be read in the second, all begins anew without it.

    Raises:
        RecipeError: the scenes of a role have too many different scales, or values that are not finite.
    """
    roles = [source.role for source in jobs[0].scene.sources]
    ranges = {role: _without_pixels(jobs, index) for index, role in enumerate(roles)}
    wanted = [index for index, role in enumerate(roles) if ranges[role] is None]
    unreadable: dict[str, SceneError] = {}
    while wanted:
        counted = _Counting([job for job in jobs if job.scene.name not in unreadable], wanted)
        counted.run(cluster, partial(told, "statistics"), retries)
        unreadable |= counted.unreadable
        left = [job for job in jobs if job.scene.name not in unreadable]
        try:
            for index, found in counted.distributions(cluster, left, partial(told, "percentiles"), retries):
                ranges[roles[index]] = _finite(roles[index], found.range(jobs[0].ranges[index].percentiles))
            break
        except _LostError as lost:
            unreadable[lost.scene] = lost.error
    return Found({role: r for role, r in ranges.items() if r is not None}, unreadable)


def _without_pixels(jobs: Sequence[Job], index: int) -> Range | None:
    """The range that follows from the recipe or the files' type."""
    asked = jobs[0].ranges[index]
    if asked.range is not None:
        return asked.range
    sources = [job.scene.sources[index] for job in jobs]
    if asked.percentiles is not None or not all(map(is_byte, sources)):
        return None
    ends = [byte_range(source) for source in sources]
    return min(low for low, _ in ends), max(high for _, high in ends)


def _finite(role: str, found: Range) -> Range:
    low, high = found
    if not (math.isfinite(low) and math.isfinite(high)):
        raise RecipeError(
            f"{role} reaches from {low:g} to {high:g} over the campaign, after scale and offset: "
            f"correct `scale:` and `offset:` in the recipe, or give inputs.{role} a `range:`"
        )
    return low, max(low, high)


class _Pool:
    """The tallies of one role: one for each unit, so that scenes of different scales or types merge."""

    def __init__(self) -> None:
        self.tallies: dict[Unit, Tally] = {}

    def add(self, unit: Unit, tally: Tally) -> None:
        self.tallies[unit] = self.tallies.get(unit, Tally.empty()).merge(tally)

    def take(self, other: _Pool, role: str) -> None:
        for unit, tally in other.tallies.items():
            self.add(unit, tally)
        if len(self.tallies) > MOST_UNITS:
            raise RecipeError(
                f"the files of {role} have more than {MOST_UNITS} different scales and offsets, too many for "
                f"`scaling: campaign`: give inputs.{role} a `scale:` and `offset:`, or a `range:`"
            )


@dataclass(frozen=True, slots=True)
class _Unread:
    """A part of the second pass that could not be read."""

    part: Part
    error: SceneError


class _LostError(Exception):
    """A scene that was counted in the first pass can't be in the second."""

    def __init__(self, unread: _Unread) -> None:
        super().__init__(str(unread.error))
        self.scene, self.error = unread.part[0], unread.error


@dataclass
class _Scene:
    """A scene under way."""

    left: int
    """Parts that were not counted yet."""
    pools: dict[int, _Pool] = field(default_factory=dict)
    """By the source's index."""


class _Counting:
    """The first pass: each scene is added as a whole once all its parts are there, or left out as a whole."""

    def __init__(self, jobs: Sequence[Job], wanted: Sequence[int]) -> None:
        self.jobs, self.wanted = jobs, wanted
        self.pools = {index: _Pool() for index in wanted}
        self.under_way: dict[int, _Scene] = {}
        self.unreadable: dict[str, SceneError] = {}
        self.waiting: dict[int, PassingError] = {}

    def run(self, cluster: Cluster, told: Callable[[int, int], None], retries: Retries) -> None:
        """Counts all scenes, as many at a time as the cluster has tasks under way."""
        done = self._pass(cluster, told, range(len(self.jobs)), 0)
        while self.waiting:
            waiting, self.waiting = self.waiting, {}
            first = next(iter(waiting))
            if not retries.again(self.jobs[first].scene.name, str(waiting[first])):
                self.unreadable |= {self.jobs[number].scene.name: why for number, why in waiting.items()}
                break
            done = self._pass(cluster, told, sorted(waiting), done)

    def _pass(
        self, cluster: Cluster, told: Callable[[int, int], None], numbers: Sequence[int], done: int
    ) -> int:
        """Counts some scenes; how many are done with now. Those that can't be read for now wait."""
        for number, index, found in cluster.map(_tallied_part, self._parts(numbers)):
            if number not in self.under_way:
                continue  # another part of the scene could not be read
            if isinstance(found, PassingError):
                del self.under_way[number]
                self.waiting[number] = found
                continue
            if isinstance(found, SceneError):
                self._fail(number, found)
            elif not self._add(number, index, found):
                continue
            done += 1
            told(done, len(self.jobs))
        return done

    def distributions(
        self, cluster: Cluster, jobs: Sequence[Job], told: Callable[[int, int], None], retries: Retries
    ) -> Iterator[tuple[int, Distribution]]:
        """The physical values of each role, floats with a second pass."""
        columns = {
            index: [Column(tally, unit) for unit, tally in pool.tallies.items()]
            for index, pool in self.pools.items()
            if pool.tallies
        }
        bins = {
            index: dict(zip(self.pools[index].tallies, _bins(jobs[0], index, found), strict=True))
            for index, found in columns.items()
        }
        refined: dict[tuple[int, Unit], dict[int, Tally]] = {}
        parts: Iterable[Part] = _refined_parts(jobs, bins, told)
        while True:
            waiting: list[_Unread] = []
            for index, units, found in cluster.map(_refined_part, parts):
                if isinstance(found, _Unread):
                    if not isinstance(found.error, PassingError):
                        raise _LostError(found)
                    waiting.append(found)
                    continue
                for unit, tallies in zip(units, found, strict=True):
                    total = refined.setdefault((index, unit), {})
                    for key, tally in tallies.items():
                        total[key] = total.get(key, Tally.empty()).merge(tally)
            if not waiting:
                break
            if not retries.again("campaign", str(waiting[0].error)):
                raise _LostError(waiting[0])
            parts = [one.part for one in waiting]
        for index, coarse in columns.items():
            whole = [Column(c.tally, c.unit, refined.get((index, c.unit))) for c in coarse]
            yield index, Distribution(whole)

    def _parts(self, numbers: Iterable[int]) -> Iterator[tuple[int, int, Source, Window]]:
        for number in numbers:
            job = self.jobs[number]
            try:
                with bugs_told():
                    windows = {i: list(counted_windows(*_placed(job, i))) for i in self.wanted}
            except SceneError as error:
                self.unreadable[job.scene.name] = error
                continue
            self.under_way[number] = _Scene(sum(map(len, windows.values())), {i: _Pool() for i in windows})
            for index, found in windows.items():
                for window in found:
                    if number in self.under_way:
                        yield number, index, job.scene.sources[index], window

    def _add(self, number: int, index: int, tallies: Sequence[Tally]) -> bool:
        """Adds a part; whether the scene is whole with it."""
        job, scene = self.jobs[number], self.under_way[number]
        for unit, tally in zip(units_of(job.scene.sources[index]), tallies, strict=True):
            scene.pools[index].add(unit, tally)
        scene.left -= 1
        if scene.left:
            return False
        empty = [i for i, pool in scene.pools.items() if not any(t.valid for t in pool.tallies.values())]
        if empty:
            self._fail(number, nothing_valid(job.scene.sources[empty[0]]))
            return True
        del self.under_way[number]
        for i, pool in scene.pools.items():
            self.pools[i].take(pool, job.scene.sources[i].role)
        return True

    def _fail(self, number: int, reason: SceneError) -> None:
        self.unreadable[self.jobs[number].scene.name] = reason
        del self.under_way[number]


def _bins(job: Job, index: int, columns: Sequence[Column]) -> list[set[int]]:
    return Distribution(columns).bins(None, job.ranges[index].percentiles)


def _refined_parts(
    jobs: Sequence[Job], bins: dict[int, dict[Unit, set[int]]], told: Callable[[int, int], None]
) -> Iterator[Part]:
    """The parts of the second pass: of the roles, scenes and bands that have a bin to look into."""
    if not any(wanted for of_role in bins.values() for wanted in of_role.values()):
        return
    for number, job in enumerate(jobs):
        for index, of_role in bins.items():
            source, alignment = _placed(job, index)
            units = units_of(source)
            wanted = [of_role[unit] for unit in units]
            for window in counted_windows(source, alignment) if any(wanted) else ():
                yield job.scene.name, index, units, source, window, wanted
        told(number + 1, len(jobs))


def _placed(job: Job, index: int) -> tuple[Source, Alignment | VolumeAlignment]:
    return job.scene.sources[index], job.alignments[index]


def _tallied_part(
    number: int, index: int, source: Source, window: Window
) -> tuple[int, int, list[Tally] | SceneError]:
    """A task: the tallies of a part, or why there are none, so that the other scenes go on."""
    try:
        with bugs_told():
            return number, index, tally_window(source, window)
    except SceneError as error:
        return number, index, error


def _refined_part(
    scene: str, index: int, units: list[Unit], source: Source, window: Window, wanted: list[set[int]]
) -> tuple[int, list[Unit], list[dict[int, Tally]] | _Unread]:
    """A task of the second pass: the tallies of a part, or that it can't be read."""
    try:
        with bugs_told():
            return index, units, refine_window(source, window, wanted)
    except SceneError as error:
        return index, units, _Unread((scene, index, units, source, window, wanted), error)
