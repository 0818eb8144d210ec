"""The network of Song et al., Res2NetFuse (arXiv 2112.14540, Table I)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from batchfuse.fusion.layers import (
    BLOCK_ENTRY,
    BLOCK_EXIT,
    DECODER,
    ENCODER,
    ENCODER_RADIUS,
    GROUP_LAYERS,
    GROUPS,
    Layer,
)

__all__ = ["Res2NetFuse", "Res2NetFuseConfig", "Sides", "shrunk"]

Sides = tuple[bool, bool, bool, bool]
"""Top, bottom, left, right: the sides on which a window was cut out of an image that goes on."""
_WHOLE: Sides = (False, False, False, False)


@dataclass(frozen=True, slots=True)
class Res2NetFuseConfig:
    """What the paper leaves open; the defaults are what was measured best."""

    shared: bool = False
    """One convolution for all six places of the block (the authors' code), or six (Table I)."""
    bias: bool = False
    """Without biases the network is exactly scale-equivariant."""
    skip: bool = True
    """Features are c + block(c) (Fig. 3), not block(c) alone."""

    def __post_init__(self) -> None:
        for name, value in self.to_json().items():
            if not isinstance(value, bool):
                raise ValueError(f"{name} of the network is {value!r}, not true or false")

    def to_json(self) -> dict[str, bool]:
        """As the weights file keeps it."""
        return {"shared": self.shared, "bias": self.bias, "skip": self.skip}

    @classmethod
    def from_json(cls, values: Mapping[str, bool]) -> Res2NetFuseConfig:
        """The inverse of ``to_json``."""
        return cls(**values)


class Res2NetFuse(nn.Module):
    """Encoder, Res2Net block and decoder; what lies between them in fusion has no weights.

    Images are (n, 1, y, x), features (n, 64, y, x) and never negative. Each layer pads with zeros.
    """

    def __init__(self, config: Res2NetFuseConfig | None = None) -> None:
        super().__init__()
        self.config = config or Res2NetFuseConfig()
        bias = self.config.bias
        self.encoder = nn.ModuleDict({layer.name: _convolution(layer, bias) for layer in ENCODER})
        self.block = Res2NetBlock(self.config)
        self.decoder = nn.ModuleDict({layer.name: _convolution(layer, bias) for layer in DECODER})

    def encode(self, images: Tensor, cut: Sides = _WHOLE) -> Tensor:
        """The features of each image, (n, 1, y, x) to (n, 64, y, x).

        On each cut side they are 8 pixels smaller: those depend on what was cut off.
        """
        features = images
        for layer in ENCODER:
            features = torch.relu(self.encoder[layer.name](features))
        deep: Tensor = self.block(features)
        return shrunk(features + deep if self.config.skip else deep, ENCODER_RADIUS, cut)

    def decode(self, features: Tensor) -> Tensor:
        """The image of each set of features: (n, 64, y, x) to (n, 1, y, x)."""
        for layer in DECODER:
            features = self.decoder[layer.name](features)
            features = torch.relu(features) if layer.relu else features
        return features

    def forward(self, images: Tensor) -> Tensor:
        """The images again, as in training, where nothing is fused."""
        return self.decode(self.encode(images))


class Res2NetBlock(nn.Module):
    """Groups of channels that see ever more of the image (equation 4)."""

    def __init__(self, config: Res2NetFuseConfig) -> None:
        super().__init__()
        self.entry = _convolution(BLOCK_ENTRY, config.bias)
        self.exit = _convolution(BLOCK_EXIT, config.bias)
        self.groups = nn.ModuleDict()
        one = _convolution(GROUP_LAYERS[0], config.bias) if config.shared else None
        if one is not None:
            self.groups["shared"] = one
        # plain lists beside the module dict keep a shared convolution once in the weights file
        self.paths: list[list[nn.Conv2d]] = []
        for number in range(2, GROUPS + 1):
            path = [one or _convolution(layer, config.bias) for layer in GROUP_LAYERS]
            if one is None:
                names = [layer.name for layer in GROUP_LAYERS]
                self.groups[f"group{number}"] = nn.ModuleDict(dict(zip(names, path, strict=True)))
            self.paths.append(path)

    def forward(self, features: Tensor) -> Tensor:
        """(n, 64, y, x) to the same shape."""
        first, *others = torch.relu(self.entry(features)).chunk(GROUPS, dim=1)
        outputs = [first]
        for path, group in zip(self.paths, others, strict=True):
            mixed = group if len(outputs) == 1 else group + outputs[-1]
            for convolution in path:
                mixed = torch.relu(convolution(mixed))
            outputs.append(mixed)
        return torch.relu(self.exit(torch.cat(outputs, dim=1)))


def shrunk(images: Tensor, by: int, cut: Sides) -> Tensor:
    """The view of images without ``by`` pixels on each cut side."""
    rows, columns = images.shape[2:]
    top, bottom, left, right = (by * side for side in cut)
    return images[:, :, top : rows - bottom, left : columns - right]


def _convolution(layer: Layer, bias: bool) -> nn.Conv2d:
    return nn.Conv2d(*layer.channels, layer.kernel, padding=layer.kernel // 2, bias=bias)
