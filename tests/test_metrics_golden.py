"""The figures against what the public MATLAB code gave, run in Octave."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from shared_data import shared_data

from batchfuse import metrics
from batchfuse.metrics.exposure import qualities

TRIPLES = ("p1_walking_avg", "p2_man_max", "p3_tno01_w37", "p4_tno08_blur2", "p5_tno06_avg")
FIGURES: dict[str, tuple[Callable[..., float], float]] = {
    "SSIM_a": (metrics.ssim_a, 1e-12),
    "SSIM_ir": (lambda fused, infrared, _: metrics.ssim(fused, infrared), 1e-12),
    "SSIM_vis": (lambda fused, _, visible: metrics.ssim(fused, visible), 1e-12),
    "Qabf": (metrics.q_abf, 1e-12),
    "Qabf_255": (metrics.q_abf_255, 1e-12),
    "FMI_dct": (metrics.fmi_dct, 1e-12),
    "FMI_w": (metrics.fmi_w, 1e-9),  # the taps of the golden filter have ten digits
    "SCD": (metrics.scd, 1e-12),
    "MS_SSIM": (metrics.ms_ssim, 1e-12),
    "MS_SSIM_l1": (lambda *images: qualities(*images)[0], 1e-12),
    "MS_SSIM_l2": (lambda *images: qualities(*images)[1], 1e-12),
    "MS_SSIM_l3": (lambda *images: qualities(*images)[2], 1e-12),
    "MSE_fusion": (lambda f, a, b: (metrics.mse(f, a) + metrics.mse(f, b)) / 2, 1e-12),
    "EN": (metrics.FIGURES["en"], 1e-11),
    "MI": (metrics.mi, 1e-11),
    "SD": (metrics.FIGURES["sd"], 1e-11),
    "AG": (metrics.FIGURES["ag"], 1e-11),
    "SF": (metrics.FIGURES["sf"], 1e-11),
    "VIF": (metrics.vif, 1e-11),
}
"""How each is called, and how near it has to come."""


@pytest.mark.parametrize("triple", TRIPLES)
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_equals_the_golden_number(name: str, triple: str) -> None:
    folder = shared_data("metrics_golden")
    golden = json.loads((folder / "golden.json").read_text())[triple]
    figure, near = FIGURES[name]
    assert figure(*images_of(triple)) == pytest.approx(golden[name], abs=near)


def images_of(triple: str) -> list[NDArray[np.uint8]]:
    """Fused, infrared, visible."""
    folder = shared_data("metrics_golden")
    return [np.asarray(Image.open(folder / f"{triple}_{part}.png")) for part in ("fused", "ir", "vis")]
