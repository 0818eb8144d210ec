"""``scaling: campaign``: one range a role for all scenes, measured once and kept beside the stores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from batchfuse.campaign_passes import measured_over
from batchfuse.cluster import Cluster
from batchfuse.errors import RecipeError
from batchfuse.files import replace_file
from batchfuse.fusion.methods import method
from batchfuse.job import Job, Ranges
from batchfuse.plan import Failure, Plan
from batchfuse.recipe import differences
from batchfuse.report.progress import Progress, counted
from batchfuse.retries import Retries
from batchfuse.storage.beside import CAMPAIGN
from batchfuse.system.notes import Kind, Note, encoded, place_of

__all__ = ["Ready", "ready"]

FORMAT = 1
NAMED = 3  # scenes that a warning names


@dataclass(frozen=True, slots=True)
class Ready:
    """The jobs of a run, each source's range given."""

    jobs: tuple[Job, ...]
    """The scenes to fuse."""
    failures: tuple[Failure, ...] = ()
    """The scenes that could not be measured."""
    warnings: tuple[str, ...] = ()
    """What a person should look at."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """The ranges, and what they were measured over."""

    ranges: Mapping[str, tuple[float, float]]
    """By role: the physical values that map to 0 and 1."""
    settings: Mapping[str, Any]
    """The part of the recipe that decides them."""
    scenes: Mapping[str, str]
    """By scene: a checksum of its files' identities."""


def ready(plan: Plan, cluster: Cluster, overwrite: bool, progress: Progress, retries: Retries) -> Ready:
    """The plan's jobs with the ranges of the whole campaign; the jobs as they are with ``scaling: scene``.

    The ranges are those that an earlier run kept in the output folder, else they are measured now, over all
    scenes of the recipe whatever ``--only`` names. ``overwrite`` measures anew if all scenes are to be fused.
    A scene that can't be read for now is measured again, ``retries`` times.

    Raises:
        RecipeError: what was kept was measured with other settings.
    """
    if not plan.campaign or not plan.jobs:
        return Ready(plan.jobs)
    path = plan.recipe.output_folder / CAMPAIGN
    with _refusals(path, "read"):
        place = place_of(path, KIND)
    kept = None if overwrite and len(plan.jobs) == len(plan.campaign) else _kept(place.note, plan)
    if kept is not None:
        warnings = (*place.left, *_doubts(plan), *_changes(place.path, kept, plan))
        return Ready(_ranged(plan.jobs, kept), (), warnings)
    found = measured_over(cluster, plan.campaign, partial(progress.phase, "campaign"), retries)
    readable = [job for job in plan.campaign if job.scene.name not in found.unreadable]
    made = Campaign(found.ranges, _settings(plan), {j.scene.name: _checksum(j) for j in readable})
    lost = {job.scene.name for job in plan.jobs} & found.unreadable.keys()
    # a run that ends here counts the scene, too, once it is mended
    if readable and not (lost and plan.recipe.on_error == "fail"):
        _write(place.path, made)
    return Ready(
        _ranged([job for job in plan.jobs if job.scene.name not in lost], made),
        tuple(
            Failure(name, str(found.unreadable[name]), behind=found.unreadable[name].behind)
            for name in sorted(lost)
        ),
        (*place.left, *_doubts(plan), *_left_out(found.unreadable)),
    )


def _ranged(jobs: Sequence[Job], campaign: Campaign) -> tuple[Job, ...]:
    return tuple(
        replace(job, ranges=tuple(Ranges(campaign.ranges[source.role]) for source in job.scene.sources))
        for job in jobs
    )


def _settings(plan: Plan) -> dict[str, Any]:
    """What decides the ranges beside the files; the grid decides what is cropped."""
    identity = plan.recipe.identity()
    settings: dict[str, Any] = json.loads(json.dumps({key: identity[key] for key in ("inputs", "grid")}))
    return settings


def _checksum(job: Job) -> str:
    """Of all that tells the files of a scene from others, and of which of them gives the grid."""
    told = {"reference": job.record["reference"], "sources": job.record["sources"]}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _doubts(plan: Plan) -> list[str]:
    if all(job.survey_tiling is None for job in plan.jobs):
        return []
    strategies = method(plan.recipe.fusion.method).strategies.values()
    others = " and ".join(strategy.name for strategy in strategies if strategy.survey_halo is None)
    return [
        f"the strategy {plan.jobs[0].strategy} still looks at each scene on its own, so that neighbours "
        f"differ although they share a range{f': {others} mosaic' if others else ''}"
    ]


def _left_out(unreadable: Mapping[str, object]) -> list[str]:
    if not unreadable:
        return []
    return [
        f"{_scenes(list(unreadable))} could not be read and {_is(unreadable)} not counted in the campaign's "
        "ranges: once mended, fuse all with --overwrite if their values matter"
    ]


def _changes(path: Path, kept: Campaign, plan: Plan) -> list[str]:
    """What tells the scenes of now from those that the kept ranges were measured over."""
    now = {job.scene.name: _checksum(job) for job in plan.campaign}
    added = [name for name in now if name not in kept.scenes]
    changed = [name for name in now if name in kept.scenes and kept.scenes[name] != now[name]]
    remedy = "the kept ranges are used, so that all stores mosaic; --overwrite measures and fuses all anew"
    lines = []
    if added:
        lines.append(f"{_scenes(added)} of {len(now)} {_is(added)} not counted in {path}: {remedy}")
    if changed:
        verb = "has" if len(changed) == 1 else "have"
        lines.append(f"{_scenes(changed)} {verb} changed since {path} was measured: {remedy}")
    return lines


def _scenes(names: Sequence[str]) -> str:
    more = ", …" if len(names) > NAMED else ""
    return f"{counted(len(names), 'scene')} ({', '.join(names[:NAMED])}{more})"


def _is(names: Sequence[str] | Mapping[str, object]) -> str:
    return "is" if len(names) == 1 else "are"


def _kept(found: Note | None, plan: Plan) -> Campaign | None:
    """What an earlier run measured, if it may be used."""
    if found is None:
        return None
    stored = found.values
    if stored["format"] != FORMAT:
        raise RecipeError(f"{found.path} has format {stored['format']}, not {FORMAT}: update batchfuse")
    kept = Campaign(
        {role: (low, high) for role, (low, high) in stored["ranges"].items()},
        stored["settings"],
        stored["scenes"],
    )
    changed = differences(kept.settings, _settings(plan), CAMPAIGN)
    if changed or kept.ranges.keys() != plan.recipe.inputs.keys():
        roles = [] if changed else [f"roles: {', '.join(kept.ranges)}"]
        raise RecipeError(
            f"{found.path} was measured otherwise ({'; '.join(changed or roles)}): give another "
            "`output.path`, or --overwrite to measure and fuse all scenes anew"
        )
    return kept


def _write(place: Path, campaign: Campaign) -> None:
    stored = {
        "format": FORMAT,
        "ranges": campaign.ranges,
        "settings": campaign.settings,
        "scenes": campaign.scenes,
    }
    with _refusals(place, "written"):
        replace_file(place, encoded(KIND, stored))


@contextmanager
def _refusals(path: Path, done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RecipeError(f"{path} can't be {done} ({error.strerror}): give another `output.path`") from error


def _is_a_campaign(values: Mapping[str, Any]) -> bool:
    if values.get("format") != FORMAT:
        return type(values.get("format")) is int  # of a later version, as far as can be told
    ranges, scenes = values.get("ranges"), values.get("scenes")
    return (
        isinstance(ranges, dict)
        and all(map(_is_a_range, ranges.values()))
        and isinstance(values.get("settings"), dict)
        and isinstance(scenes, dict)
        and all(isinstance(checksum, str) for checksum in scenes.values())
    )


def _is_a_range(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(end) in (int, float) for end in value)


KIND = Kind("campaign", _is_a_campaign)
