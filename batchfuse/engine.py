"""A run: every scene of a plan over a cluster, several at a time, and the report of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from batchfuse.budget import memory_of, told_want, windows_of_a_tile, within_memory
from batchfuse.campaign import ready
from batchfuse.cluster import Cluster, Demand, Stopped, Worker, opened_cluster
from batchfuse.errors import (
    FullError,
    LostError,
    PassingError,
    RecipeError,
    SceneError,
    StoreError,
    bugs_told,
    said,
)
from batchfuse.imagery.naming import natural_order
from batchfuse.job import Job
from batchfuse.pace import Pace
from batchfuse.plan import Plan, claimed, make_plan, planned_again
from batchfuse.recipe import Profile, Recipe
from batchfuse.report.progress import Progress, Silence, counted, duration
from batchfuse.report.report import KIND, Outcome, Report
from batchfuse.retries import Retries
from batchfuse.scene_run import SceneRun, is_fused
from batchfuse.storage.beside import REPORT
from batchfuse.storage.lease import Lease, holder_of
from batchfuse.storage.store import refuse_within_store
from batchfuse.system.claims import Claims
from batchfuse.system.notes import Place, place_of
from batchfuse.system.partials import partial_path, sweep
from batchfuse.task import Compute

__all__ = ["RETRIES", "run", "run_plan", "unfinished"]

RETRIES = 2
"""How often a scene is tried again after what may pass."""
PATIENCE = 0.2  # seconds between looks at whether the run was interrupted
REPORTED = 5.0  # seconds between versions of report.json
NAMED = 3  # things repaired that a line names


def run(
    recipe: Recipe,
    profile: Profile | None = None,
    *,
    only: str | None = None,
    overwrite: bool = False,
    only_failed: bool = False,
    retries: int = RETRIES,
    checksum: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Plans and fuses a recipe; what an earlier run completed is kept, what it left is continued.

    Args:
        recipe: what is wanted.
        profile: where it runs; this machine's cores without one.
        only: a glob of scene names.
        overwrite: whether a store that another recipe, weights or inputs made is replaced.
        only_failed: whether only scenes are fused that the last run did not complete, by its report.json.
        retries: how often a scene is tried again after what may pass: reading and writing, not bad data.
        checksum: whether all bytes of the sources are compared with those of the run that began a store.
        progress: told of each step.

    Raises:
        RecipeError: the recipe or the profile is wrong; nothing was started.
    """
    plan = make_plan(recipe, only, names=unfinished(recipe.output_folder) if only_failed else None)
    return run_plan(plan, profile, overwrite=overwrite, retries=retries, checksum=checksum, progress=progress)


def run_plan(
    plan: Plan,
    profile: Profile | None = None,
    *,
    overwrite: bool = False,
    retries: int = RETRIES,
    checksum: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Fuses every scene of a plan; report.json beside the stores tells how far it is, and how it ended.

    The first KeyboardInterrupt stops it: the tiles in hand are finished, and the report says so. A second
    one ends it at once, and is raised again.

    Raises:
        RecipeError: the profile or the output folder can't be used, or a tile needs more memory than allowed.
        BusyError: another run writes into the output folder.
    """
    profile = within_memory(plan.jobs, profile or Profile())
    folder = plan.recipe.output_folder
    claims = plan.claims or claimed(plan)
    scheduler = profile.located(profile.cluster) if profile.cluster.endswith(".json") else None
    for path, what in ((profile.file, "the profile"), (scheduler, "the scheduler file")):
        if path is not None:
            claims.read(path, what)
    _refuse_within_store(folder)
    _prepare(folder)
    if profile.is_elsewhere:
        plan = plan.absolute()
    runner = _Runner(plan, profile, claims, overwrite, progress or Silence(), retries, checksum)
    with Lease(folder, on_loss=runner.halt):
        with suppress(OSError):  # what a killed run left half written, but not where a `fuse` is at work
            sweep(folder, spared=lambda path: holder_of(path) is not None)
        runner.found(_place_of_report(folder))
        try:
            runner.run()
        except KeyboardInterrupt:
            runner.interrupted = True
            raise
        finally:
            report = runner.report(finished=True)
            runner.write(report)
    return report


def _refuse_within_store(folder: Path) -> None:
    try:
        refuse_within_store(folder / REPORT)
    except StoreError as error:
        raise RecipeError(f"`output.path`: {error}") from None


def _prepare(folder: Path) -> None:
    """The output folder, which must be there and writable before an hour is spent."""
    probe = partial_path(folder / "probe")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RecipeError(
            f"the output folder {folder} can't be written ({error.strerror}): give another `output.path`"
        ) from error


def _place_of_report(folder: Path) -> Place:
    try:
        return place_of(folder / REPORT, KIND)
    except OSError as error:
        raise RecipeError(
            f"{folder / REPORT} can't be read ({error.strerror}): is its disk or network there?"
        ) from error


@dataclass
class _Runner:
    """Drives scenes over a cluster, several at a time so that no worker waits for a scene's end."""

    plan: Plan
    profile: Profile
    claims: Claims
    overwrite: bool
    progress: Progress
    retries: int
    checksum: bool
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    running: dict[str, SceneRun] = field(default_factory=dict)
    interrupted: bool = False
    warnings: tuple[str, ...] = ()
    place: Path = Path(REPORT)
    halted: threading.Event = field(default_factory=threading.Event)
    pace: Pace = field(default_factory=Pace)
    _halting: threading.Lock = field(default_factory=threading.Lock)
    _bugs: dict[tuple[str, ...], str] = field(default_factory=dict)
    _cluster: Cluster | None = None
    _clock: float = field(default_factory=time.monotonic)
    _started: float = field(default_factory=time.time)
    _written: float = 0.0
    _pause: float = REPORTED
    _replanned: Retries | None = None
    _fused_before: frozenset[str] = frozenset()
    _planned: float = field(default_factory=time.monotonic)

    def found(self, place: Place) -> None:
        """Takes where its report goes."""
        self.place = place.path
        self.warnings = place.left

    def run(self) -> None:
        """Fills ``outcomes``.

        Scenes whose headers can't be read for now hold up no other: they are planned again after those, but
        for the campaign's ranges, which are of all scenes.
        """
        plan = self.plan
        self.progress.begin(len(plan.jobs) + len(plan.failures), plan.tiles)
        self._tell_failures(passing=self.retries == 0)
        self._write_report()
        if self.outcomes and plan.recipe.on_error == "fail":
            return
        if plan.recipe.scaling == "campaign":
            while self._planned_again():
                pass
        self._run_jobs()
        while self._planned_again():
            self._run_jobs()
        self._tell_failures(passing=True)

    def _tell_failures(self, passing: bool) -> None:
        """Tells the failures of the plan that were not told; those that may pass only if asked to."""
        for failure in self.plan.failures:
            if failure.scene not in self.outcomes and (passing or failure.found is None):
                tries, behind = self._tries_of_plan, failure.behind
                self.tell(Outcome(failure.scene, "failed", failure.reason, retries=tries, traceback=behind))

    def _planned_again(self) -> bool:
        """Plans the scenes that wait once more, after a pause; whether there were any, and may be again."""
        waiting = self.plan.waiting
        if not waiting or self.interrupted or self.halted.is_set():
            return False
        if self._replanned is None:
            self._replanned = Retries(self.retries, self.halted, self.progress.retry)
        more = f" (and {counted(len(waiting) - 1, 'scene')} more)" if len(waiting) > 1 else ""
        try:
            if not self._replanned.again(waiting[0].scene, f"{waiting[0].reason}{more}", self._planned):
                return False
        except KeyboardInterrupt:
            self.interrupted = True
            return False
        if self.halted.is_set():
            return False
        before = self.plan.tiles
        self.plan = planned_again(self.plan, self.claims)
        if self.profile.is_elsewhere:
            self.plan = self.plan.absolute()
        self._planned = time.monotonic()
        self.progress.more(self.plan.tiles - before)
        self._tell_failures(passing=False)
        return True

    @property
    def _tries_of_plan(self) -> int:
        return 0 if self._replanned is None else self._replanned.done

    def _run_jobs(self) -> None:
        """Drives the scenes of the plan that have no outcome yet."""
        jobs = tuple(job for job in self.plan.jobs if job.scene.name not in self.outcomes)
        failed = any(outcome.status == "failed" for outcome in self.outcomes.values())
        if not jobs or (failed and self.plan.recipe.on_error == "fail"):
            return
        try:
            profile = within_memory(jobs, self.profile)
        except RecipeError as error:  # of scenes that were planned late: the others are fused
            for job in jobs:
                self.progress.skip(job.scene.name, len(job.tiling))
                self.tell(Outcome(job.scene.name, "failed", str(error)))
            return
        plan = replace(self.plan, jobs=jobs)
        if profile.starts_workers and not self.overwrite:
            self._fused_before = frozenset(job.scene.name for job in jobs if is_fused(job))
            if len(self._fused_before) == len(jobs):  # which can be said without a queue's wait
                profile = Profile(device="cpu", precision=profile.precision)
        if want := told_want(plan.jobs, profile):
            self.progress.warn(None, want)
        with opened_cluster(profile, self._demand(plan, profile)) as cluster:
            self._cluster = cluster
            if len(self.workers) > 1 or profile.cluster != "threads":
                self.progress.note(_introduced(self.workers))
            if cluster.pool.dashboard is not None:
                self.progress.note(f"dashboard: {cluster.pool.dashboard}")
            windows = cluster.pool.windows_each(plan.tiles)
            if windows is not None:
                windows = windows_of_a_tile(plan.jobs, profile, windows)
            compute = Compute(cluster.pool.device, self.profile.precision, windows)
            if (ranged := self._measured(cluster, plan)) is not None:
                self._drive_all(cluster, compute, ranged)

    @property
    def workers(self) -> Sequence[Worker]:
        """The processes that have fused so far."""
        return self._cluster.pool.workers if self._cluster is not None else ()

    def _demand(self, plan: Plan, profile: Profile) -> Demand:
        return Demand(
            folder=self.plan.recipe.output_folder.resolve(),
            memory=lambda: memory_of(plan.jobs, profile),
            tiles_left=self._tiles_left,
            tell=self.progress.note,
            halt=self.halt,
        )

    def _tiles_left(self) -> int:
        """Tiles that are neither there nor given up; one at least of each scene that is not sealed yet.

        What comes after its tiles, such as the quicklook, wants a worker, too. None where the run is stopped.
        """
        if self.halted.is_set():
            return 0
        told = {name: scene.told for name, scene in list(self.running.items())}
        left = {job.scene.name: len(job.tiling) for job in self.plan.jobs}
        done = self.outcomes.keys() | self._fused_before
        return sum(max(1, n - told.get(name, 0)) for name, n in left.items() if name not in done)

    def halt(self, reason: str) -> None:
        """Begins no further tile; the scenes under way end as interrupted, for this reason."""
        self.halted.set()
        if self._cluster is not None:
            self._cluster.stop(reason)

    def _halted_first(self, reason: str) -> bool:
        """Halts the run; whether nothing else had."""
        with self._halting:
            first = not self.halted.is_set()
            self.halted.set()
        if first:
            self.halt(reason)
        return first

    def _measured(self, cluster: Cluster, plan: Plan) -> tuple[Job, ...] | None:
        """The jobs, with the ranges of the campaign where the recipe asks for it; None to go no further."""
        retries = Retries(self.retries, self.halted, self.progress.retry)
        try:
            found = ready(plan, cluster, self.overwrite, self.progress, retries)
        except KeyboardInterrupt:
            self.interrupted = True
            return None
        except Stopped:
            return None
        self.warnings = tuple(dict.fromkeys((*self.warnings, *found.warnings)))
        tiles = {job.scene.name: len(job.tiling) for job in plan.jobs}
        for failure in found.failures:
            self.progress.skip(failure.scene, tiles[failure.scene])
            tries, behind = retries.done, failure.behind
            self.tell(Outcome(failure.scene, "failed", failure.reason, retries=tries, traceback=behind))
        if found.failures and plan.recipe.on_error == "fail":
            return None
        return found.jobs

    def tell(self, outcome: Outcome) -> None:
        """Keeps an outcome, and says it; the traceback of a bug only once, however many scenes met it."""
        if outcome.traceback:
            places = tuple(line for line in outcome.traceback.splitlines() if line.startswith("  File "))
            if self._bugs.setdefault(places, outcome.scene) != outcome.scene:
                outcome = replace(outcome, traceback=None)
        self.outcomes[outcome.scene] = outcome
        self.progress.end(outcome, _line(outcome))
        for warning in outcome.warnings if outcome.fused or outcome.repaired else ():
            self.progress.warn(outcome.scene, warning)

    def report(self, finished: bool) -> Report:
        """What became of each scene so far."""
        told = dict(self.outcomes)
        for failure in self.plan.waiting:
            told.setdefault(failure.scene, Outcome(failure.scene, "failed", failure.reason))
        for job in self.plan.jobs:
            name = job.scene.name
            under_way = name in self.running and not finished
            told.setdefault(
                name, Outcome(name, "running" if under_way else "not started", tiles=len(job.tiling))
            )
        return Report(
            outcomes=tuple(sorted(told.values(), key=lambda outcome: natural_order(outcome.scene))),
            unmatched=tuple((str(u.path), u.reason) for u in self.plan.unmatched),
            seconds=time.monotonic() - self._clock,
            device=", ".join(sorted({worker.device for worker in self.workers})),
            cluster=self.profile.cluster,
            workers=tuple((w.name, w.device, w.threads) for w in self.workers),
            started=self._started,
            finished=finished,
            interrupted=self.interrupted,
            warnings=self.warnings,
            recipe_folder=str(self.plan.recipe.folder.resolve()),
            path=str(self.place),
        )

    def write(self, report: Report) -> None:
        """Writes report.json; that the disk is full by now, say, ends no run, and is told."""
        try:
            report.write(self.place)
        except RecipeError as error:
            self.progress.warn(None, str(error))

    def _drive_all(self, cluster: Cluster, compute: Compute, planned: Sequence[Job]) -> None:
        jobs = iter(planned)
        pool = ThreadPoolExecutor(max(1, len(planned)), thread_name_prefix="scene")
        waits = True
        pending: set[Future[Outcome | None]] = set()
        try:
            while True:
                # scenes in the phases before and after fusing leave places free for those that fuse; more
                # are begun once workers have joined
                for job in islice(jobs, max(0, 2 * cluster.slots + 1 - len(pending))):
                    pending.add(pool.submit(self._drive, cluster, compute, job))
                if not pending:
                    break
                pending = self._watched(pending)
        except KeyboardInterrupt:
            waits = False
            raise
        except BaseException as error:  # of all scenes alike: the weights can't be read, say
            self.halt(said(error))
            raise
        finally:
            pool.shutdown(wait=waits, cancel_futures=True)

    def _watched(self, pending: set[Future[Outcome | None]]) -> set[Future[Outcome | None]]:
        """Waits a moment for scenes to end; the first interrupt is taken as a wish to stop."""
        try:
            done, left = wait(pending, timeout=PATIENCE, return_when=FIRST_COMPLETED)
            for future in done:
                outcome = future.result()
                if outcome and outcome.status == "failed" and self.plan.recipe.on_error == "fail":
                    self.halt(f"{outcome.scene} failed, and the recipe says `on_error: fail`")
            if time.monotonic() - self._written > self._pause:
                self._write_report()
        except KeyboardInterrupt:
            if self.interrupted:
                raise
            self.interrupted = True
            self.halt("the run was interrupted")
            self.progress.note("stopping: the tiles in hand are finished first (Ctrl-C again ends at once)")
            return pending
        return left

    def _write_report(self) -> None:
        """Writes report.json as it stands; of a huge campaign so seldom that it costs next to nothing."""
        began = time.monotonic()
        self.write(self.report(finished=False))
        self._written = time.monotonic()
        self._pause = max(REPORTED, 50 * (self._written - began))

    def _drive(self, cluster: Cluster, compute: Compute, job: Job) -> Outcome | None:
        """One scene, its refusals as an outcome; None where the run was stopped before."""
        if self.halted.is_set():
            return None
        name = job.scene.name
        started = time.monotonic()
        scene = SceneRun(cluster, compute, self.overwrite, self.progress, job, self.pace)
        self.running[name] = scene
        scene.checksum = self.checksum
        try:
            outcome = self._tried(scene)
        except (FullError, LostError) as error:
            # no other scene can go on either: it is told once
            why = "the disk is full" if isinstance(error, FullError) else "the scheduler was lost"
            self.progress.skip(name, len(job.tiling) - scene.told)
            if self._halted_first(why):
                outcome = scene.outcome("failed", str(error))
            else:
                outcome = scene.outcome("interrupted", f"{why}: run it again to continue")
        except SceneError as error:
            self.progress.skip(name, len(job.tiling) - scene.told)
            outcome = replace(scene.outcome("failed", str(error)), traceback=error.behind)
        except Stopped as stopped:
            outcome = scene.outcome("interrupted", f"{stopped}: run it again to continue")
        outcome = replace(outcome, seconds=round(time.monotonic() - started, 3))
        self.tell(outcome)
        del self.running[name]
        return outcome

    def _tried(self, scene: SceneRun) -> Outcome:
        """Runs a scene, again and again while what stops it may pass, each time after a longer pause."""
        tries = Retries(self.retries, self.halted, self.progress.retry)
        while True:
            try:
                with bugs_told():
                    return scene.run()
            except PassingError as error:
                if not tries.again(scene.job.scene.name, str(error)):
                    raise
                scene.retries = tries.done
                # what an earlier try of this run has begun is continued
                scene.overwrite = scene.overwrite and not scene.begun


def unfinished(folder: Path) -> frozenset[str]:
    """The scenes that the last run into a folder could not complete, by its report.

    Raises RecipeError where there is no report that says so.
    """
    path = folder / REPORT
    try:
        place = place_of(path, KIND)
    except OSError as error:
        raise RecipeError(f"--only-failed: {path} can't be read ({error.strerror}): run without it") from None
    if place.note is None:
        why = f"there is no report ({'; '.join(place.left)})" if place.left else f"{path} is not there"
        raise RecipeError(f"--only-failed: {why}: run without it first")
    scenes = place.note.values["scenes"]
    return frozenset(scene["scene"] for scene in scenes if scene["status"] not in ("complete", "kept"))


def _introduced(workers: Sequence[Worker]) -> str:
    devices = ", ".join(sorted({worker.device for worker in workers}))
    tiles = counted(sum(worker.threads for worker in workers), "tile")
    return f"{counted(len(workers), 'worker')} on {devices}, {tiles} at a time"


def _line(outcome: Outcome) -> str:
    if outcome.status == "failed":
        return f"failed: {outcome.reason}"
    if outcome.status == "kept":
        compared = f" ({outcome.reason})" if outcome.reason else ""
        return f"complete before, kept{compared}{_exported(outcome)}"
    if outcome.status == "interrupted":
        return f"interrupted after {outcome.fused} of {outcome.tiles} tiles: {outcome.reason}"
    took = duration(outcome.seconds)
    if outcome.repaired:
        named = "; ".join(outcome.repaired[:NAMED]) + ("; …" if len(outcome.repaired) > NAMED else "")
        fused = f"{outcome.fused} of {counted(outcome.tiles, 'tile')} fused again in {took}"
        return f"repaired ({named}), {fused}{_exported(outcome)}"
    return f"complete, {outcome.fused} of {outcome.tiles} tiles fused in {took}{_exported(outcome)}"


def _exported(outcome: Outcome) -> str:
    return f", {counted(len(outcome.exports), 'export')}" if outcome.exports else ""
