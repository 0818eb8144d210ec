"""``batchfuse fuse``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from batchfuse.cli.export import print_export
from batchfuse.cli.options import PROFILE, VERBOSE, echo, told
from batchfuse.cli.run import progress_of
from batchfuse.report.progress import sized

__all__ = ["fuse"]


@click.command()
@click.argument(
    "sources", metavar="SOURCE SOURCE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="The fused image: .zarr (a store), .tif (cloud optimised GeoTIFF) or .png; of volumes .nii.gz.",
)
@click.option(
    "--strategy",
    metavar="NAME[:PARAMETER=NUMBER,...]",
    help="How features are merged: l1 (the default), mean, average, detail; with parameters: "
    "detail:contrast=1.2. `batchfuse methods` lists them.",
)
@click.option(
    "--reference",
    metavar="N|ROLE",
    help="The source whose grid, units and colours count: its number from 1, or its name. "
    "Default: the finest grid; of equals a colour image, else the last.",
)
@click.option("--weights", metavar="NAME|FILE", help="Shipped weights, or a .safetensors file.")
@click.option(
    "--dtype",
    metavar="TYPE",
    help="float32, float16, uint8, uint16 or int16. Default: float32; of a PNG, and of what is stretched, "
    "uint8.",
)
@click.option(
    "--stretch",
    metavar="NAME",
    help="none, minmax or percentiles, of the whole image, to the ends of the type. Default: none; of a PNG "
    "whose reference has more than 8 bits, percentiles.",
)
@PROFILE
@click.option("--overwrite", is_flag=True, help="Replace an output that is there.")
@click.option("-q", "--quiet", is_flag=True, help="Only errors.")
@VERBOSE
@told
def fuse(
    sources: tuple[Path, ...],
    output: Path,
    profile: str | None,
    overwrite: bool,
    quiet: bool,
    verbose: bool,
    **wish: Any,
) -> None:
    """Fuse the images of one scene without a recipe.

    GeoTIFF, JPEG 2000, PNG, JPEG, BMP or WebP files, or NIfTI volumes. Images that have a place are brought
    onto one grid; those without have to be of one size.
    """
    from batchfuse.one_scene import Wish, fuse_files
    from batchfuse.recipe import Profile
    from batchfuse.report.alike import Kinds

    chosen = Profile.load(profile) if profile else None
    with progress_of(quiet, verbose) as progress:
        outcome, made = fuse_files(
            sources, output, Wish(**wish), chosen, overwrite=overwrite, progress=progress
        )
    if outcome.status != "complete":
        echo(f"batchfuse: {output}: interrupted, and nothing is kept of it", err=True)
        sys.exit(130)
    if quiet:
        return
    kinds = Kinds()
    for warning in outcome.warnings:
        if not kinds.is_new(outcome.scene, warning):  # the first of each was told when the scene ended
            echo(f"warning: {warning}", err=True)
    if made:
        print_export(made)
    else:
        echo(f"{output}: complete, {sized(outcome.bytes)}")
