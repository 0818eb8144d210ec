"""Stores are deleted, and never with them what somebody else has put inside."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from batchfuse.errors import StoreError
from batchfuse.storage.beside import levels_folder
from batchfuse.storage.digests import NAME
from batchfuse.storage.files import refusals
from batchfuse.storage.store import Store, is_half_written, is_store
from batchfuse.system.partials import is_partial, partial_path, remove

__all__ = [
    "is_litter",
    "refuse_foreign",
    "refuse_foreign_inside",
    "refuse_foreign_levels",
    "remove_levels",
    "remove_store",
]

NAMED = 3  # files that a line names
LITTER = (".ds_store", "._*", "thumbs.db", "desktop.ini", "*.aux.xml")
"""What file managers and GDAL leave wherever they look, and make again."""
METADATA = r"(\.zattrs|\.zgroup|\.zarray|\.zmetadata|zarr\.json)"
PLAIN = rf"({METADATA}|(x|y|band|spatial_ref)/({METADATA}|0|c|c/0)|nifti/({METADATA}|0|c/0))"
IMAGE = rf"(fused|\d{{1,2}})/({METADATA}|{re.escape(NAME)}|\d+\.\d+\.\d+|(c/)?\d+/\d+/\d+)"
OURS = re.compile(rf"(ovr_\d+x/)?({PLAIN}|{IMAGE})")
"""Paths within a store that can't be asked any more which files it has."""


def remove_store(path: Path) -> None:
    """Delete the store at ``path``, if there is one.

    Raises StoreError where something else lies there, or files of others lie in it.
    """
    if not os.path.lexists(path):
        return
    refuse_foreign(path)
    _remove(path, path)


def remove_levels(path: Path) -> None:
    """Delete the levels beside the store at ``path``, if there are any; a folder of others is left alone.

    Raises StoreError where files of others lie among the levels.
    """
    refuse_foreign_levels(path)
    if _has_levels(levels_folder(path)):
        _remove(levels_folder(path), path)


def refuse_foreign(path: Path) -> None:
    """StoreError where what lies at ``path`` is no store, or holds files that we did not write."""
    others = _foreign(path) if path.is_dir() and not path.is_symlink() else []
    if not is_store(path):
        holds = f" (it holds {_named(others)})" if others else ""
        raise StoreError(f"{path} is not a store of batchfuse and is left alone{holds}: delete it yourself")
    _refuse(path, others)


def refuse_foreign_levels(path: Path) -> None:
    """StoreError where levels of ours lie beside the store at ``path``, and files of others among them."""
    folder = levels_folder(path)
    if _has_levels(folder):
        _refuse(folder, _foreign(folder))


def refuse_foreign_inside(path: Path) -> None:
    """StoreError where files of others lie in a store of ours, which may be past opening."""
    _refuse(path, _foreign(path))


def is_litter(name: str) -> bool:
    """Whether a file is called so that a file manager or GDAL leaves unasked, and nobody misses."""
    return any(fnmatch(name.lower(), pattern) for pattern in LITTER)


def _refuse(path: Path, others: list[str]) -> None:
    if others:
        raise StoreError(
            f"{path} holds {_named(others)}, which batchfuse did not write, and is left alone: move "
            f"{'it' if len(others) == 1 else 'them'} away"
        )


def _remove(path: Path, of: Path) -> None:
    # renamed first, so that a kill in between leaves no half of it under the name
    doomed = partial_path(of)
    with refusals(f"{path} can't be deleted"):
        path.replace(doomed)
        remove(doomed)


def _has_levels(folder: Path) -> bool:
    """Whether levels of ours lie in a folder, which is no store itself."""
    if folder.is_symlink() or not folder.is_dir() or is_store(folder):
        return False
    return any(entry.name.isdecimal() and is_store(entry) for entry in folder.iterdir())


def _foreign(path: Path) -> list[str]:
    """Names, within the folder, of what lies there and is neither ours nor litter."""
    with refusals(f"{path} can't be read"):
        known = set(_known(path, path))
        return sorted(
            file.relative_to(path).as_posix()
            for file in _files(path)
            if file not in known and not is_litter(file.name) and not is_half_written(file.name)
        )


def _files(path: Path) -> Iterator[Path]:
    """Everything below a folder but folders; a link to a folder is not followed, and told."""
    for folder, folders, names in os.walk(path, onerror=_raised):
        inside = Path(folder)
        yield from (inside / name for name in names)
        yield from (inside / name for name in folders if (inside / name).is_symlink())
        folders[:] = [name for name in folders if not is_partial(name)]


def _raised(error: OSError) -> None:
    raise error


def _known(path: Path, within: Path) -> Iterator[Path]:
    """The files, there or not, of a store and the levels inside it, or of the levels beside one."""
    try:
        store = Store.open(path)
    except StoreError:
        if _has_levels(path):
            yield from (path / ".zgroup", path / ".zattrs")
            for level in path.glob("[0-9]*/"):
                yield from _known(level, level)
        else:  # damaged: it goes by the names that such files have
            yield from (file for file in _files(path) if _is_named_so(file, within))
        return
    yield from store.every_file()
    layout, number = store.layout.reduced() if "level" not in store.record else None, 1
    while layout is not None:
        level = store.layout.level_path(path, number)
        if level.parent == path and level.is_dir():
            yield from _known(level, path)
        layout, number = layout.reduced(), number + 1


def _is_named_so(file: Path, within: Path) -> bool:
    name = file.relative_to(within).as_posix()
    return any(map(OURS.fullmatch, (name, f"{within.name}/{name}")))  # a level may be an array itself


def _named(names: list[str]) -> str:
    more = len(names) - NAMED
    if more > 0:
        return f"{', '.join(names[:NAMED])} and {more} more"
    return " and ".join([*filter(None, [", ".join(names[:-1])]), names[-1]])
