"""Figures of pixel differences: MSE, PSNR, and SCD (Aslantas and Bendes 2015)."""

from __future__ import annotations

import math

import numpy as np

from batchfuse.errors import BatchfuseError
from batchfuse.metrics.images import Gray, checked, is_constant, strips

__all__ = ["mse", "psnr", "scd"]


def mse(a: Gray, b: Gray) -> float:
    """Mean squared difference of two images (y, x) of values 0..255, as fractions 0..1."""
    images = checked(a, b)
    return sum(float(np.sum((x / 255 - y / 255) ** 2)) for x, y in strips(*images)) / images[0].size


def psnr(a: Gray, b: Gray) -> float:
    """10 log10(1 / MSE) in dB for two images (y, x) of values 0..255; infinite if they are equal."""
    error = mse(a, b)
    return 10 * math.log10(1 / error) if error else math.inf


def scd(fused: Gray, *sources: Gray) -> float:
    """Sum of the correlations of differences, r(F - B, A) + r(F - A, B); -2..2, whatever the scale.

    NaN if a source is constant, or the fused image less a source is: as for a fused image that is a source.

    Raises:
        BatchfuseError: There aren't two sources, or the images can't be compared.
    """
    if len(sources) != 2:
        raise BatchfuseError(f"SCD is defined for two sources, not for {len(sources)}: leave it out")
    f, a, b = checked(fused, *sources, scale_free=True)
    return _correlation(f, b, a) + _correlation(f, a, b)


def _correlation(fused: Gray, subtracted: Gray, source: Gray) -> float:
    """Pearson's, over all pixels, of the fused image less one source with the other."""
    differences = [float(np.sum(f - s)) for f, s in strips(fused, subtracted)]
    mean_difference, mean_source = sum(differences) / fused.size, float(source.mean(dtype=np.float64))
    products = np.zeros(3)
    lows, highs = np.full(2, np.inf), np.full(2, -np.inf)
    for f, s, other in strips(fused, subtracted, source):
        x, y = f - s - mean_difference, other - mean_source
        lows = np.minimum(lows, [x.min(), y.min()])
        highs = np.maximum(highs, [x.max(), y.max()])
        products += [np.sum(x * y), np.sum(x * x), np.sum(y * y)]
    if any(is_constant(np.array(ends)) for ends in zip(lows, highs, strict=True)):
        return math.nan
    return float(products[0] / np.sqrt(products[1] * products[2]))
