"""Trains Res2NetFuse to give photographs back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from batchfuse.errors import BatchfuseError, RecipeError
from batchfuse.fusion.device import resolved_device
from batchfuse.fusion.layers import RADIUS
from batchfuse.fusion.res2netfuse import Res2NetFuse
from batchfuse.fusion.weights import save_weights
from batchfuse.training.loss import loss as loss_of
from batchfuse.training.loss import psnr, ssim
from batchfuse.training.photographs import Photograph, read_photograph

__all__ = ["Progress", "Settings", "TrainingResult", "train", "trained"]

Progress = Callable[[int, float, float], None]
"""Called with the iteration (from 1), its loss, and the PSNR in dB of its crop."""

_WARM_UP = 100  # iterations
_LAST_PIXEL_WEIGHT = 300.0  # a high one helps late and hurts early, so it rises from 1


@dataclass(frozen=True, slots=True)
class Settings:
    """How to train; the defaults are what was measured best on one photograph."""

    iterations: int = 2000
    """Steps of one crop each."""
    crop: int = 64
    """Edge of a crop in pixels."""
    learning_rate: float = 1e-3
    """Of Adam at its peak: after a warm-up of 100 iterations it falls to 0 as a cosine."""
    seed: int = 0
    """Of the first weights and of the crops."""

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise RecipeError(f"training for {self.iterations} iterations: give 1 or more")
        if self.crop < 2 * RADIUS:
            raise RecipeError(
                f"crops of {self.crop} pixels are too small for the network: give {2 * RADIUS} or more"
            )
        if not 0 < self.learning_rate < math.inf:
            raise RecipeError(f"the learning rate {self.learning_rate} is not positive: 1e-3 is usual")


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What came of a training."""

    path: Path
    """The weights file."""
    settings: Settings
    """How it was trained."""
    loss: float
    """The loss on the whole photographs, with the last pixel weight."""
    psnr: float
    """dB on the whole photographs, their mean."""
    ssim: float
    """On the whole photographs, their mean."""


def train(
    images: Sequence[Path],
    out: Path,
    *,
    iterations: int = 2000,
    crop: int = 64,
    learning_rate: float = 1e-3,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> TrainingResult:
    """Trains on photographs and writes a .safetensors file that says how it was made.

    On one machine with one number of threads, equal settings give equal bytes.

    Args:
        images: files of 8 or 16 bits that Pillow reads; colour is turned to luminance.
        out: the .safetensors file to write.
        iterations: steps of one crop each.
        crop: edge of a crop in pixels.
        learning_rate: Adam's, at its peak.
        seed: of the first weights and of the crops.
        device: auto, cpu, cuda or cuda:N.
        progress: called after each iteration.

    Raises:
        RecipeError: settings that can't work.
        SourceError: an image that can't be read.
        WeightsError: ``out`` can't be written.
    """
    settings = Settings(iterations, crop, learning_rate, seed)
    if out.suffix != ".safetensors":
        raise RecipeError(f"the weights file {out} has to end in .safetensors")
    if not images:
        raise RecipeError("training needs an image: give one or more photographs")
    photographs = [read_photograph(Path(path)) for path in images]
    network = trained(photographs, settings, resolved_device(device), progress)
    figures = _figures(network, photographs)
    save_weights(network, out, _made(settings, photographs, figures))
    return TrainingResult(out, settings, **figures)


def trained(
    photographs: Sequence[Photograph],
    settings: Settings,
    device: torch.device,
    progress: Progress | None = None,
) -> Res2NetFuse:
    """The network after training.

    Raises:
        RecipeError: a photograph smaller than the crop.
        BatchfuseError: the loss was lost to overflow.
    """
    _check_sizes(photographs, settings.crop)
    network = _initial(settings.seed).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: _rate(done, settings.iterations))
    random = np.random.default_rng(settings.seed)
    for iteration in range(settings.iterations):
        target = _crop(photographs, settings.crop, random).to(device)
        image = network(target)
        error = loss_of(image, target, _pixel_weight(iteration, settings.iterations))
        optimizer.zero_grad()
        torch.autograd.backward(error)
        optimizer.step()
        schedule.step()
        _report(progress, iteration + 1, error, image, target)
    network.eval()
    return network


def _initial(seed: int) -> Res2NetFuse:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Res2NetFuse()


def _rate(done: int, iterations: int) -> float:
    """The learning rate of an iteration as a share of its peak."""
    warm_up = min(_WARM_UP, iterations)
    if done < warm_up:
        return (done + 1) / warm_up
    return (1 + math.cos(math.pi * (done - warm_up) / max(1, iterations - warm_up))) / 2


def _pixel_weight(iteration: int, iterations: int) -> float:
    return float(_LAST_PIXEL_WEIGHT ** (iteration / max(1, iterations - 1)))


def _crop(photographs: Sequence[Photograph], size: int, random: np.random.Generator) -> Tensor:
    """A random crop of a random photograph, turned and mirrored at random: (1, 1, size, size)."""
    pixels = photographs[int(random.integers(len(photographs)))].pixels
    top, left = (random.integers(n - size + 1) for n in pixels.shape)
    crop = pixels[top : top + size, left : left + size]
    flip_rows, flip_columns, transpose = random.integers(2, size=3)
    crop = crop[:: 1 - 2 * flip_rows, :: 1 - 2 * flip_columns]
    crop = crop.T if transpose else crop
    return torch.from_numpy(np.ascontiguousarray(crop))[None, None]


def _report(progress: Progress | None, iteration: int, error: Tensor, image: Tensor, target: Tensor) -> None:
    value = float(error.detach())
    if not math.isfinite(value):
        raise BatchfuseError(f"the loss is {value} at iteration {iteration}: lower the learning rate")
    if progress is not None:
        progress(iteration, value, float(psnr(image.detach(), target)))


def _figures(network: Res2NetFuse, photographs: Sequence[Photograph]) -> dict[str, float]:
    """The means over the whole photographs."""
    device = next(network.parameters()).device
    rows = []
    with torch.inference_mode():
        for photograph in photographs:
            target = torch.from_numpy(photograph.pixels).to(device)[None, None]
            image = network(target)
            rows.append([float(f) for f in _measured(image, target)])
    return dict(zip(("loss", "psnr", "ssim"), map(float, np.mean(rows, axis=0)), strict=True))


def _measured(image: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return loss_of(image, target, _LAST_PIXEL_WEIGHT), psnr(image, target), ssim(image, target)


def _made(settings: Settings, photographs: Sequence[Photograph], figures: dict[str, float]) -> dict[str, Any]:
    return {
        "settings": asdict(settings),
        "optimizer": f"Adam, warm-up of {_WARM_UP} iterations, cosine to 0",
        "loss_function": f"p * MSE + (1 - SSIM), p from 1 to {_LAST_PIXEL_WEIGHT:g} exponentially",
        "images": [{"name": p.name, "sha256": p.sha256, "shape": list(p.pixels.shape)} for p in photographs],
        "figures": figures,
    }


def _check_sizes(photographs: Sequence[Photograph], crop: int) -> None:
    for photograph in photographs:
        if min(photograph.pixels.shape) < crop:
            rows, columns = photograph.pixels.shape
            raise RecipeError(
                f"{photograph.name} has {rows} x {columns} pixels, less than a crop of {crop}: lower --crop"
            )
