"""Everything batchfuse refuses, as one family.

- BatchfuseError: one line that names the file, the values and the remedy
  - RecipeError: the recipe, the profile or the call is wrong (exit code 2)
    - WeightsError: the weights file can't be used
    - BusyError: another run writes into the output folder
  - SceneError: this scene can't be fused, the others can (exit code 1)
    - SourceError: a source file can't be read, or its pixels can't be used
    - GridError: the sources of a scene can't be brought onto one grid
      - DisjointError: they show different places
    - StoreError: the store of this scene was made by something else, or is damaged
      - DamagedError: a chunk of it can't be decoded
      - FullError: there is no room left for it: no other scene can be written either
    - PassingError: what may be over when it is tried again, unlike all others
      - SourceAwayError: a source, too; it can't be read now, its mount is gone, say
      - StoreAwayError: a store, too; the file system doesn't answer
    - BlamedError: a task of this scene ended several workers
  - TrainingError: a training came to nothing (exit code 1)

Any other exception is a bug, and keeps its traceback.
"""

from __future__ import annotations

import errno
from typing import Any

__all__ = [
    "BatchfuseError",
    "BlamedError",
    "BusyError",
    "DamagedError",
    "DisjointError",
    "FullError",
    "GridError",
    "PassingError",
    "RecipeError",
    "SceneError",
    "SourceAwayError",
    "SourceError",
    "StoreAwayError",
    "StoreError",
    "TrainingError",
    "WeightsError",
    "is_full",
    "may_pass",
    "said",
]

PASSING = {
    getattr(errno, name)
    for name in (
        *("EIO", "ESTALE", "ETIMEDOUT", "ENOTCONN", "ECONNRESET", "ECONNABORTED", "ECONNREFUSED", "EPIPE"),
        *("EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENETRESET", "ENODEV", "ENXIO"),
        *("EAGAIN", "EINTR", "EBUSY", "EMFILE", "ENFILE", "EREMOTEIO"),
    )
    if hasattr(errno, name)
}
"""What disks, networks and mounts say that may say otherwise in a moment."""
FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


class BatchfuseError(Exception):
    """Something a user can mend; its text is one line with the remedy."""


class RecipeError(BatchfuseError):
    """The recipe, the profile or the call is wrong: nothing was started."""


class WeightsError(RecipeError):
    """The weights can't be loaded, or don't belong to this method."""


class BusyError(RecipeError):
    """Another run holds the output folder: nothing was started."""


class SceneError(BatchfuseError):
    """One scene can't be fused; the others go on."""


class SourceError(SceneError):
    """A source file can't be opened or read, or can't serve as an image."""


class GridError(SceneError):
    """The sources of a scene can't be brought onto one grid."""


class DisjointError(GridError):
    """Two sources, or a source and the target grid, show different places."""


class StoreError(SceneError):
    """What lies at the output's place was made by something else."""


class DamagedError(StoreError):
    """A chunk can't be decoded: its bytes are not those that were written."""


class FullError(StoreError):
    """There is no room left on the disk, or in a quota."""


class PassingError(SceneError):
    """It may be over when it is tried again: reading and writing, not what was read."""


class SourceAwayError(SourceError, PassingError):
    """A source that was there can't be read now."""


class StoreAwayError(StoreError, PassingError):
    """A store can't be read or written now."""


class LostError(SceneError):
    """The scheduler can't be reached any more: no scene can go on."""


class BlamedError(SceneError):
    """A task ended several workers, one after the other."""

    item: tuple[Any, ...] = ()
    """What the task was given."""


class TrainingError(BatchfuseError):
    """A training was lost to overflow: with equal settings it always is."""


def may_pass(error: BaseException) -> bool:
    """Whether what the system says may be over when it is tried again."""
    return isinstance(error, OSError) and error.errno in PASSING


def said(error: object) -> str:
    """An error's own words on one line, or its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def is_full(error: BaseException) -> bool:
    """Whether the system says that there is no room."""
    return isinstance(error, OSError) and error.errno in FULL
