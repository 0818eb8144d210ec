"""Stores are deleted whole, and never with what somebody else has put inside."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from rasters import photo, write_raster
from stores import scenery, write_store
from volume_stores import anatomy, write_nifti, write_volume_store

import batchfuse
from batchfuse.errors import StoreError
from batchfuse.storage import raster, volume
from batchfuse.storage.pyramid import begun_level, levels_of, write_level
from batchfuse.storage.removal import refuse_foreign, remove_levels, remove_store
from batchfuse.storage.store import Store, is_store

FORMS = {"format 2": {}, "format 3": {"zarr_format": 3}, "shards": {"zarr_format": 3, "inner": 16}}
LITTER = (".DS_Store", "._a.zarr", "Thumbs.db", "desktop.ini", "fused.aux.xml")


def with_levels(path: Path, form: str) -> Store:
    return levelled(write_store(path, scenery("uint8"), tile=64, **FORMS[form]))


def levelled(store: Store) -> Store:
    below = store
    for level in levels_of(store):
        reduced = begun_level(store, level)
        for tile in reduced.tiling:
            write_level(below, reduced, tile)
        reduced.seal()
        below = reduced
    store.seal()
    return store


@pytest.fixture(autouse=True)
def small_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raster, "SMALLEST", 40)
    monkeypatch.setattr(volume, "SMALLEST", 12)


@pytest.mark.parametrize("form", FORMS)
def test_a_store_with_levels_and_litter_goes_whole(tmp_path: Path, form: str) -> None:
    path = with_levels(tmp_path / "a.zarr", form).path
    for folder in (path, *(p for p in path.rglob("*") if p.is_dir())):
        for name in LITTER:
            (folder / name).write_bytes(b"?")
    remove_levels(path)
    remove_store(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [2, 3])
def test_a_volume_goes_whole_and_not_with_a_file_of_others(tmp_path: Path, number: int) -> None:
    reference = write_nifti(tmp_path / "brain.nii", anatomy())
    values = np.ones((20, 26, 31), np.float32)
    path = levelled(write_volume_store(tmp_path / "a.zarr", reference, values, zarr_format=number)).path
    reference.unlink()
    (path / "0/notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"a\.zarr holds 0/notes\.txt, which batchfuse did not write"):
        remove_store(path)
    assert is_store(path)
    (path / "0/notes.txt").unlink()
    remove_store(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", FORMS)
def test_a_store_with_a_file_of_others_stays_whatever_it_is_called(tmp_path: Path, form: str) -> None:
    path = with_levels(tmp_path / "a.zarr", form).path
    names = ("notes.txt", "fused/2024", "fused/2024.11.28", "2024/01/photo", "notes.partial", "x/.hidden")
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("mine")
        before = sorted(path.rglob("*"))
        with pytest.raises(StoreError) as caught:
            remove_store(path)
        line = f"holds {name}, which batchfuse did not write, and is left alone: move it away"
        assert line in str(caught.value)
        assert sorted(path.rglob("*")) == before
        (path / name).unlink()


def test_three_files_of_others_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    path = write_store(tmp_path / "a.zarr", scenery("uint8")).path
    for name in "edcba":
        (path / name).write_text("mine")
    with pytest.raises(StoreError, match=r"holds a, b, c and 2 more, which .* move them away"):
        remove_store(path)
    for name in "edc":
        (path / name).unlink()
    with pytest.raises(StoreError, match=r"holds a and b, which .* move them away"):
        remove_store(path)


def test_an_array_or_a_link_of_others_in_a_store_is_found(tmp_path: Path) -> None:
    path = write_store(tmp_path / "a.zarr", scenery("uint8")).path
    (tmp_path / "photos").mkdir()
    (path / "link").symlink_to(tmp_path / "photos")
    with pytest.raises(StoreError, match="holds link, which"):
        remove_store(path)
    (path / "link").unlink()
    array = zarr.open_group(path, zarr_format=2).create_array("ndvi", shape=(2, 2), dtype="f4")
    array[:] = 1
    with pytest.raises(StoreError, match=r"holds ndvi/\.zarray"):
        remove_store(path)


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_store_goes_by_the_names_of_its_files(tmp_path: Path, form: str) -> None:
    path = with_levels(tmp_path / "a.zarr", form).path
    remove_levels(path)
    array = path / "fused" / (".zarray" if form == "format 2" else "zarr.json")
    array.write_bytes(b"{")
    with pytest.raises(StoreError):
        Store.open(path)
    (path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"holds notes\.txt, which"):
        remove_store(path)
    (path / "notes.txt").unlink()
    remove_store(path)
    assert list(tmp_path.iterdir()) == []


def test_levels_beside_a_store_stay_with_a_file_of_others(tmp_path: Path) -> None:
    store = with_levels(tmp_path / "a.zarr", "format 2")
    for place in ("a.levels.zarr/notes.txt", "a.levels.zarr/1/.notes", "a.levels.zarr/2024"):
        (tmp_path / place).write_text("mine")
        with pytest.raises(StoreError, match=r"a\.levels\.zarr holds .*, which batchfuse did not write"):
            remove_levels(store.path)
        (tmp_path / place).unlink()
    remove_levels(store.path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_a_folder_of_others_in_place_of_levels_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.levels.zarr/1").mkdir(parents=True)
    (tmp_path / "a.levels.zarr/1/thesis.txt").write_text("mine")
    remove_levels(tmp_path / "a.zarr")
    assert (tmp_path / "a.levels.zarr/1/thesis.txt").exists()


def test_what_is_in_a_folder_that_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr/thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"is not a store .* left alone \(it holds thesis\.txt\)"):
        refuse_foreign(tmp_path / "a.zarr")


def test_overwrite_refuses_a_store_with_files_of_others_and_fuses_the_other_scenes(tmp_path: Path) -> None:
    for scene in "ab":
        for role, seed in (("t", 1), ("o", 2)):
            write_raster(tmp_path / f"{scene}_{role}.tif", np.rint(photo((30, 40), seed)[0] * 250))
    recipe = batchfuse.Recipe(inputs={"t": "{scene}_t.tif", "o": "{scene}_o.tif"}, folder=tmp_path)
    assert batchfuse.run(recipe).exit_code == 0
    store = tmp_path / "fused/a.zarr"
    (store / "notes.txt").write_text("precious")
    (tmp_path / "fused/b.zarr/.DS_Store").write_bytes(b"?")
    a, b = batchfuse.run(recipe, overwrite=True).outcomes
    assert (a.status, b.status, b.fused) == ("failed", "complete", 1)
    assert "a.zarr holds notes.txt, which batchfuse did not write" in (a.reason or "")
    assert (store / "notes.txt").read_text() == "precious"
    assert not (tmp_path / "fused/b.zarr/.DS_Store").exists()
    assert [o.status for o in batchfuse.run(recipe).outcomes] == ["kept", "kept"]
    shutil.rmtree(store)
    store.mkdir()
    (store / "thesis.txt").write_text("precious")
    a, _ = batchfuse.run(recipe, overwrite=True).outcomes
    assert (a.status, "it holds thesis.txt" in (a.reason or "")) == ("failed", True)
    assert (store / "thesis.txt").read_text() == "precious"
