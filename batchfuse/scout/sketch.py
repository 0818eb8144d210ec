"""From folders to a recipe that has been planned: look, name, pair, open a few, choose."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TypeVar

from batchfuse.errors import AmbiguousError, RecipeError, SceneError, bugs_told
from batchfuse.imagery.discovery import Discovery, FoundScene, discover
from batchfuse.imagery.entities import in_other_spaces
from batchfuse.plan import Plan, make_plan
from batchfuse.recipe import Recipe
from batchfuse.scout.chosen import Chosen
from batchfuse.scout.findings import Findings, counted, look
from batchfuse.scout.headers import Settings, settings_of
from batchfuse.scout.marks import Marked, marked_files, marked_volumes
from batchfuse.scout.objections import objection
from batchfuse.scout.proposals import Patterns, Proposal, proposals
from batchfuse.scout.remarks import remarks
from batchfuse.scout.wording import OUTPUT, recipe_text
from batchfuse.system.words import printable

__all__ = ["Sketch", "sketch"]

MOST_TRIED = 12
"""Proposals that are looked at more closely."""
MOST_PLANNED = 24
"""Scenes whose headers are all opened; of more, some samples are."""
SAMPLES = 5
MOST_TOLD = 5
"""Reasons for leaving files out that the summary tells; the recipe has more."""


@dataclass(frozen=True, slots=True)
class Sketch:
    """A recipe for what was found, and what to say of it."""

    text: str
    """The recipe, with its comments."""
    chosen: Chosen
    """What it is made of."""

    def summary(self, path: Path | None) -> list[str]:
        """What was recognised, how many scenes, one of them, and what to do next."""
        chosen, names = self.chosen, self.chosen.names
        planned = "" if len(names) <= MOST_PLANNED else f" ({SAMPLES} of them looked into)"
        failed = len(chosen.plan.failures)
        return [
            f"{chosen.families}",
            f"{counted(len(names), 'scene')} with all files{planned}, such as {printable(names[0])}:",
            *(f"  {role}: {files}" for role, files in chosen.example.items()),
            *(
                [f"{counted(failed, 'scene')} can't be fused as they are; the recipe says why"]
                if failed
                else []
            ),
            *(f"note: {line}" for line in remarks(chosen)),
            *_first_few([f"left out: {line}" for line in chosen.left_out()]),
            *([f"next: batchfuse plan {printable(path)}"] if path else []),
        ]


def _first_few(lines: Sequence[str]) -> Sequence[str]:
    more = len(lines) - MOST_TOLD
    return (
        [*lines[:MOST_TOLD], f"left out: {more} more kinds of files, in the recipe's comments"]
        if more > 1
        else lines
    )


def sketch(places: Sequence[Path], folder: Path, call: str, name: str) -> Sketch:
    """Sketch a recipe for the images or volumes in some folders, or for some files.

    Args:
        places: folders, searched to any depth, and files.
        folder: where the recipe will lie; its paths start there.
        call: the command, for the recipe's comments.
        name: what the recipe will be called there.

    Names are looked at first; of thousands of files, the headers of a few are opened. The recipe has been
    planned as it stands.

    Raises:
        RecipeError: nothing can be paired; one line with what was seen and what a pair looks like.
    """
    found = look(places)
    kinds = [marked_files(found.images), marked_volumes(found.volumes)]
    files = [file for kind in kinds for file in kind]
    folder = folder.resolve()
    names = {os.path.normpath(found.base / file.path): file for file in files}
    these = all(place.is_file() for place in places)
    # rasters and volumes don't mix: what there is more of is looked at first
    every = [one for kind in sorted(kinds, key=len, reverse=True) for one in proposals(kind, these)]
    by_path = {file.path: file for file in files}
    told = [
        (one, objection([by_path[path] for path in one.firsts], one.guessed, one.scenes == 1))
        for one in every
    ]
    sound, doubts = [one for one, doubt in told if not doubt], [doubt for _, doubt in told if doubt]
    faults: list[str] = []
    for proposal in sound[:MOST_TRIED]:
        others = tuple(other for other in sound if other.is_apart_from(proposal))
        try:
            with bugs_told():
                chosen = _tried(proposal, others, found, names, folder)
        except _NoPairError as error:
            doubts.append(str(error))
        except SceneError as error:
            faults.append(printable(str(error)).replace(f"{folder}/", ""))
        except AmbiguousError as error:
            doubts.insert(0, str(error).splitlines()[0].replace(f"{folder}/", ""))
        except RecipeError:
            continue  # the names don't join after all
        else:
            text = recipe_text(chosen, call, name)
            _planned(_read(text, folder), chosen.names, samples=1)
            return Sketch(text, chosen)
    raise RecipeError(found.nothing_to_pair(files, faults, doubts))


class _NoPairError(RecipeError):
    """What is joined belongs to different persons, days, spaces or the like."""


def _read(text: str, folder: Path) -> Recipe:
    """The text as it will be read, once it lies in the folder."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return Recipe.load(path).model_copy(update={"folder": folder})


def _tried(
    proposal: Proposal,
    others: tuple[Proposal, ...],
    found: Findings,
    names: Mapping[str, Marked],
    folder: Path,
) -> Chosen:
    """The proposal, planned; raises a SceneError, RecipeError or _NoPairError where it doesn't work."""
    discovery, patterns = _discovered(proposal, found, folder)
    _refuse_strangers(discovery.scenes, proposal, names)
    settings = _settings(proposal, _some(discovery.scenes, SAMPLES))
    recipe = _recipe(patterns, settings, folder)
    plan = _planned(recipe, [scene.name for scene in discovery.scenes], SAMPLES)
    for job in plan.jobs:
        for one, other in combinations(job.scene.sources, 2):
            if told := in_other_spaces(one, other):
                raise _NoPairError(printable(told))
    return Chosen(proposal, others, found, names, patterns, settings, discovery, plan, folder)


def _refuse_strangers(scenes: Sequence[FoundScene], proposal: Proposal, names: Mapping[str, Marked]) -> None:
    """_NoPairError where a scene, as its paths find it, brings together what does not belong together."""
    for scene in scenes:
        told = (names.get(os.path.normpath(paths[0])) for paths in scene.files.values())
        files = [file for file in told if file]
        if doubt := objection(files, proposal.guessed, len(scenes) == 1):
            raise _NoPairError(doubt)


def _settings(proposal: Proposal, scenes: Sequence[FoundScene]) -> dict[str, Settings]:
    """What the sources want, by the first scene that can be opened."""
    fault: SceneError | None = None
    for scene in scenes:
        try:
            with bugs_told():
                return {
                    role: settings_of(role, option, scene.files[role])
                    for role, option in zip(proposal.roles, proposal.options, strict=True)
                }
        except SceneError as error:
            fault = fault or error
    raise fault or SceneError("no scene")


T = TypeVar("T")


def _some(values: Sequence[T], count: int) -> list[T]:
    """The first of many, the last, and some between."""
    last = len(values) - 1
    return [values[place] for place in sorted({round(k * last / max(count - 1, 1)) for k in range(count)})]


def _discovered(proposal: Proposal, found: Findings, folder: Path) -> tuple[Discovery, Patterns]:
    """The scenes of the first of a proposal's ways that gives any."""
    fault: RecipeError | None = None
    for way in proposal.ways:
        patterns = {
            role: tuple(found.from_recipe(path, folder) for path in paths) for role, paths in way.items()
        }
        try:
            return discover(folder, patterns, left_out=folder / OUTPUT), patterns
        except RecipeError as error:
            fault = fault or error
    raise fault or RecipeError("no way to write the paths")


def _recipe(patterns: Patterns, settings: dict[str, Settings], folder: Path) -> Recipe:
    inputs = {role: {"path": list(paths), **settings[role].values} for role, paths in patterns.items()}
    return Recipe.model_validate({"inputs": inputs, "folder": folder})


def _planned(recipe: Recipe, names: Sequence[str], samples: int) -> Plan:
    """The plan of all scenes, or of some of very many; raises where none of them can be fused."""
    if len(names) <= MOST_PLANNED:
        plan = make_plan(recipe)
    else:
        plans = [make_plan(recipe, glob.escape(name)) for name in _some(names, samples)]
        plan = Plan(
            recipe,
            tuple(job for each in plans for job in each.jobs),
            tuple(failure for each in plans for failure in each.failures),
            plans[0].unmatched,
        )
    if not plan.jobs:
        raise SceneError(plan.failures[0].reason)
    return plan
