"""The layers of Res2NetFuse as a table: the network and its halo are both made from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "BLOCK_ENTRY",
    "BLOCK_EXIT",
    "CPU_WINDOW",
    "DECODER",
    "DECODER_RADIUS",
    "ENCODER",
    "ENCODER_RADIUS",
    "FEATURES",
    "GROUPS",
    "GROUP_LAYERS",
    "RADIUS",
    "Layer",
    "radius",
]

CPU_WINDOW = 256
"""Edge, in pixels, of the cores that the network computes at once on a CPU."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution: stride 1, zero padding that keeps the image's size."""

    name: str
    """Its name in the weights file."""
    channels: tuple[int, int]
    """Channels in and out."""
    kernel: int
    """Edge of the kernel, odd."""
    relu: bool = True
    """Whether a ReLU follows."""


# Table I of arXiv 2112.14540
ENCODER = (Layer("conv1", (1, 32), 3), Layer("conv2", (32, 64), 3))
BLOCK_ENTRY = Layer("entry", (64, 64), 1)
GROUPS = 4
GROUP_LAYERS = (Layer("first", (16, 16), 3), Layer("second", (16, 16), 3))
BLOCK_EXIT = Layer("exit", (64, 64), 1)
DECODER = (
    Layer("conv1", (64, 64), 3),
    Layer("conv2", (64, 32), 3),
    Layer("conv3", (32, 16), 3),
    Layer("conv4", (16, 1), 3, relu=False),
)
FEATURES = BLOCK_EXIT.channels[1]
"""Channels of the features that a strategy fuses."""


def radius(layers: Sequence[Layer]) -> int:
    """How many pixels away an input can still reach an output of these layers in a row."""
    return sum(layer.kernel // 2 for layer in layers)


# y2 = F(x2), y3 = F(x3 + y2), y4 = F(x4 + y3): the longest way goes through F once a group but the first
_BLOCK_PATH = (BLOCK_ENTRY, *GROUP_LAYERS * (GROUPS - 1), BLOCK_EXIT)

ENCODER_RADIUS = radius((*ENCODER, *_BLOCK_PATH))
"""Pixels of a source around a pixel that its features depend on: 8."""
DECODER_RADIUS = radius(DECODER)
"""Pixels of the features around a pixel that the fused value depends on: 4."""
RADIUS = ENCODER_RADIUS + DECODER_RADIUS
"""Pixels of the sources around a pixel that the fused value depends on: 12."""
