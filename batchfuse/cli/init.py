"""``batchfuse init``."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from batchfuse.cli.options import VERBOSE, echo, told

__all__ = ["init"]


@click.command()
@click.argument("folders", metavar="FOLDER...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    default=Path("recipe.yaml"),
    show_default=True,
    type=click.Path(path_type=Path, allow_dash=True),
    help="The recipe to write; - prints it.",
)
@click.option("--overwrite", is_flag=True, help="Replace a recipe that is there.")
@VERBOSE
@told
def init(folders: tuple[Path, ...], output: Path, overwrite: bool, verbose: bool) -> None:  # noqa: ARG001
    """Write a commented recipe for the images or volumes in some folders.

    Groups file names into wildcards, recognises Landsat, Sentinel-2, NIfTI volumes (BIDS and others) and
    plain pairs, and plans what it writes. Nothing but the recipe is written.
    """
    from batchfuse.errors import RecipeError
    from batchfuse.scout.sketch import sketch

    printed = str(output) == "-"
    name = "recipe.yaml" if printed else output.name
    if not printed and output.is_dir():
        raise RecipeError(f"{output}: a folder; name the recipe in it: -o {output / 'recipe.yaml'}")
    if not printed and output.exists() and not overwrite:
        raise RecipeError(f"{output}: is there already: name another with -o, or replace it with --overwrite")
    if not printed and not output.parent.is_dir():
        raise RecipeError(f"{output}: there is no folder {output.parent}")
    call = shlex.join(["batchfuse", "init", *map(str, folders)])
    made = sketch(folders, Path() if printed else output.parent, call, name)
    if printed:
        click.echo(made.text, nl=False)
    else:
        try:
            output.write_text(made.text, encoding="utf-8")
        except OSError as error:
            raise RecipeError(f"{output}: can't be written: {error.strerror}") from None
    for line in made.summary(None if printed else output):
        echo(line, err=printed)
