"""What several commands share: arguments, options, and how an error becomes a line and an exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from batchfuse.errors import BatchfuseError, RecipeError
from batchfuse.quiet import quiet_libraries

__all__ = ["JSON", "ONLY", "PROFILE", "RECIPE", "SET", "VERBOSE", "told"]

RECIPE = click.argument("recipe", type=click.Path(path_type=Path))
SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY.PATH=VALUE",
    help="Override a key of the recipe (repeatable).",
)
ONLY = click.option("--only", metavar="GLOB", help="Only scenes whose name matches.")
PROFILE = click.option(
    "--profile",
    metavar="NAME|FILE|ADDRESS",
    help="Where it runs: laptop (the default), processes, workstation, a profile's file, or a scheduler's "
    "address.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
VERBOSE = click.option("-v", "--verbose", is_flag=True, help="More lines; errors with their traceback.")


def told(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turns a BatchfuseError into its line on standard error and an exit code."""

    @wraps(function)
    def command(*args: Any, **options: Any) -> Any:
        verbose = bool(options.get("verbose"))
        if not verbose:
            quiet_libraries()
        try:
            return function(*args, **options)
        except BatchfuseError as error:
            if verbose:
                traceback.print_exc()
            click.echo(f"batchfuse: {error}", err=True)
            sys.exit(2 if isinstance(error, RecipeError) else 1)

    return command
