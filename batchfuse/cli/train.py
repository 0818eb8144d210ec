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
