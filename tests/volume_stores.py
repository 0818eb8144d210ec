"""Small volumes that tests make themselves: NIfTI files by nibabel, and stores without fusing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from numpy.typing import NDArray

from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.imagery.volume_header import header_bytes, read_header
from batchfuse.storage.nifti_header import header_for
from batchfuse.storage.store import Store, VolumeLayout

AFFINE = np.array([[1.5, 0, 0, -40], [0, 2, 0, -60.5], [0, 0, 3.25, 12], [0, 0, 0, 1.0]])
RECORD = {
    "version": "0.1.0",
    "recipe": {
        "fusion": {"method": "res2netfuse", "strategy": "l1"},
        "output": {"units": "reference"},
    },
    "sources": [
        {"role": "mri", "files": [{"name": "mri.nii"}], "scaling": {"low": 0, "high": 1000}},
        {"role": "pet", "files": [{"name": "pet.nii"}], "scaling": {"low": 0, "high": 20}},
    ],
    "precision": "float32",
}


def anatomy(shape: tuple[int, int, int] = (20, 26, 31), seed: int = 0) -> NDArray[np.float32]:
    """Smooth values (z, y, x) with noise, different at each corner."""
    z, y, x = (np.linspace(0, 1, n) for n in shape)
    smooth = 300 * z[:, None, None] + 150 * y[:, None] ** 2 + 80 * x
    return (smooth + np.random.default_rng(seed).random(shape)).astype(np.float32)


def oblique(angle: float = 0.3) -> NDArray[np.float64]:
    """AFFINE turned about two axes."""
    c, s = math.cos(angle), math.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    affine = AFFINE.copy()
    affine[:3, :3] = turn @ affine[:3, :3]
    return affine


def oriented(letters: str, shape: tuple[int, int, int] = (31, 26, 20)) -> NDArray[np.float64]:
    """The affine of a volume of (i, j, k) voxels that runs along these letters and lies where AFFINE says."""
    change = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(letters))
    there = tuple(int(shape[int(axis)]) for axis in change[:, 0])
    return np.asarray(AFFINE @ inv_ornt_aff(change, there))


def write_nifti(
    path: Path,
    values: NDArray[Any],
    affine: NDArray[np.float64] = AFFINE,
    *,
    kind: Any = nibabel.Nifti1Image,
    qform: int = 1,
    sform: int = 1,
    header: dict[str, Any] | None = None,
    extensions: tuple[tuple[int, bytes], ...] = (),
) -> Path:
    """Write (z, y, x) or (t, z, y, x) values as nibabel does, without scaling."""
    image = kind(values.T, affine, dtype=values.dtype)
    image.set_qform(affine, qform)
    image.set_sform(affine, sform)
    image.header.set_xyzt_units("mm", "sec")
    for name, value in (header or {}).items():
        image.header[name] = value
    for code, content in extensions:
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension(code, content))
    nibabel.save(image, path)
    return path


def reference_header(path: Path) -> bytes:
    """The header that a store begins with: that of the file, mended."""
    return header_bytes(read_header(path).file)[0]


def volume_layout(reference: Path, dtype: str = "float32", **layout: Any) -> VolumeLayout:
    """The layout of a store on the grid of a NIfTI file."""
    image = nibabel.load(reference)
    grid = VolumeGrid.of(image.shape[2::-1], image.affine)
    layout.setdefault("fill", math.nan if dtype[0] == "f" else 0)
    layout.setdefault("tile_sizes", (8, 12, 16))
    header = header_for(reference_header(reference), grid, dtype, layout.get("scale"), layout.get("offset"))
    return VolumeLayout(grid=grid, dtype=dtype, header=header, **layout)


def write_volume_store(
    path: Path, reference: Path, values: NDArray[Any], sealed: bool = True, **layout: Any
) -> Store:
    """Make a store of (z, y, x) values on the grid of a NIfTI file."""
    store = Store.create(path, volume_layout(reference, values.dtype.name, **layout), RECORD)
    for tile in store.tiling:
        store.write(tile, values[tile.core.slices][None])
    if sealed:
        store.seal()
    return store
