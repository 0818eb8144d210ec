"""Structural similarity (Wang et al. 2004): SSIM of two images, and SSIM_a of a fused image."""

from __future__ import annotations

import numpy as np

from batchfuse.metrics.images import FloatArray, Gray, checked, compared, strips
from batchfuse.metrics.smoothing import gaussian, smoothed

__all__ = ["CONTRAST", "WINDOW", "ssim", "ssim_a"]

LUMINANCE, CONTRAST = (0.01 * 255) ** 2, (0.03 * 255) ** 2
"""The constants C1 and C2 for gray levels 0..255."""
WINDOW = gaussian(5, 1.5)


def ssim(a: Gray, b: Gray) -> float:
    """Structural similarity of two images (y, x) of values 0..255, -1..1; 1 if they are equal."""
    one, other = checked(a, b)
    return _similarity(one, other)


def ssim_a(fused: Gray, *sources: Gray) -> float:
    """Mean structural similarity of a fused image to its sources, all (y, x) of values 0..255; -1..1."""
    image, *others = compared(fused, *sources)
    return float(np.mean([_similarity(image, other) for other in others]))


def _similarity(a: Gray, b: Gray) -> float:
    """Mean of a map that has a value for each pixel: the border is continued by its edge pixels."""
    padded = [np.pad(image, len(WINDOW) // 2, mode="edge") for image in (a, b)]
    total = sum(float(np.sum(_map(*strip))) for strip in strips(*padded, border=len(WINDOW) // 2))
    return total / a.size


def _map(a: FloatArray, b: FloatArray) -> FloatArray:
    """SSIM of each window (eq. 13), with population variances."""
    mean_a, mean_b, both, product = (smoothed(x, WINDOW) for x in (a, b, a * a + b * b, a * b))
    squares = mean_a * mean_a + mean_b * mean_b
    means = mean_a * mean_b
    above = (2 * means + LUMINANCE) * (2 * (product - means) + CONTRAST)
    return np.asarray(above / ((squares + LUMINANCE) * (both - squares + CONTRAST)))
