"""Fusion without a network: the rows that any figure of a network has to be read beside; numpy only.

Sources are (k, y, x), in any units that are 0 and above (0..1 or 0..255), and so is what comes out. Each
rule is a weighted sum of the sources' pixels but ``maximum``; two weigh pixels as the network's strategies
weigh features (equations 8 to 11 of the paper).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["BASELINES", "GAIN", "average", "baseline", "gained", "maximum", "pixels_l1", "pixels_mean"]

GAIN = 1.4
"""How much contrast ``gained`` adds."""
_EPSILON = 1e-5  # of equation 11's normalisation

Floats = NDArray[np.float64]
Ends = Sequence[tuple[float, float]]
"""Minimum and maximum of each source."""


def average(sources: ArrayLike) -> Floats:
    """The mean of the sources at each pixel: (k, y, x) to (y, x)."""
    return np.asarray(_stack(sources).mean(0))


def maximum(sources: ArrayLike) -> Floats:
    """The brightest source at each pixel: (k, y, x) to (y, x)."""
    return np.asarray(_stack(sources).max(0))


def pixels_l1(sources: ArrayLike) -> Floats:
    """Pixels weighted as the strategy l1 weighs features: w_i = x_i / Σ_j x_j, 1/k where all are 0."""
    stack = _stack(sources)
    total = stack.sum(0)
    nothing = total == 0
    weights = np.where(nothing, 1 / len(stack), stack / np.where(nothing, 1.0, total))
    return np.asarray((weights * stack).sum(0))


def pixels_mean(sources: ArrayLike, ends: Ends | None = None) -> Floats:
    """Pixels weighted as the strategy mean weighs features.

    n_i = (x_i - min x_i) / (max x_i - min x_i + 1e-5) over the whole image, weights = softmax of n over
    the sources. ``ends`` are each source's minimum and maximum where ``sources`` are a part of the whole.
    """
    stack = _stack(sources)
    lows, highs = zip(*(ends or [(one.min(), one.max()) for one in stack]), strict=True)
    low, high = (np.reshape(end, (-1, 1, 1)) for end in (lows, highs))
    raised = np.exp((stack - low) / (high - low + _EPSILON))
    return np.asarray((raised * stack).sum(0) / raised.sum(0))


BASELINES: Mapping[str, Callable[..., Floats]] = MappingProxyType(
    {"average": average, "maximum": maximum, "pixels_l1": pixels_l1, "pixels_mean": pixels_mean}
)
"""The rules by name, in the order of a table."""


def baseline(name: str, sources: ArrayLike, ends: Ends | None = None) -> Floats:
    """Fuse sources, (k, y, x), 0 and above, by the rule called ``name``.

    ``ends`` are each source's minimum and maximum over the whole image where ``sources`` are a part of it.

    Raises:
        ValueError: an unknown name; or sources that are not (k, y, x), or negative or NaN somewhere.
    """
    if name not in BASELINES:
        raise ValueError(f"there is no baseline {name!r}: one of {', '.join(BASELINES)}")
    return pixels_mean(sources, ends) if name == "pixels_mean" else BASELINES[name](sources)


def gained(image: ArrayLike, factor: float = GAIN, mean: float | None = None) -> Floats:
    """More contrast about the image's own mean: m + factor · (x - m). Nothing is cut here.

    ``mean`` is that of the whole image where ``image`` is a part of it.
    """
    values = np.asarray(image, np.float64)
    mean = float(values.mean()) if mean is None else mean
    return np.asarray(mean + factor * (values - mean))


def _stack(sources: ArrayLike) -> Floats:
    stack = np.asarray(sources, np.float64)
    if stack.ndim != 3 or not stack.size:
        raise ValueError(f"sources are (k, y, x), not {stack.shape}")
    if not (stack >= 0).all():  # also where NaN
        raise ValueError("sources are numbers of 0 and above")
    return stack
