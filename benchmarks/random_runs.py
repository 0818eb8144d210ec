"""Random runs: tiled against whole, disturbed and continued against undisturbed.

    python benchmarks/random_runs.py [--runs 1000] [--kill 100] [--seed 0] [--start 0] [--folder DIR]

Each number makes a folder of small rasters or volumes and a recipe, both by chance: sources (types, nodata,
scales, masks, colours, other grids), strategy, units, types, resampling, extent, campaign, tile size, format,
shards, levels, exports. The recipe is run

- undisturbed, in tiles, by one number of threads;
- in one tile: to 1e-6 of the range it has to be the same image (to one whole number, for integers);
- disturbed: interrupted after some tiles; then chunks, levels, notes, metadata or whole stores are deleted
  or cut short, and the run is continued by other numbers of threads, again and again: byte by byte the stores
  have to be those of the undisturbed run.

All that happens in this process. With ``--kill`` the disturbed run is a command instead, which is killed
(-9) at a random moment, once or twice, and continued. A recipe that is refused has to be refused for the same
reason each time. Prints a line a failure, with what reproduces it, and a summary; the exit code is 1 if there
was any. ``--start`` goes on where an earlier call ended.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import yaml
from affine import Affine
from faults import stores
from numpy.typing import NDArray

import batchfuse
from batchfuse import scene_jobs
from batchfuse.errors import BatchfuseError
from batchfuse.geometry.window import Window
from batchfuse.report.progress import FusedTile, Silence
from batchfuse.storage.store import Store

UTM = "EPSG:32632"
CORNER = Affine(10, 0, 500_000, 0, -10, 5_600_000)
ROOTS = (
    ".zarr/.zattrs",
    ".zarr/.zmetadata",
    ".zarr/.zgroup",
    ".zarr/zarr.json",
    ".zattrs cut",
    "zarr.json cut",
)
"""Files of a store without which nothing may tell how it was made."""
EXACT = 1e-6
"""Of the scaled range: by how much tiles may differ from the whole."""
SLAB, CUBE = 1500, 12
"""Voxels of a tile of small volumes, and the edge of one with three planes: several even of a small one."""

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """What a number means."""

    number: int
    settings: dict[str, Any]
    """The recipe."""
    whole: int
    """A tile size that leaves one tile."""


class WrongError(Exception):
    """What must not be."""


class Impatient(Silence):
    """Interrupts the run after some tiles, as Ctrl-C does."""

    def __init__(self, tiles: int) -> None:
        self.left = tiles

    def tile(self, scene: str, tile: FusedTile) -> None:  # noqa: ARG002
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)


# --- the files ----------------------------------------------------------------------------------


def smooth(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Blobs and noise, 0..1."""
    coarse = rng.random(tuple(n // 6 + 2 for n in shape))
    for axis, n in enumerate(shape):
        coarse = np.repeat(coarse, 6, axis).take(range(n), axis)
    image = 0.8 * coarse + 0.2 * rng.random(shape)
    return np.asarray((image - image.min()) / (np.ptp(image) or 1))


def values(rng: np.random.Generator, chance: random.Random, shape: tuple[int, ...]) -> tuple[Pixels, Any]:
    """File values of any type, and their nodata."""
    dtype = chance.choice(["uint8", "uint16", "int16", "float32", "float32", "int32", "float64"])
    image = smooth(rng, shape)
    low, high = chance.choice([(0, 200), (20, 240)] if dtype == "uint8" else [(1, 900), (7000, 30000)])
    if dtype not in ("uint8", "uint16"):
        low, high = chance.choice([(low, high), (-high, -low), (-low, high)])
    pixels = (image * (high - low) + low).astype(dtype)
    nodata = None
    if chance.random() < 0.5:
        nodata = chance.choice([math.nan, -9999.0]) if dtype[0] == "f" else chance.choice([0, 99])
        pixels[..., rng.random(shape[-2:]) < 0.03] = nodata
        edge = [chance.randrange(n // 2 + 1) for n in shape[-2:]]
        pixels[..., : edge[0], : edge[1]] = nodata
    return pixels, nodata


def write_raster(path: Path, pixels: Pixels, nodata: Any, place: Affine, crs: str, **scale: float) -> None:
    bands, rows, columns = pixels.shape
    profile = {"count": bands, "height": rows, "width": columns, "dtype": pixels.dtype, "nodata": nodata}
    tiled = {"tiled": True, "blockxsize": 16, "blockysize": 32} if rows % 2 else {}
    with rasterio.open(path, "w", "GTiff", transform=place, crs=crs, **profile, **tiled) as dataset:
        dataset.write(pixels)
        if scale:
            dataset.scales, dataset.offsets = (scale["scale"],) * bands, (scale["offset"],) * bands


def rasters(folder: Path, chance: random.Random, scene: str, roles: str, colours: int) -> None:
    """A raster a role; the last gives the grid, the others may lie on others."""
    rng = np.random.default_rng(chance.randrange(2**32))
    rows, columns = (chance.choice([20, chance.randint(20, 60), chance.randint(20, 120)]) for _ in range(2))
    for role in roles:
        last = role == roles[-1]
        step, place, crs = 1.0, CORNER, UTM
        if not last and chance.random() < 0.6:
            step = chance.choice([1.0, 1.0, 3.0, 2.5, 0.5])
            shift = chance.choice([0.0, 5.0, -7.0, 0.5])
            place = CORNER @ Affine.translation(shift, chance.choice([0.0, -4.0])) @ Affine.scale(step)
            if chance.random() < 0.15:
                crs, place = "EPSG:32633", place @ Affine.translation(-42_000 / step, 0)
        shape = max(4, int(rows / step)), max(4, int(columns / step))
        pixels, nodata = values(rng, chance, (colours if last else 1, *shape))
        scale = {"scale": chance.choice([0.5, 0.1, -2.0]), "offset": chance.choice([0.0, -20.0])}
        told = scale if chance.random() < 0.3 else {}
        write_raster(folder / f"{scene}_{role}.tif", pixels, nodata, place, crs, **told)
        if role == "a":  # whether the recipe asks for it or not
            quality = (rng.random(shape) < 0.9).astype(np.uint8)
            write_raster(folder / f"{scene}_mask.tif", quality[None], None, place, crs)


def volumes(folder: Path, chance: random.Random, scene: str, roles: str) -> None:
    """A NIfTI file a role."""
    import nibabel

    rng = np.random.default_rng(chance.randrange(2**32))
    shape = tuple(chance.randint(8, 20) for _ in range(3))
    for role in roles:
        pixels, nodata = values(rng, chance, shape)
        if pixels.dtype.kind == "f" and nodata is not None:
            pixels[pixels == nodata] = np.nan
        affine = np.diag([2.0, 2.0, 3.0, 1.0])
        if role != roles[-1] and chance.random() < 0.6:
            affine[:3, 3] = chance.choice([(2, 0, 0), (1.0, -0.5, 2), (0, 0, 3)])
            affine[:2, :2] = [[1.9, 0.2], [-0.2, 2.1]] if chance.random() < 0.4 else affine[:2, :2]
        image = nibabel.Nifti1Image(pixels, affine)
        image.header.set_slope_inter(chance.choice([1, 0.25]), chance.choice([0, -10]))
        nibabel.save(image, folder / f"{scene}_{role}.nii{chance.choice(['', '.gz'])}")


# --- the recipe ---------------------------------------------------------------------------------


def made(number: int, seed: int, folder: Path) -> Case:
    """Writes the files and the recipe of a number; equal whenever it is made."""
    chance = random.Random(f"{seed} {number}")
    volume = chance.random() < 0.3
    roles = chance.choice(["ab", "ab", "abc"])
    colours = 1 if volume else chance.choice([1, 1, 1, 3, 4])
    scenes = ["s1", "s2"] if chance.random() < 0.15 else ["s1"]
    folder.mkdir(parents=True)
    for scene in scenes:
        if volume:
            volumes(folder, chance, scene, roles)
        else:
            rasters(folder, chance, scene, roles, colours)
    settings = recipe_of(chance, roles, volume, colours)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(settings))
    return Case(number, settings, 512)


def recipe_of(chance: random.Random, roles: str, volume: bool, colours: int) -> dict[str, Any]:
    """A recipe by chance."""
    ending = ".nii*" if volume else ".tif"
    inputs: dict[str, dict[str, Any]] = {role: {"path": f"{{s}}_{role}{ending}"} for role in roles}
    for role in roles:
        if chance.random() < 0.15:
            inputs[role]["percentiles"] = chance.choice([[2, 98], [0, 99.9]])
        elif chance.random() < 0.15:
            inputs[role]["range"] = chance.choice([[0, 250], [-5, 20000]])
    if not volume and chance.random() < 0.2:
        inputs["a"]["mask"] = "{s}_mask.tif"
    size = chance.choice([16, 24, 32, 48, 64])
    fusion = {"strategy": chance.choice(["l1", "mean", "average", "detail"])}
    if volume:
        fusion["plane"] = chance.choice(["axial", "coronal", "sagittal", "triplanar"])
    elif colours > 3 or chance.random() < 0.2:
        fusion["color"] = "bands"
    output: dict[str, Any] = {
        "dtype": chance.choice(["float32", "float32", "float16", "uint8", "uint16", "int16"]),
        "units": chance.choice(["reference", "unit"]),
        "zarr_format": chance.choice(["auto", 2, 3]),
        "pyramid": chance.choice(["auto", True, False]),
    }
    if output["zarr_format"] == 3 and size in (32, 48, 64) and not volume and chance.random() < 0.4:
        output["shard"] = 16
    if chance.random() < 0.2:
        output["also"] = ["nifti"] if volume else [chance.choice(["cog", "png"])]
    grid = {"resampling": chance.choice(["nearest", "bilinear", "bilinear", "cubic", "average"])}
    if chance.random() < 0.2:
        grid["extent"] = chance.choice(["intersection", "union"])
    return {
        "inputs": inputs,
        "reference": roles[-1],
        "grid": grid,
        "validity": chance.choice(["any", "any", "all"]),
        "scaling": chance.choice(["scene", "scene", "scene", "campaign"]),
        "fusion": fusion,
        "tiles": {"size": size},
        "output": output,
    }


# --- one number ---------------------------------------------------------------------------------


def run(folder: Path, threads: int, *overrides: str, interrupt_after: int = 0) -> list[str]:
    """Runs the folder's recipe here; why scenes were not fused, empty if all were."""
    recipe = batchfuse.Recipe.load(folder / "recipe.yaml", list(overrides))
    progress = Impatient(interrupt_after) if interrupt_after else Silence()
    try:
        report = batchfuse.run(recipe, batchfuse.Profile(threads=threads), progress=progress)
    except BatchfuseError as error:
        return [told(folder, error)]
    except KeyboardInterrupt:
        return ["interrupted"]
    left = [o for o in report.outcomes if o.status not in ("complete", "kept")]
    if report.exit_code == 0 and left:
        raise WrongError(f"exit code 0 with {[o.status for o in left]}")
    return [o.status if o.status != "failed" else told(folder, o.reason) for o in left]


def told(folder: Path, reason: object) -> str:
    """A line of refusal, which must be one, without the folder's name."""
    line = str(reason)
    if len(line.splitlines()) != 1 or "bug" in line:
        raise WrongError(f"told: {line}")
    return line.replace(str(folder), "")


def tried(case: Case, folder: Path, kill: bool) -> str:
    """What became of a number: exact, or refused; WrongError where it is neither."""
    chance = random.Random(f"disturb {case.number}")
    undisturbed, disturbed = folder / "undisturbed", folder / "disturbed"
    shutil.copytree(undisturbed, disturbed)
    began = time.monotonic()
    refused = run(undisturbed, chance.randint(1, 3))
    took = time.monotonic() - began
    if kill:
        killed(disturbed, chance, took)
    else:
        run(disturbed, chance.randint(1, 3), interrupt_after=chance.choice([0, 1, 2, 5]))
    again = run(disturbed, chance.randint(1, 3))
    wanted = stores(undisturbed / "fused")
    compare_bytes(stores(disturbed / "fused"), wanted, "continued")
    if refused != again:
        raise WrongError(f"{again} where the undisturbed run says {refused}")
    if refused:
        return "refused"
    for _ in range(0 if kill else chance.choice([1, 1, 2])):
        deleted = list(damaged(disturbed / "fused", chance))
        left = run(disturbed, chance.randint(1, 3))
        if left and any(name.endswith(ROOTS) for name in deleted):  # nothing tells any more how it was made
            for store in (disturbed / "fused").glob("*.zarr"):
                shutil.rmtree(store)
            left = run(disturbed, chance.randint(1, 3))
        if left:
            raise WrongError(f"{left} after {deleted}")
        compare_bytes(stores(disturbed / "fused"), wanted, f"after {deleted}")
    compare_whole(case, undisturbed)
    left_over = [p.name for p in disturbed.rglob("*") if p.name.endswith(".partial") or "lease" in p.name]
    if left_over:
        raise WrongError(f"left over: {left_over}")
    return "exact"


def killed(folder: Path, chance: random.Random, took: float) -> None:
    """Starts the command and kills it, once or twice, at a random moment of its work."""
    for _ in range(chance.randint(1, 2)):
        command = [sys.executable, "-m", "batchfuse", "run", str(folder / "recipe.yaml"), "-q"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and not (folder / "fused").exists():
                time.sleep(0.005)
            time.sleep(chance.uniform(0, 1.5 * took))
            process.kill()


def damaged(fused: Path, chance: random.Random) -> Iterator[str]:
    """Deletes or cuts some files of a finished output folder; names them."""
    files = sorted(path for path in fused.rglob("*") if path.is_file())
    for _ in range(chance.randint(1, 3)):
        path = chance.choice(files)
        if chance.random() < 0.08:
            path = next((p for p in path.parents if p.suffix == ".zarr"), path)
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            if chance.random() < 0.2 and path.stat().st_size and in_store(path):
                path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])
                yield f"{path.relative_to(fused)} cut"
                note_damage(path)
                continue
            path.unlink()
        yield str(path.relative_to(fused))


def in_store(path: Path) -> bool:
    return any(parent.suffix == ".zarr" for parent in path.parents)


def note_damage(path: Path) -> None:
    """`verify` finds what is damaged, and notes it for the next run."""
    from click.testing import CliRunner

    from batchfuse.cli import commands

    store = next(parent for parent in reversed(path.parents) if parent.suffix == ".zarr")
    if CliRunner().invoke(commands, ["verify", str(store)]).exit_code != 1:
        raise WrongError(f"verify finds nothing wrong with {path.name}, which was cut")


def compare_bytes(found: dict[str, bytes], wanted: dict[str, bytes], when: str) -> None:
    """Whether two sets of stores are the same bytes."""
    names = sorted(n for n in found.keys() | wanted.keys() if found.get(n) != wanted.get(n))
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise WrongError(f"{when}: {', '.join(names[:3])}{more} differ")


def compare_whole(case: Case, folder: Path) -> None:
    """Whether the tiled image is that of one tile."""
    before = scene_jobs.VOXELS, scene_jobs.CUBE
    scene_jobs.VOXELS, scene_jobs.CUBE = 2**30, 2**10
    try:
        overrides = ("output.path=whole", f"tiles.size={case.whole}", "output.shard=null", "output.also=[]")
        if left := run(folder, 1, *overrides, "output.pyramid=false"):
            raise WrongError(f"whole: {left}")
    finally:
        scene_jobs.VOXELS, scene_jobs.CUBE = before
    for path in sorted((folder / "whole").glob("*.zarr")):
        off = difference(Store.open(folder / "fused" / path.name), Store.open(path), case)
        if not off <= 1:
            raise WrongError(f"{path.stem}: tiles differ from the whole by {off:.3g} of what they may")


def difference(tiled: Store, whole: Store, case: Case) -> float:
    """The largest difference between two stores, in parts of what is allowed."""
    one, other = (store.read(Window.whole(store.tiling.shape)) for store in (tiled, whole))
    if one.dtype.kind != "f":
        away = np.abs(one.astype(np.int64) - other.astype(np.int64)).max()
        return float(away)
    if (np.isnan(one) != np.isnan(other)).any():
        return math.inf
    reference = next(s for s in whole.record["sources"] if s["role"] == case.settings["reference"])
    low, high = reference["scaling"]["low"], reference["scaling"]["high"]
    span = 1.0 if case.settings["output"]["units"] == "unit" else high - low
    zero = 0.0 if case.settings["output"]["units"] == "unit" else low
    a, b = one.astype(np.float64), other.astype(np.float64)
    # beyond the range by as much more; and by how much the type rounds
    reach = np.maximum(1, np.abs(b - zero) / (span or 1))
    allowed = EXACT * span * reach + np.abs(b) * float(np.finfo(one.dtype).eps)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(a == b, 0, np.abs(a - b) / allowed)
    return float(np.nanmax(parts, initial=0))


# --- all of them --------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="how many within this process")
    parser.add_argument("--kill", type=int, default=0, help="how many as commands that are killed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="the first number")
    parser.add_argument("--folder", type=Path, help="where they are made: kept there if they fail")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    outcomes: Counter[str] = Counter()
    usual = scene_jobs.VOXELS, scene_jobs.CUBE
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        for kind, many in (("runs", arguments.runs), ("kill", arguments.kill)):
            if kind == "runs":  # a command's tiles are as large as ever
                scene_jobs.VOXELS, scene_jobs.CUBE = SLAB, CUBE
            else:
                scene_jobs.VOXELS, scene_jobs.CUBE = usual
            for number in range(arguments.start, arguments.start + many):
                outcomes[outcome(number, arguments.seed, folder / f"{kind}{number}", kind == "kill")] += 1
    counts = ", ".join(f"{many} {kind}" for kind, many in outcomes.most_common())
    print(f"{arguments.runs} runs, {arguments.kill} kills in {time.monotonic() - began:.0f} s: {counts}")
    sys.exit(outcomes["wrong"] > 0)


def outcome(number: int, seed: int, folder: Path, kill: bool) -> str:
    """Tries a number; exact, refused or wrong, which is told."""
    try:
        found = tried(made(number, seed, folder / "undisturbed"), folder, kill)
    except Exception as error:
        kind = "kill" if kill else "runs"
        other = "runs" if kill else "kill"
        again = f"--seed {seed} --start {number} --{kind} 1 --{other} 0"
        told_so = str(error) if isinstance(error, WrongError) else traceback.format_exc()
        print(f"WRONG ({again}): {told_so}", flush=True)
        return "wrong"
    shutil.rmtree(folder)
    return found


if __name__ == "__main__":
    main()
