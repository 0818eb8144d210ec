"""The files of a raster store but for its pixels: Zarr that GDAL, xarray and odc-geo open.

The tree in format 2, all of it needed to open everywhere::

    <scene>.zarr/
      .zgroup .zattrs    conventions, georeference, and our record under ``batchfuse``
      fused/             (band, y, x), one chunk a tile; the only array of more than one dimension,
                         because GDAL 3.10 shows no band at all when it finds two
      x/ y/ band/        pixel centres; band numbers and names
      spatial_ref/       CF grid mapping
      .zmetadata         all of the metadata once more, written last: what has it is sealed

In format 3 each folder has a ``zarr.json``, chunks (or shards) lie in ``fused/c/0/row/column``, and a
sealed store's own ``zarr.json`` holds all of the metadata once more. Reduced levels lie inside, in
``ovr_2x/``, ``ovr_4x/``, …: whole trees themselves. In format 2 they lie beside the store, in
``<scene>.levels.zarr/1``, ``2``, ….
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from affine import Affine
from numpy.typing import NDArray

from batchfuse.geometry.grid import Grid
from batchfuse.storage.beside import levels_folder
from batchfuse.storage.formats import FLAT, THREE, Format
from batchfuse.storage.geozarr import GRID_MAPPING, Georeference, grid_from, pixel_centres, with_levels
from batchfuse.storage.layout import RECORD, Layout, array_of, attributes_of, image_facts, stored_record

__all__ = ["RasterLayout"]

SMALLEST = 256
"""The longer edge of the coarsest level is at most this."""


@dataclass(frozen=True)
class RasterLayout(Layout):
    """Everything that fixes the bytes of an empty raster store but its record."""

    grid: Grid
    """Shape, affine and CRS of the fused image; axis-aligned."""
    bands: tuple[str, ...]
    """Name of each band, such as ("red", "green", "blue") or ("fused",)."""
    dtype: str
    """One of float32, float16, uint8, uint16, int16."""
    fill: float
    """What invalid pixels hold: NaN for floats, a value of the type for integers."""
    tile_size: int
    """Edge of a core in pixels; a chunk is no larger than the image."""
    scale: float | tuple[float, ...] | None = None
    """Physical value = stored value · scale + offset; one, or one a band if all are the same."""
    offset: float | tuple[float, ...] | None = None
    """See ``scale``."""
    units: str | None = None
    """Unit of the physical values, as CF writes it."""
    long_name: str | None = None
    """What a plot of the image is called."""
    zarr_format: Literal[2, 3] = 2
    """2 or 3."""
    inner: int | None = None
    """Edge of a chunk inside a shard, where a tile is a shard; it divides ``tile_size``. Format 3 only."""

    def __post_init__(self) -> None:
        self.check()

    @classmethod
    def of(cls, group: zarr.Group) -> RasterLayout:
        """Read back the layout a tree was written from; a KeyError or ValueError where it is damaged."""
        fused = array_of(group, "fused")
        return cls(
            grid=grid_from(attributes_of(array_of(group, GRID_MAPPING)), fused.shape[1:]),
            bands=tuple(map(str, attributes_of(array_of(group, "band"))["names"])),
            tile_size=max((fused.shards or fused.chunks)[1:]),
            inner=max(fused.chunks[1:]) if fused.shards else None,
            **image_facts(fused),
        )

    @property
    def form(self) -> Format:
        """See ``Layout``."""
        return THREE if self.zarr_format == 3 else FLAT

    @property
    def image(self) -> str:
        """See ``Layout``."""
        return "fused"

    @property
    def arrays(self) -> tuple[str, ...]:
        """See ``Layout``."""
        return ("band", "fused", GRID_MAPPING, "x", "y")

    @property
    def sizes(self) -> tuple[int, ...]:
        """See ``Layout``."""
        return (self.tile_size, self.tile_size)

    @property
    def band_axis(self) -> bool:
        """See ``Layout``."""
        return True

    def write_tree(self, path: Path, record: Mapping[str, Any]) -> None:
        """See ``Layout``."""
        georeference = Georeference(self.grid)
        group = zarr.create_group(path, zarr_format=self.zarr_format)
        self.create_image(group, ("band", "y", "x"), georeference.image())
        told = {
            "y": georeference.axis("y"),
            "x": georeference.axis("x"),
            "band": {"long_name": "band", "names": list(self.bands)},
            GRID_MAPPING: georeference.grid_mapping(),
        }
        for name, values in self.constants().items():
            self.create_constant(group, name, values, [name] if values.ndim else [], **told[name])
        group.attrs.put({**georeference.group(), RECORD: stored_record(record)})

    def constants(self) -> Mapping[str, NDArray[Any]]:
        """See ``Layout``."""
        y, x = pixel_centres(self.grid)
        numbers = np.arange(1, len(self.bands) + 1)
        return {"y": y, "x": x, "band": numbers, GRID_MAPPING: np.zeros((), np.int64)}

    def reduced(self) -> RasterLayout | None:
        """See ``Layout``."""
        rows, columns = self.grid.shape
        if max(rows, columns) <= SMALLEST:
            return None
        halves = (-(-rows // 2), -(-columns // 2))
        return replace(self, grid=Grid(halves, self.grid.affine @ Affine.scale(2), self.grid.crs))

    def level_path(self, path: Path, number: int) -> Path:
        """See ``Layout``."""
        if self.zarr_format == 3:
            return path / f"ovr_{2**number}x"
        return levels_folder(path) / str(number)

    def level_nodes(self, name: str) -> list[str]:
        """See ``Layout``."""
        return [name, *(f"{name}/{array}" for array in self.arrays)] if self.zarr_format == 3 else []

    def with_levels(
        self, attributes: Mapping[str, Any], levels: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """See ``Layout``."""
        return with_levels(attributes, levels)

    def told_levels(self, attributes: Mapping[str, Any]) -> list[str]:
        """See ``Layout``."""
        layout = attributes.get("multiscales", {}).get("layout", ())
        return [level["asset"].partition("/")[0] for level in layout[1:]]

    def _place(self) -> dict[str, Any]:
        return {"affine": tuple(self.grid.affine)[:6], "crs": self.grid.crs}
