"""``batchfuse status``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from batchfuse.cli.options import JSON, VERBOSE, echo, echo_json, told

__all__ = ["status"]


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@JSON
@VERBOSE
@told
def status(path: Path, as_json: bool, verbose: bool) -> None:
    """Say which scenes of an output folder are done, partial, failed or never started.

    Looks at the stores themselves, also while a run writes there. Exit code 1 unless all are done.
    """
    from batchfuse.status import status_of

    found = status_of(path)
    if as_json:
        echo_json(found.to_dict())
    else:
        for line in found.lines(verbose):
            echo(line)
    sys.exit(found.exit_code)
