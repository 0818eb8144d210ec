"""What one task does: tally part of a source, survey, fuse or thumbnail a tile, reduce a level.

A task gets a job, the survey and an index, and gives back a few numbers. What is costly to make
(the open store, the fuser with its weights) is made once a process and kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from batchfuse.encoding import Encoding
from batchfuse.fusion.color import luminance, recolored
from batchfuse.fusion.fuser import Fuser, made_fuser
from batchfuse.fusion.surveys import Survey
from batchfuse.geometry.planes import Plane
from batchfuse.geometry.window import Window
from batchfuse.imagery.aligned import AlignedSource, filled
from batchfuse.imagery.registration import Offset, coarseness, offset_between
from batchfuse.imagery.scaling import Scaling
from batchfuse.job import Job
from batchfuse.place import device_in_place
from batchfuse.storage.digests import Digest
from batchfuse.storage.pyramid import write_level
from batchfuse.storage.store import Store

__all__ = [
    "Compute",
    "Reduced",
    "Work",
    "compared_window",
    "cut_window",
    "fuse_tile",
    "fuser_notes",
    "level_tile",
    "reduced",
    "survey_tile",
    "thumbnail_tile",
]

STORES = 256  # open stores a process keeps: more than it drives scenes at a time
FUSERS = 2  # networks it keeps
STRIP = 64  # voxels along a cut that are read at once

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Compute:
    """Where and how the network computes."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: str = "auto"
    """auto or float32."""
    threads: int | None = None
    """Windows of a tile that the network computes at a time; None takes as many as torch has threads."""


@dataclass(frozen=True, slots=True)
class Work:
    """A job and all that had to be known of the whole scene first."""

    token: str
    """Tells one run's work on a scene from another's."""
    job: Job
    """The scene."""
    scalings: tuple[Scaling, ...]
    """One a source."""
    surveys: tuple[Survey, ...]
    """The strategy's survey, one a stack; empty where it asks for none."""
    compute: Compute
    """The device."""


@dataclass(frozen=True, slots=True)
class ScenePixels:
    """A window of a scene as the network gets it; of a volume (z, y, x) in place of (y, x)."""

    luminances: NDArray[np.float32]
    """(source, y, x), scaled, invalid pixels filled."""
    valid: NDArray[np.bool_]
    """(source, y, x)."""
    colour: NDArray[np.float32] | None
    """(3, y, x), scaled: the reference's, where it is a colour source fused by its luminance."""
    reference: int
    """Which of the sources it is."""
    bands: NDArray[np.float32] | None
    """(band, y, x), scaled: the reference's, where each band is fused on its own."""

    def stacks(self) -> Iterator[NDArray[np.float32]]:
        """What the network fuses, one after the other, each (source, y, x): one, or one a band."""
        if self.bands is None:
            yield self.luminances
            return
        for band in self.bands:
            stack = self.luminances.copy()
            stack[self.reference] = band
            # what is invalid was filled for the first band, and wants another mean for each
            yield filled(stack, self.valid)

    def shown(self, validity: str) -> NDArray[np.bool_]:
        """Where the fused image is valid, (y, x)."""
        return np.asarray(self.valid.any(0) if validity == "any" else self.valid.all(0))


def read_scene(work: Work, window: Window) -> ScenePixels:
    """All sources of a scene in a window of the reference grid."""
    job = work.job
    luminances, valid, colour, bands = [], [], None, None
    for index, source in enumerate(_aligned_sources(work)):
        values, there = source.read(window)
        if index == job.scene.reference and job.color == "bands":
            bands, values = values, values[:1]
        elif index == job.scene.reference and len(values) == 3:
            colour = values
        luminances.append(luminance(values) if len(values) == 3 else values[0])
        valid.append(there)
    stacked, masks = np.stack(luminances), np.stack(valid)
    whole = filled(stacked, masks)
    if colour is not None:
        # where the reference is invalid its colour is gray, as bright as what fills it
        at = job.scene.reference
        colour = np.where(masks[at], colour, whole[at])
    return ScenePixels(whole, masks, colour, job.scene.reference, bands)


def survey_tile(work: Work, index: tuple[int, ...]) -> tuple[Survey, ...]:
    """What the strategy asks of one tile's core, one a stack."""
    tiling = work.job.survey_tiling
    assert tiling is not None
    tile = tiling[index]
    pixels = read_scene(work, tile.window)
    core = tile.core.relative_to(tile.window)
    fuser = _fuser(work)
    if work.job.is_volume:
        views = (_sliced(plane, pixels, core) for plane in work.job.planes)
        return tuple(fuser.survey(stack, valid, inner) for stack, valid, inner in views)
    return tuple(fuser.survey(stack, pixels.valid, core) for stack in pixels.stacks())


def fuse_window(work: Work, core: Window, read: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Fused values (bands, y, x) in the scaled range, and validity, of ``core`` read through ``read``.

    Of a volume (1, z, y, x).
    """
    pixels = read_scene(work, read)
    inner = core.relative_to(read)
    valid = pixels.shown(work.job.validity)[inner.slices]
    surveys = work.surveys or (None,) * work.job.stacks
    if work.job.is_volume:
        return _fused_planes(work, pixels, inner, surveys)[None], valid
    stacks = zip(pixels.stacks(), surveys, strict=True)
    fused = np.stack([_fuser(work).fuse(stack, inner, survey) for stack, survey in stacks])
    if pixels.colour is not None:
        fused = recolored(pixels.colour[(slice(None), *inner.slices)], fused[0])
    return fused, valid


def _fused_planes(
    work: Work, pixels: ScenePixels, core: Window, surveys: Sequence[Survey | None]
) -> NDArray[np.float32]:
    """The mean over the planes of the volume fused slice by slice, (z, y, x)."""
    total = np.zeros(core.shape, np.float32)
    for plane, survey in zip(work.job.planes, surveys, strict=True):
        stack, _, inner = _sliced(plane, pixels, core)
        total += plane.volume(_fuser(work).fuse(stack, inner, survey))
    return total / np.float32(len(work.job.planes))


def _sliced(
    plane: Plane, pixels: ScenePixels, core: Window
) -> tuple[NDArray[np.float32], NDArray[np.bool_], Window]:
    """The slices of a core, (source, slice, row, column), where they are valid, and the core in each."""
    start, stop = [0] * 3, list(pixels.valid.shape[1:])
    start[plane.axis], stop[plane.axis] = core.start[plane.axis], core.stop[plane.axis]
    part = Window(tuple(start), tuple(stop))  # without the halo that other planes need across the slices
    at = (slice(None), *part.slices)
    inner = plane.window(core.relative_to(part), part.shape)
    return plane.slices(pixels.luminances[at]), plane.slices(pixels.valid[at]), inner


def fuse_tile(work: Work, index: tuple[int, ...]) -> Digest:
    """Fuses one tile and writes the chunk it owns; its file's digest."""
    tile = work.job.tiling[index]
    fused, valid = fuse_window(work, tile.core, tile.window)
    return _store(work).write(tile, encoding(work).encoded(fused, valid))


def fuser_notes(work: Work) -> tuple[str, ...]:
    """What the fuser of this process has to say to people, such as that its memory was short."""
    return tuple(getattr(_fuser(work), "notes", ()))


def level_tile(
    work: Work, below: Path, level: Path, index: tuple[int, ...]
) -> tuple[tuple[int, ...], Digest]:
    """Reduces one tile of a level from the level below it; its index and its file's digest."""
    source, target = (
        _stores.get(f"{work.token}/{path}", partial(Store.open, path)) for path in (below, level)
    )
    return index, write_level(source, target, target.tiling[index])


def thumbnail_tile(work: Work, index: tuple[int, ...], step: int) -> list[Reduced]:
    """One tile's part of the quicklook: each source, then the fused image, all in their scaled range.

    Of more than three bands, those that a picture shows.
    """
    core = work.job.tiling[index].core
    pieces: list[Reduced] = []
    for source in _aligned_sources(work):
        values, valid = source.read(core)
        pieces.append(reduced(np.where(valid, values, np.nan)[[*source.source.shown]], core, step))
    fused = encoding(work).decoded(_store(work).read(core))
    pieces.append(reduced(fused[[*work.job.reference.shown]], core, step))
    return pieces


def cut_window(work: Work, window: Window) -> list[NDArray[np.float32]]:
    """A window of a volume for the quicklook: each source, then the fused volume, scaled; (z, y, x).

    NaN where invalid.
    """
    cuts = []
    for source in _aligned_sources(work):
        cut = np.empty(window.shape, np.float32)
        for part in _strips(window):
            values, valid = source.read(part)
            cut[part.relative_to(window).slices] = np.where(valid, values[0], np.float32(np.nan))
        cuts.append(cut)
    fused = encoding(work).decoded(_store(work).read(window))[0]
    return [*cuts, fused.astype(np.float32)]


def _strips(window: Window) -> Iterator[Window]:
    """A window in strips along its longest axis: under a whole oblique cut lies much of a source."""
    axis = int(np.argmax(window.shape))
    for first in range(window.start[axis], window.stop[axis], STRIP):
        start, stop = list(window.start), list(window.stop)
        start[axis], stop[axis] = first, min(first + STRIP, window.stop[axis])
        yield Window(tuple(start), tuple(stop))


def compared_window(work: Work, index: int, window: Window) -> tuple[int, Offset | None]:
    """How far a source, told by its index, seems to be off from the reference in a window."""
    sources, pair = _aligned_sources(work), (work.job.scene.reference, index)
    images = []
    for i in pair:
        values, valid = sources[i].read(window)
        images.append((luminance(values) if len(values) == 3 else values[0], valid))
    coarse = coarseness([sources[i].alignment for i in pair])
    return index, offset_between(images[0], images[1], coarse)


def encoding(work: Work) -> Encoding:
    """How the job's fused image is stored."""
    job = work.job
    return Encoding.of(job.dtype, job.units, job.reference, work.scalings[job.scene.reference])


@dataclass(frozen=True, slots=True, eq=False)
class Reduced:
    """Sums and counts of valid pixels in blocks of the scene: adding them over tiles is exact."""

    first: tuple[int, int]
    """Row and column of the first block."""
    total: NDArray[np.float64]
    """(band, block row, block column): sum of the valid values."""
    many: NDArray[np.int32]
    """(block row, block column): in how many pixels."""


def reduced(values: NDArray[Any], core: Window, step: int) -> Reduced:
    """The blocks of step x step pixels, counted from the scene's corner, that ``core`` touches."""
    there = ~np.isnan(values).any(0)
    total: NDArray[Any] = np.where(there, values, 0).astype(np.float64)
    many: NDArray[Any] = there.astype(np.int32)
    for axis, (start, stop) in enumerate(zip(core.start, core.stop, strict=True), start=-2):
        blocks = np.arange(start // step, (stop - 1) // step + 1)
        edges = np.maximum(blocks * step, start) - start
        total, many = np.add.reduceat(total, edges, axis), np.add.reduceat(many, edges, axis)
    return Reduced((core.start[0] // step, core.start[1] // step), total, many)


class _Kept:
    """Things made once a process and kept while they are among the last used."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._things: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()
        self._making: dict[str, threading.Lock] = {}

    def get(self, key: str, make: Callable[[], T]) -> T:
        """The thing of this key; one thread makes it, the others wait for it."""
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._things:
                    self._things.move_to_end(key)
                    kept: T = self._things[key]
                    return kept
            made = make()
            with self._lock:
                self._things[key] = made
                while len(self._things) > self._most:
                    old, _ = self._things.popitem(last=False)
                    self._making.pop(old, None)
            return made


_stores = _Kept(STORES)
_fusers = _Kept(FUSERS)


def _aligned_sources(work: Work) -> tuple[AlignedSource, ...]:
    job = work.job
    parts = zip(job.scene.sources, job.alignments, work.scalings, strict=True)
    return tuple(AlignedSource(*part, job.resampling) for part in parts)


def _store(work: Work) -> Store:
    return _stores.get(work.token, lambda: Store.open(work.job.store))


def _fuser(work: Work) -> Fuser:
    job, compute = work.job, work.compute
    made = (
        job.fuser,
        job.strategy,
        job.weights,
        device_in_place(compute.device),
        compute.precision,
        compute.threads,
        job.strategy_parameters,
    )
    return _fusers.get("/".join(map(str, made)), lambda: made_fuser(*made))
