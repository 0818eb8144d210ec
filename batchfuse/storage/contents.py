"""What a store holds and how it was made, for ``batchfuse info``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pyproj import CRS

from batchfuse.geometry.grid import Grid
from batchfuse.storage.pyramid import levels_of
from batchfuse.storage.store import Store, VolumeLayout, is_store

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


def lines(contents: Mapping[str, Any]) -> Iterator[str]:
    """The description for people, line by line."""
    state = "complete" if contents["complete"] else "not complete: run its recipe again to continue"
    yield f"{contents['path']}: {state}"
    megabytes = contents["bytes"] / 1e6
    yield f"  {contents['tiles_written']} of {contents['tiles']} tiles, {megabytes:.1f} MB on disk"
    nodata = "NaN" if contents["nodata"] is None else f"{contents['nodata']:g}"
    volume = "orientation" in contents
    size = " x ".join(map(str, contents["shape"][::-1]))
    what = "voxels" if volume else "pixels"
    bands = "" if volume else f", bands {', '.join(contents['bands'])}"
    yield f"  {size} {what}, {contents['dtype']}, nodata {nodata}{bands}"
    if contents["zarr_format"] == 3 or contents["levels"]:
        shards = f", chunks of {contents['shard']} in shards" if contents["shard"] else ""
        count = len(contents["levels"])
        many = f", {count} reduced level{'' if count == 1 else 's'}" if count else ""
        name = f"OME-Zarr {'0.5' if contents['zarr_format'] == 3 else '0.4'}, " if volume else ""
        yield f"  {name}Zarr format {contents['zarr_format']}{shards}{many}"
    if "level" in contents:
        times = 2 ** contents["level"]
        one, whole = "pixel is", "pixels of the fused image"
        if volume:
            one, whole = "voxel is at most", "voxels of the fused volume"
        yield f"  reduced: a {one} {times} {whole} wide"
    yield from _volume_lines(contents) if volume else _raster_lines(contents)
    for source in contents.get("sources", ()):
        names = " + ".join(file["name"] for file in source["files"])
        names += f", mask {source['mask']['name']}" if "mask" in source else ""
        low, high = source["scaling"]["low"], source["scaling"]["high"]
        yield f"  {source['role']}: {names}, {low:.6g} to {high:.6g} shown to the network as 0 to 1"
    fusion = contents.get("recipe", {}).get("fusion", {})
    weights = contents.get("weights")
    made = f", weights {weights['name']} ({weights['sha256'][:12]}…)" if weights else ""
    yield f"  {fusion.get('method')}, strategy {_strategy(fusion)}{made}, {contents.get('precision')}"


def _raster_lines(contents: Mapping[str, Any]) -> Iterator[str]:
    dx, _, left, _, dy, top = contents["transform"]
    crs = contents["crs"] or "no CRS"
    yield f"  {crs}, pixels {abs(dx):g} x {abs(dy):g}, corner {left:.10g}, {top:.10g}"


def _volume_lines(contents: Mapping[str, Any]) -> Iterator[str]:
    spacing = " x ".join(f"{n:g}" for n in contents["spacing"][::-1])
    first = ", ".join(f"{row[3]:g}" for row in contents["affine"])
    yield f"  {contents['orientation']}, voxels {spacing} mm, the first at {first}"
    header = contents["nifti"]
    if header and header["extensions"]:
        codes = ", ".join(map(str, header["extensions"]))
        yield f"  its NIfTI header has the reference's extensions (codes {codes}), which may name the patient"


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
