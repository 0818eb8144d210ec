"""The memory that a worker needs for a scene, told before anything runs, and what to do where it has less."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np

from batchfuse.errors import RecipeError
from batchfuse.geometry.tiling import Tiling
from batchfuse.geometry.window import Window
from batchfuse.imagery.align import Alignment
from batchfuse.imagery.resample import INPUT
from batchfuse.imagery.scene import Source
from batchfuse.imagery.tally import is_counted
from batchfuse.imagery.volume_alignment import VolumeAlignment
from batchfuse.job import Job
from batchfuse.machine import memory
from batchfuse.profile import Profile
from batchfuse.report.progress import sized

__all__ = ["memory_of_a_worker", "needed", "told_want", "within_memory"]

# measured with benchmarks/memory_promise.py on a CPU, rounded up
PROCESS_BYTES = 470_000_000  # Python with its libraries
WARPING_BYTES = 80_000_000  # numba, where a source is resampled
CACHE_BYTES = 256_000_000  # GDAL's cache of blocks, at most
PIXEL_BYTES = 32  # a band and pixel of a tile, with every copy on its way
COLOUR_BYTES = 45  # a pixel of a tile whose colours are kept
RESAMPLED_BYTES = 40  # a pixel of a tile and source that is resampled
COUNTED_BYTES = 7  # a pixel of a source finer than the grid, besides its bands: scaled in place
FLOAT_BYTES = 18  # the same where it is scaled in float64
SURELY_HALVED = 1.05  # times the most that is read at once
UPRIGHT = 1.1  # times the pixels under a tile, at most so many are in the box around them
SMALLEST = 64  # edge of a tile that is still worth asking for


def needed(job: Job, threads: int, edge: int | None = None) -> int:
    """Bytes of resident memory that a worker needs at most, which fuses so many tiles of the scene at once.

    Args:
        job: the scene.
        threads: tiles at once; the most demanding ones.
        edge: as if tiles were no longer than this.
    """
    process = PROCESS_BYTES + _cached(job)
    if any(alignment.shift is None for alignment in job.alignments):
        process += WARPING_BYTES
    for tile, many in _tiles(job, edge):
        process += min(threads, many) * tile
        threads -= min(threads, many)
    return process


def _tiles(job: Job, edge: int | None) -> list[tuple[int, int]]:
    """What the tiles of a scene need while they are fused, the most demanding first, and how many need that.

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
    return sorted(found.items(), reverse=True)


def _fused(job: Job, pixels: int, spans: Sequence[tuple[float, bool]]) -> int:
    """What a tile needs that is read through a window of so many pixels; ``spans`` as ``_span`` has them."""
    task = pixels * COLOUR_BYTES if job.color == "luma" and len(job.reference.bands) == 3 else 0
    passing = job.network_bytes
    for source, alignment, (finer, upright) in zip(job.scene.sources, job.alignments, spans, strict=True):
        task += pixels * PIXEL_BYTES * len(source.bands)
        if alignment.shift is None:
            task += pixels * RESAMPLED_BYTES
        if finer > 1:
            # the sources are read one after the other, and then the network works
            passing = max(passing, _read_at_once(pixels * finer, upright) * _finer_bytes(source))
    return task + passing


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


def _finer_bytes(source: Source) -> int:
    dtype = np.dtype(source.dtype)
    return len(source.bands) * (dtype.itemsize + 4) + (COUNTED_BYTES if is_counted(dtype) else FLOAT_BYTES)


def _cached(job: Job) -> int:
    """What GDAL keeps of the scene's files; volumes are read without it."""
    if job.is_volume:
        return 0
    sources = job.scene.sources
    files = sum(math.prod(s.place.shape) * len(s.bands) * np.dtype(s.dtype).itemsize for s in sources)
    return min(files, CACHE_BYTES)


def memory_of_a_worker(jobs: Iterable[Job], threads: int) -> int:
    """Bytes that a worker with so many threads needs for the most demanding of the scenes."""
    return max((needed(job, threads) for job in jobs), default=0)


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
    while threads > 1 and memory_of_a_worker(jobs, threads) > limit:
        threads -= 1
    most = max(jobs, key=lambda job: needed(job, threads))
    if needed(most, threads) > limit:
        raise RecipeError(
            f"a tile of {most.scene.name} needs {sized(needed(most, 1))} in a worker, and `memory: "
            f"{profile.memory}` is less: {_remedy(most, limit)}"
        )
    return profile.model_copy(update={"threads": threads})


def _remedy(job: Job, limit: int) -> str:
    edge = max(job.tiling.sizes)
    while edge > SMALLEST and needed(job, 1, edge) > limit:
        edge //= 2
    least = needed(job, 1, edge)
    if least <= limit:
        return f"say `tiles.size: {edge}`, which needs {sized(least)}, or allow more"
    return f"allow at least {sized(least)}, with `tiles.size: {edge}`"


def told_want(jobs: Iterable[Job], profile: Profile) -> str | None:
    """A sentence where this machine has less memory than all of its workers need, and no limit is set."""
    if profile.memory_bytes is not None or profile.is_elsewhere:
        return None
    workers, threads = profile.numbers()
    wanted, there = workers * memory_of_a_worker(jobs, threads), memory()
    if wanted <= there:
        return None
    return (
        f"{sized(wanted)} of memory may be needed and {sized(there)} are there: say `memory:` in the "
        "profile, or a smaller `tiles.size`"
    )
