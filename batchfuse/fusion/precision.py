"""In which arithmetic the network computes; needs no torch."""

from __future__ import annotations

from batchfuse.errors import RecipeError

__all__ = ["resolved_precision"]

_LATER = ("bfloat16", "float16")


def resolved_precision(name: str) -> str:
    """The arithmetic of this name; ``auto`` is float32.

    Raises:
        RecipeError: an unknown one, or one that is not built yet.
    """
    if name in ("auto", "float32"):
        return "float32"
    if name == "float64":  # tests tell a halo of 11 from 12 by it
        return name
    if name in _LATER:
        raise RecipeError(f"precision {name!r} is not built yet: use auto or float32")
    raise RecipeError(f"there is no precision {name!r}: use auto or float32")
