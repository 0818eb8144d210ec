"""Figures of pixel differences: MSE, PSNR, and SCD (Aslantas and Bendes 2015)."""

from __future__ import annotations

import numpy as np

from batchfuse.errors import BatchfuseError
from batchfuse.metrics.images import FloatArray, Gray, checked

__all__ = ["correlation", "mse", "psnr", "scd"]


def mse(a: Gray, b: Gray) -> float:
    """Mean squared difference of two images (y, x) of values 0..255, as fractions 0..1."""
    one, other = checked(a, b)
    return float(np.mean((one / 255 - other / 255) ** 2))


def psnr(a: Gray, b: Gray) -> float:
    """10 log10(1 / MSE) in dB for images (y, x) of values 0..255; infinite if they are equal."""
    error = mse(a, b)
    return float(10 * np.log10(1 / error)) if error else float("inf")


def scd(fused: Gray, *sources: Gray) -> float:
    """Sum of the correlations of differences, -2..2; two sources, images (y, x) of values 0..255.

    NaN if a source, or the fused image less a source, is constant.

    Raises:
        BatchfuseError: There aren't two sources.
    """
    if len(sources) != 2:
        raise BatchfuseError(f"SCD is defined for two sources, not {len(sources)}: leave it out")
    f, a, b = checked(fused, *sources)
    return correlation(f - b, a) + correlation(f - a, b)


def correlation(a: FloatArray, b: FloatArray) -> float:
    """Pearson's, over all pixels; NaN if either is constant."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    x, y = a - a.mean(), b - b.mean()
    return float(np.sum(x * y) / np.sqrt(np.sum(x * x) * np.sum(y * y)))
