"""The plan that ``run`` and ``plan`` begin with, and how it is printed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from batchfuse.plan import Plan

__all__ = ["planned", "print_plan", "print_unmatched", "threads"]


def planned(
    recipe: Path, profile: str | None, overrides: tuple[str, ...], only: str | None
) -> tuple[Plan, Any]:
    """The plan of a recipe and the profile that it is to run on."""
    from batchfuse.plan import make_plan
    from batchfuse.recipe import Profile, Recipe

    # the profile first: a wrong one should not wait for a thousand headers
    chosen = Profile.load(profile) if profile else Profile()
    return make_plan(Recipe.load(recipe, overrides), only), chosen


def threads(profile: Any) -> int:
    """Tiles that the profile fuses at once."""
    from batchfuse.machine import cores

    return cores() if profile.threads == "auto" else int(profile.threads)


def print_plan(plan: Plan, threads: int, verbose: bool) -> None:
    """Scene by scene, then the sum."""
    from batchfuse.report.progress import counted

    for job in plan.jobs:
        rows, columns = job.scene.grid.shape
        click.echo(
            f"{job.scene.name}: {columns}x{rows} pixels {job.place}, "
            f"{counted(len(job.tiling), 'tile')} of {job.tiling.size}, {_bytes(job.bytes_out)} -> {job.store}"
        )
        for source in job.scene.sources if verbose else ():
            click.echo(f"  {source.role}: {source.name}")
        for line in job.differences:
            click.echo(f"  {line}")
        for line in job.warnings:
            click.echo(f"  warning: {line}")
    for failure in plan.failures:
        click.echo(f"{failure.scene}: can't be fused: {failure.reason}")
    print_unmatched(plan, verbose, err=False)
    click.echo(
        f"{counted(len(plan.jobs), 'scene')} to fuse, {len(plan.failures)} that can't be, "
        f"{counted(plan.tiles, 'tile')}, "
        f"{_bytes(sum(job.bytes_out for job in plan.jobs))} before compression, "
        f"{_bytes(plan.memory(threads))} of memory with {counted(threads, 'tile')} at a time"
    )


def print_unmatched(plan: Plan, verbose: bool, err: bool = True) -> None:
    """The files that belong to no scene, ten of them unless ``verbose``."""
    shown = plan.unmatched if verbose else plan.unmatched[:10]
    for file in shown:
        click.echo(f"unmatched: {file.path}: {file.reason}", err=err)
    if len(shown) < len(plan.unmatched):
        click.echo(f"unmatched: {len(plan.unmatched) - len(shown)} more (-v lists them)", err=err)


def _bytes(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.3g} {unit}"
