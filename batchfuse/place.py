"""Which of several processes on one machine this is: each takes a GPU of its own."""

from __future__ import annotations

__all__ = ["device_in_place", "device_named", "take_place"]

_place: int | None = None


def take_place(number: int) -> None:
    """Tells this process which of several it is, counted from 0."""
    global _place
    _place = number


def device_named(name: str) -> str:
    """The device that this name means in this process, such as cuda:1 for ``auto`` in the second of several.

    Raises RecipeError where there is none.
    """
    from batchfuse.fusion.device import resolved_device  # imports torch

    return str(resolved_device(name, _place or 0))


def device_in_place(name: str) -> str:
    """The same where this is one of several processes; elsewhere the name as it is."""
    return name if _place is None else device_named(name)
