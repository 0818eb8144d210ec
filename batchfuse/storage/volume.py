"""The files of a volume store but for its voxels: OME-Zarr, with the NIfTI header beside them.

The tree in format 3, which is OME-Zarr 0.5::

    <scene>.zarr/
      zarr.json          ``multiscales`` under ``ome``, our record; once sealed, all metadata
      0/                 (z, y, x), one chunk (or shard) a tile, in ``0/c/z/y/x``
      1/ 2/ …            reduced levels: arrays, each with a record of its own
      nifti/             the header, byte for byte as a .nii file begins (uint8, one chunk)

In format 2, which is OME-Zarr 0.4, chunks lie in ``0/z/y/x``.

OME-Zarr places each level by a scale and a translation along the array's own axes and has no room for
directions: ``nifti`` says where the voxels lie in the world, and so does the attribute ``affine`` of each
level.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray

from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.storage.formats import NESTED, THREE, Format
from batchfuse.storage.layout import RECORD, Layout, array_of, attributes_of, image_facts, stored_record

__all__ = ["VolumeLayout"]

SMALLEST = 128
"""The longest edge of the coarsest level is at most this."""
AXES = ("z", "y", "x")
CLOSE = math.sqrt(2)
"""An axis is halved where its voxels are less than this times as long as their shortest edge."""


@dataclass(frozen=True)
class VolumeLayout(Layout):
    """Everything that fixes the bytes of an empty volume store, or of one reduced level, but its record."""

    grid: VolumeGrid
    """Shape and affine of the fused volume."""
    dtype: str
    """One of float32, float16, uint8, uint16, int16."""
    fill: float
    """What invalid voxels hold: NaN for floats, a value of the type for integers."""
    tile_sizes: tuple[int, ...]
    """Edges of a core along (z, y, x); a chunk is no larger than the volume."""
    scale: float | tuple[float, ...] | None = None
    """Physical value = stored value · scale + offset; the header says the same as slope and intercept."""
    offset: float | tuple[float, ...] | None = None
    """See ``scale``."""
    units: str | None = None
    """Unit of the physical values."""
    long_name: str | None = None
    """What a plot of the volume is called."""
    zarr_format: Literal[2, 3] = 3
    """3 (OME-Zarr 0.5) or 2 (OME-Zarr 0.4)."""
    inner: int | None = None
    """Edge of a chunk inside a shard, where a tile is a shard; shorter along an axis where the tile or the
    volume is. It divides the tile's longer edges. Format 3 only."""
    header: bytes = b""
    """The NIfTI header, as ``nifti_header.header_for`` makes it. Without one it is the layout of a reduced
    level: an array inside another store."""
    bands: tuple[str, ...] = ("fused",)
    """One, which has no axis on the disk."""

    def __post_init__(self) -> None:
        if len(self.tile_sizes) != len(self.grid.shape) or len(self.bands) != 1:
            raise ValueError(f"no volume of {len(self.bands)} bands in tiles of {self.tile_sizes}")
        self.check()

    @classmethod
    def of(cls, node: zarr.Group | zarr.Array[Any]) -> VolumeLayout:
        """Read back the layout a tree was written from; a KeyError or ValueError where it is damaged."""
        array = array_of(node, "0") if isinstance(node, zarr.Group) else node
        header = np.asarray(array_of(node, "nifti")[...]).tobytes() if isinstance(node, zarr.Group) else b""
        return cls(
            grid=VolumeGrid.of(array.shape, np.array(attributes_of(array)["affine"])),
            tile_sizes=tuple(array.shards or array.chunks),
            inner=max(array.chunks) if array.shards else None,
            header=header,
            **image_facts(array),
        )

    @property
    def sizes(self) -> tuple[int, ...]:
        """See ``Layout``."""
        return self.tile_sizes

    @property
    def form(self) -> Format:
        """See ``Layout``."""
        return THREE if self.zarr_format == 3 else NESTED

    @property
    def image(self) -> str:
        """See ``Layout``."""
        return "0" if self.header else ""

    @property
    def arrays(self) -> tuple[str, ...]:
        """See ``Layout``."""
        return ("0", "nifti") if self.header else ()

    @property
    def band_axis(self) -> bool:
        """See ``Layout``."""
        return False

    def write_tree(self, path: Path, record: Mapping[str, Any]) -> None:
        """See ``Layout``."""
        affine = {"affine": [list(row) for row in self.grid.rows]}
        stored = {RECORD: stored_record(record)}
        if not self.header:
            self.create_image(path, AXES, {**affine, **stored})
            return
        group = zarr.create_group(path, zarr_format=self.zarr_format)
        self.create_image(group, AXES, affine)
        for name, values in self.constants().items():
            self.create_constant(group, name, values, ["byte"])
        group.attrs.put({**self._multiscales([("0", affine)]), **stored})

    def constants(self) -> Mapping[str, NDArray[Any]]:
        """See ``Layout``."""
        return {"nifti": np.frombuffer(self.header, np.uint8)} if self.header else {}

    def reduced(self) -> VolumeLayout | None:
        """See ``Layout``.

        An axis is halved where that makes voxels more like cubes: thick slices stay until the pixels in
        them are as coarse.
        """
        grid = self.grid
        if max(grid.shape) <= SMALLEST:
            return None
        halvable = [size for n, size in zip(grid.shape, grid.spacing, strict=True) if n > 1]
        limit = CLOSE * min(halvable)
        factors = np.array(
            [2 if n > 1 and size < limit else 1 for n, size in zip(grid.shape, grid.spacing, strict=True)]
        )
        affine = grid.affine.copy()
        # the first block's centre, in voxels of this level
        affine[:3, 3] += affine[:3, :3] @ ((factors[::-1] - 1) / 2)
        affine[:3, :3] *= factors[::-1]
        z, y, x = (-(-n // int(factor)) for n, factor in zip(grid.shape, factors, strict=True))
        return replace(self, grid=VolumeGrid.of((z, y, x), affine), header=b"")

    def level_path(self, path: Path, number: int) -> Path:
        """See ``Layout``."""
        return path / str(number)

    def level_nodes(self, name: str) -> list[str]:
        """See ``Layout``."""
        return [name] if self.header else []

    def with_levels(
        self, attributes: Mapping[str, Any], levels: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """See ``Layout``."""
        if not self.header:
            return dict(attributes)
        own = {"affine": [list(row) for row in self.grid.rows]}
        return {**attributes, **self._multiscales([("0", own), *levels.items()])}

    def told_levels(self, attributes: Mapping[str, Any]) -> list[str]:
        """See ``Layout``."""
        found = attributes.get("ome", attributes).get("multiscales", [{}])[0].get("datasets", ())
        return [dataset["path"] for dataset in found[1:]]

    def _multiscales(self, levels: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
        """OME-Zarr's metadata of the image and its levels, told by the attributes of their arrays."""
        described = {
            "name": self.long_name or "fused",
            "type": "mean",
            "axes": [{"name": name, "type": "space", "unit": "millimeter"} for name in AXES],
            "datasets": [
                {"path": name, "coordinateTransformations": _transformations(np.array(own["affine"]))}
                for name, own in levels
            ],
        }
        if self.zarr_format == 3:
            return {"ome": {"version": "0.5", "multiscales": [described]}}
        return {"multiscales": [{"version": "0.4", **described}]}

    def _place(self) -> dict[str, Any]:
        return {"affine": self.grid.rows, "header": self.header}


def _transformations(rows: NDArray[np.float64]) -> list[dict[str, Any]]:
    """What OME-Zarr can say of an affine (3, 4): the size of voxels, and where the first one's centre is.

    The translation is measured along the array's own axes, each in its own direction: what two arrays with
    the same directions say agrees, flipped or oblique, and so does what the levels of one store say.
    """
    scale = np.linalg.norm(rows[:, :3], axis=0)
    translation = (rows[:, :3] / scale).T @ rows[:, 3]
    return [
        {"type": "scale", "scale": [float(n) for n in scale[::-1]]},
        # + 0.0: no negative zeros
        {"type": "translation", "translation": [float(n) + 0.0 for n in translation[::-1]]},
    ]
