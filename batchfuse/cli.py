"""The commands: parse, call, print, exit code. Heavy imports wait until a command needs them."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchfuse.errors import BatchfuseError, RecipeError

if TYPE_CHECKING:
    from batchfuse.plan import Plan
    from batchfuse.report.progress import Progress
    from batchfuse.report.report import Report

__all__ = ["main"]

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
    "--profile", metavar="NAME|FILE", help="Where it runs: a shipped profile (laptop) or a file."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
VERBOSE = click.option("-v", "--verbose", is_flag=True, help="More lines; errors with their traceback.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="batchfuse")
def commands() -> None:
    """Fuse thousands of image pairs, in exact tiles, into georeferenced Zarr stores."""


def main() -> None:
    """The console script: ``commands``, with the exit codes that docs/commands.md lists."""
    # a scheduler's polite end is treated as Ctrl-C: the tiles in hand are finished, the rest can be continued
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(commands(standalone_mode=False))
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        # the reader of our output went away (| head): no traceback, also not at the interpreter's end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def told(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turns a BatchfuseError into its line on standard error and an exit code."""

    @wraps(function)
    def command(*args: Any, **options: Any) -> Any:
        verbose = bool(options.get("verbose"))
        _quiet_libraries(verbose)
        try:
            return function(*args, **options)
        except BatchfuseError as error:
            if verbose:
                traceback.print_exc()
            click.echo(f"batchfuse: {error}", err=True)
            sys.exit(2 if isinstance(error, RecipeError) else 1)

    return command


@commands.command()
@RECIPE
@PROFILE
@SET
@ONLY
@click.option("--overwrite", is_flag=True, help="Fuse anew what is there already, whatever made it.")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), help="Write the report here, too (JSON)."
)
@click.option("-q", "--quiet", is_flag=True, help="Only errors.")
@VERBOSE
@told
def run(
    recipe: Path,
    profile: str | None,
    overrides: tuple[str, ...],
    only: str | None,
    overwrite: bool,
    dry_run: bool,
    report: Path | None,
    quiet: bool,
    verbose: bool,
) -> None:
    """Plan, fuse, seal. What is complete is kept, what is missing is fused.

    Exit codes: 0 all scenes complete, 1 some failed, 2 the recipe or the call is wrong,
    130 interrupted (run again to continue).
    """
    plan, chosen = _planned(recipe, profile, overrides, only)
    if dry_run:
        _print_plan(plan, _threads(chosen), verbose)
        sys.exit(1 if plan.failures else 0)
    from batchfuse.engine import run_plan
    from batchfuse.report.report import check_writable

    if report:
        check_writable(report)

    if not quiet:
        _print_unmatched(plan, verbose)
    with _progress(quiet, verbose) as progress:
        made = run_plan(plan, chosen, overwrite=overwrite, progress=progress)
    if report:
        made.write(report)
    _print_outcome(made, plan, quiet)
    sys.exit(made.exit_code)


@commands.command()
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
    made, chosen = _planned(recipe, profile, overrides, only)
    if as_json:
        click.echo(json.dumps(made.to_dict(_threads(chosen)), indent=2, ensure_ascii=False))
    else:
        _print_plan(made, _threads(chosen), verbose)
    sys.exit(1 if made.failures else 0)


@commands.command()
@click.argument("path", type=click.Path(path_type=Path))
@JSON
@told
def info(path: Path, as_json: bool) -> None:
    """Say what a store holds and how it was made."""
    from batchfuse.storage.contents import described, lines

    contents = described(path)
    click.echo(json.dumps(contents, indent=2, ensure_ascii=False) if as_json else "\n".join(lines(contents)))


@commands.command()
@click.option("--profile", "of_profile", is_flag=True, help="The profile's schema instead of the recipe's.")
@told
def schema(of_profile: bool) -> None:
    """Print the JSON Schema of a recipe."""
    from batchfuse.recipe import profile_schema, recipe_schema

    click.echo(json.dumps(profile_schema() if of_profile else recipe_schema(), indent=2))


@commands.command()
@JSON
@told
def methods(as_json: bool) -> None:
    """List the fusion methods with their strategies, halos and weights."""
    from batchfuse.fusion.methods import all_methods

    if as_json:
        click.echo(json.dumps([_method(found) for found in all_methods()], indent=2))
        return
    for found in all_methods():
        click.echo(f"{found.name}  weights: {found.default_weights or 'none'}  {found.summary}")
        for strategy in found.strategies.values():
            survey = "" if strategy.survey_halo is None else f", survey pass with halo {strategy.survey_halo}"
            click.echo(f"  {strategy.name:8} halo {strategy.halo}{survey}: {strategy.summary}")


@commands.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The .safetensors file.",
)
@click.option(
    "--iterations", default=2000, show_default=True, type=click.IntRange(1), help="Steps, of one crop each."
)
@click.option(
    "--crop", default=64, show_default=True, type=click.IntRange(16), help="Edge of a crop in pixels."
)
@click.option(
    "--learning-rate",
    default=1e-3,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Its peak: it rises, then falls to 0.",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="The same seed gives the same weights.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@told
def train(images: tuple[Path, ...], output: Path, **settings: Any) -> None:
    """Train weights on photographs: the network learns to give back what it is shown."""
    from batchfuse.training.trainer import train as trained

    with _training_progress(settings["iterations"]) as tell:
        result = trained(images, output, progress=tell, **settings)
    click.echo(f"{output}: loss {result.loss:.6f}, {result.psnr:.1f} dB on the training images")


def _planned(
    recipe: Path, profile: str | None, overrides: tuple[str, ...], only: str | None
) -> tuple[Plan, Any]:
    from batchfuse.plan import make_plan
    from batchfuse.recipe import Profile, Recipe

    # the profile first: a wrong one should not wait for a thousand headers
    chosen = Profile.load(profile) if profile else Profile()
    return make_plan(Recipe.load(recipe, overrides), only), chosen


def _threads(profile: Any) -> int:
    """Tiles that the profile fuses at once."""
    from batchfuse.machine import cores

    return cores() if profile.threads == "auto" else int(profile.threads)


def _method(found: Any) -> dict[str, Any]:
    return {
        "name": found.name,
        "summary": found.summary,
        "weights": found.default_weights or None,
        "strategies": [
            {"name": s.name, "halo": s.halo, "survey_halo": s.survey_halo, "summary": s.summary}
            for s in found.strategies.values()
        ],
    }


def _print_plan(plan: Plan, threads: int, verbose: bool) -> None:
    from batchfuse.report.progress import counted

    for job in plan.jobs:
        rows, columns = job.scene.grid.shape
        click.echo(
            f"{job.scene.name}: {columns}x{rows} pixels like {job.reference.role}, "
            f"{counted(len(job.tiling), 'tile')} of {job.tiling.size}, {_bytes(job.bytes_out)} -> {job.store}"
        )
        for source in job.scene.sources if verbose else ():
            click.echo(f"  {source.role}: {source.name}")
        for line in job.differences:
            click.echo(f"  {line}")
        for line in job.warnings:
            click.echo(f"  warning: {line}")
    for failure in plan.failures:
        click.echo(f"{failure.scene}: can't be fused: {failure.reason}")
    _print_unmatched(plan, verbose, err=False)
    click.echo(
        f"{counted(len(plan.jobs), 'scene')} to fuse, {len(plan.failures)} that can't be, "
        f"{counted(plan.tiles, 'tile')}, "
        f"{_bytes(sum(job.bytes_out for job in plan.jobs))} before compression, "
        f"{_bytes(plan.memory(threads))} of memory with {counted(threads, 'tile')} at a time"
    )


def _print_unmatched(plan: Plan, verbose: bool, err: bool = True) -> None:
    shown = plan.unmatched if verbose else plan.unmatched[:10]
    for file in shown:
        click.echo(f"unmatched: {file.path}: {file.reason}", err=err)
    if len(shown) < len(plan.unmatched):
        click.echo(f"unmatched: {len(plan.unmatched) - len(shown)} more (-v lists them)", err=err)


def _print_outcome(report: Report, plan: Plan, quiet: bool) -> None:
    from batchfuse.report.progress import counted

    failed = [o for o in report.outcomes if o.status not in ("complete", "kept")]
    if quiet:
        for outcome in failed:
            click.echo(f"batchfuse: {outcome.scene}: {outcome.status}: {outcome.reason or ''}", err=True)
        return
    for outcome in report.outcomes:
        for warning in outcome.warnings if outcome.fused else ():
            click.echo(f"warning: {outcome.scene}: {warning}", err=True)
    kept = sum(o.status == "kept" for o in report.outcomes)
    done = sum(o.status == "complete" for o in report.outcomes)
    click.echo(
        f"{counted(done, 'scene')} fused, {kept} complete before, {len(failed)} not; report: "
        f"{plan.recipe.output_folder / 'report.json'}",
        err=True,
    )


def _bytes(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.3g} {unit}"


@contextmanager
def _progress(quiet: bool, verbose: bool) -> Iterator[Progress]:
    """A bar on a terminal, plain lines in a log."""
    from batchfuse.report.progress import Lines, Silence

    if quiet:
        yield Silence()
    elif sys.stderr.isatty() and not verbose:
        from batchfuse.terminal import Bar

        with Bar() as bar:
            yield bar
    else:
        yield Lines(every=2.0 if verbose else 10.0)


@contextmanager
def _training_progress(iterations: int) -> Iterator[Callable[[int, float, float], None]]:
    """Loss and PSNR now and then, on one line of a terminal or as lines in a log."""
    every = max(1, iterations // 20)
    terminal = sys.stderr.isatty()

    def tell(iteration: int, loss: float, psnr: float) -> None:
        if iteration % every == 0 or iteration == iterations:
            line = f"iteration {iteration} of {iterations}: loss {loss:.6f}, {psnr:.1f} dB"
            click.echo(f"\r{line}   " if terminal else line, nl=not terminal, err=True)

    yield tell
    if terminal:
        click.echo(err=True)


def _quiet_libraries(verbose: bool) -> None:
    """GDAL's own lines would stand beside the one we print."""
    if not verbose:
        logging.getLogger("rasterio").addHandler(logging.NullHandler())
        logging.getLogger("rasterio").propagate = False


if __name__ == "__main__":
    main()
