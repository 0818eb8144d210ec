"""``batchfuse info``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from batchfuse.cli.options import JSON, echo, echo_json, told

__all__ = ["info"]


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@JSON
@told
def info(path: Path, as_json: bool) -> None:
    """Say what a store holds and how it was made."""
    from batchfuse.storage.contents import described

    contents = described(path)
    if as_json:
        echo_json(contents)
    for line in () if as_json else _lines(contents):
        echo(line)


def _lines(contents: Mapping[str, Any]) -> Iterator[str]:
    """The description for people, line by line."""
    from batchfuse.fusion.parameters import worded

    state = "complete" if contents["complete"] else "not complete: run its recipe again to continue"
    yield f"{contents['path']}: {state}"
    megabytes = contents["bytes"] / 1e6
    yield f"  {contents['tiles_written']} of {contents['tiles']} tiles, {megabytes:.1f} MB on disk"
    nodata = "NaN" if contents["nodata"] is None else f"{contents['nodata']:g}"
    volume = "orientation" in contents
    size = " x ".join(map(str, contents["shape"][::-1]))
    bands = "" if volume else f", bands {', '.join(contents['bands'])}"
    yield f"  {size} {'voxels' if volume else 'pixels'}, {contents['dtype']}, nodata {nodata}{bands}"
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
    strategy = fusion.get("strategy")
    if isinstance(strategy, Mapping):
        ((name, parameters),) = strategy.items()
        strategy = worded(name, parameters)
    weights = contents.get("weights")
    made = f", weights {weights['name']} ({weights['sha256'][:12]}…)" if weights else ""
    yield f"  {fusion.get('method')}, strategy {strategy}{made}, {contents.get('precision')}"


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
