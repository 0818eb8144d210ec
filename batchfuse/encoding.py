"""From fused values back to what a store holds: units, type, fill value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchfuse.imagery.scaling import Scaling
from batchfuse.imagery.scene import Source, can_hold

__all__ = ["Encoding"]

FEW = 16  # whole numbers that an image can hardly be told by


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the fused image is written (values.md, step 6, in docs/values.md).

    A stored value is ``fused · gain + zero``, rounded and saturated for integers; a reader gets the
    physical value back as ``stored · scale + offset``.
    """

    dtype: str
    """float32, float16, uint8, uint16 or int16."""
    fill: float
    """What invalid pixels hold: NaN for floats."""
    gain: tuple[float, ...]
    """A band: stored units per fused unit."""
    zero: tuple[float, ...]
    """A band: the stored value of fused 0."""
    scale: tuple[float, ...] | None = None
    """A band: CF scale_factor, where stored values are not yet physical."""
    offset: tuple[float, ...] | None = None
    """A band: CF add_offset."""

    @classmethod
    def of(cls, dtype: str, units: str, reference: Source, scaling: Scaling) -> Encoding:
        """The encoding into the reference's own range (``reference``) or 0..1 (``unit``)."""
        bands = reference.bands
        span = scaling.high - scaling.low
        if np.dtype(dtype).kind == "f":
            low, gain = (scaling.low, span) if units == "reference" else (0.0, 1.0)
            return cls(dtype, float("nan"), (gain,) * len(bands), (low,) * len(bands))
        fill = _integer_fill(dtype, bands[0].nodata)
        if units == "unit":
            top = float(np.iinfo(dtype).max)
            return cls(
                dtype,
                fill,
                (top,) * len(bands),
                (0.0,) * len(bands),
                (1 / top,) * len(bands),
                (0.0,) * len(bands),
            )
        gains = tuple(span / band.scale for band in bands)
        zeros = tuple((scaling.low - band.offset) / band.scale for band in bands)
        if all((band.scale, band.offset) == (1.0, 0.0) for band in bands):
            return cls(dtype, fill, gains, zeros)
        scales, offsets = zip(*((band.scale, band.offset) for band in bands), strict=True)
        return cls(dtype, fill, gains, zeros, scales, offsets)

    def doubts(self, reference: Source, scaling: Scaling) -> list[str]:
        """What the type can't hold of the reference's own range, in sentences for people."""
        real = np.dtype(self.dtype).kind == "f"
        info = np.finfo(self.dtype) if real else np.iinfo(self.dtype)
        stored = [value * g + z for value in (0.0, 1.0) for g, z in zip(self.gain, self.zero, strict=True)]
        low, high = min(stored), max(stored)
        least, most = float(info.min), float(info.max)
        if low < least or high > most:
            return [
                f"`output.dtype: {self.dtype}` holds {least:g} to {most:g}, but {reference.role} "
                f"reaches from {low:g} to {high:g}: what lies beyond is cut; use float32, a wider type, "
                "or `units: unit`"
            ]
        if not real and scaling.high > scaling.low and high - low < FEW:
            return [
                f"`output.dtype: {self.dtype}` rounds {reference.role}, which reaches "
                f"from {low:g} to {high:g}, to a few whole numbers: use float32, or `units: unit`"
            ]
        return []

    def encoded(self, fused: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[Any]:
        """Stored values of fused ones, both (bands, y, x); the fill value where not ``valid`` (y, x)."""
        gain = np.array(self.gain)[:, None, None]
        zero = np.array(self.zero)[:, None, None]
        values = fused.astype(np.float64) * gain + zero
        if np.dtype(self.dtype).kind == "f":
            values[:, ~valid] = np.nan
            limit = np.finfo(self.dtype).max
            return np.asarray(np.clip(values, -limit, limit), self.dtype)
        info = np.iinfo(self.dtype)
        stored = np.clip(np.rint(values), info.min, info.max)
        # a valid value must not read as nodata: it moves by one
        stored[stored == self.fill] += 1 if self.fill < info.max else -1
        stored[:, ~valid] = self.fill
        return np.asarray(stored, self.dtype)

    def decoded(self, stored: NDArray[Any]) -> NDArray[np.float64]:
        """The inverse of ``encoded`` but for rounding, (bands, y, x); NaN where stored is the fill value."""
        gain = np.array(self.gain)[:, None, None]
        zero = np.array(self.zero)[:, None, None]
        missing = np.isnan(stored) if np.isnan(self.fill) else stored == self.fill
        # a constant reference has no gain: each of its values is 0 again
        values = (stored.astype(np.float64) - zero) / np.where(gain == 0, np.inf, gain)
        return np.where(missing, np.nan, values)


def _integer_fill(dtype: str, nodata: float | None) -> float:
    return int(nodata) if nodata is not None and can_hold(dtype, nodata) else int(np.iinfo(dtype).min)
