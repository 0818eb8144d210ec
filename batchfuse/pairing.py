"""Sources and fused images without a recipe, brought together into scenes by their names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchfuse.errors import RecipeError
from batchfuse.imagery.discovery import Discovery, FoundScene, Unmatched, discover
from batchfuse.imagery.matches import IMAGES
from batchfuse.imagery.naming import natural_order
from batchfuse.storage.store import is_store, stores_within
from batchfuse.system.words import printable

__all__ = ["FUSED", "paired"]

FUSED = "fused image"
"""The role of the fused image among the files of a scene."""
PICTURES = (*IMAGES, ".jpeg", ".bmp", ".webp")
QUICKLOOK = ".quicklook.png"


@dataclass(frozen=True, slots=True)
class Told:
    """One argument of the call: a file, a store, a folder, or a pattern with wildcards."""

    role: str
    """source 1, source 2, … or the fused image."""
    text: str
    """As it was written."""

    @property
    def path(self) -> Path:
        """Where it leads, read as a path."""
        return Path(os.path.expanduser(self.text))  # noqa: PTH111 (never raises)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of images."""
        return self.path.is_dir() and not is_store(self.path)

    @property
    def is_pattern(self) -> bool:
        """Whether it stands for many files; a file that is there is meant, whatever its name has in it."""
        return not os.path.lexists(self.path) and re.search(r"[*{]", self.text) is not None


def paired(sources: Sequence[str], fused: str) -> Discovery:
    """The scenes that sources and fused images make, each with its files by role.

    Args:
        sources: two or more files, folders or patterns with {wildcards}.
        fused: the same of the fused image; also a store, or a folder of them.

    Files alone are one scene. Patterns are joined on their wildcards, as a recipe's are; folders by the names
    of their files without ending; the two by the name of the scene. A file beside them belongs to all.

    Raises:
        RecipeError: there are less than two sources, one is named twice, or no scene is complete.
    """
    if len(sources) < 2:
        raise RecipeError(f"--sources takes two or more images of a scene, not {len(sources)}")
    told = [*(Told(f"source {i}", text) for i, text in enumerate(sources, start=1)), Told(FUSED, fused)]
    _refuse_twice(told)
    if any(one.is_pattern for one in told):
        found = _by_pattern([one for one in told if not one.is_folder])
        return _joined(found, [one for one in told if one.is_folder], told)
    files = {one.role: (one.path,) for one in told if not one.is_folder}
    folders = [one for one in told if one.is_folder]
    if not folders:
        return Discovery((FoundScene(_name(Path(fused)), files),), ())
    return _joined(None, folders, told, files)


def _refuse_twice(told: Sequence[Told]) -> None:
    places: dict[str, Told] = {}
    for one in told:
        place = os.path.realpath(one.path)
        if place in places:
            other = places[place].role
            raise RecipeError(f"{one.text} is named twice, as {other} and as {one.role}: name another one")
        places[place] = one


def _by_pattern(told: Sequence[Told]) -> Discovery:
    for one in told:
        if one.is_pattern and re.search(r"\.zarr/*$", one.text):
            raise RecipeError(
                f"{one.text}: stores are found by their folder, so name that in place of a pattern, or "
                "evaluate their recipe"
            )
    texts = (_escaped(one) if not one.is_pattern else os.path.expanduser(one.text) for one in told)  # noqa: PTH111
    return discover(Path(), {one.role: (text,) for one, text in zip(told, texts, strict=True)})


def _escaped(one: Told) -> str:
    return str(one.path).replace("{", "{{").replace("}", "}}")


def _joined(
    found: Discovery | None,
    folders: Sequence[Told],
    told: Sequence[Told],
    shared: Mapping[str, tuple[Path, ...]] | None = None,
) -> Discovery:
    """The scenes of the patterns, if there are any, with the files of the same names in the folders."""
    listed = {one.role: _listed(one) for one in folders}
    by_scene = {} if found is None else {scene.name: scene.files for scene in found.scenes}
    named = [set(names) for names in listed.values()] + ([] if found is None else [set(by_scene)])
    common = set.intersection(*named)
    if not common:
        raise RecipeError(_why_nothing(folders, listed, by_scene))
    order = [one.role for one in told]
    scenes = []
    for name in sorted(common, key=natural_order):
        here = {role: (names[name],) for role, names in listed.items()}
        files = {**(shared or {}), **by_scene.get(name, {}), **here}
        scenes.append(FoundScene(name, {role: files[role] for role in order}))
    left = [*(found.unmatched if found else ())]
    for role, names in listed.items():
        left += [
            Unmatched(names[n], role, _lacking(n, listed, found, by_scene)) for n in names if n not in common
        ]
    for name in by_scene.keys() - common:
        reason = _lacking(name, listed, found, by_scene)
        left += [
            Unmatched(path, role, reason, name) for role, paths in by_scene[name].items() for path in paths
        ]
    return Discovery(tuple(scenes), tuple(sorted(left, key=lambda item: natural_order(str(item.path)))))


def _listed(one: Told) -> dict[str, Path]:
    """The images in a folder by their names without ending; of fused ones the stores, if there are any."""
    stores = stores_within(one.path) if one.role == FUSED else []
    names: dict[str, Path] = {}
    for path in stores or _pictures(one.path):
        name = _name(path)
        if name in names:
            pattern = f"{one.text.rstrip('/')}/{{scene}}{path.suffix}"
            raise RecipeError(
                f"{one.text} has two images called {printable(name)}: {printable(names[name].name)} and "
                f"{printable(path.name)}; say which with a pattern, such as {printable(pattern)}"
            )
        names[name] = path
    if not names:
        raise RecipeError(f"{one.text} has no {'store and no ' if one.role == FUSED else ''}image in it")
    return names


def _pictures(folder: Path) -> list[Path]:
    try:
        entries = sorted(folder.iterdir(), key=lambda path: natural_order(path.name))
    except OSError as error:
        raise RecipeError(f"{folder} can't be listed: {error.strerror}") from None
    return [
        path
        for path in entries
        if path.name.lower().endswith(PICTURES)
        and not path.name.startswith(".")
        and not path.name.endswith(QUICKLOOK)
        and not path.is_dir()
    ]


def _name(path: Path) -> str:
    """What a file is called without its ending."""
    return path.name[: -len(path.suffix)] if path.suffix else path.name


def _lacking(
    name: str,
    listed: Mapping[str, Mapping[str, Path]],
    found: Discovery | None,
    by_scene: Mapping[str, Mapping[str, tuple[Path, ...]]],
) -> str:
    """Why a name makes no scene."""
    missing = [role for role, names in listed.items() if name not in names]
    if found is not None and name not in by_scene:
        missing.append("file that the patterns match")
    return f'scene "{printable(name)}" has no {" and no ".join(missing)}'


def _why_nothing(
    folders: Sequence[Told],
    listed: Mapping[str, Mapping[str, Path]],
    by_scene: Mapping[str, object],
) -> str:
    each = [f"{one.text} has {printable(next(iter(listed[one.role].values())).name)}" for one in folders]
    if by_scene:
        each.append(f'the patterns have scene "{printable(next(iter(by_scene)))}"')
    return (
        f"no scene is complete, since the files share no name ({'; '.join(each)}): tell names that differ "
        "with patterns, such as ir/IR{scene}.png"
    )
