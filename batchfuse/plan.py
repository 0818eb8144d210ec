"""What will be done: each scene's sources, grid, tiles and store, before a pixel is read."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from batchfuse.budget import memory_of
from batchfuse.errors import PassingError, RecipeError, SceneError, bugs_told
from batchfuse.fusion.methods import Method, method
from batchfuse.fusion.shipped import weights_checksum
from batchfuse.geometry.grid import Grid
from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.geometry.window import Window
from batchfuse.imagery.discovery import Discovery, FoundScene, Unmatched, discover
from batchfuse.imagery.files import is_away, is_gone
from batchfuse.imagery.geotiff import checked_crs, plane_crs
from batchfuse.imagery.target import Target
from batchfuse.job import Job
from batchfuse.profile import Profile
from batchfuse.recipe import Recipe
from batchfuse.scene_jobs import Making, jobs_of, without_volume
from batchfuse.storage.beside import names_beside, names_in
from batchfuse.system.claims import Claims

__all__ = ["Choice", "Failure", "Plan", "claimed", "files_read", "found_scenes", "make_plan", "planned_again"]


@dataclass(frozen=True, slots=True)
class Failure:
    """A scene that can't be fused, known before anything is."""

    scene: str
    """Its name."""
    reason: str
    """One line."""
    found: FoundScene | None = None
    """Its files, where what stops it may pass: it can be planned again."""
    behind: str | None = None
    """The traceback, of a bug."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of the scenes are asked for."""

    only: str | None = None
    """A glob of their names."""
    names: AbstractSet[str] | None = None
    """Their names."""

    def takes(self, job: Job, scene: FoundScene) -> bool:
        """Whether a job is asked for: by its own name, or as one volume of the scene."""
        told = {scene.name, job.scene.name}
        globbed = self.only is None or any(fnmatch.fnmatchcase(name, self.only) for name in told)
        return globbed and (self.names is None or not self.names.isdisjoint(told))


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
    making: Making | None = None
    """What its scenes share."""
    choice: Choice = Choice()
    """Which scenes were asked for."""
    files: tuple[Path, ...] = ()
    """The files of every scene that was found, asked for or not."""
    claims: Claims | None = field(default=None, compare=False, repr=False)
    """All that its run reads and writes, where that was compared."""

    @property
    def waiting(self) -> tuple[Failure, ...]:
        """The failures that may pass."""
        return tuple(failure for failure in self.failures if failure.found is not None)

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

    def to_dict(self, profile: Profile) -> dict[str, Any]:
        """For ``plan --json``, with the memory of a worker of this profile."""
        return {
            "output": str(self.recipe.output_folder),
            "scenes": [_described(job) for job in self.jobs],
            "failures": [
                {"scene": f.scene, "reason": f.reason, **({"traceback": f.behind} if f.behind else {})}
                for f in self.failures
            ],
            "unmatched": [{"path": str(u.path), "role": u.role, "reason": u.reason} for u in self.unmatched],
            "tiles": self.tiles,
            "bytes_out": sum(job.bytes_out for job in self.jobs),
            "memory_of_a_worker": memory_of(self.jobs, profile),
        }


def make_plan(
    recipe: Recipe,
    only: str | None = None,
    found: Discovery | None = None,
    names: AbstractSet[str] | None = None,
) -> Plan:
    """The plan of a recipe: finds the files, opens their headers, lays out the tiles.

    Args:
        recipe: what is wanted.
        only: a glob of scene names; the others are left out.
        names: of scenes; the others are left out. There may be none.
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
    making = Making(recipe, _target(recipe), chosen, strategy, parameters, weights, checksum)
    discovered = found or found_scenes(recipe)
    scenes = [scene for scene in discovered.scenes if _is_wanted(scene.name, only)]
    if names is not None:
        asked_for = {*names, *map(without_volume, names)}
        scenes = [scene for scene in scenes if scene.name in asked_for]
    if names is None and only is not None and not scenes:
        every = discovered.scenes
        first = ", ".join(scene.name for scene in every[:5]) + (", …" if len(every) > 5 else "")
        raise RecipeError(f"--only {only} matches none of the {len(every)} scenes ({first})")
    jobs: list[Job] = []
    failures = [f for f in _incomplete(recipe, discovered, only) if names is None or f.scene in names]
    left_out: list[Job] = []
    choice = Choice(only, names)
    wanted_names = {scene.name for scene in scenes}
    for scene in discovered.scenes if recipe.scaling == "campaign" else scenes:
        try:
            with bugs_told():
                made = jobs_of(making, scene)
            for job in made:
                (jobs if choice.takes(job, scene) else left_out).append(job)
        except SceneError as error:
            if scene.name in wanted_names:
                passing = _may_pass(scene, error, was_there=found is None)
                waiting = scene if passing else None
                failures.append(Failure(scene.name, str(error), waiting, error.behind))
    if names is None and only is not None and not jobs and not failures:
        raise RecipeError(
            f"--only {only} matches none of {', '.join(job.scene.name for job in left_out[:5])}"
        )
    campaign = (*jobs, *left_out) if recipe.scaling == "campaign" else ()
    told = {failure.scene for failure in failures}
    left = tuple(file for file in discovered.unmatched if file.scene not in told)
    files = tuple(path for scene in discovered.scenes for path in scene.paths)
    plan = Plan(recipe, tuple(jobs), tuple(failures), left, campaign, making, choice, files)
    return replace(plan, claims=claimed(plan)) if found is None else plan


def planned_again(plan: Plan, claims: Claims) -> Plan:
    """The plan with the scenes that wait planned once more, after its other jobs; no other file is opened.

    ``claims`` are those of the plan.
    """
    assert plan.making is not None
    jobs, campaign = list(plan.jobs), list(plan.campaign)
    failures = [failure for failure in plan.failures if failure.found is None]
    for failure in plan.waiting:
        scene = failure.found
        assert scene is not None
        try:
            with bugs_told():
                made = jobs_of(plan.making, scene)
            asked = [job for job in made if plan.choice.takes(job, scene)]
            for path, what in _sources_of(asked):
                claims.read(path, what)
            _claim_written(asked, claims)
        except (SceneError, RecipeError) as error:
            passing = isinstance(error, SceneError) and _may_pass(scene, error, was_there=True)
            failures.append(Failure(scene.name, str(error), scene if passing else None, error.behind))
            continue
        jobs += asked
        campaign += made if plan.recipe.scaling == "campaign" else []
    return replace(plan, jobs=tuple(jobs), failures=tuple(failures), campaign=tuple(campaign))


def _may_pass(scene: FoundScene, error: SceneError, was_there: bool) -> bool:
    """Whether what stops a scene may pass: a file can't be read now, or is gone that ``was_there``.

    Libraries say the same of that and of bytes that are no image, so the files are asked.
    """
    if isinstance(error, PassingError):
        return True
    return any(is_away(path) or (was_there and is_gone(path)) for path in scene.paths)


def _is_wanted(scene: str, only: str | None) -> bool:
    """Whether a scene matches the glob, or one of its volumes may."""
    return only is None or any(fnmatch.fnmatchcase(scene, glob) for glob in (only, without_volume(only)))


def claimed(plan: Plan) -> Claims:
    """All paths that the run of a plan reads, and all that it may create, replace or delete.

    Raises RecipeError where one is both, or two of the latter are one.
    """
    claims = Claims("give another `output.path`")
    for path, what in files_read(plan):
        claims.read(path, what)
    for path, what in names_in(plan.recipe.output_folder):
        claims.write(path, what)
    _claim_written(plan.jobs, claims)
    return claims


def files_read(plan: Plan) -> Iterator[tuple[Path, str]]:
    """Every file that a plan is made from or its run reads, with words for what it is."""
    recipe = plan.recipe
    if recipe.file is not None:
        yield recipe.file, "the recipe"
    if recipe.manifest is not None:
        yield recipe.located(recipe.manifest), "the manifest"
    if plan.making is not None and plan.making.weights:
        yield Path(plan.making.weights), "the weights"
    yield from ((path, "the source") for path in plan.files)
    yield from _sources_of(plan.jobs)


def _sources_of(jobs: Iterable[Job]) -> Iterator[tuple[Path, str]]:
    """The files of these jobs, masks and what GDAL reads beside them included."""
    for source in (source for job in jobs for source in job.scene.sources):
        for file in source.every_file:
            yield from ((path, "the source") for path in (file.path, *file.sidecars))


def _claim_written(jobs: Iterable[Job], claims: Claims) -> None:
    for job in jobs:
        for path, what in names_beside(job.store, [wanted.beside(job.store) for wanted in job.exports]):
            claims.write(path, f"{what} of {job.scene.name}")


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
    return str(beside) if os.path.isfile(beside) else recipe.fusion.weights  # noqa: PTH113 (never raises)


def _target(recipe: Recipe) -> Target:
    wanted = recipe.grid
    crs = None if wanted.crs is None else plane_crs(wanted.crs, "grid.crs")
    return Target(wanted.extent, crs, wanted.resolution, wanted.bounds)


def _described(job: Job) -> dict[str, Any]:
    grid = job.scene.grid
    return {
        "scene": job.scene.name,
        "store": str(job.store),
        "reference": job.reference.role,
        "grid": job.place,
        "shape": list(grid.shape),
        **_place(grid),
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


def _place(grid: Grid | VolumeGrid) -> dict[str, Any]:
    if isinstance(grid, VolumeGrid):
        return {"affine": grid.affine.tolist(), "orientation": grid.orientation}
    return {"transform": list(grid.affine)[:6], "crs": grid.crs}
