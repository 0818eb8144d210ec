"""Everything batchfuse refuses, as one family.

- BatchfuseError: one line that names the file, the values and the remedy
  - RecipeError: the recipe, the profile or the call is wrong (exit code 2)
    - AmbiguousError: a scene has several files where it takes one
    - WeightsError: the weights file can't be used
    - BusyError: another run writes into the output folder
  - SceneError: this scene can't be fused, the others can (exit code 1)
    - SourceError: a source file can't be read, or its pixels can't be used
      - ChangedError: it is not the file that was planned with
    - GridError: the sources of a scene can't be brought onto one grid
      - DisjointError: they show different places
    - StoreError: the store of this scene was made by something else, or is damaged
      - DamagedError: a chunk of it can't be decoded
      - FullError: there is no room left for it: no other scene can be written either
    - PassingError: what may be over when it is tried again, unlike all others
      - SourceAwayError: a source, too; it can't be read now, its mount is gone, say
      - StoreAwayError: a store, too; the file system doesn't answer
    - BlamedError: a task of this scene ended several workers
    - BugError: something in batchfuse that nobody expected, met in this scene
  - TrainingError: a training came to nothing (exit code 1)

Any other exception is a bug. In the work on one scene it becomes a BugError, which keeps its traceback, so
that the other scenes go on; anywhere else it ends the command with its traceback.
"""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = [
    "AmbiguousError",
    "BatchfuseError",
    "BlamedError",
    "BugError",
    "BusyError",
    "ChangedError",
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
    "bugs_told",
    "is_full",
    "may_pass",
    "refusal_of",
    "said",
]

PACKAGE = Path(__file__).parent
LONG = 300  # characters of an exception's own words, which may be pages

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

    behind: str | None = None
    """The traceback behind it, of a bug."""


class RecipeError(BatchfuseError):
    """The recipe, the profile or the call is wrong: nothing was started. Raised with a line a mistake."""

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class AmbiguousError(RecipeError):
    """The paths find several files where a scene takes one."""


class WeightsError(RecipeError):
    """The weights can't be loaded, or don't belong to this method."""


class BusyError(RecipeError):
    """Another run holds the output folder: nothing was started."""


class SceneError(BatchfuseError):
    """One scene can't be fused; the others go on."""


class SourceError(SceneError):
    """A source file can't be opened or read, or can't serve as an image."""


class ChangedError(SourceError):
    """A source, or what lies beside it, is another than when the scene was planned, or gone."""

    @classmethod
    def of(cls, path: object) -> ChangedError:
        """Of this file."""
        return cls(f"{path} was changed while the scene was fused: run it again")


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


class BugError(SceneError):
    """What nobody expected, in the work on one scene; ``behind`` is its traceback."""

    @classmethod
    def of(cls, error: BaseException) -> BugError:
        """An exception as the line that says what happened where, and how to report it."""
        where = _place_in_package(error)
        told = cls(
            f"{_kind_and_words(error)}{f' ({where})' if where else ''}: this is a bug of batchfuse; please "
            "report it with the traceback that -v shows"
        )
        told.behind = "".join(traceback.format_exception(error))
        return told

    def after(self, what: str) -> BugError:
        """The same, with what was done before it."""
        told = BugError(f"{what}: {self}")
        told.behind = self.behind
        return told


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


def refusal_of(error: Exception) -> BatchfuseError:
    """What is told of whatever ended the work on a scene: it itself where it is ours, else mostly a bug."""
    if isinstance(error, BatchfuseError):
        return error
    if _is_lack_of_memory(error):
        return SceneError(
            f"out of memory ({said(error)[:LONG]}): use a smaller `tiles.size`, or fewer `threads` in the "
            "profile"
        )
    if is_full(error):
        return FullError(f"there is no room left ({said(error)}): free some, and run it again to continue")
    if may_pass(error):
        return PassingError(f"{said(error)}: is its disk or network there?")
    return BugError.of(error)


@contextmanager
def bugs_told() -> Iterator[None]:
    """Within it, work on one scene: what is no BatchfuseError becomes one."""
    try:
        yield
    except BatchfuseError:
        raise
    except Exception as error:
        raise refusal_of(error) from error


def _is_lack_of_memory(error: Exception) -> bool:
    """Torch's own kinds are told by name and text: it is not imported here."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
    )


def _kind_and_words(error: BaseException) -> str:
    """KeyError: 'HEIGHT_OFF'; on one line, and not too long."""
    kind = type(error).__name__
    try:
        words = said(error)
    except Exception:  # of an exception whose own text fails
        return kind
    return kind if words == kind else f"{kind}: {words[:LONG]}"


def _place_in_package(error: BaseException) -> str | None:
    """The last line of ours that it came through: batchfuse/task.py:12."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(PACKAGE):
            return f"{path.relative_to(PACKAGE.parent).as_posix()}:{frame.lineno}"
    return None
