"""The files of a raster store but for its pixels: Zarr format 2 that GDAL, xarray and odc-geo open.

The tree, all of it needed to open everywhere::

    <scene>.zarr/
      .zgroup .zattrs    conventions, georeference, and our record under ``batchfuse``
      fused/             (band, y, x), one chunk a tile; the only array of more than one dimension,
                         because GDAL 3.10 shows no band at all when it finds two
      x/ y/ band/        pixel centres; band numbers and names
      spatial_ref/       CF grid mapping
      .zmetadata         all of the metadata once more, written last: what has it is sealed
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import Zstd

from batchfuse.storage.geozarr import GRID_MAPPING, Georeference, grid_from, pixel_centres
from batchfuse.storage.layout import Layout

__all__ = [
    "FORMAT",
    "RECORD",
    "array_of",
    "attributes_of",
    "completed",
    "consolidated",
    "layout_of",
    "write_tree",
]

FORMAT = 1
"""Number of this layout, in the record of each store; a store of a higher number is refused."""

RECORD = "batchfuse"
"""Name of the group's attribute that holds what made the store."""

# zstd's own checksum finds each flipped bit; blosc and plain zstd find none, and a separate
# checksum filter makes the array unreadable to GDAL 3.10
_CODEC = Zstd(level=1, checksum=True)


def write_tree(path: Path, layout: Layout, record: Mapping[str, Any]) -> None:
    """Write everything but chunks of the image and ``.zmetadata`` into the empty folder ``path``."""
    georeference = Georeference(layout.grid)
    group = zarr.create_group(path, zarr_format=2)
    group.create_array(
        "fused",
        shape=layout.shape,
        chunks=layout.chunk,
        dtype=layout.dtype,
        fill_value=layout.fill,
        compressors=_CODEC,
        attributes={**_image_attributes(layout), **georeference.image()},
    )
    y, x = pixel_centres(layout.grid)
    _write_coordinate(group, "y", y, georeference.axis("y"))
    _write_coordinate(group, "x", x, georeference.axis("x"))
    numbers = np.arange(1, len(layout.bands) + 1)
    _write_coordinate(group, "band", numbers, {"long_name": "band", "names": list(layout.bands)})
    _write_coordinate(group, GRID_MAPPING, np.int64(0), georeference.grid_mapping())
    group.attrs.put({**georeference.group(), RECORD: _stored_record(record)})


def layout_of(group: zarr.Group) -> Layout:
    """Read back the layout a tree was written from; a KeyError or ValueError where it is damaged."""
    fused = array_of(group, "fused")
    attributes = attributes_of(fused)
    return Layout(
        grid=grid_from(attributes_of(array_of(group, GRID_MAPPING)), fused.shape[1:]),
        bands=tuple(map(str, attributes_of(array_of(group, "band"))["names"])),
        dtype=np.dtype(fused.dtype).name,
        fill=np.asarray(fused.fill_value).item(),
        tile_size=max(fused.chunks[1:]),
        scale=attributes.get("scale_factor"),
        offset=attributes.get("add_offset"),
        units=attributes.get("units"),
        long_name=attributes.get("long_name"),
    )


def completed(path: Path) -> bytes:
    """Give the group's attributes with the record's ``complete`` set."""
    attributes = json.loads((path / ".zattrs").read_bytes())
    attributes[RECORD]["complete"] = True
    return json.dumps(attributes, indent=2).encode()


def consolidated(path: Path) -> bytes:
    """All metadata in one JSON, sorted: zarr's own has the order the folder is listed in."""
    files = sorted(p for p in path.rglob(".z*") if p.name in {".zgroup", ".zattrs", ".zarray"})
    metadata = {p.relative_to(path).as_posix(): json.loads(p.read_bytes()) for p in files}
    return json.dumps({"metadata": metadata, "zarr_consolidated_format": 1}, indent=2).encode()


def array_of(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """Open an array of the group; ValueError where the name means something else."""
    found = group[name]
    if not isinstance(found, zarr.Array):
        raise ValueError(f"{name} is no array")
    return found


def attributes_of(node: zarr.Group | zarr.Array[Any]) -> dict[str, Any]:
    """Copy the attributes of a group or an array."""
    return dict(node.attrs)


def _stored_record(record: Mapping[str, Any]) -> dict[str, Any]:
    ours = {"format": FORMAT, "complete": False}
    if taken := ours.keys() & record.keys():
        raise ValueError(f"a record may not have the keys {sorted(taken)}")
    # sorted, and through JSON once, so that equal records are equal bytes
    kept: dict[str, Any] = json.loads(json.dumps({**record, **ours}, sort_keys=True, allow_nan=False))
    return kept


def _image_attributes(layout: Layout) -> dict[str, Any]:
    scale, offset = layout.packing
    stated = {
        "scale_factor": scale,
        "add_offset": offset,
        "units": layout.units,
        "long_name": layout.long_name,
    }
    named = {key: value for key, value in stated.items() if value is not None}
    return {"_ARRAY_DIMENSIONS": ["band", "y", "x"], **named}


def _write_coordinate(group: zarr.Group, name: str, values: Any, attributes: Mapping[str, Any]) -> None:
    values = np.asarray(values)
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=values.shape,
        dtype=values.dtype,
        fill_value=None,  # with any other, xarray shows the coordinate that equals it as missing
        compressors=_CODEC,
        attributes={"_ARRAY_DIMENSIONS": [name] if values.ndim else [], **attributes},
        config={"write_empty_chunks": True},
    )
    array[...] = values
