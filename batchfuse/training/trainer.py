"""Trains Res2NetFuse to give photographs back."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from batchfuse.errors import RecipeError, TrainingError, WeightsError
from batchfuse.fusion.device import resolved_device
from batchfuse.fusion.res2netfuse import Res2NetFuse
from batchfuse.fusion.weights import are_weights, load_weights, save_weights
from batchfuse.system.claims import Claims
from batchfuse.training.checkpoint import Checkpoint
from batchfuse.training.course import Course, Step
from batchfuse.training.identity import difference, identity
from batchfuse.training.interruption import Interruption
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
    steps: Sequence[Step]
    """Every iteration, also those before an interruption; empty where the files were there already."""


def train(
    images: Sequence[Path],
    out: Path,
    *,
    preset: str = DEFAULT_PRESET,
    device: str = "auto",
    progress: Progress | None = None,
    restart: bool = False,
    **chosen: Any,
) -> TrainingResult:
    """Trains on photographs and writes a .safetensors file that says how it was made.

    On one machine with one number of threads, equal settings give equal bytes. While it trains, a checkpoint
    lies beside the file, ``<name>.checkpoint.safetensors``; from it an equal call goes on, to the same bytes.
    Where the file is there already, of equal settings and images, nothing is trained.

    Args:
        images: files of 8 or 16 bits that Pillow reads; colour is turned to luminance.
        out: the .safetensors file to write; where the settings keep a mean of the weights, the last ones
            go beside it, as ``<name>-last.safetensors``.
        preset: paper or res2netfuse: where the settings begin.
        device: auto, cpu, cuda or cuda:N.
        progress: called after each iteration.
        restart: train from the beginning, whatever is there.
        chosen: fields of ``Settings`` that differ from the preset's.

    Raises:
        RecipeError: settings that can't work; a checkpoint or weights of other settings or images are there.
        SourceError: an image that can't be read.
        WeightsError: ``out`` can't be written, or the checkpoint can't be read.
        TrainingError: the loss was lost to overflow.
        KeyboardInterrupt: Ctrl-C, after the iteration in hand; its text says where and what is kept.
    """
    settings = _settings(preset, chosen)
    on = resolved_device(device)
    _check_name(out)
    if not images:
        raise RecipeError("training needs an image: give one or more photographs")
    photographs = [read_photograph(Path(path)) for path in images]
    _check_sizes(photographs, settings.crop)
    wanted = identity(settings, photographs)
    last = out.with_name(f"{out.stem}-last.safetensors") if settings.mean_decay else None
    checkpoint = Checkpoint(out, wanted, on)
    _check_paths(images, [path for path in (out, last) if path is not None], checkpoint)
    if restart:
        checkpoint.discard()
    elif not checkpoint.find() and _are_there([out, last] if last else [out], wanted):
        return TrainingResult(out, last, settings, **load_weights(out).made["figures"], steps=())
    _check_folder(out.parent)
    with _threads(checkpoint.threads), Interruption() as interruption:
        try:
            course = trained(photographs, settings, on, progress, checkpoint, interruption)
            if last is not None:  # before the other: where that is, all is done
                _saved(course.last(), last, settings, photographs, "last")
            figures = _saved(course.kept(), out, settings, photographs, "mean" if last else "last")
        except TrainingError:  # going on would come to the same end
            checkpoint.discard()
            raise
        checkpoint.discard()
    return TrainingResult(out, last, settings, **figures, steps=course.steps)


def trained(
    photographs: Sequence[Photograph],
    settings: Settings,
    device: torch.device,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    interruption: Interruption | None = None,
) -> Course:
    """The training, all of its iterations done.

    Args:
        photographs: to train on, none smaller than the crop.
        settings: how to train.
        device: where.
        progress: called after each iteration.
        checkpoint: where to go on from, and to write to.
        interruption: asked between iterations whether to stop; goes with a checkpoint.

    Raises:
        WeightsError: the checkpoint can't be written, or another version wrote it.
        TrainingError: the loss was lost to overflow.
        KeyboardInterrupt: ``interruption`` was asked for, and the checkpoint written.
    """
    course = Course(photographs, settings, device)
    if checkpoint is not None:
        checkpoint.restore(course)
    while course.iteration < settings.iterations:
        step = course.step()
        if progress is not None:
            progress(step.iteration, step.loss, step.psnr)
        if checkpoint is not None and course.iteration < settings.iterations:
            if interruption is not None and interruption.asked:
                checkpoint.write(course)
                raise KeyboardInterrupt(
                    f"after iteration {course.iteration} of {settings.iterations}, {checkpoint.path} holds it"
                )
            checkpoint.write_if_due(course)
    return course


def _settings(preset: str, chosen: Mapping[str, Any]) -> Settings:
    if preset not in PRESETS:
        raise RecipeError(f"there is no preset {preset!r}: give one of {', '.join(PRESETS)}")
    return replace(PRESETS[preset], **chosen)


def _check_name(out: Path) -> None:
    if out.suffix != ".safetensors":
        raise RecipeError(f"the weights file {out} has to end in .safetensors")
    if out.stem.endswith(".checkpoint"):
        raise RecipeError(f"the weights file {out} is named as a checkpoint is: leave out .checkpoint")


def _check_paths(images: Sequence[Path | str], outputs: Sequence[Path], checkpoint: Checkpoint) -> None:
    """RecipeError where one of the files to write is an image that is read, or there and not of `train`."""
    claims = Claims("use another output")
    for image in images:
        claims.read(Path(image), "the image")
    for path in (*outputs, checkpoint.path):
        claims.write(path, "the training")
    for path in outputs:
        if os.path.lexists(path) and not are_weights(path):
            raise RecipeError(f"{path} is there and was not written by `batchfuse train`: use another output")
    checkpoint.refuse_foreign()


def _check_folder(folder: Path) -> None:
    """Better before a training than after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(f"the folder {folder} can't be written: {error}") from error
    if not os.access(folder, os.W_OK):
        raise WeightsError(f"the folder {folder} can't be written: give another output")


def _are_there(paths: Sequence[Path], wanted: Mapping[str, Any]) -> bool:
    """Whether all files of this training are there; refuses those of another."""
    there = [path for path in paths if path.exists()]
    for path in there:
        try:
            differs = difference(load_weights(path).made, wanted)
        except WeightsError as error:
            raise RecipeError(f"{error}; or --restart, which replaces it") from error
        if differs is not None:
            raise RecipeError(
                f"{path} is of another training ({differs}): --restart replaces it, another output keeps both"
            )
    return len(there) == len(paths)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Torch with a number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _saved(
    network: Res2NetFuse, path: Path, settings: Settings, photographs: Sequence[Photograph], weights: str
) -> dict[str, float]:
    """Writes the weights with how they were made; their figures on the photographs."""
    figures = _figures(network, photographs, settings)
    if not math.isfinite(figures["loss"]):
        raise TrainingError(f"the weights came out with the loss {figures['loss']}: lower the learning rate")
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
        **identity(settings, photographs),
        "optimizer": "Adam, "
        + (f"warm-up of {WARM_UP} iterations, cosine to 0" if falls else "constant rate"),
        "loss_function": f"p * MSE + (1 - SSIM), p from 1 to {settings.pixel_weight:g} exponentially",
        "figures": figures,
    }


def _check_sizes(photographs: Sequence[Photograph], crop: int | None) -> None:
    for photograph in photographs:
        if crop is not None and min(photograph.pixels.shape) < crop:
            rows, columns = photograph.pixels.shape
            raise RecipeError(
                f"{photograph.name} has {rows} x {columns} pixels, less than a crop of {crop}: lower --crop"
            )
