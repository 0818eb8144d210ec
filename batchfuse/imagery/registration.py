"""How far a source seems to lie from where its header says: its edges compared with the reference's.

Some windows of the grid are compared one by one, by phase correlation of the direction of edges, and vote.
Thermal and optical images share edges, not brightness: an edge may be bright to dark in one and dark to
bright in the other, so directions count up to a half turn. Weak edges count less, strong ones not more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batchfuse.geometry.grid import Grid
from batchfuse.geometry.window import Window
from batchfuse.imagery.align import Alignment
from batchfuse.imagery.crs import unit_of
from batchfuse.imagery.scene import Scene, Source
from batchfuse.imagery.volume_alignment import VolumeAlignment

__all__ = [
    "Offset",
    "Shift",
    "coarseness",
    "compared_windows",
    "misregistrations",
    "offset_between",
    "voted",
]

ACROSS = 3  # windows along each axis, where there is room
SMALLEST, LARGEST = 128, 512  # pixels of the coarser image along the edge of a window
READ = 1024  # pixels of the grid along it, at most
REACH = 32  # pixels of the coarser image: larger shifts are not looked for
COVERED = 0.5  # share of a window that must be valid in both
SHARP = 6.0  # standard deviations by which a peak stands out; of images of different places at most 5
BLUR = 2.0  # pixels: finer detail is mostly noise
WITHIN = 4  # pixels around a peak that belong to it
VOTES = 4  # windows that must tell something
SPREADS = 4  # clouds and relief shift some windows: a shift of all of them is larger than that

FloatArray = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Offset:
    """What one window tells."""

    rows: float
    """Grid pixels that the source's content lies further down than the reference's."""
    columns: float
    """And further to the right."""
    sharpness: float
    """Standard deviations by which the peak of the correlation stands out."""


@dataclass(frozen=True, slots=True)
class Shift:
    """What the windows together tell."""

    rows: float
    """The median, as in ``Offset``."""
    columns: float
    """The median."""
    spread: float
    """The median of the windows' distances from it, in pixels."""
    windows: int
    """How many windows told something."""

    @property
    def is_certain(self) -> bool:
        """Whether it is more than a pixel beyond what the windows disagree by."""
        return math.hypot(self.rows, self.columns) > 1 + SPREADS * self.spread


def coarseness(alignments: Sequence[Alignment | VolumeAlignment]) -> int:
    """Of some images on one grid, the size of the coarsest one's pixels in pixels of the grid."""
    return max(1, *(round(1 / min(alignment.footprint)) for alignment in alignments))


def compared_windows(shape: tuple[int, ...], coarse: int = 1) -> list[Window]:
    """Windows spread over a grid: at most nine, none where it is too small for images so coarse.

    None of a volume either: what is compared are the edges of maps.
    """
    if len(shape) != 2:
        return []
    counts = [min(ACROSS, n // (SMALLEST * coarse)) for n in shape]
    if math.prod(counts) < VOTES or SMALLEST * coarse > READ:
        return []
    axes = []
    for pixels, count in zip(shape, counts, strict=True):
        edge = min(READ, LARGEST * coarse, pixels // count)
        axes.append([((2 * i + 1) * pixels // (2 * count) - edge // 2, edge) for i in range(count)])
    return [Window((top, left), (top + high, left + wide)) for top, high in axes[0] for left, wide in axes[1]]


def offset_between(
    reference: tuple[FloatArray, Mask], other: tuple[FloatArray, Mask], coarse: int = 1
) -> Offset | None:
    """How far the content of one window lies from that of the other; None where too little of it is valid.

    Each is its values and validity, (y, x). They are compared at ``coarse`` pixels, where both have detail.
    """
    images = [_reduced(values, valid, coarse) for values, valid in (reference, other)]
    if (images[0][1] & images[1][1]).mean() < COVERED:
        return None
    spectra = [_spectrum(_edges(values, valid)) for values, valid in images]
    cross = spectra[0].conj() * spectra[1]
    cross /= np.maximum(np.abs(cross), np.float32(1e-20))  # every frequency counts alike, but for noise
    for axis, pixels in enumerate(cross.shape):
        weights = np.exp(-2 * (math.pi * BLUR * np.fft.fftfreq(pixels)) ** 2).astype(np.float32)
        cross *= np.expand_dims(weights, 1 - axis)
    return _peak(np.asarray(np.fft.ifft2(cross).real, np.float32), coarse)


def voted(offsets: Sequence[Offset | None]) -> Shift | None:
    """What the windows with a clear answer agree on; None where they are too few."""
    clear = [o for o in offsets if o is not None and o.sharpness >= SHARP]
    if len(clear) < VOTES:
        return None
    places = np.array([(o.rows, o.columns) for o in clear])
    middle = np.median(places, axis=0)
    spread = float(np.median(np.hypot(*(places - middle).T)))
    return Shift(float(middle[0]), float(middle[1]), spread, len(clear))


def _reduced(values: FloatArray, valid: Mask, step: int) -> tuple[FloatArray, Mask]:
    """The mean of the valid pixels of each block of step x step, valid where half of them are."""
    if step == 1:
        return values, valid
    rows, columns = (n // step * step for n in values.shape)
    blocks = (rows // step, step, columns // step, step)
    many = valid[:rows, :columns].reshape(blocks).sum((1, 3))
    total = np.where(valid, values, 0)[:rows, :columns].reshape(blocks).sum((1, 3))
    return np.asarray(total / np.maximum(many, 1), np.float32), 2 * many >= step * step


def _edges(values: FloatArray, valid: Mask) -> NDArray[np.complex64]:
    """The direction of edges, as complex numbers of twice their angle; 0 where flat or invalid."""
    weight = _smoothed(valid.astype(np.float32))
    smooth = _smoothed(np.where(valid, values, np.float32(0))) / np.maximum(weight, np.float32(1e-3))
    down, across = np.gradient(smooth)
    inner = weight > 0.999
    inner[1:-1, 1:-1] &= inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    strength = np.hypot(down, across)
    usual = np.median(strength[inner]) if inner.any() else np.float32(0)
    gain = strength * (strength + usual)
    edges = (across + 1j * down) ** 2 / np.maximum(gain, np.float32(1e-30))
    tapers = [_taper(n) for n in values.shape]
    return np.where(inner, edges * tapers[0][:, None] * tapers[1], 0).astype(np.complex64)


def _smoothed(image: FloatArray) -> FloatArray:
    """Binomial smoothing over five pixels along each axis."""
    for axis in (0, 1):
        padded = np.pad(image, [(2, 2) if i == axis else (0, 0) for i in (0, 1)], mode="edge")
        parts = [np.take(padded, np.arange(i, i + image.shape[axis]), axis) for i in range(5)]
        image = (parts[0] + parts[4] + 4 * (parts[1] + parts[3]) + 6 * parts[2]) / np.float32(16)
    return image


def _taper(pixels: int) -> FloatArray:
    """Rises from 0 over the first eighth and falls over the last."""
    edge = np.minimum(np.arange(pixels) + 0.5, pixels - np.arange(pixels) - 0.5) / (pixels / 8)
    return np.asarray(np.minimum(1, edge), np.float32)


def _spectrum(edges: NDArray[np.complex64]) -> NDArray[np.complex64]:
    sizes = [-(-(n + REACH) // 64) * 64 for n in edges.shape]  # shifts must not come in at the other side
    return np.asarray(np.fft.fft2(edges, sizes), np.complex64)


def _peak(surface: NDArray[np.float32], coarse: int) -> Offset:
    near = np.roll(surface, (REACH, REACH), (0, 1))[: 2 * REACH + 1, : 2 * REACH + 1]
    y, x = (int(i) for i in np.unravel_index(near.argmax(), near.shape))
    rest = np.ones(near.shape, np.bool_)
    rest[max(0, y - WITHIN) : y + WITHIN + 1, max(0, x - WITHIN) : x + WITHIN + 1] = False
    others = near[rest]
    sharpness = (near[y, x] - np.median(others)) / max(float(others.std()), 1e-30)
    down, across = y + _vertex(near[:, x], y) - REACH, x + _vertex(near[y], x) - REACH
    return Offset(coarse * down, coarse * across, float(sharpness))


def _vertex(line: NDArray[np.float32], at: int) -> float:
    """How far the vertex of the parabola through three values lies from the middle one."""
    if not 0 < at < len(line) - 1:
        return 0.0
    before, middle, after = (float(v) for v in line[at - 1 : at + 2])
    bend = before - 2 * middle + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0


def misregistrations(scene: Scene, offsets: Mapping[int, Sequence[Offset | None]]) -> list[str]:
    """A sentence for each source that seems to lie elsewhere than its header says.

    ``offsets`` are the windows' for the index of each source that was compared with the reference.
    """
    told = []
    for index, found in sorted(offsets.items()):
        shift = voted(found)
        if shift is not None and shift.is_certain:
            assert isinstance(scene.grid, Grid)
            told.append(_sentence(shift, scene.sources[index], scene.sources[scene.reference], scene.grid))
    return told


def _sentence(shift: Shift, source: Source, reference: Source, grid: Grid) -> str:
    if grid.crs is None:
        ways = [_way(shift.rows, "down", "up", ""), _way(shift.columns, "right", "left", "")]
    else:
        unit = unit_of(grid.crs)
        sizes = [
            f" ({abs(pixels * step):.3g}{'' if unit == '°' else ' '}{unit})"
            for pixels, step in ((shift.rows, grid.affine.e), (shift.columns, grid.affine.a))
        ]
        ways = [
            _way(shift.rows * math.copysign(1, grid.affine.e), "north", "south", sizes[0]),
            _way(shift.columns * math.copysign(1, grid.affine.a), "east", "west", sizes[1]),
        ]
    return (
        f"{source.role} ({source.files[0].path.name}) seems to lie {' and '.join(filter(None, ways))} of its "
        f"true place, compared with {reference.role} ({reference.files[0].path.name}): {shift.windows} "
        f"windows agree to {shift.spread:.1f} pixels. Look at both; if so, correct the wrong one's header "
        "with gdal_edit -a_ullr, or register them first: edges come out double"
    )


def _way(pixels: float, there: str, back: str, length: str) -> str | None:
    """How far along an axis, None where hardly at all."""
    rounded = f"{abs(pixels):.1f}"
    return None if rounded == "0.0" else f"{rounded} pixels{length} {there if pixels > 0 else back}"
