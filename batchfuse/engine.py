"""A run: every scene of a plan over a cluster, several at a time, and the report of it."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

from batchfuse.cluster import Cluster, Stopped, cores
from batchfuse.errors import RecipeError, SceneError
from batchfuse.fusion.device import resolved_device
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
    """Fuses every scene of a plan and writes report.json beside the stores."""
    profile = profile or Profile()
    told = progress or Silence()
    _prepare(plan.recipe.output_folder)
    started = time.monotonic()
    told.begin(len(plan.jobs) + len(plan.failures), plan.tiles)
    failed = [Outcome(f.scene, "failed", f.reason) for f in plan.failures]
    for outcome in failed:
        told.end(outcome.scene, f"failed: {outcome.reason}")
    stop_early = plan.recipe.on_error == "fail"
    with Cluster(profile) as cluster:
        # the network's own threads take the cores that tiles at once leave idle
        threads = max(1, cores() // min(cluster.threads, max(1, plan.tiles)))
        device = str(resolved_device(profile.device))
        runner = _Runner(cluster, Compute(device, profile.precision, threads), overwrite, told)
        jobs = () if stop_early and failed else plan.jobs
        outcomes, interrupted = runner.run(jobs, stop_early)
    left = [Outcome(job.scene.name, "not started") for job in plan.jobs[len(outcomes) :]]
    report = Report(
        outcomes=tuple(sorted([*failed, *outcomes, *left], key=lambda o: o.scene)),
        unmatched=tuple((str(u.path), u.reason) for u in plan.unmatched),
        seconds=time.monotonic() - started,
        device=device,
        interrupted=interrupted,
    )
    report.write(plan.recipe.output_folder / "report.json")
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


@dataclass
class _Runner:
    """Drives scenes over a cluster, several at a time so that none of its threads waits for a scene's end."""

    cluster: Cluster
    compute: Compute
    overwrite: bool
    progress: Progress
    halted: threading.Event = field(default_factory=threading.Event)

    def run(self, jobs: tuple[Job, ...], stop_early: bool) -> tuple[list[Outcome], bool]:
        """The outcomes, in the order of the jobs, and whether the run was interrupted."""
        interrupted = False
        drivers = min(len(jobs), self.cluster.threads + 1)
        with ThreadPoolExecutor(max(1, drivers), thread_name_prefix="scene") as pool:
            futures = [pool.submit(self._outcome, job) for job in jobs]
            try:
                self._wait(futures, stop_early)
            except KeyboardInterrupt:
                interrupted = True
                self._halt()
            except BaseException:
                self._halt()
                raise
        return [future.result() for future in futures], interrupted

    def _wait(self, futures: list[Future[Outcome]], stop_early: bool) -> None:
        pending = set(futures)
        while pending:
            done, pending = wait(pending, timeout=PATIENCE, return_when=FIRST_COMPLETED)
            for future in done:
                outcome = future.result()
                if stop_early and outcome.status == "failed":
                    self._halt()

    def _halt(self) -> None:
        self.halted.set()
        self.cluster.stop()

    def _outcome(self, job: Job) -> Outcome:
        """One scene, its refusals as an outcome; a bug keeps its traceback."""
        if self.halted.is_set():
            return Outcome(job.scene.name, "not started")
        started = time.monotonic()
        scene = SceneRun(self.cluster, self.compute, self.overwrite, self.progress, job)
        try:
            outcome = scene.run()
        except SceneError as error:
            self.progress.skip(job.scene.name, len(job.tiling) - scene.fused)
            outcome = scene.outcome("failed", str(error))
        except Stopped:
            outcome = scene.outcome("interrupted", "the run was stopped: run it again to continue")
        outcome = replace(outcome, seconds=round(time.monotonic() - started, 3))
        self.progress.end(job.scene.name, _line(outcome))
        return outcome


def _line(outcome: Outcome) -> str:
    if outcome.status == "failed":
        return f"failed: {outcome.reason}"
    if outcome.status == "kept":
        return "complete before, kept"
    if outcome.status == "interrupted":
        return f"interrupted after {outcome.fused} of {outcome.tiles} tiles"
    return f"complete, {outcome.fused} of {outcome.tiles} tiles fused in {duration(outcome.seconds)}"
