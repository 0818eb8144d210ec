"""``batchfuse run``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchfuse.cli.options import LOG_JSON, ONLY, PROFILE, RECIPE, SET, VERBOSE, echo, told
from batchfuse.cli.planning import planned, print_plan, print_unmatched

if TYPE_CHECKING:
    from batchfuse.plan import Plan
    from batchfuse.report.events import EventLines
    from batchfuse.report.progress import Progress
    from batchfuse.report.report import Report

__all__ = ["progress_of", "run"]

SCROLLED = 20  # scenes, after which the lines of the first may be out of sight


@click.command()
@RECIPE
@PROFILE
@SET
@ONLY
@click.option(
    "--only-failed",
    is_flag=True,
    help="Only scenes that the last run did not complete, by its report.json.",
)
@click.option("--overwrite", is_flag=True, help="Fuse anew what is there already, whatever made it.")
@click.option(
    "--retries",
    type=click.IntRange(0, 20),
    default=2,
    show_default=True,
    help="How often a scene is tried again after what may pass: reading and writing, not bad data.",
)
@click.option(
    "--checksum",
    is_flag=True,
    help="Compare all bytes of the sources with those that a store was begun with, not only size and ends.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), help="Write the report here, too (JSON)."
)
@click.option("-q", "--quiet", is_flag=True, help="Only errors.")
@LOG_JSON
@VERBOSE
@told
def run(
    recipe: Path,
    profile: str | None,
    overrides: tuple[str, ...],
    only: str | None,
    only_failed: bool,
    overwrite: bool,
    retries: int,
    checksum: bool,
    dry_run: bool,
    report: Path | None,
    quiet: bool,
    log_json: bool,
    verbose: bool,
) -> None:
    """Plan, fuse, seal. What is complete is kept, what is missing is fused.

    Exit codes: 0 all scenes complete, 1 some failed, 2 the recipe or the call is wrong,
    130 interrupted (run again to continue).
    """
    plan, chosen = planned(recipe, profile, overrides, only, only_failed)
    events = _events(quiet) if log_json else None
    if only_failed and not plan.jobs and not plan.failures:
        nothing = "no scene of the last run has failed: nothing is left to fuse"
        if events:
            events.note(nothing)
        else:
            echo(nothing, err=True)
        return
    if dry_run:
        print_plan(plan, chosen, verbose)
        sys.exit(1 if plan.failures else 0)
    from batchfuse.engine import run_plan
    from batchfuse.report.report import check_is_free, check_writable
    from batchfuse.storage.beside import REPORT

    if report:
        if plan.claims is not None and report.resolve() != (plan.recipe.output_folder / REPORT).resolve():
            plan.claims.write(report, "the report of --report")
        check_is_free(report)
        check_writable(report)

    if events:
        for file in plan.unmatched:
            events.unmatched(str(file.path), file.reason)
    elif not quiet:
        print_unmatched(plan, verbose)
    with nullcontext(events) if events else progress_of(quiet, verbose, plan) as progress:
        made = run_plan(
            plan, chosen, overwrite=overwrite, retries=retries, checksum=checksum, progress=progress
        )
    if report:
        made.write(report)
    if events:
        events.finished(made)
    else:
        _print_outcome(made, quiet)
    sys.exit(made.exit_code)


def _events(quiet: bool) -> EventLines:
    from batchfuse.report.events import EventLines, Events

    return EventLines(Events("error" if quiet else "info"))


def _print_outcome(report: Report, quiet: bool) -> None:
    from batchfuse.report.alike import alike
    from batchfuse.report.progress import counted

    failed = [o for o in report.outcomes if o.status not in ("complete", "kept")]
    if quiet:
        for outcome in failed:
            echo(f"batchfuse: {outcome.scene}: {outcome.status}: {outcome.reason or ''}", err=True)
        return
    warned = [(o.scene, warning) for o in report.outcomes if o.fused or o.repaired for warning in o.warnings]
    for group in alike(warned):
        if group.scenes > 1:  # what is about one scene was said when it ended
            echo(f"warning: {group}", err=True)
    for warning in report.warnings:
        echo(f"warning: {warning}", err=True)
    if len(report.outcomes) > SCROLLED:
        for group in alike((o.scene, f"{o.status}: {o.reason}") for o in failed if o.reason):
            echo(str(group), err=True)
    kept = sum(o.status == "kept" for o in report.outcomes)
    done = sum(o.status == "complete" for o in report.outcomes)
    many = len({scene for scene, _ in warned})
    warnings = f", {many} with warnings" if many and len(report.outcomes) > 1 else ""
    echo(
        f"{counted(done, 'scene')} fused, {kept} complete before, {len(failed)} not{warnings}; "
        f"report: {report.path}",
        err=True,
    )


@contextmanager
def progress_of(quiet: bool, verbose: bool, plan: Plan | None = None) -> Iterator[Progress]:
    """Bars on a terminal, plain lines in a log; with the plan, the time left counts pixels."""
    from batchfuse.report.progress import Lines, Silence
    from batchfuse.terminal import Bar, can_draw

    sizes = {job.scene.name: (len(job.tiling), job.pixels) for job in plan.jobs} if plan else {}
    if quiet:
        yield Silence()
    elif can_draw() and not verbose:
        with Bar(sizes=sizes) as bar:
            yield bar
    else:
        yield Lines(every=2.0 if verbose else 10.0, sizes=sizes, tiles=verbose)
