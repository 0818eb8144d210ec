"""What fixes the bytes of an empty store: the part that rasters and volumes share."""

from __future__ import annotations

import base64
import json
import math
import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray

from batchfuse.errors import StoreError
from batchfuse.geometry.grid import Grid
from batchfuse.geometry.tiling import Tiling
from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.geometry.window import Window
from batchfuse.storage.formats import Format, Index

__all__ = ["FORMAT", "RECORD", "Layout", "array_of", "attributes_of", "image_facts", "stored_record"]

DTYPES = ("float32", "float16", "uint8", "uint16", "int16")
"""What the values of a store may be."""

FORMAT = 1
"""Number of this layout, in the record of each store; a store of a higher number is refused."""

RECORD = "batchfuse"
"""Name of the attribute that holds what made the store."""


class Layout(ABC):
    """Everything that fixes the bytes of an empty store but its record: what arrays there are, and where.

    A ``RasterLayout`` or a ``VolumeLayout``.
    """

    grid: Grid | VolumeGrid
    """Where the values lie."""
    bands: tuple[str, ...]
    """Name of each band."""
    dtype: str
    """One of DTYPES."""
    fill: float
    """What invalid values hold: NaN for floats, a value of the type for integers."""
    scale: float | tuple[float, ...] | None
    """Physical value = stored value · scale + offset; one, or one a band if all are the same."""
    offset: float | tuple[float, ...] | None
    """See ``scale``."""
    units: str | None
    """Unit of the physical values, as CF writes it."""
    long_name: str | None
    """What a plot of the image is called."""
    zarr_format: Literal[2, 3]
    """2 or 3."""
    inner: int | None
    """Edge of a chunk inside a shard, where a tile is a shard. Format 3 only."""

    # --- what differs -------------------------------------------------------------------------

    @property
    @abstractmethod
    def form(self) -> Format:
        """The format of Zarr, in which its metadata and chunks are found."""

    @property
    @abstractmethod
    def image(self) -> str:
        """Name of the array that is written tile by tile; "" where the store is that array itself."""

    @property
    @abstractmethod
    def arrays(self) -> tuple[str, ...]:
        """Names of all arrays of the store but reduced levels; none where the store is an array itself."""

    @property
    @abstractmethod
    def sizes(self) -> tuple[int, ...]:
        """Edge of a tile's core along each axis of the grid; a chunk is no larger than the image."""

    @property
    @abstractmethod
    def band_axis(self) -> bool:
        """Whether the array has an axis of bands in front; else it has one band and no axis for it."""

    @abstractmethod
    def write_tree(self, path: Path, record: Mapping[str, Any]) -> None:
        """Write everything but chunks of the image and the seal into the empty folder ``path``."""

    @abstractmethod
    def constants(self) -> Mapping[str, NDArray[Any]]:
        """What each array but the image holds."""

    @abstractmethod
    def reduced(self) -> Layout | None:
        """The layout of the next coarser level, or None where this one is small enough."""

    @abstractmethod
    def level_path(self, path: Path, number: int) -> Path:
        """Where the reduced level of this number, from 1, of the store at ``path`` lies."""

    @abstractmethod
    def level_nodes(self, name: str) -> list[str]:
        """The nodes of the level in the folder ``name`` inside the store; none where levels lie elsewhere."""

    @abstractmethod
    def with_levels(
        self, attributes: Mapping[str, Any], levels: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """The store's attributes, telling of these levels: the attributes of each by its folder's name."""

    @abstractmethod
    def told_levels(self, attributes: Mapping[str, Any]) -> list[str]:
        """Folders of the levels that the store's attributes tell of."""

    @abstractmethod
    def _place(self) -> dict[str, Any]:
        """Facts of the grid, for ``differences``."""

    # --- what is shared -----------------------------------------------------------------------

    def check(self) -> None:
        """Raise ValueError where the layout makes no sense."""
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype {self.dtype} is none of {', '.join(DTYPES)}")
        if not self.bands or min(self.sizes) < 1:
            raise ValueError(f"no store of {len(self.bands)} bands in tiles of {self.sizes}")
        if self.zarr_format not in (2, 3) or (self.inner is not None and self.zarr_format == 2):
            raise ValueError(f"no Zarr format {self.zarr_format} with chunks of {self.inner} in shards")
        if self.inner is not None and (
            self.inner < 1 or any(size % min(size, self.inner) for size in self.sizes)
        ):
            raise ValueError(f"chunks of {self.inner} don't divide a shard of {self.sizes}")
        if self.dtype.startswith(("int", "uint")):
            limits = np.iinfo(self.dtype)
            if not (limits.min <= self.fill <= limits.max and float(self.fill).is_integer()):
                raise ValueError(f"fill value {self.fill} is no {self.dtype}")

    @property
    def tiling(self) -> Tiling:
        """The cores of the chunks."""
        return Tiling(self.grid.shape, self.sizes, 0)

    @property
    def shape(self) -> tuple[int, ...]:
        """Bands, then the grid's axes."""
        return (len(self.bands), *self.grid.shape)

    @property
    def array_shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self._of_array(self.grid.shape)

    @property
    def chunk(self) -> tuple[int, ...]:
        """Shape of what a file holds: a tile's core, where the image is large enough.

        A shard of an image that is smaller is the least whole number of chunks that holds the image.
        """
        edges = self._inner_edges or (1,) * len(self.grid.shape)
        parts = zip(self.sizes, self.grid.shape, edges, strict=True)
        return self._of_array(tuple(min(size, -(-n // edge) * edge) for size, n, edge in parts))

    @property
    def inner_chunk(self) -> tuple[int, ...] | None:
        """Shape of a chunk inside a shard, no larger than the image."""
        return self._inner_edges and self._of_array(self._inner_edges)

    @property
    def _inner_edges(self) -> tuple[int, ...] | None:
        if self.inner is None:
            return None
        parts = zip(self.sizes, self.grid.shape, strict=True)
        return tuple(min(self.inner, size, n) for size, n in parts)

    def _of_array(self, edges: tuple[int, ...]) -> tuple[int, ...]:
        return (len(self.bands), *edges) if self.band_axis else edges

    @property
    def lead(self) -> Index:
        """What stands before a tile's index in the index of its chunk."""
        return (0,) if self.band_axis else ()

    def selection(self, window: Window) -> Any:
        """A window as an index of the array, with all bands where those have an axis."""
        return (slice(None), *window.slices) if self.band_axis else window.slices

    @property
    def packing(self) -> tuple[float | None, float | None]:
        """Scale and offset of all bands; StoreError where the bands differ."""
        return _one_of(self.scale, "scale"), _one_of(self.offset, "offset")

    def differences(self, other: Layout) -> list[str]:
        """Name what differs, one short phrase each; nothing where both make the same store."""
        mine, theirs = self._facts(), other._facts()
        return [
            f"{name} {mine.get(name)!r} is not {theirs.get(name)!r}"
            for name in {**mine, **theirs}
            if mine.get(name) != theirs.get(name)
        ]

    def _facts(self) -> dict[str, Any]:
        return {
            "shape": self.grid.shape,
            **self._place(),
            "bands": self.bands,
            "dtype": self.dtype,
            "fill value": "NaN" if math.isnan(self.fill) else self.fill,
            "chunk": self.chunk,
            "zarr_format": self.zarr_format,
            "inner chunk": self.inner_chunk,
            "scale": self.packing[0],
            "offset": self.packing[1],
            "units": self.units,
            "long_name": self.long_name,
        }

    def create_image(
        self, parent: zarr.Group | Path, dimensions: Sequence[str], attributes: Mapping[str, Any]
    ) -> None:
        """Create the empty array of the image, in a group or as the folder itself."""
        self.create_array(
            parent,
            self.image,
            dimensions,
            {**self._image_attributes(), **attributes},
            shape=self.array_shape,
            chunks=self.inner_chunk or self.chunk,
            shards=self.chunk if self.inner_chunk else None,
            dtype=self.dtype,
            fill_value=self.fill,
        )

    def create_constant(
        self, group: zarr.Group, name: str, values: Any, dimensions: Sequence[str], **attributes: Any
    ) -> None:
        """Create an array that is written whole, in one chunk."""
        values = np.asarray(values)
        array = self.create_array(
            group,
            name,
            dimensions,
            attributes,
            shape=values.shape,
            chunks=values.shape,
            dtype=values.dtype,
            fill_value=None,  # with any other, xarray shows the coordinate that equals it as missing
            config={"write_empty_chunks": True},
        )
        array[...] = values

    def create_array(
        self,
        parent: zarr.Group | Path,
        name: str,
        dimensions: Sequence[str],
        attributes: Mapping[str, Any],
        **options: Any,
    ) -> zarr.Array[Any]:
        """Create an array of the layout's format, compressed with a checksum."""
        form = self.form
        named = form.options(dimensions)
        told = {**named.pop("attributes", {}), **attributes}
        given = {"compressors": form.codec, "attributes": told, **named, **options}
        if isinstance(parent, zarr.Group):
            return parent.create_array(name, **given)
        return zarr.create_array(parent, zarr_format=self.zarr_format, **given)

    def _image_attributes(self) -> dict[str, Any]:
        scale, offset = self.packing
        stated = {
            "scale_factor": scale,
            "add_offset": offset,
            "units": self.units,
            "long_name": self.long_name,
            # of format 2, xarray takes Zarr's own fill value; of format 3 it wants it said once more
            "_FillValue": self._encoded_fill() if self.zarr_format == 3 else None,
        }
        return {key: value for key, value in stated.items() if value is not None}

    def _encoded_fill(self) -> int | str:
        """A fill value as xarray writes it into format 3: JSON has no NaN."""
        if np.dtype(self.dtype).kind != "f":
            return int(self.fill)
        return base64.standard_b64encode(struct.pack("<d", self.fill)).decode()


def image_facts(array: zarr.Array[Any]) -> dict[str, Any]:
    """What the array of an image says of its layout, as keywords of either kind."""
    attributes = attributes_of(array)
    return {
        "dtype": np.dtype(array.dtype).name,
        "fill": np.asarray(array.fill_value).item(),
        "scale": attributes.get("scale_factor"),
        "offset": attributes.get("add_offset"),
        "units": attributes.get("units"),
        "long_name": attributes.get("long_name"),
        "zarr_format": array.metadata.zarr_format,
    }


def array_of(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """Open an array of the group; ValueError where the name means something else."""
    found = group[name]
    if not isinstance(found, zarr.Array):
        raise ValueError(f"{name} is no array")
    return found


def attributes_of(node: zarr.Group | zarr.Array[Any]) -> dict[str, Any]:
    """Copy the attributes of a group or an array."""
    return dict(node.attrs)


def stored_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as a store keeps it, not sealed yet; ValueError where it has keys of ours."""
    ours = {"format": FORMAT, "complete": False}
    if taken := ours.keys() & record.keys():
        raise ValueError(f"a record may not have the keys {sorted(taken)}")
    # sorted, and through JSON once, so that equal records are equal bytes
    kept: dict[str, Any] = json.loads(json.dumps({**record, **ours}, sort_keys=True, allow_nan=False))
    return kept


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
