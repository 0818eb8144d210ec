"""A CSV file that names the scenes and their files, in place of wildcards."""

from __future__ import annotations

import csv
import difflib
import io
import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchfuse.errors import RecipeError
from batchfuse.imagery.naming import name_fault
from batchfuse.system.words import printable

__all__ = ["ManifestRow", "read_manifest"]

MOST_LINES = 10
"""Mistakes told at once."""
LARGEST = 16 * 1024**2
"""Bytes: more than a hundred thousand scenes."""
LONGEST = 4096
"""Bytes of a path, as operating systems have it."""


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One scene of a manifest."""

    line: int
    """Its line in the file, counted from 1."""
    scene: str
    """Its name."""
    files: Mapping[str, tuple[Path, ...]]
    """The files of each role, in the recipe's order of roles; they may be missing."""


def read_manifest(path: Path, roles: Sequence[str]) -> list[ManifestRow]:
    """Read the scenes of a manifest: columns ``scene`` and one a role, several files a cell joined by ``;``.

    Raises RecipeError with a line for each mistake, naming the file's line: a missing, unknown or doubled
    column, an empty cell, control characters, a scene named twice or by what can't be a file name, another
    separator.
    """
    records = _records(path)
    if not records:
        raise RecipeError(f"{path}: empty: a manifest has the columns scene,{','.join(roles)}")
    (line, header), *body = records
    _check_header(path, line, header, roles)
    rows: list[ManifestRow] = []
    lines: dict[str, int] = {}
    mistakes: list[str] = []
    for line, cells in body:
        cells_of = dict(zip(header, cells, strict=False))
        fault = _fault(header, cells, cells_of, lines)
        if fault:
            mistakes.append(f"{path}:{line}: {fault}")
            continue
        scene = cells_of["scene"]
        lines[scene] = line
        files = {role: tuple(_located(path, part) for part in cells_of[role].split(";")) for role in roles}
        rows.append(ManifestRow(line, scene, files))
    if mistakes:
        more = len(mistakes) - MOST_LINES
        raise RecipeError(*mistakes[:MOST_LINES], *([f"… and {more} more"] if more > 0 else []))
    if not rows:
        raise RecipeError(f"{path}: names no scene: it has a header only")
    return rows


def _records(path: Path) -> list[tuple[int, list[str]]]:
    """The lines that are not empty, cut into cells, with their numbers."""
    try:
        if not path.is_dir() and path.exists() and not path.is_file():  # a pipe could be waited for in vain
            raise RecipeError(f"{path}: a pipe or a device; give the manifest as a file")
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
        if len(raw) > LARGEST:
            raise RecipeError(f"{path}: larger than {LARGEST // 1024**2} MiB: not a manifest")
        text = raw.decode("utf-8-sig")
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such manifest") from None
    except OSError as error:
        raise RecipeError(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"{path}: not UTF-8 text (byte {error.start}): save the manifest as UTF-8"
        ) from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise RecipeError(f"{path}:{reader.line_num}: not valid CSV: {error}") from None
    return [(line, cells) for line, cells in rows if any(cells)]


def _check_header(path: Path, line: int, header: Sequence[str], roles: Sequence[str]) -> None:
    wanted = ("scene", *roles)
    found = printable(",".join(header))
    for sign, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(header) == 1 and sign in header[0]:
            raise RecipeError(f"{path}:{line}: the columns are separated by {word}: separate them by commas")
    for name in header:
        if header.count(name) > 1:
            raise RecipeError(f"{path}:{line}: the column {printable(name)} is there twice: {found}")
        if name not in wanted:
            close = difflib.get_close_matches(name, [w for w in wanted if w not in header], n=1)
            guess = f'; did you mean "{close[0]}"?' if close else ";"
            raise RecipeError(
                f'{path}:{line}: unknown column "{printable(name)}"{guess} wanted: {",".join(wanted)}'
            )
    for name in wanted:
        if name not in header:
            raise RecipeError(f"{path}:{line}: no column {name} (found {found}): name the columns in line 1")


def _fault(
    header: Sequence[str], cells: Sequence[str], cells_of: Mapping[str, str], lines: Mapping[str, int]
) -> str | None:
    """What is wrong with a row, or None."""
    if len(cells) != len(header):
        return f"{len(cells)} cells in {len(header)} columns; quote a name that has a comma in it"
    for column, cell in cells_of.items():
        if not all(part.strip() for part in cell.split(";")):
            return f"the cell of {column} is empty" if not cell else f"an empty name in {printable(cell)}"
        if any(unicodedata.category(sign) == "Cc" for sign in cell):
            return f"the cell of {column} has control characters in it: {printable(cell[:80])}"
        if any(len(part.encode()) > LONGEST for part in cell.split(";")):
            return f"a path of {column} is longer than {LONGEST} bytes"
    scene = cells_of["scene"]
    if fault := name_fault(scene):
        return f'"{printable(scene)}" can\'t be the name of a scene: {fault}'
    if scene in lines:
        return f'scene "{scene}" is there twice (first on line {lines[scene]})'
    return None


def _located(manifest: Path, text: str) -> Path:
    return manifest.parent / os.path.expanduser(text.strip())  # noqa: PTH111 (never raises)
