"""Res2NetFuse on a CPU, as few passes over the memory as torch allows."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from batchfuse.fusion.layers import DECODER, ENCODER, ENCODER_RADIUS, GROUP_LAYERS, GROUPS, radius
from batchfuse.fusion.res2netfuse import Res2NetFuse, Sides, shrunk

__all__ = ["PrepackedNetwork"]


@dataclass(frozen=True, slots=True)
class _Convolution:
    """A convolution whose weights lie as oneDNN wants them, with its ReLU done in the same pass."""

    weight: Tensor
    bias: Tensor | None
    padding: int
    relu: bool

    @classmethod
    def packed(cls, layer: nn.Conv2d, relu: bool = True) -> _Convolution:
        padding = int(layer.padding[0])
        weight = layer.weight.detach().contiguous()
        sized = [1, layer.in_channels, 256, 256]  # what the layout is chosen for; any other size works
        pack = torch.ops.mkldnn._reorder_convolution_weight
        weight = pack(weight, [padding] * 2, [1, 1], [1, 1], 1, sized)
        bias = None if layer.bias is None else layer.bias.detach()
        return cls(weight, bias, padding, relu)

    def __call__(self, images: Tensor) -> Tensor:
        """(n, channel, y, x), channels last in memory, to the same."""
        convolve = torch.ops.mkldnn._convolution_pointwise
        padding, attribute = [self.padding] * 2, "relu" if self.relu else "none"
        out: Tensor = convolve(images, self.weight, self.bias, padding, [1, 1], [1, 1], 1, attribute, [], "")
        return out


class PrepackedNetwork:
    """Encoder and decoder of a network in float32, for inference on a CPU.

    oneDNN convolves with channels last at 85 % of what the cores can do, where torch's default
    layout reaches a third; ReLU costs no pass of its own; and what lies too near a window's cut side
    is dropped inside the block, where a new tensor is made anyway.
    """

    def __init__(self, network: Res2NetFuse) -> None:
        """Packs the weights; they are not shared with ``network``."""
        self._encoder = [_Convolution.packed(_conv(network.encoder[layer.name])) for layer in ENCODER]
        self._entry = _Convolution.packed(network.block.entry)
        self._paths = [[_Convolution.packed(c) for c in path] for path in network.block.paths]
        self._exit = _Convolution.packed(network.block.exit)
        self._skip = network.config.skip
        self._decoder = [_Convolution.packed(_conv(network.decoder[n.name]), n.relu) for n in DECODER]

    @staticmethod
    def is_possible() -> bool:
        """Whether this build of torch has the operators: they are not part of its public interface."""
        return torch.backends.mkldnn.is_available() and _convolves_rightly()

    def encode(self, images: Tensor, cut: Sides) -> Tensor:
        """The features of images (n, 1, y, x), less 8 pixels on each side that is ``cut``.

        A cut side is one beyond which the image goes on: 8 pixels there are wrong in any case.
        """
        features = images
        for convolution in self._encoder:
            features = convolution(features)
        deep = self._exit(self._grouped(self._entry(features), cut))
        return deep.add_(shrunk(features, ENCODER_RADIUS, cut)) if self._skip else deep

    def decode(self, features: Tensor) -> Tensor:
        """The image of each set of features: (n, 64, y, x) to (n, 1, y, x)."""
        for convolution in self._decoder:
            features = convolution(features)
        return features

    def _grouped(self, features: Tensor, cut: Sides) -> Tensor:
        """The groups of the block (equation 4), less 8 pixels on each cut side.

        There, c is wrong in 2 pixels, y2 in 4, y3 in 6 and y4 in 8.
        """
        first, *others = features.chunk(GROUPS, dim=1)
        outputs, wrong = [(first, 0)], radius(ENCODER)
        for path, group in zip(self._paths, others, strict=True):
            mixed = shrunk(group, wrong, cut)
            if len(outputs) > 1:
                before, lost = outputs[-1]
                mixed = mixed + shrunk(before, wrong - lost, cut)
            mixed = mixed.contiguous(memory_format=torch.channels_last)
            for convolution in path:
                mixed = convolution(mixed)
            outputs.append((mixed, wrong))
            wrong += radius(GROUP_LAYERS)
        return torch.cat([shrunk(output, ENCODER_RADIUS - lost, cut) for output, lost in outputs], dim=1)


@functools.cache
def _convolves_rightly() -> bool:
    """Tries the operators on a small image."""
    layer = nn.Conv2d(16, 16, 3, padding=1, bias=False)
    with torch.inference_mode():
        image = torch.linspace(-1, 1, 16 * 64).reshape(1, 16, 8, 8)
        try:
            found = _Convolution.packed(layer)(image.contiguous(memory_format=torch.channels_last))
        except (AttributeError, RuntimeError, TypeError):
            return False
        return torch.allclose(found, torch.relu(layer(image)), atol=1e-5)


def _conv(module: nn.Module) -> nn.Conv2d:
    assert isinstance(module, nn.Conv2d)
    return module
