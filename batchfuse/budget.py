"""The memory that a worker needs for a scene, told before anything runs, and what to do where it has less."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from batchfuse.errors import RecipeError
from batchfuse.fusion.layers import CPU_WINDOW
from batchfuse.geometry.tiling import Tiling
from batchfuse.geometry.window import Window
from batchfuse.imagery.align import Alignment
from batchfuse.imagery.raster_files import CACHE
from batchfuse.imagery.resample import INPUT
from batchfuse.imagery.scene import Source
from batchfuse.imagery.tally import is_counted
from batchfuse.imagery.volume_alignment import VolumeAlignment
from batchfuse.job import Job
from batchfuse.machine import memory
from batchfuse.profile import Profile
from batchfuse.report.mosaic import AREA, TOGETHER
from batchfuse.report.progress import sized

__all__ = ["Need", "memory_of", "memory_of_a_worker", "told_want", "windows_of_a_tile", "within_memory"]

# measured with benchmarks/memory_promise.py on a CPU, rounded up
PROCESS_BYTES = 470_000_000  # Python with its libraries
WARPING_BYTES = 80_000_000  # numba, where a source is resampled
PIXEL_BYTES = 32  # a band and pixel of a tile, with every copy on its way
VOXEL_BYTES = 20  # a voxel of a tile
COLOUR_BYTES = 45  # a pixel of a tile whose colours are kept
RESAMPLED_BYTES = 40  # a pixel of a tile and source that is resampled
PICTURE_BYTES = 60  # a band and pixel of the picture of a scene
COUNTED_BYTES = 7  # a pixel of a source finer than the grid, besides its bands, where it is scaled in float32
FLOAT_BYTES = 18  # a pixel of a source that is scaled in float64, besides its bands
SURELY_HALVED = 1.05  # times the most that is read at once
UPRIGHT = 1.1  # times the pixels under a tile, at most so many are in the box around them
SMALLEST = 64  # edge of a tile that is still worth asking for


@dataclass(frozen=True, slots=True)
class Need:
    """What a worker needs for scenes: told once, summed for any number of tiles at a time."""

    process: int
    """Bytes that a worker needs in any case."""
    files: int
    """Bytes of the pixels in the scenes' raster files."""
    tiles: tuple[tuple[int, int], ...]
    """Bytes that a tile needs while it is fused, and how many need that: the most demanding first."""
    window: int = 0
    """Bytes that each further window needs which the network computes of one tile at the same time."""
    windows: int = 1
    """Windows that the largest tile has."""

    @classmethod
    def of(cls, jobs: Sequence[Job], edge: int | None = None) -> Need:
        """Of scenes, as if tiles were no longer than ``edge``."""
        # while the tiles of one scene are fused, the picture of another may be made
        process = PROCESS_BYTES + max(map(_pictured, jobs), default=0)
        if any(alignment.shift is None for job in jobs for alignment in job.alignments):
            process += WARPING_BYTES
        tiles: Counter[int] = Counter()
        for job in jobs:
            tiles.update(_tiles(job, edge))
        return cls(
            process,
            sum(map(_read, jobs)),
            tuple(sorted(tiles.items(), reverse=True)),
            max((job.network_bytes for job in jobs), default=0),
            max((_windows(job, edge) for job in jobs), default=1),
        )

    def memory(self, threads: int, windows: int = 1) -> int:
        """Bytes with so many tiles at once, the most demanding ones; each thread opens the files anew.

        The network computes a window of each, and further ones until there are so many in all.
        """
        total = self.process + min(threads * self.files, CACHE)
        tiles = self.at_once(threads)
        for tile, many in self.tiles:
            total += min(threads, many) * tile
            threads -= min(threads, many)
        return total + max(0, min(windows, tiles * self.windows) - tiles) * self.window

    def at_once(self, threads: int) -> int:
        """Tiles in hand at a time, of so many at most."""
        return min(threads, sum(many for _, many in self.tiles))

    def windows_within(self, limit: int, threads: int) -> int:
        """Windows that may be computed at a time in so many tiles at once: one of each at the least."""
        left = limit - self.memory(threads)
        return self.at_once(threads) + max(0, left // max(1, self.window))


def memory_of_a_worker(jobs: Iterable[Job], threads: int, windows: int = 1, edge: int | None = None) -> int:
    """Bytes of resident memory that a worker needs at most, which fuses so many tiles of the scenes at once.

    Args:
        jobs: the scenes.
        threads: tiles at once, of one scene or of several.
        windows: that the network computes at once, where there are fewer tiles than cores.
        edge: as if tiles were no longer than this.
    """
    return Need.of(list(jobs), edge).memory(threads, windows)


def memory_of(jobs: Iterable[Job], profile: Profile) -> int:
    """Bytes of resident memory that a worker of a profile needs at most."""
    need, (_, threads) = Need.of(list(jobs)), profile.numbers()
    return need.memory(threads, _windows_at_once(need, profile))


def windows_of_a_tile(jobs: Iterable[Job], profile: Profile, most: int) -> int:
    """Windows that the network computes at once in each tile: at most what the profile's memory allows."""
    if profile.memory_bytes is None or most == 1:
        return most
    need, (_, threads) = Need.of(list(jobs)), profile.numbers()
    return min(most, need.windows_within(profile.memory_bytes, threads) // need.at_once(threads))


def _windows_at_once(need: Need, profile: Profile) -> int:
    limit, (_, threads) = profile.memory_bytes, profile.numbers()
    return profile.windows if limit is None else min(profile.windows, need.windows_within(limit, threads))


def _tiles(job: Job, edge: int | None) -> Counter[int]:
    """What the tiles of a scene need while they are fused, and how many need that.

    Tiles differ at the edge of the scene: in their size, and so in the parts that a finer source is read in.
    """
    lengths = []
    for size, halo, n in zip(job.tiling.sizes, job.tiling.halos, job.tiling.shape, strict=True):
        core = min(size, edge or size)
        starts = range(0, n, core)
        lengths.append(Counter(min(n, start + core + halo) - max(0, start - halo) for start in starts))
    spans = [_span(alignment, job.tiling) for alignment in job.alignments]
    found: Counter[int] = Counter()
    for shape in product(*lengths):
        many = math.prod(counter[n] for counter, n in zip(lengths, shape, strict=True))
        found[_fused(job, math.prod(shape), spans)] += many
    return found


def _fused(job: Job, pixels: int, spans: Sequence[tuple[float, bool]]) -> int:
    """What a tile needs that is read through a window of so many pixels; ``spans`` as ``_span`` has them."""
    task = pixels * COLOUR_BYTES if job.color == "luma" and len(job.reference.bands) == 3 else 0
    passing = job.network_bytes
    for source, alignment, (finer, upright) in zip(job.scene.sources, job.alignments, spans, strict=True):
        task += pixels * (VOXEL_BYTES if job.is_volume else _pixel_bytes(source)) * len(source.bands)
        if alignment.shift is None:
            task += pixels * RESAMPLED_BYTES
        if finer > 1:
            # the sources are read one after the other, and then the network works
            passing = max(passing, _read_at_once(pixels * finer, upright) * _finer_bytes(source))
    return task + passing


def _windows(job: Job, edge: int | None) -> int:
    """Windows that the network cuts the core of a tile into."""
    sides = [min(size, edge or size, n) for size, n in zip(job.tiling.sizes, job.tiling.shape, strict=True)]
    return math.prod(-(-side // CPU_WINDOW) for side in sides)


def _read_at_once(pixels: float, upright: bool) -> int:
    """Of the source's pixels under a window, how many are in memory at a time: more than INPUT are halved.

    Whether a window near that limit is halved once more depends on its very place; where the source is
    turned, the halves of a window may be of any size.
    """
    while upright and pixels > SURELY_HALVED * INPUT:
        pixels /= 2
    return int(min(pixels, INPUT))


def _span(alignment: Alignment | VolumeAlignment, tiling: Tiling) -> tuple[float, bool]:
    """Pixels of a source that are read for one of the grid, and whether the source is hardly turned.

    1 where the source is no finer than the grid: what is read of it is counted with the tile.
    """
    under = math.prod(max(1.0, footprint) for footprint in alignment.footprint)
    if alignment.shift is not None or under == 1:
        return 1.0, True
    window = tiling[tuple(n // 2 for n in tiling.counts)].core
    if isinstance(alignment, VolumeAlignment):
        low, high = alignment.extent(window)
    else:
        ends = zip(window.start, window.stop, strict=True)
        corners = (Window(at, (at[0] + 1, at[1] + 1)) for at in product(*((a, b - 1) for a, b in ends)))
        places = np.array([alignment.coordinates(corner) for corner in corners]).reshape(4, 2)
        low, high = places.min(0), places.max(0)
    box = np.prod(np.maximum(high - low + np.array(alignment.footprint), 1)) / window.size
    if not math.isfinite(box):  # the middle of the scene has no place in the source's CRS
        return math.inf, False
    return max(float(box), under), bool(box <= UPRIGHT * under)


def _pixel_bytes(source: Source) -> int:
    return PIXEL_BYTES + (0 if is_counted(np.dtype(source.dtype)) else FLOAT_BYTES)


def _finer_bytes(source: Source) -> int:
    dtype = np.dtype(source.dtype)
    return len(source.bands) * (dtype.itemsize + 4) + (COUNTED_BYTES if is_counted(dtype) else FLOAT_BYTES)


def _read(job: Job) -> int:
    """Bytes of the pixels in the scene's files, which GDAL may keep; volumes are read without it."""
    if job.is_volume:
        return 0
    sources = job.scene.sources
    return sum(math.prod(s.place.shape) * len(s.bands) * np.dtype(s.dtype).itemsize for s in sources)


def _pictured(job: Job) -> int:
    """What the picture of a finished scene needs while it is made; one at a time is."""
    images = [*job.scene.sources, job.reference]
    bands = sum(min(len(source.bands), 3) for source in images)
    shape = job.tiling.shape
    if job.is_volume:  # three cuts
        return sum(math.prod(cut) for cut in combinations(shape, 2)) * bands * PICTURE_BYTES
    return min(math.prod(shape), AREA, TOGETHER // len(images)) * bands * PICTURE_BYTES


def within_memory(jobs: Iterable[Job], profile: Profile) -> Profile:
    """The profile with as many tiles at once as its ``memory`` allows; as it is without one.

    Fewer tiles at once change no byte of a store, as smaller tiles would: those are asked for.

    Raises:
        RecipeError: a single tile needs more; the line names the scene and the tiles that would fit.
    """
    limit, jobs = profile.memory_bytes, list(jobs)
    if limit is None or not jobs:
        return profile
    _, threads = profile.numbers()
    need = Need.of(jobs)
    while threads > 1 and need.memory(threads) > limit:
        threads -= 1
    if (least := need.memory(threads)) > limit:
        most = max(jobs, key=lambda job: memory_of_a_worker([job], 1))
        raise RecipeError(
            f"a tile of {most.scene.name} needs {sized(least)} in a worker, and `memory: "
            f"{profile.memory}` is less: {_remedy(jobs, limit)}"
        )
    return profile.model_copy(update={"threads": threads})


def _remedy(jobs: Sequence[Job], limit: int) -> str:
    edge = max(max(job.tiling.sizes) for job in jobs)
    while edge > SMALLEST and memory_of_a_worker(jobs, 1, edge=edge) > limit:
        edge //= 2
    least = memory_of_a_worker(jobs, 1, edge=edge)
    if least <= limit:
        return f"say `tiles.size: {edge}`, which needs {sized(least)}, or allow more"
    return f"allow at least {sized(least)}, with `tiles.size: {edge}`"


def told_want(jobs: Iterable[Job], profile: Profile) -> str | None:
    """A sentence where this machine has less memory than all of its workers need, and no limit is set."""
    if profile.memory_bytes is not None or profile.is_elsewhere:
        return None
    wanted, there = profile.numbers()[0] * memory_of(jobs, profile), memory()
    if wanted <= there:
        return None
    return (
        f"{sized(wanted)} of memory may be needed and {sized(there)} are there: say `memory:` in the "
        "profile, or a smaller `tiles.size`"
    )
