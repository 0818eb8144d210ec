"""A scene's files become jobs: sources opened, a grid, tiles; or one line why they can't be fused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from batchfuse.errors import SceneError
from batchfuse.fusion.methods import Method, Strategy
from batchfuse.geometry.grid import Grid
from batchfuse.geometry.planes import PLANES, Plane
from batchfuse.geometry.tiling import Tiling
from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.imagery.align import Alignment
from batchfuse.imagery.crs import is_nameless
from batchfuse.imagery.dates import far_apart
from batchfuse.imagery.discovery import FoundScene
from batchfuse.imagery.entities import unlike
from batchfuse.imagery.geotiff import open_source
from batchfuse.imagery.nifti import is_volume, open_volumes
from batchfuse.imagery.reference import reference_of
from batchfuse.imagery.scene import MaskRule, Scene, Source, refuse_turned
from batchfuse.imagery.target import SceneGrid, Target, scene_grid
from batchfuse.imagery.understood import place_of, understood
from batchfuse.imagery.volume_alignment import VolumeAlignment
from batchfuse.imagery.volume_header import header_bytes
from batchfuse.job import PIXELS, Job, Ranges
from batchfuse.recipe import Export, MaskSettings, Recipe, SourceSettings

__all__ = ["Making", "jobs_of", "volume_name", "without_volume"]

VOXELS = 2**20
"""Of a tile of a volume, at most, but for a single slice: the work of a raster's tile of the usual size."""
CUBE = 128
"""Edge of a tile where all three planes are fused: thin slabs would read far more halo than core."""
VOLUME = "_v"

AnyAlignment = Alignment | VolumeAlignment


@dataclass(frozen=True, slots=True)
class Making:
    """What all scenes of a plan share."""

    recipe: Recipe
    """What is wanted."""
    target: Target
    """The grid, as far as the recipe fixes it."""
    method: Method
    """How they are fused."""
    strategy: Strategy
    """How features are merged."""
    parameters: Mapping[str, float]
    """The strategy's."""
    weights: str
    """Name or file."""
    checksum: str | None
    """Of the weights."""


def jobs_of(making: Making, found: FoundScene) -> list[Job]:
    """The job of a scene, or one a volume where a source is 4-D and the recipe names none.

    Raises SceneError where its files can't be fused.
    """
    recipe = making.recipe
    choices = [_sources(recipe, role, files, found.masks.get(role)) for role, files in found.files.items()]
    many = max(map(len, choices))
    for sources in choices:
        if len(sources) not in (1, many):
            longest = next(one for one in choices if len(one) == many)
            raise SceneError(
                f"{sources[0].name} has {len(sources)} volumes and {longest[0].name} {many}: "
                "name one of each with `volume:`"
            )
    if many == 1:
        return [_job(making, found.name, tuple(sources[0] for sources in choices))]
    each = (tuple(one[i if len(one) > 1 else 0] for one in choices) for i in range(many))
    return [_job(making, volume_name(found.name, i), sources) for i, sources in enumerate(each)]


def volume_name(scene: str, volume: int) -> str:
    """What the scene of one volume of a 4-D file is called."""
    return f"{scene}{VOLUME}{volume:03}"


def without_volume(name: str) -> str:
    """The scene that a volume's scene was made from, of a name or a glob; of any other the name itself."""
    scene, _, number = name.rpartition(VOLUME)
    return scene if scene and re.fullmatch(r"[0-9*?\[\]!-]+", number) else name


def _job(making: Making, name: str, sources: tuple[Source, ...]) -> Job:
    recipe, strategy = making.recipe, making.strategy
    index = reference_of(sources, recipe.reference)
    reference = sources[index]
    for source in sources[1:]:
        refuse_turned(sources[0].name, sources[0].orientation, source.name, source.orientation)
    placed = scene_grid(sources, index, making.target)
    scene = Scene(name, sources, index, placed.grid)
    alignments = tuple(placed.aligned(source, reference) for source in sources)
    planes = _planes(recipe, placed.grid, reference)
    _refuse_mixed_scales(recipe, reference)
    _refuse_many_bands(source for i, source in enumerate(sources) if i != index)
    _refuse_exports(recipe.output.also, reference, bool(planes))
    if recipe.grid.mismatch == "error":
        _refuse_mismatch(placed, sources, alignments)
    parameters = making.parameters
    told = {strategy.name: dict(parameters)} if parameters else strategy.name
    size, survey_halo = recipe.tiles.size, strategy.survey_halo
    pyramid = recipe.output.pyramid
    return Job(
        scene=scene,
        store=recipe.output_folder / f"{name}.zarr",
        tiling=_tiling(placed.grid, planes, size, strategy.halo),
        survey_tiling=None if survey_halo is None else _tiling(placed.grid, planes, size, survey_halo),
        alignments=alignments,
        ranges=tuple(_ranges(recipe, source.role) for source in sources),
        resampling=recipe.grid.resampling,
        validity=recipe.validity,
        color=recipe.fusion.color,
        planes=planes,
        method=recipe.fusion.method,
        fuser=making.method.fuser,
        strategy=strategy.name,
        strategy_parameters=parameters,
        network_bytes=strategy.memory,
        weights=making.weights,
        dtype=recipe.output.dtype,
        units=recipe.output.units,
        zarr_format=recipe.output.format_number(bool(planes)),
        shard=recipe.output.shard,
        pyramid=bool(planes) if pyramid == "auto" else pyramid,
        record=_record(making, scene, alignments, told),
        place=placed.words,
        differences=_differences(placed, sources, alignments),
        warnings=tuple(_warnings(placed, sources, reference, alignments)),
        exports=recipe.output.also,
    )


def _planes(recipe: Recipe, grid: Grid | VolumeGrid, reference: Source) -> tuple[Plane, ...]:
    """The planes whose slices are fused; none of a raster."""
    wanted = recipe.fusion.plane
    if isinstance(grid, VolumeGrid):
        return tuple(Plane.of(grid, name) for name in (PLANES if wanted == "triplanar" else (wanted,)))
    if wanted != "axial":
        raise SceneError(f"{reference.name} is no volume: leave out `fusion.plane: {wanted}`")
    return ()


def _tiling(grid: Grid | VolumeGrid, planes: Sequence[Plane], size: int, halo: int) -> Tiling:
    """Squares of a raster; of a volume slabs of whole slices or parts of them, or cubes for three planes."""
    if not planes:
        return Tiling(grid.shape, size, halo)
    if len(planes) > 1:
        return Tiling(grid.shape, (min(size, CUBE),) * 3, (halo,) * 3)
    across = planes[0].axis
    within = [min(size, n) for axis, n in enumerate(grid.shape) if axis != across]
    slices = grid.shape[across]
    thick = min(slices, max(1, VOXELS // (within[0] * within[1])))
    thick = -(-slices // -(-slices // thick))  # slabs of about one thickness
    sizes = [*within[:across], thick, *within[across:]]
    halos = [halo] * 3
    halos[across] = 0
    return Tiling(grid.shape, tuple(sizes), tuple(halos))


def _refuse_mixed_scales(recipe: Recipe, reference: Source) -> None:
    """Integers in the reference's file values need one scale and offset, as CF and GDAL have one a store."""
    scales = {(band.scale, band.offset) for band in reference.bands}
    if len(scales) > 1 and np.dtype(recipe.output.dtype).kind != "f" and recipe.output.units == "reference":
        raise SceneError(
            f"the bands of {reference.name} differ in scale or offset, and a store holds one for all: "
            "use `output.dtype: float32`, or give `scale:` and `offset:` in the recipe"
        )


def _refuse_many_bands(others: Iterable[Source]) -> None:
    """Any number of bands is for the reference alone: the others take part with one luminance."""
    for source in others:
        if len(source.bands) not in (1, 3):
            raise SceneError(
                f"{source.name} has {len(source.bands)} bands and is not the reference: say which one or "
                f"which three (red, green, blue) with `bands:`, or say `reference: {source.role}`"
            )


def _refuse_exports(wanted: Iterable[Export], reference: Source, volume: bool) -> None:
    """What can't be exported is told before an hour is spent on fusing it."""
    for export in wanted:
        if refused := export.refusal(len(reference.bands), volume):
            fewer = f", or choose one or three of {reference.name} with `bands:`" if not volume else ""
            fewer = fewer if export.to == "png" else ""
            raise SceneError(f"`output.also`: {refused}{fewer}")


def _sources(recipe: Recipe, role: str, files: Sequence[Path], mask: Path | None) -> tuple[Source, ...]:
    """The source of a role; of a 4-D file one a volume."""
    wanted = recipe.inputs[role]
    if any(map(is_volume, files)):
        return _volumes(role, wanted, files)
    if wanted.volume is not None:
        raise SceneError(f"{files[0]} is no NIfTI volume: leave out `volume:` of {role}")
    source = open_source(
        role,
        files,
        bands=wanted.bands,
        scale=wanted.scale,
        offset=wanted.offset,
        nodata=wanted.nodata,
        crs=wanted.crs,
        mask=(mask, _mask_rule(wanted.mask)) if mask and wanted.mask else None,
        every_band=recipe.fusion.color == "bands",
        labels=wanted.labels,
    )
    return (source,)


def _volumes(role: str, wanted: SourceSettings, files: Sequence[Path]) -> tuple[Source, ...]:
    if len(files) > 1:
        raise SceneError(f"{files[0]} and {files[1]}: a volume is one file, give {role} one path")
    for key in ("bands", "crs", "mask"):
        if getattr(wanted, key) is not None:
            raise SceneError(
                f"{files[0]} is a NIfTI volume: leave out `{key}:` of {role}, which is of rasters"
            )
    return open_volumes(
        role,
        files[0],
        volume=wanted.volume,
        scale=wanted.scale,
        offset=wanted.offset,
        nodata=wanted.nodata,
        labels=wanted.labels,
    )


def _mask_rule(wanted: MaskSettings) -> MaskRule:
    return MaskRule(wanted.reject_bits or (), wanted.reject_values or (), wanted.accept_values or ())


def _refuse_mismatch(
    placed: SceneGrid, sources: Sequence[Source], alignments: Sequence[AnyAlignment]
) -> None:
    for source, alignment in zip(sources, alignments, strict=True):
        if placed.is_mismatch(alignment):
            told = _differences(placed, [source], [alignment])
            raise SceneError(
                f"{told[0]}: `mismatch: error` refuses it; "
                "bring it onto the grid first, or say `mismatch: align`"
            )


def _differences(
    placed: SceneGrid, sources: Iterable[Source], alignments: Iterable[AnyAlignment]
) -> tuple[str, ...]:
    pairs = zip(sources, alignments, strict=True)
    return tuple(f"{source.role}: {line}" for source, a in pairs for line in placed.differences(source, a))


def _warnings(
    placed: SceneGrid, sources: Sequence[Source], reference: Source, alignments: Iterable[AnyAlignment]
) -> Iterator[str]:
    """What a person should look at before anything is fused."""
    yield from placed.warnings
    if reference.labels:
        yield (
            f"{reference.name} is of labels and the reference: the fused image has their numbers for units, "
            "which mean nothing between two labels; name another with `reference:`"
        )
    yield from (alignment.accuracy for alignment in alignments if alignment.accuracy)
    yield from far_apart(sources)
    yield from unlike(sources)
    local = [s for s in sources if not isinstance(s.place, VolumeGrid) and is_nameless(s.place.crs)]
    if len(local) > 1:
        yield (
            f"{' and '.join(source.name for source in local)} lie in local systems that have no name, which "
            "are taken for one: if they are not, say where they lie with `crs:` in the recipe"
        )
    for source in sources:
        yield from source.warnings
    if reference.is_volume:
        yield from header_bytes(reference.files[0])[1]


def _ranges(recipe: Recipe, role: str) -> Ranges:
    wanted = recipe.inputs[role]
    return Ranges(wanted.range, wanted.percentiles)


def _record(
    making: Making, scene: Scene, alignments: Sequence[AnyAlignment], strategy: str | Mapping[str, Any]
) -> dict[str, Any]:
    """What a store remembers: the same for every run of this recipe on these files."""
    recipe, weights = making.recipe, making.weights
    resolved = recipe.resolved()
    identity = recipe.identity(volume=isinstance(scene.grid, VolumeGrid))
    # a method's own defaults, where the recipe leaves them open
    resolved["fusion"] |= {"strategy": strategy, "weights": weights and recipe.fusion.weights}
    identity["fusion"]["strategy"] = strategy
    del identity["reference"]  # the role that it came to stands beside
    return {
        "recipe": resolved,
        "identity": identity,
        "reference": scene.sources[scene.reference].role,
        "pixels": {"batchfuse": PIXELS, recipe.fusion.method: making.method.pixels},
        "grid": place_of(scene.grid),
        "sources": [
            {**source.identity(recipe.written), "understood": understood(source, alignment)}
            for source, alignment in zip(scene.sources, alignments, strict=True)
        ],
        "weights": {"name": Path(weights).name, "sha256": making.checksum} if weights else None,
    }
