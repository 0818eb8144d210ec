"""Windows of 3 x 3 features, each taken as a probability distribution over its nine positions.

All arrays are (9, windows), so that one operation treats thousands of windows. Sums over the nine run from
left to right: whether two flat windows correlate hangs on the last bit of such a sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np

from batchfuse.metrics.images import FloatArray

__all__ = ["TINY", "Distribution", "added", "rescaled", "windows"]

TINY = 1e-300
"""In place of 0 in a logarithm: what it is multiplied by is 0."""
POSITIONS = np.arange(1.0, 10.0)[:, None]


def windows(features: FloatArray) -> FloatArray:
    """All windows of a feature image (y, x), as (9, windows), each listed column by column."""
    rows, columns = features.shape[0] - 2, features.shape[1] - 2
    return np.stack([features[y : y + rows, x : x + columns].ravel() for x in range(3) for y in range(3)])


def rescaled(values: FloatArray) -> FloatArray:
    """Each window stretched to 0..1; one whose values are all equal becomes all ones."""
    low = values.min(axis=0)
    span = values.max(axis=0) - low
    flat = span == 0
    stretched = (values - low) / np.where(flat, 1, span)
    return np.asarray(stretched + flat)


def added(terms: FloatArray) -> FloatArray:
    """Sums over the first axis, from the first to the last."""
    return reduce(np.add, terms)


@dataclass(frozen=True)
class Distribution:
    """The distributions of some windows, and what is asked of them again and again."""

    p: FloatArray
    """Probabilities of the positions 1..9, (9, windows)."""
    logarithms: FloatArray
    """Their binary logarithms."""
    running: FloatArray
    """Their running sums."""
    centred: FloatArray
    """Probabilities less their mean."""
    power: FloatArray
    """Sum of the squares of the centred ones; this and what follows is (windows,)."""
    mean: FloatArray
    """Mean position."""
    deviation: FloatArray
    """Standard deviation of the position."""
    entropy: FloatArray
    """In bits."""

    @classmethod
    def of(cls, stretched: FloatArray) -> Distribution:
        """The distributions of windows (9, windows) stretched to 0..1."""
        p = stretched / added(stretched)
        running = np.stack([*_running_sums(p)])
        logarithms = np.log2(np.maximum(p, TINY))
        centred = p - running[-1] / 9
        mean = added(p * POSITIONS)
        # as the public code has it; rounding can leave it below 0 where one position has it all
        variance = np.maximum(added(p * POSITIONS**2) - mean * mean, 0)
        power, entropy = added(centred * centred), -added(p * logarithms)
        return cls(p, logarithms, running, centred, power, mean, np.sqrt(variance), entropy)


def _running_sums(p: FloatArray) -> list[FloatArray]:
    sums = [p[0]]
    for row in p[1:]:
        sums.append(sums[-1] + row)
    return sums
