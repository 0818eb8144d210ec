"""One scene to fuse, as a plan has it: all that a worker has to know, and nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from batchfuse.fusion.parameters import worded
from batchfuse.geometry.planes import Plane
from batchfuse.geometry.tiling import Tiling
from batchfuse.imagery.align import Alignment
from batchfuse.imagery.scene import Scene, Source
from batchfuse.imagery.volume_alignment import VolumeAlignment
from batchfuse.recipe import Export

__all__ = ["PIXELS", "Job", "Ranges"]

PIXELS = 1
"""Version of our pixels: one more whenever the same recipe on the same files gives others."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """How the recipe wants a source scaled; both None: by the type's own rule."""

    range: tuple[float, float] | None = None
    """Physical values that map to 0 and 1."""
    percentiles: tuple[float, float] | None = None
    """Percentiles that do."""


@dataclass(frozen=True, slots=True)
class Job:
    """One scene to fuse: all that a worker has to know, and nothing heavy."""

    scene: Scene
    """Sources, reference and grid."""
    store: Path
    """Where the fused image goes."""
    tiling: Tiling
    """Cores of the chunks, with the strategy's halo."""
    survey_tiling: Tiling | None
    """The same cores with the survey's halo, where the strategy asks for a survey."""
    alignments: tuple[Alignment | VolumeAlignment, ...]
    """Where the pixels of the grid lie in each source."""
    ranges: tuple[Ranges, ...]
    """One a source."""
    resampling: str
    """How the other sources come onto the grid."""
    validity: str
    """any or all."""
    color: str
    """luma or bands."""
    planes: tuple[Plane, ...]
    """Of a volume: the planes whose slices are fused; of several, their mean is the fused volume."""
    method: str
    """Name of the fusion method."""
    fuser: str
    """Where its class is, as module:Class: what a process elsewhere needs of the registry."""
    strategy: str
    """Name of its strategy."""
    strategy_parameters: Mapping[str, float]
    """All that the strategy has, defaults filled in."""
    network_bytes: int
    """What the method holds in memory for each tile at work, whatever the tile's size."""
    weights: str
    """Name or file of the weights; empty where the method has none."""
    dtype: str
    """Type of the fused image."""
    units: str
    """reference or unit."""
    zarr_format: Literal[2, 3]
    """2 or 3."""
    shard: int | None
    """Of format 3: the edge of a chunk inside a shard of a tile."""
    pyramid: bool
    """Whether reduced levels are made."""
    record: Mapping[str, Any]
    """What the store will say of how it was made (recipe, sources, weights)."""
    place: str
    """What grid the fused image has, for people."""
    differences: tuple[str, ...]
    """How the sources' grids differ from the reference grid, for people."""
    warnings: tuple[str, ...]
    """What a person should look at."""
    exports: tuple[Export, ...] = ()
    """Files that are made from the store when it is complete."""

    @property
    def reference(self) -> Source:
        """The source that gives grid, units and colour."""
        return self.scene.sources[self.scene.reference]

    @property
    def is_volume(self) -> bool:
        """Whether the scene is of volumes."""
        return bool(self.planes)

    @property
    def stacks(self) -> int:
        """How often each tile is fused: once, once for each band of the reference, or once a plane."""
        if self.planes:
            return len(self.planes)
        return len(self.reference.bands) if self.color == "bands" else 1

    @property
    def fusing(self) -> str:
        """Method, strategy and parameters, for people."""
        return f"{self.method}, strategy {worded(self.strategy, self.strategy_parameters)}"

    @property
    def pixels(self) -> int:
        """Pixels of the fused image, of one band, or voxels of the fused volume."""
        return math.prod(self.tiling.shape)

    @property
    def bytes_out(self) -> int:
        """Bytes of the fused image before compression."""
        return self.pixels * len(self.reference.bands) * np.dtype(self.dtype).itemsize

    def absolute(self) -> Job:
        """The same job for workers that were started in other folders."""
        sources = tuple(source.absolute() for source in self.scene.sources)
        weights = str(Path(self.weights).absolute()) if Path(self.weights).is_file() else self.weights
        return replace(
            self,
            scene=replace(self.scene, sources=sources),
            store=self.store.absolute(),
            weights=weights,
        )
