"""How a source's values map to the network's range, and the statistics that decide it.

file value → physical value (· scale + offset) → scaled value ((physical - low) / (high - low)).
One range serves the whole scene (and the three bands of a colour source): anything taken from a
tile's own extremes would make seams.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchfuse.errors import SourceError
from batchfuse.imagery.distribution import Column, Distribution, Unit, bin_edges
from batchfuse.imagery.scene import Band, Source
from batchfuse.imagery.tally import Tally, is_counted, values_of

__all__ = [
    "Percentiles",
    "Scaling",
    "Statistics",
    "byte_range",
    "is_byte",
    "nothing_valid",
    "scaled",
    "units_of",
    "wanted_bins",
]

MOST = 1e30  # a lone huge pixel must not become infinite within the network
ENOUGH = 100  # valid values below which an extreme one is no surprise
PADDED = 0.05  # share of one value that is a surprise: exact zeros in a float image, or any value set apart
NOTICED = 1e-4  # share of one extreme value below which it is an outlier, unless it dwarfs all others
DWARFS = 100  # times as large as all others: a surprise however few pixels have it
NEIGHBOURS = 16  # distinct values at an end that tell how far apart values lie there
END_BINS = 3  # bins at an end that hold them: a fill's own, and two of the rest
GAP = 3  # times the widest step between neighbours: what parts a fill from them

Percentiles = tuple[float, float]
Floats = NDArray[np.float64]


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
        self.counted = units_of(source)[0].counted
        if not any(tally.valid for tally in tallies):
            raise nothing_valid(source)

    def scaling(
        self,
        value_range: tuple[float, float] | None,
        percentiles: Percentiles | None,
        refinements: Sequence[Mapping[int, Tally]] = (),
    ) -> Scaling:
        """The range by the recipe's ``range`` or ``percentiles``, else by the type's rule."""
        found = self.distribution(refinements)
        minimum, maximum = found.extremes()
        if value_range is not None:
            low, high = value_range
        elif percentiles is None and is_byte(self.source):
            low, high = byte_range(self.source)
        else:
            low, high = found.range(percentiles)
        if not all(map(math.isfinite, (low, high, minimum, maximum))):
            raise SourceError(
                f"{self.source.name} reaches from {minimum:g} to {maximum:g} after scale and offset: "
                "correct `scale:` and `offset:`, or give a `range:`"
            )
        scaling = Scaling(
            low=low,
            high=max(low, high),
            minimum=minimum,
            maximum=maximum,
            valid=max(tally.valid for tally in self.tallies),
            pixels=self.tallies[0].pixels,
            below=0 if low <= minimum else found.below(low),
        )
        return replace(scaling, warnings=tuple(self._warnings(scaling, refinements)))

    def distribution(self, refinements: Sequence[Mapping[int, Tally]] = ()) -> Distribution:
        """The physical values of all bands."""
        more = refinements or (None,) * len(self.tallies)
        columns = zip(self.tallies, units_of(self.source), more, strict=True)
        return Distribution([Column(*column) for column in columns])

    def end_bins(self) -> list[set[int]]:
        """For each band, the bins that tell whether its extreme values have neighbours."""
        known = self.counted or is_byte(self.source)
        return [set() if known else _end_bins(tally) for tally in self.tallies]

    def _warnings(self, found: Scaling, refinements: Sequence[Mapping[int, Tally]]) -> list[str]:
        # without their folders: what is told here stands in the store
        name = " + ".join(file.path.name for file in self.source.files)
        if found.minimum == found.maximum:
            return [f"{name} is constant ({found.minimum:g}): it has nothing to show"]
        lines = []
        real = np.dtype(self.source.dtype).kind == "f"
        more = refinements or ({},) * len(self.tallies)
        for tally, band, refinement in zip(self.tallies, self.source.bands, more, strict=True):
            suspects = _suspects(tally, self.counted, refinement, real) if not is_byte(self.source) else []
            for value, many in suspects:
                if value == band.nodata or self._is_background(band, value, found):
                    continue
                lines.append(
                    f"{name}: {_share(many, tally.valid)} of the valid {_dots(self.source)} have the lone "
                    f"value {value:.9g}, far from the rest; if that is a fill value, say "
                    f"`nodata: {value:.9g}` in the recipe"
                )
        if found.high <= found.low:
            lines.append(f"{name}: the range is the one value {found.low:g}, so that it has nothing to show")
        if found.below:
            lines.append(f"{name}: {found.below} valid values lie below {found.low:g} and are set to it")
        return list(dict.fromkeys(lines))

    def _is_background(self, band: Band, value: float, found: Scaling) -> bool:
        """Whether a file value is what a volume has where there is no patient, and does no harm there.

        PET, masked and skull-stripped volumes are exactly 0 there, stored as 0 or, with an intercept, as
        another number. What lies below the range (the air of a CT in a window for soft tissue) is set to its
        lower end whatever it is. A number that makes the lower end takes contrast from the rest.
        """
        if not self.source.is_volume:
            return False
        physical = value * band.scale + band.offset
        noise = 1e-6 * (found.maximum - found.minimum)
        return value == 0 or abs(physical) <= noise or physical < found.low - noise


def wanted_bins(
    statistics: Statistics, value_range: tuple[float, float] | None, percentiles: Percentiles | None
) -> list[set[int]]:
    """For each band, the bins of the first pass that a second pass must look into, if any."""
    ranges = statistics.distribution().bins(value_range and value_range[0], percentiles)
    return [bins | ends for bins, ends in zip(ranges, statistics.end_bins(), strict=True)]


def units_of(source: Source) -> list[Unit]:
    """What the tallied values of each band mean."""
    counted = is_counted(np.dtype("uint8" if source.palette else source.dtype))
    return [Unit(counted, band.scale, band.offset) for band in source.bands]


def is_byte(source: Source) -> bool:
    """Whether its range follows from its type alone: 0 to 255."""
    return bool(source.palette) or source.dtype == "uint8"


def byte_range(source: Source) -> tuple[float, float]:
    """The physical values of 0 and of the greatest value that its bits can hold."""
    top = 2**source.bits - 1 if source.bits else 255
    ends = [unit.physical(value) for unit in units_of(source) for value in (0, top)]
    return min(ends), max(ends)


def nothing_valid(source: Source) -> SourceError:
    """The one line for a source without a valid pixel."""
    told = sorted({band.nodata for band in source.bands if band.nodata is not None})
    why = [f"nodata is {', '.join(f'{v:g}' for v in told)}"] if told else ["all masked, NaN or infinite"]
    why += [f"or rejected by the mask {source.quality.file.path}"] if source.quality else []
    return SourceError(
        f"{source.name} has no valid {_dots(source)[:-1]} within the scene ({', '.join(why)}): "
        f"leave the scene out, or correct {'`mask:` or ' if source.quality else ''}`nodata:` in the recipe"
    )


def _dots(source: Source) -> str:
    """What the values of a source are called."""
    return "voxels" if source.is_volume else "pixels"


def _share(many: int, valid: int) -> str:
    """How many pixels of all: in percent, or where that would read as nothing, their number."""
    return f"{many / valid:.1%}" if many / valid >= 0.001 else f"{many:,}"


def _ends(tally: Tally) -> tuple[tuple[float, int], tuple[float, int]]:
    """The least and the greatest value, and how many pixels have exactly it."""
    return (tally.low, tally.at_low), (tally.high, tally.at_high)


def _end_bins(tally: Tally) -> set[int]:
    """The bins to look into where an extreme value may be a fill: with them its neighbours are known."""
    if tally.valid < ENOUGH or not any(_is_noticed(tally, *end) for end in _ends(tally)):
        return set()
    return {int(key) for key in (*tally.keys[:END_BINS], *tally.keys[-END_BINS:])}


def _is_noticed(tally: Tally, value: float, many: int) -> bool:
    """Whether an extreme value is one of many pixels, or so large that it may be beyond all others."""
    others = abs(bin_edges(np.array([*tally.keys[1:2], *tally.keys[-2:-1]], np.int64))).tolist()
    return many >= NOTICED * tally.valid or abs(value) > DWARFS / 2 * max(others, default=math.inf)


def _end_values(tally: Tally, counted: bool, refinement: Mapping[int, Tally]) -> tuple[Floats, Floats]:
    """The distinct values at the lower end, ascending, and at the upper end, descending; NEIGHBOURS each."""
    if counted:
        return tally.keys[:NEIGHBOURS].astype(float), tally.keys[: -NEIGHBOURS - 1 : -1].astype(float)
    lower, upper = (
        np.concatenate([values_of((k << 16) | refinement[k].keys).astype(float) for k in keys])
        for keys in (tally.keys[:END_BINS].tolist(), tally.keys[-END_BINS:].tolist())
    )
    return lower[:NEIGHBOURS], upper[: -NEIGHBOURS - 1 : -1]


def _suspects(
    tally: Tally, counted: bool, refinement: Mapping[int, Tally], real: bool
) -> list[tuple[float, int]]:
    """Extreme values that look like an undeclared fill: (value, pixels that have it).

    Each is set apart by a gap that is wider than any between the values next to it: a value with neighbours
    is a measurement, however many pixels have it.
    """
    if tally.valid < ENOUGH or not (counted or refinement.keys() >= _end_bins(tally) != set()):
        return []
    ends = _end_values(tally, counted, refinement)
    if min(map(len, ends)) < 3:
        return []
    rest = float(ends[0][1]), float(ends[1][1])
    body = abs(rest[1] - rest[0])
    suspects = []
    for values, (value, many) in zip(ends, _ends(tally), strict=True):
        steps = np.abs(np.diff(values))
        gap, share = steps[0], many / tally.valid
        lone = gap > body / 2 and (share >= NOTICED or abs(value) > DWARFS * max(map(abs, rest)))
        padded = value == 0 and share > PADDED and real
        # bright land lies far from 0 and still spreads wider than that: there the sheer number tells
        apart = share > PADDED and gap > max(body / 20, 20 * body / tally.keys.size)
        if gap > GAP * steps[1:].max() and (lone or padded or apart):
            suspects.append((value, many))
    return suspects
