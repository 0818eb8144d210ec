"""VIF in the pixel domain (Sheikh and Bovik 2006): how much of a source's information gets through."""

from __future__ import annotations

import math

import numpy as np

from batchfuse.metrics.images import FloatArray, Gray, compared, strips
from batchfuse.metrics.smoothing import gaussian, smoothed

__all__ = ["vif"]

NOISE = 2.0
"""Variance of the noise of seeing, for gray levels 0..255."""
RADII = (8, 4, 2, 1)
"""Of the windows at each of the four scales; sigma is a fifth of a window's width."""
TINY = 1e-10


def vif(fused: Gray, *sources: Gray) -> float:
    """Visual information fidelity, summed over the sources; images (y, x) of values 0..255.

    About 0..1 a source, more where contrast was added. Windows lie within the image at each scale: nothing
    is padded. NaN if the images are too small for that (under 41 pixels a side) or a source is constant.
    """
    image, *others = compared(fused, *sources)
    return sum(_fidelity(other, image) for other in others)


def _fidelity(reference: Gray, image: Gray) -> float:
    """VIF of an image against a reference: information over all scales, of what the reference offers."""
    pair = [reference, image]
    gained, offered = 0.0, 0.0
    for scale, radius in enumerate(RADII):
        window = gaussian(radius, (2 * radius + 1) / 5)
        if scale:
            pair = [_halved(each, window) for each in pair]
        if min(pair[0].shape) < len(window):
            return math.nan
        for seen, shown in strips(*pair, border=radius):
            gain, offer = _information(seen, shown, window)
            gained, offered = gained + gain, offered + offer
    return gained / offered if offered else math.nan


def _halved(image: Gray, window: FloatArray) -> FloatArray:
    """Smoothed where the window lies within the image, each second row and column kept."""
    radius = len(window) // 2
    rows = [smoothed(strip, window) for (strip,) in strips(image, border=radius)]
    return np.concatenate(rows)[::2, ::2] if rows else np.empty((0, 0))


def _information(reference: FloatArray, image: FloatArray, window: FloatArray) -> tuple[float, float]:
    """What gets through to the image, and what the reference offers; each summed over a strip."""
    mean_r, mean_i = smoothed(reference, window), smoothed(image, window)
    var_r = np.maximum(smoothed(reference * reference, window) - mean_r * mean_r, 0)
    var_i = np.maximum(smoothed(image * image, window) - mean_i * mean_i, 0)
    covariance = smoothed(reference * image, window) - mean_r * mean_i
    gain = covariance / (var_r + TINY)
    noise = var_i - gain * covariance
    flat_r, flat_i = var_r < TINY, var_i < TINY
    gain[flat_r], noise[flat_r], var_r[flat_r] = 0, var_i[flat_r], 0
    gain[flat_i], noise[flat_i] = 0, 0
    against = gain < 0
    gain[against], noise[against] = 0, var_i[against]
    gained = np.log10(1 + gain * gain * var_r / (np.maximum(noise, TINY) + NOISE))
    return float(np.sum(gained)), float(np.sum(np.log10(1 + var_r / NOISE)))
