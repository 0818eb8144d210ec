"""Trains the weights that come with batchfuse, measures them, and writes their model cards.

python benchmarks/train_shipped_weights.py             both, into batchfuse/weights/
python benchmarks/train_shipped_weights.py res2netfuse --folder FOLDER

Three seeds of each are trained, with one thread so that rounding is the same wherever it runs; the one with
the lowest loss on the training image is shipped. The folder (build/weights) keeps all of them: what is there
is not trained again, and what was interrupted goes on.

The photograph and the ten others come with scikit-image: nothing is downloaded.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import skimage
import torch
from numpy.typing import NDArray

from batchfuse.fusion.color import luminance
from batchfuse.fusion.res2netfuse import Res2NetFuse
from batchfuse.fusion.shipped import weights_checksum
from batchfuse.fusion.weights import load_weights
from batchfuse.training.loss import psnr, ssim
from batchfuse.training.settings import PRESETS
from batchfuse.training.trainer import TrainingResult, train

WEIGHTS = Path(__file__).parents[1] / "batchfuse" / "weights"
TEN = [
    "astronaut",
    "coffee",
    "chelsea",
    "rocket",
    "coins",
    "brick",
    "grass",
    "gravel",
    "moon",
    "hubble_deep_field",
]
SIZE = 256
SEEDS = (0, 1, 2)
INTENSITIES = (5.0, 1.0, 0.2, 0.05)
Preset = Literal["res2netfuse", "paper"]
SHIPPED: dict[Preset, str] = {"res2netfuse": "res2netfuse", "paper": "res2netfuse-paper"}
"""What the weights of a preset are called."""
# ruff: noqa: E501  (the rows of the cards)
TABLE = """\

| | |
|---|---|
| file | `{name}.safetensors`, SHA-256 `{checksum}` |
| network | separate convolutions, {biases}, skip, zero padding: {parameters:,} parameters |
| image | the central {size} x {size} pixels of scikit-image's `camera`, which its photographer, Lav Varshney, gave to the public domain (CC0) |
| image as a PGM file | SHA-256 `{image}` |
| settings | {iterations} iterations of {shown}; {optimizer}, learning rate {learning_rate} |
| loss | {loss_function} |
| kept | {kept} |
| seed | {seed}: the lowest loss on the training image of seeds {seeds}; the ten photographs had no say |
| on the training image | loss {loss:.6f}, PSNR {psnr:.2f} dB, SSIM {ssim:.5f} |

## On ten photographs that it has not seen

Each comes with scikit-image (CC0, public domain or no known restriction): luminance, central {size} x {size} pixels, scaled to 0..1,
not stretched or rounded. PSNR against a peak of 1; SSIM with a Gaussian window of 11.

| photograph | PSNR (dB) | SSIM |
|---|---|---|
{rows}

All seeds, each trained by the same script with one thread: the mean over the ten photographs.

{others}

## Scale

{about_scale}
Mean PSNR over the ten, against the peak of the scaled image:

| intensities | PSNR (dB) |
|---|---|
{scales}
"""
CARDS: dict[Preset, str] = {
    "res2netfuse": """\
# Model card: res2netfuse

Weights of Res2NetFuse (Song et al., arXiv 2112.14540) for fusing images of any kind: the encoder and
the decoder learn to give one gray image back; how features are fused is not learned.
Made by `python benchmarks/train_shipped_weights.py`, as `batchfuse train` makes any others.
"""
    + TABLE
    + """
## Intended use

Fusing co-registered images (thermal and optical, MRI and PET, ...) with the strategies l1, mean,
average and detail. Inputs are scaled to about 0..1; above 1 is no harm, below 0 the network can't go.

## Limits

- The network contains nearly the identity: its PSNR says that nothing is lost in it, not that a fused
  image is good. Published figures hardly tell it from a weighted average of the pixels.
- It learned from one photograph. Extreme noise or synthetic patterns may come back less exactly.
- The outer 12 pixels of an image are less exact than the others (zero padding, as in training).
- It is no medical device, and judges nothing.
""",
    "paper": """\
# Model card: res2netfuse-paper

Weights of Res2NetFuse (Song et al., arXiv 2112.14540) trained as its authors did, for comparing with what they
published. For fusing, take `res2netfuse`: without biases it is exactly scale-equivariant.
Made by `python benchmarks/train_shipped_weights.py`, as `batchfuse train --preset paper` makes any others.
"""
    + TABLE
    + """
## Limits

Those of [res2netfuse](res2netfuse.md). Trained on images of 0..1 in place of 0..255, where biases are as large
as the image, the same training gave 42.7 and 40.4 dB (seeds 0 and 1), SSIM 0.992 and 0.990, and 18 to 28 dB at
intensity x0.05.
""",
}
ABOUT_SCALE: dict[Preset, str] = {
    "res2netfuse": "Without biases the network is exactly scale-equivariant: low intensities lose nothing, high ones neither.",
    "paper": "With biases, what is dark comes back less exactly.",
}


@dataclass(frozen=True)
class Measured:
    """Figures of one photograph."""

    name: str
    """As scikit-image calls it."""
    psnr: float
    """dB."""
    ssim: float
    """0..1."""


def photograph(name: str) -> NDArray[np.float32]:
    """Luminance of the central pixels of one of scikit-image's photographs, 0..1."""
    pixels: NDArray[Any] = getattr(skimage.data, name)()
    gray = pixels / 255 if pixels.ndim == 2 else luminance(np.moveaxis(pixels, 2, 0) / 255)
    top, left = ((n - SIZE) // 2 for n in gray.shape)
    return gray[top : top + SIZE, left : left + SIZE].astype(np.float32)


def figures(network: Res2NetFuse, intensity: float = 1.0) -> list[Measured]:
    """PSNR and SSIM of the ten photographs, dimmed to an intensity and measured against it."""
    rows = []
    for name in TEN:
        target = torch.from_numpy(photograph(name))[None, None]
        with torch.inference_mode():
            image = network(target * intensity) / intensity
        rows.append(Measured(name, float(psnr(image, target)), float(ssim(image, target))))
    mean = [float(np.mean([getattr(row, key) for row in rows])) for key in ("psnr", "ssim")]
    return [*rows, Measured("**mean**", *mean)]


def reconstruction(weights: str) -> tuple[float, float, float]:
    """MSE, SSIM and PSNR of the ten photographs as weights give them back, each the mean over the images."""
    rows = figures(load_weights(weights).network())
    error = float(np.mean([10 ** (-row.psnr / 10) for row in rows[:-1]]))
    return error, rows[-1].ssim, rows[-1].psnr


def trained(preset: Preset, folder: Path) -> list[TrainingResult]:
    """Every seed of a preset, trained in the folder or found there; in the order of the seeds."""
    camera: NDArray[np.uint8] = getattr(skimage.data, "camera")()  # noqa: B009  (it has no types)
    top, left = ((n - SIZE) // 2 for n in camera.shape)
    pixels = camera[top : top + SIZE, left : left + SIZE]
    folder.mkdir(parents=True, exist_ok=True)
    image = folder / "camera.pgm"
    image.write_bytes(b"P5 %d %d 255\n" % pixels.shape[::-1] + pixels.tobytes())
    results = []
    for seed in SEEDS:
        out = folder / f"{SHIPPED[preset]}-{seed}.safetensors"
        result = train([image], out, preset=preset, seed=seed, device="cpu", progress=said)
        print(f"{preset}, seed {seed}: loss {result.loss:.6f}, {result.psnr:.2f} dB, {result.ssim:.5f}")
        results.append(result)
    return results


def said(iteration: int, loss: float, decibels: float) -> None:
    """A line now and then."""
    if iteration % 200 == 0:
        print(f"  {iteration:5} loss {loss:.5f} PSNR {decibels:.1f} dB", flush=True)


def card(preset: Preset, results: list[TrainingResult]) -> str:
    """The model card of the weights that are there."""
    name = SHIPPED[preset]
    weights = load_weights(name)
    network, made = weights.network(), weights.made
    settings = PRESETS[preset]
    whole = f"the whole {SIZE} x {SIZE} image, 1.0 of it told as {settings.white:g}"
    crops = f"one {settings.crop} x {settings.crop} crop, mirrored and transposed at random"
    mean = f"the exponential mean of the weights, decay {settings.mean_decay}; biases divided by {settings.white:g}, so that it takes 0..1"
    return CARDS[preset].format(
        name=name,
        checksum=weights_checksum(name),
        biases="biases" if settings.network.bias else "no biases",
        parameters=sum(p.numel() for p in network.parameters()),
        size=SIZE,
        image=made["images"][0]["sha256"],
        shown=whole if settings.crop is None else crops,
        optimizer=made["optimizer"],
        loss_function=made["loss_function"],
        kept=mean if settings.mean_decay else "the last weights",
        seeds=", ".join(map(str, SEEDS)),
        rows="\n".join(f"| {row.name} | {row.psnr:.2f} | {row.ssim:.5f} |" for row in figures(network)),
        others=seeds_table(results),
        about_scale=ABOUT_SCALE[preset],
        scales="\n".join(f"| x{i:g} | {figures(network, i)[-1].psnr:.2f} |" for i in INTENSITIES),
        iterations=settings.iterations,
        learning_rate=settings.learning_rate,
        seed=made["settings"]["seed"],
        **made["figures"],
    )


def seeds_table(results: list[TrainingResult]) -> str:
    """What each seed gives, and the mean of all."""
    found = [figures(load_weights(result.path).network())[-1] for result in results]
    rows = ["| seed | loss on the training image | PSNR (dB) | SSIM |", "|---|---|---|---|"]
    for seed, result, mean in zip(SEEDS, results, found, strict=True):
        rows.append(f"| {seed} | {result.loss:.6f} | {mean.psnr:.2f} | {mean.ssim:.5f} |")
    psnr_, ssim_ = (float(np.mean([getattr(mean, key) for mean in found])) for key in ("psnr", "ssim"))
    rows.append(f"| **mean** | | {psnr_:.2f} | {ssim_:.5f} |")
    if all(result.last for result in results):
        last = [figures(load_weights(result.last).network())[-1] for result in results if result.last]
        told = ", ".join(f"{mean.psnr:.2f} dB" for mean in last)
        rows += ["", f"The last weights, without the mean over the iterations: {told}."]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("presets", nargs="*", choices=[*get_args(Preset), []], help="default: both")
    parser.add_argument("--folder", type=Path, default=Path("build/weights"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for preset in asked.presets or get_args(Preset):
        results = trained(preset, asked.folder)
        best = min(results, key=lambda result: result.loss)
        (WEIGHTS / f"{SHIPPED[preset]}.safetensors").write_bytes(best.path.read_bytes())
        text = card(preset, results)
        (WEIGHTS / f"{SHIPPED[preset]}.md").write_text(text, encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main()
