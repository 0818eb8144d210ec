"""Structural similarity (Wang et al. 2004): SSIM of two images, and SSIM_a of a fused image."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d

from batchfuse.metrics.images import FloatArray, Gray, checked

__all__ = ["gaussian", "ssim", "ssim_a"]

LUMINANCE, CONTRAST = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(a: Gray, b: Gray) -> float:
    """Structural similarity of two images (y, x) of values 0..255; 1 if they are equal."""
    one, other = checked(a, b)
    return similarity(one, other)


def ssim_a(fused: Gray, *sources: Gray) -> float:
    """Mean structural similarity of a fused image to its sources, all (y, x) of values 0..255."""
    image, *others = checked(fused, *sources)
    return float(np.mean([similarity(image, other) for other in others]))


def similarity(a: FloatArray, b: FloatArray) -> float:
    """Mean of the map that has a value at each pixel: the border is continued by its edge pixels."""
    mean_a, mean_b = _smoothed(a), _smoothed(b)
    variances = _smoothed(a * a) - mean_a**2 + _smoothed(b * b) - mean_b**2
    covariance = _smoothed(a * b) - mean_a * mean_b
    above = (2 * mean_a * mean_b + LUMINANCE) * (2 * covariance + CONTRAST)
    below = (mean_a**2 + mean_b**2 + LUMINANCE) * (variances + CONTRAST)
    return float(np.mean(above / below))


def gaussian(radius: int, sigma: float) -> FloatArray:
    """Weights of a window of 2 radius + 1 pixels, which sum to 1."""
    t = np.arange(-radius, radius + 1)
    weights = np.exp(-(t**2) / (2 * sigma**2))
    return np.asarray(weights / weights.sum())


def _smoothed(image: FloatArray) -> FloatArray:
    weights = gaussian(5, 1.5)
    for axis in (0, 1):
        image = correlate1d(image, weights, axis=axis, mode="nearest")
    return image
