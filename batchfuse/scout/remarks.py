"""What a person should know of a recipe before it runs: parts of one image, mixed products, many volumes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from datetime import date

from batchfuse.geometry.grid import Grid
from batchfuse.imagery.dates import acquired
from batchfuse.scout.chosen import Chosen
from batchfuse.scout.findings import counted
from batchfuse.scout.marks import BASELINE, Marked
from batchfuse.scout.objections import shard
from batchfuse.system.words import printable

__all__ = ["are_parts", "remarks"]

LATE = date(2022, 1, 25)
"""From this day on Sentinel-2's products have an offset."""
EDGE = 1e-3
"""Pixels by which tiles of one grid may seem to lie apart."""


def remarks(chosen: Chosen) -> Iterator[str]:
    """Each in a line, for the terminal and the recipe's comments."""
    yield from _parts(chosen)
    yield from _products(chosen)
    yield from _volumes(chosen)
    if chosen.others:
        pairs = ", ".join(sorted({" with ".join(other.roles) for other in chosen.others}))
        yield f"other pairs are there, too ({pairs}): the recipe's last comments have their paths"


def are_parts(chosen: Chosen) -> bool:
    """Whether scenes are called as parts of one image, each with the place in it where it begins."""
    images = Counter(found[0] for file in _firsts(chosen) if (found := shard(file.path)))
    return max(images.values(), default=0) > 1


def _firsts(chosen: Chosen, role: str = "") -> list[Marked]:
    """The first file of a role in each scene; of the reference's role if none is named."""
    role = role or chosen.reference[0]
    told = (chosen.files.get(os.path.normpath(scene.files[role][0])) for scene in chosen.discovery.scenes)
    return [file for file in told if file]


def _parts(chosen: Chosen) -> Iterator[str]:
    scaled = "ranges of their own leave seams; `scaling: campaign` gives them one"
    if are_parts(chosen):
        scenes = counted(len(chosen.names), "scene")
        yield f"{scenes} look like parts of one image: {scaled}, and so the recipe has it"
    elif touching := _touching(chosen):
        names = " and ".join(map(printable, touching))
        yield f"scenes {names} lie edge to edge: if they are parts of one image, {scaled}"


def _touching(chosen: Chosen) -> tuple[str, str] | None:
    """Two scenes that are neighbours on one lattice of pixels."""
    placed = [(job.scene.name, job.scene.grid) for job in chosen.plan.jobs]
    rasters = [(name, grid) for name, grid in placed if isinstance(grid, Grid) and grid.crs]
    for number, (name, grid) in enumerate(rasters):
        for other, its in rasters[:number]:
            if grid.crs == its.crs and _are_neighbours(grid, its):
                return other, name
    return None


def _are_neighbours(grid: Grid, other: Grid) -> bool:
    """Whether two north-up grids have an edge in common, and nothing else."""
    ours, theirs = grid.affine, other.affine
    if (ours.a, ours.b, ours.d, ours.e) != (theirs.a, theirs.b, theirs.d, theirs.e):
        return False
    column, row = ~ours @ (theirs.c, theirs.f)
    if max(abs(column - round(column)), abs(row - round(row))) > EDGE:
        return False
    column, row = round(column), round(row)
    beside = column in (grid.shape[1], -other.shape[1]) and -other.shape[0] < row < grid.shape[0]
    below = row in (grid.shape[0], -other.shape[0]) and -other.shape[1] < column < grid.shape[1]
    return beside or below


def _products(chosen: Chosen) -> Iterator[str]:
    """Scenes of a role whose values are meant differently."""
    told: dict[tuple[int, int], list[str]] = {}
    for role in chosen.proposal.roles:
        late = [is_late for file in _firsts(chosen, role) if (is_late := _has_offset(file)) is not None]
        if len(set(late)) > 1:
            told.setdefault((sum(late), len(late) - sum(late)), []).append(role)
    for (new, old), roles in told.items():
        yield (
            f"{' and '.join(roles)}: {counted(new, 'scene')} of Sentinel-2 from processing baseline 04.00 on "
            f"(offset -0.1) and {old} from before (none), but a recipe has one offset: sort them into two "
            "folders with a recipe each, or some are wrong by 0.1"
        )


def _has_offset(file: Marked) -> bool | None:
    """Whether a product of Sentinel-2 is of a baseline with an offset: as its name says, else by its day."""
    if not file.numbers.startswith("Sentinel-2"):
        return None
    if baseline := BASELINE.search(file.path):
        return baseline[1] >= "0400"
    day = acquired(file.path.rpartition("/")[2])
    return day >= LATE if day else None


def _volumes(chosen: Chosen) -> Iterator[str]:
    """Files that hold several volumes: each becomes a scene."""
    for role, settings in chosen.settings.items():
        if settings.volumes > 1:
            jobs = len(chosen.plan.jobs)
            yield (
                f"{role}: {settings.volumes} volumes in a file such as {chosen.example[role]}, and each is "
                "a scene of its own, with a store and a picture: "
                f"{jobs if jobs > 1 else 'as many'} scenes in all; "
                f"`volume: 0` under {role} takes one alone"
            )
