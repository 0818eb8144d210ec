"""Figures of gray levels and of neighbouring pixels: EN, MI, SD, AG, SF."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from batchfuse.metrics.images import FloatArray, Gray, checked, compared, strips

__all__ = ["ag", "en", "mi", "sd", "sf"]

LEVELS = 256


def en(fused: Gray) -> float:
    """Entropy of the 256 gray levels in bits, 0..8; image (y, x) of values 0..255, rounded."""
    return _entropy(_counts(*checked(fused)))


def mi(fused: Gray, *sources: Gray) -> float:
    """Mutual information of gray levels, summed over the sources, in bits; images (y, x) of 0..255, rounded.

    As in the public code, levels 254 and 255 are one in the joint table, but not in the marginals.
    """
    image, *others = compared(fused, *sources)
    own = _entropy(_counts(image))
    return sum(own + _entropy(_counts(other)) - _entropy(_joint_counts(image, other)) for other in others)


def sd(fused: Gray) -> float:
    """Standard deviation of an image (y, x), in its own unit; over all pixels, not all but one."""
    (image,) = checked(fused, scale_free=True)
    mean = float(image.mean(dtype=np.float64))
    return math.sqrt(sum(float(np.sum((strip - mean) ** 2)) for (strip,) in strips(image)) / image.size)


def ag(fused: Gray) -> float:
    """Average gradient of an image (y, x), in its own unit; NaN if it is a single row or column.

    Central differences, one-sided at the edges; a sum over all pixels over (rows - 1) (columns - 1).
    """
    (image,) = checked(fused, scale_free=True)
    rows, columns = image.shape
    if min(rows, columns) < 2:
        return math.nan
    # a row beyond each edge, on the line through the two next to it: its central difference is one-sided
    first, last = (2 * image[[k]].astype(np.float64) - image[[m]] for k, m in ((0, 1), (-1, -2)))
    total = sum(
        float(np.sum(_slopes(strip)))
        for part in (np.concatenate([first, image[:2]]), image, np.concatenate([image[-2:], last]))
        for (strip,) in strips(part, border=1)
    )
    return float(total / ((rows - 1) * (columns - 1)))


def sf(fused: Gray) -> float:
    """Spatial frequency of an image (y, x), in its own unit; NaN if it is a single row or column.

    The root of the mean squared vertical difference plus the mean squared horizontal one.
    """
    (image,) = checked(fused, scale_free=True)
    rows, columns = image.shape
    if min(rows, columns) < 2:
        return math.nan
    down = sum(float(np.sum((b - a) ** 2)) for a, b in strips(image[:-1], image[1:]))
    right = sum(float(np.sum((b - a) ** 2)) for a, b in strips(image[:, :-1], image[:, 1:]))
    return math.sqrt(down / ((rows - 1) * columns) + right / (rows * (columns - 1)))


def _slopes(strip: FloatArray) -> FloatArray:
    """sqrt((dx^2 + dy^2) / 2) of all rows but the first and the last."""
    dy = (strip[2:] - strip[:-2]) / 2
    return np.sqrt((dy**2 + np.gradient(strip[1:-1], axis=1) ** 2) / 2)


def _counts(image: Gray) -> NDArray[np.intp]:
    counts = np.zeros(LEVELS, np.intp)
    for (strip,) in strips(image):
        counts += np.bincount(_levels(strip), minlength=LEVELS)
    return counts


def _joint_counts(a: Gray, b: Gray) -> NDArray[np.intp]:
    counts = np.zeros(LEVELS**2, np.intp)
    for pair in strips(a, b):
        first, second = (np.minimum(_levels(strip), LEVELS - 2) for strip in pair)
        counts += np.bincount(first * LEVELS + second, minlength=LEVELS**2)
    return counts


def _levels(strip: FloatArray) -> NDArray[np.intp]:
    return np.rint(strip).astype(np.intp).ravel()


def _entropy(counts: NDArray[np.intp]) -> float:
    share = counts[counts > 0] / counts.sum()
    return abs(float(np.sum(share * np.log2(share))))
