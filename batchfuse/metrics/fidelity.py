"""VIF in the pixel domain (Sheikh and Bovik 2006): how much of a source's information gets through."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d

from batchfuse.metrics.images import FloatArray, Gray, checked
from batchfuse.metrics.similarity import gaussian

__all__ = ["vif"]

NOISE = 2.0
TINY = 1e-10


def vif(fused: Gray, *sources: Gray) -> float:
    """Visual information fidelity, summed over the sources; images (y, x) of values 0..255.

    NaN if the images are too small for four scales (41 pixels a side) or a source is constant.
    """
    image, *others = checked(fused, *sources)
    return sum(fidelity(other, image) for other in others)


def fidelity(reference: FloatArray, image: FloatArray) -> float:
    """Pixel-domain VIF of an image against a reference."""
    above, below = 0.0, 0.0
    for scale in range(1, 5):
        radius = 2 ** (4 - scale)
        weights = gaussian(radius, (2 * radius + 1) / 5)
        if scale > 1:
            reference, image = (_valid(x, weights)[::2, ::2] for x in (reference, image))
        if min(reference.shape) < len(weights):
            return float("nan")
        gained, offered = _information(reference, image, weights)
        above, below = above + gained, below + offered
    return above / below if below else float("nan")


def _information(reference: FloatArray, image: FloatArray, weights: FloatArray) -> tuple[float, float]:
    mean_r, mean_i = _valid(reference, weights), _valid(image, weights)
    var_r = np.maximum(_valid(reference**2, weights) - mean_r**2, 0)
    var_i = np.maximum(_valid(image**2, weights) - mean_i**2, 0)
    covariance = _valid(reference * image, weights) - mean_r * mean_i
    gain = covariance / (var_r + TINY)
    noise = var_i - gain * covariance
    flat_r, flat_i = var_r < TINY, var_i < TINY
    gain[flat_r], noise[flat_r], var_r[flat_r] = 0, var_i[flat_r], 0
    gain[flat_i], noise[flat_i] = 0, 0
    against = gain < 0
    gain[against], noise[against] = 0, var_i[against]
    noise = np.maximum(noise, TINY)
    gained = np.sum(np.log10(1 + gain**2 * var_r / (noise + NOISE)))
    return float(gained), float(np.sum(np.log10(1 + var_r / NOISE)))


def _valid(image: FloatArray, weights: FloatArray) -> FloatArray:
    """Weighted means of the windows that lie within the image."""
    edge = len(weights) // 2
    for axis in (0, 1):
        image = correlate1d(image, weights, axis=axis, mode="constant")
    return image[edge : image.shape[0] - edge, edge : image.shape[1] - edge]
