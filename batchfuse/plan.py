"""What will be done: each scene's sources, grid, tiles and store, before a pixel is read."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from batchfuse.errors import RecipeError, SceneError
from batchfuse.fusion.methods import Method, Strategy, method
from batchfuse.fusion.shipped import weights_checksum
from batchfuse.geometry.tiling import Tiling
from batchfuse.geometry.window import Window
from batchfuse.imagery.align import Alignment, align
from batchfuse.imagery.discovery import Discovery, FoundScene, Unmatched, discover
from batchfuse.imagery.geotiff import checked_crs, open_source
from batchfuse.imagery.reference import reference_grid, reference_of
from batchfuse.imagery.scene import Scene, Source
from batchfuse.recipe import Recipe

__all__ = ["Failure", "Job", "Plan", "Ranges", "make_plan"]

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
    method: str
    """Name of the fusion method."""
    strategy: str
    """Name of its strategy."""
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
    differences: tuple[str, ...]
    """How the sources' grids differ from the reference grid, for people."""
    warnings: tuple[str, ...]
    """What a person should look at."""

    @property
    def reference(self) -> Source:
        """The source that gives grid, units and colour."""
        return self.scene.sources[self.scene.reference]

    @property
    def pixels(self) -> int:
        """Pixels of the fused image, of one band."""
        return self.tiling.shape[0] * self.tiling.shape[1]

    @property
    def bytes_out(self) -> int:
        """Bytes of the fused image before compression."""
        return self.pixels * len(self.reference.bands) * np.dtype(self.dtype).itemsize

    def memory(self, threads: int) -> int:
        """Bytes that a worker needs, roughly, which fuses so many tiles at once."""
        halo = 2 * self.tiling.halo
        rows, columns = (min(self.tiling.size + halo, n) for n in self.tiling.shape)
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

    @property
    def tiles(self) -> int:
        """Tiles of all scenes."""
        return sum(len(job.tiling) for job in self.jobs)

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


def make_plan(recipe: Recipe, only: str | None = None) -> Plan:
    """The plan of a recipe: finds the files, opens their headers, lays out the tiles.

    Args:
        recipe: what is wanted.
        only: a glob of scene names; the others are left out.

    Raises:
        RecipeError: no scene, ambiguous files, an unknown method, strategy or weights.
    """
    chosen = method(recipe.fusion.method)
    strategy = chosen.strategy(_strategy_name(recipe, chosen))
    if recipe.fusion.strategy_parameters:
        raise RecipeError(
            f"the strategy {strategy.name} takes no parameters: write `strategy: {strategy.name}`"
        )
    weights = _weights(recipe, chosen.default_weights)
    checksum = weights_checksum(weights) if weights else None
    for role, wanted in recipe.inputs.items():
        if wanted.crs is not None:
            checked_crs(wanted.crs, role)
    found = _found(recipe)
    scenes = [scene for scene in found.scenes if only is None or fnmatch.fnmatchcase(scene.name, only)]
    if only is not None and not scenes:
        names = ", ".join(scene.name for scene in found.scenes[:5])
        raise RecipeError(f"--only {only} matches none of the {len(found.scenes)} scenes ({names}, …)")
    jobs: list[Job] = []
    failures = _incomplete(recipe, found, only)
    for scene in scenes:
        try:
            jobs.append(_job(recipe, scene, strategy, weights, checksum))
        except SceneError as error:
            failures.append(Failure(scene.name, str(error)))
    told = {failure.scene for failure in failures}
    left = tuple(file for file in found.unmatched if file.scene not in told)
    return Plan(recipe, tuple(jobs), tuple(failures), left)


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


def _found(recipe: Recipe) -> Discovery:
    return discover(recipe.folder, recipe.patterns, recipe.manifest, left_out=recipe.output_folder)


def _strategy_name(recipe: Recipe, chosen: Method) -> str:
    if "strategy" in recipe.fusion.model_fields_set:
        return recipe.fusion.strategy_name
    return next(iter(chosen.strategies))


def _weights(recipe: Recipe, default: str) -> str:
    if not default or "weights" not in recipe.fusion.model_fields_set:
        return default
    beside = recipe.located(recipe.fusion.weights)
    return str(beside) if beside.is_file() else recipe.fusion.weights


def _job(recipe: Recipe, found: FoundScene, strategy: Strategy, weights: str, checksum: str | None) -> Job:
    sources = tuple(_source(recipe, role, files) for role, files in found.files.items())
    index = reference_of(sources, recipe.reference)
    grid, turned = reference_grid(sources[index])
    scene = Scene(found.name, sources, index, grid)
    alignments = tuple(_aligned(grid, sources[index], source) for source in sources)
    _refuse_mixed_scales(recipe, sources[index])
    differences = _differences(sources, alignments)
    if differences and recipe.grid.mismatch == "error":
        raise SceneError(
            f"{differences[0]}: `mismatch: error` refuses it; "
            "bring it onto the grid first, or say `mismatch: align`"
        )
    size = recipe.tiles.size
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
        method=recipe.fusion.method,
        strategy=strategy.name,
        weights=weights,
        dtype=recipe.output.dtype,
        units=recipe.output.units,
        zarr_format=recipe.output.format_number,
        shard=recipe.output.shard,
        pyramid=recipe.output.pyramid is True,  # auto: not of rasters
        record=_record(recipe, scene, strategy, weights, checksum),
        differences=differences,
        warnings=tuple(filter(None, [turned, *(a.accuracy for a in alignments)])),
    )


def _refuse_mixed_scales(recipe: Recipe, reference: Source) -> None:
    """Integers in the reference's file values need one scale and offset, as CF and GDAL have one a store."""
    scales = {(band.scale, band.offset) for band in reference.bands}
    if len(scales) > 1 and np.dtype(recipe.output.dtype).kind != "f" and recipe.output.units == "reference":
        raise SceneError(
            f"the bands of {reference.name} differ in scale or offset, and a store holds one for all: "
            "use `output.dtype: float32`, or give `scale:` and `offset:` in the recipe"
        )


def _source(recipe: Recipe, role: str, files: Sequence[Path]) -> Source:
    wanted = recipe.inputs[role]
    return open_source(
        role,
        files,
        bands=wanted.bands,
        scale=wanted.scale,
        offset=wanted.offset,
        nodata=wanted.nodata,
        crs=wanted.crs,
    )


def _aligned(grid: Any, reference: Source, source: Source) -> Alignment:
    return align(grid, source.place, names=(reference.name, source.name))


def _differences(sources: Iterable[Source], alignments: Iterable[Alignment]) -> tuple[str, ...]:
    pairs = zip(sources, alignments, strict=True)
    return tuple(f"{source.role}: {line}" for source, a in pairs for line in a.differences())


def _ranges(recipe: Recipe, role: str) -> Ranges:
    wanted = recipe.inputs[role]
    return Ranges(wanted.range, wanted.percentiles)


def _record(
    recipe: Recipe, scene: Scene, strategy: Strategy, weights: str, checksum: str | None
) -> dict[str, Any]:
    """What a store remembers: the same for every run of this recipe on these files."""
    resolved, identity = recipe.resolved(), recipe.identity()
    # a method's own defaults, where the recipe leaves them open
    resolved["fusion"] |= {"strategy": strategy.name, "weights": weights and recipe.fusion.weights}
    identity["fusion"]["strategy"] = strategy.name
    del identity["reference"]  # the role that it came to stands beside
    return {
        "recipe": resolved,
        "identity": identity,
        "reference": scene.sources[scene.reference].role,
        "sources": [
            {"role": source.role, "files": [file.identity() for file in source.files]}
            for source in scene.sources
        ],
        "weights": {"name": Path(weights).name, "sha256": checksum} if weights else None,
    }


def _described(job: Job) -> dict[str, Any]:
    grid = job.scene.grid
    return {
        "scene": job.scene.name,
        "store": str(job.store),
        "reference": job.reference.role,
        "shape": list(grid.shape),
        "transform": list(grid.affine)[:6],
        "crs": grid.crs,
        "sources": {
            source.role: {
                "files": [str(file.path) for file in source.files],
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
