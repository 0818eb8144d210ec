"""MS_SSIM as the paper's group uses it: MEF-SSIM (Ma, Zeng and Wang 2015) over three scales."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from batchfuse.metrics.images import FloatArray, Gray, compared, strips
from batchfuse.metrics.similarity import CONTRAST, WINDOW
from batchfuse.metrics.smoothing import smoothed

__all__ = ["ms_ssim", "qualities"]

WEIGHTS = np.array([0.0448, 0.2856, 0.3001])
"""Of the scales, finest first; the exponents are these over their sum."""
SMALLEST = 44
"""The shortest side whose quarter still holds a window."""
PATCH = np.ones(11)
AREA = 121
EPS = 2.0**-52


def ms_ssim(fused: Gray, *sources: Gray) -> float:
    """MEF-SSIM, 0..1; images (y, x) of values 0..255.

    NaN if a side is under 44 pixels, or if the fused image is so much the opposite of its sources that
    the quality at a scale is negative: such a number has no real power.
    """
    found = np.array(qualities(*compared(fused, *sources)))
    return float(np.prod(found ** (WEIGHTS / WEIGHTS.sum()))) if (found >= 0).all() else math.nan


def qualities(fused: Gray, *sources: Gray) -> list[float]:
    """The quality at each of the three scales, finest first, -1..1; NaN if a side is under 44 pixels."""
    if min(fused.shape) < SMALLEST:
        return [math.nan] * len(WEIGHTS)
    images = [fused, *sources]
    found = [_quality(images)]
    for _ in WEIGHTS[1:]:
        images = [_halved(image) for image in images]
        found.append(_quality(images))
    return found


def _halved(image: Gray) -> FloatArray:
    """Means of 2 x 2 pixels, half the size rounded up: an odd last row or column is doubled."""
    rows, columns = image.shape
    even = np.pad(image, [(0, rows % 2), (0, columns % 2)], mode="edge")
    quarters = [even[y::2, x::2].astype(np.float64) for y in (0, 1) for x in (0, 1)]
    return np.asarray(sum(quarters) / 4)


def _quality(images: Sequence[Gray]) -> float:
    """Mean over the 11 x 11 patches within the image of how like the fused patch is to the desired one."""
    # a whole number off changes nothing, keeps squares small and sums of whole numbers exact
    middles = [np.rint(image.mean()) for image in images]
    total, count = 0.0, 0
    for strip in strips(*images, border=5):
        fused, *sources = (image - middle for image, middle in zip(strip, middles, strict=True))
        likeness = _likeness(fused, sources, _desired(sources))
        total, count = total + float(np.sum(likeness)), count + likeness.size
    return total / count


def _desired(sources: Sequence[FloatArray]) -> list[FloatArray]:
    """Factors c_k: the desired patch is sum c_k (x_k - mean x_k) (eqs. 2 to 9)."""
    products = _products(sources, PATCH, AREA)
    norms = [np.sqrt(products[k][k]) for k in range(len(sources))]
    whole = np.sqrt(np.maximum(sum(sum(row) for row in products), 0))
    consistency = (whole + EPS) / (sum(norms) + EPS)
    power = np.minimum(np.tan(np.pi / 2 * np.where(consistency > 1, 1 - EPS, consistency)), 10)
    energies = [norm + 0.001 for norm in norms]
    shares = [(energy / 11) ** power + EPS for energy in energies]
    every = sum(shares)
    factors = [share / every / energy for share, energy in zip(shares, energies, strict=True)]
    length = np.sqrt(np.maximum(_quadratic(factors, products), 0))
    scale = np.maximum.reduce(energies) / np.where(length > 0, length, np.inf)
    return [scale * factor for factor in factors]


def _likeness(fused: FloatArray, sources: Sequence[FloatArray], factors: Sequence[FloatArray]) -> FloatArray:
    """Contrast and structure of SSIM between the desired and the fused patch (eq. 10)."""
    products = _products([*sources, fused], WINDOW, 1)
    pairs = zip(factors, products, strict=False)
    covariance = sum(factor * row[-1] for factor, row in pairs)
    variance = _quadratic(factors, products) + products[-1][-1]
    return np.asarray((2 * covariance + CONTRAST) / (variance + CONTRAST))


def _products(images: Sequence[FloatArray], weights: FloatArray, area: int) -> list[list[FloatArray]]:
    """Sums over each patch of the products of any two images, each less its mean over the patch."""
    sums = [smoothed(image, weights) for image in images]
    found: list[list[FloatArray]] = [[] for _ in images]
    for k, image in enumerate(images):
        for m in range(k + 1):
            product = smoothed(image * images[m], weights) - sums[k] * sums[m] / area
            found[k].append(np.maximum(product, 0) if m == k else product)
            if m < k:
                found[m].append(product)
    return found


def _quadratic(factors: Sequence[FloatArray], products: Sequence[Sequence[FloatArray]]) -> FloatArray:
    """Sum over k and m of factor k times factor m times their product."""
    numbers = range(len(factors))
    return np.asarray(sum(factors[k] * factors[m] * products[k][m] for k in numbers for m in numbers))
