"""Bad files beside good scenes: each has its line, and the good ones are complete.

    python benchmarks/nasty_folder.py FOLDER... [--threads-only] [--keep FOLDER]

Every file in and below the folders is a scene of its own, named after it, beside a good partner: a
volume for volumes, else a raster on the same grid where the file tells one. Five pairs of rasters and five of
volumes are made beside them. One recipe with a manifest takes them all through `batchfuse.run`, with threads
and with two processes. A table has what became of each file.

The exit code is 1 if a good scene is not complete, if a bad file's line is none or several, if it is a bug of
batchfuse, or if threads and processes differ.
"""

from __future__ import annotations

import argparse
import csv
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import nibabel
import numpy as np
import rasterio
from affine import Affine

import batchfuse
from batchfuse.errors import BatchfuseError
from batchfuse.geometry.grid import Grid
from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.imagery.geotiff import open_source
from batchfuse.imagery.nifti import is_volume, open_volumes
from batchfuse.profile import Profile
from batchfuse.report.report import Outcome, Report

PLACE = Grid((60, 70), Affine(10, 0, 500_000, 0, -10, 5_600_000), "EPSG:32632")
GOOD = 5
"""Pairs of each of the two kinds."""
LARGEST = 4096
"""Edge of a raster that a partner is made for."""
SIDECARS = (".msk", ".aux.xml", ".ovr", ".dvc")
PARTS = (".img", ".img.gz")
"""Of a pair, which its header stands for."""

Row = tuple[str, str, str]
"""Scene, one source, the other."""


def write_raster(path: Path, place: Grid, seed: int) -> Path:
    rows, columns = place.shape
    y, x = np.mgrid[:rows, :columns]
    noise = np.random.default_rng(seed).normal(0, 3, place.shape)
    pixels = 100 + 40 * np.sin(x / 9 + seed) + 30 * np.cos(y / 7) + noise
    options = {"driver": "GTiff", "count": 1, "dtype": "float32", "height": rows, "width": columns}
    with rasterio.open(path, "w", crs=place.crs, transform=place.affine, **options) as dataset:
        dataset.write(pixels.astype(np.float32), 1)
    return path


def write_volume(path: Path, seed: int, affine: np.ndarray | None = None) -> Path:
    i, j, k = np.indices((20, 22, 12))
    values = 50 + 20 * np.sin(i / 5 + seed) + 10 * np.cos(j / 4) + k
    nibabel.save(
        nibabel.Nifti1Image(values.astype(np.float32), np.eye(4) if affine is None else affine), path
    )
    return path


def partner(bad: Path, folder: Path, number: int) -> Path:
    """A good image that goes with a bad file as far as that says anything of itself."""
    if is_volume(bad):
        affine = None
        with suppress(BatchfuseError):
            lies = open_volumes("bad", bad)[0].place
            affine = lies.affine if isinstance(lies, VolumeGrid) else None
        return write_volume(folder / f"partner{number}.nii", number, affine)
    place = PLACE
    with suppress(BatchfuseError):
        found = open_source("bad", [bad], every_band=True).place
        if isinstance(found, Grid) and max(found.shape) <= LARGEST:
            place = found
    return write_raster(folder / f"partner{number}.tif", place, number)


def rows(folders: Sequence[Path], folder: Path) -> Iterator[Row]:
    """Every scene: ten good ones and those of the bad files."""
    for number in range(GOOD):
        rasters = [
            write_raster(folder / f"good{number}_{side}.tif", PLACE, 10 * number + side) for side in (1, 2)
        ]
        volumes = [write_volume(folder / f"good{number}_{side}.nii", 10 * number + side) for side in (1, 2)]
        yield f"good_raster_{number}", str(rasters[0]), str(rasters[1])
        yield f"good_volume_{number}", str(volumes[0]), str(volumes[1])
    number = 0
    for place in folders:
        for bad in sorted(place.rglob("*")):
            name = bad.name.lower()
            if (bad.is_dir() and not bad.is_symlink()) or name.endswith((*SIDECARS, *PARTS, ".py", ".yaml")):
                continue
            number += 1
            scene = re.sub(r"[^\w.-]", "_", f"bad{number:02}_{bad.name}").rstrip(".")
            yield scene, str(bad.absolute()), str(partner(bad, folder, number))


def fused(folder: Path, profile: Profile) -> Report:
    output = f"fused_{profile.cluster}"
    recipe = batchfuse.Recipe.model_validate(
        {
            "inputs": {"one": {}, "other": {}},
            "manifest": "scenes.csv",
            "folder": folder,
            "fusion": {"strategy": "mean"},
            "output": {"path": output},
        }
    )
    return batchfuse.run(recipe, profile, retries=0)


def verdict(outcome: Outcome) -> str:
    """Why what became of a scene is wrong; empty where it is right."""
    reason = outcome.reason or ""
    if outcome.scene.startswith("good_"):
        return "" if outcome.status == "complete" else "a good scene is not complete"
    if "bug of batchfuse" in reason:
        return "a bug"
    if outcome.status == "failed" and (not reason or "\n" in reason):
        return "not one line"
    return "" if outcome.status in ("complete", "failed") else "neither complete nor failed"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folders", metavar="FOLDER", nargs="+", type=Path)
    parser.add_argument("--threads-only", action="store_true", help="without processes")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work here, and leave it")
    wish = parser.parse_args()
    folder = wish.keep or Path(tempfile.mkdtemp(prefix="nasty-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with (folder / "scenes.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([("scene", "one", "other"), *rows(wish.folders, folder.absolute())])
        profiles = [Profile(threads=2), Profile(cluster="processes", workers=2, threads=1)]
        reports = [fused(folder, profile) for profile in profiles[: 1 if wish.threads_only else 2]]
    finally:
        if not wish.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return told(reports)


def told(reports: Sequence[Report]) -> int:
    """Prints the table and the counts; the exit code."""
    wrong = 0
    for outcomes in zip(*(report.outcomes for report in reports), strict=True):
        faults = {verdict(outcome) for outcome in outcomes} - {""}
        if len({outcome.status for outcome in outcomes}) > 1:
            faults.add("threads and processes differ")
        wrong += bool(faults)
        first = outcomes[0]
        about = first.reason or "; ".join(first.warnings)
        print(f"{first.scene:40} {first.status:9} {'WRONG: ' + ', '.join(faults) if faults else about[:200]}")
    for report in reports:
        count = Counter((o.scene.startswith("good_"), o.status) for o in report.outcomes)
        good, failed, fine = count[True, "complete"], count[False, "failed"], count[False, "complete"]
        print(
            f"{report.cluster}: {good} of {2 * GOOD} good scenes complete; of {failed + fine} files {failed} "
            f"refused in a line, {fine} fused; exit code {report.exit_code}, {report.seconds:.0f} s"
        )
    print(f"{wrong or 'nothing'} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
