"""The exponential mean of a network's weights over the iterations."""

from __future__ import annotations

import copy

import torch

from batchfuse.fusion.res2netfuse import Res2NetFuse

__all__ = ["WeightsMean"]


class WeightsMean:
    """Σ d^(t-i) w_i / Σ d^(t-i) of the weights w_i after each iteration i = 1 .. t, with the decay d.

    The division makes it a true mean from the first iteration on: the random weights before it have no
    part, and a training shorter than the mean's memory of 1 / (1 - d) iterations is averaged evenly.
    """

    def __init__(self, network: Res2NetFuse, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.added = 0
        self._decay = decay

    def add(self, network: Res2NetFuse) -> None:
        """Takes in the weights after an iteration."""
        self.added += 1
        share = (1 - self._decay) / (1 - self._decay**self.added)
        with torch.no_grad():
            for mean, weights in zip(self.network.parameters(), network.parameters(), strict=True):
                mean.lerp_(weights, share)
