"""Figures of a fused image: how much of its sources it keeps, and in what respect.

Each is a function ``f(fused, *sources) -> float`` of gray images (y, x) with values 0..255.
"""

from __future__ import annotations

from batchfuse.metrics.differences import mse, psnr, scd
from batchfuse.metrics.edges import q_abf, q_abf_255
from batchfuse.metrics.exposure import ms_ssim
from batchfuse.metrics.fidelity import vif
from batchfuse.metrics.figures import FIGURES, SIX, figures
from batchfuse.metrics.fmi import fmi_dct, fmi_w
from batchfuse.metrics.similarity import ssim, ssim_a
from batchfuse.metrics.statistics import ag, en, mi, sd, sf

__all__ = [
    "FIGURES",
    "SIX",
    "ag",
    "en",
    "figures",
    "fmi_dct",
    "fmi_w",
    "mi",
    "ms_ssim",
    "mse",
    "psnr",
    "q_abf",
    "q_abf_255",
    "scd",
    "sd",
    "sf",
    "ssim",
    "ssim_a",
    "vif",
]
