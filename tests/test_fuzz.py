"""Damaged files by the hundred, in readers of their own; benchmarks/fuzz.py does it by the thousand."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasters import photo, write_raster
from volumes import write_nifti

import batchfuse

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import fuzz


@pytest.mark.parametrize("kind", ["geotiffs", "photographs", "volumes"])
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    made = getattr(fuzz, kind)(tmp_path)
    read = fuzz.read_nifti if kind == "volumes" else fuzz.read_raster
    found = fuzz.read_all(read, made, range(200 if kind != "photographs" else 80), seed=1)
    assert found.bugs == []
    assert min(found.outcomes["read"], found.outcomes["refused"]) > 10


def test_the_pool_tells_what_a_reader_may_not_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the test above would say nothing."""
    monkeypatch.setattr(fuzz, "PATIENCE", 1.0)
    made = fuzz.volumes(tmp_path)
    for wrong, kind in (
        ("os.kill(os.getpid(), 9)", "crash"),
        ("time.sleep(9)", "hang"),
        ("1 / 0", "traceback"),
    ):

        def read(_: Path, wrong: str = wrong) -> None:
            exec(f"import os, time\n{wrong}")

        found = fuzz.read_all(read, made, range(2), seed=1)
        assert found.outcomes == {kind: 2}
        assert len(found.bugs) == 2


def test_a_damaged_recipe_is_a_recipe_or_a_refusal(tmp_path: Path) -> None:
    found = fuzz.read_recipes(range(300), seed=1, folder=tmp_path)
    assert found.bugs == []
    assert found.outcomes["read"] > 5


@cache
def undisturbed(kind: str, base: Path) -> tuple[Path, list[str], dict[str, bytes]]:
    """A folder with one complete scene, the chunks of its store's tiles, and all its bytes."""
    folder = base / f"resume_{kind}"
    folder.mkdir()
    for seed, role in enumerate("ab"):
        if kind == "raster":
            write_raster(folder / f"s_{role}.tif", (photo((70, 90), seed)[0] * 200).astype(np.uint8))
        else:
            voxels = np.random.default_rng(seed).random((20, 18, 9)) * 200
            write_nifti(folder / f"s_{role}.nii", voxels.astype(np.uint8))
    assert batchfuse.run(recipe_of(folder, kind)).exit_code == 0
    before = contents(folder / "fused/s.zarr")
    chunks = [name for name in before if name.startswith(("fused/0", "0/c/"))]
    return folder, sorted(chunks), before


def recipe_of(folder: Path, kind: str) -> Any:
    ending = "tif" if kind == "raster" else "nii"
    return batchfuse.Recipe(
        inputs={role: f"{{scene}}_{role}.{ending}" for role in "ab"},
        folder=folder,
        tiles={"size": 32 if kind == "raster" else 16},
        output={"pyramid": False},
    )


def contents(store: Path) -> dict[str, bytes]:
    return {str(p.relative_to(store)): p.read_bytes() for p in sorted(store.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("kind", ["raster", "volume"])
@settings(max_examples=10, deadline=None)
@given(st.data())
def test_whatever_tiles_are_missing_the_store_becomes_the_same(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    folder, chunks, before = undisturbed(kind, tmp_path_factory.getbasetemp())
    assert len(chunks) >= 4
    missing: Sequence[str] = data.draw(st.lists(st.sampled_from(chunks), unique=True))
    for name in missing:
        (folder / "fused/s.zarr" / name).unlink()
    report = batchfuse.run(recipe_of(folder, kind))
    assert report.exit_code == 0
    assert contents(folder / "fused/s.zarr") == before


@cache
def undisturbed_levels(base: Path) -> tuple[Path, list[str], dict[str, bytes]]:
    """A folder with one complete scene, the chunks of its store and of the levels' images, and all bytes."""
    folder = base / "resume_levels"
    folder.mkdir()
    for seed, role in enumerate("ab"):
        write_raster(folder / f"s_{role}.tif", (photo((200, 296), seed)[0] * 200).astype(np.uint8))
    assert batchfuse.run(recipe_with_levels(folder)).exit_code == 0
    before = of_stores(folder)
    chunks = [
        name for name in before if name.startswith("s.zarr/") or name.startswith("s.levels.zarr/1/fused/")
    ]
    chunks = [name for name in chunks if not Path(name).name.startswith(".z")]
    return folder, sorted(chunks), before


def of_stores(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(folder / "fused").items() if ".zarr/" in name}


def recipe_with_levels(folder: Path) -> Any:
    inputs = {role: f"{{scene}}_{role}.tif" for role in "ab"}
    tiles, output = {"size": 128}, {"pyramid": True}
    return batchfuse.Recipe(inputs=inputs, folder=folder, tiles=tiles, output=output)


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_whatever_chunks_of_any_level_are_missing_the_stores_become_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder, chunks, before = undisturbed_levels(tmp_path_factory.getbasetemp())
    assert {name.split("/")[0] for name in chunks} == {"s.zarr", "s.levels.zarr"}
    missing: Sequence[str] = data.draw(st.lists(st.sampled_from(chunks), unique=True))
    for name in missing:
        (folder / "fused" / name).unlink()
    assert batchfuse.run(recipe_with_levels(folder)).exit_code == 0
    assert of_stores(folder) == before
