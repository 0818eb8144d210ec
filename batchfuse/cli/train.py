"""``batchfuse train``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchfuse.cli.options import echo, told

if TYPE_CHECKING:
    from batchfuse.training.trainer import TrainingResult

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
@click.option(
    "--iterations", type=click.IntRange(1), help="Steps, of one image each; res2netfuse: 4000, paper: 2000."
)
@click.option("--crop", type=click.IntRange(16), help="Edge of a crop in pixels; res2netfuse: 64.")
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, min_open=True),
    help="Of Adam, at its peak; res2netfuse: 1e-3, paper: 5e-4.",
)
@click.option("--bias/--no-bias", default=None, help="Layers with biases, or without; paper: with.")
@click.option(
    "--shared/--separate",
    default=None,
    help="One convolution for all six places of the block, or six; both presets: six.",
)
@click.option(
    "--skip/--no-skip",
    default=None,
    help="The block's output is added to its input, or replaces it; both presets: added.",
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
    weights. The loss of all iterations is drawn beside them.

    Exit codes: 0 the weights are there, 1 an image can't be read or the training is lost to overflow,
    2 the call is wrong, 130 interrupted (train again to continue).
    """
    from batchfuse.training.trainer import train as trained

    drawing = output.with_name(f"{output.stem}-loss.png")
    if any(image.resolve() == drawing.resolve() for image in images):
        raise click.UsageError(f"{drawing}, where the loss is drawn, is an image to train on: rename one")
    chosen = _chosen(preset, options)
    try:
        with _progress(chosen["iterations"]) as tell:
            result = trained(
                images, output, preset=preset, device=device, progress=tell, restart=restart, **chosen
            )
    except KeyboardInterrupt as stop:
        if not stop.args:
            raise
        how = " without --restart" if restart else ""
        echo(f"batchfuse: interrupted {stop}: the same command{how} goes on from there", err=True)
        sys.exit(130)
    if result.steps:
        _draw_losses(result, preset, images, drawing)
    else:
        echo(f"{output}: there already, of these settings and images (--restart trains anew)", err=True)
    echo(f"{output}: loss {result.loss:.6f}, {result.psnr:.1f} dB on the training images")
    if result.last is not None:
        echo(f"{result.last}: the weights of the last iteration")
    if result.steps:
        echo(f"{drawing}: the loss of each iteration")


def _chosen(preset: str, options: dict[str, Any]) -> dict[str, Any]:
    """Settings that were given, and the network and number of iterations in any case."""
    from batchfuse.training.settings import PRESETS

    given = {name: value for name, value in options.items() if value is not None}
    variant = {name: given.pop(name) for name in ("bias", "shared", "skip") if name in given}
    settings = PRESETS[preset]
    return {
        "iterations": settings.iterations,
        "network": replace(settings.network, **variant),
        **given,
    }


def _draw_losses(result: TrainingResult, preset: str, images: Sequence[Path], path: Path) -> None:
    import numpy as np

    from batchfuse.errors import SceneError
    from batchfuse.report.losses import Curve, write_losses

    columns = np.array([(s.loss, s.dissimilarity, s.mse) for s in result.steps]).T
    names = ("loss = p · MSE + (1 - SSIM)", "structure: 1 - SSIM", "pixels: MSE")
    on = images[0].name if len(images) == 1 else f"{len(images)} photographs"
    title = f"{preset}, seed {result.settings.seed}: {result.settings.iterations} iterations on {on}"
    try:
        write_losses(tuple(map(Curve, names, columns)), title, path)
    except SceneError as error:
        echo(f"warning: the loss is not drawn: {error}", err=True)
    except OSError as error:
        echo(f"warning: the loss can't be drawn to {path}: {error}", err=True)


@contextmanager
def _progress(iterations: int) -> Iterator[Callable[[int, float, float], None]]:
    """Loss and PSNR: a bar on a terminal, twenty lines in a log."""
    from batchfuse.report.iterations import IterationLines, Iterations
    from batchfuse.terminal import LineBar, can_draw

    told = Iterations(iterations)
    if can_draw():
        with LineBar(told):
            yield told.tell
    else:
        yield IterationLines(told).tell
