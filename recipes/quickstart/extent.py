"""Where the landscape lies.

Places are told in metres east (x) and north (y) of the south-west corner of the optical image.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from noise import Floats

__all__ = [
    "AXIS",
    "CRS",
    "MARGIN",
    "SEED",
    "SHAPE",
    "SIZE",
    "SPACING",
    "WEST_NORTH",
    "Block",
    "X",
    "Y",
    "along_across",
    "blocks",
    "in_valley",
]

CRS = "EPSG:32632"
"""UTM zone 32N: the landscape's and the optical image's."""
WEST_NORTH = (711_000.0, 5_273_000.0)
"""Easting and northing of the north-west corner of the optical image."""
SIZE = 6400.0
"""Edge of the optical image in metres."""
MARGIN = 560.0
"""Metres of land around it, because the thermal image is turned and larger."""
SPACING = 5.0
"""Metres between samples of the landscape."""
SEED = 20_240_717
"""Another seed, another landscape."""

COUNT = round((SIZE + 2 * MARGIN) / SPACING)
SHAPE = (COUNT, COUNT)
X = np.tile((np.arange(COUNT) + 0.5) * SPACING - MARGIN, (COUNT, 1))
Y = np.ascontiguousarray(X[:, ::-1].T)

AXIS = np.deg2rad(21.0)
"""The valley runs from the west-south-west to the east-north-east, in a gentle S."""

Block = tuple[slice, slice]


def blocks(edge: int = 188) -> Iterator[Block]:
    """Squares that make up the landscape, small enough for a processor's cache."""
    for row in range(0, COUNT, edge):
        for column in range(0, COUNT, edge):
            yield slice(row, row + edge), slice(column, column + edge)


def bend(along: Floats) -> Floats:
    """How far the middle of the valley lies north of its straight axis."""
    return np.asarray(330 * np.sin(along / 1450 + 0.5) - 320)


def along_across(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Metres along the valley from its middle, and across it, to the north."""
    dx, dy = x - SIZE / 2, y - SIZE / 2
    along = dx * np.cos(AXIS) + dy * np.sin(AXIS)
    return along, dy * np.cos(AXIS) - dx * np.sin(AXIS) - bend(along)


def in_valley(path: Floats) -> Floats:
    """Points (n, 2) told along and across the valley as points (x, y)."""
    along, across = path[:, 0], path[:, 1] + bend(path[:, 0])
    x = SIZE / 2 + along * np.cos(AXIS) - across * np.sin(AXIS)
    return np.column_stack([x, SIZE / 2 + along * np.sin(AXIS) + across * np.cos(AXIS)])
