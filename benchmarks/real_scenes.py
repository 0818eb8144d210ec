"""What becomes of real scenes and of nasty files: a table of outcomes.

    python benchmarks/real_scenes.py FOLDER [OUTPUT]

FOLDER holds ``pair_*/`` folders of GeoTIFFs that show one place, and ``nasty/`` with files that go wrong
elsewhere. Each nasty file is fused with an image of some other place, and with a made-up partner on its own
grid. The stores are opened by rasterio, by plain xarray with rioxarray, and by odc-geo, and must give the
reference's CRS, transform, size and nodata.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

import batchfuse

OPTICAL = ("B4", "B3", "B2", "B1", "rgb", "B8")
THERMAL = ("B10", "B6", "ST_B10", "nir")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", nargs="?", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder.resolve()
        output = (arguments.output or Path(scratch)).resolve()
        for name, inputs in [*pairs(folder), *nasty(folder, output)]:
            print(f"| {name} | {outcome(name, inputs, output)} |", flush=True)


def pairs(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each pair folder as the inputs of a recipe: its thermal band, and its optical ones."""
    for place in sorted(folder.glob("pair_*")):
        files = sorted(file for file in place.iterdir() if "QA" not in file.name)
        thermal = [f for f in files if any(word in f.name for word in THERMAL)]
        others = [f for f in files if f not in thermal]
        optical = sorted(others, reverse=True)  # B4, B3, B2: red, green, blue
        if len(optical) == 2:
            optical = [f for f in optical if "B8" in f.name] or optical[:1]
        yield place.name, {"thermal": str(thermal[0]), "optical": [str(f) for f in optical]}


def nasty(folder: Path, output: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each nasty file with an image of another place, and with a partner on its own grid."""
    elsewhere = next(folder.glob("pair_landsat5*/*B3.TIF"))
    for file in sorted((folder / "nasty").glob("*.tif")):
        yield f"{file.name}, elsewhere", {"thermal": str(file), "optical": str(elsewhere)}
        partner = output / "partners" / file.name
        try:
            made = make_partner(file, partner)
        except rasterio.errors.RasterioError:
            made = False
        if made:
            yield f"{file.name}, own grid", {"thermal": str(file), "optical": str(partner)}


def make_partner(file: Path, partner: Path) -> bool:
    """Random texture on the grid of ``file``; False where it has no grid to be on."""
    with rasterio.open(file) as dataset:
        if dataset.transform.is_identity and not dataset.crs and (dataset.gcps[0] or dataset.rpcs):
            return False
        profile = {
            "driver": "GTiff",
            "count": 1,
            "dtype": "float32",
            "width": dataset.width,
            "height": dataset.height,
            "crs": dataset.crs,
            "transform": dataset.transform,
        }
    partner.parent.mkdir(parents=True, exist_ok=True)
    texture = np.random.default_rng(0).random((profile["height"], profile["width"]), np.float32)
    with rasterio.open(partner, "w", **profile) as dataset:
        dataset.write(texture, 1)
    return True


def outcome(name: str, inputs: dict[str, Any], output: Path) -> str:
    """Fuses one scene; the one line of what became of it."""
    folder = output / name.replace(" ", "_").replace(",", "")
    made = {"inputs": inputs, "output": {"path": str(folder)}, "folder": output}
    recipe = batchfuse.Recipe.model_validate(made)
    try:
        report = batchfuse.run(recipe, overwrite=True)
    except batchfuse.BatchfuseError as error:
        return f"refused: {error}"
    scene = report.outcomes[0]
    if scene.status != "complete":
        return f"{scene.status}: {scene.reason}"
    opened = opened_alike(Path(str(scene.store)))
    notes = [*scene.differences, *(f"warning: {w}" for w in scene.warnings)]
    return f"fused; {opened}" + "".join(f"; {note}" for note in notes)


def opened_alike(store: Path) -> str:
    """Opens a store with three readers; names what differs between them and the grid it was made on."""
    import odc.geo.xr
    import rioxarray
    import xarray

    assert odc.geo.xr
    assert rioxarray
    from batchfuse.geometry.grid import Grid
    from batchfuse.storage.store import Store

    grid = Store.open(store).grid
    assert isinstance(grid, Grid)
    with rasterio.open(store) as dataset, xarray.open_zarr(store) as plain:
        box = plain.odc.geobox
        facts = {
            "rasterio": (dataset.transform, dataset.crs, dataset.shape),
            "rioxarray": (plain.fused.rio.transform(), plain.fused.rio.crs, plain.fused.shape[1:]),
            "odc-geo": (
                box.affine,
                box.crs and rasterio.crs.CRS.from_wkt(str(box.crs.wkt)),
                tuple(box.shape),
            ),
        }
        wrong = [
            f"{reader} {what}"
            for reader, (affine, crs, shape) in facts.items()
            for what, same in (
                ("transform", affine.almost_equals(grid.affine, precision=1e-6)),
                ("CRS", crs == (rasterio.crs.CRS.from_wkt(grid.crs) if grid.crs else None)),
                ("size", tuple(shape) == grid.shape),
            )
            if not same
        ]
        pixels = dataset.read()
        missing = np.isnan(pixels).all(0).mean()
        if not np.isnan(dataset.nodata):
            wrong.append("nodata")
    state = "differs: " + ", ".join(wrong) if wrong else "three readers agree"
    return f"{grid.shape[1]}x{grid.shape[0]}x{len(pixels)}, {missing:.0%} nodata, {state}"


if __name__ == "__main__":
    main()
