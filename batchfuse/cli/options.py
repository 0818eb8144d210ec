"""What several commands share: arguments, options, and how an error becomes a line and an exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from pathlib import Path
from typing import Any

import click

from batchfuse.errors import BatchfuseError, RecipeError
from batchfuse.quiet import libraries_told, quiet_libraries
from batchfuse.system.words import json_text, printable, printable_lines

__all__ = [
    "JSON",
    "LOG_JSON",
    "ONLY",
    "PROFILE",
    "RECIPE",
    "SET",
    "VERBOSE",
    "echo",
    "echo_json",
    "say_error",
    "told",
]

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
LOG_JSON = click.option(
    "--log-json", is_flag=True, help="A JSON object a line on standard error, in place of bars and text."
)
VERBOSE = click.option("-v", "--verbose", is_flag=True, help="More lines; errors with their traceback.")


def echo(line: str, *, err: bool = False, behind: str | None = None) -> None:
    """Print a line for people, whatever the names in it hold; before it the traceback behind it, if given."""
    if behind:
        click.echo(printable_lines(behind.rstrip()), err=err)
    click.echo(printable(line), err=err)


def echo_json(value: Any) -> None:
    """Print what programs read."""
    click.echo(json_text(value))


def told(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turns a BatchfuseError into its line on standard error and an exit code.

    With ``--log-json`` the line is an event, and so is what libraries log meanwhile.
    """

    @wraps(function)
    def command(*args: Any, **options: Any) -> Any:
        verbose = bool(options.get("verbose"))
        if not verbose:
            quiet_libraries()
        as_json = bool(options.get("log_json"))
        with _libraries_as_events(quiet=bool(options.get("quiet"))) if as_json else nullcontext():
            try:
                return function(*args, **options)
            except BatchfuseError as error:
                behind = traceback.format_exc() if verbose else None
                code = 2 if isinstance(error, RecipeError) else 1
                # mistakes in a recipe are a line each, whatever the names in them hold
                lines = "\n".join(map(printable, error.args if code == 2 else [error]))
                say_error(lines, code, as_json=as_json, behind=behind)
                sys.exit(code)

    return command


def say_error(line: str, code: int, *, as_json: bool, behind: str | None = None) -> None:
    """Why the command ends, on standard error: the traceback behind it, if given, and a line; or an event."""
    if not as_json:
        click.echo(printable_lines(f"{behind or ''}batchfuse: {line}"), err=True)
        return
    from batchfuse.report.events import Events

    Events().tell("error", "error", message=line, exit_code=code, traceback=behind)


def _libraries_as_events(quiet: bool) -> AbstractContextManager[None]:
    from batchfuse.report.events import Events

    events = Events("error" if quiet else "info")
    return libraries_told(
        lambda level, logger, message: events.tell("library", level, logger=logger, message=message)
    )
