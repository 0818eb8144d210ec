"""A training under way: the network, what the optimizer knows, and how far it is."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from batchfuse.errors import BatchfuseError
from batchfuse.fusion.res2netfuse import Res2NetFuse, Res2NetFuseConfig
from batchfuse.training.loss import loss_of, parts
from batchfuse.training.mean import WeightsMean
from batchfuse.training.photographs import Photograph
from batchfuse.training.settings import Settings

__all__ = ["Course", "Step"]


@dataclass(frozen=True, slots=True)
class Step:
    """What one iteration found, before its step of the optimizer."""

    iteration: int
    """From 1."""
    loss: float
    """What was minimized."""
    mse: float
    """Its pixel part, without its weight (equation 7)."""
    dissimilarity: float
    """Its structural part, 1 - SSIM (equation 6)."""

    @property
    def psnr(self) -> float:
        """DB of the image that the network gave back."""
        return -10 * math.log10(self.mse) if self.mse > 0 else math.inf


class Course:
    """The state of a training; equal settings, images and numbers of threads give equal steps."""

    def __init__(self, photographs: Sequence[Photograph], settings: Settings, device: torch.device) -> None:
        self.settings = settings
        self.iteration = 0
        self.network = _initial(settings.network, settings.seed).to(device)
        self.mean = WeightsMean(self.network, settings.mean_decay) if settings.mean_decay else None
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate)
        self.random = np.random.default_rng(settings.seed)
        self._photographs = photographs
        self._device = device

    def step(self) -> Step:
        """One iteration.

        Raises:
            BatchfuseError: the loss was lost to overflow.
        """
        target = self._target()
        mse, dissimilarity = parts(self.network(target * self.settings.white) / self.settings.white, target)
        error = loss_of(mse, dissimilarity, self.settings.pixel_weight_at(self.iteration))
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate(self.iteration)
        self.optimizer.zero_grad()
        torch.autograd.backward(error)
        self.optimizer.step()
        self.iteration += 1
        if self.mean is not None:
            self.mean.add(self.network)
        found = Step(self.iteration, *(float(x.detach()) for x in (error, mse, dissimilarity)))
        if not math.isfinite(found.loss):
            raise BatchfuseError(
                f"the loss is {found.loss} at iteration {found.iteration}: lower the learning rate"
            )
        return found

    def last(self) -> Res2NetFuse:
        """A copy of the network after the last iteration, for images of 0..1."""
        return _for_unit_images(self.network, self.settings.white)

    def kept(self) -> Res2NetFuse:
        """What is kept of the training: the mean of the weights if there is one, else the last."""
        return _for_unit_images(self.mean.network, self.settings.white) if self.mean else self.last()

    def _target(self) -> Tensor:
        """A photograph or a crop of one, as the settings have it: (1, 1, y, x)."""
        settings, random = self.settings, self.random
        pixels = self._photographs[int(random.integers(len(self._photographs)))].pixels
        if settings.crop is not None:
            top, left = (random.integers(n - settings.crop + 1) for n in pixels.shape)
            pixels = pixels[top : top + settings.crop, left : left + settings.crop]
        if settings.augment:
            flip_rows, flip_columns, transpose = random.integers(2, size=3)
            pixels = pixels[:: 1 - 2 * flip_rows, :: 1 - 2 * flip_columns]
            pixels = pixels.T if transpose else pixels
        return torch.from_numpy(np.ascontiguousarray(pixels))[None, None].to(self._device)


def _initial(config: Res2NetFuseConfig, seed: int) -> Res2NetFuse:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Res2NetFuse(config)


def _for_unit_images(network: Res2NetFuse, white: float) -> Res2NetFuse:
    """ReLU networks scale: f(v x; w, b) = v f(x; w, b / v), so dividing the biases is all it takes."""
    unit = copy.deepcopy(network).eval()
    with torch.no_grad():
        for name, values in unit.named_parameters():
            if name.endswith(".bias"):
                values.div_(white)
    return unit
