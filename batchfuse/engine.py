"""A run: every scene of a plan over a cluster, several at a time, and the report of it."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

from batchfuse.campaign import ready
from batchfuse.cluster import Cluster, Stopped
from batchfuse.errors import RecipeError, SceneError
from batchfuse.fusion.device import resolved_device
from batchfuse.machine import cores
from batchfuse.plan import Job, Plan, make_plan
from batchfuse.recipe import Profile, Recipe
from batchfuse.report.progress import Progress, Silence, duration
from batchfuse.report.report import Outcome, Report, check_writable
from batchfuse.scene_run import SceneRun
from batchfuse.task import Compute

__all__ = ["run", "run_plan"]

PATIENCE = 0.2  # seconds between looks at whether the run was interrupted


def run(
    recipe: Recipe,
    profile: Profile | None = None,
    *,
    only: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Plans and fuses a recipe; what an earlier run completed is kept, what it left is continued.

    Args:
        recipe: what is wanted.
        profile: where it runs; this machine's cores without one.
        only: a glob of scene names.
        overwrite: whether a store that another recipe, weights or inputs made is replaced.
        progress: told of each step.

    Raises:
        RecipeError: the recipe or the profile is wrong; nothing was started.
    """
    plan = make_plan(recipe, only)
    return run_plan(plan, profile, overwrite=overwrite, progress=progress)


def run_plan(
    plan: Plan,
    profile: Profile | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Fuses every scene of a plan and writes report.json beside the stores, also where the run breaks off."""
    profile = profile or Profile()
    told = progress or Silence()
    folder = plan.recipe.output_folder
    _prepare(folder)
    device = str(resolved_device(profile.device))
    started = time.monotonic()
    told.begin(len(plan.jobs) + len(plan.failures), plan.tiles)
    runner = _Runner(overwrite, told)
    for failure in plan.failures:
        runner.tell(Outcome(failure.scene, "failed", failure.reason))
    stop_early = plan.recipe.on_error == "fail"
    try:
        if not (stop_early and plan.failures):
            with Cluster(profile) as cluster:
                # the network's own threads take the cores that tiles at once leave idle
                threads = max(1, cores() // min(cluster.threads, max(1, plan.tiles)))
                jobs = runner.ready(cluster, plan, stop_early)
                runner.run(cluster, Compute(device, profile.precision, threads), jobs, stop_early)
    finally:
        left = [
            Outcome(j.scene.name, "not started") for j in plan.jobs if j.scene.name not in runner.outcomes
        ]
        report = Report(
            outcomes=tuple(sorted([*runner.outcomes.values(), *left], key=lambda o: o.scene)),
            unmatched=tuple((str(u.path), u.reason) for u in plan.unmatched),
            seconds=time.monotonic() - started,
            device=device,
            interrupted=runner.interrupted,
            warnings=runner.warnings,
            recipe_folder=str(plan.recipe.folder.resolve()),
        )
        report.write(folder / "report.json")
    return report


def _prepare(folder: Path) -> None:
    """The output folder, which must be there and writable before an hour is spent."""
    probe = folder / f".{uuid.uuid4().hex}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RecipeError(
            f"the output folder {folder} can't be written ({error.strerror}): give another `output.path`"
        ) from error
    check_writable(folder / "report.json")
    for left in folder.glob("*.partial"):  # of pictures and reports that a killed run was writing
        left.unlink(missing_ok=True)


@dataclass
class _Runner:
    """Drives scenes over a cluster, several at a time so that none of its threads waits for a scene's end."""

    overwrite: bool
    progress: Progress
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    interrupted: bool = False
    warnings: tuple[str, ...] = ()
    halted: threading.Event = field(default_factory=threading.Event)

    def ready(self, cluster: Cluster, plan: Plan, stop_early: bool) -> tuple[Job, ...]:
        """The plan's jobs, with one range for the campaign where the recipe asks for it."""
        try:
            found = ready(plan, cluster, self.overwrite, self.progress)
        except (KeyboardInterrupt, Stopped):
            self.interrupted = True
            return ()
        self.warnings = found.warnings
        tiles = {job.scene.name: len(job.tiling) for job in plan.jobs}
        for failure in found.failures:
            self.progress.skip(failure.scene, tiles[failure.scene])
            self.tell(Outcome(failure.scene, "failed", failure.reason))
        return () if stop_early and found.failures else found.jobs

    def run(self, cluster: Cluster, compute: Compute, jobs: Sequence[Job], stop_early: bool) -> None:
        """Fills ``outcomes``; a bug stops the other scenes, and keeps its traceback."""
        drivers = max(1, min(len(jobs), cluster.threads + 1))
        with ThreadPoolExecutor(drivers, thread_name_prefix="scene") as pool:
            try:
                pending = {pool.submit(self._drive, cluster, compute, job) for job in jobs}
                while pending:
                    done, pending = wait(pending, timeout=PATIENCE, return_when=FIRST_COMPLETED)
                    for future in done:
                        outcome = future.result()
                        if stop_early and outcome is not None and outcome.status == "failed":
                            self._halt(
                                cluster, f"{outcome.scene} failed, and the recipe says `on_error: fail`"
                            )
            except KeyboardInterrupt:
                self.interrupted = True
                self._halt(cluster, "the run was interrupted")
            except BaseException:
                self._halt(cluster, "another scene broke off the run")
                raise

    def tell(self, outcome: Outcome) -> None:
        """Keeps an outcome, and says it."""
        self.outcomes[outcome.scene] = outcome
        self.progress.end(outcome.scene, _line(outcome))

    def _halt(self, cluster: Cluster, reason: str) -> None:
        self.halted.set()
        cluster.stop(reason)

    def _drive(self, cluster: Cluster, compute: Compute, job: Job) -> Outcome | None:
        """One scene, its refusals as an outcome; None where the run was stopped before."""
        if self.halted.is_set():
            return None
        started = time.monotonic()
        scene = SceneRun(cluster, compute, self.overwrite, self.progress, job)
        try:
            outcome = scene.run()
        except SceneError as error:
            self.progress.skip(job.scene.name, len(job.tiling) - scene.told)
            outcome = scene.outcome("failed", str(error))
        except Stopped as stopped:
            outcome = scene.outcome("interrupted", f"{stopped}: run it again to continue")
        outcome = replace(outcome, seconds=round(time.monotonic() - started, 3))
        self.tell(outcome)
        return outcome


def _line(outcome: Outcome) -> str:
    if outcome.status == "failed":
        return f"failed: {outcome.reason}"
    if outcome.status == "kept":
        return "complete before, kept"
    if outcome.status == "interrupted":
        return f"interrupted after {outcome.fused} of {outcome.tiles} tiles: {outcome.reason}"
    return f"complete, {outcome.fused} of {outcome.tiles} tiles fused in {duration(outcome.seconds)}"
