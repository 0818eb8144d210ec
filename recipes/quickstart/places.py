"""What is known of each place before anything is painted: how high and steep it is, and what is near."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from extent import SEED, SHAPE, Block, X, Y, along_across, in_valley
from noise import Floats, fractal, smoothstep
from paths import distance_to, meanders, smooth_path
from relief import FLOOR, slope_of, terrain

__all__ = ["TOWN", "Places", "surveyed"]

TOWN = (2540.0, 3030.0)
SETTLEMENTS = [(*TOWN, 400.0), (5550.0, 4700.0, 150.0), (120.0, 2560.0, 130.0), (5780.0, 3560.0, 110.0)]
SETTLEMENTS += [(1470.0, 900.0, 160.0)]
"""Place and size in metres."""
MOTORWAY = [(-700, 490), (767, 781), (2173, 1414), (3580, 2187), (4705, 2750), (5690, 3242), (7100, 3750)]
MAIN_ROAD = [(-700, 2830), (415, 2398), (1470, 2539), (2455, 2891), (2877, 3383), (3299, 3875)]
MAIN_ROAD += [(4143, 4227), (5127, 4227), (6041, 4719), (7100, 5300)]
BRIDGE_ROAD = [
    (2525, 2961),
    (2736, 2469),
    (2666, 1976),
    (2595, 1590),
    (2455, 1414),
    (1470, 851),
    (1500, -700),
]
POWER_LINE = [(3900, 2350), (4350, 1450), (4480, 700), (5100, -700)]


@dataclass(frozen=True)
class Places:
    """Rasters (y, x) of the landscape or of a block of it; distances in metres, up to some reach."""

    x: Floats
    y: Floats
    height: Floats
    """Metres above the sea."""
    slope: Floats
    """Metres a metre."""
    broad: Floats
    """Noise of mean 0 and standard deviation 1, features up to 750 m."""
    patchy: Floats
    """The same, features up to 250 m."""
    grain: Floats
    """The same, features of 20 m: crowns of trees."""
    floor: Floats
    """Share, 0..1, of farmland on the valley floor."""
    wood: Floats
    """Share, 0..1, of forest."""
    town: Floats
    """How densely built, 0..1."""
    river: Floats
    """Distance to the middle of the river."""
    old_river: Floats
    """Distance to where the river ran once."""
    shore: Floats
    """Negative in the lake, 0 on its shore, rising outwards."""
    roads: Floats
    """Distance to the nearer country road."""
    motorway: Floats
    """Distance to the motorway."""

    def block(self, block: Block) -> Places:
        """The same of a part of the landscape."""
        return Places(**{field.name: getattr(self, field.name)[block] for field in fields(self)})


def surveyed() -> Places:
    """All places of the landscape."""
    height = terrain()
    slope = np.hypot(*slope_of(height))
    broad, patchy = fractal(SHAPE, 150, SEED + 1, 5), fractal(SHAPE, 50, SEED + 2, 5, gain=0.6)
    trees = fractal(SHAPE, 110, SEED + 3, 5, gain=0.55)
    floor = smoothstep(height + 4 * trees, FLOOR + 22, FLOOR + 16)
    river = distance_to(in_valley(meanders(9400, 1050, 0.95, 0.7)), 150)
    along, across = along_across(X, Y)
    shore = (
        np.hypot((along - 980) / 1050, (across + 140 - 0.10 * (along - 980)) / 430)
        - 1
        + 0.10 * broad
        + 0.02 * patchy
    )
    roads = np.minimum(distance_to(smooth_path(MAIN_ROAD), 300), distance_to(smooth_path(BRIDGE_ROAD), 300))
    return Places(
        X,
        Y,
        height,
        slope,
        broad,
        patchy,
        fractal(SHAPE, 4.5, SEED + 4, 2, gain=0.8),
        floor,
        wood=wooded(height, slope, floor, trees, river, shore),
        town=built(roads, trees, patchy),
        river=river,
        old_river=distance_to(in_valley(meanders(9400, 900, 1.0, 3.6) - np.array([0.0, 330.0])), 80),
        shore=shore,
        roads=roads,
        motorway=distance_to(smooth_path(MOTORWAY), 60),
    )


def wooded(
    height: Floats, slope: Floats, floor: Floats, trees: Floats, river: Floats, shore: Floats
) -> Floats:
    """Share of forest: on slopes to the tree line, in copses, by the water; none under the power line."""
    slopes = smoothstep(slope + 0.11 * trees, 0.21, 0.235) * smoothstep(height + 50 * trees, 1120, 1060)
    copses = smoothstep(trees - 0.75 * (1 - floor), 1.65, 1.72)
    banks = smoothstep(river + 28 * trees, 72, 62) + smoothstep(shore + 0.05 * trees, 0.10, 0.085)
    share = np.clip(np.maximum(np.maximum(slopes * (1 - floor), copses), banks * floor), 0, 1)
    line = distance_to(smooth_path(POWER_LINE), 60)
    return np.asarray(share * smoothstep(line, 21, 27))


def built(roads: Floats, trees: Floats, patchy: Floats) -> Floats:
    """How densely built: less and less away from the middle of a settlement, farther out along the roads."""
    density = np.zeros(SHAPE)
    for x, y, size in SETTLEMENTS:
        away = np.hypot(X - x, Y - y) / size + 0.22 * trees + 0.12 * patchy
        away -= 0.35 * smoothstep(roads, 110, 20)
        density = np.maximum(density, (0.75 + size / 1600) * np.exp(-(np.clip(away, 0, None) ** 2)))
    return density
