"""What will be done: each scene's sources, grid, tiles and store, before a pixel is read."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from batchfuse.errors import RecipeError, SceneError
from batchfuse.fusion.methods import Method, Strategy, method
from batchfuse.fusion.parameters import worded
from batchfuse.fusion.shipped import weights_checksum
from batchfuse.geometry.tiling import Tiling
from batchfuse.geometry.window import Window
from batchfuse.imagery.align import Alignment
from batchfuse.imagery.dates import far_apart
from batchfuse.imagery.discovery import Discovery, FoundScene, Unmatched, discover
from batchfuse.imagery.geotiff import checked_crs, open_source, plane_crs
from batchfuse.imagery.reference import reference_of
from batchfuse.imagery.scene import MaskRule, Scene, Source
from batchfuse.imagery.target import SceneGrid, Target, scene_grid
from batchfuse.recipe import Export, MaskSettings, Recipe

__all__ = ["Failure", "Job", "Plan", "Ranges", "found_scenes", "make_plan"]

# measured with benchmarks/memory.py, rounded up
PROCESS_BYTES = 600_000_000  # Python with its libraries, and GDAL's cache of blocks
NETWORK_BYTES = 250_000_000  # the features of one window that the network computes at a time
PIXEL_BYTES = 60  # a band and pixel of a tile, with every copy on its way
SOURCE_PIXELS = 16_000_000  # of a source finer than the grid, at most so many are read at once
SOURCE_BYTES = 14  # a band and pixel of those


@dataclass(frozen=True, slots=True)
class Ranges:
    """How the recipe wants a source scaled; both None: by the type's own rule."""

    range: tuple[float, float] | None = None
    """Physical values that map to 0 and 1."""
    percentiles: tuple[float, float] | None = None
    """Percentiles that do."""


@dataclass(frozen=True, slots=True)
class Job:
    """One scene to fuse: all that a worker has to know, and nothing heavy."""

    scene: Scene
    """Sources, reference and grid."""
    store: Path
    """Where the fused image goes."""
    tiling: Tiling
    """Cores of the chunks, with the strategy's halo."""
    survey_tiling: Tiling | None
    """The same cores with the survey's halo, where the strategy asks for a survey."""
    alignments: tuple[Alignment, ...]
    """Where the pixels of the grid lie in each source."""
    ranges: tuple[Ranges, ...]
    """One a source."""
    resampling: str
    """How the other sources come onto the grid."""
    validity: str
    """any or all."""
    color: str
    """luma or bands."""
    method: str
    """Name of the fusion method."""
    fuser: str
    """Where its class is, as module:Class: what a process elsewhere needs of the registry."""
    strategy: str
    """Name of its strategy."""
    strategy_parameters: Mapping[str, float]
    """All that the strategy has, defaults filled in."""
    weights: str
    """Name or file of the weights; empty where the method has none."""
    dtype: str
    """Type of the fused image."""
    units: str
    """reference or unit."""
    zarr_format: Literal[2, 3]
    """2 or 3."""
    shard: int | None
    """Of format 3: the edge of a chunk inside a shard of a tile."""
    pyramid: bool
    """Whether reduced levels are made."""
    record: Mapping[str, Any]
    """What the store will say of how it was made (recipe, sources, weights)."""
    place: str
    """What grid the fused image has, for people."""
    differences: tuple[str, ...]
    """How the sources' grids differ from the reference grid, for people."""
    warnings: tuple[str, ...]
    """What a person should look at."""
    exports: tuple[Export, ...] = ()
    """Files that are made from the store when it is complete."""

    @property
    def reference(self) -> Source:
        """The source that gives grid, units and colour."""
        return self.scene.sources[self.scene.reference]

    @property
    def stacks(self) -> int:
        """How often each tile is fused: once, or once for each band of the reference."""
        return len(self.reference.bands) if self.color == "bands" else 1

    @property
    def fusing(self) -> str:
        """Method, strategy and parameters, for people."""
        return f"{self.method}, strategy {worded(self.strategy, self.strategy_parameters)}"

    @property
    def pixels(self) -> int:
        """Pixels of the fused image, of one band."""
        return self.tiling.shape[0] * self.tiling.shape[1]

    @property
    def bytes_out(self) -> int:
        """Bytes of the fused image before compression."""
        return self.pixels * len(self.reference.bands) * np.dtype(self.dtype).itemsize

    def absolute(self) -> Job:
        """The same job for workers that were started in other folders."""
        sources = tuple(source.absolute() for source in self.scene.sources)
        weights = str(Path(self.weights).absolute()) if Path(self.weights).is_file() else self.weights
        return replace(
            self,
            scene=replace(self.scene, sources=sources),
            store=self.store.absolute(),
            weights=weights,
        )

    def memory(self, threads: int) -> int:
        """Bytes that a worker needs, roughly, which fuses so many tiles at once."""
        edges = zip(self.tiling.sizes, self.tiling.halos, self.tiling.shape, strict=True)
        rows, columns = (min(size + 2 * halo, n) for size, halo, n in edges)
        task = NETWORK_BYTES
        for source, alignment in zip(self.scene.sources, self.alignments, strict=True):
            finer = max(1.0, alignment.footprint[0]) * max(1.0, alignment.footprint[1])
            read = min(rows * columns * finer, SOURCE_PIXELS)
            task += int(len(source.bands) * (rows * columns * PIXEL_BYTES + read * SOURCE_BYTES))
        return PROCESS_BYTES + min(threads, len(self.tiling)) * task


@dataclass(frozen=True, slots=True)
class Failure:
    """A scene that can't be fused, known before anything is."""

    scene: str
    """Its name."""
    reason: str
    """One line."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a run will do."""

    recipe: Recipe
    """What was asked for."""
    jobs: tuple[Job, ...]
    """The scenes that can be fused."""
    failures: tuple[Failure, ...]
    """The scenes that can't."""
    unmatched: tuple[Unmatched, ...]
    """Files that belong to no scene, each with the reason."""
    campaign: tuple[Job, ...] = ()
    """Every scene, those left out by ``--only``, too, where `scaling: campaign` asks for one range."""

    @property
    def tiles(self) -> int:
        """Tiles of all scenes."""
        return sum(len(job.tiling) for job in self.jobs)

    def absolute(self) -> Plan:
        """The same plan for workers that were started in other folders."""
        return replace(
            self,
            jobs=tuple(job.absolute() for job in self.jobs),
            campaign=tuple(job.absolute() for job in self.campaign),
        )

    def memory(self, threads: int) -> int:
        """Bytes that a worker with so many threads needs for the largest of the scenes, roughly."""
        return max((job.memory(threads) for job in self.jobs), default=0)

    def to_dict(self, threads: int) -> dict[str, Any]:
        """For ``plan --json``, with the memory of a worker that fuses so many tiles at once."""
        return {
            "output": str(self.recipe.output_folder),
            "scenes": [_described(job) for job in self.jobs],
            "failures": [{"scene": f.scene, "reason": f.reason} for f in self.failures],
            "unmatched": [{"path": str(u.path), "role": u.role, "reason": u.reason} for u in self.unmatched],
            "tiles": self.tiles,
            "bytes_out": sum(job.bytes_out for job in self.jobs),
            "memory_of_a_worker": self.memory(threads),
        }


def make_plan(recipe: Recipe, only: str | None = None, found: Discovery | None = None) -> Plan:
    """The plan of a recipe: finds the files, opens their headers, lays out the tiles.

    Args:
        recipe: what is wanted.
        only: a glob of scene names; the others are left out.
        found: the scenes with their files, where they are known without a look at the recipe's paths.

    Raises:
        RecipeError: no scene, ambiguous files, an unknown method, strategy or weights.
    """
    chosen = method(recipe.fusion.method)
    strategy, parameters = chosen.chosen(_wanted_strategy(recipe, chosen))
    weights = _weights(recipe, chosen.default_weights)
    checksum = weights_checksum(weights) if weights else None
    for role, wanted in recipe.inputs.items():
        if wanted.crs is not None:
            checked_crs(wanted.crs, f"inputs.{role}.crs")
    target = _target(recipe)
    found = found or found_scenes(recipe)
    scenes = [scene for scene in found.scenes if only is None or fnmatch.fnmatchcase(scene.name, only)]
    if only is not None and not scenes:
        first = ", ".join(scene.name for scene in found.scenes[:5]) + (", …" if len(found.scenes) > 5 else "")
        raise RecipeError(f"--only {only} matches none of the {len(found.scenes)} scenes ({first})")
    jobs: list[Job] = []
    failures = _incomplete(recipe, found, only)
    names = {scene.name for scene in scenes}
    for scene in found.scenes if recipe.scaling == "campaign" else scenes:
        try:
            jobs.append(_job(recipe, scene, target, chosen.fuser, strategy, parameters, weights, checksum))
        except SceneError as error:
            if scene.name in names:
                failures.append(Failure(scene.name, str(error)))
    campaign = tuple(jobs) if recipe.scaling == "campaign" else ()
    jobs = [job for job in jobs if job.scene.name in names]
    _refuse_exports_over_sources(jobs)
    told = {failure.scene for failure in failures}
    left = tuple(file for file in found.unmatched if file.scene not in told)
    return Plan(recipe, tuple(jobs), tuple(failures), left, campaign)


def _refuse_exports_over_sources(jobs: Sequence[Job]) -> None:
    """An export is named after its scene, as a source beside the stores may be."""
    sources = {
        file.path.resolve() for job in jobs if job.exports for s in job.scene.sources for file in s.files
    }
    for job in jobs:
        for wanted in job.exports:
            path = wanted.beside(job.store)
            if path.resolve() in sources:
                raise RecipeError(
                    f"`output.also` would write over the source {path}: give another `output.path`"
                )


def _incomplete(recipe: Recipe, found: Discovery, only: str | None) -> list[Failure]:
    """Scenes that a manifest promises and whose files are not there; wildcards promise nothing."""
    if recipe.manifest is None:
        return []
    missing = {file.scene: file.reason for file in reversed(found.unmatched) if file.scene is not None}
    return [
        Failure(scene, reason)
        for scene, reason in missing.items()
        if only is None or fnmatch.fnmatchcase(scene, only)
    ]


def found_scenes(recipe: Recipe) -> Discovery:
    """The scenes of a recipe with their files; RecipeError where there is none, or they are ambiguous."""
    return discover(recipe.folder, recipe.patterns, recipe.manifest, left_out=recipe.output_folder)


def _wanted_strategy(recipe: Recipe, chosen: Method) -> str | Mapping[str, Any]:
    if "strategy" in recipe.fusion.model_fields_set:
        return recipe.fusion.strategy
    return next(iter(chosen.strategies))


def _weights(recipe: Recipe, default: str) -> str:
    if not default or "weights" not in recipe.fusion.model_fields_set:
        return default
    beside = recipe.located(recipe.fusion.weights)
    return str(beside) if beside.is_file() else recipe.fusion.weights


def _target(recipe: Recipe) -> Target:
    wanted = recipe.grid
    crs = None if wanted.crs is None else plane_crs(wanted.crs, "grid.crs")
    return Target(wanted.extent, crs, wanted.resolution, wanted.bounds)


def _job(
    recipe: Recipe,
    found: FoundScene,
    target: Target,
    fuser: str,
    strategy: Strategy,
    parameters: Mapping[str, float],
    weights: str,
    checksum: str | None,
) -> Job:
    sources = tuple(
        _source(recipe, role, files, found.masks.get(role)) for role, files in found.files.items()
    )
    index = reference_of(sources, recipe.reference)
    placed = scene_grid(sources, index, target)
    grid = placed.grid
    scene = Scene(found.name, sources, index, grid)
    alignments = tuple(placed.aligned(source, sources[index]) for source in sources)
    _refuse_mixed_scales(recipe, sources[index])
    _refuse_many_bands(source for i, source in enumerate(sources) if i != index)
    _refuse_exports(recipe.output.also, sources[index])
    if recipe.grid.mismatch == "error":
        _refuse_mismatch(placed, sources, alignments)
    size = recipe.tiles.size
    told = {strategy.name: dict(parameters)} if parameters else strategy.name
    return Job(
        scene=scene,
        store=recipe.output_folder / f"{found.name}.zarr",
        tiling=Tiling(grid.shape, size, strategy.halo),
        survey_tiling=None
        if strategy.survey_halo is None
        else Tiling(grid.shape, size, strategy.survey_halo),
        alignments=alignments,
        ranges=tuple(_ranges(recipe, source.role) for source in sources),
        resampling=recipe.grid.resampling,
        validity=recipe.validity,
        color=recipe.fusion.color,
        method=recipe.fusion.method,
        fuser=fuser,
        strategy=strategy.name,
        strategy_parameters=parameters,
        weights=weights,
        dtype=recipe.output.dtype,
        units=recipe.output.units,
        zarr_format=recipe.output.format_number,
        shard=recipe.output.shard,
        pyramid=recipe.output.pyramid is True,  # auto: not of rasters
        record=_record(recipe, scene, told, weights, checksum),
        place=placed.words,
        differences=_differences(placed, sources, alignments),
        warnings=(*placed.warnings, *(a.accuracy for a in alignments if a.accuracy), *far_apart(sources)),
        exports=recipe.output.also,
    )


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


def _refuse_exports(wanted: Iterable[Export], reference: Source) -> None:
    """What can't be exported is told before an hour is spent on fusing it."""
    for export in wanted:
        if refused := export.refusal(len(reference.bands)):
            fewer = (
                f", or choose one or three of {reference.name} with `bands:`" if export.to == "png" else ""
            )
            raise SceneError(f"`output.also`: {refused}{fewer}")


def _source(recipe: Recipe, role: str, files: Sequence[Path], mask: Path | None) -> Source:
    wanted = recipe.inputs[role]
    return open_source(
        role,
        files,
        bands=wanted.bands,
        scale=wanted.scale,
        offset=wanted.offset,
        nodata=wanted.nodata,
        crs=wanted.crs,
        mask=(mask, _mask_rule(wanted.mask)) if mask and wanted.mask else None,
        every_band=recipe.fusion.color == "bands",
    )


def _mask_rule(wanted: MaskSettings) -> MaskRule:
    return MaskRule(wanted.reject_bits or (), wanted.reject_values or (), wanted.accept_values or ())


def _refuse_mismatch(placed: SceneGrid, sources: Sequence[Source], alignments: Sequence[Alignment]) -> None:
    for source, alignment in zip(sources, alignments, strict=True):
        if placed.is_mismatch(alignment):
            told = _differences(placed, [source], [alignment])
            raise SceneError(
                f"{told[0]}: `mismatch: error` refuses it; "
                "bring it onto the grid first, or say `mismatch: align`"
            )


def _differences(
    placed: SceneGrid, sources: Iterable[Source], alignments: Iterable[Alignment]
) -> tuple[str, ...]:
    pairs = zip(sources, alignments, strict=True)
    return tuple(f"{source.role}: {line}" for source, a in pairs for line in placed.differences(source, a))


def _ranges(recipe: Recipe, role: str) -> Ranges:
    wanted = recipe.inputs[role]
    return Ranges(wanted.range, wanted.percentiles)


def _record(
    recipe: Recipe, scene: Scene, strategy: str | Mapping[str, Any], weights: str, checksum: str | None
) -> dict[str, Any]:
    """What a store remembers: the same for every run of this recipe on these files."""
    resolved, identity = recipe.resolved(), recipe.identity()
    # a method's own defaults, where the recipe leaves them open
    resolved["fusion"] |= {"strategy": strategy, "weights": weights and recipe.fusion.weights}
    identity["fusion"]["strategy"] = strategy
    del identity["reference"]  # the role that it came to stands beside
    return {
        "recipe": resolved,
        "identity": identity,
        "reference": scene.sources[scene.reference].role,
        "sources": [source.identity() for source in scene.sources],
        "weights": {"name": Path(weights).name, "sha256": checksum} if weights else None,
    }


def _described(job: Job) -> dict[str, Any]:
    grid = job.scene.grid
    return {
        "scene": job.scene.name,
        "store": str(job.store),
        "reference": job.reference.role,
        "grid": job.place,
        "shape": list(grid.shape),
        "transform": list(grid.affine)[:6],
        "crs": grid.crs,
        "method": job.method,
        "strategy": job.record["recipe"]["fusion"]["strategy"],
        "sources": {
            source.role: {
                "files": [str(file.path) for file in source.files],
                "mask": str(source.quality.file.path) if source.quality else None,
                "shape": list(Window.whole(source.place.shape).shape),
                "dtype": source.dtype,
                "bands": len(source.bands),
            }
            for source in job.scene.sources
        },
        "differences": list(job.differences),
        "warnings": list(job.warnings),
        "tiles": len(job.tiling),
        "bytes_out": job.bytes_out,
    }
