"""Several figures of one fused image at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from batchfuse.errors import BatchfuseError
from batchfuse.metrics.differences import scd
from batchfuse.metrics.edges import q_abf, q_abf_255
from batchfuse.metrics.exposure import ms_ssim
from batchfuse.metrics.fidelity import vif
from batchfuse.metrics.fmi import fmi_dct, fmi_w
from batchfuse.metrics.images import Gray
from batchfuse.metrics.similarity import ssim_a
from batchfuse.metrics.statistics import ag, en, mi, sd, sf

__all__ = ["FIGURES", "SIX", "figures"]

SIX = ("ssim_a", "q_abf", "fmi_dct", "fmi_w", "scd", "ms_ssim")
"""The figures of the paper's tables, in their order."""
FIGURES: Mapping[str, Callable[..., float]] = {
    "ssim_a": ssim_a,
    "q_abf": q_abf,
    "fmi_dct": fmi_dct,
    "fmi_w": fmi_w,
    "scd": scd,
    "ms_ssim": ms_ssim,
    "q_abf_255": q_abf_255,
    "en": lambda fused, *_: en(fused),
    "mi": mi,
    "sd": lambda fused, *_: sd(fused),
    "ag": lambda fused, *_: ag(fused),
    "sf": lambda fused, *_: sf(fused),
    "vif": vif,
}
"""Every figure of a fused image and its sources, called with both."""


def figures(fused: Gray, *sources: Gray, names: Iterable[str] = SIX) -> dict[str, float]:
    """Several figures of a fused image and its sources, images (y, x) of values 0..255.

    A figure that isn't defined for these images is NaN: too small, constant, or not two sources for SCD.

    Raises:
        BatchfuseError: A name is not a figure's, or the images can't be compared.
    """
    wanted = list(names)
    for name in wanted:
        if name not in FIGURES:
            raise BatchfuseError(f"no figure is called {name!r}: there are {', '.join(FIGURES)}")
    undefined = {"scd"} if len(sources) != 2 else set()
    return {name: math.nan if name in undefined else FIGURES[name](fused, *sources) for name in wanted}
