"""Trains the weights that come with batchfuse, measures them, and writes their model card.

python benchmarks/train_shipped_weights.py              trains, and writes into batchfuse/weights/
python benchmarks/train_shipped_weights.py --measure    measures what is there, and writes the card anew

The photograph and the ten others come with scikit-image: nothing is downloaded.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import skimage
import torch
from numpy.typing import NDArray

from batchfuse.fusion.color import luminance
from batchfuse.fusion.res2netfuse import Res2NetFuse
from batchfuse.fusion.shipped import weights_checksum
from batchfuse.fusion.weights import load_weights
from batchfuse.training.loss import psnr, ssim
from batchfuse.training.trainer import train

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
# ruff: noqa: E501  (the rows of the card)
CARD = """\
# Model card: res2netfuse

Weights of Res2NetFuse (Song et al., arXiv 2112.14540) for fusing images of any kind: the encoder and
the decoder learn to give one gray image back; how features are fused is not learned.
Made by `python benchmarks/train_shipped_weights.py`, as `batchfuse train` makes any others.

| | |
|---|---|
| file | `res2netfuse.safetensors`, SHA-256 `{checksum}` |
| network | separate convolutions, no biases, skip, zero padding: {parameters:,} parameters |
| image | the central {size} x {size} pixels of scikit-image's `camera`, which its photographer, Lav Varshney, gave to the public domain (CC0) |
| image as a PGM file | SHA-256 `{image}` |
| settings | {iterations} iterations of one {crop} x {crop} crop, mirrored and transposed at random; {optimizer}, learning rate {learning_rate} |
| loss | {loss_function} |
| seed | {seed}: the lowest loss on the training image of seeds {seeds}; the ten photographs had no say |
| on the training image | loss {loss:.6f} (p = 300), PSNR {psnr:.2f} dB, SSIM {ssim:.5f} |

## On ten photographs that it has not seen

Each comes with scikit-image (CC0, public domain or no known restriction): luminance, central {size} x {size} pixels, scaled to 0..1,
not stretched or rounded. PSNR against a peak of 1; SSIM with a Gaussian window of 11.

| photograph | PSNR (dB) | SSIM |
|---|---|---|
{rows}

## Scale

Without biases the network is exactly scale-equivariant: low intensities lose nothing, high ones neither.
Mean PSNR over the ten, against the peak of the scaled image:

| intensities | PSNR (dB) |
|---|---|
{scales}

## Intended use

Fusing co-registered images (thermal and optical, MRI and PET, ...) with the strategies l1, mean and
average. Inputs are scaled to about 0..1; above 1 is no harm, below 0 the network can't go.

## Limits

- The network contains nearly the identity: its PSNR says that nothing is lost in it, not that a fused
  image is good. Published figures hardly tell it from a weighted average of the pixels.
- It learned from one photograph. Extreme noise or synthetic patterns may come back less exactly.
- The outer 12 pixels of an image are about 1.4 dB less exact than the others (zero padding, as in training).
- It is no medical device, and judges nothing.
"""


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


def trained() -> None:
    """Trains each seed and keeps the one with the lowest loss on the training image."""
    camera: NDArray[np.uint8] = getattr(skimage.data, "camera")()  # noqa: B009  (it has no types)
    top, left = ((n - SIZE) // 2 for n in camera.shape)
    pixels = camera[top : top + SIZE, left : left + SIZE]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder, "camera.pgm")
        image.write_bytes(b"P5 %d %d 255\n" % pixels.shape[::-1] + pixels.tobytes())
        for seed in SEEDS:
            result = train(
                [image], Path(folder, f"{seed}.safetensors"), seed=seed, device="cpu", progress=said
            )
            print(f"seed {seed}: loss {result.loss:.6f}, PSNR {result.psnr:.2f} dB, SSIM {result.ssim:.5f}")
            print(
                "  ten photographs:",
                *(f"{row.psnr:.1f}" for row in figures(load_weights(result.path).network())),
            )
            results.append(result)
        best = min(results, key=lambda result: result.loss)
        WEIGHTS.mkdir(exist_ok=True)
        (WEIGHTS / "res2netfuse.safetensors").write_bytes(best.path.read_bytes())


def said(iteration: int, loss: float, decibels: float) -> None:
    """A line now and then."""
    if iteration % 200 == 0:
        print(f"  {iteration:5} loss {loss:.5f} PSNR {decibels:.1f} dB", flush=True)


def card() -> str:
    """The model card of the weights that are there."""
    weights = load_weights("res2netfuse")
    network, made = weights.network(), weights.made
    rows = "\n".join(f"| {row.name} | {row.psnr:.2f} | {row.ssim:.5f} |" for row in figures(network))
    scales = "\n".join(f"| x{i:g} | {figures(network, i)[-1].psnr:.2f} |" for i in INTENSITIES)
    return CARD.format(
        checksum=weights_checksum("res2netfuse"),
        parameters=sum(p.numel() for p in network.parameters()),
        size=SIZE,
        image=made["images"][0]["sha256"],
        optimizer=made["optimizer"],
        loss_function=made["loss_function"],
        seeds=", ".join(map(str, SEEDS)),
        rows=rows,
        scales=scales,
        **made["settings"],
        **made["figures"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="don't train")
    if not parser.parse_args().measure:
        trained()
    text = card()
    (WEIGHTS / "res2netfuse.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
