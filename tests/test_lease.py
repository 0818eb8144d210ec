"""One run at a time writes into an output folder."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from batchfuse.errors import BusyError, RecipeError
from batchfuse.storage import lease
from batchfuse.storage.beside import LEASE
from batchfuse.storage.lease import STALE, Holder, Lease, fault_of, holder_of

HERE = Holder.here()
THEIRS = "0" * 32


def left_behind(folder: Path, holder: Holder, seconds_ago: float = 0) -> None:
    """A lease of somebody else's, with its last heartbeat some time ago."""
    (folder / LEASE).write_text(holder.to_json())
    beat = time.time() - seconds_ago
    os.utime(folder / LEASE, (beat, beat))


@pytest.fixture
def sleeper() -> Iterator[int]:
    """The number of a process that lives."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process.pid
        process.kill()


def test_a_lease_is_there_while_it_is_held_and_gone_afterwards(tmp_path: Path) -> None:
    with Lease(tmp_path) as held:
        assert holder_of(tmp_path) == held.holder
        assert json.loads((tmp_path / LEASE).read_text())["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_second_run_is_refused_with_the_host_and_process_of_the_first(tmp_path: Path, sleeper: int) -> None:
    import psutil

    first = replace(HERE, process=sleeper, started=psutil.Process(sleeper).create_time())
    left_behind(tmp_path, first, seconds_ago=10 * STALE)  # on one machine the process itself tells
    with pytest.raises(BusyError, match=rf"process {sleeper} on {HERE.host}.*batchfuse status"):
        Lease(tmp_path).__enter__()
    assert (tmp_path / LEASE).read_text() == first.to_json()


def test_the_lease_of_a_dead_process_is_taken_over_at_once(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as dead:
        dead.wait()
    left_behind(tmp_path, replace(HERE, process=dead.pid))
    assert holder_of(tmp_path) is None
    with Lease(tmp_path) as held:
        assert holder_of(tmp_path) == held.holder


def test_a_process_number_that_was_given_out_again_is_no_living_run(tmp_path: Path, sleeper: int) -> None:
    left_behind(tmp_path, replace(HERE, process=sleeper, started=HERE.started - 5000))
    with Lease(tmp_path):
        pass


@pytest.mark.parametrize(("age", "taken"), [(0, False), (STALE - 10, False), (STALE + 5, True)])
def test_the_lease_of_another_host_is_judged_by_its_heartbeat(
    tmp_path: Path, age: float, taken: bool
) -> None:
    left_behind(tmp_path, replace(HERE, host="elsewhere", machine="elsewhere", token=THEIRS), age)
    assert (holder_of(tmp_path) is None) == taken
    if taken:
        with Lease(tmp_path) as held:
            assert holder_of(tmp_path) == held.holder
    else:
        with pytest.raises(BusyError, match=r"on elsewhere.*last heard of"):
            Lease(tmp_path).__enter__()


def written(**values: object) -> Callable[[Path], object]:
    """Makes a lease of ours in which some values are others."""
    about = json.loads(HERE.to_json()) | values
    return lambda path: path.write_text(json.dumps(about))


NO_LEASE: dict[str, Callable[[Path], object]] = {
    "cut off": lambda path: path.write_text(HERE.to_json()[:-4]),
    "of others": lambda path: path.write_text('{"host": "h", "process": 5}'),
    "deep": lambda path: path.write_text("[" * 100_000),
    "binary": lambda path: path.write_bytes(b"\0\xff" * 50),
    "large": lambda path: path.write_text(HERE.to_json() + " " * 20_000),
    "fifo": os.mkfifo,
    "folder": lambda path: path.mkdir(),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "link to nothing": lambda path: path.symlink_to("gone"),
    "process -1": written(process=-1),
    "process 0": written(process=0),
    "huge process": written(process=10**40),
    "true": written(process=True),
    "infinite process": written(process=float("inf")),
    "no start": written(started=None),
    "escapes": written(host="h\x1b[31mred\nline"),
    "reversed": written(host="\u202ereversed"),
    "token": written(token="../../x"),
    "more": written(more=1),
}


@pytest.mark.parametrize("what", NO_LEASE)
def test_a_file_that_is_no_lease_is_refused_in_one_line_and_stays(tmp_path: Path, what: str) -> None:
    NO_LEASE[what](tmp_path / LEASE)
    assert holder_of(tmp_path) is None
    with pytest.raises(
        RecipeError, match=r"can't be read \(.*\): if no run writes here, delete it"
    ) as refused:
        Lease(tmp_path).__enter__()
    assert str(refused.value).isprintable()
    assert fault_of(tmp_path) == str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == [LEASE]


def test_an_empty_lease_may_be_one_that_is_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "PAUSE", 0.0)
    (tmp_path / LEASE).touch()
    with pytest.raises(BusyError, match="changes hands"):
        Lease(tmp_path).__enter__()
    os.utime(tmp_path / LEASE, (0, 0))
    with pytest.raises(RecipeError, match="delete it"):
        Lease(tmp_path).__enter__()


@pytest.mark.parametrize("left", ["nothing", "stale"])
def test_of_many_that_want_it_exactly_one_has_it(tmp_path: Path, left: str) -> None:
    for turn in range(20):
        folder = tmp_path / str(turn)
        folder.mkdir()
        if left == "stale":
            left_behind(folder, replace(HERE, machine="elsewhere", token=THEIRS), 2 * STALE)
        assert winners(folder, 12) == 1
        assert list(folder.iterdir()) == []


def winners(folder: Path, many: int) -> int:
    """How many of so many threads, begun together, hold the lease at the same time."""
    start, end = threading.Barrier(many), threading.Barrier(many)
    held: list[Lease] = []

    def take() -> None:
        mine = Lease(folder)
        start.wait()
        try:
            with mine:
                held.append(mine)
                end.wait()
        except BusyError:
            end.wait()

    threads = [threading.Thread(target=take) for _ in range(many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(held)


def test_a_claim_of_a_run_that_died_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = replace(HERE, machine="elsewhere", token=THEIRS)
    left_behind(tmp_path, dead, 2 * STALE)
    claim = tmp_path / f"{LEASE}.{hashlib.sha256(dead.to_json().encode()).hexdigest()[:32]}.claim.partial"
    claim.touch()
    monkeypatch.setattr(lease, "PAUSE", 0.0)
    with pytest.raises(BusyError, match="changes hands"):
        Lease(tmp_path).__enter__()
    os.utime(claim, (0, 0))
    with Lease(tmp_path) as held:
        assert holder_of(tmp_path) == held.holder
    assert not claim.exists()


def test_the_heart_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.01)
    with Lease(tmp_path):
        os.utime(tmp_path / LEASE, (0, 0))
        for _ in range(500):
            if (tmp_path / LEASE).stat().st_mtime > 0:
                return
            time.sleep(0.01)
    raise AssertionError("no heartbeat")


def test_a_run_whose_lease_was_taken_over_is_told_and_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.01)
    told: list[str] = []
    heard = threading.Event()
    theirs = replace(HERE, host="elsewhere", machine="elsewhere", token=THEIRS)
    with Lease(tmp_path, on_loss=lambda line: (told.append(line), heard.set())[0]):
        left_behind(tmp_path, theirs)
        assert heard.wait(5)
    assert "on elsewhere" in told[0]
    assert (tmp_path / LEASE).read_text() == theirs.to_json()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="can't be written"):
        Lease(tmp_path / "missing").__enter__()
