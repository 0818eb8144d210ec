"""``batchfuse plan``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from batchfuse.cli.options import JSON, ONLY, PROFILE, RECIPE, SET, VERBOSE, told
from batchfuse.cli.planning import planned, print_plan

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
    made, chosen = planned(recipe, profile, overrides, only)
    if as_json:
        click.echo(json.dumps(made.to_dict(chosen.numbers()[1]), indent=2, ensure_ascii=False))
    else:
        print_plan(made, chosen, verbose)
    sys.exit(1 if made.failures else 0)
