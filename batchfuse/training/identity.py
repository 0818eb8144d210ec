"""What makes two trainings the same one, and what tells them apart."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from batchfuse.training.photographs import Photograph
from batchfuse.training.settings import Settings

__all__ = ["difference", "identity"]

SHOWN = 12  # digits of a checksum


def identity(settings: Settings, photographs: Sequence[Photograph]) -> dict[str, Any]:
    """Settings and images as JSON has them: trainings that are equal in these give equal weights."""
    images = [{"name": p.name, "sha256": p.sha256, "shape": list(p.pixels.shape)} for p in photographs]
    made: dict[str, Any] = json.loads(json.dumps({"settings": settings.to_json(), "images": images}))
    return made


def difference(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """The first thing in which what a file tells differs from an ``identity``; None where nothing does."""
    found = dict(_flat(there.get("settings")))
    for name, value in _flat(wanted["settings"]):
        if name not in found or found[name] != value:
            return f"{name} is {_word(found.get(name, 'not told'))} there, {_word(value)} here"
    told = there.get("images")
    known = [image for image in told if isinstance(image, Mapping)] if isinstance(told, list) else []
    images = zip_longest(known, wanted["images"])
    return next((said for a, b in images if (said := _of_images(a, b))), None)


def _of_images(there: Mapping[str, Any] | None, wanted: Mapping[str, Any] | None) -> str | None:
    if there is None or wanted is None:
        return f"the image {_name(there)} there, {_name(wanted)} here"
    if _name(there) != _name(wanted):
        return f"the image {_name(there)} there, {_name(wanted)} here"
    if there.get("sha256") != wanted["sha256"]:
        begins = [str(image.get("sha256"))[:SHOWN] for image in (there, wanted)]
        return f"{_name(wanted)} has SHA-256 {begins[0]}… there, {begins[1]}… here"
    return None


def _flat(settings: object, before: str = "") -> Iterator[tuple[str, Any]]:
    """Each setting with its path; of what is no mapping, as a foreign file may have it, none."""
    for name, value in settings.items() if isinstance(settings, Mapping) else ():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _name(image: Mapping[str, Any] | None) -> str:
    return "none" if image is None else str(image.get("name"))


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value is None else str(value)
