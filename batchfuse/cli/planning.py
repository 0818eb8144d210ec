"""The plan that ``run`` and ``plan`` begin with, and how it is printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from batchfuse.cli.options import echo
from batchfuse.report.alike import alike, kind_of
from batchfuse.report.progress import counted, sized
from batchfuse.system.words import printable

if TYPE_CHECKING:
    from batchfuse.imagery.discovery import Unmatched
    from batchfuse.job import Job
    from batchfuse.plan import Plan
    from batchfuse.recipe import Profile

__all__ = ["planned", "print_plan", "print_unmatched", "script_of_a_job", "unmatched_lines"]

FEW = 3  # files of a kind that are all listed
MOST = 10  # lines about files that belong to no scene


def planned(
    recipe: Path,
    profile: str | None,
    overrides: tuple[str, ...],
    only: str | None,
    only_failed: bool = False,
) -> tuple[Plan, Profile]:
    """The plan of a recipe and the profile that it is to run on.

    With ``only_failed``, of the scenes that the last run could not complete, which may be none.
    """
    from batchfuse.plan import make_plan
    from batchfuse.recipe import Profile, Recipe

    # the profile first: a wrong one should not wait for a thousand headers
    chosen = Profile.load(profile) if profile else Profile()
    loaded = Recipe.load(recipe, overrides)
    if not only_failed:
        return make_plan(loaded, only), chosen
    from batchfuse.engine import unfinished

    return make_plan(loaded, only, names=unfinished(loaded.output_folder)), chosen


def print_plan(plan: Plan, profile: Profile, verbose: bool) -> None:
    """Scene by scene, then what many of them share, then the sum."""
    from batchfuse.budget import memory_of, within_memory

    told = [(job.scene.name, line) for job in plan.jobs for line in _about(job)]
    shared = [] if verbose else [group for group in alike(told) if group.scenes > 1]
    kinds = {kind_of(group.scene, group.line) for group in shared}
    for job, line in zip(plan.jobs, _aligned([_cells(job) for job in plan.jobs]), strict=True):
        echo(line)
        for source in job.scene.sources if verbose else ():
            mask = f", mask {source.quality.file.path}" if source.quality else ""
            echo(f"  {source.role}: {source.name}{mask}")
        for line in _about(job):
            if kind_of(job.scene.name, line) not in kinds:
                echo(f"  {line}")
    for group in shared:
        echo(str(group))
    failures = [(failure.scene, f"can't be fused: {failure.reason}") for failure in plan.failures]
    for failure in plan.failures if verbose else ():
        echo(f"{failure.scene}: can't be fused: {failure.reason}", behind=failure.behind)
    for group in () if verbose else alike(failures):
        echo(str(group))
    print_unmatched(plan, verbose, err=False)
    if verbose and plan.jobs:
        echo(f"fused by {plan.jobs[0].fusing}")
    chosen = within_memory(plan.jobs, profile)
    needed = memory_of(plan.jobs, chosen)
    echo(
        f"{counted(len(plan.jobs), 'scene')} to fuse into {plan.recipe.output_folder}, "
        f"{len(plan.failures)} that can't be, {counted(plan.tiles, 'tile')}, "
        f"{sized(sum(job.bytes_out for job in plan.jobs))} before compression, "
        f"{_memory(chosen, needed)}"
    )
    _print_jobs(plan, chosen, needed)


def print_unmatched(plan: Plan, verbose: bool, err: bool = True) -> None:
    """The files that belong to no scene; unless ``verbose``, many of a kind once, and ten lines at most."""
    for line in unmatched_lines(plan.unmatched, verbose):
        echo(line, err=err)


def unmatched_lines(unmatched: Sequence[Unmatched], verbose: bool) -> list[str]:
    """The same as lines."""
    lines = [f"unmatched: {file.path}: {file.reason}" for file in unmatched]
    if not verbose:
        lines = _few(_unmatched_kinds(unmatched))
    return [printable(line) for line in lines]


def _unmatched_kinds(unmatched: Sequence[Unmatched]) -> list[str]:
    kinds: dict[str, list[Unmatched]] = {}
    for file in unmatched:
        kinds.setdefault(kind_of(file.scene or "", file.reason), []).append(file)
    lines = []
    for files in kinds.values():
        if len(files) <= FEW:
            lines += [f"unmatched: {file.path}: {file.reason}" for file in files]
        else:
            example = f"{files[0].path}: {files[0].reason}"
            lines.append(f"unmatched: {len(files)} files, such as {example} (-v lists them)")
    return lines


def _few(lines: list[str]) -> list[str]:
    more = len(lines) - MOST
    return lines if more <= 0 else [*lines[:MOST], f"unmatched: {more} more kinds (-v lists them)"]


def _about(job: Job) -> list[str]:
    """What a person should know of a scene's grids and files."""
    return [*job.differences, *(f"warning: {line}" for line in job.warnings)]


def _cells(job: Job) -> tuple[str, ...]:
    shape, size = job.scene.grid.shape, str(max(job.tiling.sizes))
    if job.is_volume:
        size = _product(min(edge, n) for edge, n in zip(job.tiling.sizes, shape, strict=True))
    return (
        f"{job.scene.name}:",
        f"{_product(shape)} {'voxels' if job.is_volume else 'pixels'} {job.place},",
        f"{counted(len(job.tiling), 'tile')} of {size},",
        sized(job.bytes_out),
    )


def _product(shape: Iterable[int]) -> str:
    """Extents as people say them, x first."""
    return "x".join(map(str, reversed(list(shape))))


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows of cells as lines: the first column to the left, the numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        " ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def _memory(profile: Profile, needed: int) -> str:
    """What a process needs, and of how many."""
    workers, threads = profile.numbers()
    of = "memory" if workers == 1 else f"memory in each of {workers} processes,"
    if profile.is_elsewhere:  # how many there are at a time, and, mostly, how big, is known only there
        of = "memory in a worker"
    return f"{sized(needed)} of {of} with {counted(threads, 'tile')} at a time"


def script_of_a_job(plan: Plan, profile: Profile, needed: int) -> str | None:
    """What would be submitted for each worker, which needs so many bytes; None where workers are no jobs."""
    from batchfuse.profile import is_batch_system

    if not is_batch_system(profile.cluster):
        return None
    from batchfuse.batch_system import job_script

    return job_script(profile, plan.recipe.output_folder.absolute(), needed)


def _print_jobs(plan: Plan, profile: Profile, needed: int) -> None:
    """What a batch system would be asked for."""
    script = script_of_a_job(plan, profile, needed)
    if script is None:
        return
    wanted = profile.worker_range
    low, high = wanted.minimum, wanted.maximum
    many = counted(high, "worker") if low == high else f"{low} to {high} workers"
    echo(f"{many} of {profile.cluster}; nothing is submitted by a plan. A job:")
    for line in script.rstrip().splitlines():
        echo(line)
