"""``batchfuse train``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from batchfuse.cli.options import told

__all__ = ["train"]


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The .safetensors file.",
)
@click.option(
    "--preset",
    default="res2netfuse",
    show_default=True,
    type=click.Choice(["res2netfuse", "paper"]),
    help="Ours, or as published: one whole image, biases, a constant rate, the mean of the weights.",
)
@click.option("--iterations", type=click.IntRange(1), help="Steps, of one image each; 2000 in both presets.")
@click.option("--crop", type=click.IntRange(16), help="Edge of a crop in pixels; res2netfuse: 64.")
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, min_open=True),
    help="Of Adam, at its peak; res2netfuse: 1e-3, paper: 5e-4.",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="The same seed gives the same weights.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--restart", is_flag=True, help="Begin anew, whatever is there of this output.")
@told
def train(
    images: tuple[Path, ...], output: Path, preset: str, device: str, restart: bool, **options: Any
) -> None:
    """Train weights on photographs: the network learns to give back what it is shown.

    A checkpoint lies beside the output until all is done; the same command goes on from it, to the same
    weights.

    Exit codes: 0 the weights are there, 1 an image can't be read or the training is lost to overflow,
    2 the call is wrong, 130 interrupted (train again to continue).
    """
    from batchfuse.training.settings import PRESETS
    from batchfuse.training.trainer import train as trained

    chosen = {name: value for name, value in options.items() if value is not None}
    try:
        with _training_progress(chosen.get("iterations", PRESETS[preset].iterations)) as tell:
            result = trained(
                images, output, preset=preset, device=device, progress=tell, restart=restart, **chosen
            )
    except KeyboardInterrupt as stop:
        if not stop.args:
            raise
        how = " without --restart" if restart else ""
        click.echo(f"batchfuse: interrupted {stop}: the same command{how} goes on from there", err=True)
        sys.exit(130)
    if not result.steps:
        click.echo(f"{output}: there already, of these settings and images (--restart trains anew)", err=True)
    click.echo(f"{output}: loss {result.loss:.6f}, {result.psnr:.1f} dB on the training images")
    if result.last is not None:
        click.echo(f"{result.last}: the weights of the last iteration")


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
