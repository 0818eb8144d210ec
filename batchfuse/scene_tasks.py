"""What workers run for a scene: tasks of several tiles, timed, and told in the worker's log."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from batchfuse.geometry.window import Window
from batchfuse.report.account import FUSING
from batchfuse.storage.digests import Digest
from batchfuse.task import Work, cut_window, fuse_tile, fuser_notes
from batchfuse.worker_log import Task, noted, taken_fault, this_worker

__all__ = ["Each", "Group", "fused_tiles", "read_cut"]


class Group(NamedTuple):
    """Tiles that one task fused."""

    worker: str
    """The process, as host:pid."""
    worker_name: str | None
    """What the cluster calls it."""
    tiles: list[tuple[tuple[int, ...], Digest, float, float]]
    """Index, the digest of its file, when it began (seconds since 1970), how many seconds it took."""
    notes: tuple[str, ...]
    """What a person should know of them."""
    fault: str | None
    """Why the worker keeps no log, if it should and this was not said before."""


def fused_tiles(work: Work, indices: Sequence[tuple[int, ...]]) -> Group:
    """A task: fuses tiles one after the other."""
    name, tiles = work.job.scene.name, []
    for index in indices:
        with Task(name, FUSING, index) as task:
            digest = fuse_tile(work, index)
            task.bytes = digest.size
        tiles.append((index, digest, task.began, task.seconds))
    notes = fuser_notes(work)
    for note in notes:
        noted(name, note)
    return Group(*this_worker(), tiles, notes, taken_fault())


@dataclass(frozen=True, slots=True)
class Each:
    """A task of another phase: a function of each of several items, told in the worker's log."""

    function: Callable[..., Any]
    scene: str
    phase: str

    def __call__(self, items: Sequence[tuple[Any, ...]]) -> tuple[list[Any], float]:
        """The results, and the seconds of all."""
        began = time.perf_counter()
        results = []
        for item in items:
            with Task(self.scene, self.phase, next(filter(_is_index, item), None)):
                results.append(self.function(*item))
        return results, time.perf_counter() - began


def _is_index(part: Any) -> bool:
    return isinstance(part, tuple) and all(isinstance(number, int) for number in part)


def read_cut(work: Work, window: Window) -> tuple[Window, list[NDArray[np.float32]]]:
    """A task: the window, with what ``cut_window`` reads in it."""
    return window, cut_window(work, window)
