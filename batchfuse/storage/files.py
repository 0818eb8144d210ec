"""Files on disk: waited for, and refused in one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batchfuse.errors import FullError, StoreAwayError, StoreError, is_full, may_pass
from batchfuse.files import sync

__all__ = ["refusals", "said", "sync_tree"]


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
            raise FullError(
                f"{what}: {error.strerror}: make room and run it again, what is finished is kept"
            ) from None
        raise (StoreAwayError if may_pass(error) else StoreError)(f"{what}: {said(error)}") from None


def said(error: BaseException) -> str:
    """Put an error's own words on one line."""
    return " ".join(str(error).split()) or type(error).__name__
