"""Q_abf (Xydeas and Petrovic 2000): how much of the sources' edges a fused image keeps."""

from __future__ import annotations

import math

import numpy as np

from batchfuse.metrics.images import FloatArray, Gray, compared, strips

__all__ = ["q_abf", "q_abf_255"]


def q_abf(fused: Gray, *sources: Gray) -> float:
    """Q_abf on fractions 0..1, as the published tables have it; images (y, x) of values 0..255.

    Returns:
        0..1, or NaN where the sources are black.
    """
    return _edge_transfer(fused, *sources, unit=255)


def q_abf_255(fused: Gray, *sources: Gray) -> float:
    """Q_abf on 0..255, where whole numbers make every sum exact; images (y, x).

    Returns:
        0..1, or NaN where the sources are black.
    """
    return _edge_transfer(fused, *sources, unit=1)


def _edge_transfer(fused: Gray, *sources: Gray, unit: int) -> float:
    """Edge preservation, weighted by the gradients of the sources (eq. 4 with L = 1)."""
    # zeros around the image, whose large false edges count too
    padded = [np.pad(image, 1) for image in compared(fused, *sources)]
    above, below = 0.0, 0.0
    for strip in strips(*padded, border=1):
        strength, angle = _gradient(strip[0] / unit)
        for source in strip[1:]:
            weight, direction = _gradient(source / unit)
            above += float(np.sum(_preserved(weight, direction, strength, angle) * weight))
            below += float(np.sum(weight))
    return above / below if below else math.nan


def _preserved(
    strength: FloatArray, angle: FloatArray, fused_strength: FloatArray, fused_angle: FloatArray
) -> FloatArray:
    """How well each pixel of the fused image keeps strength and angle of a source's edge (eq. 2)."""
    low, high = np.minimum(strength, fused_strength), np.maximum(strength, fused_strength)
    tied = low == high
    # a tie should give 1; the public code gives the magnitude itself, and so did the published numbers
    relative = np.where(tied, fused_strength, low / np.where(tied, 1, high))
    turned = 1 - np.abs(angle - fused_angle) / (np.pi / 2)
    kept_strength = 0.9994 / (1 + np.exp(-15 * (relative - 0.5)))
    kept_angle = 0.9879 / (1 + np.exp(-22 * (turned - 0.8)))
    return np.asarray(kept_strength * kept_angle)


def _gradient(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sobel magnitude, and angle of the line in (-pi/2, pi/2], of each pixel but the outermost.

    The order of the additions is that of Octave's conv2: column by column, each from the bottom row up. On
    fractions it decides ties, and so moves the figure by up to 1e-2.
    """
    n, i, s = x[:-2], x[1:-1], x[2:]
    w, j, e = slice(None, -2), slice(1, -1), slice(2, None)
    gx = ((((s[:, w] + 2 * i[:, w]) + n[:, w]) - s[:, e]) - 2 * i[:, e]) - n[:, e]
    gy = ((((s[:, w] - n[:, w]) + 2 * s[:, j]) - 2 * n[:, j]) + s[:, e]) - n[:, e]
    upright = gx == 0
    with np.errstate(over="ignore"):  # towards pi/2
        angle = np.arctan(gy / np.where(upright, 1, gx))
    return np.sqrt(gx * gx + gy * gy), np.where(upright, np.pi / 2, angle)
