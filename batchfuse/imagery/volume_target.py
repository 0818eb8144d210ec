"""Which voxels of the reference's lattice a scene of volumes has."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from batchfuse.errors import DisjointError, GridError
from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.geometry.window import Window
from batchfuse.imagery.scene import Source
from batchfuse.imagery.volume_overlap import box_around, box_in_common, voxels_to_voxels

__all__ = ["volume_place", "volume_window"]

APART = 50  # times the sources' own voxels: a union beyond holds next to nothing
LONGEST, LARGEST = 10**6, 4 * 10**10  # voxels along an edge, and in all: more is a wrong header


def volume_place(source: Source) -> VolumeGrid:
    """Where a volume lies."""
    assert isinstance(source.place, VolumeGrid)
    return source.place


def volume_window(sources: Sequence[Source], reference: Source, extent: str) -> Window:
    """The voxels (z, y, x) of the reference's lattice that an extent asks for: those that the region reaches.

    reference: its own. intersection: the box around what all sources show. union: the box around all of them,
    which may begin below 0.

    Raises GridError where the sources have no place in common, or lie so far apart that the box is absurd.
    """
    own = volume_place(reference)
    places = [volume_place(source) for source in sources]
    names = " and ".join(source.name for source in sources)
    if extent == "reference" or not own.placed:  # without a world they lie voxel on voxel
        return Window.whole(own.shape)
    if extent == "intersection":
        found = box_in_common(own, places)
        if found is None:
            raise DisjointError(
                f"{names} have no place that all of them show: pair other files, "
                "or use `extent: reference` or `union`"
            )
        return found
    window = box_around(own, places)
    parts = sum(
        math.prod(place.shape) / abs(np.linalg.det(voxels_to_voxels(own, place)[:, :3])) for place in places
    )
    if window.size > APART * parts or max(window.shape) > LONGEST or window.size > LARGEST:
        raise GridError(
            f"the union of {names} has {window.size:.3g} voxels, {window.size / parts:.3g} times what they "
            f"cover (at most {APART}, and {LARGEST:.0e} voxels): use `extent: reference`"
        )
    return window
