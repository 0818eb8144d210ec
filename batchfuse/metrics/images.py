"""The images that a figure is measured on: checked where they come in, and cut into strips of rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchfuse.errors import BatchfuseError

__all__ = ["FloatArray", "Gray", "checked", "compared", "is_constant", "strips"]

Gray = NDArray[Any]
"""A gray image (y, x) with values 0..255, of any real type."""
FloatArray = NDArray[np.float64]

PIXELS = 2**17
"""Of a strip: its float64 arrays stay in a processor's cache."""
ROWS = 32
"""At least, in a strip: filters read rows beyond its own."""
ROUNDING = 1e-9
"""Values that differ by no more are the same: what is left of a subtraction of fractions."""


def compared(fused: Gray, *sources: Gray) -> list[Gray]:
    """A fused image and its sources, checked as in :func:`checked`; there has to be a source."""
    if not sources:
        raise BatchfuseError("a fused image is measured against its sources: give them after it")
    return checked(fused, *sources)


def checked(*images: Gray, scale_free: bool = False) -> list[Gray]:
    """The images as arrays (y, x) of one shape, in the types they came in.

    Args:
        images: The fused image and its sources, or any images to compare; values 0..255.
        scale_free: Whether any range of values will do.

    Raises:
        BatchfuseError: One isn't a 2-D array of real, finite numbers 0..255, or their shapes differ.
    """
    arrays = [_real(image, number) for number, image in enumerate(images)]
    for number, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise BatchfuseError(
                f"image {number} is {_size(array)} but image 0 is {_size(arrays[0])} pixels: "
                "figures compare images of one size, so bring them onto one grid first"
            )
    if not scale_free:
        _refuse_other_ranges(arrays)
    return arrays


def is_constant(image: FloatArray) -> bool:
    """Whether all values are the same, up to rounding."""
    return bool(np.ptp(image) <= ROUNDING)


def strips(*images: Gray, border: int = 0) -> Iterator[list[FloatArray]]:
    """The images strip by strip from the top, as float64.

    Args:
        images: Of one shape (y, x).
        border: What the windows of a filter reach beyond their middle. A strip holds the rows that its
            own middles need, so the filtered strips together are the filtered image, each row once.
    """
    rows, columns = images[0].shape
    step = max(ROWS, PIXELS // columns)
    for top in range(0, rows - 2 * border, step):
        bottom = min(top + step, rows - 2 * border) + 2 * border
        yield [image[top:bottom].astype(np.float64) for image in images]


def _real(image: Gray, number: int) -> Gray:
    if np.ma.is_masked(image):
        raise BatchfuseError(f"image {number} is masked in places: cut the images to where all are valid")
    array = np.asarray(image)
    if array.ndim != 2 or not array.size:
        raise BatchfuseError(
            f"image {number} is an array of shape {array.shape}: figures want gray images (y, x), "
            "so turn colours to gray first and give one plane at a time"
        )
    if array.dtype.kind not in "buif":
        raise BatchfuseError(f"image {number} holds {array.dtype}: figures want real numbers 0..255")
    bad = array.size - np.count_nonzero(np.isfinite(array))
    if bad:
        raise BatchfuseError(
            f"image {number} holds {bad} pixels that are NaN or infinite: cut the images to where all of "
            "them are valid, or fill those pixels in each of them"
        )
    return array


def _refuse_other_ranges(arrays: list[Gray]) -> None:
    lows, highs = [float(array.min()) for array in arrays], [float(array.max()) for array in arrays]
    for number, (low, high) in enumerate(zip(lows, highs, strict=True)):
        if np.rint(low) < 0 or np.rint(high) > 255:
            raise BatchfuseError(
                f"image {number} holds values {low:g} to {high:g}: figures want 0..255, so scale all images "
                "alike first, as an export to 8 bits does"
            )
    fractions = all(array.dtype.kind == "f" for array in arrays)
    if fractions and max(highs) <= 1 and min(lows) < max(highs):
        raise BatchfuseError(
            f"the images hold values {min(lows):g} to {max(highs):g}, fractions it seems: figures want "
            "0..255, so multiply them by 255"
        )


def _size(array: Gray) -> str:
    return " x ".join(str(extent) for extent in array.shape)
