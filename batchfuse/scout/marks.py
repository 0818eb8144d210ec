"""What a file's name says it is, and which parts of the name say so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from batchfuse.scout.words import (
    BIDS_CONTRASTS,
    BIDS_NONE,
    COLOUR_LETTERS,
    LAST_LETTERS,
    PLACED,
    PRODUCTS,
    QUALITY,
    ROLES,
    SENSORS,
    VOLUME_QUALITY,
    VOLUME_ROLES,
    Meaning,
)

__all__ = ["BASELINE", "Marked", "Span", "ending_of", "marked_files", "marked_volumes", "words_of_roles"]

Span = tuple[int, int]
"""Start and stop of a part of a path."""

LANDSAT = re.compile(
    r"(?<![A-Za-z0-9])L[COTEM](?:0(?P<new>[4-9])_L(?P<level>[12])[A-Z]{2}_\d{6}_\d{8}"
    r"(?:_\d{8}_(?P<collection>\d\d)_(?:T1|T2|RT))?|(?P<old>[4-9])\d{13}[A-Z]{3}\d\d)(?![A-Za-z0-9])"
)
LANDSAT_BAND = re.compile(
    r"(?<![A-Za-z0-9])(?:(?P<kind>SR|ST|sr|bt|toa)_)?(?P<style>B|band)(?P<band>\d{1,2}(?:_VCID_[12])?)(?![A-Za-z0-9])"
)
SENTINEL = re.compile(r"(?<![A-Za-z0-9])(?:S2[A-D]_|T\d\d[A-Z]{3}_\d{8}T\d{6}|HLS\.S30)|\.SAFE(?:/|$)")
SENTINEL_BAND = re.compile(
    r"(?<![A-Za-z0-9])(?:B(?P<band>0[1-9]|1[0-2]|8A)|(?P<tci>TCI))(?:_(?P<metres>[126]0)m)?(?![A-Za-z0-9])"
)
PADDED = re.compile(r"(?<![A-Za-z0-9])B(?:0[1-9]|8A)(?![A-Za-z0-9])")
BASELINE = re.compile(r"_N(\d{4})_R\d{3}_")
MICASENSE_BAND = re.compile(r"(?<=IMG_\d{4}_)(?P<band>[1-6])(?=\.)")
ENDING = re.compile(r"(?:\.(?:nii|img|hdr)\.gz|\.[^./]*)$", re.IGNORECASE)
BIDS = re.compile(
    r"sub-(?P<sub>[A-Za-z0-9]+)(?P<entities>(?:_[A-Za-z]+-[A-Za-z0-9+]+)*)_(?P<suffix>[A-Za-z0-9]+)"
)
ACQUISITION = re.compile(r"_acq-([A-Za-z0-9+]+)")
FIELD_MAPS = re.compile(r"(?:^|/)fmap/")
BIDS_SCENE = re.compile(r"(?:(?<=^sub-)|(?<=[/_]sub-)|(?<=[/_]ses-))[A-Za-z0-9]+")
CIFTI = re.compile(r"\.[dp](?:conn|tseries|scalar|label|dense|pconn|dconn)\.nii$", re.IGNORECASE)
RAW_PERFUSION = re.compile(r"(?:^|[^A-Za-z])asl(?![A-Za-z])", re.IGNORECASE)
ONTO = re.compile(r"[_\-.](?:in|to|on|2)[_\-.]?$", re.IGNORECASE)
"""Before a word that says onto what an image was brought: PET_in_T1 is a PET."""
RESOLUTION_FOLDER = re.compile(r"(?<=/)R[126]0m(?=/)|^R[126]0m(?=/)")


@dataclass(frozen=True, slots=True)
class Marked:
    """A file, and what its name says."""

    path: str
    """Below the folder that all files are in, segments joined by /."""
    meaning: Meaning | None = None
    """What it is; None where nothing tells."""
    spans: tuple[Span, ...] = ()
    """The parts of the path that say so, in order."""
    family: str = ""
    """The sensor and product it is of, if known: bands of one colour source are of one family."""
    numbers: str = ""
    """Key into ``words.NUMBERS``, where the values are known."""
    no_image: str = ""
    """Why it is not taken for a modality, if so."""
    is_volume: bool = False
    """Whether it is a NIfTI volume: those go with each other only."""


@dataclass(frozen=True, slots=True)
class _Beside:
    """What the other files tell of the meaning of one."""

    padded: frozenset[str]
    """Folders that have bands with two digits, as Sentinel-2 writes them."""
    tirs: bool
    """Whether there are bands 10 or 11, as Landsat 8 and 9 have them."""
    letters: Mapping[str, Meaning]
    """What capitals at the end mean."""


def marked_files(paths: Iterable[str]) -> list[Marked]:
    """Tell what each file is, from its own name and those of the files beside it."""
    every = list(paths)
    green = any(_stem(_name(path)).endswith("_G") for path in every)
    beside = _Beside(
        frozenset(_folder(path) for path in every if PADDED.search(_name(path))),
        any(re.search(r"(?:^|[/_])(?:ST_)?B1[01](?![0-9A-Za-z])", path) for path in every),
        COLOUR_LETTERS if green else LAST_LETTERS,
    )
    return [_marked(path, beside) for path in every]


def marked_volumes(paths: Iterable[str]) -> list[Marked]:
    """Tell what each NIfTI file is, from its name and folders."""
    return [replace(_marked_volume(path), is_volume=True) for path in paths]


def ending_of(path: str) -> str:
    """The ending of a file's name with its dot, .nii.gz as one; empty where it has none."""
    found = ENDING.search(path, path.rfind("/") + 1)
    return found[0] if found and found.start() > path.rfind("/") + 1 else ""


def words_of_roles(file: Marked) -> re.Pattern[str]:
    """What finds the words in a path that say what a file shows."""
    return _VOLUME_ROLE if file.is_volume else _ROLE


def _marked_volume(path: str) -> Marked:
    if CIFTI.search(path):
        return Marked(path, no_image="CIFTI: surfaces, not a volume")
    if FIELD_MAPS.search(path):
        return Marked(path, no_image="fmap: a map of the scanner's field")
    *folders, name = path.split("/")
    stem = _stem(name)
    for text in (stem, *folders):
        if found := _LABELS_AT_END.search(text) or _LABELS_AT_START.search(text):
            word = found[0].strip("_-. ")
            return Marked(path, no_image=f"{word}: a label map, mask or result")
    if bids := BIDS.fullmatch(stem):
        return _of_bids(path, bids)
    start = len(path) - len(name)
    own = [
        (VOLUME_ROLES[m[0].lower()], m.span())
        for m in _VOLUME_ROLE.finditer(stem)
        if not ONTO.search(stem, 0, m.start())
    ]
    above = [(VOLUME_ROLES[m[0].lower()], m.span()) for m in _VOLUME_ROLE.finditer(path[:start])]
    meaning = next((found for found, _ in reversed(own or above)), None)
    if RAW_PERFUSION.search(stem) and (meaning is None or meaning.role != "cbf"):
        return Marked(path, no_image=f"asl: {BIDS_NONE['asl']}")
    return Marked(
        path, meaning, (*(span for _, span in above), *((s + start, e + start) for _, (s, e) in own))
    )


def _of_bids(path: str, name: re.Match[str]) -> Marked:
    """By the suffix alone: what stands behind acq-, rec- or dir- is anybody's choice."""
    suffix = name["suffix"].lower()
    if suffix in BIDS_NONE:
        return Marked(path, no_image=f"{name['suffix']}: {BIDS_NONE[suffix]}")
    contrast = ACQUISITION.search(name["entities"])
    if suffix in BIDS_CONTRASTS and contrast:
        suffix = contrast[1].lower()
    return Marked(path, VOLUME_ROLES.get(suffix), _all_but_scene(path), "BIDS")


def _all_but_scene(path: str) -> tuple[Span, ...]:
    """The parts of a BIDS path between the values of sub and ses: all of it says what the file is."""
    edges = [0, *(edge for found in BIDS_SCENE.finditer(path) for edge in found.span()), len(path)]
    return tuple(zip(edges[::2], edges[1::2], strict=True))


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _marked(path: str, beside: _Beside) -> Marked:
    if ".SAFE/" in path and "/IMG_DATA/" not in path:
        return Marked(path, no_image="no band of the product")
    if word := _quality_word(path):
        return Marked(path, no_image=f"{word}: a quality band, mask, label or result")
    return _by_sensor(path, beside) or _by_words(path, beside)


def _by_sensor(path: str, beside: _Beside) -> Marked | None:
    """A band of a product that is known."""
    if LANDSAT.search(path) or "landsat" in _name(path).lower():
        return _landsat(path, beside.tirs)
    if "HLS.L30" in path:
        return _band_of("Landsat 8 or 9", SENTINEL_BAND, path, "HLS, Landsat 8 or 9")
    if MICASENSE_BAND.search(path):
        return _band_of("MicaSense", MICASENSE_BAND, path, "MicaSense")
    if SENTINEL.search(path) or _folder(path) in beside.padded:
        return _sentinel(path)
    return _landsat(path, beside.tirs)


def _landsat(path: str, tirs: bool) -> Marked | None:
    """A band of a Landsat product, by its id, or by bands named as in one."""
    product = LANDSAT.search(path)
    band = _last(LANDSAT_BAND, path)
    if band is None:
        return None
    if product:
        number = product["new"] or product["old"]
        level = f", level {product['level']}" if product["level"] else ""
        collection = f", Collection {int(product['collection'])}" if product["collection"] else ""
        sensor = "Landsat 4, 5 or 7" if number in "457" else "Landsat 8 or 9"
        family = f"Landsat {number}{collection}{level}" if number in "457" else f"{sensor}{collection}{level}"
    else:
        thematic = not tirs and re.search(r"ST_B6|B6_VCID", path)
        sensor = "Landsat 4, 5 or 7" if thematic else "Landsat 8 or 9"
        family = f"{sensor} by its band names"
    kind = band["kind"] or ""
    numbers = {"SR": "Landsat SR", "ST": "Landsat ST"}.get(kind, "Landsat B" if product else "")
    if band["style"] == "band":
        numbers = f"Landsat {kind}_band" if kind in ("sr", "bt") else ""
    meaning = SENSORS[sensor].get(band["band"].lstrip("0"))
    if meaning is None:
        return Marked(path, family=family, no_image=f"band {band['band']} of {sensor}: none that init fuses")
    physical = replace(meaning, rank=meaning.rank + (not kind))  # level 2 before level 1
    return Marked(path, physical, (band.span(),), family, numbers)


def _sentinel(path: str) -> Marked | None:
    baseline = BASELINE.search(path)
    late = baseline is not None and baseline[1] >= "0400"
    numbers = "Sentinel-2 from 04.00" if late else "Sentinel-2"
    found = _band_of("Sentinel-2", SENTINEL_BAND, path, "Sentinel-2")
    if found is None or found.meaning is None:
        return found
    return replace(found, numbers=numbers if found.meaning.colour or found.meaning.role == "nir" else "")


def _band_of(sensor: str, expression: re.Pattern[str], path: str, family: str) -> Marked | None:
    band = _last(expression, path)
    if band is None:
        return None
    found = band.groupdict()
    number = "TCI" if found.get("tci") else band["band"].lstrip("0")
    meaning = SENSORS[sensor].get(number)
    if meaning is None:
        return Marked(path, family=family, no_image=f"band {number} of {sensor}: none that init fuses")
    metres = int(found.get("metres") or 10)
    folders = [found.span() for found in RESOLUTION_FOLDER.finditer(path)]
    coarser = replace(meaning, rank=meaning.rank + metres // 10 - 1)
    family = f"{family}, {metres} m" if found.get("metres") else family
    return Marked(path, coarser, (*folders, band.span()), family)


def _last(expression: re.Pattern[str], path: str) -> re.Match[str] | None:
    """The last match in the file's name."""
    start = path.rfind("/") + 1
    return max(expression.finditer(path, start), key=lambda match: match.start(), default=None)


def _by_words(path: str, beside: _Beside) -> Marked:
    """By the last word of its name that means something, else by its innermost folder that does."""
    text = LANDSAT.sub(lambda product: "0" * len(product[0]), path)  # T1 is a tier there, no scan
    start = text.rfind("/") + 1
    stem = _stem(text[start:])
    own = [(meaning, (s + start, e + start)) for meaning, (s, e) in _words(stem)]
    capital = re.search(r"(?<=_)[A-Z]$", stem)
    if not own and capital and capital[0] in beside.letters:
        own = [(beside.letters[capital[0]], (capital.start() + start, capital.end() + start))]
    above = list(_words(text[:start]))
    if any(not _is_product(text, span) for _, span in (*own, *above)):
        own, above = ([word for word in words if not _is_product(text, word[1])] for words in (own, above))
    if not own and not above:
        return Marked(path)
    meaning = (own or above)[-1][0]
    same = [span for other, span in above if other.role == meaning.role]
    spans = [*same, *(span for other, span in own if other == meaning)]
    return Marked(path, meaning, tuple(spans))


def _is_product(text: str, span: Span) -> bool:
    """Whether a word says what was made of images, such as an orthophoto, which may be of any camera."""
    return text[slice(*span)].lower() in PRODUCTS


def _stem(name: str) -> str:
    return name.removesuffix(ending_of(name))


def _quality_word(path: str) -> str | None:
    """The word that says that a file is no modality: at its name's end or beginning, or of a folder."""
    *folders, name = path.split("/")
    stem = re.sub(r"_(?:[126]0m|clip)$", "", _stem(name))
    for text in (stem, *folders):
        found = _QUALITY_AT_END.search(text) or _QUALITY_AT_START.search(text)
        if found:
            return found[0].strip("_-. ")
    return None


def _words(text: str) -> Iterator[tuple[Meaning, Span]]:
    """The words that mean a role, in order."""
    yield from _found_words(text)


@lru_cache(maxsize=4096)
def _found_words(text: str) -> tuple[tuple[Meaning, Span], ...]:
    found = [(ROLES[match[0].lower()], match.span()) for match in _ROLE.finditer(text)]
    if not found:
        found = [(ROLES[match[0].lower()], match.span()) for match in _PLACED.finditer(text)]
    return tuple(found)


def _alternatives(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


# re.ASCII: case is ignored in ASCII only, so that no sign matches a word of another length
_HUMP = "(?-i:(?<=[a-z])(?=[A-Z]))"
_ROLE = re.compile(
    rf"(?:(?<![A-Za-z])|{_HUMP})(?:{_alternatives(ROLES)})(?:(?![A-Za-z])|{_HUMP})", re.IGNORECASE | re.ASCII
)
_PLACED = re.compile(_alternatives(PLACED), re.IGNORECASE | re.ASCII)
_QUALITY_AT_END = re.compile(rf"(?:^|[^A-Za-z0-9])(?:{_alternatives(QUALITY)})$", re.IGNORECASE | re.ASCII)
_LABELS_AT_END = re.compile(
    rf"(?:^|[^A-Za-z0-9])(?:{_alternatives(VOLUME_QUALITY)})$", re.IGNORECASE | re.ASCII
)
_LABELS_AT_START = re.compile(
    rf"^(?:{_alternatives(VOLUME_QUALITY)})(?=[^A-Za-z0-9]|$)", re.IGNORECASE | re.ASCII
)
_NUMBERED = [word for word in VOLUME_ROLES if word[-1].isdigit()]  # T1 is not the beginning of T10
_VOLUME_ROLE = re.compile(
    rf"(?:(?<![A-Za-z])|{_HUMP})(?:(?:{_alternatives(set(VOLUME_ROLES) - set(_NUMBERED))})"
    rf"|(?:{_alternatives(_NUMBERED)})(?![0-9]))(?:(?![A-Za-z])|{_HUMP})",
    re.IGNORECASE | re.ASCII,
)
_QUALITY_AT_START = re.compile(rf"^(?:{_alternatives(QUALITY)})(?=[^A-Za-z0-9]|$)", re.IGNORECASE | re.ASCII)
