"""FMI (Haghighat and Razian 2014): mutual information of features, 3 x 3 window by window."""

from __future__ import annotations

import math

import numpy as np

from batchfuse.metrics.coupling import information
from batchfuse.metrics.distribution import Distribution, rescaled, windows
from batchfuse.metrics.features import cosines, wavelets
from batchfuse.metrics.images import FloatArray, Gray, compared

__all__ = ["feature_information", "fmi_dct", "fmi_w"]

WINDOWS = 4096
"""Treated at once: their arrays of nine stay in a processor's cache."""


def fmi_dct(fused: Gray, *sources: Gray) -> float:
    """FMI of the cosine coefficients of images (y, x) of values 0..255; 0..1, NaN below 3 x 3 pixels."""
    return feature_information(*(cosines(image) for image in compared(fused, *sources)))


def fmi_w(fused: Gray, *sources: Gray) -> float:
    """FMI of the discrete Meyer wavelet coefficients of images (y, x) of values 0..255; 0..1."""
    return feature_information(*(wavelets(image) for image in compared(fused, *sources)))


def feature_information(fused: FloatArray, *sources: FloatArray) -> float:
    """Mean over windows and sources of the normalised mutual information of feature images (y, x)."""
    rows, columns = fused.shape[0] - 2, fused.shape[1] - 2
    if rows < 1 or columns < 1:
        return math.nan
    step = max(1, WINDOWS // columns)
    total = 0.0
    for top in range(0, rows, step):
        part = slice(top, min(top + step, rows) + 2)
        total += _sum_of_strip(fused[part], [source[part] for source in sources])
    return float(total / (rows * columns * len(sources)))


def _sum_of_strip(fused: FloatArray, sources: list[FloatArray]) -> float:
    """Sum over all windows and sources.

    Equal windows give 1. The public loop overwrites a fused window by its rescaled form when it comes to
    the first source that differs, and compares the next sources with that: so does this.
    """
    raw = windows(fused)
    stretched = rescaled(raw)
    of_fused = Distribution.of(stretched)
    overwritten = np.zeros(raw.shape[1], bool)
    total = 0.0
    for source in map(windows, sources):
        equal = np.where(overwritten, _equal(source, stretched), _equal(source, raw))
        overwritten |= ~equal
        shared = information(Distribution.of(rescaled(source)), of_fused)
        total += float(np.sum(np.where(equal, 1, shared)))
    return total


def _equal(a: FloatArray, b: FloatArray) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return np.asarray((a == b).all(axis=0))
