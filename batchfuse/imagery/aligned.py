"""Sources as they look on the reference grid: scaled, resampled, with validity."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchfuse.errors import GridError
from batchfuse.geometry.window import Window
from batchfuse.imagery.align import Alignment
from batchfuse.imagery.pixels import read_pixels
from batchfuse.imagery.resample import resampled
from batchfuse.imagery.scaling import Percentiles, Scaling, Statistics, scaled, wanted_bins
from batchfuse.imagery.scene import Source
from batchfuse.imagery.tally import Tally, refined, tallied
from batchfuse.imagery.volume_alignment import VolumeAlignment
from batchfuse.imagery.volume_resample import resampled_volume

__all__ = ["AlignedSource", "counted_windows", "filled", "measured_scaling", "refine_window", "tally_window"]

COUNTED = 4_000_000  # pixels a statistics task reads


@dataclass(frozen=True)
class AlignedSource:
    """A source with its place on the reference grid and its range."""

    source: Source
    """The files."""
    alignment: Alignment | VolumeAlignment
    """Where each pixel of the reference grid lies in them."""
    scaling: Scaling
    """Physical values to 0..1."""
    resampling: str
    """nearest, bilinear, cubic or average."""

    def read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Scaled values (bands, y, x), 0 and above, and validity (y, x) of a window of the reference grid.

        Of a volume (1, z, y, x) and (z, y, x).
        """
        method = "nearest" if self.source.labels else self.resampling
        if self.alignment.identical:
            values, valid = self._read(window)
        elif isinstance(self.alignment, VolumeAlignment):
            values, valid = resampled_volume(self.alignment, window, self._read, method, 1)
        else:
            values, valid = resampled(self.alignment, window, self._read, method)
        np.maximum(values, 0, out=values)  # cubic resampling undershoots
        values[:, ~valid] = 0
        return values, valid

    def _read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        pixels, valid = read_pixels(self.source, window)
        values = scaled(self.source, self.scaling, pixels)
        # the network's features can't be negative; cut here, a value far below spoils no neighbour
        return np.maximum(values, 0, out=values), valid


def counted_windows(source: Source, alignment: Alignment | VolumeAlignment) -> Iterator[Window]:
    """The source's own pixels within the scene, each once, in windows that follow the file's blocks.

    A volume's voxels in slabs of its slices.
    """
    window = alignment.source_window()
    if window is None:
        raise GridError(f"{source.name} does not touch the reference grid: the two show different places")
    if source.is_volume:
        yield from _slabs(window)
        return
    rows, columns = source.block
    height = max(1, min(window.shape[0], COUNTED // window.shape[1]) // rows) * rows
    width = window.shape[1]
    if height * width > 2 * COUNTED:  # tall blocks of a wide raster
        width = max(1, COUNTED // rows // columns) * columns
    if height * width > 2 * COUNTED:  # a block is larger than what is read at once
        height = max(1, COUNTED // width)
    for top in _cuts(window.start[0], window.stop[0], height):
        for left in _cuts(window.start[1], window.stop[1], width):
            yield Window((top[0], left[0]), (top[1], left[1]))


def measured_scaling(
    source: Source,
    alignment: Alignment | VolumeAlignment,
    value_range: tuple[float, float] | None,
    percentiles: Percentiles | None,
    mapped: Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], Iterable[Any]],
) -> Scaling:
    """The range of a source: two passes at most over its own pixels within the scene.

    ``mapped(function, items)`` gives ``function(*item)`` of each item, in any order: ``itertools.starmap``
    here and now, or a cluster's way.
    """
    windows = list(counted_windows(source, alignment))
    tallies = [Tally.empty() for _ in source.bands]
    for parts in mapped(tally_window, [(source, window) for window in windows]):
        tallies = [total.merge(part) for total, part in zip(tallies, parts, strict=True)]
    statistics = Statistics(source, tallies)
    bins = wanted_bins(statistics, value_range, percentiles)
    if not any(bins):
        return statistics.scaling(value_range, percentiles)
    refinements: list[dict[int, Tally]] = [{} for _ in source.bands]
    for found in mapped(refine_window, [(source, window, bins) for window in windows]):
        for total, part in zip(refinements, found, strict=True):
            for key, tally in part.items():
                total[key] = total.get(key, Tally.empty()).merge(tally)
    return statistics.scaling(value_range, percentiles, refinements)


def tally_window(source: Source, window: Window) -> list[Tally]:
    """The tally of each band in a window of the source's own pixels."""
    pixels, valid = read_pixels(source, window)
    return [tallied(band, valid) for band in pixels]


def refine_window(source: Source, window: Window, bins: list[set[int]]) -> list[dict[int, Tally]]:
    """The second pass over a window: each band's wanted bins."""
    pixels, valid = read_pixels(source, window)
    return [refined(band, valid, wanted) for band, wanted in zip(pixels, bins, strict=True)]


def _slabs(window: Window) -> Iterator[Window]:
    """A box of voxels in slabs of whole slices, or of whole rows where a slice is too large."""
    (z0, y0, x0), (z1, y1, x1) = window.start, window.stop
    slices = max(1, COUNTED // ((y1 - y0) * (x1 - x0)))
    rows = max(1, COUNTED // (x1 - x0))
    for low, high in _cuts(z0, z1, slices):
        for top, bottom in [(y0, y1)] if rows >= y1 - y0 else _cuts(y0, y1, rows):
            yield Window((low, top, x0), (high, bottom, x1))


def _cuts(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges that end at multiples of ``step``."""
    while start < stop:
        end = min(stop, (start // step + 1) * step)
        yield start, end
        start = end


def filled(luminances: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Luminances (k, y, x) whose invalid pixels are the mean of the other sources' valid ones there.

    0 where no source is valid. A constant instead would leave an edge that the network smears over
    the 12 pixels beside it.
    """
    if valid.all():
        return luminances
    many = valid.sum(0)
    mean = np.where(valid, luminances, 0).sum(0, dtype=np.float32) / np.maximum(many, 1)
    return np.where(valid, luminances, mean.astype(np.float32))
