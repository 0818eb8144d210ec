"""From files that belong together to the paths with wildcards that find them, and others like them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from batchfuse.scout.series import Key, Series

__all__ = ["Choice", "choices", "escaped", "template"]

Choice = tuple[str, ...]
"""For each part of a key what a pattern has there: a wildcard's name, ``*``, or "" for the text itself."""

FOLDERS = ("folder", "subfolder", "subsubfolder")


@dataclass(frozen=True, slots=True)
class _Part:
    """One part of the keys."""

    values: tuple[str, ...]
    """What it is in each key."""
    is_folder: bool
    """Whether it is (in) a folder's name."""
    is_product: bool
    """Whether it is a folder of a Sentinel-2 product, whose name changes from one to the next."""
    entity: str = ""
    """What BIDS calls it, sub or ses, where the text before it says so."""

    @property
    def varies(self) -> bool:
        return len(set(self.values)) > 1


def choices(series: Sequence[Series]) -> list[Choice]:
    """Ways to write the parts of the keys that some series share, the plainest first.

    The first leaves out (as ``*``) the folders that say nothing which the file's name doesn't; the second
    keeps all of them, for names that are in several folders.
    """
    every = sorted({key for one in series for key in one.files})
    parts = _parts(series[0].skeleton, every)
    if not parts:
        return [()]
    plain, full = _choice(parts, lean=True), _choice(parts, lean=False)
    return [plain] if plain == full else [plain, full]


def template(series: Series, choice: Choice, key: Key) -> str:
    """The path of a series with the wildcards of a choice; ``key`` has the text of the others."""
    text = (
        escaped(series.skeleton[0])
        if not series.skeleton[0].startswith("**/")
        else ("**/" + escaped(series.skeleton[0][3:]))
    )
    for name, value, behind in zip(choice, key, series.skeleton[1:], strict=True):
        text += (name if name == "*" else f"{{{name}}}" if name else escaped(value)) + escaped(behind)
    return text


def escaped(text: str) -> str:
    """Text as a pattern writes it; there is no way to write a star but as one."""
    return text.replace("{", "{{").replace("}", "}}")


def _parts(skeleton: Sequence[str], keys: Sequence[Key]) -> list[_Part]:
    parts = []
    for place in range(len(skeleton) - 1):
        before, behind = skeleton[place], skeleton[place + 1 :]
        values = tuple(key[place] for key in keys)
        in_safe = behind[0].upper().startswith(".SAFE/") or values[0].upper().endswith(".SAFE")
        parts.append(
            _Part(
                values,
                any("/" in text for text in behind),
                in_safe or before.endswith("/GRANULE/"),
                entity[1] if (entity := re.search(r"(?:^|[/_])(sub|ses)-$", before)) else "",
            )
        )
    for place in range(1, len(parts)):  # GRANULE itself is a part where the folder above it is one
        if set(parts[place - 1].values) == {"GRANULE"}:
            parts[place] = _Part(parts[place].values, parts[place].is_folder, True)
    return parts


def _choice(parts: Sequence[_Part], lean: bool) -> Choice:
    """What stands for each part; the file's own name is told first, then the folders from within."""
    leading = _leading(parts)
    chosen = {leading: "scene"}  # but where BIDS has a name for it
    files = folders = 0
    for place in reversed(range(len(parts))):
        part = parts[place]
        if part.entity:
            chosen[place] = part.entity
        if place in chosen:
            continue
        if part.values == parts[leading].values:
            chosen[place] = "scene"
        elif not part.varies and not (part.is_product and lean):
            chosen[place] = ""
        elif lean and part.is_folder and (part.is_product or _says_nothing(part, parts[leading])):
            chosen[place] = "*"
        elif part.is_folder:
            chosen[place] = FOLDERS[folders] if folders < len(FOLDERS) else f"folder{folders}"
            folders += 1
        else:
            files += 1
            chosen[place] = f"part{files}"
    return tuple(chosen[place] for place in range(len(parts)))


def _leading(parts: Sequence[_Part]) -> int:
    """The part that is called scene: of the file's name before folders, what varies, then the longest."""

    def order(place: int) -> tuple[bool, bool, int]:
        part = parts[place]
        return part.varies, not part.is_folder, max(map(len, part.values))

    return max(range(len(parts)), key=order)


def _says_nothing(folder: _Part, leading: _Part) -> bool:
    """Whether a folder repeats (most of) the names of what lies in it, or is repeated by them."""
    for name, inner in zip(folder.values, leading.values, strict=True):
        words, others = _words(name), _words(inner)
        if len(words & others) * 2 < min(len(words), len(others)) or not words & others:
            return False
    return True


def _words(text: str) -> set[str]:
    return set(re.split(r"[^0-9A-Za-z]+", text))
