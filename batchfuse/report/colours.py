"""From values to colours, for the eye."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Stretch"]

STRETCH = (1.0, 99.0)  # percentiles shown as the darkest and the brightest colour
HAZE = 0.3  # of the span: dark ends of bands that lie further apart are made one

# ten colours of the map "inferno" by Nathaniel Smith and Stefan van der Walt (CC0), evenly apart:
# its lightness rises evenly, so that equal steps of temperature look equal
INFERNO = np.array(
    [
        (0x00, 0x00, 0x04),
        (0x1B, 0x0C, 0x42),
        (0x4B, 0x0C, 0x6B),
        (0x78, 0x1C, 0x6D),
        (0xA5, 0x2C, 0x60),
        (0xCF, 0x44, 0x46),
        (0xED, 0x69, 0x25),
        (0xFB, 0x9A, 0x06),
        (0xF7, 0xD0, 0x3C),
        (0xFC, 0xFF, 0xA4),
    ],
    float,
)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Which values are shown dark and which bright, for the eye alone."""

    low: NDArray[np.float64]
    """A band: the value shown as darkest. One for all bands, unless haze lifts them far apart."""
    span: float
    """From there to the brightest, one for all bands: a difference keeps its colour. 0 without contrast."""

    @classmethod
    def of(cls, *images: NDArray[np.float64]) -> Stretch:
        """Between percentiles of images, (band, y, x) with NaN for invalid, that share it."""
        bands = [np.concatenate(parts) for parts in zip(*map(_valid, images), strict=True)]
        if not bands[0].size:
            return cls(np.zeros(len(bands)), 0.0)
        low, high = np.percentile(bands, STRETCH, axis=1)
        if (high <= low).all():  # nearly all pixels have one value: the rest still has to show
            low, high = np.min(bands, axis=1), np.max(bands, axis=1)
        if np.ptp(low) < HAZE * (high - low).max():
            low = np.full_like(low, low.min())  # grays stay gray
        return cls(low, float((high - low).max()))

    def coloured(self, image: NDArray[np.float64], heat: bool) -> NDArray[np.uint8]:
        """RGBA (y, x, 4) of an image (1 or 3, y, x): gray, heat or colour; transparent where it is NaN."""
        valid = np.isfinite(image).all(0)
        shown = np.zeros((*valid.shape, 4), np.uint8)
        part = np.full((len(image), valid.sum()), 0.5)
        if self.span:
            part = np.clip((image[:, valid] - self.low[:, None]) / self.span, 0, 1)
        if heat:
            places = np.linspace(0, 1, len(INFERNO))
            colours = np.stack([np.interp(part[0], places, channel) for channel in INFERNO.T])
        else:
            colours = np.broadcast_to(part * 255, (3, part.shape[1]))
        shown[valid, :3] = np.rint(colours).T
        shown[valid, 3] = 255
        return shown

    def bar(self, heat: bool, size: tuple[int, int]) -> NDArray[np.uint8]:
        """A colour bar, RGBA (*size, 4), of one band from the darkest to the brightest."""
        values = self.low[0] + np.linspace(0, 1, size[1]) * self.span
        return self.coloured(np.broadcast_to(values, (1, *size)), heat)


def _valid(image: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """The valid values of each band."""
    return list(image[:, np.isfinite(image).all(0)])
