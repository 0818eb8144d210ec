"""What a store holds and how it was made, for ``batchfuse info``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pyproj import CRS

from batchfuse.storage.pyramid import levels_of
from batchfuse.storage.store import Store, is_store

__all__ = ["described", "lines"]


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


def lines(contents: Mapping[str, Any]) -> Iterator[str]:
    """The description for people, line by line."""
    rows, columns = contents["shape"]
    state = "complete" if contents["complete"] else "not complete: run its recipe again to continue"
    yield f"{contents['path']}: {state}"
    megabytes = contents["bytes"] / 1e6
    yield f"  {contents['tiles_written']} of {contents['tiles']} tiles, {megabytes:.1f} MB on disk"
    nodata = "NaN" if contents["nodata"] is None else f"{contents['nodata']:g}"
    bands = ", ".join(contents["bands"])
    yield f"  {columns} x {rows} pixels, {contents['dtype']}, nodata {nodata}, bands {bands}"
    if contents["zarr_format"] == 3 or contents["levels"]:
        shards = f", chunks of {contents['shard']} in shards" if contents["shard"] else ""
        count = len(contents["levels"])
        many = f", {count} reduced level{'' if count == 1 else 's'}" if count else ""
        yield f"  Zarr format {contents['zarr_format']}{shards}{many}"
    if "level" in contents:
        yield f"  reduced: a pixel is {2 ** contents['level']} pixels of the fused image wide"
    dx, _, left, _, dy, top = contents["transform"]
    crs = contents["crs"] or "no CRS"
    yield f"  {crs}, pixels {abs(dx):g} x {abs(dy):g}, corner {left:.10g}, {top:.10g}"
    for source in contents.get("sources", ()):
        names = " + ".join(file["name"] for file in source["files"])
        names += f", mask {source['mask']['name']}" if "mask" in source else ""
        low, high = source["scaling"]["low"], source["scaling"]["high"]
        yield f"  {source['role']}: {names}, {low:.6g} to {high:.6g} shown to the network as 0 to 1"
    fusion = contents.get("recipe", {}).get("fusion", {})
    weights = contents.get("weights")
    made = f", weights {weights['name']} ({weights['sha256'][:12]}…)" if weights else ""
    yield f"  {fusion.get('method')}, strategy {_strategy(fusion)}{made}, {contents.get('precision')}"


def _strategy(fusion: Mapping[str, Any]) -> str:
    """Its name, with its parameters if it has any: detail (contrast 1.5, salience 0.2)."""
    strategy = fusion.get("strategy")
    if not isinstance(strategy, Mapping):
        return str(strategy)
    ((name, parameters),) = strategy.items()
    return f"{name} ({', '.join(f'{key} {value:g}' for key, value in parameters.items())})"


def _crs_name(wkt: str | None) -> str | None:
    if wkt is None:
        return None
    crs = CRS.from_wkt(wkt)
    authority = crs.to_authority()
    return ":".join(authority) if authority else crs.name
