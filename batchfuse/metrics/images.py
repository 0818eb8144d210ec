"""The images that a figure is measured on, checked once where they come in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchfuse.errors import BatchfuseError

__all__ = ["FloatArray", "Gray", "checked"]

Gray = NDArray[Any]
"""A gray image (y, x) with values 0..255, of any real type."""
FloatArray = NDArray[np.float64]


def checked(*images: Gray) -> list[FloatArray]:
    """The images as float64 (y, x), all of one shape.

    Args:
        images: The fused image and its sources, or any images that are compared; values 0..255.

    Raises:
        BatchfuseError: One isn't a 2-D array of real, finite numbers, or their shapes differ.
    """
    arrays = [_real(np.asarray(image), number) for number, image in enumerate(images)]
    for number, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise BatchfuseError(
                f"image {number} is {_size(array)} but image 0 is {_size(arrays[0])} pixels: "
                "figures compare images of one size, so bring them onto one grid first"
            )
    return arrays


def _real(image: NDArray[Any], number: int) -> FloatArray:
    if image.ndim != 2 or not image.size:
        raise BatchfuseError(
            f"image {number} is an array of shape {image.shape}: figures want gray images (y, x), "
            "so turn colours to gray first and give one plane at a time"
        )
    if image.dtype.kind not in "buif":
        raise BatchfuseError(f"image {number} holds {image.dtype}: figures want real numbers 0..255")
    array = image.astype(np.float64)
    if not np.isfinite(array).all():
        raise BatchfuseError(
            f"image {number} holds {np.count_nonzero(~np.isfinite(array))} pixels that are NaN or infinite: "
            "cut the images to where all of them are valid, or fill those pixels in each of them"
        )
    return array


def _size(array: FloatArray) -> str:
    return " x ".join(str(extent) for extent in array.shape)
