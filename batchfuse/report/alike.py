"""Sentences that say the same of different scenes: told once, with how many there are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Alike", "Kinds", "alike", "kind_of"]

FILE = re.compile(r"[^\s\"'`(),;:]*(?:[/\\][^\s\"'`(),;:]*|\.[A-Za-z]\w{1,6}\b)")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:e[+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class Alike:
    """Sentences of one kind."""

    scene: str
    """The first scene that has one."""
    line: str
    """What is said of it."""
    scenes: int
    """How many scenes have one."""

    def __str__(self) -> str:
        """How many scenes, and what is said of the first of them."""
        scenes = self.scene if self.scenes == 1 else f"{self.scenes} scenes, such as {self.scene}"
        return f"{scenes}: {self.line}"


def alike(lines: Iterable[tuple[str, str]]) -> list[Alike]:
    """(scene, sentence) pairs by kind, in the order in which the first of each comes."""
    first: dict[str, tuple[str, str]] = {}
    scenes: dict[str, set[str]] = {}
    for scene, line in lines:
        kind = kind_of(scene, line)
        first.setdefault(kind, (scene, line))
        scenes.setdefault(kind, set()).add(scene)
    return [Alike(scene, line, len(scenes[kind])) for kind, (scene, line) in first.items()]


class Kinds:
    """Remembers what kinds of sentences were told."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def is_new(self, scene: str, line: str) -> bool:
        """Whether nothing of this kind was told before; now it is."""
        kind = kind_of(scene, line)
        new = kind not in self._told
        self._told.add(kind)
        return new


def kind_of(scene: str, line: str) -> str:
    """The sentence without what differs from scene to scene: its name, its files, its numbers."""
    return NUMBER.sub("#", FILE.sub("FILE", line.replace(scene, "SCENE") if scene else line))
