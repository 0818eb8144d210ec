"""A scene cut into tiles: each owns a core it writes and knows the window it reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from batchfuse.geometry.window import Window

__all__ = ["Tile", "Tiling"]


@dataclass(frozen=True, slots=True)
class Tile:
    """The unit of work."""

    index: tuple[int, ...]
    """Place in the tiling, (row, column): the index of the chunk the tile owns."""
    core: Window
    """The pixels the tile writes: exactly one chunk, cut at the scene's edge."""
    window: Window
    """The pixels the tile reads: the core and the halo around it, cut at the scene's edge."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """A scene of ``shape`` cut into cores of ``size`` pixels a side.

    The halo is clipped at the scene's edge, never padded: the network zero-pads each of its
    layers there, so padding the input would alter the outer pixels.
    """

    shape: tuple[int, ...]
    """Pixels of the scene along each axis, (y, x)."""
    size: int
    """Edge of a core in pixels."""
    halo: int
    """Pixels read beyond the core on each side."""

    def __post_init__(self) -> None:
        if self.size < 1 or self.halo < 0 or any(n < 1 for n in self.shape):
            raise ValueError(f"no tiling of {self.shape} by {self.size} with halo {self.halo}")

    @property
    def counts(self) -> tuple[int, ...]:
        """Tiles along each axis."""
        return tuple(-(-n // self.size) for n in self.shape)

    def __len__(self) -> int:
        count = 1
        for n in self.counts:
            count *= n
        return count

    def __getitem__(self, index: tuple[int, ...]) -> Tile:
        if len(index) != len(self.shape) or any(
            not 0 <= i < n for i, n in zip(index, self.counts, strict=True)
        ):
            raise IndexError(f"tile {index} of {self.counts}")
        start = tuple(i * self.size for i in index)
        stop = tuple(min(n, a + self.size) for n, a in zip(self.shape, start, strict=True))
        core = Window(start, stop)
        return Tile(index, core, core.grown(self.halo, self.shape))

    def __iter__(self) -> Iterator[Tile]:
        for number in range(len(self)):
            index: list[int] = []
            for count in reversed(self.counts):
                number, i = divmod(number, count)
                index.append(i)
            yield self[tuple(reversed(index))]
