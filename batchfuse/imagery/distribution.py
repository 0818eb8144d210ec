"""The physical values of tallied pixels, of one source or of many: their extremes and percentiles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchfuse.imagery.tally import Tally, values_of

__all__ = ["DEFAULT_HIGH", "Column", "Distribution", "Unit", "bin_edges"]

DEFAULT_HIGH = 99.5  # percentile that maps to 1 where the recipe names no range

Refinement = Mapping[int, Tally]
"""For bins of the first pass, what the second found in them."""


@dataclass(frozen=True, slots=True)
class Unit:
    """How tallied file values become physical ones; tallies of one unit may be merged."""

    counted: bool
    """Whether the tally's keys are the values themselves; else they are bins of floats."""
    scale: float
    """Physical value = file value · scale + offset."""
    offset: float
    """See ``scale``."""

    def physical(self, value: float) -> float:
        """The physical value of a file value."""
        return value * self.scale + self.offset


@dataclass(frozen=True, eq=False, slots=True)
class Column:
    """The tally of some pixels: of a band, or of all bands and scenes that share a unit."""

    tally: Tally
    """The file values."""
    unit: Unit
    """What they mean."""
    refinement: Refinement | None = None
    """The second pass, where it was made."""

    def unfolded(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Physical values and counts: exact where counted or refined, else a bin's least value."""
        if self.unit.counted:
            values, counts = self.tally.keys.astype(np.float64), self.tally.counts
        else:
            values, counts = _unfolded(self.tally, self.refinement or {})
        return values * self.unit.scale + self.unit.offset, counts

    def spans(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Between which physical values the pixels of each key lie: one and the same where counted."""
        keys = self.tally.keys
        if self.unit.counted:
            values, _ = self.unfolded()
            return values, values
        edges = np.stack([bin_edges(keys), bin_edges(keys + 1)], axis=1)
        physical: NDArray[np.float64] = edges * self.unit.scale + self.unit.offset
        return physical.min(1), physical.max(1)

    def bins_between(self, low: float, high: float) -> set[int]:
        """The bins that reach into these physical values; none where counting was exact already."""
        if self.unit.counted:
            return set()
        least, most = self.spans()
        slack = 1e-9 * np.maximum(abs(least), abs(most))
        return set(self.tally.keys[(least - slack <= high) & (most + slack >= low)].tolist())


class Distribution:
    """How many pixels have each physical value, over all columns; a percentile may fall into any of them."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        values, counts = zip(*(column.unfolded() for column in columns), strict=True)
        self.values: NDArray[Any] = np.concatenate(values)
        self.counts: NDArray[Any] = np.concatenate(counts)

    def extremes(self) -> tuple[float, float]:
        """The least and the greatest value; there has to be one."""
        seen = [column for column in self.columns if column.tally.valid]
        ends = [c.unit.physical(value) for c in seen for value in (c.tally.low, c.tally.high)]
        return min(ends), max(ends)

    def range(self, percentiles: tuple[float, float] | None) -> tuple[float, float]:
        """The range by percentiles, else from the least value to the 99.5th percentile."""
        if percentiles is not None:
            return self.percentile(percentiles[0]), self.percentile(percentiles[1])
        minimum, maximum = self.extremes()
        high = self.percentile(DEFAULT_HIGH)
        # nearly all pixels have one value: the rest still has to show
        return minimum, maximum if high <= minimum < maximum else high

    def percentile(self, q: float) -> float:
        """The q-th percentile (0..100), linear between neighbours, as ``numpy.percentile`` has it."""
        lower, upper, share = _neighbours(self.values, self.counts, q)
        return lower + (upper - lower) * share

    def below(self, value: float) -> int:
        """How many values lie below one."""
        return int(self.counts[self.values < value].sum())

    def bins(self, value: float | None, percentiles: tuple[float, float] | None) -> list[set[int]]:
        """For each column, the bins that a second pass has to look into.

        They hold the value below which pixels are counted, or else the percentiles of the range.
        """
        asked = percentiles or (DEFAULT_HIGH,)
        within = [self._around(q) for q in asked] if value is None else [(value, value)]
        return [set().union(*(column.bins_between(*ends) for ends in within)) for column in self.columns]

    def _around(self, q: float) -> tuple[float, float]:
        """Between which values a percentile lies, whatever the pixels of each bin are.

        The bins of columns of other units overlap: it may lie in another than their least values tell.
        """
        spans = [column.spans() for column in self.columns]
        counts = np.concatenate([column.tally.counts for column in self.columns])
        ends = [np.concatenate(some) for some in zip(*spans, strict=True)]
        return _neighbours(ends[0], counts, q)[0], _neighbours(ends[1], counts, q)[1]


def bin_edges(keys: NDArray[np.int64]) -> NDArray[np.float64]:
    """The least value of each of these bins of the first pass."""
    limit = float(np.finfo(np.float32).max)
    values = values_of(np.minimum(keys << 16, 0xFFFFFFFF)).astype(np.float64)
    return np.clip(np.nan_to_num(values, nan=limit, posinf=limit, neginf=-limit), -limit, limit)


def _neighbours(
    values: NDArray[np.float64], counts: NDArray[np.int64], q: float
) -> tuple[float, float, float]:
    """The values on both sides of a percentile, and how far it lies from the first to the second."""
    order = np.argsort(values, kind="stable")
    place = (int(counts.sum()) - 1) * q / 100
    ends = np.cumsum(counts[order])
    lower, upper = (
        values[order[np.searchsorted(ends, end(place), side="right")]] for end in (math.floor, math.ceil)
    )
    return float(lower), float(upper), place - math.floor(place)


def _unfolded(tally: Tally, refinement: Refinement) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    if not refinement:
        return bin_edges(tally.keys), tally.counts
    values: list[NDArray[np.float64]] = []
    counts: list[NDArray[np.int64]] = []
    for key, inner in refinement.items():
        values.append(values_of((key << 16) | inner.keys).astype(np.float64))
        counts.append(inner.counts)
    others = ~np.isin(tally.keys, list(refinement))
    values.append(bin_edges(tally.keys[others]))
    counts.append(tally.counts[others])
    return np.concatenate(values), np.concatenate(counts)
