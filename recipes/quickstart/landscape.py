"""The one landscape that both sensors look at: an alpine valley on a summer morning, which does not exist."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from covers import Ground, fields, forest, hills, houses, near, river_and_lake, road, toned, works
from extent import SEED, SHAPE, SPACING, blocks
from noise import Floats, fractal, sampled, smoothstep
from places import Places, surveyed
from relief import FLOOR, slope_of

__all__ = ["Landscape", "made_landscape"]

SUN = (0.46, -0.56, 0.69)
"""Towards the sun, (east, north, up)."""
WIND = 0.62
"""Where the wind blows, in radians north of east."""
FIRE, OUTLET, MOUTH = (1650.0, 4150.0), (3800.0, 2760.0), (3460.0, 3230.0)
WORKS, POWER_PLANT = (2000.0, 1790.0), (3890.0, 2440.0)


@dataclass(frozen=True)
class Landscape:
    """What the sensors see: rasters of the whole extent, row by row from the north."""

    reflectance: Floats
    """(3, y, x): red, green, blue, 0..1, with sun and shadow, haze and smoke."""
    kelvin: Floats
    """(y, x): brightness temperature, which the smoke does not hide."""


def made_landscape() -> Landscape:
    """Build the valley, paint it, let the sun shine on it and the smoke drift over it."""
    places, ground = surveyed(), Ground.bare()
    smoke, billows = np.zeros(SHAPE), fractal((700, 1500), 130, SEED + 9, 6, gain=0.62)
    for block in blocks():
        paint(ground.block(block), places.block(block))
        smoke[block] = smoke_cover(places.block(block), billows)
    light = sunlight(places.height + ground.raised)
    # the warmth of a slope in the sun; water hardly feels it
    warmth = 5.5 * (sunlight(places.height) - 1) * (ground.kelvin > 293.5)
    kelvin = ground.kelvin - 0.005 * (places.height - FLOOR) + warmth
    haze = np.array([0.008, 0.012, 0.020])[:, None, None]
    reflectance = (ground.reflectance * light + haze) * (1 - smoke) + toned((0.275, 0.285, 0.300), smoke)
    return Landscape(reflectance, kelvin)


def paint(ground: Ground, at: Places) -> None:
    """Lay all that covers the ground, the later over the earlier."""
    hills(ground, at)
    fields(ground, at)
    old_river(ground, at)
    forest(ground, at)
    houses(ground, at)
    works(ground, at, WORKS, 1040, 400)
    works(ground, at, POWER_PLANT, 230, 150)
    silt, warm = drifting(at, MOUTH, 0.15, 150, 0.22), drifting(at, OUTLET, 0.62, 75, 0.20)
    river_and_lake(ground, at, 0.9 * silt, 10.0 * warm)
    road(ground, at.roads, 10.0, (0.150, 0.150, 0.152), 308.0, 3.0)
    road(ground, at.motorway, 32.0, (0.178, 0.177, 0.175), 310.0, 9.0)
    ground.paint(near(at.motorway, 3.0), (0.085, 0.105, 0.060), 303.0)
    fire(ground, at)


def old_river(ground: Ground, at: Places) -> None:
    """Moist soil where the river ran once: cool to the thermal camera, to the other hardly darker."""
    damp = smoothstep(at.old_river, 75, 35) * at.floor
    ground.kelvin[:] -= 3.5 * damp
    ground.reflectance[:] *= 1 - 0.03 * damp


def downwind(at: Places, source: tuple[float, float], heading: float) -> tuple[Floats, Floats]:
    """Metres from a source along a heading, and to the left of it."""
    dx, dy = at.x - source[0], at.y - source[1]
    cosine, sine = np.cos(heading), np.sin(heading)
    return dx * cosine + dy * sine, dy * cosine - dx * sine


def drifting(at: Places, source: tuple[float, float], heading: float, width: float, spread: float) -> Floats:
    """A plume, 1 at its source: it widens and thins as it drifts, and frays."""
    down, side = downwind(at, source, heading)
    frayed = 0.3 * width * (at.broad + at.patchy)
    wide = width + spread * np.clip(down, 0, None)
    return np.asarray(
        np.exp(-(((side + frayed) / wide) ** 2)) * smoothstep(down + frayed, -width, 0) * width / wide
    )


def fire(ground: Ground, at: Places) -> None:
    """A burnt slope with a burning rim on its downwind side: under the smoke only warmth shows it."""
    down, side = downwind(at, FIRE, WIND)
    front = np.hypot(down, side) + 50 * at.patchy + 30 * at.broad - 210
    ground.paint(near(front, 0.0), toned((0.062, 0.055, 0.050), 1 + 0.1 * at.grain), 305.0, 6.0)
    burning = near(np.abs(front), 9.0) * smoothstep(down, -60, 60)
    ground.kelvin[:] += burning * (385.0 - ground.kelvin)


def smoke_cover(at: Places, billows: Floats) -> Floats:
    """Share of the light that the smoke sends back, 0..0.9."""
    down, side = downwind(at, FIRE, WIND)
    far = np.clip(down, 0, None)
    turmoil = sampled(billows, (side + 3500) / 10, (down + 3500) / 12)
    side = side + (20 + 0.035 * far) * turmoil
    body = np.exp(-((side / (150 + 0.13 * far)) ** 2)) * smoothstep(down, -190, 160) * np.exp(-far / 2300)
    return np.asarray(np.clip(body * (0.85 + 0.22 * turmoil), 0, 0.9))


def sunlight(surface: Floats) -> Floats:
    """Light on a surface, 1 where it is level: the slope towards the sun, shadows, and the sky's share."""
    east, north = slope_of(surface)
    facing = (SUN[2] - east * SUN[0] - north * SUN[1]) / np.sqrt(1 + east**2 + north**2)
    level, shadow = np.hypot(SUN[0], SUN[1]), np.zeros(SHAPE)
    for step in (1, 2, 3, 4, 6, 9, 14, 20, 30):
        down, right = round(-step * SUN[1] / level), round(step * SUN[0] / level)
        # what stands ``step`` samples towards the sun, against the ray that leaves this sample
        towards = np.roll(surface, (-down, -right), axis=(0, 1))
        ray = surface + np.hypot(down, right) * SPACING * SUN[2] / level
        shadow = np.maximum(shadow, np.clip((towards - ray) / 3.0, 0, 1))
    return np.asarray(0.30 + 0.70 * np.clip(facing, 0, None) / SUN[2] * (1 - 0.85 * shadow))
