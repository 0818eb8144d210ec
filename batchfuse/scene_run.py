"""One scene from its first statistics to its seal, continued where an earlier run ended."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from batchfuse.changes import changes, other_ranges
from batchfuse.cluster import Cluster
from batchfuse.cuts import chosen_voxel, draw_cuts, slice_of
from batchfuse.errors import (
    BlamedError,
    BugError,
    ChangedError,
    DamagedError,
    FullError,
    PassingError,
    SceneError,
    StoreError,
    is_full,
    refusal_of,
)
from batchfuse.exports import export_again, outdated
from batchfuse.fusion.allocator import give_memory_back
from batchfuse.fusion.precision import resolved_precision
from batchfuse.fusion.surveys import Survey, survey_from_json
from batchfuse.geometry.grid import Grid
from batchfuse.geometry.planes import PLANES
from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.imagery.aligned import measured_scaling
from batchfuse.imagery.meanwhile import refuse_changed
from batchfuse.imagery.registration import Offset, coarseness, compared_windows, misregistrations
from batchfuse.imagery.scaling import Scaling
from batchfuse.job import Job
from batchfuse.pace import Pace
from batchfuse.picture import draw_quicklook
from batchfuse.report.account import FUSING
from batchfuse.report.mosaic import Mosaic
from batchfuse.report.progress import FusedTile, Progress
from batchfuse.report.report import Outcome, versions
from batchfuse.report.signed import refuse_unsigned
from batchfuse.scene_layout import layout_of
from batchfuse.scene_tasks import Each, fused_tiles, read_cut
from batchfuse.source_contents import (
    compared_contents,
    foreign_contents,
    forget_contents,
    keep_contents,
    sampled,
)
from batchfuse.storage.beside import quicklook_path
from batchfuse.storage.check import Fault, check_chunks, check_store
from batchfuse.storage.digests import Digest
from batchfuse.storage.files import full, lacks_room, refusals
from batchfuse.storage.pyramid import begun_level, levels_of
from batchfuse.storage.removal import refuse_foreign, refuse_foreign_levels, remove_levels, remove_store
from batchfuse.storage.repair import (
    forget_faults,
    has_noted_faults,
    is_whole,
    note_faults,
    record_of,
    restore_metadata,
    take_out,
    was_sealed,
)
from batchfuse.storage.store import Store, is_store, refuse_links
from batchfuse.task import (
    Compute,
    Work,
    compared_window,
    encoding,
    level_tile,
    survey_tile,
    thumbnail_tile,
)

__all__ = ["SceneRun", "is_fused", "stored_survey"]

ONE_PICTURE = threading.Lock()
"""Held while a picture is made: of several scenes at once they would need memory that no plan counts."""

T = TypeVar("T")


@dataclass
class SceneRun:
    """One scene from its first statistics to its seal."""

    cluster: Cluster
    compute: Compute
    overwrite: bool
    progress: Progress
    job: Job
    pace: Pace = field(default_factory=Pace)
    scalings: tuple[Scaling, ...] = ()
    fused: int = 0
    told: int = 0
    bytes: int = 0
    notes: list[str] = field(default_factory=list)
    exports: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    remakes_levels: bool = False
    checksum: bool = False
    retries: int = 0
    begun: bool = False
    digests: dict[Path, Digest] = field(default_factory=dict)
    """Of the chunks of the image and its levels, by their files: told by whoever wrote or read them."""
    compared: tuple[str, ...] = ()
    """What was compared of sources that lie elsewhere now, or could not be compared."""
    mine: set[Path] = field(default_factory=set)
    """The chunks of the image that this run set out to write."""

    def run(self) -> Outcome:
        """Continues the scene's store, or begins it; repairs what is known to be wrong with it.

        It may be called again after a PassingError.
        """
        self.notes.clear()
        self.exports.clear()
        try:
            return self._run()
        except DamagedError as error:
            # which the next run has to know, and would not find by itself
            note_faults(self.job.store, [Fault(self.job.store, "damaged", str(error))])
            raise
        except ChangedError:
            self._forget_tiles()
            raise

    def _run(self) -> Outcome:
        job = self.job
        store = self._continued()
        kept = store is not None and store.complete and not store.unwritten(job.tiling) and not self.repaired
        work = self._work(store)
        self.notes += encoding(work).doubts(job.reference, work.scalings[job.scene.reference])
        if store is None:
            store = self._created(work)
            self.begun = True
        self._fuse(work, store)
        self._refuse_changed_sources()
        if not kept:
            self._compare(work)
        self._reduce(work, store)
        if self.fused:
            store.sweep()  # what workers left that were killed while they wrote
        store.seal(self.digests)
        self._quicklook(work)
        self._export()
        forget_faults(job.store)
        return self.outcome("kept", "; ".join(self.compared) or None) if kept else self.outcome("complete")

    def outcome(self, status: str, reason: str | None = None) -> Outcome:
        """What became of the scene so far."""
        job = self.job
        found = [warning for scaling in self.scalings for warning in scaling.warnings]
        return Outcome(
            scene=job.scene.name,
            status=status,
            reason=reason,
            store=str(job.store) if status in ("complete", "kept") else None,
            tiles=len(job.tiling),
            fused=self.fused,
            bytes=self.bytes,
            scaling={
                source.role: scaling.to_dict()
                for source, scaling in zip(job.scene.sources, self.scalings, strict=False)
            },
            differences=job.differences,
            warnings=(*job.warnings, *found, *self.notes),
            exports=tuple(self.exports),
            repaired=tuple(self.repaired),
            retries=self.retries,
        )

    def _continued(self) -> Store | None:
        """The store an earlier run of the same recipe left, or None; refuses any other."""
        job = self.job
        refuse_links(job.store)
        if not job.store.exists():
            return None
        if self.overwrite and (is_store(job.store) or record_of(job.store) is None):
            refuse_foreign(job.store)
            refuse_foreign_levels(job.store)
            return None
        if has_noted_faults(job.store) or not is_whole(job.store):
            return self._mended()
        store = Store.open(job.store)
        self._refuse_other(store.record)
        return store

    def _refuse_other(self, record: Mapping[str, Any]) -> None:
        """StoreError where the store was made otherwise than is asked now."""
        changed = changes(record, self._record()) or other_ranges(record, self._ranges())
        self.notes += foreign_contents(self.job.store) if self.checksum else ()
        if not changed:  # what tells others needs no reading
            job = self.job
            found = compared_contents(job.store, record, job.record, job.scene.sources, self.checksum)
            changed, self.compared = list(found.changed), found.told
            self.notes += found.told
        if changed:
            raise StoreError(
                f"{self.job.store} was made otherwise ({'; '.join(changed)}): give another `output.path`, "
                "or --overwrite to replace it"
            )

    def _refuse_changed_sources(self) -> None:
        """ChangedError where a source was changed meanwhile: tiles of both would stand side by side."""
        for source in self.job.scene.sources if self.fused else ():
            refuse_changed(source)

    def _forget_tiles(self) -> None:
        """Deletes the tiles that this run has fused, or the store where it has begun that."""
        if self.begun:
            remove_store(self.job.store)
        with refusals(f"{self.job.store} can't be rid of tiles of changed sources"):
            for path in self.mine:
                path.unlink(missing_ok=True)

    def _mended(self) -> Store:
        """The store of an earlier run without whatever is wrong with it: what is missing then is made again.

        Every byte of it is read, since a seal vouches for each. Raises StoreError where its record is lost,
        and with it what made its tiles.
        """
        path = self.job.store
        record = record_of(path)
        if record is None:
            Store.open(path)  # says what is the matter, or:
            raise StoreError(
                f"{path} is damaged: the files of its metadata say different things of how it was made: "
                "--overwrite replaces the store"
            )
        self._refuse_other(record)
        sealed = was_sealed(path)
        self.scalings, surveys = survey_of(path, record)
        work = Work(uuid.uuid4().hex, self.job, self.scalings, surveys, self.compute)
        wrong = restore_metadata(path, layout_of(work), record, sealed)
        self.repaired += [f"{name} was not right" for name in wrong]
        store = Store.open(path)
        store.sweep()
        checked = check_store(path, self._checking, self.digests)
        taken = take_out(store, checked.faults, sealed)
        self.digests = dict(checked.chunks)
        self.repaired += taken.repaired
        self.notes += taken.left
        self.remakes_levels |= taken.levels
        return store

    def _checking(self, function: Callable[[Any], T], items: Iterable[Any]) -> Iterator[T]:
        return self._mapped("check", function, [(item,) for item in items])

    def _work(self, store: Store | None) -> Work:
        """All that must be known of the whole scene: from the store, else counted and surveyed now."""
        job = self.job
        if store is not None:
            self.scalings, found_before = survey_of(store.path, store.record)
            return Work(uuid.uuid4().hex, job, self.scalings, found_before, self.compute)
        self.scalings = self._statistics()
        work = Work(uuid.uuid4().hex, job, self.scalings, (), self.compute)
        if job.survey_tiling is None:
            return work
        tiles = self._mapped("survey", survey_tile, [(work, tile.index) for tile in job.survey_tiling])
        return replace(work, surveys=reduce(_merged, tiles))

    def _statistics(self) -> tuple[Scaling, ...]:
        job, mapped = self.job, partial(self._mapped, "statistics")
        parts = zip(job.scene.sources, job.alignments, job.ranges, strict=True)
        return tuple(
            measured_scaling(source, alignment, ranges.range, ranges.percentiles, mapped)
            for source, alignment, ranges in parts
        )

    def _ranges(self) -> dict[str, tuple[float, float]]:
        """The ranges that are known before any pixel is read."""
        pairs = zip(self.job.scene.sources, self.job.ranges, strict=True)
        return {source.role: ranges.range for source, ranges in pairs if ranges.range is not None}

    def _record(self) -> dict[str, Any]:
        precision = resolved_precision(self.compute.precision)
        return {**self.job.record, "precision": precision, "version": versions()["batchfuse"]}

    def _created(self, work: Work) -> Store:
        """A new store with its record, the survey included: whatever continues it needs no pass before."""
        job = self.job
        sources = [
            {**source, "scaling": scaling.to_dict()}
            for source, scaling in zip(sampled(job.record, job.scene.sources), work.scalings, strict=True)
        ]
        record = {**self._record(), "sources": sources, "survey": _survey(work)}
        if self.overwrite:
            remove_store(job.store)
        remove_levels(job.store)  # of an image that is no more
        self.digests.clear()
        forget_faults(job.store)
        if self.checksum:
            self.notes += foreign_contents(job.store)
            keep_contents(job.store, job.scene.sources)
        else:
            forget_contents(job.store)
        return Store.create(job.store, layout_of(work), record)

    def _fuse(self, work: Work, store: Store) -> None:
        name, progress = self.job.scene.name, self.progress
        sizes = {tile.index: tile.core.size for tile in store.unwritten(self.job.tiling)}
        self.mine |= {store.chunk_path(index) for index in sizes}
        there = len(self.job.tiling) - len(sizes)
        if sizes:
            progress.phase(name, FUSING, min(self.told, there), len(self.job.tiling))
        # of a scene that is tried again, those that were told of before are not told again
        progress.skip(name, max(0, there - self.told))
        self.told = max(self.told, there)
        groups = self.pace.groups(FUSING, list(sizes), self.cluster.slots)
        try:
            for group in self.cluster.map(fused_tiles, ((work, some) for some in groups)):
                self.pace.learn(FUSING, len(group.tiles), sum(seconds for *_, seconds in group.tiles))
                self.notes += [note for note in group.notes if note not in self.notes]
                if group.fault is not None:
                    progress.warn(None, group.fault)
                for index, digest, began, seconds in group.tiles:
                    self.digests[store.chunk_path(index)] = digest
                    self.fused += 1
                    self.told += 1
                    self.bytes += digest.size
                    by = group.worker, group.worker_name
                    progress.tile(name, FusedTile(index, sizes[index], digest.size, *by, began, seconds))
        except BlamedError as error:
            indices = error.item[1] if error.item else ()
            # they are fused in this order: the first that is not there ended the workers
            guilty = next((index for index in indices if not store.is_written(index)), "of the scene")
            raise BlamedError(f"tile {guilty} {error}") from error

    def _compare(self, work: Work) -> None:
        """Notes a source that seems to lie elsewhere than its header says; it changes no pixel.

        Of volumes nothing is noted: MRI and PET share too few edges to be compared so.
        """
        if self.job.is_volume:
            return
        scene, alignments = self.job.scene, self.job.alignments
        assert isinstance(scene.grid, Grid)
        offsets: dict[int, list[Offset | None]] = {
            i: [] for i in range(len(scene.sources)) if i != scene.reference
        }
        items = [
            (work, i, window)
            for i in offsets
            for window in compared_windows(
                scene.grid.shape, coarseness([alignments[i], alignments[scene.reference]])
            )
        ]
        for i, offset in self._mapped("registration", compared_window, items):
            offsets[i].append(offset)
        self.notes += misregistrations(scene, offsets)

    def _reduce(self, work: Work, store: Store) -> None:
        """Makes the levels of the pyramid that are not there, each from the one below it."""
        below = store.path
        wanted = self.job.pyramid or self.remakes_levels
        for number, level in enumerate(levels_of(store) if wanted else (), start=1):
            reduced = begun_level(store, level)
            if not reduced.complete:
                self._look_at_begun(store, reduced)
            items = [(work, below, level.path, tile.index) for tile in reduced.unwritten(reduced.tiling)]
            for index, digest in self._mapped(f"level {number}", level_tile, items):
                self.digests[reduced.chunk_path(index)] = digest
                self.bytes += digest.size
            reduced.seal(self.digests)
            below = level.path

    def _look_at_begun(self, store: Store, level: Store) -> None:
        """Learns the digests of the chunks of a level that an earlier run left; what is damaged goes."""
        missing = {tile.index for tile in level.unwritten(level.tiling)}
        there = [tile for tile in level.tiling if tile.index not in missing]
        there = [tile for tile in there if level.chunk_path(tile.index) not in self.digests]
        for chunk in check_chunks(level, there, self._checking):
            if chunk.digest is not None:
                self.digests[chunk.path] = chunk.digest
            elif chunk.fault is not None:
                self.repaired += take_out(store, [chunk.fault]).repaired

    def _quicklook(self, work: Work) -> None:
        """Pictures the scene, unless an earlier run did: a picture that fails spoils no fused image.

        Raises StoreError where it finds that a tile of the store is damaged; BugError.
        """
        job = self.job
        path = quicklook_path(job.store)
        try:
            refuse_unsigned(path, "quicklook")
            if path.exists() and not self.fused:
                return
            with ONE_PICTURE:
                doubt = self._draw_cuts(work, path) if job.is_volume else self._draw_mosaic(work, path)
        except Exception as error:
            doubt = _without_picture(path, error)
        finally:
            give_memory_back()
        if doubt:
            self.notes.append(doubt)

    def _draw_mosaic(self, work: Work, path: Path) -> str | None:
        """The quicklook of rasters; a line if no pixel of the fused image is valid."""
        job = self.job
        assert isinstance(job.scene.grid, Grid)
        mosaic = Mosaic.of(job.scene.grid.shape, len(job.scene.sources) + 1)
        items = [(work, tile.index, mosaic.step) for tile in job.tiling]
        for pieces in self._mapped("quicklook", thumbnail_tile, items):
            mosaic.add(pieces)
        draw_quicklook(job, work.scalings, mosaic, path)
        empty = mosaic.is_empty()
        return "the fused image has no valid pixel: the sources' valid parts don't meet" if empty else None

    def _draw_cuts(self, work: Work, path: Path) -> str | None:
        """The quicklook of volumes; a line if no voxel of the fused volume's cuts is valid."""
        grid = self.job.scene.grid
        assert isinstance(grid, VolumeGrid)
        places = [source.place for source in self.job.scene.sources]
        voxel = chosen_voxel(grid, [place for place in places if isinstance(place, VolumeGrid)])
        windows = [slice_of(grid, plane, voxel) for plane in PLANES]
        # in the order they come, which is not that of the planes
        found = dict(self._mapped("quicklook", read_cut, [(work, window) for window in windows]))
        cuts = [found[window] for window in windows]
        images = [dict(zip(PLANES, three, strict=True)) for three in zip(*cuts, strict=True)]
        draw_cuts(self.job, grid, work.scalings, images, voxel, path)
        empty = all(np.isnan(cut).all() for cut in images[-1].values())
        # the three cuts are all that was read: what lies beside them is not known
        return "the quicklook's cuts have no valid voxel: look whether the sources meet" if empty else None

    def _export(self) -> None:
        """Makes what the recipe wants beside the store, each as one task; what is there alike is kept."""
        for name in outdated(self.job.store, self.job.exports) if self.fused else ():
            self.notes.append(f"{name} beside it shows an earlier image: export it again, or delete it")
        items = [(self.job.store, wanted, self.fused > 0) for wanted in self.job.exports]
        try:
            for exported in self._mapped("export", export_again, items):
                self.exports.append(str(exported.path))
                self.notes += [f"{exported.path.name}: {line}" for line in exported.warnings]
        except (DamagedError, FullError, PassingError):  # each of which says what is to be done
            raise
        except BugError as error:
            raise error.after("the fused image is complete, but an export failed") from error
        except SceneError as error:
            raise SceneError(f"the fused image is complete, but an export failed: {error}") from error
        self.exports.sort()

    def _mapped(
        self, phase: str, function: Callable[..., T], items: Sequence[tuple[Any, ...]]
    ) -> Iterator[T]:
        """The results of a phase other than fusing, in the order they come, with its progress told."""
        name, done = self.job.scene.name, 0
        if items:
            self.progress.phase(name, phase, done, len(items))
        groups = self.pace.groups(phase, items, self.cluster.slots)
        task = Each(function, name, phase)
        try:
            for results, seconds in self.cluster.map(task, ((some,) for some in groups)):
                self.pace.learn(phase, len(results), seconds)
                for result in results:
                    done += 1
                    self.progress.phase(name, phase, done, len(items))
                    yield result
        except BlamedError as error:
            group = error.item[0] if error.item else ()
            indices = [part for item in group for part in item if isinstance(part, tuple)]
            others = f" or one of {len(indices) - 1} after it" if len(indices) > 1 else ""
            raise BlamedError(
                f"{phase}{f', tile {indices[0]}{others}' if indices else ''}: {error}"
            ) from error


def _without_picture(path: Path, error: Exception) -> str:
    """What is noted of a picture that could not be made; what is worse than that is raised."""
    refused = error if isinstance(error, OSError) else refusal_of(error)
    if isinstance(refused, StoreError):
        raise refused
    if isinstance(refused, BugError):
        raise refused.after("the fused image is complete, but its quicklook failed") from error
    if is_full(refused) or (isinstance(refused, OSError) and lacks_room(path.parent)):
        raise full(f"{path} can't be written") from None
    return f"no quicklook ({refused}): the fused image is complete"


def _merged(some: tuple[Survey, ...], others: tuple[Survey, ...]) -> tuple[Survey, ...]:
    """The surveys of two parts of the scene, one a stack."""
    return tuple(one.merge(other) for one, other in zip(some, others, strict=True))


def is_fused(job: Job) -> bool:
    """Whether the scene's store is complete and nothing is known to be wrong with it, whatever made it."""
    path = job.store
    try:
        if not is_store(path) or has_noted_faults(path) or not is_whole(path):
            return False
        store = Store.open(path)
        return store.complete and not store.unwritten(job.tiling)
    except SceneError:
        return False


def _survey(work: Work) -> Any:
    """The survey as JSON: none, one, or one a stack where there are several (bands, or planes)."""
    surveys = [survey.to_json() for survey in work.surveys]
    return surveys if len(surveys) > 1 else next(iter(surveys), None)


def stored_survey(store: Store) -> tuple[tuple[Scaling, ...], tuple[Survey, ...]]:
    """What an earlier run found of the whole scene."""
    return survey_of(store.path, store.record)


def survey_of(path: Path, record: Mapping[str, Any]) -> tuple[tuple[Scaling, ...], tuple[Survey, ...]]:
    """What the record of the store at ``path`` says of the whole scene; StoreError where it is damaged."""
    try:
        scalings = tuple(Scaling.from_dict(source["scaling"]) for source in record["sources"])
        survey = record["survey"]
        surveys = survey if isinstance(survey, list) else [survey] if survey is not None else []
        return scalings, tuple(map(survey_from_json, surveys))
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{path} is damaged: its record lacks {error}; --overwrite replaces the store"
        ) from error
