"""One scene without a recipe: some files in, one fused file or store out."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from batchfuse.engine import run_plan
from batchfuse.errors import RecipeError, SceneError, StoreError
from batchfuse.exports import Exported, export, refuse_foreign_export
from batchfuse.imagery.discovery import Discovery, FoundScene
from batchfuse.imagery.files import fault_of
from batchfuse.imagery.nifti import is_volume
from batchfuse.machine import cores
from batchfuse.plan import Plan, files_read, make_plan
from batchfuse.recipe import Export, Profile, Recipe
from batchfuse.report.progress import Progress
from batchfuse.report.report import Outcome
from batchfuse.storage.beside import levels_folder, world_path
from batchfuse.storage.files import refusals
from batchfuse.storage.removal import refuse_foreign, refuse_foreign_levels, remove_levels, remove_store
from batchfuse.storage.store import Store, refuse_within_store
from batchfuse.system.claims import Claims
from batchfuse.system.partials import partial_path

__all__ = ["Wish", "fuse_files", "roles_of"]

FORMATS = {".zarr": "zarr", ".tif": "cog", ".tiff": "cog", ".png": "png", ".nii.gz": "nifti"}
"""What the ending of the output asks for."""


@dataclass(frozen=True)
class Wish:
    """What the fused image is to be; None means the default."""

    strategy: str | None = None
    """The fusion strategy as a recipe has it in a word: detail, or detail:contrast=1.2."""
    reference: str | None = None
    """The source whose grid, units and colours it has: its number, counted from 1, or its role."""
    weights: str | None = None
    """A shipped name or a file."""
    dtype: str | None = None
    """Type of its values."""
    stretch: str | None = None
    """How values are stretched to the type, in files other than stores. Default: not at all, but in a PNG
    of anything but 8 bits by percentiles."""


def fuse_files(
    sources: Sequence[Path],
    out: Path,
    wish: Wish,
    profile: Profile | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> tuple[Outcome, Exported | None]:
    """Fuses files into ``out``, which appears when it is complete; as ``run`` does with a recipe.

    Args:
        sources: two or more images.
        out: a .zarr store; a .tif (cloud optimised GeoTIFF) or a .png; of volumes a .nii.gz.
        wish: strategy, reference, weights, type and stretch.
        profile: where it runs.
        overwrite: whether what is at ``out`` is replaced.
        progress: told of each step.

    Returns:
        what became of the scene, and the export unless ``out`` is a store. An interrupted run leaves nothing.

    Raises:
        RecipeError: the call is wrong.
        SceneError: the files can't be fused, or ``out`` is taken or can't be written.
    """
    kind = _kind(sources, out, wish)
    _check_free(sources, out, kind, overwrite)
    recipe = _recipe(sources, out, wish, kind)
    files = {role: (path,) for role, path in zip(recipe.inputs, sources, strict=True)}
    plan = make_plan(recipe, found=Discovery((FoundScene(_scene_name(out), files),), ()))
    for failure in plan.failures:
        raise SceneError(failure.reason)
    if len(plan.jobs) > 1:
        raise SceneError(
            f"{' or '.join(map(str, sources))} is 4-D, of {len(plan.jobs)} volumes, and {out} is one: "
            "use a recipe, which says `volume:` or fuses each"
        )
    wanted = None if kind == "zarr" else Export.of(kind, wish.dtype, _stretch(wish, kind, plan))
    _check_inputs(plan, out, kind, profile)
    with _folder_beside(out) as folder:
        report = run_plan(_moved(plan, folder), profile, progress=progress)
        (outcome,) = report.outcomes
        if outcome.status == "failed":
            raise SceneError(outcome.reason)
        if outcome.status != "complete":
            return outcome, None
        made = _delivered(folder / "fused.zarr", wanted, out, overwrite)
        return replace(outcome, store=None if made else str(out)), made


def roles_of(paths: Sequence[Path]) -> list[str]:
    """Name the sources: by their files' names where those can be roles and differ, else by number."""
    names = [re.sub(r"\.nii$", "", path.stem) for path in paths]
    usable = all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,63}", name) and name != "scene" for name in names)
    if usable and len(set(names)) == len(names):
        return names
    return [f"source{number}" for number in range(1, len(names) + 1)]


def _scene_name(out: Path) -> str:
    """The name of the output without its ending."""
    return re.sub(r"\.nii\.gz$|\.[^.]*$", "", out.name, flags=re.IGNORECASE)


def _kind(sources: Sequence[Path], out: Path, wish: Wish) -> str:
    """The format that is asked for; refuses what is none."""
    if len(sources) < 2:
        raise RecipeError(f"fuse takes two or more images of one scene, not {len(sources)}")
    kind = next((kind for ending, kind in FORMATS.items() if out.name.lower().endswith(ending)), None)
    if kind is None:
        raise RecipeError(f"--output {out}: its ending names no format: .zarr, .tif, .png and .nii.gz do")
    # before a folder of DICOM slices is called a raster
    if kind == "nifti" and (fault := next(filter(None, map(fault_of, sources)), None)):
        raise SceneError(fault)
    volume = is_volume(sources[0])
    if kind != "zarr" and volume != (kind == "nifti"):
        what, works = ("volumes", ".nii.gz") if volume else ("rasters", ".tif or .png")
        raise RecipeError(
            f"--output {out}: {what} become no such file: name one that ends in {works} or .zarr"
        )
    if kind == "zarr" and wish.stretch not in (None, "none"):
        raise RecipeError(
            f"--stretch {wish.stretch}: a store is never stretched; name a .tif or .png as output"
        )
    return kind


def _check_free(sources: Sequence[Path], out: Path, kind: str, overwrite: bool) -> None:
    """Refuse what lies at ``out`` before anything is computed: only what we wrote is replaced."""
    places = [path.resolve() for path in sources]
    if len(set(places)) < len(places):
        twice = next(path for path, place in zip(sources, places, strict=True) if places.count(place) > 1)
        raise RecipeError(f"{twice} is named twice: fuse two or more different images")
    if out.resolve() in places:
        raise RecipeError(f"--output {out} is one of the sources: name another file")
    refuse_within_store(out)
    if not os.path.lexists(out):
        return
    if not overwrite:
        raise StoreError(f"{out} is there already: name another file, or --overwrite to replace it")
    if kind == "zarr" or out.is_dir():
        refuse_foreign(out)
        refuse_foreign_levels(out)
    else:
        refuse_foreign_export(out, Export.of(kind, None, "none"), "name another file")


def _check_inputs(plan: Plan, out: Path, kind: str, profile: Profile | None) -> None:
    """Refuse where ``out``, or what comes with it, is a file that is read, whatever it is called."""
    claims = Claims("name another file")
    for path, what in files_read(plan):
        claims.read(path, what)
    if profile is not None and profile.file is not None:
        claims.read(profile.file, "the profile")
    claims.write(out, f"--output {out}")
    if kind == "png":
        claims.write(world_path(out), "the world file")
    elif kind == "zarr":
        claims.write(levels_folder(out), "the levels")


def _recipe(sources: Sequence[Path], out: Path, wish: Wish, kind: str) -> Recipe:
    """The recipe that says the same; paths stay as they were written: equal calls make equal stores."""
    roles = roles_of(sources)
    # a picture, and what is stretched, is rounded once, from the exact values
    rounded = kind == "zarr" or (kind in ("cog", "nifti") and wish.stretch in (None, "none"))
    settings: dict[str, Any] = {
        "inputs": {
            role: str(path).replace("{", "{{").replace("}", "}}")
            for role, path in zip(roles, sources, strict=True)
        },
        "reference": _reference(wish.reference, roles),
        "fusion": {
            key: value for key, value in (("strategy", wish.strategy), ("weights", wish.weights)) if value
        },
        "output": {"path": str(out.parent), **({"dtype": wish.dtype} if rounded and wish.dtype else {})},
    }
    return Recipe(**settings)


def _reference(wanted: str | None, roles: Sequence[str]) -> str | None:
    if wanted is None or wanted in roles:
        return wanted
    if wanted.isdecimal() and 1 <= int(wanted) <= len(roles):
        return roles[int(wanted) - 1]
    raise RecipeError(
        f"--reference {wanted}: give a source's number from 1 to {len(roles)}, or one of {', '.join(roles)}"
    )


def _stretch(wish: Wish, kind: str, plan: Plan) -> str:
    if wish.stretch is not None:
        return wish.stretch
    return "percentiles" if kind == "png" and plan.jobs[0].reference.dtype != "uint8" else "none"


def _moved(plan: Plan, folder: Path) -> Plan:
    """The same plan with everything it writes in ``folder``; what the store remembers stays as it is."""
    output = plan.recipe.output.model_copy(update={"path": str(folder.resolve())})
    return replace(
        plan,
        recipe=plan.recipe.model_copy(update={"output": output}),
        jobs=tuple(replace(job, store=folder / "fused.zarr") for job in plan.jobs),
    )


def _delivered(store: Path, wanted: Export | None, out: Path, overwrite: bool) -> Exported | None:
    if wanted is not None:
        return export(Store.open(store), wanted, out, overwrite=overwrite, threads=cores())
    if overwrite:
        remove_store(out)
        remove_levels(out)  # which a run made of the image that was there
    with refusals(f"{out} can't be written"):
        store.replace(out)
    return None


@contextmanager
def _folder_beside(out: Path) -> Iterator[Path]:
    """A folder on the disk of ``out`` that is gone afterwards, whatever happens."""
    folder = partial_path(out)
    with refusals(f"{out} can't be written"):
        folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
