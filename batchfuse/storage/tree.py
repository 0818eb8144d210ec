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
``ovr_2x/``, ``ovr_4x/``, …: whole trees themselves.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from batchfuse.storage.formats import FORMATS, Format
from batchfuse.storage.geozarr import GRID_MAPPING, Georeference, grid_from, pixel_centres
from batchfuse.storage.layout import Layout

__all__ = [
    "FORMAT",
    "RECORD",
    "array_of",
    "attributes_of",
    "layout_of",
    "write_tree",
]

FORMAT = 1
"""Number of this layout, in the record of each store; a store of a higher number is refused."""

RECORD = "batchfuse"
"""Name of the group's attribute that holds what made the store."""


def write_tree(path: Path, layout: Layout, record: Mapping[str, Any]) -> None:
    """Write everything but chunks of the image and the seal into the empty folder ``path``."""
    georeference = Georeference(layout.grid)
    form = FORMATS[layout.zarr_format]
    group = zarr.create_group(path, zarr_format=layout.zarr_format)
    told = {**_image_attributes(layout), **georeference.image()}
    _create_array(
        group,
        form,
        "fused",
        ("band", "y", "x"),
        told,
        shape=layout.shape,
        chunks=layout.inner_chunk or layout.chunk,
        shards=layout.chunk if layout.inner_chunk else None,
        dtype=layout.dtype,
        fill_value=layout.fill,
    )
    y, x = pixel_centres(layout.grid)
    numbers = np.arange(1, len(layout.bands) + 1)
    _write_coordinate(group, form, "y", y, georeference.axis("y"))
    _write_coordinate(group, form, "x", x, georeference.axis("x"))
    _write_coordinate(group, form, "band", numbers, {"long_name": "band", "names": list(layout.bands)})
    _write_coordinate(group, form, GRID_MAPPING, np.int64(0), georeference.grid_mapping())
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
        tile_size=max((fused.shards or fused.chunks)[1:]),
        scale=attributes.get("scale_factor"),
        offset=attributes.get("add_offset"),
        units=attributes.get("units"),
        long_name=attributes.get("long_name"),
        zarr_format=fused.metadata.zarr_format,
        inner=max(fused.chunks[1:]) if fused.shards else None,
    )


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
        # of format 2, xarray takes Zarr's own fill value; of format 3 it wants it said once more
        "_FillValue": _encoded_fill(layout) if layout.zarr_format == 3 else None,
    }
    return {key: value for key, value in stated.items() if value is not None}


def _encoded_fill(layout: Layout) -> int | str:
    """A fill value as xarray writes it into format 3: JSON has no NaN."""
    if np.dtype(layout.dtype).kind != "f":
        return int(layout.fill)
    return base64.standard_b64encode(struct.pack("<d", layout.fill)).decode()


def _write_coordinate(
    group: zarr.Group, form: Format, name: str, values: Any, attributes: Mapping[str, Any]
) -> None:
    values = np.asarray(values)
    array = _create_array(
        group,
        form,
        name,
        [name] if values.ndim else [],
        attributes,
        shape=values.shape,
        chunks=values.shape,
        dtype=values.dtype,
        fill_value=None,  # with any other, xarray shows the coordinate that equals it as missing
        config={"write_empty_chunks": True},
    )
    array[...] = values


def _create_array(
    group: zarr.Group,
    form: Format,
    name: str,
    dimensions: Sequence[str],
    attributes: Mapping[str, Any],
    **options: Any,
) -> zarr.Array[Any]:
    named = form.dimensions(dimensions)
    told = {**named.pop("attributes", {}), **attributes}
    return group.create_array(name, compressors=form.codec, attributes=told, **named, **options)
