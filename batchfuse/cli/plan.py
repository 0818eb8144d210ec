"""``batchfuse plan``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from batchfuse.cli.options import JSON, ONLY, PROFILE, RECIPE, SET, VERBOSE, echo_json, told
from batchfuse.cli.planning import planned, print_plan, script_of_a_job

__all__ = ["plan"]


@click.command()
@RECIPE
@PROFILE
@SET
@ONLY
@JSON
@VERBOSE
@told
def plan(
    recipe: Path,
    profile: str | None,
    overrides: tuple[str, ...],
    only: str | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Say what a run would do: scenes, unmatched files, grids, tiles, bytes, memory."""
    from batchfuse.budget import within_memory

    made, chosen = planned(recipe, profile, overrides, only)
    if as_json:
        limited = within_memory(made.jobs, chosen)
        described = made.to_dict(limited)
        described["job_script"] = script_of_a_job(made, limited, described["memory_of_a_worker"])
        echo_json(described)
    else:
        print_plan(made, chosen, verbose)
    sys.exit(1 if made.failures else 0)
