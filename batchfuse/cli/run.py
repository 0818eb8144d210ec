"""``batchfuse run``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchfuse.cli.options import ONLY, PROFILE, RECIPE, SET, VERBOSE, told
from batchfuse.cli.planning import planned, print_plan, print_unmatched, threads

if TYPE_CHECKING:
    from batchfuse.plan import Plan
    from batchfuse.report.progress import Progress
    from batchfuse.report.report import Report

__all__ = ["run"]


@click.command()
@RECIPE
@PROFILE
@SET
@ONLY
@click.option("--overwrite", is_flag=True, help="Fuse anew what is there already, whatever made it.")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), help="Write the report here, too (JSON)."
)
@click.option("-q", "--quiet", is_flag=True, help="Only errors.")
@VERBOSE
@told
def run(
    recipe: Path,
    profile: str | None,
    overrides: tuple[str, ...],
    only: str | None,
    overwrite: bool,
    dry_run: bool,
    report: Path | None,
    quiet: bool,
    verbose: bool,
) -> None:
    """Plan, fuse, seal. What is complete is kept, what is missing is fused.

    Exit codes: 0 all scenes complete, 1 some failed, 2 the recipe or the call is wrong,
    130 interrupted (run again to continue).
    """
    plan, chosen = planned(recipe, profile, overrides, only)
    if dry_run:
        print_plan(plan, threads(chosen), verbose)
        sys.exit(1 if plan.failures else 0)
    from batchfuse.engine import run_plan
    from batchfuse.report.report import check_writable

    if report:
        check_writable(report)

    if not quiet:
        print_unmatched(plan, verbose)
    with _progress(quiet, verbose) as progress:
        made = run_plan(plan, chosen, overwrite=overwrite, progress=progress)
    if report:
        made.write(report)
    _print_outcome(made, plan, quiet)
    sys.exit(made.exit_code)


def _print_outcome(report: Report, plan: Plan, quiet: bool) -> None:
    from batchfuse.report.progress import counted

    failed = [o for o in report.outcomes if o.status not in ("complete", "kept")]
    if quiet:
        for outcome in failed:
            click.echo(f"batchfuse: {outcome.scene}: {outcome.status}: {outcome.reason or ''}", err=True)
        return
    for outcome in report.outcomes:
        for warning in outcome.warnings if outcome.fused else ():
            click.echo(f"warning: {outcome.scene}: {warning}", err=True)
    for warning in report.warnings:
        click.echo(f"warning: {warning}", err=True)
    kept = sum(o.status == "kept" for o in report.outcomes)
    done = sum(o.status == "complete" for o in report.outcomes)
    click.echo(
        f"{counted(done, 'scene')} fused, {kept} complete before, {len(failed)} not; report: "
        f"{plan.recipe.output_folder / 'report.json'}",
        err=True,
    )


@contextmanager
def _progress(quiet: bool, verbose: bool) -> Iterator[Progress]:
    """A bar on a terminal, plain lines in a log."""
    from batchfuse.report.progress import Lines, Silence

    if quiet:
        yield Silence()
    elif sys.stderr.isatty() and not verbose:
        from batchfuse.terminal import Bar

        with Bar() as bar:
            yield bar
    else:
        yield Lines(every=2.0 if verbose else 10.0)
