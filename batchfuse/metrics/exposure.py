"""MS_SSIM as the paper's group uses it: MEF-SSIM (Ma, Zeng and Wang 2015) over three scales."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d

from batchfuse.metrics.images import FloatArray, Gray, checked
from batchfuse.metrics.similarity import CONTRAST, gaussian

__all__ = ["levels", "ms_ssim"]

WEIGHTS = np.array([0.0448, 0.2856, 0.3001])
TINY = 2.0**-52


def ms_ssim(fused: Gray, *sources: Gray) -> float:
    """MEF-SSIM, 0..1; images (y, x) of values 0..255.

    NaN if a side is under 44 pixels, or if the fused image is so much the opposite of its sources that
    the quality at a scale is negative: such a number has no real power.
    """
    qualities = np.array(levels(*checked(fused, *sources)))
    if not (qualities >= 0).all():
        return float("nan")
    return float(np.prod(qualities ** (WEIGHTS / WEIGHTS.sum())))


def levels(fused: FloatArray, *sources: FloatArray) -> list[float]:
    """The quality at each of the three scales, finest first; NaN if a side is under 44 pixels."""
    if min(fused.shape) / 4 < 11:
        return [float("nan")] * 3
    images = [fused, *sources]
    found = []
    for _ in WEIGHTS:
        found.append(_quality(images[0], images[1:]))
        images = [_reduced(image) for image in images]
    return found


def _reduced(image: FloatArray) -> FloatArray:
    """Half the size: means of 2 x 2 pixels, the last row and column doubled where they are odd."""
    x = np.pad(image, [(0, 1), (0, 1)], mode="symmetric")
    return np.asarray((x[:-1, :-1] + x[:-1, 1:] + x[1:, :-1] + x[1:, 1:])[::2, ::2] / 4)


def _quality(fused: FloatArray, sources: list[FloatArray]) -> float:
    """Mean over 11 x 11 patches of how like the fused patch is to the desired one."""
    flat, weighted = np.full(11, 1 / 11), gaussian(5, 1.5)
    images = [image - image.mean() for image in [fused, *sources]]
    x = images[1:]
    u = [[_covariance(a, b, flat) for b in x] for a in x]
    norms = [np.sqrt(np.maximum(121 * u[k][k], 0)) for k in range(len(x))]
    whole = np.sqrt(np.maximum(121 * sum(sum(row) for row in u), 0))
    ratio = (whole + TINY) / (sum(norms) + TINY)
    power = np.minimum(np.tan(np.pi / 2 * np.where(ratio > 1, 1 - TINY, ratio)), 10)
    energies = [norm + 0.001 for norm in norms]
    shares = [(energy / 11) ** power + TINY for energy in energies]
    total = sum(shares)
    c = [share / total / energy for share, energy in zip(shares, energies, strict=True)]
    length = np.sqrt(np.maximum(121 * _quadratic(c, u), 0))
    scale = np.divide(np.maximum.reduce(energies), length, out=np.ones_like(length), where=length > 0)
    c = [scale * coefficient for coefficient in c]
    v = [[_covariance(a, b, weighted) for b in x] for a in x]
    covariance = sum(
        coefficient * _covariance(a, images[0], weighted) for coefficient, a in zip(c, x, strict=True)
    )
    variance = _quadratic(c, v) + _covariance(images[0], images[0], weighted)
    return float(np.mean((2 * covariance + CONTRAST) / (variance + CONTRAST)))


def _quadratic(c: list[FloatArray], u: list[list[FloatArray]]) -> FloatArray:
    terms = [c[k] * c[m] * u[k][m] for k in range(len(c)) for m in range(len(c))]
    return np.asarray(sum(terms))


def _covariance(a: FloatArray, b: FloatArray, weights: FloatArray) -> FloatArray:
    return _local(a * b, weights) - _local(a, weights) * _local(b, weights)


def _local(image: FloatArray, weights: FloatArray) -> FloatArray:
    """Weighted mean of each 11 x 11 patch that lies within the image."""
    for axis in (0, 1):
        image = correlate1d(image, weights, axis=axis, mode="constant")
    return image[5:-5, 5:-5]
