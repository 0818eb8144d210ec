"""batchfuse: thousands of image pairs, fused in exact tiles.

The heavy libraries behind these names are imported when a name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchfuse.engine import run
    from batchfuse.errors import (
        BatchfuseError,
        BusyError,
        GridError,
        RecipeError,
        SceneError,
        SourceError,
        StoreError,
        WeightsError,
    )
    from batchfuse.fusion.arrays import fuse
    from batchfuse.fusion.methods import Method, Strategy, register
    from batchfuse.job import Job
    from batchfuse.plan import Plan, make_plan
    from batchfuse.recipe import Profile, Recipe
    from batchfuse.report.report import Outcome, Report

__all__ = [
    "BatchfuseError",
    "BusyError",
    "GridError",
    "Job",
    "Method",
    "Outcome",
    "Plan",
    "Profile",
    "Recipe",
    "RecipeError",
    "Report",
    "SceneError",
    "SourceError",
    "StoreError",
    "Strategy",
    "WeightsError",
    "fuse",
    "make_plan",
    "register",
    "run",
]

_HOMES = {
    "batchfuse.errors": (
        "BatchfuseError",
        "BusyError",
        "GridError",
        "RecipeError",
        "SceneError",
        "SourceError",
        "StoreError",
        "WeightsError",
    ),
    "batchfuse.fusion.arrays": ("fuse",),
    "batchfuse.fusion.methods": ("Method", "Strategy", "register"),
    "batchfuse.job": ("Job",),
    "batchfuse.plan": ("Plan", "make_plan"),
    "batchfuse.recipe": ("Profile", "Recipe"),
    "batchfuse.report.report": ("Outcome", "Report"),
    "batchfuse.engine": ("run",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'batchfuse' has no attribute {name!r}")
    found = getattr(import_module(_HOME[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
