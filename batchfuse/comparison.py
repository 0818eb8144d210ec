"""A fused image beside its sources, on one grid and as grey values 0..255: what figures are measured on."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from batchfuse.changes import changes
from batchfuse.errors import SceneError, StoreError
from batchfuse.evaluation.eight_bit import rounded
from batchfuse.fusion.color import grey
from batchfuse.geometry.grid import Grid
from batchfuse.geometry.window import Window
from batchfuse.imagery.pixels import read_pixels
from batchfuse.imagery.scene import Source
from batchfuse.job import Job
from batchfuse.scene_run import stored_survey
from batchfuse.source_contents import compared_contents
from batchfuse.storage.store import Store
from batchfuse.task import Compute, Work, read_scene

__all__ = ["Beside", "Comparison", "FusedFile", "FusedStore", "compared_store", "refuse_volumes"]

STRIP = 2**20  # pixels read at a time, with all their copies


@dataclass(frozen=True, slots=True)
class FusedStore:
    """The fused image in a store."""

    path: Path
    """The store."""
    low: float
    """The physical value that counts as black, 0."""
    high: float
    """The physical value that counts as white, 255; not above ``low`` where the reference is constant."""

    @classmethod
    def of(cls, store: Store) -> FusedStore:
        """By the range of the reference in the store's record, or 0..1 where that are its units."""
        record = store.record
        if record["recipe"]["output"]["units"] == "unit":
            return cls(store.path, 0.0, 1.0)
        (reference,) = (source for source in record["sources"] if source["role"] == record["reference"])
        return cls(store.path, reference["scaling"]["low"], reference["scaling"]["high"])

    def read(self, window: Window) -> NDArray[np.float64]:
        """Grey values (band, y, x), 0..255 and beyond, NaN where invalid."""
        store = Store.open(self.path)
        stored = store.read(window)
        missing = np.isnan(stored) if np.isnan(store.fill) else stored == store.fill
        scale, offset = store.layout.packing
        physical = stored * np.float64(scale or 1.0) + (offset or 0.0)
        return np.where(missing, np.nan, _greys(physical, self.low, self.high))


@dataclass(frozen=True, slots=True)
class FusedFile:
    """The fused image in a file that GDAL reads."""

    source: Source
    """The file."""
    low: float
    """See ``FusedStore``."""
    high: float
    """See ``FusedStore``."""

    def read(self, window: Window) -> NDArray[np.float64]:
        """Grey values (band, y, x), 0..255 and beyond, NaN where invalid."""
        pixels, valid = read_pixels(self.source, window)
        bands = [
            values * np.float64(band.scale) + band.offset
            for values, band in zip(pixels, self.source.bands, strict=True)
        ]
        return np.where(valid, _greys(np.stack(bands), self.low, self.high), np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """A window of a scene: its sources and its fused image."""

    sources: NDArray[np.uint8]
    """(source, y, x): scaled as for fusion, cut to 0..1, times 255, rounded."""
    fused: NDArray[np.float64]
    """(y, x), neither rounded nor cut; NaN where invalid."""
    valid: NDArray[np.bool_]
    """(y, x), where every one of them is."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A scene whose fused image can be measured."""

    work: Work
    """The sources, aligned and scaled as for fusion."""
    fused: FusedStore | FusedFile
    """The fused image."""
    notes: tuple[str, ...] = ()
    """What a person should know of how values were taken."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        grid = self.work.job.scene.grid
        assert isinstance(grid, Grid)
        return grid.shape

    @property
    def stacks(self) -> int:
        """How many images are measured: one, or one a band where each was fused on its own."""
        return self.work.job.stacks

    def read(self, window: Window, stack: int) -> Beside:
        """A window of one stack, read in strips: colours as their luminance."""
        sources = np.empty((len(self.work.scalings), *window.shape), np.uint8)
        fused = np.empty(window.shape)
        valid = np.empty(window.shape, bool)
        for strip in _strips(window):
            rows = strip.relative_to(window).slices
            pixels = read_scene(self.work, strip)
            sources[(slice(None), *rows)] = rounded(next(islice(pixels.stacks(), stack, None)))
            bands = self.fused.read(strip)
            fused[rows] = bands[stack] if self.stacks > 1 else grey(bands)
            valid[rows] = pixels.valid.all(0) & ~np.isnan(bands).any(0)
        return Beside(sources, fused, valid)


def refuse_volumes(job: Job) -> None:
    """Raises SceneError where the scene is of volumes: the figures are of images."""
    if job.is_volume:
        raise SceneError(
            f"{job.reference.name} is a volume: figures of volumes are not built yet; "
            "what works now: rasters, such as slices saved as images"
        )


def compared_store(job: Job) -> Comparison:
    """The store of a planned scene beside its sources.

    Raises:
        StoreError: it is missing, not complete, damaged, or was made otherwise than the job says.
    """
    refuse_volumes(job)
    if not job.store.exists():
        raise StoreError(f"{job.store} is not there: fuse it first, with `batchfuse run`")
    store = Store.open(job.store)
    if not store.complete:
        raise StoreError(f"{job.store} is not complete: run its recipe again, then evaluate it")
    changed = changes(store.record, {**job.record, "precision": store.record.get("precision")})
    if not changed:
        sources = job.scene.sources
        changed += compared_contents(job.store, store.record, job.record, sources, every=False).changed
    if changed:
        raise StoreError(
            f"{job.store} was made otherwise than it would be now ({'; '.join(changed)}): run it again with "
            "--overwrite, or evaluate it with the recipe and the files that it was made of"
        )
    scalings, _ = stored_survey(store)
    work = Work(uuid.uuid4().hex, job, scalings, (), Compute())
    return Comparison(work, FusedStore.of(store))


def _greys(physical: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Grey values of physical ones; of a constant reference, which has no range, all are 0."""
    if high <= low:
        return np.zeros_like(physical)
    return (physical - low) * (255 / (high - low))


def _strips(window: Window) -> Iterator[Window]:
    """The window from its top, a few rows at a time."""
    (top, left), (bottom, right) = window.start, window.stop
    step = max(1, STRIP // (right - left))
    for start in range(top, bottom, step):
        yield Window((start, left), (min(bottom, start + step), right))
