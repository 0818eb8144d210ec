"""The feature images whose mutual information FMI measures: a cosine and a wavelet transform."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import dctn

from batchfuse.metrics.images import FloatArray

__all__ = ["cosines", "meyer_taps", "wavelets"]

TAPS = 102


def cosines(image: FloatArray) -> FloatArray:
    """Orthonormal type-II cosine transform of the whole image, (y, x) to (y, x)."""
    return np.asarray(dctn(image / 255, norm="ortho"))


def wavelets(image: FloatArray) -> FloatArray:
    """One level of the discrete Meyer wavelet: the bands [cA cH; cV cD] side by side, rescaled to 0..1.

    Larger than the image: each band is (floor((rows + 101) / 2), floor((columns + 101) / 2)).
    """
    low, high = meyer_taps()[::-1], (-1.0) ** np.arange(1, TAPS + 1) * meyer_taps()
    # cH, at the upper right, is what is low along x and high along y
    bands = [[_halved(_halved(image / 255, x, 1), y, 0) for y in (low, high)] for x in (low, high)]
    mosaic = np.block(bands)
    span = mosaic.max() - mosaic.min()
    return np.asarray((mosaic - mosaic.min()) / span) if span else np.ones_like(mosaic)


@cache
def meyer_taps() -> FloatArray:
    """The 102 taps of the discrete Meyer scaling filter, which sum to sqrt 2."""
    omega, weights = np.polynomial.legendre.leggauss(400)
    middle = np.pi / 2 + omega * np.pi / 6  # the slope from pi/3 to 2 pi/3
    x = 3 * middle / np.pi - 1
    slope = np.cos(np.pi / 2 * x**4 * (35 - 84 * x + 70 * x**2 - 20 * x**3))
    k = np.arange(-50, 51)
    flat = np.sinc(k / 3) / 3  # integral of cos(k omega) / pi from 0 to pi/3
    taps = flat + (np.cos(np.outer(k, middle)) * slope) @ weights / 6
    return np.append(taps * np.sqrt(2) / taps.sum(), 0.0)


def _halved(image: FloatArray, taps: FloatArray, axis: int) -> FloatArray:
    """The image convolved along an axis, half-point symmetric at the ends, each second sample kept."""
    lines = np.moveaxis(image, axis, -1)
    lines = np.pad(lines, [(0, 0), (TAPS - 1, TAPS - 1)], mode="symmetric")
    kept = sliding_window_view(lines, TAPS, axis=-1)[:, 1::2] @ taps[::-1]
    return np.moveaxis(kept, -1, axis)
