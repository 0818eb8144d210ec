"""Files on disk become scenes by their names; no file is opened."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from batchfuse.errors import AmbiguousError, RecipeError
from batchfuse.imagery.files import DICOM_REMEDY, holds_dicom, is_dicom_name
from batchfuse.imagery.manifest import read_manifest
from batchfuse.imagery.matches import Catch, Matches, Values, is_there, like, matched_files, names_in, nearest
from batchfuse.imagery.naming import name_fault, natural_order
from batchfuse.system.words import printable

__all__ = ["NAMELESS", "Discovery", "FoundScene", "Unmatched", "discover"]

MOST_LINES = 10
"""Mistakes told at once."""
NAMELESS = "scene"
"""What the one scene is called whose paths have no wildcard."""
MASK = ".mask"
"""Ends the name of a role's mask, among roles; no role has a dot in it."""


@dataclass(frozen=True, slots=True)
class FoundScene:
    """A scene whose files are all there."""

    name: str
    """The values of the wildcards, joined by _; the manifest's name; or NAMELESS where there is neither."""
    files: Mapping[str, tuple[Path, ...]]
    """The files of each role, both in the recipe's order."""
    masks: Mapping[str, Path] = field(default_factory=dict)
    """The mask of each role that has one."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file of it."""
        return (*(path for paths in self.files.values() for path in paths), *self.masks.values())

    @classmethod
    def of(cls, name: str, files: Mapping[str, tuple[Path, ...]]) -> FoundScene:
        """From files by role, where a mask goes as ``<role>.mask``."""
        masks = {r.removesuffix(MASK): paths[0] for r, paths in files.items() if r.endswith(MASK)}
        return cls(name, {r: paths for r, paths in files.items() if not r.endswith(MASK)}, masks)


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A file that is part of no scene."""

    path: Path
    """The file; with a manifest, the one that is missing; or a folder that can't be searched."""
    role: str | None
    """The source that it would belong to, if any."""
    reason: str
    """Why it is left over, in a line."""
    scene: str | None = None
    """The scene that it would be part of, were that complete."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """All that was found."""

    scenes: tuple[FoundScene, ...]
    """The complete ones, in natural order of their names."""
    unmatched: tuple[Unmatched, ...]
    """What was found and is not used, in natural order of the paths."""


def discover(
    folder: Path,
    patterns: Mapping[str, Sequence[str]],
    manifest: str | None = None,
    left_out: Path | None = None,
) -> Discovery:
    """Find the scenes of a recipe.

    Args:
        folder: where relative paths start.
        patterns: the paths of each role, as ``wildcards.Pattern`` reads them; empty with a manifest. A role's
            mask stands beside it as ``<role>.mask``.
        manifest: a CSV file that names the files in place of patterns.
        left_out: a folder that is not searched, such as the output's.

    A pattern that lacks some of the wildcards belongs to every scene that shares the others: one elevation
    model a tile, or one file for all. At least one pattern must have all of them.

    Raises:
        RecipeError: a pattern or the manifest is wrong, a scene has two files for one pattern or one file for
            two, two scenes have one name, or no scene is complete; a line each.
    """
    if manifest is not None:
        return _listed(folder / os.path.expanduser(manifest), tuple(patterns))  # noqa: PTH111 (never raises)
    join = _Join(matched_files(patterns, folder, left_out))
    found = join.discovery()
    if not found.scenes:
        raise RecipeError(*join.why_nothing(found))
    return found


def _listed(manifest: Path, roles: Sequence[str]) -> Discovery:
    """The scenes of a manifest; one that names a missing file is left out, and told."""
    scenes: list[FoundScene] = []
    unmatched: list[Unmatched] = []
    mistakes: list[str] = []
    for row in read_manifest(manifest, roles):
        place = f"{manifest}:{row.line}"
        missing = [
            Unmatched(path, role, f'{place}: scene "{row.scene}": {_absence(path)}', row.scene)
            for role, paths in row.files.items()
            for path in paths
            if not is_there(path)
        ]
        scene = FoundScene.of(row.scene, row.files)
        mistakes += [f"{place}: {line}" for line in _shared(row.scene, scene.files)]
        mistakes += [
            f"{place}: {role} takes one file, not {len(paths)}"
            for role, paths in row.files.items()
            if role.endswith(MASK) and len(paths) > 1
        ]
        unmatched += missing
        if not missing:
            scenes.append(scene)
    if not scenes:
        mistakes += [missing.reason for missing in unmatched]
    _raise_if_any(mistakes)
    return Discovery(_sorted(scenes), tuple(unmatched))


class _Join:
    """What the patterns matched, joined into scenes on the wildcards they share."""

    def __init__(self, catch: Catch) -> None:
        self.catch = catch
        self.wildcards = tuple(dict.fromkeys(name for one in catch.matches for name in one.pattern.wildcards))
        self.columns = [
            (one, tuple(self.wildcards.index(name) for name in one.pattern.wildcards))
            for one in catch.matches
        ]
        """Each pattern, and where its wildcards stand among all."""
        self.complete = [(one, c) for one, c in self.columns if len(c) == len(self.wildcards)]
        """The patterns that have all the wildcards, and so tell which scenes there are."""
        if not self.complete:
            raise RecipeError(self._no_complete_pattern())

    def discovery(self) -> Discovery:
        """The scenes and what is left over; raises what makes the recipe ambiguous."""
        scenes: dict[str, FoundScene] = {}
        left: dict[Values, tuple[str, str]] = {}
        mistakes: list[str] = []
        ambiguous: list[str] = []
        for values in self._candidates():
            name = "_".join(values) or NAMELESS
            paths = [one.files.get(tuple(values[c] for c in columns), []) for one, columns in self.columns]
            ambiguous += self._ambiguous(name, paths)
            fault = self._fault(name, values, paths)
            if fault:
                left[values] = name, fault
                continue
            scene = FoundScene.of(name, self._by_role(paths))
            mistakes += _shared(name, scene.files)
            if name in scenes:
                mistakes.append(self._same_name(scenes[name], scene))
            scenes[name] = scene
        _raise_if_any([*ambiguous, *mistakes], AmbiguousError if ambiguous else RecipeError)
        return Discovery(_sorted(list(scenes.values())), self._unmatched(scenes.values(), left))

    def _candidates(self) -> Iterator[Values]:
        """The wildcard values that make a scene for at least one pattern."""
        candidates: dict[Values, None] = {}
        for one, columns in self.complete:
            back = [columns.index(column) for column in range(len(columns))]
            candidates |= dict.fromkeys(tuple(values[i] for i in back) for values in one.files)
        yield from candidates

    def _by_role(self, paths: Sequence[Sequence[Path]]) -> dict[str, tuple[Path, ...]]:
        files: dict[str, tuple[Path, ...]] = {}
        for (one, _), (path, *_others) in zip(self.columns, paths, strict=True):
            files[one.role] = (*files.get(one.role, ()), path)
        return files

    def _ambiguous(self, name: str, paths: Sequence[Sequence[Path]]) -> Iterator[str]:
        for (one, _), found in zip(self.columns, paths, strict=True):
            if len(found) > 1:
                files = ", ".join(printable(path) for path in found[:4]) + (", …" if len(found) > 4 else "")
                dicom = all(is_dicom_name(path.name) for path in found)
                yield (
                    f'scene "{printable(name)}" has {len(found)} files where {one.role} takes one: '
                    + (
                        f"{files}: these are DICOM slices, {DICOM_REMEDY}"
                        if dicom
                        else f'{files}: make "{one.pattern.text}" narrower'
                    )
                )

    def _fault(self, name: str, values: Values, paths: Sequence[Sequence[Path]]) -> str | None:
        """Why these values make no scene, or None."""
        missing = [one for (one, _), found in zip(self.columns, paths, strict=True) if not found]
        if missing:
            wanted = missing[0].pattern.filled(dict(zip(self.wildcards, values, strict=True)))
            others = f" (nor {len(missing) - 1} more of its files)" if len(missing) > 1 else ""
            return f'scene "{printable(name)}" has no {missing[0].role}: no {printable(wanted)}{others}'
        fault = name_fault(name)
        return fault and (
            f'"{printable(name)}" can\'t be the name of a scene: {fault}; name it in a manifest instead'
        )

    def _unmatched(
        self, scenes: Collection[FoundScene], left: Mapping[Values, tuple[str, str]]
    ) -> tuple[Unmatched, ...]:
        used = {path for scene in scenes for paths in scene.files.values() for path in paths}
        used |= {path for scene in scenes for path in scene.masks.values()}
        found = [Unmatched(path, None, f"can't be searched: {why}") for path, why in self.catch.unreadable]
        found += [Unmatched(path, None, "matches no source") for path in self.catch.strays]
        reasons = self._reasons(left)
        # two sources may share a mask: its pattern is told of once
        for one in {one.pattern.text: one for one, _ in reversed(self.columns)}.values():
            for values, paths in one.files.items():
                scene, reason = reasons.get((one.pattern.text, values)) or (None, _alone(one, values))
                found += [Unmatched(path, one.role, reason, scene) for path in paths if path not in used]
        return tuple(sorted(found, key=lambda item: (natural_order(str(item.path)), item.role or "")))

    def _reasons(self, left: Mapping[Values, tuple[str, str]]) -> dict[tuple[str, Values], tuple[str, str]]:
        """Of each pattern's values, the scene that is not complete, and why."""
        return {
            (one.pattern.text, tuple(values[column] for column in columns)): told
            for values, told in left.items()
            for one, columns in self.complete
        }

    def _same_name(self, first: FoundScene, second: FoundScene) -> str:
        files = " and ".join(printable(next(iter(scene.files.values()))[0]) for scene in (first, second))
        return f'two scenes are called "{first.name}" once their wildcards are joined by _: {files}'

    def _no_complete_pattern(self) -> str:
        each = "; ".join(
            f'{one.role} ("{one.pattern.text}") has {_braced(one.pattern.wildcards)}'
            for one in self.catch.matches
        )
        return f"no source has all of the wildcards {_braced(self.wildcards)}, so nothing joins them: {each}"

    def why_nothing(self, found: Discovery) -> list[str]:
        """The lines of the error when no scene is complete: what each pattern matched."""
        lines = ["no scene is complete: each needs a file of every source"]
        for one in self.catch.matches[: MOST_LINES - 1]:
            if one.files:
                example = printable(next(iter(one.files.values()))[0].name)
                matches = f"matches {one.count} file{'s' if one.count > 1 else ''}, such as {example}"
            else:
                matches = f"matches no file: {nearest(one.pattern)}"
            lines.append(f'{one.role}: "{one.pattern.text}" {matches}')
        reasons = dict.fromkeys(item.reason for item in found.unmatched if item.scene)
        return [*lines, *list(reasons)[:3]]


def _alone(one: Matches, values: Values) -> str:
    pairs = ", ".join(f"{name} = {v}" for name, v in zip(one.pattern.wildcards, values, strict=True))
    return f"no complete scene has {printable(pairs)}" if pairs else "no scene is complete"


def _braced(wildcards: Sequence[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in wildcards) or "none"


def _shared(name: str, files: Mapping[str, tuple[Path, ...]]) -> list[str]:
    """The mistake of naming one file twice in a scene."""
    owners: dict[str, list[str]] = {}
    for role, paths in files.items():
        for path in paths:
            owners.setdefault(os.path.normpath(path), []).append(role)
    return [
        f'scene "{name}" has one file for {" and ".join(roles)}: {printable(path)}'
        for path, roles in owners.items()
        if len(roles) > 1
    ]


def _absence(path: Path) -> str:
    if holds_dicom(path):
        return f"{printable(path)} is a folder of DICOM slices: {DICOM_REMEDY}"
    kind = "is not a file" if os.path.lexists(path) else "does not exist"
    return f"{printable(path)} {kind}{like(path.name, names_in(path.parent))}"


def _sorted(scenes: Sequence[FoundScene]) -> tuple[FoundScene, ...]:
    return tuple(sorted(scenes, key=lambda scene: natural_order(scene.name)))


def _raise_if_any(mistakes: Sequence[str], kind: type[RecipeError] = RecipeError) -> None:
    if mistakes:
        more = len(mistakes) - MOST_LINES
        rest = [f"… and {more} more"] if more > 0 else []
        raise kind(*mistakes[:MOST_LINES], *rest)
