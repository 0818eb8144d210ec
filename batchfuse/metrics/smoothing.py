"""Weighted means of the windows around each pixel."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d

from batchfuse.metrics.images import FloatArray

__all__ = ["gaussian", "smoothed"]


def gaussian(radius: int, sigma: float) -> FloatArray:
    """Weights of a window of 2 radius + 1 pixels, which sum to 1."""
    t = np.arange(-radius, radius + 1)
    weights = np.exp(-(t**2) / (2 * sigma**2))
    return np.asarray(weights / weights.sum())


def smoothed(image: FloatArray, weights: FloatArray) -> FloatArray:
    """Weighted sum of each square window that lies within the image (y, x): smaller by the window less 1."""
    edge = len(weights) // 2
    rows, columns = image.shape
    image = correlate1d(image, weights, axis=0, mode="constant")[edge : rows - edge]
    return np.asarray(correlate1d(image, weights, axis=1, mode="constant")[:, edge : columns - edge])
