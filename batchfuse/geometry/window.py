"""A half-open box of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Window"]


@dataclass(frozen=True, slots=True)
class Window:
    """Pixels from ``start`` up to, not including, ``stop``, in array order: (y, x), or (z, y, x)."""

    start: tuple[int, ...]
    """First pixel along each axis."""
    stop: tuple[int, ...]
    """One past the last pixel along each axis; never below ``start``."""

    def __post_init__(self) -> None:
        if len(self.start) != len(self.stop):
            raise ValueError(f"start {self.start} and stop {self.stop} differ in dimensions")
        if any(b < a for a, b in zip(self.start, self.stop, strict=True)):
            raise ValueError(f"stop {self.stop} lies before start {self.start}")

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Window:
        """The window of a whole array of this shape."""
        return cls((0,) * len(shape), tuple(int(n) for n in shape))

    @property
    def shape(self) -> tuple[int, ...]:
        """Pixels along each axis."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Pixels in the window."""
        count = 1
        for n in self.shape:
            count *= n
        return count

    @property
    def slices(self) -> tuple[slice, ...]:
        """The window as an index of an array."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def grown(self, by: int | Sequence[int], within: Sequence[int]) -> Window:
        """The window with ``by`` more pixels on each side, clipped to an array of shape ``within``.

        ``by`` is one number, or one an axis.
        """
        margins = (by,) * len(self.start) if isinstance(by, int) else by
        start = tuple(max(0, a - n) for a, n in zip(self.start, margins, strict=True))
        ends = (b + n for b, n in zip(self.stop, margins, strict=True))
        stop = tuple(min(n, end) for n, end in zip(within, ends, strict=True))
        return Window(start, stop)

    def relative_to(self, other: Window) -> Window:
        """The same pixels, counted from the start of ``other``."""
        start = tuple(a - o for a, o in zip(self.start, other.start, strict=True))
        stop = tuple(b - o for b, o in zip(self.stop, other.start, strict=True))
        return Window(start, stop)

    def intersection(self, other: Window) -> Window | None:
        """The pixels both windows have, or None where they have none."""
        start = tuple(max(a, o) for a, o in zip(self.start, other.start, strict=True))
        stop = tuple(min(b, o) for b, o in zip(self.stop, other.stop, strict=True))
        if any(b <= a for a, b in zip(start, stop, strict=True)):
            return None
        return Window(start, stop)
