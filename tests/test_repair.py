"""What `verify` finds wrong with a store, the next run repairs: exactly that, to the same bytes."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from rasters import photo
from test_engine import make_pair, recipe_of, tree
from volumes import write_nifti

import batchfuse
from batchfuse.cli import commands
from batchfuse.report.report import Outcome
from batchfuse.storage import check, raster, volume
from batchfuse.storage.beside import faults_path
from batchfuse.storage.digests import Digest
from batchfuse.storage.repair import has_noted_faults, note_faults
from batchfuse.storage.store import Store

TILE = 48
FORMS: dict[str, dict[str, Any]] = {
    "format 2": {"pyramid": True},
    "format 3": {"zarr_format": 3, "pyramid": True},
    "shards": {"zarr_format": 3, "shard": 16, "also": ["png"]},
    "volume": {"also": ["nifti"]},
    "volume of format 2": {"zarr_format": 2},
}
each = pytest.mark.parametrize("form", FORMS)


@pytest.fixture(autouse=True, scope="module")
def small_levels() -> Iterator[None]:
    """Small images have levels, too."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(raster, "SMALLEST", 64)
        patched.setattr(volume, "SMALLEST", 48)
        yield


def settings_of(form: str) -> dict[str, Any]:
    return {"tiles": {"size": TILE}, "output": FORMS[form]}


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
                    voxels = photo((60, 36 * 6), seed)[0].reshape(60, 36, 6)
                    write_nifti(folder / f"a_{role}.nii.gz", (900 * voxels).astype("int16"))
            else:
                make_pair(folder, "a", (100, 110))
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


def level_of(folder: Path) -> Path:
    fused = folder / "fused"
    places = (fused / "a.levels.zarr/1", fused / "a.zarr/ovr_2x", fused / "a.zarr/1")
    return next(path for path in places if path.exists())


def swap(one: Path, other: Path) -> None:
    contents = one.read_bytes(), other.read_bytes()
    assert contents[0] != contents[1]
    other.write_bytes(contents[0])
    one.write_bytes(contents[1])


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
    for path in [*store.files_beside_chunks(), store.digests_path]:
        path.unlink()
        outcome = run(scene, form)
        assert (outcome.status, outcome.fused) == ("complete", 0), (path, outcome.reason)
        assert stored(scene) == wanted, path


@each
def test_deleted_coordinates_are_noticed_by_verify_and_mended_by_the_next_run(scene: Path, form: str) -> None:
    wanted = stored(scene)
    store = Store.open(scene / "fused/a.zarr")
    constants = store.layout.constants()
    chunks = [
        store.layout.form.chunk(store.path, name, (0,) * values.ndim) for name, values in constants.items()
    ]
    for path in chunks:
        path.unlink()
    code, lines = verified(scene)
    assert (code, lines.count("missing: ")) == (1, len(chunks))
    outcome = run(scene, form)
    assert (outcome.status, outcome.fused, len(outcome.repaired)) == ("complete", 0, len(chunks))
    assert stored(scene) == wanted
    for name in constants:
        shutil.rmtree(store.path / name)
    assert verified(scene)[0] == 1
    outcome = run(scene, form)
    assert (outcome.status, outcome.fused) == ("complete", 0), outcome.reason
    assert stored(scene) == wanted
    assert verified(scene)[0] == 0


@each
def test_damaged_metadata_is_written_anew(scene: Path, form: str) -> None:
    wanted = stored(scene)
    store = Store.open(scene / "fused/a.zarr")
    root = store.path / store.layout.form.metadata
    others = [path for path in store.files_beside_chunks() if path != root]
    for paths in (others, [root], [store.digests_path]):
        for path in paths:
            path.write_bytes(path.read_bytes()[:-7])
        assert verified(scene)[0] == 1
        outcome = run(scene, form)
        assert outcome.status == "complete", (paths, outcome.reason)
        assert len(outcome.repaired) == len(paths)
        assert stored(scene) == wanted, paths
    assert verified(scene)[0] == 0


@each
def test_a_flipped_bit_inside_a_value_of_the_metadata_is_noticed_without_verify(
    scene: Path, form: str
) -> None:
    wanted, rng = stored(scene), random.Random(form)
    named = ("zarr.json", ".zattrs", ".zarray", ".zmetadata", "digests.json")
    told = [p for p in (scene / "fused").rglob("*") if p.name in named and p.parent.suffix != ".levels"]
    root = (
        scene / "fused/a.zarr" / ("zarr.json" if (scene / "fused/a.zarr/zarr.json").exists() else ".zattrs")
    )
    values = [p for p in sorted(told) if p != root and re.search(rb"\d", p.read_bytes())]
    for path in [root, *rng.sample(values, 3)]:
        content = bytearray(path.read_bytes())
        # a digit stays a digit: the file can still be read, and says something else
        at = rng.choice([found.start() for found in re.finditer(rb"\d", content)])
        content[at] ^= 1
        path.write_bytes(content)
        outcome = run(scene, form)
        assert (outcome.status, outcome.fused) == ("complete", 0), (path, outcome.reason)
        assert outcome.repaired, path
        assert stored(scene) == wanted, path
    assert run(scene, form).status == "kept"


@pytest.mark.parametrize("form", ["format 2", "format 3", "volume"])
def test_a_store_whose_record_is_lost_is_left_with_one_line(scene: Path, form: str) -> None:
    store = Store.open(scene / "fused/a.zarr")
    for path in (*(store.path / name for name in (".zattrs", ".zmetadata", "zarr.json")), store.digests_path):
        if path.exists():
            path.write_bytes(b"{")
    before = stored(scene)
    outcome = run(scene, form)
    assert outcome.status == "failed"
    assert "damaged" in (outcome.reason or "")
    assert "\n" not in (outcome.reason or "")
    assert stored(scene) == before


@each
def test_swapped_chunks_are_found_named_and_fused_again(scene: Path, form: str) -> None:
    wanted = stored(scene)
    first, second, *_ = sorted(chunks_of(scene), key=lambda path: -path.stat().st_size)
    swap(first, second)
    code, lines = verified(scene)
    assert code == 1
    assert all(f": {path.relative_to(scene / 'fused/a.zarr')}: tile" in lines for path in (first, second))
    outcome = run(scene, form)
    assert (outcome.status, outcome.fused, len(outcome.repaired)) == ("complete", 2, 2)
    assert stored(scene) == wanted
    # of another size: a listing tells
    second.write_bytes(first.read_bytes())
    if first.stat().st_size != len(wanted[str(second.relative_to(scene / "fused"))]):
        assert run(scene, form).fused == 1
        assert stored(scene) == wanted


@each
def test_a_whole_chunk_of_the_same_size_is_found_by_verify_alone(scene: Path, form: str) -> None:
    wanted = stored(scene)
    shutil.copytree(scene / "fused/a.zarr", scene / "other.zarr")
    other = Store.open(scene / "other.zarr")
    tile = other.tiling[(0,) * len(other.tiling.shape)]
    pixels, size = other.read(tile.core), other.chunk_path(tile.index).stat().st_size
    for value in np.linspace(pixels.min(), pixels.max(), 400, dtype=pixels.dtype):
        changed = pixels.copy()
        changed.flat[7] = value
        if other.write(tile, changed).size == size and value != pixels.flat[7]:
            break
    else:
        pytest.skip("no other pixel made a chunk of the same size")
    chunk = Store.open(scene / "fused/a.zarr").chunk_path(tile.index)
    shutil.copyfile(other.chunk_path(tile.index), chunk)
    assert run(scene, form).status == "kept"
    code, lines = verified(scene)
    assert (code, lines.count("foreign: ")) == (1, 1)
    assert run(scene, form).repaired == (f"tile {tile.index} was foreign",)
    assert stored(scene) == wanted


@pytest.mark.parametrize("form", ["format 2", "format 3"])
def test_swapped_chunks_of_a_level_are_found_and_reduced_again(scene: Path, form: str) -> None:
    wanted = stored(scene)
    level = Store.open(level_of(scene))
    first, second, *_ = (level.chunk_path(tile.index) for tile in level.tiling)
    swap(first, second)
    code, lines = verified(scene)
    assert (code, lines.count("foreign: ") + lines.count("damaged: ")) == (1, 2)
    outcome = run(scene, form)
    assert (outcome.status, outcome.fused) == ("complete", 0)
    assert stored(scene) == wanted
    assert verified(scene)[0] == 0


@pytest.mark.parametrize("form", ["format 2", "shards"])
def test_what_a_killed_run_left_is_read_before_it_is_sealed(scene: Path, form: str) -> None:
    wanted = stored(scene)
    store = Store.open(scene / "fused/a.zarr")
    for path in (store.path / ".zmetadata", store.digests_path):
        path.unlink(missing_ok=True)
    root = store.path / store.layout.form.metadata
    told = json.loads(root.read_bytes())
    told.pop("consolidated_metadata", None)
    root.write_text(json.dumps(told))
    first, second, *_ = chunks_of(scene)
    first.unlink()
    content = bytearray(second.read_bytes())  # a power cut: the right length, and zeros
    content[-40:] = bytes(40)
    second.write_bytes(content)
    outcome = run(scene, form)
    assert (outcome.status, outcome.fused) == ("complete", 2), outcome.reason
    assert outcome.repaired[-1] == "tile (0, 1) was damaged"
    assert stored(scene) == wanted


@pytest.mark.parametrize("form", ["format 2", "format 3", "volume"])
def test_a_damaged_level_is_made_again_without_fusing(scene: Path, form: str) -> None:
    wanted = stored(scene)
    level = level_of(scene)
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
def test_what_a_kill_left_goes_and_somebody_elses_files_stay(scene: Path, form: str) -> None:
    wanted = stored(scene)
    chunk = chunks_of(scene)[-1]
    stray = chunk.with_name(chunk.name.replace(chunk.name.rpartition(".")[2], "97"))
    theirs = [stray, scene / "fused/a.zarr/notes.txt", scene / "fused/a.zarr/2024.partial"]
    for path in (*theirs, chunk.with_suffix(f".{'0f' * 16}.partial")):
        path.write_bytes(b"?")
    code, lines = verified(scene)
    assert (code, lines.count("foreign: ")) == (1, 4)
    outcome = run(scene, form)
    assert (outcome.status, outcome.fused) == ("complete", 0), outcome.reason
    for path in theirs:
        assert any(f"{path.name} is not a file of the store" in line for line in outcome.warnings)
        assert path.read_bytes() == b"?"
        path.unlink()
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
    note_faults(scene / "fused/a.zarr", [check.Fault(scene / "fused/x", "foreign", "../../etc/passwd")])
    outcome = run(scene, form)
    assert (outcome.fused, outcome.repaired) == (0, ())
    assert stored(scene) == wanted
    assert not faults_path(scene / "fused/a.zarr").exists()


@pytest.mark.parametrize("form", ["format 2"])
def test_a_file_of_others_that_is_called_as_the_note_stays_and_faults_are_noted_beside_it(
    scene: Path, form: str
) -> None:
    path = faults_path(scene / "fused/a.zarr")
    path.write_text("mine")
    assert not has_noted_faults(scene / "fused/a.zarr")
    chunks_of(scene)[0].write_bytes(b"no chunk")
    assert verified(scene)[0] == 1
    assert has_noted_faults(scene / "fused/a.zarr")
    assert (scene / "fused/a.faults-1.json").exists()
    assert run(scene, form).repaired
    assert not (scene / "fused/a.faults-1.json").exists()
    assert path.read_text() == "mine"


@pytest.mark.parametrize("form", ["format 2"])
def test_what_another_recipe_made_is_refused_before_it_is_repaired(scene: Path, form: str) -> None:
    chunks_of(scene)[0].write_bytes(b"no chunk")
    assert verified(scene)[0] == 1
    before = stored(scene)
    other = recipe_of(scene, tiles={"size": TILE}, output=FORMS[form], fusion={"strategy": "mean"})
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
    chunk.write_bytes(bytes(chunk.stat().st_size))
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
        assert verified(scene)[0] == 1
        assert run(scene, form).status == "complete"
        assert stored(scene) == wanted


@pytest.mark.parametrize("form", ["format 2"])
def test_a_chunk_that_cannot_be_read_for_now_is_no_damage(
    scene: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, digest_of = stored(scene), check.digest_of
    bad = chunks_of(scene)[1]

    def refused(path: Path) -> Digest:
        if path == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return digest_of(path)

    with monkeypatch.context() as patched:
        patched.setattr(check, "digest_of", refused)
        code, lines = verified(scene)
        assert (code, lines.count("unread: ")) == (1, 1)
        note_faults(scene / "fused/a.zarr", [check.Fault(bad, "damaged", "somebody has found something")])
        (outcome,) = batchfuse.run(recipe(scene, form), retries=0).outcomes
        assert (outcome.status, outcome.fused) == ("failed", 0)
        assert "tile (0, 1) can't be read: " in (outcome.reason or "")
    assert bad.exists()
    assert run(scene, form).status == "complete"
    assert stored(scene) == wanted
