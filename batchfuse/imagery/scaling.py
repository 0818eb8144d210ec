"""How a source's values map to the network's range, and the statistics that decide it.

file value → physical value (· scale + offset) → scaled value ((physical - low) / (high - low)).
One range serves the whole scene (and the three bands of a colour source): anything taken from a
tile's own extremes would make seams.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchfuse.errors import SourceError
from batchfuse.imagery.scene import Source
from batchfuse.imagery.tally import Tally, is_counted, value_of

__all__ = ["Percentiles", "Scaling", "Statistics", "scaled", "wanted_bins"]

DEFAULT_HIGH = 99.5  # percentile that maps to 1 where the recipe names no range
MOST = 1e30  # a lone huge pixel must not become infinite within the network
ENOUGH = 100  # valid values below which an extreme one is no surprise
PADDED = 0.05  # share of exact zeros that is a surprise in a float image

Percentiles = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scaling:
    """The range of one source, and what was found on the way to it."""

    low: float
    """Physical value that maps to 0."""
    high: float
    """Physical value that maps to 1; equal to ``low`` where the source is constant."""
    minimum: float
    """Least valid physical value within the scene."""
    maximum: float
    """Greatest valid physical value within the scene."""
    valid: int
    """Valid pixels within the scene (a colour pixel counts once)."""
    pixels: int
    """Pixels within the scene."""
    below: int
    """Valid values below ``low``: they are set to 0, since the network's features can't be negative."""
    warnings: tuple[str, ...] = ()
    """What a person should look at."""

    def to_dict(self) -> dict[str, Any]:
        """For the store and the report (JSON)."""
        return asdict(self) | {"warnings": list(self.warnings)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Scaling:
        """The inverse of ``to_dict``."""
        return cls(**{**stored, "warnings": tuple(stored["warnings"])})

    def gain(self) -> float:
        """Scaled units a physical unit: 0 for a constant source."""
        return 1.0 / (self.high - self.low) if self.high > self.low else 0.0


def scaled(source: Source, scaling: Scaling, pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Scaled values, float32, of file values (bands, y, x). Neither cut at 0 nor at 1."""
    out = np.zeros(pixels.shape, np.float32)
    for i, band in enumerate(source.bands if scaling.gain() else ()):
        zero = (scaling.low - band.offset) / band.scale
        gain = band.scale * scaling.gain()
        # 16-bit integers are exact in float32; other types lose the small differences unless subtracted wide
        exact = is_counted(pixels.dtype) and max(abs(zero), abs(gain), abs(1 / gain)) < MOST
        wide = np.float32 if exact else np.float64
        with np.errstate(invalid="ignore", over="ignore"):
            values = (pixels[i].astype(wide) - wide(zero)) * wide(gain)
            out[i] = values if exact else np.clip(values, -MOST, MOST)
    return out


class Statistics:
    """What the passes over one source's own pixels found: a tally a band, and refinements of it."""

    def __init__(self, source: Source, tallies: Sequence[Tally]) -> None:
        self.source = source
        self.tallies = tuple(tallies)
        self.counted = is_counted(np.dtype("uint8" if source.palette else source.dtype))
        if not any(tally.valid for tally in tallies):
            told = {band.nodata for band in source.bands if band.nodata is not None}
            why = (
                f"nodata is {', '.join(f'{v:g}' for v in sorted(told))}"
                if told
                else "all masked, NaN or infinite"
            )
            raise SourceError(
                f"{source.name} has no valid pixel within the scene ({why}): "
                "leave the scene out, or correct `nodata:` in the recipe"
            )

    def scaling(
        self,
        value_range: tuple[float, float] | None,
        percentiles: Percentiles | None,
        refinements: Sequence[Mapping[int, Tally]] = (),
    ) -> Scaling:
        """The range by the recipe's ``range`` or ``percentiles``, else by the type's rule."""
        values, counts = self._distribution(refinements)
        minimum, maximum = self._extremes()
        if value_range is not None:
            low, high = value_range
        elif percentiles is not None:
            low, high = (percentile(values, counts, q) for q in percentiles)
        elif self._is_byte():
            low, high = self._byte_range()
        else:
            low, high = minimum, percentile(values, counts, DEFAULT_HIGH)
            if high <= low < maximum:
                high = maximum  # nearly all pixels have one value: the rest still has to show
        if not all(map(math.isfinite, (low, high, minimum, maximum))):
            raise SourceError(
                f"{self.source.name} reaches from {minimum:g} to {maximum:g} after scale and offset: "
                "correct `scale:` and `offset:`, or give a `range:`"
            )
        found = Scaling(
            low=low,
            high=max(low, high),
            minimum=minimum,
            maximum=maximum,
            valid=max(tally.valid for tally in self.tallies),
            pixels=self.tallies[0].pixels,
            below=0 if low <= minimum else int(counts[values < low].sum()),
        )
        return Scaling(**{**asdict(found), "warnings": tuple(self._warnings(found))})

    def _is_byte(self) -> bool:
        return bool(self.source.palette) or self.source.dtype == "uint8"

    def _byte_range(self) -> tuple[float, float]:
        top = 2**self.source.bits - 1 if self.source.bits else 255
        ends = [v * b.scale + b.offset for b in self.source.bands for v in (0, top)]
        return min(ends), max(ends)

    def _extremes(self) -> tuple[float, float]:
        pairs = zip(self.tallies, self.source.bands, strict=True)
        ends = [v * b.scale + b.offset for t, b in pairs if t.valid for v in (t.low, t.high)]
        return min(ends), max(ends)

    def _distribution(
        self, refinements: Sequence[Mapping[int, Tally]]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Physical values, ascending, and how many pixels have each, over all bands."""
        values: list[NDArray[np.float64]] = []
        counts: list[NDArray[np.int64]] = []
        for i, (tally, band) in enumerate(zip(self.tallies, self.source.bands, strict=True)):
            found, many = (
                (tally.keys.astype(np.float64), tally.counts)
                if self.counted
                else _unfolded(tally, refinements[i] if refinements else {})
            )
            values.append(found * band.scale + band.offset)
            counts.append(many)
        joined, number = np.concatenate(values), np.concatenate(counts)
        order = np.argsort(joined, kind="stable")
        return joined[order], number[order]

    def _warnings(self, found: Scaling) -> list[str]:
        name = self.source.name
        if found.minimum == found.maximum:
            return [f"{name} is constant ({found.minimum:g}): it has nothing to show"]
        lines = []
        real = np.dtype(self.source.dtype).kind == "f"
        for tally, band in zip(self.tallies, self.source.bands, strict=True):
            for value, share in [] if self._is_byte() else _suspects(tally, self.counted, real):
                if value != band.nodata:
                    lines.append(
                        f"{name}: {share:.1%} of the valid pixels have the lone value {value:g}, far from "
                        f"the rest; if that is a fill value, say `nodata: {value:g}` in the recipe"
                    )
        if found.below:
            lines.append(f"{name}: {found.below} valid values lie below {found.low:g} and are set to it")
        return list(dict.fromkeys(lines))


def percentile(values: NDArray[np.float64], counts: NDArray[np.int64], q: float) -> float:
    """The q-th percentile (0..100) of values repeated by their counts, linear between neighbours."""
    lower, upper, share = _neighbours(values, counts, q)
    return lower + (upper - lower) * share


def _neighbours(
    values: NDArray[np.float64], counts: NDArray[np.int64], q: float
) -> tuple[float, float, float]:
    """The values on both sides of the q-th percentile, and how far it lies from the first to the second."""
    place = (int(counts.sum()) - 1) * q / 100
    ends = np.cumsum(counts)
    lower, upper = (
        values[np.searchsorted(ends, end(place), side="right")] for end in (math.floor, math.ceil)
    )
    return float(lower), float(upper), place - math.floor(place)


def wanted_bins(
    statistics: Statistics, value_range: tuple[float, float] | None, percentiles: Percentiles | None
) -> list[set[int]]:
    """For each band, the bins of the first pass that a second pass must look into.

    Empty where counting was exact already. Bands of one source are pooled, so a percentile may fall
    anywhere among them: the bins are found over the pooled counts.
    """
    if statistics.counted:
        return []
    values, counts = statistics._distribution(())
    edges = [value_range[0]] if value_range else []
    for q in () if value_range else percentiles or (DEFAULT_HIGH,):
        edges += _neighbours(values, counts, q)[:2]
    return [
        {
            int(key)
            for key in tally.keys
            if any(_spans(int(key), band.scale, band.offset, edge) for edge in edges)
        }
        for tally, band in zip(statistics.tallies, statistics.source.bands, strict=True)
    ]


def _spans(key: int, scale: float, offset: float, value: float) -> bool:
    ends = sorted(_bin_edge(k) * scale + offset for k in (key, key + 1))
    slack = 1e-9 * max(abs(ends[0]), abs(ends[1]))
    return ends[0] - slack <= value <= ends[1] + slack


def _bin_edge(key: int) -> float:
    """The least value of a bin of the first pass."""
    limit = float(np.finfo(np.float32).max)
    value = value_of(min(key << 16, 0xFFFFFFFF))
    return float(np.clip(np.nan_to_num(value, nan=limit, posinf=limit, neginf=-limit), -limit, limit))


def _unfolded(tally: Tally, refinement: Mapping[int, Tally]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Values and counts of float bins: exact within refined bins, a bin's least value elsewhere."""
    values: list[float] = []
    counts: list[int] = []
    for key, count in zip(tally.keys.tolist(), tally.counts.tolist(), strict=True):
        if key in refinement:
            inner = refinement[key]
            values += [value_of((key << 16) | lower) for lower in inner.keys.tolist()]
            counts += inner.counts.tolist()
        else:
            values.append(_bin_edge(key))
            counts.append(count)
    return np.array(values, np.float64), np.array(counts, np.int64)


def _suspects(tally: Tally, counted: bool, real: bool) -> list[tuple[float, float]]:
    """Extreme values that look like an undeclared fill: (value, share of the valid pixels)."""
    if tally.valid < ENOUGH or tally.keys.size < 3:
        return []
    edges = tally.keys.astype(float) if counted else np.array([_bin_edge(int(k)) for k in tally.keys])
    body = abs(edges[-2] - edges[1]) or 1.0
    suspects = []
    ends = (
        (tally.low, tally.at_low, edges[1] - edges[0]),
        (tally.high, tally.at_high, edges[-1] - edges[-2]),
    )
    for value, many, gap in ends:
        share = many / tally.valid
        lone = gap > body / 2 and (share >= 1e-4 or abs(value) > 100 * max(map(abs, edges[1:-1])))
        padded = value == 0 and share > PADDED and real
        if lone or padded:
            suspects.append((value, share))
    return suspects
