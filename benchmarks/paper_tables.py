"""The paper's tables, with our rows and those of rules without a network beside them.

    python benchmarks/paper_tables.py FOLDER                 tables II and IV over the TNO pairs in FOLDER
    python benchmarks/paper_tables.py --reconstruction       table III over ten photographs

FOLDER holds IR01.png, VIS01.png, ...; the paper averages pairs 1 to 20. Or it holds medical slices as
<kind>_<number>_<modality>.png, of which one is mri: there is no row of the paper for those.
Figures are taken of 8-bit images: as they come (cut to 0..1, times 255, rounded) or stretched, the authors'
way. --json keeps every figure of every pair, --pictures writes each pair with its fused images side by side.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from train_shipped_weights import reconstruction

import batchfuse
from batchfuse.evaluation.baselines import BASELINES, baseline, gained
from batchfuse.evaluation.eight_bit import rounded, stretched
from batchfuse.evaluation.figure_names import label
from batchfuse.fusion.color import luminance
from batchfuse.fusion.shipped import SHIPPED
from batchfuse.machine import cores
from batchfuse.metrics import SIX, figures
from batchfuse.processes import processes

Gray = NDArray[np.uint8]
Table = dict[str, dict[str, list[float]]]
"""By row and by pair: the six figures."""

HEADS = tuple(map(label, SIX))
COUNTED = range(1, 21)
# arXiv 2112.14540, table IV: means over twenty fused images
PUBLISHED = {
    "DCHWT": (0.73078, 0.45890, 0.38061, 0.39700, 1.61007, 0.84278),
    "JSR": (0.60912, 0.36267, 0.16738, 0.21284, 1.75518, 0.84735),
    "JSRSD": (0.54471, 0.32914, 0.14560, 0.18697, 1.59142, 0.76548),
    "DenseFuse": (0.72829, 0.43454, 0.41456, 0.42525, 1.83379, 0.92860),
    "FusionGAN": (0.65207, 0.21853, 0.36097, 0.36797, 1.45818, 0.73233),
    "AEFusion": (0.68948, 0.32510, 0.17045, 0.22482, 1.75508, 0.86873),
    "AT-GAN": (0.56636, 0.35253, 0.36184, 0.39656, 1.68997, 0.86337),
    "CUFD": (0.64916, 0.37775, 0.19354, 0.26088, 1.61723, 0.78413),
    "MUFusion": (0.65392, 0.37838, 0.23752, 0.28688, 1.69340, 0.86064),
    "MSDNet l1": (0.76365, 0.44416, 0.37547, 0.41741, 1.61825, 0.83311),
    "MSDNet mean": (0.77453, 0.39214, 0.39046, 0.41116, 1.67953, 0.87041),
    # by what it was trained on
    "Res2NetFuse l1, one image": (0.72520, 0.48364, 0.37552, 0.42924, 1.69888, 0.85384),
    "Res2NetFuse mean, one image": (0.74206, 0.46368, 0.40262, 0.42334, 1.83464, 0.92129),
    "Res2NetFuse l1, 80,000 images": (0.70881, 0.47354, 0.37620, 0.43160, 1.67887, 0.84166),
    "Res2NetFuse mean, 80,000 images": (0.72993, 0.45175, 0.40685, 0.42417, 1.82024, 0.91695),
}
# table III: MSE, SSIM, PSNR of images given back
PUBLISHED_RECONSTRUCTION = {
    "DenseFuse": (0.00016, 0.99560, 43.63),
    "MSDNet": (0.00001, 0.99933, 52.11),
    "Res2NetFuse, one image": (0.00042, 0.99560, 40.36),
    "Res2NetFuse, 80,000 images": (0.00005, 0.99888, 46.50),
}
GAINS = (1.4, 1.6, 2.0)
DETAIL = "detail, res2netfuse"


@dataclass(frozen=True)
class Pair:
    """Two registered images, 8-bit gray."""

    name: str
    """As its files are called."""
    paths: tuple[Path, Path]
    """Infrared and visible, or functional and anatomical."""

    def images(self) -> tuple[Gray, Gray]:
        """Both, (y, x)."""
        first, second = (_gray(path) for path in self.paths)
        return first, second


def main() -> None:
    arguments = _arguments()
    if arguments.reconstruction:
        print(reconstruction_table())
    if arguments.folder is None:
        return
    pairs = list(pairs_in(arguments.folder))
    if not pairs:
        sys.exit(f"{arguments.folder} holds neither IR01.png, VIS01.png, ... nor *_mri.png")
    table = measured(pairs, arguments.workers, arguments.pictures)
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1), encoding="utf-8")
    of_slices = pairs[0].name.endswith("mri")
    paper = {} if of_slices else {f"paper: {row}": values for row, values in PUBLISHED.items()}
    means = {row: tuple(np.mean(list(values.values()), axis=0)) for row, values in table.items()}
    print(own_table(means, paper))
    print(all_table(means, paper))
    print(rivals(means, paper))
    print(failures(table))


def pairs_in(folder: Path) -> Iterator[Pair]:
    """The pairs of TNO that the paper counts, or all pairs of medical slices."""
    for number in COUNTED:
        paths = (folder / f"IR{number:02d}.png", folder / f"VIS{number:02d}.png")
        if all(path.exists() for path in paths):
            yield Pair(f"{number:02d}", paths)
    for mri in sorted(folder.glob("*_mri.png")):
        stem = mri.name.removesuffix("_mri.png")
        others = [path for path in folder.glob(f"{stem}_*.png") if path != mri]
        yield Pair(f"{stem} mri", (others[0], mri))


def measured(pairs: list[Pair], workers: int, pictures: Path | None) -> Table:
    """Every row over every pair, the pairs shared among processes."""
    table: Table = {}
    with processes(workers) as submit:
        rows = [submit(rows_of, pair, pictures) for pair in pairs]
        for number, (pair, found) in enumerate(zip(pairs, rows, strict=True), 1):
            measured_rows = found.result()
            print(f"pair {pair.name} ({number} of {len(pairs)})", file=sys.stderr, flush=True)
            for row, values in measured_rows.items():
                table.setdefault(row, {})[pair.name] = values
    return table


def rows_of(pair: Pair, pictures: Path | None) -> dict[str, list[float]]:
    """The six figures of each fused image of a pair, by row."""
    sources = pair.images()
    found = {}
    shown: list[Gray] = [*sources]
    for row, fused in fused_images(sources):
        values = figures(fused, *sources)
        found[row] = [values[name] for name in SIX]
        if row in ("l1, res2netfuse", "mean, res2netfuse-paper, stretched", DETAIL):
            shown.append(fused)
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.hstack(shown)).save(pictures / f"{pair.name.replace(' ', '_')}.png")
    return found


def fused_images(sources: tuple[Gray, Gray]) -> Iterator[tuple[str, Gray]]:
    """Each row's name, and its fused image of 8 bits."""
    scaled = np.stack(sources).astype(np.float32) / 255
    for weights in SHIPPED:
        for strategy in ("mean", "l1", "average", "detail"):
            image = batchfuse.fuse(*scaled, strategy=strategy, weights=weights)
            yield f"{strategy}, {weights}", rounded(image)
            if strategy != "detail":
                yield f"{strategy}, {weights}, stretched", stretched(image)
    for rule in BASELINES:
        plain = baseline(rule, scaled)
        yield f"no network: {rule}", rounded(plain)
        yield f"no network: {rule}, stretched", stretched(plain)
        for gain in GAINS:
            yield f"no network: {rule} x {gain:g}", rounded(gained(plain, gain))


Means = Mapping[str, tuple[float, ...]]


def own_table(means: Means, paper: Means) -> str:
    """Table II: the network by strategy and training, and by what is done to its output."""
    rows = {row: values for row, values in paper.items() if "Res2NetFuse" in row}
    rows |= {row: values for row, values in means.items() if not row.startswith(("no network", "detail"))}
    return _table("Res2NetFuse by strategy, weights and stretch", rows)


def all_table(means: Means, paper: Means) -> str:
    """Table IV: the paper's systems, ours, and rules without a network."""
    best = {"paper's best of any": tuple(np.max(list(paper.values()), axis=0))} if paper else {}
    return _table("All systems", {**paper, **best, **means})


def rivals(means: Means, paper: Means) -> str:
    """In how many of the six figures each row is better than detail."""
    ours = np.array(means[DETAIL])
    lines = ["", f"Better than {DETAIL!r} in how many of the six:"]
    for row, values in {**paper, **means}.items():
        if not row.startswith("detail"):
            better = [head for head, a, b in zip(HEADS, values, ours, strict=True) if a > b]
            lines.append(f"{len(better)}  {row}" + (f": {', '.join(better)}" if better else ""))
    if paper:
        best = np.max(list(paper.values()), axis=0)
        lines.append(f"{DETAIL!r} leads the paper's best of any in {int((ours > best).sum())} of six")
    return "\n".join(lines)


def failures(table: Table) -> str:
    """Pairs where a row that isn't detail's is better in three figures or more."""
    lines = ["", "Pairs where rows are better than detail in more than two of six:"]
    for pair, ours in table[DETAIL].items():
        better = {
            row: int((np.array(values[pair]) > np.array(ours)).sum())
            for row, values in table.items()
            if not row.startswith("detail")
        }
        many = [f"{row} ({count})" for row, count in better.items() if count > 2]
        lines.append(f"{pair}: {len(many)} of {len(better)}: {'; '.join(many)}")
    return "\n".join(lines)


def reconstruction_table() -> str:
    """Table III, over the ten photographs in place of MS-COCO's."""
    title = "Images given back (paper: MS-COCO; ours: ten photographs)"
    lines = ["", title, "", "| | MSE | SSIM | PSNR |", "|---|---|---|---|"]
    for row, (error, similarity, decibels) in PUBLISHED_RECONSTRUCTION.items():
        lines.append(f"| paper: {row} | {error:.5f} | {similarity:.5f} | {decibels:.2f} |")
    for weights in SHIPPED:
        error, similarity, decibels = reconstruction(weights)
        lines.append(f"| {weights} | {error:.5f} | {similarity:.5f} | {decibels:.2f} |")
    return "\n".join(lines)


def _table(title: str, rows: Means) -> str:
    lines = ["", title, "", f"| | {' | '.join(HEADS)} |", "|---" * 7 + "|"]
    lines += [f"| {row} | {' | '.join(f'{value:.4f}' for value in values)} |" for row, values in rows.items()]
    return "\n".join(lines)


def _gray(path: Path) -> Gray:
    pixels = np.asarray(Image.open(path))
    return pixels if pixels.ndim == 2 else rounded(luminance(np.moveaxis(pixels[..., :3], 2, 0) / 255))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="the TNO pairs, or medical slices")
    parser.add_argument("--reconstruction", action="store_true", help="print table III")
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--json", type=Path, help="keep every figure of every pair")
    parser.add_argument("--pictures", type=Path, help="a folder for each pair beside its fused images")
    return parser.parse_args()


if __name__ == "__main__":
    main()
