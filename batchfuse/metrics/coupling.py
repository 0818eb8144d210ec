"""What two windows tell of each other: their joint distribution, estimated from the two alone.

Haghighat and Razian take a mixture of independence and the most extreme dependence that two distributions
allow (the Fréchet bounds), so mixed that positions correlate as much as the values do:

    J = mix t + (1 - mix) q p

Of the 81 terms of t at most 17 are not zero. They lie on a staircase, which the sorted running sums of both
distributions walk along: the steps of the merged list are the terms, and which list a step came from says
whether the stair goes down or to the right. Where t is zero, J is a product, whose entropy is known in closed
form from those of p and q. So 17 logarithms do for 81, and nothing is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batchfuse.metrics.distribution import TINY, Distribution, added
from batchfuse.metrics.images import FloatArray

__all__ = ["information"]

IntArray = NDArray[np.int64]
STEPS = 17


def information(source: Distribution, fused: Distribution) -> FloatArray:
    """Normalised mutual information 2 I / (H + H) of each pair of windows."""
    c = _correlation(source, fused)
    stair = _Staircase.of(source, fused, c < 0)
    each = source.entropy + fused.entropy
    mutual = each - _joint_entropy(source, fused, stair, _mix(source, fused, stair, c))
    return np.asarray(2 * mutual / np.where(each > 0, each, np.inf))


def _correlation(source: Distribution, fused: Distribution) -> FloatArray:
    """Pearson's, of the nine probabilities; 0 if the numerator is exactly 0."""
    common = added(source.centred * fused.centred)
    norm = np.sqrt(source.power * fused.power)
    return np.asarray(common / np.where(norm > 0, norm, np.inf))


@dataclass(frozen=True)
class _Staircase:
    """The terms of t that may differ from 0, each (17, windows)."""

    t: FloatArray
    i: IntArray
    """Position in the fused window, 0..8."""
    j: IntArray
    """Position in the source's window, 0..8."""

    @classmethod
    def of(cls, source: Distribution, fused: Distribution, against: NDArray[np.bool_]) -> _Staircase:
        """The upper bound min(Q, P); where ``against``, the lower bound max(Q + P - 1, 0).

        The lower bound is the upper one with the source's positions in reverse.
        """
        p = np.where(against, np.maximum(1 - source.running[7::-1], 0), source.running[:8])
        # the last bit of a running sum says whose it is, and costs 1e-16
        merged = _merged(p.view(np.int64) & ~1, fused.running[:8].view(np.int64) | 1)
        down = merged & 1
        ends = np.zeros((STEPS + 1, p.shape[1]))
        ends[1:-1], ends[-1] = (merged & ~1).view(np.float64), 1
        i = np.zeros((STEPS, p.shape[1]), np.int64)
        for step in range(1, STEPS):
            np.add(i[step - 1], down[step - 1], out=i[step])
        j = np.arange(STEPS)[:, None] - i
        return cls(np.maximum(np.diff(ends, axis=0), 0), i, np.where(against, 8 - j, j))


def _merged(a: IntArray, b: IntArray) -> IntArray:
    """Two ascending lists of eight (8, windows) as one of sixteen: Batcher's odd-even merge."""
    x = np.concatenate([a, b])
    fours = x[2:14].reshape(3, 4, -1)
    _exchange(x[:8], x[8:])
    _exchange(x[4:8], x[8:12])
    _exchange(fours[:, :2], fours[:, 2:])
    _exchange(x[1:14:2], x[2:15:2])
    return x


def _exchange(low: IntArray, high: IntArray) -> None:
    """Puts the smaller of each two into ``low`` and the larger into ``high``."""
    smaller = np.minimum(low, high)
    np.maximum(low, high, out=high)
    low[...] = smaller


def _mix(source: Distribution, fused: Distribution, stair: _Staircase, c: FloatArray) -> FloatArray:
    """The share of the bound, c / (its correlation of positions); 0 where that isn't defined."""
    deviations = source.deviation * fused.deviation
    covariance = added(stair.t * (stair.i + (1 - fused.mean)) * (stair.j + (1 - source.mean)))
    defined = (deviations > 0) & (c * covariance > 0)
    return np.asarray(np.where(defined, c * deviations, 0) / np.where(defined, covariance, 1))


def _joint_entropy(
    source: Distribution, fused: Distribution, stair: _Staircase, mix: FloatArray
) -> FloatArray:
    """-sum J log2 |J|: of the product at all 81 positions, then mended at those of the staircase."""
    rest = 1 - mix
    log_rest = np.log2(np.maximum(np.abs(rest), TINY))
    windows = np.arange(len(mix))
    at_i, at_j = stair.i * len(mix) + windows, stair.j * len(mix) + windows
    product = rest * _taken(fused.p, at_i) * _taken(source.p, at_j)
    log_product = log_rest + _taken(fused.logarithms, at_i) + _taken(source.logarithms, at_j)
    joint = mix * stair.t + product
    mended = added(joint * np.log2(np.maximum(np.abs(joint), TINY)) - product * log_product)
    return np.asarray(rest * (source.entropy + fused.entropy - log_rest) - mended)


def _taken(rows: FloatArray, at: IntArray) -> FloatArray:
    return rows.ravel().take(at, mode="wrap")  # quicker than checking each index
