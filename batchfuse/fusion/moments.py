"""The survey of a strategy that asks how bright its sources are, and how alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Moments"]

STEPS = 1 << 16
"""Pixels are rounded to multiples of 1 / STEPS."""
_ROWS = 256  # looked at together, so that the integers take little memory


@dataclass(frozen=True, slots=True)
class Moments:
    """Counts and sums of scaled pixels, cut to 0..1 and rounded to multiples of 2^-16.

    All are whole numbers of 2^-16 (products: of 2^-32) and therefore exact: the pixels of a scene give the
    same in any partition and any order. What a pixel is rounded by, 2^-17 at most, is far below what
    an image is stored with, and averages out.

    ``count``, ``total`` and ``valid`` give the mean of a source over its own valid pixels. ``common``,
    ``sums`` and ``products`` are over the pixels that are valid in all sources: of others there is no pair
    to compare. Where there is none, means, variances and covariances are 0.
    """

    valid: tuple[int, ...]
    """Valid pixels of each source."""
    total: tuple[int, ...]
    """Their sum, one a source."""
    common: int
    """Pixels that are valid in all sources."""
    sums: tuple[int, ...]
    """The sum of those, one a source."""
    products: tuple[int, ...]
    """The sums of x_i x_j over those, for i <= j: (0, 0), (0, 1), …, (1, 1), …"""

    def __post_init__(self) -> None:
        k = len(self.valid)
        if (len(self.total), len(self.sums), len(self.products)) != (k, k, k * (k + 1) // 2):
            raise ValueError(f"these are no moments of {k} sources")

    @classmethod
    def empty(cls, sources: int) -> Moments:
        """Nothing seen yet: the neutral element of ``merge``."""
        none = (0,) * sources
        return cls(none, none, 0, none, (0,) * (sources * (sources + 1) // 2))

    @classmethod
    def of(cls, pixels: NDArray[np.floating[Any]], valid: NDArray[np.bool_]) -> Moments:
        """The moments of a window.

        Args:
            pixels: (source, y, x) or (source, slice, y, x), scaled; what is not valid there may be anything
                finite.
            valid: of the same shape.
        """
        found = cls.empty(len(pixels))
        for start in range(0, pixels.shape[1], _ROWS):
            rows = slice(start, start + _ROWS)
            found = found.merge(cls._of(pixels[:, rows], valid[:, rows]))
        return found

    @classmethod
    def _of(cls, pixels: NDArray[np.floating[Any]], valid: NDArray[np.bool_]) -> Moments:
        """The same, of so few rows that no sum exceeds 63 bits: up to 2^31 pixels."""
        k = len(pixels)
        steps = np.rint(np.clip(pixels, 0, 1) * STEPS).astype(np.int64).reshape(k, -1)
        there = valid.reshape(k, -1)
        own = np.where(there, steps, 0)
        shared = np.where(there.all(0), steps, 0)
        return cls(
            _ints(there.sum(1)),
            _ints(own.sum(1)),
            int(there.all(0).sum()),
            _ints(shared.sum(1)),
            tuple(int(shared[i] @ shared[j]) for i, j in _pairs(k)),
        )

    def merge(self, other: Moments) -> Moments:
        """The moments of both."""
        return Moments(
            _added(self.valid, other.valid),
            _added(self.total, other.total),
            self.common + other.common,
            _added(self.sums, other.sums),
            _added(self.products, other.products),
        )

    @property
    def mean(self) -> float:
        """Of all valid pixels of all sources together, 0..1."""
        return sum(self.total) / (STEPS * (sum(self.valid) or 1))

    def mean_of(self, source: int) -> float:
        """Of a source's own valid pixels, 0..1."""
        return self.total[source] / (STEPS * (self.valid[source] or 1))

    def covariance(self, one: int, other: int) -> float:
        """Of two sources over their common pixels, by their number: Σ x_i x_j / n - Σ x_i / n · Σ x_j / n."""
        pair = (min(one, other), max(one, other))
        product = self.products[list(_pairs(len(self.sums))).index(pair)]
        n = self.common
        # whole numbers to the end: the difference of two nearly equal means would lose its digits
        return (n * product - self.sums[one] * self.sums[other]) / (STEPS * (n or 1)) ** 2

    def variance(self, source: int) -> float:
        """Of a source over the common pixels."""
        return self.covariance(source, source)

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it; sums as text, since many readers of JSON round numbers above 2^53."""
        return {
            "kind": "moments",
            "valid": list(self.valid),
            "total": list(map(str, self.total)),
            "common": self.common,
            "sums": list(map(str, self.sums)),
            "products": list(map(str, self.products)),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Moments:
        """The inverse of ``to_json``."""
        parts = (tuple(map(int, values[key])) for key in ("valid", "total", "sums", "products"))
        valid, total, sums, products = parts
        return cls(valid, total, int(values["common"]), sums, products)


def _pairs(sources: int) -> Iterator[tuple[int, int]]:
    """(0, 0), (0, 1), …, (1, 1), …: the order of ``products``."""
    return combinations_with_replacement(range(sources), 2)


def _added(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _ints(values: NDArray[np.integer[Any]]) -> tuple[int, ...]:
    return tuple(map(int, values))
