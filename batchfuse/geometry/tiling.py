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
    """Place in the tiling, (row, column) or (slab, row, column): the index of the chunk the tile owns."""
    core: Window
    """The pixels the tile writes: exactly one chunk, cut at the scene's edge."""
    window: Window
    """The pixels the tile reads: the core and the halo around it, cut at the scene's edge."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """A scene of ``shape`` cut into cores of ``size`` pixels a side; one number, or one an axis.

    The halo is clipped at the scene's edge, never padded: the network zero-pads each of its
    layers there, so padding the input would alter the outer pixels.
    """

    shape: tuple[int, ...]
    """Pixels of the scene along each axis, (y, x), or voxels, (z, y, x)."""
    size: int | tuple[int, ...]
    """Edge of a core in pixels."""
    halo: int | tuple[int, ...]
    """Pixels read beyond the core on each side; 0 along the axis of slices that are fused one by one."""

    def __post_init__(self) -> None:
        right = len(self.sizes) == len(self.halos) == len(self.shape)
        if not right or min(self.sizes) < 1 or min(self.halos) < 0 or min(self.shape) < 1:
            raise ValueError(f"no tiling of {self.shape} by {self.size} with halo {self.halo}")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Edge of a core along each axis."""
        return self.size if isinstance(self.size, tuple) else (self.size,) * len(self.shape)

    @property
    def halos(self) -> tuple[int, ...]:
        """Pixels read beyond the core along each axis."""
        return self.halo if isinstance(self.halo, tuple) else (self.halo,) * len(self.shape)

    @property
    def counts(self) -> tuple[int, ...]:
        """Tiles along each axis."""
        return tuple(-(-n // size) for n, size in zip(self.shape, self.sizes, strict=True))

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
        start = tuple(i * size for i, size in zip(index, self.sizes, strict=True))
        ends = (a + size for a, size in zip(start, self.sizes, strict=True))
        core = Window(start, tuple(min(n, end) for n, end in zip(self.shape, ends, strict=True)))
        return Tile(index, core, core.grown(self.halos, self.shape))

    def __iter__(self) -> Iterator[Tile]:
        for number in range(len(self)):
            index: list[int] = []
            for count in reversed(self.counts):
                number, i = divmod(number, count)
                index.append(i)
            yield self[tuple(reversed(index))]
