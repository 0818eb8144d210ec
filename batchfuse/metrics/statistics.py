"""Figures of gray levels and of neighbouring pixels: EN, MI, SD, AG, SF."""

from __future__ import annotations

import numpy as np

from batchfuse.metrics.images import FloatArray, Gray, checked

__all__ = ["ag", "en", "mi", "sd", "sf"]


def en(fused: Gray) -> float:
    """Entropy of the 256 gray levels in bits, 0..8; image (y, x) of values 0..255."""
    (image,) = checked(fused)
    return _entropy(np.bincount(_levels(image).ravel(), minlength=256))


def mi(fused: Gray, *sources: Gray) -> float:
    """Mutual information of gray levels, summed over the sources, in bits; images (y, x) 0..255."""
    levels = [_levels(image).ravel() for image in checked(fused, *sources)]
    own = _entropy(np.bincount(levels[0]))
    # the public code counts 254 and 255 as one level in the joint table, not in the marginals
    first = np.minimum(levels[0], 254)
    found = 0.0
    for level in levels[1:]:
        joint = _entropy(np.bincount(first * 256 + np.minimum(level, 254)))
        found += own + _entropy(np.bincount(level)) - joint
    return found


def sd(fused: Gray) -> float:
    """Standard deviation of an image (y, x), in its own unit."""
    (image,) = checked(fused)
    return float(image.std())


def ag(fused: Gray) -> float:
    """Average gradient of an image (y, x), in its own unit; NaN if it is a single row or column."""
    (image,) = checked(fused)
    if min(image.shape) < 2:
        return float("nan")
    dy, dx = np.gradient(image)
    rows, columns = image.shape
    return float(np.sum(np.sqrt((dx**2 + dy**2) / 2)) / ((rows - 1) * (columns - 1)))


def sf(fused: Gray) -> float:
    """Spatial frequency of an image (y, x), in its own unit; NaN if it is a single row or column."""
    (image,) = checked(fused)
    if min(image.shape) < 2:
        return float("nan")
    return float(np.sqrt(np.mean(np.diff(image, axis=0) ** 2) + np.mean(np.diff(image, axis=1) ** 2)))


def _levels(image: FloatArray) -> np.ndarray[tuple[int, ...], np.dtype[np.intp]]:
    return np.clip(np.rint(image), 0, 255).astype(np.intp)


def _entropy(counts: np.ndarray[tuple[int, ...], np.dtype[np.intp]]) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-np.sum(share * np.log2(share)))
