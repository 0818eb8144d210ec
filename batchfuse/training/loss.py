"""The training loss: pixels and structure."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = ["loss_of", "parts", "psnr", "ssim"]

_WINDOW = 11
_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2  # for images of 0..1


def parts(image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The pixel part MSE and the structural part 1 - SSIM of images (n, 1, y, x) of 0..1 (equations 6, 7)."""
    return F.mse_loss(image, target), 1 - ssim(image, target)


def loss_of(mse: Tensor, dissimilarity: Tensor, pixel_weight: float) -> Tensor:
    """Equation 5 with the pixel part weighted, p · MSE + (1 - SSIM)."""
    return pixel_weight * mse + dissimilarity


def ssim(image: Tensor, target: Tensor) -> Tensor:
    """Mean structural similarity of images (n, 1, y, x) of 0..1, as a scalar.

    Gaussian window of 11 pixels and sigma 1.5, population variances, the border replicated so that
    the map keeps the image's size.
    """
    both = torch.cat([image, target, image * image, target * target, image * target])
    mean_x, mean_y, xx, yy, xy = _blurred(both).chunk(5)
    squares, product = mean_x**2 + mean_y**2, mean_x * mean_y
    similarity = (2 * product + _C1) * (2 * (xy - product) + _C2)
    return (similarity / ((squares + _C1) * (xx + yy - squares + _C2))).mean()


def psnr(image: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images of 0..1, as a scalar; infinity for equal ones."""
    return -10 * torch.log10(F.mse_loss(image, target))


def _blurred(images: Tensor) -> Tensor:
    offsets = torch.arange(_WINDOW, dtype=images.dtype, device=images.device) - _WINDOW // 2
    kernel = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(images, [_WINDOW // 2] * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
