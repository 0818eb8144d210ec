"""A store against its scene fused once more: whether tiles left seams, or anything changed a pixel."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchfuse.changes import changes
from batchfuse.encoding import Encoding
from batchfuse.errors import RecipeError, StoreError
from batchfuse.fusion.device import resolved_device
from batchfuse.geometry.tiling import Tiling
from batchfuse.geometry.window import Window
from batchfuse.imagery.discovery import NAMELESS, Discovery
from batchfuse.job import Job
from batchfuse.machine import cores
from batchfuse.plan import found_scenes, make_plan
from batchfuse.recipe import Recipe
from batchfuse.report.report import KIND
from batchfuse.scene_jobs import without_volume
from batchfuse.scene_run import stored_survey
from batchfuse.source_contents import compared_contents
from batchfuse.storage.beside import REPORT
from batchfuse.storage.store import Store
from batchfuse.stored_recipe import stored_recipe
from batchfuse.system.notes import found_note
from batchfuse.task import Compute, Work, encoding, fuse_window

__all__ = ["LIMIT", "Exactness", "compared", "measure", "merged", "places"]

LIMIT = 1e-6
"""Of the range 0..1, beyond what the stored type rounds."""
EDGE = {2: 256, 3: 64}
"""Pixels of a window's edge, of a raster and of a volume."""
FURTHER = 20
"""Pixels read beyond the halo."""
OF_EACH = 4
"""Windows on corners of tiles, on edges along each axis, and anywhere."""


@dataclass(frozen=True, slots=True)
class Exactness:
    """How far a store is from its scene fused untiled."""

    windows: int
    """Windows compared."""
    pixels: int
    """Their valid values."""
    largest: float
    """The largest difference, in units of the range 0..1."""
    rounding: float
    """How far the stored type may round there: half a step, in the same units."""
    excess: float
    """The largest difference beyond what the type rounds."""
    masks: int
    """Pixels that are valid in one of the two only."""

    @property
    def holds(self) -> bool:
        """Whether the store is the untiled image."""
        return self.excess <= LIMIT and not self.masks


def merged(found: Sequence[Exactness]) -> Exactness:
    """Several windows together."""
    most = max(found, key=lambda one: one.largest)
    return Exactness(
        windows=sum(one.windows for one in found),
        pixels=sum(one.pixels for one in found),
        largest=most.largest,
        rounding=most.rounding,
        excess=max(one.excess for one in found),
        masks=sum(one.masks for one in found),
    )


def measure(path: Path, folder: Path | None = None) -> Iterator[Exactness]:
    """Compare the store with its scene fused again, window by window.

    Args:
        path: a complete store.
        folder: what its recipe's relative paths start from; the report beside the store says it otherwise.

    Raises:
        StoreError: the recipe's folder isn't known, or the sources, the weights or the method have changed.
    """
    store = Store.open(path)
    if "level" in store.record:
        raise StoreError(f"{path} is a reduced level: --exact compares the fused image itself")
    job = _job(store, folder or _recipe_folder(path))
    scalings, surveys = stored_survey(store)
    compute = Compute(str(resolved_device("auto")), store.record["precision"], cores())
    work = Work(uuid.uuid4().hex, job, scalings, surveys, compute)
    further = tuple(halo and halo + FURTHER for halo in job.tiling.halos)
    for core in places(store.tiling):
        fused, valid = fuse_window(work, core, core.grown(further, store.grid.shape))
        yield compared(encoding(work), fused, valid, store.read(core))


def compared(
    made: Encoding, fused: NDArray[np.float32], valid: NDArray[np.bool_], stored: NDArray[Any]
) -> Exactness:
    """Fused values (band, y, x) in the scaled range, valid at (y, x), against stored ones.

    A stored value that is the one which these would be stored as is right, whatever was cut or rounded.
    """
    decoded = made.decoded(stored)
    both = valid & ~np.isnan(decoded)
    apart = both & (made.encoded(fused, valid) != stored)
    difference = np.where(apart, np.abs(fused - np.where(both, decoded, 0)), 0)
    step = _steps(np.where(apart, stored, stored.dtype.type(1)))
    gain = np.abs(np.array(made.gain))[:, None, None]
    half = np.divide(step / 2, gain, out=np.zeros(stored.shape), where=(gain > 0) & apart)
    most = np.unravel_index(np.argmax(difference), difference.shape)
    return Exactness(
        windows=1,
        pixels=int(both.sum()),
        largest=float(difference[most]),
        rounding=float(half[most]),
        excess=float(np.maximum(difference - half, 0).max()),
        masks=int((valid != ~np.isnan(decoded)).any(0).sum()),
    )


def _steps(stored: NDArray[Any]) -> NDArray[Any]:
    """How far the next value of the type is."""
    if stored.dtype.kind != "f":
        return np.ones(stored.shape)
    with np.errstate(over="ignore"):  # of the largest value of all there is no next
        return np.asarray(np.spacing(np.abs(stored)))


def places(tiling: Tiling) -> list[Window]:
    """Windows centred where tiles meet, and some anywhere: the same ones each time."""
    chance = random.Random(0)
    shape = tiling.shape
    seams = [range(size, n, size) for size, n in zip(tiling.sizes, shape, strict=True)]
    centres = []
    for _ in range(OF_EACH):
        anywhere = tuple(chance.randrange(n) for n in shape)
        on = tuple(chance.choice(cuts) if cuts else at for cuts, at in zip(seams, anywhere, strict=True))
        centres += [anywhere, on]
        for axis in range(len(shape)):
            centres.append((*anywhere[:axis], on[axis], *anywhere[axis + 1 :]))
    found = [_around(centre, shape) for centre in centres]
    return sorted(set(found), key=lambda window: window.start)


def _around(centre: tuple[int, ...], shape: tuple[int, ...]) -> Window:
    edge = EDGE[len(shape)]
    start = tuple(
        max(0, min(at - edge // 2, n - edge)) for at, n in zip(centre, shape, strict=True)
    )  # moved inside at the image's edge
    stop = tuple(min(n, first + edge) for first, n in zip(start, shape, strict=True))
    return Window(start, stop)


def _recipe_folder(path: Path) -> Path:
    report = path.resolve().parent / REPORT
    try:
        found = found_note(report, KIND)
    except OSError:
        found = None
    if found is None:
        raise StoreError(
            f"{path}: {report} does not say where its recipe lies: name the recipe's folder with --folder, "
            "or the one where `fuse` was called"
        )
    return Path(found.values["recipe_folder"])


def _job(store: Store, folder: Path) -> Job:
    """The scene of a store, planned again from the store's own recipe; refused where anything has changed."""
    name = store.path.resolve().name.removesuffix(".zarr")
    recipe = stored_recipe(store, folder)
    try:
        plan = make_plan(recipe, found=_found(recipe, name))
    except RecipeError as error:
        reason = str(error).splitlines()[0]
        raise StoreError(
            f"{store.path}: its scene can't be planned again from {folder} ({reason}): "
            "--folder names the folder of its recipe"
        ) from None
    if not plan.jobs:
        raise StoreError(f"{store.path}: {plan.failures[0].reason}")
    # of a 4-D file, the scene of one volume
    chosen = next((job for job in plan.jobs if job.scene.name == name), plan.jobs[0])
    job = replace(chosen, store=store.path)
    changed = changes(store.record, {**job.record, "precision": store.record.get("precision")})
    if not changed:
        sources = job.scene.sources
        changed += compared_contents(store.path, store.record, job.record, sources, False, True).changed
    if changed:
        raise StoreError(f"{store.path} was made otherwise than it would be now: {'; '.join(changed)}")
    return job


def _found(recipe: Recipe, name: str) -> Discovery:
    """The one scene alone: of a campaign, too, no other file is opened."""
    found = found_scenes(recipe)
    names = (name, without_volume(name))
    scenes = [scene for scene in found.scenes if scene.name in names]
    if not scenes and [scene.name for scene in found.scenes] == [NAMELESS]:
        scenes = list(found.scenes)  # no wildcard names it, and `fuse` calls its store as it was told
    if not scenes:
        raise RecipeError(f"{name} is none of its {len(found.scenes)} scenes")
    return Discovery(tuple(scenes), ())
