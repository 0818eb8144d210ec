"""What a store holds and how it was made, for ``batchfuse info``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pyproj import CRS

from batchfuse.storage.pyramid import levels_of
from batchfuse.storage.store import Store, is_store

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
        "tile_size": store.tile_size,
        "zarr_format": store.layout.zarr_format,
        "shard": store.layout.inner,
        "levels": [str(level.path) for level in levels_of(store) if is_store(level.path)],
        "crs": _crs_name(store.grid.crs),
        "transform": list(store.grid.affine)[:6],
        "bounds": list(store.grid.bounds),
        **store.record,
    }


def _crs_name(wkt: str | None) -> str | None:
    if wkt is None:
        return None
    crs = CRS.from_wkt(wkt)
    authority = crs.to_authority()
    return ":".join(authority) if authority else crs.name
