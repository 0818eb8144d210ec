"""One file on disk, replaced whole and durably."""

from __future__ import annotations

import os
from pathlib import Path

from batchfuse.system.partials import partial_path

__all__ = ["replace_file", "sync"]


def replace_file(path: Path, content: bytes) -> None:
    """Write a file durably: whoever reads it meanwhile sees the old one or the new one.

    Raises OSError where it can't be written; nothing of it is left then.
    """
    partial = partial_path(path)
    try:
        partial.write_bytes(content)
        sync(partial)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
