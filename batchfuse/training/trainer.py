"""Trains Res2NetFuse to give photographs back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from batchfuse.errors import RecipeError
from batchfuse.fusion.device import resolved_device
from batchfuse.fusion.res2netfuse import Res2NetFuse
from batchfuse.fusion.weights import save_weights
from batchfuse.training.course import Course
from batchfuse.training.loss import loss_of, parts, psnr
from batchfuse.training.photographs import Photograph, read_photograph
from batchfuse.training.settings import DEFAULT_PRESET, PRESETS, WARM_UP, Settings

__all__ = ["Progress", "TrainingResult", "train", "trained"]

Progress = Callable[[int, float, float], None]
"""Called with the iteration (from 1), its loss, and the PSNR in dB of its image."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What came of a training."""

    path: Path
    """The weights file."""
    last: Path | None
    """The file of the last weights, where a mean of them is what is kept."""
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
    preset: str = DEFAULT_PRESET,
    device: str = "auto",
    progress: Progress | None = None,
    **chosen: Any,
) -> TrainingResult:
    """Trains on photographs and writes a .safetensors file that says how it was made.

    On one machine with one number of threads, equal settings give equal bytes.

    Args:
        images: files of 8 or 16 bits that Pillow reads; colour is turned to luminance.
        out: the .safetensors file to write; where the settings keep a mean of the weights, the last ones
            go beside it, as ``<name>-last.safetensors``.
        preset: paper or res2netfuse: where the settings begin.
        device: auto, cpu, cuda or cuda:N.
        progress: called after each iteration.
        chosen: fields of ``Settings`` that differ from the preset's.

    Raises:
        RecipeError: settings that can't work.
        SourceError: an image that can't be read.
        WeightsError: ``out`` can't be written.
        BatchfuseError: the loss was lost to overflow.
    """
    if preset not in PRESETS:
        raise RecipeError(f"there is no preset {preset!r}: give one of {', '.join(PRESETS)}")
    settings = replace(PRESETS[preset], **chosen)
    if out.suffix != ".safetensors":
        raise RecipeError(f"the weights file {out} has to end in .safetensors")
    if not images:
        raise RecipeError("training needs an image: give one or more photographs")
    photographs = [read_photograph(Path(path)) for path in images]
    course = trained(photographs, settings, resolved_device(device), progress)
    figures = _saved(course.kept(), out, settings, photographs, "mean" if course.mean else "last")
    last = None
    if course.mean:
        last = out.with_name(f"{out.stem}-last.safetensors")
        _saved(course.last(), last, settings, photographs, "last")
    return TrainingResult(out, last, settings, **figures)


def trained(
    photographs: Sequence[Photograph],
    settings: Settings,
    device: torch.device,
    progress: Progress | None = None,
) -> Course:
    """The training, all of its iterations done.

    Raises:
        RecipeError: a photograph smaller than the crop.
        BatchfuseError: the loss was lost to overflow.
    """
    _check_sizes(photographs, settings.crop)
    course = Course(photographs, settings, device)
    for _ in range(settings.iterations):
        step = course.step()
        if progress is not None:
            progress(step.iteration, step.loss, step.psnr)
    return course


def _saved(
    network: Res2NetFuse, path: Path, settings: Settings, photographs: Sequence[Photograph], weights: str
) -> dict[str, float]:
    """Writes the weights with how they were made; their figures on the photographs."""
    figures = _figures(network, photographs, settings)
    save_weights(network, path, _made(settings, photographs, figures) | {"weights": weights})
    return figures


def _figures(network: Res2NetFuse, photographs: Sequence[Photograph], settings: Settings) -> dict[str, float]:
    """The means over the whole photographs."""
    device = next(network.parameters()).device
    rows = []
    with torch.inference_mode():
        for photograph in photographs:
            target = torch.from_numpy(photograph.pixels).to(device)[None, None]
            rows.append([float(f) for f in _measured(network(target), target, settings)])
    return dict(zip(("loss", "psnr", "ssim"), map(float, np.mean(rows, axis=0)), strict=True))


def _measured(image: Tensor, target: Tensor, settings: Settings) -> tuple[Tensor, Tensor, Tensor]:
    mse, dissimilarity = parts(image, target)
    return loss_of(mse, dissimilarity, settings.pixel_weight), psnr(image, target), 1 - dissimilarity


def _made(settings: Settings, photographs: Sequence[Photograph], figures: dict[str, float]) -> dict[str, Any]:
    falls = settings.schedule == "cosine"
    return {
        "settings": settings.to_json(),
        "optimizer": "Adam, "
        + (f"warm-up of {WARM_UP} iterations, cosine to 0" if falls else "constant rate"),
        "loss_function": f"p * MSE + (1 - SSIM), p from 1 to {settings.pixel_weight:g} exponentially",
        "images": [{"name": p.name, "sha256": p.sha256, "shape": list(p.pixels.shape)} for p in photographs],
        "figures": figures,
    }


def _check_sizes(photographs: Sequence[Photograph], crop: int | None) -> None:
    for photograph in photographs:
        if crop is not None and min(photograph.pixels.shape) < crop:
            rows, columns = photograph.pixels.shape
            raise RecipeError(
                f"{photograph.name} has {rows} x {columns} pixels, less than a crop of {crop}: lower --crop"
            )
