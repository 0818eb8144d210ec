"""Files on disk: replaced whole, waited for, and refused in one line."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batchfuse.errors import StoreError

__all__ = ["refusals", "replace_file", "said", "sync_tree"]


def replace_file(path: Path, content: bytes) -> None:
    """Write a file durably: whoever reads it meanwhile sees the old one or the new one."""
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    partial.write_bytes(content)
    _sync(partial)
    partial.replace(path)
    _sync(path.parent)


def sync_tree(path: Path) -> None:
    """Wait until everything in the folder is on the disk: zarr itself never asks for it."""
    for folder, _, files in os.walk(path):
        for name in files:
            _sync(Path(folder, name))
        _sync(Path(folder))


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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
