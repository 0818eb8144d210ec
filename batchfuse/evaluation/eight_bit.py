"""Images as the 8-bit grey that figures are told of; numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["rounded", "stretched"]


def rounded(image: ArrayLike) -> NDArray[np.uint8]:
    """A scaled image, any shape, 0..1 and beyond: cut to 0..1, times 255, rounded, halves up.

    Half to even instead would send every half of an average of two 8-bit images to an even value, a
    pattern that FMI sees: 0.39 in place of 0.405 over 20 pairs.

    Raises:
        ValueError: a value is NaN.
    """
    return np.asarray(np.clip(_finite(image), 0, 1) * 255 + 0.5, np.uint8)


def stretched(image: ArrayLike, ends: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """The paper's protocol: least to greatest value of the whole image to 0..255, truncated.

    ``ends`` are these two values where ``image`` is a part of the whole. A constant image, which has no such
    range, becomes 0.

    Raises:
        ValueError: a value is NaN or infinite, or there is none.
    """
    values = _finite(image)
    if not values.size or np.isinf(values).any():
        raise ValueError("only finite values have a range to stretch")
    low, high = ends or (values.min(), values.max())
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    # times 255 first: whole numbers that span 0..255 already stay as they are
    return np.asarray(np.clip((values - low) * 255 / (high - low), 0, 255), np.uint8)


def _finite(image: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(image, np.float64)
    if np.isnan(values).any():
        raise ValueError("an image with NaN has no 8-bit form: cut it to what is valid first")
    return values
