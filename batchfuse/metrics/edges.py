"""Q_abf (Xydeas and Petrovic 2000): how much of the sources' edges a fused image keeps."""

from __future__ import annotations

import numpy as np

from batchfuse.metrics.images import FloatArray, Gray, checked

__all__ = ["edge_transfer", "q_abf", "q_abf_255"]


def q_abf(fused: Gray, *sources: Gray) -> float:
    """Q_abf on fractions 0..1, as the published tables have it; images (y, x) of values 0..255."""
    return edge_transfer(*(image / 255 for image in checked(fused, *sources)))


def q_abf_255(fused: Gray, *sources: Gray) -> float:
    """Q_abf on 0..255, where whole numbers make every sum exact; images (y, x)."""
    return edge_transfer(*checked(fused, *sources))


def edge_transfer(fused: FloatArray, *sources: FloatArray) -> float:
    """Edge preservation weighted by the sources' gradients; NaN where no source has any gradient."""
    strength, angle = _gradient(fused)
    above, below = 0.0, 0.0
    for source in sources:
        weight, direction = _gradient(source)
        above += float(np.sum(_preserved(weight, direction, strength, angle) * weight))
        below += float(np.sum(weight))
    return above / below if below else float("nan")


def _preserved(
    strength: FloatArray, angle: FloatArray, fused_strength: FloatArray, fused_angle: FloatArray
) -> FloatArray:
    """Q_SF of each pixel."""
    low, high = np.minimum(strength, fused_strength), np.maximum(strength, fused_strength)
    # a tie should give 1; the public code gives the magnitude itself, and so did the published numbers
    relative = np.divide(low, high, out=fused_strength.copy(), where=low != high)
    turned = 1 - np.abs(angle - fused_angle) / (np.pi / 2)
    kept_strength = 0.9994 / (1 + np.exp(-15 * (relative - 0.5)))
    kept_angle = 0.9879 / (1 + np.exp(-22 * (turned - 0.8)))
    return np.asarray(kept_strength * kept_angle)


def _gradient(image: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sobel magnitude and line angle (-pi/2, pi/2] of each pixel, zeros around the image.

    The order of the additions is Octave's, because on fractions ties hang on the last bit.
    """
    x = np.pad(image, 1)
    n, s = x[:-2], x[2:]
    i, w, j, e = x[1:-1], slice(None, -2), slice(1, -1), slice(2, None)
    gx = ((((s[:, w] + 2 * i[:, w]) + n[:, w]) - s[:, e]) - 2 * i[:, e]) - n[:, e]
    gy = ((((s[:, w] - n[:, w]) + 2 * s[:, j]) - 2 * n[:, j]) + s[:, e]) - n[:, e]
    ratio = np.divide(gy, gx, out=np.full_like(gx, np.inf), where=gx != 0)
    return np.sqrt(gx * gx + gy * gy), np.arctan(ratio)
