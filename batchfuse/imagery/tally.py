"""Exact statistics of a source that merge in any order.

Integers of 8 and 16 bits are counted value by value. All other types are counted as float32 by the
upper 16 bits of keys that sort as the floats do; a second pass over the pixels counts the lower 16
bits within the few bins that hold the wanted percentiles, which makes those exact. (A histogram
between minimum and maximum fails with one pixel at 3e38.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Tally", "is_counted", "key_of", "refined", "tallied", "values_of"]

Keys = NDArray[np.int64]


def is_counted(dtype: np.dtype[Any]) -> bool:
    """Whether values of this type are counted one by one: one pass is exact."""
    return dtype.kind in "ui" and dtype.itemsize <= 2


@dataclass(frozen=True, eq=False)
class Tally:
    """How often each value (or bin of values) was seen among the valid pixels."""

    keys: Keys
    """Distinct values, ascending: the integers themselves, or the upper 16 bits of float keys."""
    counts: NDArray[np.int64]
    """Pixels of each."""
    pixels: int
    """Pixels looked at, invalid ones included."""
    low: float
    """Least valid value; infinity where there is none."""
    high: float
    """Greatest valid value; minus infinity where there is none."""
    at_low: int
    """Pixels that have exactly the least value."""
    at_high: int
    """Pixels that have exactly the greatest value."""

    @property
    def valid(self) -> int:
        """Valid values counted."""
        return int(self.counts.sum())

    @classmethod
    def empty(cls) -> Tally:
        """Of no pixel: merging it changes nothing."""
        none = np.zeros(0, np.int64)
        return cls(none, none, 0, np.inf, -np.inf, 0, 0)

    def merge(self, other: Tally) -> Tally:
        """Of the pixels of both."""
        keys, counts = _summed(self, other)
        low, high = min(self.low, other.low), max(self.high, other.high)
        return Tally(
            keys=keys,
            counts=counts,
            pixels=self.pixels + other.pixels,
            low=low,
            high=high,
            at_low=sum(t.at_low for t in (self, other) if t.low == low),
            at_high=sum(t.at_high for t in (self, other) if t.high == high),
        )

    @classmethod
    def merged(cls, tallies: Iterable[Tally]) -> Tally:
        """Of the pixels of all of them."""
        total = cls.empty()
        for tally in tallies:
            total = total.merge(tally)
        return total


def tallied(values: NDArray[Any], valid: NDArray[np.bool_]) -> Tally:
    """The tally of ``values`` (any shape) where ``valid`` (broadcast to it): the first pass."""
    chosen = values[np.broadcast_to(valid, values.shape)]
    if not chosen.size:
        return Tally(*(np.zeros(0, np.int64),) * 2, values.size, np.inf, -np.inf, 0, 0)
    if is_counted(values.dtype):
        keys, counts = _counted(chosen, int(np.iinfo(values.dtype).min))
    else:
        keys, counts = _counted((key_of(_float32(chosen)) >> 16).astype(np.uint16), 0)
    low, high = chosen.min(), chosen.max()
    at_low, at_high = np.count_nonzero(chosen == low), np.count_nonzero(chosen == high)
    return Tally(keys, counts, values.size, float(low), float(high), int(at_low), int(at_high))


def refined(values: NDArray[Any], valid: NDArray[np.bool_], bins: Iterable[int]) -> dict[int, Tally]:
    """For each bin of the first pass, the tally of the lower 16 bits within it: the second pass."""
    chosen = key_of(_float32(values[np.broadcast_to(valid, values.shape)]))
    tallies = {}
    for upper in bins:
        within = (chosen[(chosen >> 16) == upper] & 0xFFFF).astype(np.uint16)
        keys, counts = _counted(within, 0)
        tallies[upper] = Tally(keys, counts, int(within.size), np.inf, -np.inf, 0, 0)
    return tallies


def key_of(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Unsigned keys that sort as the floats do."""
    bits = values.view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(0x80000000)).astype(np.uint32)


def values_of(keys: NDArray[np.int64]) -> NDArray[np.float32]:
    """The floats that have these keys."""
    bits = np.where(keys >> 31, keys & 0x7FFFFFFF, ~keys & 0xFFFFFFFF)
    return bits.astype(np.uint32).view(np.float32)


def _float32(values: NDArray[Any]) -> NDArray[np.float32]:
    limit = np.finfo(np.float32).max
    with np.errstate(over="ignore"):
        narrow = np.clip(values, -limit, limit) if values.dtype == np.float64 else values
        # + 0 turns minus zero into zero, so that equal values have equal keys
        return np.asarray(narrow, np.float32) + np.float32(0)


def _summed(one: Tally, other: Tally) -> tuple[Keys, NDArray[np.int64]]:
    """Keys and counts of both; keys have 16 bits, so that a dense array is small, and faster than sorting."""
    if not (one.keys.size and other.keys.size):
        return (one.keys, one.counts) if one.keys.size else (other.keys, other.counts)
    least = min(one.keys[0], other.keys[0])
    dense = np.zeros(max(one.keys[-1], other.keys[-1]) - least + 1, np.int64)
    for tally in (one, other):
        dense[tally.keys - least] += tally.counts
    keys = np.flatnonzero(dense)
    return keys + least, dense[keys]


def _counted(values: NDArray[Any], least: int) -> tuple[Keys, NDArray[np.int64]]:
    counts = np.bincount(values.astype(np.int64).ravel() - least)
    keys = np.flatnonzero(counts)
    return keys + least, counts[keys].astype(np.int64)
