"""The feature images whose mutual information FMI measures: a cosine and a wavelet transform."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.fft import dctn

from batchfuse.metrics.images import FloatArray, Gray

__all__ = ["cosines", "meyer_taps", "wavelets"]

TAPS = 102
BLOCK = 2**17
"""Pixels that are filtered at once."""


def cosines(image: Gray) -> FloatArray:
    """Orthonormal type-II cosine transform of the whole image, (y, x) of 0..255 to (y, x)."""
    if image.min() == image.max():  # the zeros have to be zeros: windows stretch what rounding leaves
        found = np.zeros(image.shape)
        found[0, 0] = float(image[0, 0]) / 255 * np.sqrt(image.size)
        return found
    return np.asarray(dctn(np.divide(image, 255, dtype=np.float64), norm="ortho", overwrite_x=True))


def wavelets(image: Gray) -> FloatArray:
    """One level of the discrete Meyer wavelet: the bands [cA cH; cV cD] side by side, rescaled to 0..1.

    Larger than the image: each band is floor((rows + 101) / 2) by floor((columns + 101) / 2).
    """
    rows, columns = ((extent + TAPS - 1) // 2 for extent in image.shape)
    across = np.empty((2, image.shape[0], columns))  # low, high along x
    for part in _parts(image.shape[0], image.shape[1]):
        lines = np.divide(image[part].T, 255, dtype=np.float64)
        across[0, part], across[1, part] = (band.T for band in _halved(lines))
    mosaic = np.empty((2 * rows, 2 * columns))
    for part in _parts(columns, image.shape[0]):
        right = slice(part.start + columns, part.stop + columns)
        # cH, at the upper right, is what is low along x and high along y
        mosaic[:rows, part], mosaic[:rows, right] = _halved(across[0, :, part])
        mosaic[rows:, part], mosaic[rows:, right] = _halved(across[1, :, part])
    low, high = mosaic.min(), mosaic.max()
    if low == high:
        return np.ones_like(mosaic)
    mosaic -= low
    mosaic /= high - low
    return mosaic


@cache
def meyer_taps() -> FloatArray:
    """The 102 taps of the discrete Meyer scaling filter, which sum to sqrt 2; taps 0..100 are symmetric.

    Its frequency response is flat below pi/3 and zero above 2 pi/3; the slope between is integrated
    numerically, to the last bits.
    """
    nodes, weights = np.polynomial.legendre.leggauss(400)
    omega = np.pi / 2 + nodes * np.pi / 6
    x = 3 * omega / np.pi - 1
    slope = np.cos(np.pi / 2 * x**4 * (35 - 84 * x + 70 * x**2 - 20 * x**3))
    k = np.arange(51)
    half = np.sinc(k / 3) / 3 + (np.cos(np.outer(k, omega)) * slope) @ weights / 6
    taps = np.concatenate([half[:0:-1], half, [0.0]])
    return np.asarray(taps * np.sqrt(2) / taps.sum())


def _halved(lines: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Low and high band along axis 0 (n, m): each ((n + 101) // 2, m), half-point symmetric at the ends.

    Sums run tap by tap, in one order for all pixels: flat parts of an image give equal numbers exactly,
    where a matrix product would leave noise for the windows of FMI to stretch.
    """
    taps = meyer_taps()
    low_pass, high_pass = taps[::-1], taps * (-1.0) ** np.arange(1, TAPS + 1)
    extended = np.pad(lines, [(TAPS - 1, TAPS - 1), (0, 0)], mode="symmetric")
    length = (len(lines) + TAPS - 1) // 2
    low, high = np.zeros((length, lines.shape[1])), np.zeros((length, lines.shape[1]))
    term = np.empty_like(low)
    for k in range(TAPS):
        samples = extended[TAPS - k :: 2][:length]
        low += np.multiply(samples, low_pass[k], out=term)
        high += np.multiply(samples, high_pass[k], out=term)
    return low, high


def _parts(count: int, length: int) -> list[slice]:
    """Some lines of this length after the other."""
    step = max(1, BLOCK // length)
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
