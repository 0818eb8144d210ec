"""What a store holds and how it was made, for ``batchfuse info``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pyproj import CRS

from batchfuse.geometry.grid import Grid
from batchfuse.storage.pyramid import levels_of
from batchfuse.storage.store import Store, VolumeLayout, is_store

__all__ = ["described"]


def described(path: Path) -> dict[str, Any]:
    """The store at ``path`` as JSON can hold it; StoreError where there is none."""
    store = Store.open(path)
    tiling = store.tiling
    return {
        "path": str(path),
        "complete": store.complete,
        "tiles": len(tiling),
        "tiles_written": len(tiling) - len(store.unwritten(tiling)),
        "bytes": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        "shape": list(store.grid.shape),
        "bands": list(store.bands),
        "dtype": store.dtype,
        "nodata": None if math.isnan(store.fill) else store.fill,
        "zarr_format": store.layout.zarr_format,
        "shard": store.layout.inner,
        "levels": [
            str(level.path)
            for level in (levels_of(store) if "level" not in store.record else ())
            if is_store(level.path)
        ],
        **(_of_volume(store.layout) if isinstance(store.layout, VolumeLayout) else _of_raster(store)),
        **store.record,
    }


def _of_raster(store: Store) -> dict[str, Any]:
    grid = store.grid
    assert isinstance(grid, Grid)
    return {
        "tile_size": store.layout.sizes[0],
        "crs": _crs_name(grid.crs),
        "transform": list(grid.affine)[:6],
        "bounds": list(grid.bounds),
    }


def _of_volume(layout: VolumeLayout) -> dict[str, Any]:
    grid = layout.grid
    return {
        "tile_size": list(layout.sizes),
        "spacing": list(grid.spacing),
        "orientation": grid.orientation,
        "affine": [list(row) for row in grid.rows],
        "nifti": _of_header(layout.header),
    }


def _of_header(content: bytes) -> dict[str, Any] | None:
    """The gist of a header; of a reduced level, which has none of its own, None."""
    from batchfuse.storage.nifti_header import read_header

    if not content:
        return None
    header = read_header(content)
    return {
        "version": 1 if header.sizeof_hdr == 348 else 2,
        "bytes": len(content),
        "qform_code": int(header["qform_code"]),
        "sform_code": int(header["sform_code"]),
        "extensions": [int(extension.get_code()) for extension in header.extensions],
    }


def _crs_name(wkt: str | None) -> str | None:
    if wkt is None:
        return None
    crs = CRS.from_wkt(wkt)
    authority = crs.to_authority()
    return ":".join(authority) if authority else crs.name
