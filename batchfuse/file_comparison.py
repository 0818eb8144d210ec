"""Files without a recipe, compared: sources as `fuse` brings and scales them, the fused image as it is."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchfuse.comparison import Comparison, FusedFile, compared_store, refuse_volumes
from batchfuse.errors import GridError, RecipeError, SceneError, SourceError, StoreError
from batchfuse.evaluation.windows import measured_windows
from batchfuse.geometry.grid import ControlPoints, Grid
from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.imagery.align import align
from batchfuse.imagery.aligned import measured_scaling
from batchfuse.imagery.discovery import Discovery, FoundScene
from batchfuse.imagery.geotiff import open_source
from batchfuse.imagery.nifti import is_volume
from batchfuse.imagery.scaling import Scaling, byte_range, is_byte
from batchfuse.imagery.scene import Source
from batchfuse.job import Job
from batchfuse.one_scene import roles_of
from batchfuse.plan import make_plan
from batchfuse.recipe import Recipe
from batchfuse.storage.store import Store, is_store
from batchfuse.stored_recipe import stored_recipe
from batchfuse.task import Compute, Work

__all__ = ["Files", "compared_files", "reference_among"]

ENDS = (1, 99)  # percentiles between which an image spreads
SPREAD = 20.0  # times the sources' spread: a fused image in their units has nothing like it
FLAT = 12.0  # grey values: sources that spread less say nothing of units
MOST_CUT = 0.5  # of its values: more are beyond black and white only in other units
SOME_CUT = 0.02  # of its values: more are worth a word; `fuse` leaves less than 0.01 there


@dataclass(frozen=True, slots=True)
class Files:
    """One scene told by its files."""

    name: str
    """What the table calls it."""
    sources: tuple[Path, ...]
    """Two or more images."""
    fused: Path
    """The fused image: any raster file, or a store."""
    reference: str | None = None
    """The source whose units the fused image has, by number from 1 or role. Default: as `fuse` chooses."""
    fused_range: tuple[float, float] | None = None
    """The values of the fused image that count as black and white. Default: by its type, see below."""


def compared_files(files: Files) -> Comparison:
    """A fused file beside its sources.

    8-bit files are taken as they are. Other sources are scaled as `fuse` scales them; another fused file by
    the range of its reference, in whose units `fuse` writes it.

    Raises:
        SceneError: a file can't be read, the fused image is on no grid of its sources, or its units can't be
            told.
    """
    if is_store(files.fused):
        return _compared_with_store(files)
    if is_volume(files.fused):
        raise SceneError(f"{files.fused} is a volume: figures of volumes are not built yet; rasters are")
    fused = _opened(files.fused)
    job = _planned(files, fused)
    parts = zip(job.scene.sources, job.alignments, strict=True)
    scalings = tuple(measured_scaling(*part, None, None, starmap) for part in parts)
    reference = scalings[job.scene.reference]
    low, high = files.fused_range or (
        byte_range(fused) if is_byte(fused) else (reference.low, reference.high)
    )
    work = Work(uuid.uuid4().hex, job, scalings, (), Compute())
    compared = Comparison(work, FusedFile(fused, low, high))
    return replace(compared, notes=(*_notes(compared), *_checked_units(compared, files)))


def reference_among(wanted: str, roles: Sequence[str]) -> str:
    """The role that ``wanted`` means: a number from 1, or the role itself; RecipeError where it is none."""
    if wanted in roles:
        return wanted
    if wanted.isdecimal() and 1 <= int(wanted) <= len(roles):
        return roles[int(wanted) - 1]
    raise RecipeError(
        f"--reference {wanted}: give a source's number from 1 to {len(roles)}, or one of {', '.join(roles)}"
    )


def _opened(path: Path) -> Source:
    fused = open_source("fused", (path,), every_band=True)
    if len(fused.bands) not in (1, 3):
        raise SourceError(
            f"{path} has {len(fused.bands)} bands: a fused image has one, or red, green and blue; extract "
            "them with gdal_translate -b, or evaluate the recipe that made it"
        )
    return fused


def _planned(files: Files, fused: Source) -> Job:
    """The scene on the grid of the fused image, which has to be that of one of its sources."""
    roles = roles_of(files.sources)
    wanted = [None, *roles] if files.reference is None else [reference_among(files.reference, roles)]
    tried: list[Grid] = []
    for reference in wanted:
        plan = make_plan(_recipe(files, roles, reference), found=_found(files, roles))
        if not plan.jobs:
            if not tried:
                raise SceneError(plan.failures[0].reason)
            continue
        job = plan.jobs[0]
        refuse_volumes(job)
        grid = job.scene.grid
        assert isinstance(grid, Grid)
        if _is_on(grid, fused):
            return job
        tried.append(grid)
    sizes = " or ".join(dict.fromkeys(_size(grid.shape) for grid in tried))
    same = any(grid.shape == fused.place.shape for grid in tried)
    raise GridError(
        f"{files.fused} is {_size(fused.place.shape)} pixels{' and lies elsewhere' if same else ''}, its "
        f"sources give {sizes}: a fused image is measured on the grid of one of its sources, so fuse them, "
        "or bring it there"
    )


def _recipe(files: Files, roles: Sequence[str], reference: str | None) -> Recipe:
    paths = (str(path).replace("{", "{{").replace("}", "}}") for path in files.sources)
    return Recipe(inputs=dict(zip(roles, paths, strict=True)), reference=reference)  # type: ignore[arg-type]


def _found(files: Files, roles: Sequence[str]) -> Discovery:
    paths = {role: (path,) for role, path in zip(roles, files.sources, strict=True)}
    return Discovery((FoundScene(files.name, paths),), ())


def _is_on(grid: Grid, fused: Source) -> bool:
    """Whether the fused image has this grid; where one of them has no place, whether it has this size."""
    place = fused.place
    if place.shape != grid.shape:
        return False
    if _is_nowhere(grid) or _is_nowhere(place):
        return True
    if place.crs is None or grid.crs is None:  # a world file beside a picture tells no CRS
        place = replace(place, crs=grid.crs)
    try:
        return align(grid, place, ("the sources", fused.name)).identical
    except GridError:
        return False


def _is_nowhere(place: Grid | ControlPoints | VolumeGrid) -> bool:
    return isinstance(place, Grid) and place.crs is None and place.affine.is_identity


def _compared_with_store(files: Files) -> Comparison:
    """A store that `fuse` or a recipe made, beside its sources where they lie now."""
    if files.fused_range or files.reference:
        option = "--fused-range" if files.fused_range else "--reference"
        raise SceneError(f"{option}: {files.fused} is a store, which says itself what its values mean")
    store = Store.open(files.fused)
    recipe = stored_recipe(store, Path())
    several = any(len(source.path) > 1 or source.mask for source in recipe.inputs.values())
    if several or len(recipe.inputs) != len(files.sources):
        raise StoreError(
            f"{files.fused} was fused from {', '.join(recipe.inputs)}, not from {len(files.sources)} single "
            "files without masks: evaluate its recipe instead"
        )
    plan = make_plan(recipe, found=_found(files, _roles_in(store, files, list(recipe.inputs))))
    if not plan.jobs:
        raise SceneError(plan.failures[0].reason)
    return compared_store(replace(plan.jobs[0], store=files.fused))


def _roles_in(store: Store, files: Files, roles: Sequence[str]) -> list[str]:
    """The role of each file: by its name in the store's record, else as they come."""
    named = {source["files"][0]["name"]: source["role"] for source in store.record["sources"]}
    found = [named.get(path.name) for path in files.sources]
    known = [role for role in found if role is not None]
    return known if sorted(known) == sorted(roles) else list(roles)


def _checked_units(compared: Comparison, files: Files) -> Iterator[str]:
    """Refuses a fused image that can't be in the units it is taken in; a word where much of it is cut."""
    assert isinstance(compared.fused, FusedFile)
    reference, fused = compared.work.job.reference, compared.fused
    if files.fused_range is None and is_byte(fused.source) and is_byte(reference):
        return  # one is as good as the other
    windows = measured_windows(compared.shape)
    middle = len(windows) // 2
    every = (compared.read(window, 0) for window in windows[middle:] + windows[:middle])
    beside = next((one for one in every if one.valid.any()), None)
    if beside is None:
        return
    values = beside.fused[beside.valid]
    own, sources = _spread(values), [_spread(source[beside.valid]) for source in beside.sources]
    spread = max(*sources, FLAT)
    cut = float(np.mean((values < -0.5) | (values >= 255.5)))
    other = own > 0 and not spread / SPREAD <= own <= spread * SPREAD
    if files.fused_range is None and (other or cut > MOST_CUT):
        low, high = (
            fused.low + grey * (fused.high - fused.low) / 255 for grey in (values.min(), values.max())
        )
        raise SceneError(
            f"{files.fused} reaches from {low:g} to {high:g}, but {fused.low:g} to {fused.high:g} count as "
            f"black to white{'' if is_byte(fused.source) else f', as in {reference.name}'}: say which do in "
            "the fused image with --fused-range LOW HIGH"
        )
    if cut > SOME_CUT:
        yield (
            f"{fused.source.name}: {cut:.0%} of its values lie beyond black and white and are cut: if others "
            "count as those, say which with --fused-range LOW HIGH"
        )
    if own == 0:
        yield f"{fused.source.name} is constant, but for a few pixels"


def _spread(values: NDArray[Any]) -> float:
    low, high = np.percentile(values, ENDS)
    return float(high - low)


def _notes(compared: Comparison) -> Iterator[str]:
    """How values that are no 8 bits became grey, and what is odd in the sources."""
    work = compared.work
    for source, scaling in zip(work.job.scene.sources, work.scalings, strict=True):
        if not is_byte(source):
            yield f"{source.name}: {_told(scaling)} count as black to white, as `fuse` takes them"
        yield from scaling.warnings
    assert isinstance(compared.fused, FusedFile)
    fused = compared.fused
    if not is_byte(fused.source):
        yield f"{fused.source.name}: {fused.low:g} to {fused.high:g} count as black to white"
    if _is_nowhere(fused.source.place) and not _is_nowhere(work.job.scene.grid):
        yield f"{fused.source.name} has no place: it is taken to lie where {work.job.reference.name} lies"


def _told(scaling: Scaling) -> str:
    return f"{scaling.low:g} to {scaling.high:g}"


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
