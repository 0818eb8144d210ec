"""Colour images fused by their luminance (values.md, step 5); numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["grey", "luminance", "recolored"]

_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114  # ITU-R BT.601


def luminance(rgb: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Y = 0.299 R + 0.587 G + 0.114 B: (3, y, x) scaled values to (y, x).

    Raises:
        ValueError: there are not three bands.
    """
    _check(rgb)
    # float64 in between: equal bands shall give exactly that band
    return grey(rgb).astype(np.float32)


def grey(bands: NDArray[Any]) -> NDArray[np.float64]:
    """One band as it is, three by their luminance, in any range: (1 or 3, y, x) to (y, x).

    Raises:
        ValueError: there are neither one nor three bands.
    """
    if bands.ndim != 3 or bands.shape[0] not in (1, 3):
        raise ValueError(f"an image has one or three bands, (n, y, x), not {bands.shape}")
    values = bands.astype(np.float64)
    if len(values) == 1:
        return np.asarray(values[0])
    red, green, blue = values
    return np.asarray(_RED * red + _GREEN * green + _BLUE * blue)


def recolored(
    rgb: NDArray[np.floating[Any]], fused_luminance: NDArray[np.floating[Any]]
) -> NDArray[np.float32]:
    """The colours of an image at another luminance: R' = R + (Y' - Y), and so for G and B.

    Args:
        rgb: (3, y, x), scaled values.
        fused_luminance: (y, x), Y'.

    Raises:
        ValueError: there are not three bands, or the shapes differ.
    """
    _check(rgb)
    if fused_luminance.shape != rgb.shape[1:]:
        raise ValueError(f"luminance of {fused_luminance.shape} for colours of {rgb.shape}")
    return np.asarray(rgb + (fused_luminance - luminance(rgb)), np.float32)


def _check(rgb: NDArray[np.floating[Any]]) -> None:
    if rgb.ndim != 3 or rgb.shape[0] != 3:
        raise ValueError(f"colours are three bands, (3, y, x), not {rgb.shape}")
