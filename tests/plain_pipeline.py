"""From file values to stored values in plain NumPy, step by step as docs/values.md tells it.

Nothing of batchfuse computes here: the formulas are written once more, over whole images, in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Merge = Callable[[Array, Array], Array]
"""Scaled, filled images (source, y, x) and where they are valid, to the fused image (y, x)."""


@dataclass(frozen=True)
class Image:
    """A source: file values (band, y, x), and all that its file and the recipe say of them."""

    values: Array
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    mask: Array | None = None
    """Where a mask, an alpha band or a quality band lets it be valid."""
    range: tuple[float, float] | None = None
    percentiles: tuple[float, float] | None = None
    at: tuple[int, int] = (0, 0)
    """Row and column of the grid where its first pixel lies."""
    finer: int = 1
    """How many of its pixels lie along one of the grid's."""


# --- 1. the file value --------------------------------------------------------------------------


def valid_pixels(image: Image) -> Array:
    """Where the file values, and the masks beside them, say valid: (y, x)."""
    values, nodata = image.values, image.nodata
    real = values.dtype.kind == "f"
    if nodata is None or np.isnan(nodata):
        told = np.zeros(values.shape, bool)
    else:  # the tag names the number of the pixel's own type that is nearest to it
        told = values == (values.dtype.type(nodata) if real else nodata)
    invalid = told.all(0) if values.dtype == np.uint8 else told.any(0)
    if real:
        invalid |= (np.isnan(values) | np.isinf(values)).any(0)
    return np.asarray(~invalid if image.mask is None else ~invalid & image.mask)


# --- 2. and 3. physical and scaled values -------------------------------------------------------


def ends_of(images: Sequence[Image], shape: tuple[int, int] | None = None) -> tuple[float, float]:
    """Low and high of one source, or of a role over the scenes of a campaign; only what lies on the grid."""
    first = images[0]
    if first.range is not None:
        return first.range
    if first.percentiles is None and all(i.values.dtype == np.uint8 for i in images):
        ends = [v * i.scale + i.offset for i in images for v in (0, 255)]
        return min(ends), max(ends)
    exact, counted = [], []
    for image in images:
        cropped = _cropped(image, shape)
        valid = valid_pixels(cropped)
        for band in cropped.values:
            some = band[valid].astype(np.float64)
            # others than integers of 16 bits are counted as 32-bit floats
            narrow = band.dtype.kind in "ui" and band.dtype.itemsize <= 2
            exact.append(some * image.scale + image.offset)
            counted.append(
                (some if narrow else some.astype(np.float32).astype(float)) * image.scale + image.offset
            )
    everything = np.concatenate(counted)
    if first.percentiles is not None:
        low, high = np.percentile(everything, first.percentiles)
        return float(low), float(high)
    low, most = float(np.concatenate(exact).min()), float(np.concatenate(exact).max())
    high = float(np.percentile(everything, 99.5))
    return low, most if high <= low < most else high


def _cropped(image: Image, shape: tuple[int, int] | None) -> Image:
    if shape is None or image.finer > 1:
        return image
    (row, column), (rows, columns) = image.at, shape
    part = slice(max(0, -row), rows - row), slice(max(0, -column), columns - column)
    mask = None if image.mask is None else image.mask[part]
    return replace(image, values=image.values[:, part[0], part[1]], mask=mask, at=(0, 0))


def scaled(image: Image, ends: tuple[float, float]) -> Array:
    """(physical - low) / (high - low), nothing below 0, and 0 where the source is constant."""
    low, high = ends
    if high == low:
        return np.zeros(image.values.shape)
    with np.errstate(all="ignore"):
        physical = image.values.astype(np.float64) * image.scale + image.offset
        return np.maximum((physical - low) / (high - low), 0)


# --- the grid -----------------------------------------------------------------------------------


def on_grid(image: Image, values: Array, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Scaled values (band, y, x) and validity (y, x) on the grid.

    A finer source gives the mean of its valid pixels under one of the grid, valid if they are half of them.
    """
    there = valid_pixels(image)
    found, valid = np.zeros((len(values), *shape)), np.zeros(shape, bool)
    n = image.finer
    for row in range(shape[0]):
        for column in range(shape[1]):
            y, x = row - image.at[0], column - image.at[1]
            some = there[y * n : (y + 1) * n, x * n : (x + 1) * n] if min(y, x) >= 0 else there[:0]
            if some.size == n * n and some.sum() >= n * n / 2:
                under = values[:, y * n : (y + 1) * n, x * n : (x + 1) * n]
                found[:, row, column] = under[:, some].mean(1)
                valid[row, column] = True
    return found, valid


# --- 4. and 5. validity, colour, fusing ---------------------------------------------------------


def filled(stack: Array, valid: Array) -> Array:
    """Invalid pixels become the mean of the other sources' valid ones, or 0."""
    out = stack.copy()
    for row in range(stack.shape[1]):
        for column in range(stack.shape[2]):
            some = [s for s, v in zip(stack[:, row, column], valid[:, row, column], strict=True) if v]
            mean = sum(some) / len(some) if some else 0.0
            out[~valid[:, row, column], row, column] = mean
    return out


def luma(values: Array) -> Array:
    return np.asarray(0.299 * values[0] + 0.587 * values[1] + 0.114 * values[2])


def fused(
    images: Sequence[Image],
    reference: int,
    merge: Merge,
    *,
    color: str = "luma",
    validity: str = "any",
    ends: Sequence[tuple[float, float]] | None = None,
) -> tuple[Array, Array, tuple[float, float]]:
    """The fused scaled values (band, y, x), where they are valid, and low and high of the reference."""
    shape = images[reference].values.shape[1:]
    ends = ends or [ends_of([image], shape) for image in images]
    pairs = [on_grid(i, scaled(i, e), shape) for i, e in zip(images, ends, strict=True)]
    valid = np.stack([there for _, there in pairs])
    grey = [luma(values) if len(values) == 3 else values[0] for values, _ in pairs]
    shown = valid.any(0) if validity == "any" else valid.all(0)
    own = pairs[reference][0]
    if color == "bands":
        bands = []
        for band in own:
            stack = filled(np.stack([band if i == reference else g for i, g in enumerate(grey)]), valid)
            bands.append(merge(stack, valid))
        return np.stack(bands), shown, ends[reference]
    whole = filled(np.stack(grey), valid)
    image = merge(whole, valid)
    if len(own) < 3:
        return image[None], shown, ends[reference]
    there, before = valid[reference], whole[reference]
    colours = np.where(there, own, before)
    return colours + (image - np.where(there, luma(own), before)), shown, ends[reference]


# --- 6. the output ------------------------------------------------------------------------------


def stored(
    image: Array, valid: Array, ends: tuple[float, float], reference: Image, dtype: str, units: str
) -> tuple[Array, float]:
    """What a store holds before it is rounded, NaN where invalid, and the fill value."""
    low, high = ends
    real = np.dtype(dtype).kind == "f"
    info: Any = np.finfo(dtype) if real else np.iinfo(dtype)
    if units == "unit":
        values = image if real else image * float(info.max)
    else:
        values = low + image * (high - low)
        if not real:
            values = (values - reference.offset) / reference.scale
    values = np.clip(values, float(info.min), float(info.max))
    fill = float("nan")
    if not real:
        nodata = reference.nodata
        fits = nodata is not None and nodata == round(nodata) and info.min <= nodata <= info.max
        fill = float(nodata if fits and nodata is not None else info.min)
    return np.where(valid, values, np.nan), fill


def difference(found: Array, wanted: Array, fill: float, slack: float) -> float:
    """By how much stored values are off, in their own units, beyond rounding and ``slack``; infinite if a
    pixel is valid in only one of the two.
    """
    real = found.dtype.kind == "f"
    missing = np.isnan(found) if np.isnan(fill) else found == fill
    if (missing != np.isnan(wanted)).any():
        return float("inf")
    if real:
        rounding = np.abs(wanted) * float(np.finfo(found.dtype).eps)
    else:  # to whole numbers; by one where that would be the fill value
        rounding = np.where(np.abs(wanted - fill) <= 0.5 + slack, 1.0, 0.5)
    off = np.abs(found.astype(np.float64) - wanted) - rounding - slack
    return float(np.where(missing, 0, off).max())


# --- what merges --------------------------------------------------------------------------------


def mean_of(stack: Array, _: Array) -> Array:
    return np.asarray(stack.mean(0))


def brightest_of(stack: Array, _: Array) -> Array:
    return np.asarray(stack.max(0))


class PlainFuser:
    """The same two as a method of batchfuse's, for what happens before and after fusing."""

    device, precision = "cpu", "float32"

    def __init__(self, strategy: str, **_: Any) -> None:
        self.merge = {"mean": mean_of, "brightest": brightest_of}[strategy]

    def fuse(self, sources: Array, core: Any, _: Any) -> Array:
        image = self.merge(sources, sources)
        return np.asarray(image[(..., *core.slices)], np.float32)


# --- the network of arXiv 2112.14540, Table I ---------------------------------------------------


class PlainNetwork:
    """The network from its table, and its strategies from their equations, over whole images in float64."""

    def __init__(self, tensors: dict[str, Array], strategy: str) -> None:
        self.weights = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
        self.strategy = strategy

    def __call__(self, stack: Array, valid: Array) -> Array:
        """The ``Merge``."""
        return np.asarray(self.over_slices(stack[:, None], valid[:, None])[0])

    def over_slices(self, stack: Array, valid: Array) -> Array:
        """Slices (source, n, row, column) to (n, row, column); what is normalised is over all of them."""
        features = np.stack([[self._encoded(image) for image in source] for source in stack])
        shares = self._shares(features, valid)[:, :, None]
        return np.stack([self._decoded(merged) for merged in (shares * features).sum(0)])

    def _shares(self, features: Array, valid: Array) -> Array:
        """The weight of each source, (source, n, row, column); features have channels before the rows."""
        k = len(features)
        if self.strategy == "l1":
            norms = np.abs(features).sum(2)
            total = norms.sum(0)
            return np.where(total == 0, 1 / k, norms / np.where(total == 0, 1, total))
        if self.strategy == "average":
            return np.full(valid.shape, 1 / k)
        normal = []
        for mean, there in zip(features.mean(2), valid, strict=True):
            low, high = mean[there].min(), mean[there].max()
            normal.append(np.clip((mean - low) / (high - low + 1e-5), 0, 1))
        powers = np.exp(np.stack(normal))
        return np.asarray(powers / powers.sum(0))

    def _decoded(self, features: Array) -> Array:
        for name in ("conv1", "conv2", "conv3"):
            features = np.maximum(self._convolved(features, f"decoder.{name}"), 0)
        return np.asarray(self._convolved(features, "decoder.conv4")[0])

    def _encoded(self, image: Array) -> Array:
        c = image[None]
        for name in ("conv1", "conv2"):
            c = np.maximum(self._convolved(c, f"encoder.{name}"), 0)
        x = np.split(np.maximum(self._convolved(c, "block.entry"), 0), 4)
        y = [x[0]]
        for number in (2, 3, 4):
            group = x[number - 1] if number == 2 else x[number - 1] + y[-1]
            for name in ("first", "second"):
                group = np.maximum(self._convolved(group, f"block.groups.group{number}.{name}"), 0)
            y.append(group)
        return np.asarray(c + np.maximum(self._convolved(np.concatenate(y), "block.exit"), 0))

    def _convolved(self, image: Array, name: str) -> Array:
        """A convolution that keeps the size, zeros around the image: (channel, y, x)."""
        kernel = self.weights[f"{name}.weight"]
        n = kernel.shape[-1]
        around = np.pad(image, ((0, 0), (n // 2, n // 2), (n // 2, n // 2)))
        rows, columns = image.shape[1:]
        out = np.zeros((len(kernel), rows * columns))
        for i in range(n):
            for j in range(n):
                shifted = around[:, i : i + rows, j : j + columns].reshape(len(image), -1)
                out += np.einsum("oc,cp->op", kernel[:, :, i, j], shifted)  # no BLAS, whose threads wait
        return out.reshape(len(kernel), rows, columns)
