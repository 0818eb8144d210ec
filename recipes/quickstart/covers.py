"""What covers the ground, each with its colours, its temperature and its height."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from extent import AXIS, SEED, SHAPE, SPACING, Block
from noise import Floats, smoothstep, uniform
from parcels import districts, off_middle, strips, turned
from places import Places

__all__ = [
    "Ground",
    "between",
    "fields",
    "forest",
    "hills",
    "houses",
    "near",
    "river_and_lake",
    "road",
    "toned",
    "works",
]

Colour = tuple[float, float, float]
"""Reflectance, 0..1, in red, green and blue."""


@dataclass(frozen=True)
class Ground:
    """The ground while it is painted in place, one cover over the other."""

    reflectance: Floats
    """(3, y, x): red, green, blue, 0..1."""
    kelvin: Floats
    """(y, x): temperature on a level place at the height of the valley."""
    raised: Floats
    """(y, x): metres that trees and houses stand above the terrain."""

    @classmethod
    def bare(cls) -> Ground:
        """Ground on which nothing is painted yet."""
        return cls(np.zeros((3, *SHAPE)), np.zeros(SHAPE), np.zeros(SHAPE))

    def block(self, block: Block) -> Ground:
        """A part of the ground; what is painted on it is painted on the whole."""
        return Ground(self.reflectance[:, *block], self.kelvin[block], self.raised[block])

    def paint(
        self, share: Floats, colour: Colour | Floats, kelvin: float | Floats, raised: float | Floats = 0.0
    ) -> None:
        """Lay a cover over its share, 0..1, of each sample."""
        for band, value in zip(self.reflectance, colour, strict=True):
            band += share * (value - band)
        self.kelvin[:] += share * (kelvin - self.kelvin)
        self.raised[:] += share * (raised - self.raised)


def near(distance: Floats, limit: float | Floats) -> Floats:
    """Share of each sample that is nearer than ``limit`` metres; the edge is as wide as a sample."""
    return np.asarray(np.clip((limit - distance) / SPACING + 0.5, 0, 1))


def toned(colour: Colour, tone: Floats) -> Floats:
    """A colour (3, y, x) made lighter and darker."""
    return np.array(colour)[:, None, None] * tone


def between(one: Colour, other: Colour, share: Floats) -> Floats:
    """A colour (3, y, x) from one to the other."""
    return toned(one, 1 - share) + toned(other, share)


def hills(ground: Ground, at: Places) -> None:
    """Pasture everywhere, for the rest to be painted over; higher up heath, and rock where it is steep."""
    everywhere = np.ones(at.x.shape)
    ground.paint(
        everywhere, toned((0.085, 0.118, 0.054), 1 + 0.08 * at.broad + 0.05 * at.patchy), 301 + 0.6 * at.broad
    )
    ground.paint(smoothstep(at.height + 40 * at.broad, 980, 1130), (0.122, 0.128, 0.080), 302.5)
    crag = at.patchy + 0.4 * at.grain
    steep = smoothstep(at.slope + 0.13 * crag + (at.height - 1100) / 900, 0.70, 0.90)
    rock = toned((0.185, 0.178, 0.167), 1 + 0.12 * crag)
    ground.paint(steep * smoothstep(at.height, 840, 1010), rock, 306.0)


CROPS: list[tuple[float, Colour, float]] = [
    (0.17, (0.235, 0.185, 0.100), 306.0),  # ripe wheat
    (0.10, (0.275, 0.235, 0.155), 308.0),  # stubble
    (0.20, (0.055, 0.095, 0.040), 298.0),  # maize
    (0.10, (0.050, 0.118, 0.042), 296.5),  # beets
    (0.13, (0.120, 0.150, 0.070), 303.0),  # meadow, mown
    (0.18, (0.072, 0.118, 0.048), 300.0),  # meadow
    (0.12, (0.175, 0.130, 0.088), 309.5),  # bare soil
]
"""Share of the parcels, colour, temperature."""


def fields(ground: Ground, at: Places) -> None:
    """Parcels with a crop each, tracks and hedges; tramlines and watering show in one sensor only."""
    if not at.floor.any():
        return
    farm, border = districts(at.x, at.y, 640, SEED + 20)
    u, v = turned(at.x, at.y, AXIS + 1.3 * (uniform(SEED + 23, farm) - 0.5))
    column, side = strips(u, 130 + 190 * uniform(SEED + 24, farm), SEED + 25, farm)
    parcel, end = strips(v, 55 + 75 * uniform(SEED + 26, column), SEED + 27, column)
    shares = np.cumsum([share for share, _, _ in CROPS])
    crop = np.searchsorted(shares / shares[-1], uniform(SEED + 28, parcel))
    # tramlines 24 m apart: the optical camera sees them, to the thermal one they are too fine
    lines = np.sin(v * (2 * np.pi / 24)) * (uniform(SEED + 30, parcel) < 0.6)
    tone = 0.85 + 0.3 * uniform(SEED + 31, parcel) + 0.035 * at.patchy + 0.06 * lines
    # a watered parcel is cooler, and its colour the same
    watered = uniform(SEED + 32, parcel) < 0.13
    kelvin = np.array([k for _, _, k in CROPS])[crop] + 0.5 * at.patchy - 5 * watered
    kelvin += 3 * (uniform(SEED + 33, parcel) - 0.5)
    colours = np.array([colour for _, colour, _ in CROPS]).T[:, crop]
    ground.paint(at.floor, colours * tone, kelvin, np.where(crop == 2, 2.0, 0.5))
    hedge = near(np.minimum(side, end), 3.5) * (uniform(SEED + 34, column) < 0.35)
    ground.paint(at.floor * hedge, (0.040, 0.066, 0.030), 298.0, 5.0)
    ground.paint(at.floor * near(border, 4.0), (0.235, 0.205, 0.160), 305.0)


def forest(ground: Ground, at: Places) -> None:
    """Dark conifers, lower down mixed with lighter broad-leaved trees."""
    leafy = smoothstep(at.patchy - (at.height - 620) / 220, -0.4, 0.6)
    tone = 1 + 0.16 * at.grain + 0.06 * at.patchy
    colour = between((0.033, 0.052, 0.029), (0.052, 0.088, 0.037), leafy) * tone
    ground.paint(at.wood, colour, 294.5 + 0.9 * leafy + 0.3 * at.patchy, 19 + 2.5 * at.grain)


def houses(ground: Ground, at: Places) -> None:
    """Streets, gardens and houses where the town is dense enough; each quarter has its own direction."""
    built = smoothstep(at.town, 0.10, 0.30)
    if not built.any():
        return
    quarter, border = districts(at.x, at.y, 330, SEED + 50)
    u, v = turned(at.x, at.y, AXIS + 1.2 * (uniform(SEED + 53, quarter) - 0.5))
    yard = between((0.085, 0.112, 0.062), (0.150, 0.146, 0.138), 0.8 * at.town) * (1 + 0.1 * at.grain)
    ground.paint(built, yard, 303 + 3.5 * at.town, np.where(at.grain > 0.5, 1.5, 0.0))
    street = np.minimum(np.minimum(46 - off_middle(u, 92.0), 31 - off_middle(v, 62.0)), border)
    ground.paint(built * near(street, 4.5), (0.165, 0.163, 0.160), 307.0)
    lot = (np.floor(u / 23.0).astype(np.int64), np.floor(v / 20.667).astype(np.int64), quarter)
    wide = 5.0 + 5.5 * uniform(SEED + 55, *lot) + 2.5 * at.town
    deep = 4.5 + 3.5 * uniform(SEED + 56, *lot) + 2.0 * at.town
    outside = np.maximum(off_middle(u, 23.0) - wide, off_middle(v, 20.667) - deep)
    stands = uniform(SEED + 57, *lot) < 0.25 + 0.85 * at.town
    slate = (uniform(SEED + 58, *lot) < 0.35).astype(float)
    roof = between((0.255, 0.135, 0.095), (0.155, 0.155, 0.160), slate) * (
        0.8 + 0.4 * uniform(SEED + 59, *lot)
    )
    kelvin = 309 + 6 * uniform(SEED + 60, *lot)
    ground.paint(built * stands * near(outside, 0.0) * near(-street, -6.0), roof, kelvin, 9.0)


def works(ground: Ground, at: Places, middle: tuple[float, float], length: float, depth: float) -> None:
    """Halls on paved ground. Some leak heat: only the thermal camera tells them from the others."""
    u, v = turned(at.x - middle[0], at.y - middle[1], AXIS + 0.1)
    area = near(np.maximum(np.abs(u) - length / 2, np.abs(v) - depth / 2), 6.0 * at.patchy)
    if not area.any():
        return
    row = np.floor(v / 88 + 50).astype(np.int64)
    column, side = strips(u + 31.0 * row, np.full(u.shape, 130.0), SEED + 61, row)
    ground.paint(area, toned((0.150, 0.149, 0.144), 1 + 0.05 * at.grain), 306.0)
    yard = 9 + 8 * uniform(SEED + 62, column)
    outside = np.maximum(yard - side, off_middle(v, 88.0) - 22 - 14 * uniform(SEED + 63, column))
    bright, leaks = uniform(SEED + 64, column), uniform(SEED + 65, column) < 0.25
    roof = between((0.130, 0.135, 0.140), (0.285, 0.290, 0.295), bright)
    stands = uniform(SEED + 66, column) < 0.8
    ground.paint(area * stands * near(outside, 0.0), roof, np.where(leaks, 330.0, 312 - 7 * bright), 11.0)


def road(ground: Ground, distance: Floats, width: float, colour: Colour, kelvin: float, verge: float) -> None:
    """A road, with ``verge`` metres of mown grass on each side."""
    grass = near(distance, width / 2 + verge)
    if grass.any():
        ground.paint(grass, (0.105, 0.125, 0.068), 302.0)
        ground.paint(near(distance, width / 2), colour, kelvin)


def river_and_lake(ground: Ground, at: Places, silt: Floats, warm: Floats) -> None:
    """Water: the river cold and greenish, the lake dark, lighter where it is shallow.

    Silt from the river's mouth shows in the optical image only, the ``warm`` water of a power
    plant (kelvin above the lake's) in the thermal one only.
    """
    ripples = at.broad + 0.3 * at.patchy
    ground.paint(near(at.river, 36 + 9 * ripples), (0.235, 0.228, 0.210), 304.0)
    ground.paint(near(at.river, 25.0), toned((0.040, 0.062, 0.056), 1 + 0.05 * ripples), 288.5)
    ground.paint(smoothstep(at.shore, 0.045, 0.02), (0.190, 0.180, 0.145), 304.0)
    shallow = smoothstep(at.shore, -0.16, 0.0)
    water = between((0.022, 0.036, 0.046), (0.052, 0.078, 0.066), shallow) * (1 + 0.04 * ripples)
    water += silt * (np.array([0.105, 0.108, 0.082])[:, None, None] - water)
    kelvin = 291.5 + 0.9 * shallow + 0.15 * ripples + warm
    ground.paint(smoothstep(at.shore, 0.012, -0.012), water, kelvin)
