"""``batchfuse evaluate``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchfuse.cli.evaluated import check_files, print_found, write_files
from batchfuse.cli.options import ONLY, SET, VERBOSE, echo, told
from batchfuse.cli.spread import SourcesCommand
from batchfuse.errors import RecipeError

if TYPE_CHECKING:
    from batchfuse.evaluation.results import Evaluation, Measured
    from batchfuse.imagery.discovery import Unmatched
    from batchfuse.measuring import Settings, Subject

__all__ = ["evaluate"]

Found = tuple["list[Subject]", "list[Measured]", "Sequence[Unmatched]"]
"""Scenes to measure, those that can't be, and files that belong to none."""


@click.command(cls=SourcesCommand)
@click.argument("recipe", required=False, type=click.Path(path_type=Path))
@click.option(
    "--sources",
    multiple=True,
    metavar="IMAGE IMAGE...",
    help="Without a recipe: two or more files, folders, or patterns with {wildcards}, quoted.",
)
@click.option(
    "--fused",
    metavar="IMAGE",
    help="What was fused of them: a file or a store, a folder, or a pattern.",
)
@click.option(
    "--reference",
    metavar="N|ROLE",
    help="With --sources: in whose units the fused image is, where it is not 8 bits; as in `fuse`.",
)
@click.option(
    "--fused-range",
    nargs=2,
    type=float,
    metavar="LOW HIGH",
    help="With --sources: the values of the fused image that count as black and white.",
)
@click.option(
    "--figures",
    default="six",
    show_default=True,
    metavar="six|all|NAME,NAME",
    help="The six of the paper's tables, all that there are, or some by name.",
)
@click.option(
    "--baselines",
    is_flag=True,
    help="Also measure what fuses without a network: average, maximum, pixels weighted by the l1 and the "
    "mean rule, and each of them with 1.4 times the contrast.",
)
@click.option(
    "--stretch",
    is_flag=True,
    help="The paper's protocol: images are stretched by their extremes to 0..255, and truncated.",
)
@click.option(
    "--csv", "csv_file", metavar="FILE", help="Write a row a scene and image, in full; - prints them."
)
@click.option(
    "--json",
    "json_file",
    is_flag=False,
    flag_value="-",
    metavar="[FILE]",
    help="Print JSON in place of the table, or write it to FILE beside the table.",
)
@SET
@ONLY
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Processes. Default: one a core.")
@click.option("-q", "--quiet", is_flag=True, help="Only the table, and errors.")
@VERBOSE
@told
def evaluate(
    recipe: Path | None,
    sources: tuple[str, ...],
    fused: str | None,
    figures: str,
    baselines: bool,
    stretch: bool,
    csv_file: str | None,
    json_file: str | None,
    overrides: tuple[str, ...],
    only: str | None,
    workers: int | None,
    quiet: bool,
    verbose: bool,
    **reading: Any,
) -> None:
    """Measure fused images against their sources.

    Of a recipe every scene, from its stores. Without one, --sources and --fused name the images. The figures
    are those of 8-bit gray images.

    Exit codes: 0 all scenes measured, 1 some could not be, 2 the recipe or the call is wrong,
    130 interrupted.
    """
    _check_call(recipe, sources, fused, overrides, reading)
    check_files(csv_file, json_file, [str(name) for name in (recipe, *sources, fused) if name])
    try:
        settings = _settings(figures, baselines, stretch)
        if recipe is not None:
            subjects, failed, unmatched = _of_recipe(recipe, overrides, only)
        else:
            subjects, failed, unmatched = _of_files(sources, str(fused), only, reading)
        if not quiet:
            _print_unmatched(unmatched, verbose)
        found = _measured(subjects, settings, workers, quiet, verbose)
    except KeyboardInterrupt:
        echo("batchfuse: interrupted, and nothing is written", err=True)
        sys.exit(130)
    found = replace(
        found,
        scenes=(*found.scenes, *failed),
        unmatched=[(str(file.path), file.reason) for file in unmatched],
    )
    for scene in found.scenes:
        if scene.reason is not None:
            behind = (verbose and scene.traceback) or ""
            echo(f"batchfuse: {scene.scene}: {scene.reason}", err=True, behind=behind)
    write_files(found, csv_file, json_file)
    if "-" not in (csv_file, json_file):
        print_found(found, quiet, verbose)
    sys.exit(found.exit_code)


def _check_call(
    recipe: Path | None,
    sources: Sequence[str],
    fused: str | None,
    overrides: Sequence[str],
    reading: dict[str, Any],
) -> None:
    if recipe is None and not sources:
        raise click.UsageError("name a recipe, or images with --sources IMAGE IMAGE --fused IMAGE")
    if recipe is not None and (sources or fused):
        raise click.UsageError(f"{recipe} stands beside --sources or --fused: give a recipe, or images")
    if recipe is None and not fused:
        raise click.UsageError("--fused is missing: name the image that was fused of the sources")
    if recipe is None and overrides:
        raise click.UsageError("--set goes with a recipe")
    for option, value in reading.items():
        if recipe is not None and value is not None:
            raise click.UsageError(
                f"--{option.replace('_', '-')} goes with --sources: a store says it itself"
            )
    if recipe is not None and recipe.is_dir():
        raise click.UsageError(
            f"{recipe} is a folder: name the recipe of its stores, or give it as --fused beside --sources"
        )
    low, high = reading["fused_range"] or (0, 1)
    if not low < high:
        raise click.UsageError(
            f"--fused-range {low:g} {high:g}: the first is black, the second, above it, white"
        )


def _settings(figures: str, baselines: bool, stretch: bool) -> Settings:
    from batchfuse.evaluation.contenders import contenders
    from batchfuse.evaluation.figure_names import chosen_figures
    from batchfuse.measuring import Settings
    from batchfuse.metrics import FIGURES, SIX

    return Settings(chosen_figures(figures, SIX, FIGURES), tuple(contenders(baselines)), stretch)


def _of_recipe(recipe: Path, overrides: tuple[str, ...], only: str | None) -> Found:
    from batchfuse.evaluation.results import Measured
    from batchfuse.plan import make_plan
    from batchfuse.recipe import Recipe

    plan = make_plan(Recipe.load(recipe, overrides), only)
    failed = [Measured(one.scene, one.reason, traceback=one.behind) for one in plan.failures]
    return list(plan.jobs), failed, plan.unmatched


def _of_files(sources: Sequence[str], fused: str, only: str | None, reading: dict[str, Any]) -> Found:
    from batchfuse.file_comparison import Files, reference_among
    from batchfuse.one_scene import roles_of
    from batchfuse.pairing import FUSED, paired

    found = paired(sources, fused)
    scenes = [scene for scene in found.scenes if only is None or fnmatchcase(scene.name, only)]
    if not scenes:
        first = ", ".join(scene.name for scene in found.scenes[:5]) + (", …" if len(found.scenes) > 5 else "")
        raise RecipeError(f"--only {only} matches none of the {len(found.scenes)} scenes ({first})")
    subjects: list[Subject] = []
    for scene in scenes:
        images = tuple(path for role, (path,) in scene.files.items() if role != FUSED)
        if reading["reference"] is not None:  # a wrong one is told before anything is read
            reference_among(reading["reference"], roles_of(images))
        subjects.append(Files(scene.name, images, scene.files[FUSED][0], **reading))
    return subjects, [], found.unmatched


def _print_unmatched(unmatched: Sequence[Unmatched], verbose: bool) -> None:
    from batchfuse.cli.planning import unmatched_lines

    for line in unmatched_lines(unmatched, verbose):
        echo(line, err=True)


def _measured(
    subjects: Sequence[Subject], settings: Settings, workers: int | None, quiet: bool, verbose: bool
) -> Evaluation:
    from batchfuse.evaluate import evaluate as evaluated
    from batchfuse.machine import cores

    with _progress(len(subjects), quiet, verbose) as advance:
        return evaluated(subjects, settings, workers or cores(), advance)


@contextmanager
def _progress(scenes: int, quiet: bool, verbose: bool) -> Iterator[Callable[[str, float], None]]:
    """A bar on a terminal, a line now and then in a log."""
    from batchfuse.report.steps import StepLines, Steps
    from batchfuse.terminal import StepBar, can_draw

    steps = Steps(scenes, "scene")
    if quiet:
        yield steps.add
    elif can_draw() and not verbose:
        with StepBar(steps) as bar:
            yield bar.add
    else:
        yield StepLines(steps, every=2.0 if verbose else 10.0).add
