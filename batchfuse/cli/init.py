"""``batchfuse init``."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click

from batchfuse.cli.options import VERBOSE, echo, told

__all__ = ["init"]

LONGEST = 1_000_000  # bytes of a recipe


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
    from batchfuse.files import replace_file
    from batchfuse.scout.sketch import sketch

    printed = str(output) == "-"
    name = "recipe.yaml" if printed else output.name
    if not printed and output.is_dir():
        raise RecipeError(f"{output}: a folder; name the recipe in it: -o {output / 'recipe.yaml'}")
    if not printed and output.exists() and not overwrite:
        raise RecipeError(f"{output}: is there already: name another with -o, or replace it with --overwrite")
    if not printed and output.exists() and not _is_recipe(output):
        raise RecipeError(f"{output}: is there and is no recipe: it is left alone, name another with -o")
    if not printed and not output.parent.is_dir():
        raise RecipeError(f"{output}: there is no folder {output.parent}")
    call = shlex.join(["batchfuse", "init", *map(str, folders)])
    made = sketch(folders, Path() if printed else output.parent, call, name)
    if printed:
        click.echo(made.text, nl=False)
    else:
        try:
            replace_file(output, made.text.encode())
        except OSError as error:
            raise RecipeError(f"{output}: can't be written: {error.strerror}") from None
    for line in made.summary(None if printed else output):
        echo(line, err=printed)


def _is_recipe(path: Path) -> bool:
    """Whether a file may be a recipe, which --overwrite replaces: a short text with the key `inputs`."""
    if not path.is_file() or path.stat().st_size > LONGEST:
        return False
    return re.search(rb"^\W*inputs\W*:", path.read_bytes(), re.MULTILINE) is not None
