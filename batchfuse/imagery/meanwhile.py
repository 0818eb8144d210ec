"""Whether the files of a source are still those that its scene was planned with."""

from __future__ import annotations

from pathlib import Path

from batchfuse.errors import ChangedError
from batchfuse.imagery.files import changed_part, told_if_away
from batchfuse.imagery.header import Header
from batchfuse.imagery.raster_files import speaker
from batchfuse.imagery.scene import Source, SourceFile
from batchfuse.imagery.volume_header import read_header

__all__ = ["refuse_changed"]


def refuse_changed(source: Source) -> None:
    """Look at the headers of all files of a source once more, its mask's too.

    Raises:
        ChangedError: one of them, or what lies beside it, is another or gone, or something lies there that
            says more of its pixels.
        SourceAwayError: one can't be looked at now.
    """
    for file in source.every_file:
        with told_if_away(file):
            now = read_header(file.path).file if source.is_volume else Header(file.path).file
            if now != file:
                raise ChangedError.of(_other(file, now))


def _other(file: SourceFile, now: SourceFile) -> Path:
    """Which of the file and those beside it differs."""
    apart = sorted(set(file.sidecars) ^ set(now.sidecars))
    parts = zip((file.path, *file.sidecars), file.states, (*now.states, None), strict=False)
    later = [part for part, before, after in parts if before != after]
    return next(iter([*apart, *later]), None) or changed_part(file) or speaker(file)
