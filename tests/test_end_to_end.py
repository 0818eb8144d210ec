"""Whole runs from recipe to store, on scenes the tests make, opened by the tools people use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import odc.geo.xr  # noqa: F401  (adds the accessor)
import pytest
import rasterio
import rioxarray  # noqa: F401  (adds the accessor)
import torch
import xarray as xr
from affine import Affine
from rasters import photo, write_raster

import batchfuse
from batchfuse.fusion.strategies import fused_features
from batchfuse.fusion.weights import load_weights

# rioxarray and odc-geo still multiply affines with *
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")

NORTH_UP = Affine(10, 0, 500_000, 0, -10, 5_600_000)


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A colour image at 10 m and a coarser thermal one of the same place, in the neighbouring zone."""
    rgb = np.rint(photo((150, 170), 1, bands=3) * 9000 + 500).astype(np.uint16)
    rgb[:, :20, :30] = 0
    write_raster(tmp_path / "a_optical.tif", rgb, nodata=0, transform=NORTH_UP, photometric="RGB")
    thermal = (photo((80, 90), 2)[0] * 30 + 280).astype(np.float32)
    thermal[40:50, 40:60] = np.nan
    write_raster(
        tmp_path / "a_thermal.tif", thermal, transform=NORTH_UP @ Affine.scale(3) @ Affine.translation(-3, -4)
    )
    return tmp_path


def recipe_of(folder: Path, **settings: Any) -> batchfuse.Recipe:
    inputs = {"thermal": "{scene}_thermal.tif", "optical": "{scene}_optical.tif"}
    return batchfuse.Recipe(inputs=inputs, folder=folder, **settings)


def fused(folder: Path, **settings: Any) -> np.ndarray:
    report = batchfuse.run(recipe_of(folder, **settings))
    assert report.exit_code == 0, report.outcomes
    with rasterio.open(folder / settings.get("output", {}).get("path", "fused") / "a.zarr") as dataset:
        return np.asarray(dataset.read())


def test_a_pair_becomes_one_store_with_the_references_place_colour_and_range(pair: Path) -> None:
    report = batchfuse.run(recipe_of(pair))
    assert [o.status for o in report.outcomes] == ["complete"]
    store = pair / "fused" / "a.zarr"
    with rasterio.open(pair / "a_optical.tif") as wanted, rasterio.open(store) as found:
        assert found.crs == wanted.crs
        assert found.transform.almost_equals(wanted.transform)
        assert (found.shape, found.count) == (wanted.shape, 3)
        assert np.isnan(found.nodata)
        optical, image = wanted.read(), found.read()
    plain = xr.open_zarr(store)
    assert plain.fused.rio.crs.to_epsg() == 32632
    assert plain.rio.transform().almost_equals(NORTH_UP)
    assert plain.odc.geobox.affine.almost_equals(NORTH_UP)
    assert np.isfinite(image).all()  # where the optical has no data the thermal has
    # luminance is fused, the differences between the bands are the reference's own
    valid = (optical > 0).all(0)
    assert np.allclose(
        (image[0] - image[1])[valid], (optical[0].astype(float) - optical[1])[valid], atol=0.05
    )
    assert (pair / "fused" / "a.quicklook.png").exists()
    written = json.loads((pair / "fused" / "report.json").read_text())
    assert written["scenes"][0]["status"] == "complete"


@pytest.mark.parametrize("strategy", ["l1", "mean", "average"])
def test_tiles_of_any_size_give_the_image_of_one_tile(pair: Path, strategy: str) -> None:
    def unit(size: int) -> np.ndarray:
        output = {"units": "unit", "path": f"{strategy}{size}"}
        return fused(pair, output=output, tiles={"size": size}, fusion={"strategy": strategy})

    whole = unit(1024)
    for size in (17, 64, 131):
        assert np.nanmax(np.abs(unit(size) - whole)) <= 1e-6


def test_the_store_holds_what_the_plain_network_makes_of_the_plain_arrays(tmp_path: Path) -> None:
    """No tiles, no windows, no alignment: the network as the paper has it, over two whole uint8 images."""
    a, b = (np.rint(photo((90, 110), seed) * 255).astype(np.uint8) for seed in (3, 4))
    write_raster(tmp_path / "a_thermal.tif", a[0])
    write_raster(tmp_path / "a_optical.tif", b[0])
    image = fused(tmp_path, tiles={"size": 32}, output={"units": "unit"})
    network = load_weights("res2netfuse").network()
    with torch.inference_mode():
        sources = torch.from_numpy(np.stack([a, b]).astype(np.float32) / 255)
        features = network.encode(sources)
        plain = network.decode(fused_features("l1", [features[:1], features[1:]], None))[0, 0].numpy()
    # the packed layers of a CPU round otherwise than the plain ones
    assert np.abs(image[0] - plain).max() <= 2e-6


def test_all_keeps_only_what_every_source_has(pair: Path) -> None:
    image = fused(pair, validity="all")
    with rasterio.open(pair / "a_optical.tif") as dataset:
        nodata = dataset.read(1) == 0
    assert np.isnan(image[:, nodata]).all()
    assert 0 < np.isnan(image[0, ~nodata]).mean() < 0.2


@pytest.mark.parametrize("dtype", ["float16", "uint8", "uint16", "int16"])
def test_every_type_comes_back_within_its_own_precision(pair: Path, dtype: str) -> None:
    exact = fused(pair, validity="all", output={"path": "exact"})
    image = fused(pair, validity="all", output={"dtype": dtype, "path": dtype})
    with rasterio.open(pair / dtype / "a.zarr") as dataset:
        # GDAL 3.10 widens float16 as it reads
        assert dataset.dtypes[0] == ("float32" if dtype == "float16" else dtype)
        nodata = dataset.nodata
    missing = np.isnan(image) if np.isnan(nodata) else image == nodata
    assert (missing == np.isnan(exact)).all()
    if dtype in ("uint16", "int16"):
        assert (
            np.abs(
                image[~missing] - np.clip(exact[~missing], *((1, 65535) if dtype == "uint16" else (0, 32767)))
            ).max()
            <= 1
        )


def test_three_sources_fuse_whatever_their_order(pair: Path) -> None:
    third = np.rint(photo((150, 170), 5)[0] * 200).astype(np.uint8)
    write_raster(pair / "a_radar.tif", third, transform=NORTH_UP)
    roles = {"thermal": "{scene}_thermal.tif", "optical": "{scene}_optical.tif", "radar": "{scene}_radar.tif"}
    images = []
    for order in (("thermal", "optical", "radar"), ("radar", "thermal", "optical")):
        recipe = batchfuse.Recipe(
            inputs={role: roles[role] for role in order},
            reference="optical",
            output={"path": order[0], "units": "unit"},
            folder=pair,
        )
        assert batchfuse.run(recipe).exit_code == 0
        with rasterio.open(pair / order[0] / "a.zarr") as dataset:
            images.append(dataset.read())
    assert np.nanmax(np.abs(images[0] - images[1])) <= 1e-6


def test_a_south_up_source_gives_the_image_of_the_north_up_one(pair: Path) -> None:
    north = fused(pair, output={"path": "north"})
    with rasterio.open(pair / "a_thermal.tif") as dataset:
        pixels, transform = dataset.read(), dataset.transform
    flipped = transform @ Affine.translation(0, 80) @ Affine.scale(1, -1)
    write_raster(pair / "a_thermal.tif", pixels[:, ::-1], transform=flipped)
    south = fused(pair, output={"path": "south"})
    assert np.nanmax(np.abs(north - south)) <= 1e-3  # of a range of 9000


def test_two_runs_give_the_same_bytes(pair: Path) -> None:
    trees = []
    for path in ("one", "two"):
        fused(pair, output={"path": path}, tiles={"size": 64}, fusion={"strategy": "mean"})
        root = pair / path / "a.zarr"
        trees.append({f.relative_to(root): f.read_bytes() for f in root.rglob("*") if f.is_file()})
    record = Path(".zattrs"), Path(".zmetadata")
    assert trees[0].keys() == trees[1].keys()
    digests = [json.loads(tree.pop(Path("fused/digests.json")))["files"] for tree in trees]
    assert {name for name in digests[0] if digests[0][name] != digests[1][name]} <= {*map(str, record)}
    for name, content in trees[0].items():
        if name in record:  # they name the output folder, as the recipe wrote it
            content = content.replace(b'"one"', b'"two"')
        assert content == trees[1][name], name
