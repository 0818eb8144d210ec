"""What fixes the bytes of an empty store."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from batchfuse.errors import StoreError
from batchfuse.geometry.grid import Grid

__all__ = ["DTYPES", "Layout"]

DTYPES = ("float32", "float16", "uint8", "uint16", "int16")
"""What the pixels of a store may be."""


@dataclass(frozen=True)
class Layout:
    """Everything that fixes the bytes of an empty store but its record."""

    grid: Grid
    """Shape, affine and CRS of the fused image; axis-aligned."""
    bands: tuple[str, ...]
    """Name of each band, such as ("red", "green", "blue") or ("fused",)."""
    dtype: str
    """One of DTYPES."""
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
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype {self.dtype} is none of {', '.join(DTYPES)}")
        if not self.bands or self.tile_size < 1:
            raise ValueError(f"no store of {len(self.bands)} bands in tiles of {self.tile_size}")
        if self.zarr_format not in (2, 3) or (self.inner is not None and self.zarr_format == 2):
            raise ValueError(f"no Zarr format {self.zarr_format} with chunks of {self.inner} in shards")
        if self.inner is not None and (self.inner < 1 or self.tile_size % self.inner):
            raise ValueError(f"chunks of {self.inner} don't divide a shard of {self.tile_size}")
        if self.dtype.startswith(("int", "uint")):
            limits = np.iinfo(self.dtype)
            if not (limits.min <= self.fill <= limits.max and float(self.fill).is_integer()):
                raise ValueError(f"fill value {self.fill} is no {self.dtype}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, rows and columns."""
        return (len(self.bands), *self.grid.shape)

    @property
    def chunk(self) -> tuple[int, int, int]:
        """Bands, rows and columns of what a file holds: a tile's core, where the image is large enough.

        A shard of an image that is smaller is the least whole number of chunks that holds the image.
        """
        edges = self.inner_chunk or (1, 1, 1)
        rows, columns = (
            min(self.tile_size, -(-n // edge) * edge)
            for n, edge in zip(self.grid.shape, edges[1:], strict=True)
        )
        return (len(self.bands), rows, columns)

    @property
    def inner_chunk(self) -> tuple[int, int, int] | None:
        """Bands, rows and columns of a chunk inside a shard, no larger than the image."""
        if self.inner is None:
            return None
        rows, columns = self.grid.shape
        return (len(self.bands), min(self.inner, rows), min(self.inner, columns))

    @property
    def packing(self) -> tuple[float | None, float | None]:
        """Scale and offset of all bands; StoreError where the bands differ."""
        return _one_of(self.scale, "scale"), _one_of(self.offset, "offset")

    def differences(self, other: Layout) -> list[str]:
        """Name what differs, one short phrase each; nothing where both make the same store."""
        return [
            f"{name} {mine!r} is not {theirs!r}"
            for (name, mine), theirs in zip(self._facts().items(), other._facts().values(), strict=True)
            if mine != theirs
        ]

    def _facts(self) -> dict[str, Any]:
        return {
            "shape": self.grid.shape,
            "affine": tuple(self.grid.affine)[:6],
            "crs": self.grid.crs,
            "bands": self.bands,
            "dtype": self.dtype,
            "fill value": "NaN" if math.isnan(self.fill) else self.fill,
            "chunk": self.chunk[1:],
            "zarr_format": self.zarr_format,
            "inner chunk": self.inner_chunk and self.inner_chunk[1:],
            "scale": self.packing[0],
            "offset": self.packing[1],
            "units": self.units,
            "long_name": self.long_name,
        }


def _one_of(values: float | tuple[float, ...] | None, name: str) -> float | None:
    """Find the one value all bands share: CF and GDAL's Zarr driver have no room for more."""
    if not isinstance(values, tuple):
        return values
    if len(set(values)) > 1:
        raise StoreError(
            f"the reference's bands differ in {name} {values}, and a store holds one for all:"
            f" set `output.dtype: float32`, or `{name}:` in the recipe"
        )
    return values[0] if values else None
