"""Every key of a recipe, changed between a run and the one that goes on: refused by name, or harmless."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasters import write_raster

import batchfuse
from batchfuse.changes import changes
from batchfuse.plan import make_plan
from batchfuse.recipe import HARMLESS, Recipe, differences

Settings = dict[str, Any]


def keys() -> set[str]:
    """Every key of the schema that has a value of its own, as the docs' tables have them."""
    path = Path(batchfuse.__file__).parents[1] / "docs/generate.py"
    spec = importlib.util.spec_from_file_location("generate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    every = module.recipe_keys()
    return {key for key in every if key in HARMLESS or not module._is_section(key, every)}


def source(**settings: Any) -> Settings:
    return {"inputs": {"thermal": {"path": "{scene}_t.tif", **settings}, "optical": "{scene}_o.tif"}}


def masked(**rule: Any) -> Settings:
    return source(mask={"path": "{scene}_m.tif", **rule})


GRID = {"crs": "EPSG:32632", "resolution": 10}
REFUSED: dict[str, tuple[Settings, Settings]] = {
    "inputs.<role>.bands": (source(), source(bands=[1])),
    "inputs.<role>.range": (source(range=[0, 9]), source(range=[0, 10])),
    "inputs.<role>.percentiles": (source(), source(percentiles=[1, 99])),
    "inputs.<role>.scale": (source(), source(scale=2)),
    "inputs.<role>.offset": (source(), source(offset=1)),
    "inputs.<role>.nodata": (source(), source(nodata=3)),
    "inputs.<role>.mask.reject_bits": (masked(reject_bits=[1]), masked(reject_bits=[2])),
    "inputs.<role>.mask.reject_values": (masked(reject_values=[1]), masked(reject_values=[2])),
    "inputs.<role>.mask.accept_values": (masked(accept_values=[1]), masked(accept_values=[2])),
    "inputs.<role>.crs": (source(), source(crs="EPSG:25832")),
    "inputs.<role>.volume": (source(), source(volume=1)),
    "inputs.<role>.labels": (source(), source(labels=True)),
    "reference": ({"reference": "thermal"}, {"reference": "optical"}),
    "grid.resampling": ({}, {"grid": {"resampling": "cubic"}}),
    "grid.extent": ({}, {"grid": {"extent": "union"}}),
    "grid.mismatch": ({}, {"grid": {"mismatch": "error"}}),
    "grid.crs": ({}, {"grid": {"crs": "EPSG:25832"}}),
    "grid.resolution": ({"grid": GRID}, {"grid": {**GRID, "resolution": 20}}),
    "grid.bounds": ({}, {"grid": {"bounds": [500_000, 5_599_800, 500_100, 5_600_000]}}),
    "validity": ({}, {"validity": "all"}),
    "scaling": ({}, {"scaling": "campaign"}),
    "fusion.method": ({}, {}),  # below: there is one method only
    "fusion.weights": ({}, {}),  # below: a checksum
    "fusion.strategy": ({}, {"fusion": {"strategy": "mean"}}),
    "fusion.color": ({}, {"fusion": {"color": "bands"}}),
    "fusion.plane": ({}, {"fusion": {"plane": "coronal"}}),
    "tiles.size": ({}, {"tiles": {"size": 512}}),
    "output.dtype": ({}, {"output": {"dtype": "float16"}}),
    "output.units": ({}, {"output": {"units": "unit"}}),
    "output.zarr_format": ({}, {"output": {"zarr_format": 3}}),
    "output.shard": (
        {"output": {"zarr_format": 3}},
        {"output": {"zarr_format": 3, "shard": 256}},
    ),
}
KEPT: dict[str, tuple[Settings, Settings]] = {
    "inputs.<role>.path": (source(), source(path="other/{scene}_t.tif")),
    "inputs.<role>.mask.path": (masked(reject_bits=[1]), source(mask={"path": "m.tif", "reject_bits": [1]})),
    "manifest": (
        {"manifest": "a.csv", "inputs": {"thermal": {}, "optical": {}}},
        {"manifest": "b.csv", "inputs": {"thermal": {}, "optical": {}}},
    ),
    "output.path": ({}, {"output": {"path": "other"}}),
    "output.pyramid": ({}, {"output": {"pyramid": True}}),
    "output.also": ({}, {"output": {"also": ["cog"]}}),
    "output.also[].to": ({"output": {"also": ["cog"]}}, {"output": {"also": ["png"]}}),
    "output.also[].dtype": ({}, {"output": {"also": [{"to": "cog", "dtype": "uint8"}]}}),
    "output.also[].stretch": ({}, {"output": {"also": [{"to": "cog", "stretch": "minmax"}]}}),
    "output.also[].keep_text": ({}, {"output": {"also": [{"to": "nifti", "keep_text": True}]}}),
    "on_error": ({}, {"on_error": "fail"}),
}


def identity(settings: Settings) -> Settings:
    return Recipe.model_validate({**source(), **settings}).identity()


def test_every_key_is_refused_or_harmless_for_a_reason() -> None:
    assert keys() == REFUSED.keys() | HARMLESS.keys()
    assert not REFUSED.keys() & HARMLESS.keys()
    assert KEPT.keys() == HARMLESS.keys()
    assert all(HARMLESS.values())


@pytest.mark.parametrize("key", [key for key, (one, other) in REFUSED.items() if one != other])
def test_a_key_that_decides_pixels_is_told_when_it_changes(key: str) -> None:
    one, other = REFUSED[key]
    told = differences(identity(one), identity(other))
    assert any(line.startswith(key.replace("<role>", "thermal")) for line in told), told


@pytest.mark.parametrize("key", KEPT)
def test_a_harmless_key_changes_nothing_that_a_store_is_known_by(key: str) -> None:
    one, other = KEPT[key]
    assert one != other
    assert not differences(identity(one), identity(other))


def test_reference_method_and_weights_are_told_by_what_they_came_to(tmp_path: Path) -> None:
    for role in "ot":
        write_raster(tmp_path / f"a_{role}.tif", np.full((20, 20), 9, np.uint8))
    made = {**source(), "folder": tmp_path}

    def record(**settings: Any) -> Settings:
        return {
            **make_plan(Recipe.model_validate({**made, **settings})).jobs[0].record,
            "precision": "float32",
        }

    before = record(reference="optical")
    assert not changes(before, record(reference="optical"))
    assert not changes(before, record())  # it comes to the same
    assert changes(before, record(reference="thermal"))[0].startswith("reference: optical in the store")
    other = {**before, "weights": {"name": "mine", "sha256": "0" * 64}}
    assert changes(other, before)[0].startswith("weights: mine (000000000000…) in the store")
    method = {**before["identity"], "fusion": {**before["identity"]["fusion"], "method": "mine"}}
    assert changes({**before, "identity": method}, before)[0].startswith("fusion.method: mine in the store")
