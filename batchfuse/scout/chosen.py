"""What was chosen to be fused, and what was left out and why."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from batchfuse.imagery.discovery import Discovery
from batchfuse.plan import Plan
from batchfuse.scout.findings import Findings, counted
from batchfuse.scout.headers import Settings
from batchfuse.scout.marks import Marked
from batchfuse.scout.proposals import Patterns, Proposal
from batchfuse.scout.series import Option
from batchfuse.scout.together import OTHER, kinds
from batchfuse.scout.words import DETAIL
from batchfuse.system.words import printable

__all__ = ["Chosen"]

RUN = re.compile(r"_run-[A-Za-z0-9]+")


@dataclass(frozen=True, slots=True)
class Chosen:
    """A proposal that has been planned."""

    proposal: Proposal
    """The sources."""
    others: tuple[Proposal, ...]
    """Other pairs that could have been chosen."""
    found: Findings
    """All that lies there."""
    files: Mapping[str, Marked]
    """The images, as their names tell, by their normalised paths."""
    patterns: Patterns
    """The paths of each role, from the recipe's folder."""
    settings: Mapping[str, Settings]
    """What each role wants beside its path."""
    discovery: Discovery
    """The scenes that the paths find."""
    plan: Plan
    """Of all scenes, or of some of very many."""
    folder: Path
    """Where the recipe lies."""

    @property
    def are_volumes(self) -> bool:
        """Whether volumes are fused, no rasters."""
        return self.proposal.options[0].is_volume

    @property
    def names(self) -> list[str]:
        """The scenes that are complete."""
        return [scene.name for scene in self.discovery.scenes]

    def option(self, role: str) -> Option:
        """The source of a role."""
        return self.proposal.options[self.proposal.roles.index(role)]

    @property
    def families(self) -> str:
        """What was recognised, in words."""
        known = dict.fromkeys(option.family for option in self.proposal.options if option.family)
        roles = " with ".join(
            " or ".join(kinds(option)) if role == OTHER else role
            for role, option in zip(self.proposal.roles, self.proposal.options, strict=True)
        )
        return f"{' and '.join(known)}: {roles}" if known else roles

    @property
    def example(self) -> dict[str, str]:
        """The names of the first scene's files, by role."""
        files = self.discovery.scenes[0].files
        return {role: ", ".join(printable(path.name) for path in paths) for role, paths in files.items()}

    @property
    def reference(self) -> tuple[str, str]:
        """The role that gives the grid, and why."""
        if self.are_volumes:
            return self.plan.jobs[0].reference.role, "whose grid, units and header the fused volume has"
        finest = self.plan.jobs[0].reference.role
        last = self.proposal.roles[-1]
        is_colour = self.settings[last].source.is_colour
        if finest != last and is_colour and last in DETAIL:
            return last, f"to keep its colours; the grid of {finest} is finer"
        return finest, "whose grid, units and colours the fused image has"

    def left_out(self) -> Iterator[str]:
        """What is not fused, a line a reason."""
        runs = Counter(RUN.sub("", file.path) for file in self.files.values() if not file.no_image)
        used = {
            os.path.normpath(p) for s in self.discovery.scenes for paths in s.files.values() for p in paths
        }
        lonely = {os.path.normpath(u.path): u.reason for u in self.discovery.unmatched if u.role is not None}
        groups: dict[str, list[str]] = {}
        for path, file in self.files.items():
            if path in used:
                continue
            several = file.meaning is not None and runs[RUN.sub("", file.path)] > 1
            reason = "" if path in lonely and not several else self._reason(file, several)
            groups.setdefault(reason, []).append(file.path)
        lacking = groups.pop("", [])
        if lacking:
            first = lonely[os.path.normpath(self.found.base / lacking[0])]
            yield f"{counted(len(lacking), 'file')} of scenes that are not complete: {self._shortened(first)}"
        for reason, paths in sorted(groups.items(), key=lambda group: -len(group[1])):
            name = printable(paths[0].rpartition("/")[2])
            yield f"{counted(len(paths), 'file')}, such as {name}: {reason}"
        if self.found.results:
            yield f"{counted(self.found.results, 'image')} that an earlier run wrote"
        yield from self.found.told_of_foreign()

    def failures(self) -> Iterator[str]:
        """Scenes that are complete by their names and can't be fused all the same."""
        for failure in self.plan.failures:
            yield f"{failure.scene}: {self._shortened(failure.reason)}"

    def _shortened(self, line: str) -> str:
        return printable(line.replace(f"{self.folder}/", ""))

    def _reason(self, file: Marked, in_several_runs: bool) -> str:
        """Why a file is in no scene, though its name could have told what it is."""
        if file.no_image:
            return file.no_image
        if file.meaning is None or not file.meaning.role:
            return "nothing like it in the sources"
        alone = any(option.is_one_colour for option in self.proposal.options)
        if in_several_runs:
            return f"{file.meaning.role} in several runs, of which a scene takes one: choose with `manifest:`"
        what = (alone and file.meaning.colour) or file.meaning.role
        family = f" of {file.family}" if file.family else ""
        return f"{what}{family}, not among the sources: name it in the place of one, or in another recipe"
