"""Files on disk: waited for, and refused in one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from batchfuse.errors import FullError, StoreAwayError, StoreError, is_full, may_pass, said
from batchfuse.files import sync
from batchfuse.system.partials import partial_path

__all__ = ["full", "lacks_room", "refusals", "sync_tree"]

LITTLE = 256 * 1024  # bytes


def sync_tree(path: Path) -> None:
    """Wait until everything in the folder is on the disk: zarr itself never asks for it."""
    for folder, _, files in os.walk(path):
        for name in files:
            sync(Path(folder, name))
        sync(Path(folder))


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Turn what the file system refuses into a StoreError, of the kind that tells what to do about it."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise full(what, str(error.strerror)) from None
        raise (StoreAwayError if may_pass(error) else StoreError)(f"{what}: {said(error)}") from None


def full(what: str, reason: str = "No space left on device") -> FullError:
    """The error of a full disk or quota."""
    return FullError(f"{what}: {reason}: make room and run it again, what is finished is kept")


def lacks_room(folder: Path) -> bool:
    """Whether a disk or a quota has no room for a little more: libraries may fail without a word of it."""
    probe = partial_path(folder / "probe")
    try:
        with probe.open("wb", buffering=0) as file:
            written = file.write(bytes(LITTLE))
            os.fsync(file.fileno())
        return written < LITTLE
    except OSError as error:
        return is_full(error)
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
