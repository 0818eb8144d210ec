"""A picture of a training: its loss and the parts of it against the iterations, as the paper's figure 4."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from batchfuse.report.lettering import Lettering, lettering
from batchfuse.report.rulers import ticks
from batchfuse.report.signed import save_signed

__all__ = ["Curve", "write_losses"]

SIZE = (900, 560)  # pixels across and down
LEFT, RIGHT, TOP, BOTTOM = 84, 24, 84, 58  # around the axes
FINER = 3  # times as fine as the picture is what is drawn before it is reduced: smooth lines
TITLE, TEXT, SMALL = 17, 13, 10  # sizes of letters
SMOOTHED = 40  # a mean reaches over this part of all iterations
NUMBERED = 8  # iterations with a number below them
LEAST = 1e-12  # a logarithm needs more than 0
BLACK, GRAY, GRID, FAINT = (20, 20, 20), (95, 95, 95), (214, 214, 214), (239, 239, 239)
# of Okabe and Ito's colours, which also the colour-blind tell apart
COLOURS = ((20, 20, 20), (0, 114, 178), (213, 94, 0))

Values = NDArray[np.float64]
Number = TypeVar("Number", float, Values)


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of the picture."""

    name: str
    """What it is called beside its colour."""
    values: Values
    """One an iteration, from the first on."""


def write_losses(curves: tuple[Curve, ...], title: str, path: Path) -> None:
    """Writes a PNG of up to three curves: thin as they are, and thick their mean over 1/40 of the iterations.

    The mean is that of the logarithms, as is fit for a logarithmic axis. Beside each name stands where its
    mean ends.

    Raises:
        SceneError: what lies at ``path`` is no such picture of ours.
        OSError: it can't be written.
    """
    logs = [np.log10(np.maximum(curve.values, LEAST)) for curve in curves]
    axes = _Axes.around(logs)
    image = _drawn(axes, logs)
    draw = ImageDraw.Draw(image)
    _label_axes(image, draw, axes)
    _text(draw, (LEFT, 16), title, TITLE, BLACK, SIZE[0] - LEFT - RIGHT)
    _legend(draw, [(c.name, 10 ** float(_smooth(log)[-1])) for c, log in zip(curves, logs, strict=True)])
    save_signed(image.quantize(256, dither=Image.Dither.NONE), path, "losses", optimize=True)


@dataclass(frozen=True, slots=True)
class _Axes:
    """From iterations and logarithms to pixels of the picture."""

    iterations: int
    low: float
    high: float

    @classmethod
    def around(cls, logs: list[Values]) -> _Axes:
        """All values, with some room; half a decade at the least."""
        low, high = min(float(log.min()) for log in logs), max(float(log.max()) for log in logs)
        room = max(0.04 * (high - low), (0.5 - (high - low)) / 2)
        return cls(len(logs[0]), low - room, high + room)

    def x(self, iteration: Number) -> Number:
        """Across, of iterations from 1."""
        return LEFT + (iteration - 1) / max(1, self.iterations - 1) * (SIZE[0] - LEFT - RIGHT)

    def y(self, log: Number) -> Number:
        """Down, of logarithms."""
        return TOP + (self.high - log) / (self.high - self.low) * (SIZE[1] - TOP - BOTTOM)

    def decades(self) -> Iterator[int]:
        """Whole logarithms within."""
        yield from range(math.ceil(self.low), math.floor(self.high) + 1)

    def between(self) -> Iterator[float]:
        """Logarithms of 2 to 9 times a power of ten within."""
        for decade in range(math.floor(self.low), math.ceil(self.high)):
            for digit in range(2, 10):
                if self.low <= (log := decade + math.log10(digit)) <= self.high:
                    yield log

    def labelled(self) -> Iterator[tuple[float, int, int]]:
        """Logarithms that have a number beside them: its digit and its power of ten."""
        few = len(list(self.decades())) < 2
        for decade in range(math.floor(self.low), math.ceil(self.high) + 1):
            for digit in (1, 2, 5) if few else (1,):
                if self.low <= (log := decade + math.log10(digit)) <= self.high:
                    yield log, digit, decade


def _drawn(axes: _Axes, logs: list[Values]) -> Image.Image:
    """Grid, lines and frame."""
    image = Image.new("RGB", (SIZE[0] * FINER, SIZE[1] * FINER), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    left, right = LEFT * FINER, (SIZE[0] - RIGHT) * FINER
    top, bottom = TOP * FINER, (SIZE[1] - BOTTOM) * FINER
    for lines, colour in ((axes.between(), FAINT), (axes.decades(), GRID)):
        for place in lines:
            y = axes.y(float(place)) * FINER
            draw.line((left, y, right, y), fill=colour, width=FINER)
    for number, log in enumerate(logs):
        pale = tuple(255 - round((255 - channel) * 0.3) for channel in COLOURS[number])
        _line(draw, axes, _thinned(log), pale, FINER - 1)
    for number, log in enumerate(logs):
        _line(draw, axes, _thinned(_smooth(log)), COLOURS[number], 2 * FINER)
    draw.line([(left, top), (left, bottom), (right, bottom)], fill=GRAY, width=FINER)
    return image.resize(SIZE, Image.Resampling.BOX)


def _line(
    draw: ImageDraw.ImageDraw, axes: _Axes, points: tuple[Values, Values], colour: tuple[int, ...], width: int
) -> None:
    at, logs = points
    places = np.stack([axes.x(at), axes.y(logs)], axis=1) * FINER
    if len(places) > 1:
        draw.line([(float(x), float(y)) for x, y in places], fill=colour, width=width, joint="curve")
    else:  # one iteration is a dot
        (x, y), r = places[0], 2 * width
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)


def _thinned(log: Values) -> tuple[Values, Values]:
    """Iterations from 1 and logarithms: of very many only the least and the most of each few."""
    at = np.arange(1, len(log) + 1, dtype=float)
    few = len(log) // (2 * FINER * SIZE[0])
    if few < 2:
        return at, log
    whole = len(log) // few * few
    parts = log[:whole].reshape(-1, few)
    both = np.stack([parts.min(1), parts.max(1)], axis=1).ravel()
    return np.append(at[:whole:few].repeat(2), at[-1]), np.append(both, log[-1])


def _smooth(log: Values) -> Values:
    """Their running mean; at the ends over what there is of its reach."""
    sums = np.concatenate([[0.0], np.cumsum(log)])
    at, reach = np.arange(len(log)), _reach(len(log))
    first, after = np.maximum(at - reach, 0), np.minimum(at + reach + 1, len(log))
    smooth: Values = (sums[after] - sums[first]) / (after - first)
    return smooth


def _reach(iterations: int) -> int:
    """How many iterations before and after one the mean takes in."""
    return iterations // (2 * SMOOTHED)


def _label_axes(image: Image.Image, draw: ImageDraw.ImageDraw, axes: _Axes) -> None:
    bottom = SIZE[1] - BOTTOM
    for log, digit, decade in axes.labelled():
        _power(draw, (LEFT - 8, axes.y(log)), digit, decade)
    for value, label in _numbers(axes.iterations):
        x = axes.x(value)
        draw.line((x, bottom, x, bottom + 5), fill=GRAY)
        line = lettering(label, TEXT, SIZE[0])
        draw.text((x - line.width / 2, bottom + 8), line.text, fill=GRAY, font=line.font)
    line = lettering("iteration", TEXT, SIZE[0])
    middle = (LEFT + SIZE[0] - RIGHT) / 2
    draw.text((middle - line.width / 2, bottom + 32), line.text, fill=BLACK, font=line.font)
    if reach := _reach(axes.iterations):
        line = lettering(f"thin: each iteration, thick: mean over {2 * reach + 1}", TEXT, SIZE[0])
        right = SIZE[0] - RIGHT - line.width
        draw.text((right, bottom + 32), line.text, fill=GRAY, font=line.font)
    line = lettering("loss", TEXT, SIZE[1])
    upright = Image.new("RGB", (math.ceil(line.width) + 2, TEXT + 6), (255, 255, 255))
    ImageDraw.Draw(upright).text((1, 1), line.text, fill=BLACK, font=line.font)
    upright = upright.rotate(90, expand=True)
    image.paste(upright, (12, round((TOP + bottom - upright.height) / 2)))


def _numbers(iterations: int) -> list[tuple[float, str]]:
    """Iterations with a number below them."""
    if iterations > NUMBERED:
        return [(1.0, "1"), *ticks(1, iterations, NUMBERED)]
    return [(float(number), str(number)) for number in range(1, iterations + 1)]


def _power(draw: ImageDraw.ImageDraw, at: tuple[float, float], digit: int, decade: int) -> None:
    """10 to a power, and a digit before it if that is not 1; it ends at a place."""
    base = Lettering("10" if digit == 1 else f"{digit}·10", TEXT)
    raised = Lettering(str(decade).replace("-", "−"), SMALL)
    x, y = at
    draw.text((x - raised.width, y - 13), raised.text, fill=GRAY, font=raised.font)
    draw.text((x - raised.width - base.width - 1, y - 8), base.text, fill=GRAY, font=base.font)


def _legend(draw: ImageDraw.ImageDraw, entries: list[tuple[str, float]]) -> None:
    """A line of its colour before each name, and the value at the end."""
    x: float = LEFT
    for number, (name, last) in enumerate(entries):
        draw.line((x, 56, x + 22, 56), fill=COLOURS[number], width=3)
        x = _text(draw, (x + 29, 48), f"{name}: {_short(last)}", TEXT, BLACK, SIZE[0] - x - RIGHT) + 26


def _short(value: float) -> str:
    """Two digits: 0.0013, 2.7e-6."""
    if value >= 1e-3:
        return f"{value:.2g}"
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits}e{int(power)}"


def _text(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    size: int,
    fill: tuple[int, ...],
    width: float,
) -> float:
    """One line, shortened to the width; where it ends."""
    line = lettering(text, size, width)
    draw.text(at, line.text, fill=fill, font=line.font)
    return at[0] + line.width
