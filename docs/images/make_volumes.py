"""Draws volumes.png: the quicklook of a made-up head, PET with MRI.

python docs/images/make_volumes.py
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

import batchfuse
from batchfuse.report import cuts

HERE = Path(__file__).parent
REACH = (74.0, 92.0, 78.0)  # mm from the middle of the head to its skin, to the right, front and top
Volume = NDArray[np.float64]


def main() -> None:
    """Fuses the two volumes in a temporary folder, and puts their quicklook on white."""
    cuts.WIDEST, cuts.TALLEST = 230, 900  # reduced here, not afterwards: letters keep their size
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder) / "head_mri.nii.gz", 1.0, _mri)
        _write(Path(folder) / "head_pet.nii.gz", 3.0, _pet)
        inputs = {"pet": "{s}_pet.nii.gz", "mri": "{s}_mri.nii.gz"}
        report = batchfuse.run(
            batchfuse.Recipe.model_validate({"inputs": inputs, "reference": "mri", "folder": folder})
        )
        if report.exit_code:
            raise SystemExit(str(report.outcomes))
        with Image.open(Path(folder) / "fused" / "head.quicklook.png") as quicklook:
            page = Image.new("RGBA", quicklook.size, "white")
            page.alpha_composite(quicklook.convert("RGBA"))
    page.convert("RGB").save(HERE / "volumes.png", optimize=True)


def _write(path: Path, spacing: float, made: Callable[..., Volume]) -> None:
    """One volume of the head, RAS, its world's origin in the middle."""
    ends = [1.06 * reach for reach in REACH]
    axes = [np.arange(-end, end, spacing) for end in ends]
    values = made(*np.meshgrid(*axes, indexing="ij"))
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [axis[0] for axis in axes]
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), affine), path)


def _depth(x: Volume, y: Volume, z: Volume, reach: float = 1.0) -> Volume:
    """0 in the middle of the head, 1 at its skin."""
    right, front, top = (reach * end for end in REACH)
    return np.sqrt((x / right) ** 2 + (y / front) ** 2 + (z / top) ** 2)


def _folds(x: Volume, y: Volume, z: Volume) -> Volume:
    """How far the brain's surface is folded in, 0 to 1; alike at both sides."""
    waves = np.sin(abs(x) / 2.6) + np.sin(y / 3.1 + abs(x) / 7) + np.sin(z / 2.9 - y / 8)
    return np.clip(0.5 + waves / 3, 0, 1)


def _tissues(x: Volume, y: Volume, z: Volume) -> dict[str, NDArray[np.bool_]]:
    depth = _depth(x, y, z)
    folds = _folds(x, y, z)
    brain = (depth + 0.22 * (folds > 0.93) < 0.83) & ~((abs(x - 2) < 1.2) & (depth > 0.5))
    white = brain & (depth + 0.3 * folds < 0.84) & (abs(x - 2) > 2.2)
    side, behind = (abs(x) - 10) / 7, (y + 4) / 26
    fluid = side**2 + behind**2 + ((z - 6 - 8 * behind) / 8) ** 2 < 1
    nuclei = ((abs(x) - 24) / 8) ** 2 + ((y - 6) / 15) ** 2 + ((z + 2) / 11) ** 2 < 1
    lesion = (x + 46) ** 2 + (y - 3) ** 2 + (z - 2) ** 2 < 8**2  # at the patient's left
    return {"brain": brain, "white": white, "fluid": fluid, "nuclei": nuclei, "lesion": lesion}


def _mri(x: Volume, y: Volume, z: Volume) -> Volume:
    """Fat bright, bone and fluid dark, white matter brighter than gray; a trace of noise."""
    depth, found = _depth(x, y, z), _tissues(x, y, z)
    values = np.where(depth < 1, 620.0, 8.0)
    values[depth < 0.95] = 60
    values[depth < 0.87] = 130
    for name, value in (("brain", 420), ("white", 640), ("nuclei", 470), ("lesion", 560), ("fluid", 150)):
        values[found[name]] = value
    noise = np.random.default_rng(0).normal(0, 14, x.shape)
    return np.asarray(np.maximum(gaussian_filter(values, 0.6) + noise, 0))


def _pet(x: Volume, y: Volume, z: Volume) -> Volume:
    """Gray matter takes up most, white a third of it, a lesion twice as much; blurred."""
    depth, found = _depth(x, y, z), _tissues(x, y, z)
    values = np.where(depth < 1, 0.6, 0.0)
    for name, value in (("brain", 6.0), ("white", 2.2), ("nuclei", 6.5), ("lesion", 12.0), ("fluid", 0.4)):
        values[found[name]] = value
    noise = np.random.default_rng(1).normal(0, 0.25, x.shape) * (depth < 1.02)
    return np.asarray(np.maximum(gaussian_filter(values + noise, 0.9), 0))


if __name__ == "__main__":
    main()
