"""``batchfuse info``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from batchfuse.cli.options import JSON, told

__all__ = ["info"]


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@JSON
@told
def info(path: Path, as_json: bool) -> None:
    """Say what a store holds and how it was made."""
    from batchfuse.storage.contents import described, lines

    contents = described(path)
    click.echo(json.dumps(contents, indent=2, ensure_ascii=False) if as_json else "\n".join(lines(contents)))
