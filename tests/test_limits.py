"""The memory that a run is allowed, under a real limit of the kernel's, where one can be set."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from rasters import photo, write_raster

import batchfuse
from batchfuse.budget import memory_of_a_worker

CONTROLLERS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryGroup:
    """A memory control group, of either version of the kernel's."""

    folder: Path
    """Where its files are."""
    version: int
    """1 or 2."""

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command as a member of the group, from its first instruction on."""
        entering = f'echo $$ > "{self.folder}/cgroup.procs" && exec "$@"'
        return subprocess.run(
            ["sh", "-c", entering, "sh", *command], check=False, capture_output=True, text=True, timeout=600
        )

    def limited_to(self, most: int) -> None:
        """Allows so many bytes of memory to all members together, and none of swap."""
        limits = [("memory.max", most), ("memory.swap.max", 0)]
        if self.version == 1:  # there the second counts memory and swap together
            limits = [("memory.limit_in_bytes", most), ("memory.memsw.limit_in_bytes", most)]
        for name, value in limits:
            if (self.folder / name).exists():  # a kernel may be built without counting swap
                (self.folder / name).write_text(str(value))

    def killed(self) -> int:
        """How many members were ended for lack of memory."""
        told = (self.folder / ("memory.oom_control" if self.version == 1 else "memory.events")).read_text()
        return int(re.findall(r"^oom_kill (\d+)", told, re.MULTILINE)[0])

    def swapped(self) -> int:
        """Bytes in swap."""
        if self.version == 2:
            swap = self.folder / "memory.swap.current"
            return int(swap.read_text()) if swap.exists() else 0
        found = re.findall(r"^swap (\d+)", (self.folder / "memory.stat").read_text(), re.MULTILINE)
        return int(found[0]) if found else 0

    def peak(self) -> int | None:
        """The most bytes that the members had at a time, files of theirs in the cache included."""
        peak = self.folder / ("memory.max_usage_in_bytes" if self.version == 1 else "memory.peak")
        return int(peak.read_text()) if peak.exists() else None


def parent_group() -> tuple[Path, int]:
    """The memory control group that this process is in, and the version; OSError where there is none."""
    told = Path("/proc/self/cgroup").read_text()
    for version, line in ((1, r"^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(.*)$"), (2, r"^0::(.*)$")):
        found = re.search(line, told, re.MULTILINE)
        base = CONTROLLERS / "memory" if version == 1 else CONTROLLERS
        if found and (base / found[1].lstrip("/") / "cgroup.procs").exists():
            return base / found[1].lstrip("/"), version
    raise OSError("this process is in no memory control group that can be seen")


@contextmanager
def memory_group() -> Iterator[MemoryGroup]:
    """A control group below this process's own, so that outer limits hold on; OSError where none is."""
    parent, version = parent_group()
    folder = parent / f"batchfuse-{os.getpid()}"
    folder.mkdir()
    try:
        if not (folder / ("memory.max" if version == 2 else "memory.limit_in_bytes")).exists():
            raise OSError(f"{parent} hands no memory limits on to groups below it")
        yield MemoryGroup(folder, version)
    finally:
        folder.rmdir()


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    try:
        with memory_group() as made:
            made.limited_to(2**40)
            yield made
    except OSError as error:
        pytest.skip(f"no memory control group can be made here: {error}")


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A recipe and four pairs, the thermal image coarser: one is pictured while another is fused."""
    rng = np.random.default_rng(0)
    optical = np.rint(photo((420, 500), 1, 3) * 900).astype(np.uint16) + rng.integers(0, 9, (3, 420, 500))
    write_raster(tmp_path / "a_optical.tif", optical.astype(np.uint16))
    thermal = np.rint(photo((150, 170), 2)[0] * 900).astype(np.uint16)
    place = Affine(30, 0, 500_000, 0, -30, 5_600_000)
    write_raster(tmp_path / "a_thermal.tif", thermal, transform=place)
    for name in "bcd":
        for role in ("optical", "thermal"):
            shutil.copy(tmp_path / f"a_{role}.tif", tmp_path / f"{name}_{role}.tif")
    (tmp_path / "recipe.yaml").write_text(
        "inputs: {thermal: '{scene}_thermal.tif', optical: '{scene}_optical.tif'}\n"
        "reference: optical\ntiles: {size: 256}\n"
    )
    return tmp_path


def run_command(folder: Path, memory: int | None, *arguments: str) -> list[str]:
    """`batchfuse run` of eight tiles at once, if so much memory allows that; or of one, without a limit."""
    limit = "" if memory is None else f"memory: {memory}B\n"
    (folder / "profile.yaml").write_text(f"threads: {8 if memory else 1}\n{limit}")
    command = [sys.executable, "-m", "batchfuse", "run", str(folder / "recipe.yaml"), "-q"]
    return [*command, "--profile", str(folder / "profile.yaml"), *arguments]


def promised(folder: Path, tiles: int) -> int:
    """Bytes that a run needs at most with so many tiles at once."""
    return memory_of_a_worker(batchfuse.make_plan(batchfuse.Recipe.load(folder / "recipe.yaml")).jobs, tiles)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_run_finishes_within_its_memory_where_the_kernel_grants_no_more(
    scenes: Path, group: MemoryGroup
) -> None:
    """The kernel ends whoever takes more; and there is no swap to fall back on."""
    limit = promised(scenes, 2)
    assert limit < promised(scenes, 3)
    group.limited_to(limit)
    done = group.run(*run_command(scenes, limit))
    assert (done.returncode, group.killed()) == (0, 0), done.stderr
    assert group.swapped() == 0
    peak = group.peak()
    assert peak is None or limit / 3 < peak <= limit  # it was this group that counted the run
    within = contents(scenes / "fused/a.zarr")
    shutil.rmtree(scenes / "fused")
    assert subprocess.run(run_command(scenes, None), check=False).returncode == 0
    assert contents(scenes / "fused/a.zarr") == within


def test_the_kernel_ends_whoever_takes_more_than_its_group_has(group: MemoryGroup) -> None:
    """Else the test above would say nothing."""
    group.limited_to(100 * 2**20)
    done = group.run(sys.executable, "-c", "print(len(b'1' * 300 * 2**20))")
    assert done.returncode == -9
    assert group.killed() == 1


def test_a_place_without_control_groups_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys.modules[__name__], "CONTROLLERS", tmp_path)
    with pytest.raises(OSError, match="no memory control group"), memory_group():
        raise AssertionError("there is no such group")


WATCHED = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
sys.exit(done.returncode)
"""


def test_the_resident_memory_of_a_run_stays_below_its_promise(scenes: Path) -> None:
    """What is resident, without the cache of files: told on any machine."""
    limit = promised(scenes, 2)
    watched = [sys.executable, "-c", WATCHED, *run_command(scenes, limit)]
    done = subprocess.run(watched, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert limit / 3 < int(done.stdout.split()[-1]) <= limit
