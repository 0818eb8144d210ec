"""Sources that can't be read for a while, really: a mount that goes away, system calls that fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from test_engine import command, make_pair, tree
from volumes import write_nifti

ROLES = ("thermal", "optical")
RASTERS = "abcde"
PRELOADED = Path(__file__).with_name("failing_reads.c")


@pytest.fixture
def rasters(tmp_path: Path) -> Path:
    """A recipe and five pairs in a folder of their own; three scenes at most are under way at a time."""
    (tmp_path / "sources").mkdir()
    for seed, name in enumerate(RASTERS):
        make_pair(tmp_path / "sources", name, (100, 110), seed)
    return with_recipe(tmp_path, "tif", 64)


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """A recipe and a pair of volumes, of which no library keeps what was read."""
    (tmp_path / "sources").mkdir()
    for seed, role in enumerate(ROLES):
        voxels = np.random.default_rng(seed).integers(1, 900, (60, 64, 66)).astype(np.int16)
        write_nifti(tmp_path / f"sources/a_{role}.nii", voxels)
    return with_recipe(tmp_path, "nii", 16)


def with_recipe(folder: Path, ending: str, size: int) -> Path:
    inputs = "".join(f"  {role}: 'sources/{{scene}}_{role}.{ending}'\n" for role in ROLES)
    (folder / "recipe.yaml").write_text(f"inputs:\n{inputs}tiles: {{size: {size}}}\n")
    (folder / "one.yaml").write_text("threads: 1\n")
    return folder


def undisturbed(folder: Path) -> dict[str, bytes]:
    """What a run makes that nobody disturbs."""
    assert subprocess.run(run_of(folder, "-q"), check=False).returncode == 0
    stores = tree(folder / "fused")
    shutil.rmtree(folder / "fused")
    return of_stores(stores)


def of_stores(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if ".zarr/" in name}


def run_of(folder: Path, *arguments: str) -> list[str]:
    return command(folder, "--profile", str(folder / "one.yaml"), *arguments)


def disturbed(
    folder: Path, retries: int, disturb: Callable[[], object], mend: Callable[[], object], **variables: str
) -> tuple[int, str]:
    """Exit code and standard error of a run that is disturbed once a tile is there.

    What was done to it is undone as soon as the run says that it tries again.
    """
    call = run_of(folder, "--retries", str(retries))
    environment = {**os.environ, **variables}
    told = []
    with subprocess.Popen(call, stderr=subprocess.PIPE, text=True, env=environment) as process:
        wait_for_a_tile(folder / "fused/a.zarr")
        disturb()
        assert process.stderr is not None
        for line in process.stderr:
            told.append(line)
            if "tried again in" in line:
                mend()
    return process.returncode, "".join(told)


def wait_for_a_tile(store: Path) -> None:
    """Until the first chunk of the fused image is there."""
    for _ in range(2400):
        if any((store / "fused").glob("0.*")) or any((store / "0/c").rglob("*/*")):
            return
        time.sleep(0.02)
    raise AssertionError("no tile came")


def reasons(told: str) -> list[str]:
    """What became of the scenes that failed."""
    return [line for line in told.splitlines() if "is its disk or network there?" in line]


# a mount that goes away


class Mount:
    """The folder of the sources, on a disk of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept = folder.with_name("kept")
        shutil.copytree(folder, self.kept)

    def mount(self) -> bool:
        """Mounts it with the same files, of the same times; whether that is possible here."""
        told = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(self.folder)],
            check=False,
            capture_output=True,
        )
        if told.returncode == 0:
            shutil.copytree(self.kept, self.folder, dirs_exist_ok=True)
        return told.returncode == 0

    def unmount(self) -> None:
        """Takes it away from under whoever uses it, as a network does; an empty folder is left."""
        subprocess.run(["umount", "-l", str(self.folder)], check=True)
        assert not any(self.folder.iterdir())


@pytest.fixture
def mount(rasters: Path) -> Iterator[Mount]:
    made = Mount(rasters / "sources")
    for path in made.folder.iterdir():
        path.unlink()
    if shutil.which("mount") is None or not made.mount():
        pytest.skip("nothing can be mounted here: that takes the rights of root")
    yield made
    subprocess.run(["umount", "-l", str(made.folder)], check=False, capture_output=True)


def test_a_mount_that_goes_away_fails_scenes_by_name_and_the_next_run_completes_them(
    rasters: Path, mount: Mount
) -> None:
    wanted = undisturbed(rasters)
    code, told = disturbed(rasters, 0, mount.unmount, mount.mount)
    assert code == 1, told
    assert "Traceback" not in told
    away = reasons(told)
    assert away, told
    assert all(str(mount.folder) in line or "sources/" in line for line in away)
    assert not any(line.startswith("a:") for line in away)
    assert mount.mount()
    again = subprocess.run(run_of(rasters), check=False, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert of_stores(tree(rasters / "fused")) == wanted


def test_a_mount_that_comes_back_is_waited_for(rasters: Path, mount: Mount) -> None:
    wanted = undisturbed(rasters)
    code, told = disturbed(rasters, 3, mount.unmount, lambda: any(mount.folder.iterdir()) or mount.mount())
    assert code == 0, told
    assert "tried again in" in told
    assert of_stores(tree(rasters / "fused")) == wanted


# reads that fail


@dataclass(frozen=True)
class Failing:
    """A folder in which the reads of one file fail while another file, the flag, is there."""

    folder: Path
    name: str
    flag: Path
    settings: dict[str, str]
    wanted: dict[str, bytes]


@pytest.fixture(scope="session")
def failing_reads(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library whose reads of one file fail while another file is there."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    library = tmp_path_factory.mktemp("preloaded") / "failing_reads.so"
    if compiler is None:
        pytest.skip("there is no C compiler (cc) to make reads fail with")
    made = [compiler, "-shared", "-fPIC", "-o", str(library), str(PRELOADED), "-ldl"]
    told = subprocess.run(made, check=False, capture_output=True, text=True)
    if told.returncode:
        pytest.skip(f"{PRELOADED.name} can't be compiled here: {told.stderr.strip().splitlines()[-1]}")
    return str(library)


@pytest.fixture(params=[("rasters", "e_thermal.tif"), ("volumes", "a_optical.nii")], ids=lambda p: p[0])
def failing(request: pytest.FixtureRequest, failing_reads: str) -> Failing:
    """A folder in which the reads of one file can be made to fail."""
    kind, name = request.param
    folder: Path = request.getfixturevalue(kind)
    settings = {"LD_PRELOAD": failing_reads, "FAILING_END": name, "FAILING_WHILE": str(folder / "failing")}
    return Failing(folder, name, folder / "failing", settings, undisturbed(folder))


def test_reads_that_fail_for_a_while_are_tried_again(failing: Failing) -> None:
    folder, flag = failing.folder, failing.flag
    code, told = disturbed(folder, 2, flag.touch, lambda: flag.unlink(missing_ok=True), **failing.settings)
    assert code == 0, told
    (line,) = [line for line in told.splitlines() if "tried again in" in line]
    assert f"{failing.name} can't be read: Input/output error" in line
    assert of_stores(tree(folder / "fused")) == failing.wanted


def test_reads_that_fail_set_one_scene_aside_and_the_next_run_completes_it(failing: Failing) -> None:
    folder, flag, name, wanted = failing.folder, failing.flag, failing.name, failing.wanted
    code, told = disturbed(folder, 0, flag.touch, flag.touch, **failing.settings)
    assert code == 1, told
    assert "Traceback" not in told
    (line,) = reasons(told)
    assert f"{name} can't be read: Input/output error" in line
    found = of_stores(tree(folder / "fused"))
    for other in set(RASTERS) - {name[0]} if name.endswith(".tif") else ():
        assert {n: c for n, c in found.items() if n[0] == other} == {
            n: c for n, c in wanted.items() if n[0] == other
        }
    flag.unlink()
    again = subprocess.run(run_of(folder), check=False, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert of_stores(tree(folder / "fused")) == wanted
