"""Round numbers beside a picture: the ticks of a colour bar, the length of a scale bar."""

from __future__ import annotations

import math

__all__ = ["length_of", "round_below", "ticks"]


def round_below(most: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not above ``most`` (> 0)."""
    power = 10.0 ** math.floor(math.log10(most))
    return next((n * power for n in (10, 5, 2, 1) if n * power <= most * (1 + 1e-9)), power)


def ticks(low: float, high: float, most: int) -> list[tuple[float, str]]:
    """Round values between ``low`` and ``high`` > ``low``, ``most`` at the most, each with its label."""
    step = round_below((high - low) / most)
    while len(steps := _multiples(low, high, step)) > most:
        step = round_below(step * 2.5)  # 1, 2, 5, 10, …
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    plain = max(abs(low), abs(high)) < 1e7 and places < 6
    return [(n * step, f"{n * step:.{places}f}" if plain else f"{n * step:g}") for n in steps]


def _multiples(low: float, high: float, step: float) -> range:
    """Which multiples of ``step`` lie between them."""
    return range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)


def length_of(metres: float) -> str:
    """A length with its unit, from mm to km."""
    for unit, size in (("km", 1000.0), ("m", 1.0), ("cm", 0.01)):
        if metres >= size * (1 - 1e-9):
            return f"{metres / size:g} {unit}"
    return f"{metres * 1000:g} mm"
