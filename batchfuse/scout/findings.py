"""The files in some folders: images, and what is left out and why."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from batchfuse.errors import RecipeError
from batchfuse.imagery.folders import list_files
from batchfuse.imagery.foreign import Kind, kind_by_name
from batchfuse.imagery.nifti import is_volume
from batchfuse.scout.marks import Marked, ending_of
from batchfuse.scout.templates import escaped
from batchfuse.scout.words import HALVES, IMAGES, VOLUMES
from batchfuse.system.words import printable

__all__ = ["Findings", "counted", "look"]

MOST_FILES = 200_000
"""More are not sketched: narrower folders say better what is meant."""
MOST_KINDS = 3
"""Of files that are not read, in one line."""
A_PAIR = (
    "a pair is two images of one place that are called alike but for a word, such as a_thermal.tif and "
    "a_optical.tif, thermal/a.tif and optical/a.tif, or a_PET.nii.gz and a_CT.nii.gz"
)
BY_HAND = (
    "what belongs together all the same can be listed by hand, in a CSV file with the columns scene and one "
    "a role that a recipe names with `manifest:`"
)


@dataclass(frozen=True, slots=True)
class Findings:
    """What lies in the folders that were shown."""

    base: Path
    """The folder that all of it is in or below."""
    images: tuple[str, ...]
    """Paths of the images below the base, segments joined by /."""
    volumes: tuple[str, ...]
    """Paths of the NIfTI volumes, the same way; of a pair of .hdr and .img the latter."""
    results: int
    """Images and volumes that an earlier run wrote."""
    foreign: tuple[tuple[Kind, int], ...]
    """Kinds of files that are not read, by their names, and how many there are of each."""
    others: int
    """Files that are none of these by their names."""

    def told_of_foreign(self) -> Iterator[str]:
        """What is not read and could be converted, a kind at a time."""
        for kind, number in self.foreign:
            yield f"{counted(number, kind.bare)}: {kind.remedy}"

    def from_recipe(self, path: str, folder: Path) -> str:
        """A pattern below the base as a recipe in another folder writes it."""
        way = os.path.relpath(self.base, folder)
        if "~" in (way[:1], path[:1]):  # else taken for somebody's home
            way = str(self.base)
        if way == ".":
            return path
        return f"{escaped(Path(way).as_posix())}/{path}"

    def nothing_to_pair(self, files: Sequence[Marked], faults: Sequence[str], doubts: Sequence[str]) -> str:
        """The line that says what was seen, and what a pair looks like."""
        usable = [file for file in files if not file.no_image]
        place = printable(self.base)
        foreign = "; ".join(islice(self.told_of_foreign(), MOST_KINDS))
        if foreign and not usable:
            return f"{place}: {foreign}"
        beside = f"; beside them {foreign}" if foreign else ""
        if not files:
            other = f" ({counted(self.others, 'other file')})" if self.others else ""
            return f"{place}: no images{other}: show a folder with GeoTIFF, JP2, PNG, JPEG or NIfTI files"
        seen = " and ".join(
            counted(number, noun)
            for noun, number in (("image", len(self.images)), ("NIfTI volume", len(self.volumes)))
            if number
        )
        examples = ", ".join(printable(file.path) for file in files[:3]) + (", …" if len(files) > 3 else "")
        if faults:
            return f"{place}: {seen} ({examples}), but none can be fused: {faults[0]}{beside}"
        roles = Counter(file.meaning.role for file in usable if file.meaning)
        told = f", of which {', '.join(f'{n} {role}' for role, n in roles.most_common(4))}" if roles else ""
        left = Counter(file.no_image for file in files if file.no_image)
        told += "".join(f", {number} left out ({why})" for why, number in left.most_common(3))
        why = doubts[0] if doubts else A_PAIR
        return (
            f"{place}: {seen} ({examples}){told}, but no two that belong together: {why}; {BY_HAND}{beside}"
        )


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 file, 2 files."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def look(places: Sequence[Path]) -> Findings:
    """List the images in folders and among files.

    Raises RecipeError where a place is not there, a folder can't be read, or there are far too many files.
    """
    listed: list[Path] = []
    for place in places:
        listed += _files(place)
        if len(listed) > MOST_FILES:
            raise RecipeError(f"more than {MOST_FILES} files in {printable(place)}: show narrower folders")
    bases = [place if place.is_dir() else place.parent for place in places]
    base = Path(os.path.commonpath([one.resolve() for one in bases]))
    if not _can_be_written(str(base)):
        raise RecipeError(f"{printable(base)}: no recipe can name this folder: rename it")
    below = sorted({os.path.relpath(path, base) for path in listed})
    outputs = {path.rpartition("/")[0] for path in below if path.rpartition("/")[2] == "report.json"}
    images = [path for path in below if path.lower().endswith(IMAGES) and _can_be_written(path)]
    results = [path for path in images if path.rpartition("/")[0] in outputs or _is_quicklook(path)]
    volumes = [path for path in below if _can_be_written(path) and _holds_a_volume(base, path, set(below))]
    results += [path for path in volumes if path.rpartition("/")[0] in outputs]
    stems = {_stem(path) for path in volumes if path.lower().endswith(HALVES)}
    headers = [path for path in below if path.lower().endswith((".hdr", ".hdr.gz")) and _stem(path) in stems]
    seen = {*images, *volumes, *headers}
    foreign = Counter(kind for path in below if path not in seen and (kind := kind_by_name(path)))
    return Findings(
        base,
        tuple(path for path in images if path not in {*results, *volumes}),
        tuple(path for path in volumes if path not in results),
        len(results),
        tuple(foreign.most_common()),
        len(below) - len(seen) - foreign.total(),
    )


def _files(place: Path) -> list[Path]:
    if place.is_dir():
        listing = list_files(place, 1, any_depth=True, hidden=False, left_out=None, most=MOST_FILES)
        if listing.unreadable and not listing.files:
            raise RecipeError(f"{printable(place)}: can't be read: {listing.unreadable[0][1]}")
        return [place.resolve() / name for name in listing.files]
    if not os.path.lexists(place):
        raise RecipeError(f"{printable(place)}: no such file or folder")
    return [place.parent.resolve() / place.name]


def _holds_a_volume(base: Path, path: str, all_paths: set[str]) -> bool:
    """By its name; only of an .img with a .hdr beside it, which ENVI has, too, is the header looked at."""
    name = path.lower()
    if not name.endswith(HALVES):
        return name.endswith(VOLUMES)
    has_header = any(f"{_stem(path)}{ending}" in all_paths for ending in (".hdr", ".HDR", ".hdr.gz"))
    return has_header and is_volume(base / path)


def _stem(path: str) -> str:
    return path.removesuffix(ending_of(path))


def _is_quicklook(path: str) -> bool:
    return path.lower().endswith(".quicklook.png")


def _can_be_written(path: str) -> bool:
    """Whether a recipe can name the file: YAML has no control characters, nor broken UTF-8."""
    return not any(unicodedata.category(sign) in ("Cc", "Cs", "Cn", "Zl", "Zp") for sign in path)
