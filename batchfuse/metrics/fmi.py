"""FMI (Haghighat and Razian 2014): mutual information of features, 3 x 3 window by window."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from batchfuse.metrics.features import cosines, wavelets
from batchfuse.metrics.images import FloatArray, Gray, checked

__all__ = ["feature_information", "fmi_dct", "fmi_w"]

ROWS = 16


def fmi_dct(fused: Gray, *sources: Gray) -> float:
    """FMI of cosine coefficients, 0..1; images (y, x) of values 0..255. NaN below 3 x 3 pixels."""
    return feature_information(*(cosines(image) for image in checked(fused, *sources)))


def fmi_w(fused: Gray, *sources: Gray) -> float:
    """FMI of discrete Meyer wavelet coefficients, 0..1; images (y, x) of values 0..255."""
    return feature_information(*(wavelets(image) for image in checked(fused, *sources)))


def feature_information(fused: FloatArray, *sources: FloatArray) -> float:
    """Mean over windows and sources of the normalised mutual information of feature images (y, x)."""
    rows, columns = fused.shape[0] - 2, fused.shape[1] - 2
    if rows < 1 or columns < 1:
        return float("nan")
    total = 0.0
    for top in range(0, rows, ROWS):
        strip = slice(top, min(top + ROWS, rows) + 2)
        total += _of_strip(fused[strip], [source[strip] for source in sources])
    mean: float = total / (rows * columns * len(sources))
    return mean


def _of_strip(fused: FloatArray, sources: list[FloatArray]) -> float:
    f = _windows(fused)
    q = _rescaled(f)
    # the public loop overwrites the fused window by its rescaled form at the first source that differs
    overwritten = np.zeros(len(f), bool)
    total = 0.0
    for source in sources:
        s = _windows(source)
        equal = (s == np.where(overwritten[:, None], q, f)).all(axis=1)
        overwritten |= ~equal
        total += float(equal.sum())
        total += float(_information(_rescaled(s[~equal]), q[~equal]).sum())
    return total


def _windows(image: FloatArray) -> FloatArray:
    """All 3 x 3 windows, (n, 9), each listed column by column."""
    return np.asarray(sliding_window_view(image, (3, 3)).transpose(0, 1, 3, 2).reshape(-1, 9))


def _rescaled(windows: FloatArray) -> FloatArray:
    low, high = windows.min(axis=1, keepdims=True), windows.max(axis=1, keepdims=True)
    span: FloatArray = high - low
    return np.asarray(np.divide(windows - low, span, out=np.ones_like(windows), where=span > 0))


def _information(s: FloatArray, f: FloatArray) -> FloatArray:
    """Normalised mutual information of windows (n, 9)."""
    p, q = s / s.sum(axis=1, keepdims=True), f / f.sum(axis=1, keepdims=True)
    running_p, running_q = p.cumsum(axis=1), q.cumsum(axis=1)
    dp, dq = p - running_p[:, -1:] / 9, q - running_q[:, -1:] / 9
    common = (dp * dq).sum(axis=1)
    norm = np.sqrt((dp**2).sum(axis=1) * (dq**2).sum(axis=1))
    c = np.divide(common, norm, out=np.zeros_like(common), where=(common != 0) & (norm > 0))
    product = running_q[:, :, None] * running_p[:, None, :]
    upper = np.minimum(running_q[:, :, None], running_p[:, None, :])
    lower = np.maximum(running_q[:, :, None] + running_p[:, None, :] - 1, 0)
    bound = np.where((c >= 0)[:, None, None], upper, lower)
    covariance = (bound - product).sum(axis=(1, 2))
    deviations = _deviation(p) * _deviation(q)
    mix = np.divide(
        c * deviations, covariance, out=np.zeros_like(c), where=(covariance != 0) & (deviations > 0)
    )
    joint = np.diff(np.diff(bound, axis=1, prepend=0), axis=2, prepend=0)
    joint = mix[:, None, None] * joint + (1 - mix)[:, None, None] * q[:, :, None] * p[:, None, :]
    each = _entropy(p) + _entropy(q)
    mutual = each - _entropy(joint.reshape(-1, 81))
    return np.asarray(np.divide(2 * mutual, each, out=np.zeros_like(each), where=each > 0))


def _deviation(p: FloatArray) -> FloatArray:
    """Standard deviation of the position 1..9 under each distribution."""
    i = np.arange(1, 10)
    return np.sqrt(np.maximum(p @ i**2 - (p @ i) ** 2, 0))


def _entropy(p: FloatArray) -> FloatArray:
    """In bits; of the absolute value, since mixing can leave 0..1."""
    size = np.abs(p)
    return np.asarray(-np.sum(p * np.log2(np.where(size > 0, size, 1)), axis=1))
