"""The memory that a worker needs for a scene, told before anything runs, and what to do where it has less."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from batchfuse.errors import RecipeError
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
SOURCE_PIXELS = 16_000_000  # of a source finer than the grid, at most so many are read at once
SOURCE_BYTES = 13  # a band and pixel of those
SMALLEST = 64  # edge of a tile that is still worth asking for


def needed(job: Job, threads: int, edge: int | None = None) -> int:
    """Bytes of resident memory that a worker needs at most, which fuses so many tiles of the scene at once.

    Args:
        job: the scene.
        threads: tiles at once.
        edge: as if tiles were no longer than this.
    """
    edges = zip(job.tiling.sizes, job.tiling.halos, job.tiling.shape, strict=True)
    pixels = math.prod(min(min(size, edge or size) + 2 * halo, n) for size, halo, n in edges)
    process, task = PROCESS_BYTES + _cached(job), job.network_bytes
    for source, alignment in zip(job.scene.sources, job.alignments, strict=True):
        task += pixels * PIXEL_BYTES * len(source.bands)
        if alignment.shift is None:
            finer = math.prod(max(1.0, footprint) for footprint in alignment.footprint)
            read = min(pixels * finer, SOURCE_PIXELS) if finer > 1 else 0
            task += int(pixels * RESAMPLED_BYTES + read * SOURCE_BYTES * len(source.bands))
            process += 0 if process > PROCESS_BYTES + CACHE_BYTES else WARPING_BYTES
    if job.color == "luma" and len(job.reference.bands) == 3:
        task += pixels * COLOUR_BYTES
    return process + min(threads, len(job.tiling)) * task


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
