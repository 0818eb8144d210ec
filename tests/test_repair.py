"""What `verify` finds wrong with a store, the next run repairs: exactly that, to the same bytes."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rasters import photo
from test_engine import make_pair, recipe_of, tree
from volumes import write_nifti

import batchfuse
from batchfuse.cli import commands
from batchfuse.report.report import Outcome
from batchfuse.storage.repair import has_noted_faults, noted_path
from batchfuse.storage.store import Store

FORMS: dict[str, dict[str, Any]] = {
    "format 2": {"pyramid": True},
    "format 3": {"zarr_format": 3, "pyramid": True},
    "shards": {"zarr_format": 3, "shard": 16, "also": ["png"]},
    "volume": {"also": ["nifti"]},
    "volume of format 2": {"zarr_format": 2},
}
each = pytest.mark.parametrize("form", FORMS)


def settings_of(form: str) -> dict[str, Any]:
    return {"tiles": {"size": 48}, "output": FORMS[form]}


def recipe(folder: Path, form: str) -> batchfuse.Recipe:
    if not form.startswith("volume"):
        return recipe_of(folder, **settings_of(form))
    inputs = {"mri": "{scene}_mri.nii.gz", "pet": "{scene}_pet.nii.gz"}
    return batchfuse.Recipe(inputs=inputs, folder=folder, **settings_of(form))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder with a fused scene of each form, made once."""
    found: dict[str, Path] = {}

    def make(form: str) -> Path:
        if form not in found:
            folder = tmp_path_factory.mktemp("scene")
            if form.startswith("volume"):
                for role, seed in (("mri", 1), ("pet", 2)):
                    voxels = photo((140, 36 * 6), seed)[0].reshape(140, 36, 6)
                    write_nifti(folder / f"a_{role}.nii.gz", (900 * voxels).astype("int16"))
            else:
                make_pair(folder, "a", (290, 300) if FORMS[form].get("pyramid") else (130, 140))
            assert batchfuse.run(recipe(folder, form)).exit_code == 0
            found[form] = folder
        return found[form]

    return make


@pytest.fixture
def scene(made: Callable[[str], Path], form: str, tmp_path: Path) -> Path:
    """A copy of it for one test; times of change come along."""
    return Path(shutil.copytree(made(form), tmp_path / "scene"))


def verified(folder: Path) -> tuple[int, str]:
    done = CliRunner().invoke(commands, ["verify", str(folder / "fused")])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done.exit_code, done.output


def run(folder: Path, form: str) -> Outcome:
    (outcome,) = batchfuse.run(recipe(folder, form)).outcomes
    return outcome


def stamps(folder: Path) -> dict[str, int]:
    return {
        str(p.relative_to(folder)): p.stat().st_mtime_ns for p in sorted(folder.rglob("*")) if p.is_file()
    }


def stored(folder: Path) -> dict[str, bytes]:
    """Every file below the output folder but the report and the pictures."""
    kept = (".json", ".png", ".gz")
    return {
        name: content
        for name, content in tree(folder / "fused").items()
        if "/" in name or not name.endswith(kept)
    }


def chunks_of(folder: Path) -> list[Path]:
    store = Store.open(folder / "fused/a.zarr")
    return [store.chunk_path(tile.index) for tile in store.tiling]


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    bit = rng.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


@each
def test_the_next_run_repairs_what_verify_has_found_and_nothing_else(scene: Path, form: str) -> None:
    wanted, before = stored(scene), stamps(scene / "fused")
    first, second, *more = chunks_of(scene)
    first.write_bytes(first.read_bytes()[:-5])
    content = bytearray(second.read_bytes())
    content[-9] ^= 4
    second.write_bytes(content)
    wrong = {first, second}
    if more:
        more[0].unlink()
        wrong.add(more[0])
    code, lines = verified(scene)
    assert code == 1
    assert lines.count("run its recipe again") == len(wrong)
    assert has_noted_faults(scene / "fused/a.zarr")
    outcome = run(scene, form)
    assert (outcome.status, outcome.fused) == ("complete", len(wrong))
    assert len(outcome.repaired) == len(wrong)
    assert stored(scene) == wanted
    assert verified(scene)[0] == 0
    assert not has_noted_faults(scene / "fused/a.zarr")
    after, names = stamps(scene / "fused"), {str(p.relative_to(scene / "fused")) for p in wrong}
    changed = {name for name in before if before[name] != after[name]}
    chunks = {str(p.relative_to(scene / "fused")) for p in chunks_of(scene)}
    assert changed & chunks == names
    assert run(scene, form).status == "kept"


@each
def test_a_file_beside_the_chunks_that_is_gone_is_noticed_without_verify(scene: Path, form: str) -> None:
    wanted = stored(scene)
    store = Store.open(scene / "fused/a.zarr")
    needed = [p for p in store.files_beside_chunks() if p.name not in ("zarr.json", ".zattrs")]
    for path in [*needed, *(p for p in store.files_beside_chunks() if p.parent != store.path)]:
        path.unlink(missing_ok=True)
        outcome = run(scene, form)
        assert (outcome.status, outcome.fused) == ("complete", 0), outcome.reason
        assert stored(scene) == wanted, path


@each
def test_damaged_metadata_is_written_anew(scene: Path, form: str) -> None:
    wanted = stored(scene)
    store = Store.open(scene / "fused/a.zarr")
    for path in store.files_beside_chunks():
        if path == store.path / "zarr.json":  # of format 3 it alone says what made the store
            continue
        path.write_bytes(path.read_bytes()[:-7])
        assert verified(scene)[0] == 1
        outcome = run(scene, form)
        assert outcome.status == "complete", (path, outcome.reason)
        assert stored(scene) == wanted, path
        assert verified(scene)[0] == 0


@pytest.mark.parametrize("form", ["format 2", "format 3"])
def test_a_store_whose_record_is_lost_is_left_with_one_line(scene: Path, form: str) -> None:
    store = scene / "fused/a.zarr"
    for name in (".zattrs", ".zmetadata", "zarr.json"):
        if (store / name).exists():
            (store / name).write_bytes(b"{")
    before = stored(scene)
    outcome = run(scene, form)
    assert outcome.status == "failed"
    assert "damaged" in (outcome.reason or "")
    assert "\n" not in (outcome.reason or "")
    assert stored(scene) == before


@pytest.mark.parametrize("form", ["format 2", "format 3", "volume"])
def test_a_damaged_level_is_made_again_without_fusing(scene: Path, form: str) -> None:
    wanted = stored(scene)
    fused = scene / "fused"
    places = (fused / "a.levels.zarr/1", fused / "a.zarr/ovr_2x", fused / "a.zarr/1")
    level = next(path for path in places if path.exists())
    opened = Store.open(level)
    tile = opened.chunk_path(next(iter(opened.tiling)).index)
    root = next(p for p in (level / "zarr.json", level / ".zattrs") if p.exists())
    for path in (tile, root):
        path.write_bytes(path.read_bytes()[:-3])
        assert verified(scene)[0] == 1
        outcome = run(scene, form)
        assert (outcome.status, outcome.fused) == ("complete", 0), outcome.reason
        assert outcome.repaired
        assert stored(scene) == wanted
        assert verified(scene)[0] == 0


@pytest.mark.parametrize("form", ["format 2", "shards", "volume"])
def test_a_stray_chunk_goes_and_somebody_elses_file_stays(scene: Path, form: str) -> None:
    wanted = stored(scene)
    chunk = chunks_of(scene)[-1]
    stray = chunk.with_name(chunk.name.replace(chunk.name.rpartition(".")[2], "97"))
    mine = scene / "fused/a.zarr/notes.txt"
    for path in (stray, mine, chunk.with_name(f"{chunk.name}.0f.partial")):
        path.write_bytes(b"?")
    code, lines = verified(scene)
    assert (code, lines.count("foreign: ")) == (1, 3)
    outcome = run(scene, form)
    assert (outcome.status, outcome.fused) == ("complete", 0)
    assert any("notes.txt is not a file of the store" in line for line in outcome.warnings)
    assert mine.read_bytes() == b"?"
    mine.unlink()
    assert stored(scene) == wanted


@pytest.mark.parametrize("form", ["shards"])
def test_exports_and_the_quicklook_of_a_repaired_image_are_made_anew(scene: Path, form: str) -> None:
    pictures = [scene / "fused/a.png", scene / "fused/a.quicklook.png"]
    before = [path.read_bytes() for path in pictures]
    for path in pictures:
        os.utime(path, (1, 1))
    chunks_of(scene)[0].write_bytes(b"no chunk")
    assert verified(scene)[0] == 1
    run(scene, form)
    assert all(path.stat().st_mtime > 1 for path in pictures)
    assert [path.read_bytes() for path in pictures] == before


@pytest.mark.parametrize("form", ["format 2"])
def test_a_note_that_is_not_true_costs_a_reading_and_changes_no_byte(scene: Path, form: str) -> None:
    wanted = stored(scene)
    noted_path(scene / "fused/a.zarr").write_text("../../etc/passwd")
    outcome = run(scene, form)
    assert (outcome.fused, outcome.repaired) == (0, ())
    assert stored(scene) == wanted
    assert not noted_path(scene / "fused/a.zarr").exists()


@pytest.mark.parametrize("form", ["format 2"])
def test_what_another_recipe_made_is_refused_before_it_is_repaired(scene: Path, form: str) -> None:
    chunks_of(scene)[0].write_bytes(b"no chunk")
    assert verified(scene)[0] == 1
    before = stored(scene)
    other = recipe_of(scene, tiles={"size": 48}, output=FORMS[form], fusion={"strategy": "mean"})
    (outcome,) = batchfuse.run(other).outcomes
    assert "was made otherwise" in (outcome.reason or "")
    assert stored(scene) == before


@pytest.mark.parametrize("form", ["format 2"])
def test_status_and_the_report_tell_of_it(scene: Path, form: str) -> None:
    chunks_of(scene)[0].write_bytes(b"no chunk")
    assert verified(scene)[0] == 1
    told = CliRunner().invoke(commands, ["status", str(scene / "fused")])
    assert told.exit_code == 1
    assert "run its recipe again to repair it" in told.output
    run(scene, form)
    report = json.loads((scene / "fused/report.json").read_text())
    assert report["scenes"][0]["repaired"] == ["tile (0, 0) was damaged"]
    assert CliRunner().invoke(commands, ["status", str(scene / "fused")]).exit_code == 0


@pytest.mark.parametrize("form", ["format 2"])
def test_a_damaged_tile_that_the_picture_meets_is_repaired_by_the_next_run(scene: Path, form: str) -> None:
    wanted = stored(scene)
    (scene / "fused/a.quicklook.png").unlink()
    chunk = chunks_of(scene)[1]
    chunk.write_bytes(b"no chunk")
    outcome = run(scene, form)
    assert outcome.status == "failed"
    assert chunk.name in (outcome.reason or "")
    outcome = run(scene, form)
    assert (outcome.status, outcome.fused) == ("complete", 1)
    assert stored(scene) == wanted


@pytest.mark.parametrize("form", ["format 2", "shards", "volume"])
def test_random_bits_are_found_and_repaired(scene: Path, form: str) -> None:
    wanted, rng = stored(scene), random.Random(form)
    for _ in range(3):
        for path in rng.sample(chunks_of(scene), 2):
            flip(path, rng)
        if verified(scene)[0]:
            assert run(scene, form).status == "complete"
            assert stored(scene) == wanted
