"""``batchfuse export``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchfuse.cli.options import VERBOSE, echo, told
from batchfuse.errors import FullError, RecipeError, SceneError, bugs_told
from batchfuse.report.progress import sized

if TYPE_CHECKING:
    from batchfuse.exports import Exported

__all__ = ["DTYPE", "STRETCH", "export", "print_export"]

DTYPE = click.option(
    "--dtype",
    metavar="TYPE",
    help="float32, float16, uint8, uint16 or int16. Default: the store's; of a PNG, and of what is "
    "stretched, uint8.",
)
STRETCH = click.option(
    "--stretch",
    metavar="NAME",
    help="none, minmax or percentiles (2 and 98), of the whole image, to the ends of the type.",
)


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--to",
    required=True,
    metavar="FORMAT",
    help="cog (GeoTIFF) or png of a raster; nifti (.nii.gz) of a volume.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    help="The file, or a folder for it. Default: beside the store.",
)
@DTYPE
@STRETCH
@click.option(
    "--keep-text",
    is_flag=True,
    help="With nifti: copy the free texts and the extensions of the reference's header, which may name the "
    "patient.",
)
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
@VERBOSE
@told
def export(
    paths: tuple[Path, ...],
    to: str,
    output: str | None,
    dtype: str | None,
    stretch: str | None,
    keep_text: bool,
    overwrite: bool,
    verbose: bool,
) -> None:
    """Write complete stores as files for other programs: cloud optimised GeoTIFFs, PNGs, or NIfTI.

    PATH is a store, or a folder with stores. The paper's protocol is
    `--to png --dtype uint8 --stretch minmax`.
    """
    from batchfuse.exports import export as exported
    from batchfuse.machine import cores
    from batchfuse.recipe import Export
    from batchfuse.storage.store import Store

    wanted = Export.of(to, dtype, stretch or "none", keep_text)
    chosen = [store for path in paths for store in _stores(path)]
    place = Path(output) if output else None
    into = _is_folder(output, several=len(chosen) > 1 or chosen != list(paths)) if output else False
    if place and into and place.exists() and not place.is_dir():
        raise RecipeError(f"--output {output} is a file, and there are {len(chosen)} stores: name a folder")
    if place and not into and not wanted.suits(place):
        raise RecipeError(f"--output {output}: a {to} is a {wanted.suffix} file: name one, or a folder")
    failed = False
    for store in chosen:
        file = place if place and not into else wanted.beside(place / store.name if place else store)
        try:
            with bugs_told():
                made = exported(Store.open(store), wanted, file, overwrite=overwrite, threads=cores())
            print_export(made)
        except SceneError as error:
            echo(f"batchfuse: {error}", err=True, behind=error.behind if verbose else None)
            failed = True
            if isinstance(error, FullError):  # no other file could be written either
                break
    sys.exit(int(failed))


def print_export(made: Exported) -> None:
    """A line for the file, and one for each doubt."""
    for line in made.warnings:
        echo(f"warning: {made.path.name}: {line}", err=True)
    echo(f"{made.path}: {made.dtype}, {sized(made.path.stat().st_size)}")


def _is_folder(output: str, several: bool) -> bool:
    """Whether the files belong into this folder, there already or not, rather than under this name."""
    return several or output.endswith(("/", os.sep)) or Path(output).is_dir()


def _stores(path: Path) -> list[Path]:
    """The store at this path, or those within the folder."""
    from batchfuse.storage.store import is_store, stores_within

    inside = stores_within(path) if path.is_dir() and not is_store(path) else []
    return inside or [path]
