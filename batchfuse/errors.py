"""Everything batchfuse refuses, as one family.

- BatchfuseError: one line that names the file, the values and the remedy
  - RecipeError: the recipe, the profile or the call is wrong (exit code 2)
    - WeightsError: the weights file can't be used
    - BusyError: another run writes into the output folder
  - SceneError: this scene can't be fused, the others can (exit code 1)
    - SourceError: a source file can't be read, or its pixels can't be used
    - GridError: the sources of a scene can't be brought onto one grid
      - DisjointError: they show different places
    - StoreError: the store of this scene was made by something else, or is damaged
      - DamagedError: a chunk of it can't be decoded
  - TrainingError: a training came to nothing (exit code 1)

Any other exception is a bug, and keeps its traceback.
"""

from __future__ import annotations

__all__ = [
    "BatchfuseError",
    "BusyError",
    "DamagedError",
    "DisjointError",
    "GridError",
    "RecipeError",
    "SceneError",
    "SourceError",
    "StoreError",
    "TrainingError",
    "WeightsError",
]


class BatchfuseError(Exception):
    """Something a user can mend; its text is one line with the remedy."""


class RecipeError(BatchfuseError):
    """The recipe, the profile or the call is wrong: nothing was started."""


class WeightsError(RecipeError):
    """The weights can't be loaded, or don't belong to this method."""


class BusyError(RecipeError):
    """Another run holds the output folder: nothing was started."""


class SceneError(BatchfuseError):
    """One scene can't be fused; the others go on."""


class SourceError(SceneError):
    """A source file can't be opened or read, or can't serve as an image."""


class GridError(SceneError):
    """The sources of a scene can't be brought onto one grid."""


class DisjointError(GridError):
    """Two sources, or a source and the target grid, show different places."""


class StoreError(SceneError):
    """What lies at the output's place was made by something else."""


class DamagedError(StoreError):
    """A chunk can't be decoded: its bytes are not those that were written."""


class TrainingError(BatchfuseError):
    """A training was lost to overflow: with equal settings it always is."""
