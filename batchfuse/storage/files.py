"""Files on disk: waited for, and refused in one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batchfuse.errors import StoreError
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
    """Turn what the file system refuses into a StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{what}: {said(error)}") from None


def said(error: BaseException) -> str:
    """Put an error's own words on one line."""
    return " ".join(str(error).split()) or type(error).__name__
