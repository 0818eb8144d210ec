"""How far a run is: its tiles, its scenes under way, its rate and the time left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["FUSING", "Account", "Size", "UnderWay"]

SURE = 2.0  # seconds of fusing before the time left is told
FUSING = "fusing"
"""The phase in which the tiles are made."""

Size = tuple[int, int]
"""Tiles and pixels of a scene."""


@dataclass(slots=True)
class UnderWay:
    """What a scene is at."""

    phase: str
    """statistics, survey, fusing, quicklook, …"""
    done: int
    """Parts of the phase that are done; tiles while it is fusing."""
    total: int
    """Parts of the phase; 0 where that is not known."""

    def __str__(self) -> str:
        """As a number of parts: 3/16."""
        return f"{self.done}/{self.total}" if self.total else str(self.done)


class Account:
    """The books of a run. Not safe for several threads: whoever keeps it, locks it.

    The time left is that of the pixels left at the rate of fusing until now. The clock of the rate starts
    with the first scene that begins to fuse, so that the statistics before it don't spoil it, and what was
    there before the run counts as neither done nor left.
    """

    def __init__(self, sizes: Mapping[str, Size], clock: Callable[[], float]) -> None:
        self.scenes = self.ended = self.tiles = self.tiles_done = 0
        self.under_way: dict[str, UnderWay] = {}
        self._sizes, self._clock = sizes, clock
        self._left = 0.0  # pixels, or tiles where sizes are not known
        self._fused_left = 0.0  # of these units, fused in this run
        self._pixels = 0
        self._began: float | None = None

    def begin(self, scenes: int, tiles: int) -> None:
        """A run of this size begins."""
        self.scenes, self.tiles = scenes, tiles
        self._left = float(sum(pixels for _, pixels in self._sizes.values()) if self._sizes else tiles)

    def more(self, tiles: int) -> None:
        """Scenes with so many tiles have joined; of what size they are is not known."""
        self.tiles += tiles
        self._left += 0 if self._sizes else tiles

    def phase(self, scene: str, phase: str, done: int, total: int) -> None:
        """A scene is that far in a phase."""
        self.under_way[scene] = UnderWay(phase, done, total)

    def tile(self, scene: str, pixels: int) -> None:
        """A tile was fused."""
        at = self._fusing(scene)
        at.done += 1
        self.tiles_done += 1
        self._pixels += pixels
        unit = pixels if self._sizes else 1
        self._left -= unit
        self._fused_left += unit

    def skip(self, scene: str, tiles: int) -> None:
        """Tiles that need no fusing."""
        all_tiles, pixels = self._sizes.get(scene, (tiles, tiles))
        self.tiles_done += tiles
        self._left -= tiles * pixels / max(1, all_tiles)
        if tiles < all_tiles or not self._sizes:
            self._fusing(scene).done += tiles

    def end(self, scene: str) -> None:
        """A scene is done with."""
        self.ended += 1
        self.under_way.pop(scene, None)

    @property
    def share(self) -> float:
        """What is done of all there is to do, 0 to 1."""
        whole = float(sum(pixels for _, pixels in self._sizes.values()) if self._sizes else self.tiles)
        return min(1.0, max(0.0, 1 - self._left / whole)) if whole else 1.0

    @property
    def rate(self) -> float | None:
        """Pixels a second, or None before the first."""
        return self._pixels / self._passed() if self._pixels else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the last tile, or None while nobody can know."""
        if not self._pixels or self._left < 0.5 or self._passed() < SURE:
            return None
        return self._left / self._fused_left * self._passed()

    def _fusing(self, scene: str) -> UnderWay:
        """The scene's own account, from now on of its tiles."""
        at = self.under_way.get(scene)
        if at is None or at.phase != FUSING:
            at = self.under_way[scene] = UnderWay(FUSING, 0, self._sizes.get(scene, (0, 0))[0])
        if self._began is None:
            self._began = self._clock()
        return at

    def _passed(self) -> float:
        return max(self._clock() - (self._began or 0.0), 1e-3)
