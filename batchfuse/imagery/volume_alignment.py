"""Where each voxel of the reference's grid lies in another volume."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from batchfuse.errors import DisjointError, GridError
from batchfuse.geometry.volume_grid import Rows, VolumeGrid
from batchfuse.geometry.window import Window
from batchfuse.imagery.mapping import QUANTUM
from batchfuse.imagery.volume_differences import volume_differences
from batchfuse.imagery.volume_overlap import FloatArray, box_in_common, share, voxels_to_voxels

__all__ = ["VolumeAlignment", "align_volumes"]

IDENTICAL = 1e-4
"""Voxels: lattices that differ by less over the whole extent are one lattice.

Headers hold float32. At 128 mm and more from the origin those are 1.5e-5 mm apart, and a quaternion's three
turn a volume by some 1e-7: two programs that write the same lattice disagree by up to 1e-4 of a small voxel.
"""
EDGE = 1e-6  # voxels: noise must not add a slice


@dataclass(frozen=True)
class VolumeAlignment:
    """Where each voxel of the reference's grid lies in a source: small, and safe to send to other processes.

    Voxels are (z, y, x), 0.0 at the centre of the first: n of them lie between -0.5 and n - 0.5.
    """

    reference: VolumeGrid
    """The grid of the fused volume."""
    source: VolumeGrid
    """The place of the source."""
    identical: bool
    """Whether both are one grid, to 1e-4 of a voxel over the whole extent: read without resampling."""
    footprint: tuple[float, float, float]
    """Source voxels (z, y, x) under one voxel of the reference."""
    coverage: float
    """Share of the reference that the source covers, 0..1 (to 1 % where it is oblique to it)."""
    rows: Rows
    """From (z, y, x, 1) of the reference to (z, y, x) of the source."""
    shift: tuple[int, int, int] | None
    """(z, y, x) to add, where the voxels of both lie on one lattice and run the same way."""
    accuracy: None = None
    """A volume's place holds no doubt that PROJ could tell of."""

    @property
    def is_on_lattice(self) -> bool:
        """Whether every voxel lies on one of the source's, though their axes may run other ways."""
        return all(value == round(value) for row in self.rows for value in row)

    def source_window(self, window: Window | None = None, margin: int = 0) -> Window | None:
        """The source's voxels under a window of the reference (default: all), or None if there are none.

        ``margin`` more on each side, cut at the source's edge.
        """
        low, high = self.extent(window or Window.whole(self.reference.shape))
        shape = self.source.shape
        reach = np.array(self.footprint) / 2
        # a voxel i reaches from i - 0.5 to i + 0.5
        first = np.clip(np.floor(low - reach + 0.5 + EDGE) - margin, -1, shape)
        last = np.clip(np.ceil(high + reach + 0.5 - EDGE) + margin, 0, np.add(shape, 1))
        found = Window(tuple(int(n) for n in first), tuple(int(n) for n in last))
        return found.intersection(Window.whole(shape))

    def extent(self, window: Window) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest source voxel (z, y, x) of the centres of a window's voxels."""
        ends = zip(window.start, window.stop, strict=True)
        corners = np.array(list(itertools.product(*((a, b - 1) for a, b in ends))), float)
        rows = np.array(self.rows)
        places = corners @ rows[:, :3].T + rows[:, 3]
        return places.min(axis=0), places.max(axis=0)

    def differences(self) -> list[str]:
        """How the source's grid differs from the reference, in sentences for people; none where identical."""
        return [] if self.identical else volume_differences(self.reference, self.source, self.coverage)


def align_volumes(
    reference: VolumeGrid, source: VolumeGrid, names: tuple[str, str] = ("the reference", "the source")
) -> VolumeAlignment:
    """Where the voxels of ``reference`` lie in ``source``; ``names`` are the files' in the line of an error.

    Raises GridError where only one of them says where in the world it is, or neither and their shapes differ;
    DisjointError where they show different places.
    """
    return _aligned(reference, source, names)


@lru_cache(maxsize=4096)
def _aligned(reference: VolumeGrid, source: VolumeGrid, names: tuple[str, str]) -> VolumeAlignment:
    if not (reference.placed and source.placed):
        _refuse_unplaced(reference, source, names)
        way = np.eye(3, 4)  # voxel on voxel
    else:
        way = _snapped(voxels_to_voxels(reference, source), reference.shape)
        if box_in_common(reference, [source]) is None:
            raise DisjointError(
                f"{names[1]} ({_extent(source)}) does not overlap {names[0]} ({_extent(reference)}): "
                "pair other files, or mend a wrong sform or qform"
            )
    linear = way[:, :3]
    is_straight = bool((linear == np.eye(3)).all() and (way[:, 3] == np.round(way[:, 3])).all())
    by_z, by_y, by_x = (int(n) for n in np.round(way[:, 3]))
    shift = (by_z, by_y, by_x) if is_straight else None
    # whole multiples of the coordinates' quantum, so that 3 is 3 and not 3.0000000001
    size = np.maximum(1, np.round(np.linalg.norm(linear, axis=1) / QUANTUM)) * QUANTUM
    first, second, third = ((float(z), float(y), float(x), float(by)) for z, y, x, by in way)
    return VolumeAlignment(
        reference=reference,
        source=source,
        identical=shift == (0, 0, 0) and reference.shape == source.shape,
        footprint=(float(size[0]), float(size[1]), float(size[2])),
        coverage=share(reference, source, way),
        rows=(first, second, third),
        shift=shift,
    )


def _snapped(way: FloatArray, shape: tuple[int, int, int]) -> FloatArray:
    """The way between voxels, freed from the rounding of headers where both lie on one lattice."""
    turn = np.round(way[:, :3])
    if not ((np.abs(turn).sum(axis=0) == 1).all() and (np.abs(turn).sum(axis=1) == 1).all()):
        return way
    middle = np.append((np.array(shape) - 1) / 2, 1)
    by = np.round(way @ middle - turn @ middle[:3])
    whole = np.concatenate([turn, by[:, None]], axis=1)
    corners = np.array([(*c, 1) for c in itertools.product(*((0, n - 1) for n in shape))])
    off = np.linalg.norm((way - whole) @ corners.T, axis=0)
    return whole if off.max() < IDENTICAL else way


def _refuse_unplaced(reference: VolumeGrid, source: VolumeGrid, names: tuple[str, str]) -> None:
    """Voxels without a world go on voxels without a world, where there are as many."""
    if reference.placed != source.placed:
        lacking, having = names if source.placed else names[::-1]
        raise GridError(
            f"{lacking} has no world space (sform and qform code are 0) but {having} has: give it its sform "
            "(with nibabel's set_sform or fslorient), or, if their voxels match, the other's (fslcpgeom)"
        )
    if reference.shape != source.shape:
        sizes = [" x ".join(map(str, grid.shape[::-1])) for grid in (reference, source)]
        raise GridError(
            f"{names[1]} has {sizes[1]} voxels and {names[0]} {sizes[0]}, and neither says where in the "
            "world they lie (sform and qform code are 0): give both their sform (nibabel, fslorient)"
        )


def _extent(grid: VolumeGrid) -> str:
    """A volume's box in the world."""
    corners = grid.corners()
    ends = zip("xyz", corners.min(axis=0), corners.max(axis=0), strict=True)
    return ", ".join(f"{axis} {low:.6g} to {high:.6g}" for axis, low, high in ends) + " mm"
