"""A training under way: the network, what the optimizer knows, and how far it is."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from batchfuse.errors import TrainingError
from batchfuse.fusion.res2netfuse import Res2NetFuse, Res2NetFuseConfig
from batchfuse.training.loss import loss_of, parts
from batchfuse.training.mean import WeightsMean
from batchfuse.training.photographs import Photograph
from batchfuse.training.settings import Settings

__all__ = ["Course", "Step"]

_ADAM = ("step", "exp_avg", "exp_avg_sq")  # what the optimizer knows of each parameter


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
        self.steps: list[Step] = []
        """All so far."""
        self.network = _initial(settings.network, settings.seed).to(device)
        self.mean = WeightsMean(self.network, settings.mean_decay) if settings.mean_decay else None
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate)
        self.random = np.random.default_rng(settings.seed)
        self._photographs = photographs
        self._device = device

    @property
    def iteration(self) -> int:
        """How many are done."""
        return len(self.steps)

    def step(self) -> Step:
        """One iteration.

        Raises:
            TrainingError: the loss was lost to overflow.
        """
        target = self._target()
        mse, dissimilarity = parts(self.network(target * self.settings.white) / self.settings.white, target)
        error = loss_of(mse, dissimilarity, self.settings.pixel_weight_at(self.iteration))
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate(self.iteration)
        self.optimizer.zero_grad()
        torch.autograd.backward(error)
        self.optimizer.step()
        if self.mean is not None:
            self.mean.add(self.network)
        found = Step(self.iteration + 1, *(float(x.detach()) for x in (error, mse, dissimilarity)))
        if not math.isfinite(found.loss):
            raise TrainingError(
                f"the loss is {found.loss} at iteration {found.iteration}: lower the learning rate"
            )
        self.steps.append(found)
        return found

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that ``restore`` needs: tensors by name, and the state of the random numbers as JSON has it."""
        rows = [(step.loss, step.mse, step.dissimilarity) for step in self.steps]
        tensors = {"steps": torch.tensor(rows, dtype=torch.float64).reshape(-1, 3)}
        for name, parameter in self.network.named_parameters():
            tensors[f"network.{name}"] = parameter.detach()
            known = self.optimizer.state[parameter]
            tensors |= {f"adam.{key}.{name}": known[key] for key in _ADAM}
        if self.mean is not None:
            tensors |= {f"mean.{name}": values for name, values in self.mean.network.named_parameters()}
        return tensors, dict(self.random.bit_generator.state)

    def restore(self, tensors: Mapping[str, Tensor], random: Mapping[str, Any]) -> None:
        """Goes back to where ``state`` was taken, of a course with equal settings.

        Raises:
            KeyError, RuntimeError, TypeError, ValueError: that was no such state.
        """
        self.steps = [Step(number, *row) for number, row in enumerate(tensors["steps"].tolist(), 1)]
        names = [name for name, _ in self.network.named_parameters()]
        _set(self.network, {name: tensors[f"network.{name}"] for name in names})
        known = {
            i: {key: tensors[f"adam.{key}.{name}"].clone() for key in _ADAM} for i, name in enumerate(names)
        }
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": known})
        if self.mean is not None:
            _set(self.mean.network, {name: tensors[f"mean.{name}"] for name in names})
            self.mean.added = len(self.steps)
        self.random.bit_generator.state = dict(random)

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


def _set(network: Res2NetFuse, values: Mapping[str, Tensor]) -> None:
    """In place: the optimizer holds the same parameters."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(values[name])


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
