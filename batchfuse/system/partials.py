"""Names for what is not whole yet. A run that is killed leaves them; a sweep knows them from all others."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

__all__ = ["is_partial", "partial_path", "remove", "sweep"]

MARK = re.compile(r"\.(?P<of>.+)\.batchfuse-[0-9a-f]{16}\.partial", re.DOTALL)
"""Hidden, with the name of what it becomes or was, and a word that no other program writes."""


def partial_path(path: Path) -> Path:
    """A new name beside ``path``, for what is renamed to it once it is whole, or is to be deleted."""
    return path.with_name(f".{path.name}.batchfuse-{uuid.uuid4().hex[:16]}.partial")


def is_partial(name: str, of: str | None = None) -> bool:
    """Whether ``partial_path`` has made this name: for the file or folder ``of``, or, without, for any."""
    found = MARK.fullmatch(name)
    return found is not None and of in (None, found["of"])


def sweep(folder: Path, of: str | None = None, spared: Callable[[Path], bool] = lambda _: False) -> int:
    """Remove what was left half made in a folder, as ``is_partial`` tells it, and say how many there were.

    What is ``spared`` stays. Raises OSError where that can't be.
    """
    left = [path for path in folder.iterdir() if is_partial(path.name, of) and not spared(path)]
    for path in left:
        remove(path)
    return len(left)


def remove(path: Path) -> None:
    """Delete a file, a link, or a folder with all that is in it; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
