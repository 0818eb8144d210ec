"""What tells the making of a store from what is asked now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from batchfuse.recipe import differences

__all__ = ["changes", "other_ranges"]


def changes(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What tells the store's making from what is asked now; nothing if it may be continued."""
    changed = differences(stored.get("identity", {}), wanted["identity"])
    for key, name in (("reference", "reference"), ("precision", "precision")):
        if stored.get(key) != wanted[key]:
            changed.append(f"{name}: {stored.get(key)} in the store, {wanted[key]} now")
    if _checksum(stored.get("weights")) != _checksum(wanted["weights"]):
        changed.append(
            f"weights: {_weights(stored.get('weights'))} in the store, {_weights(wanted['weights'])} now"
        )
    return changed + list(_changed_files(stored.get("sources", []), wanted["sources"]))


def other_ranges(stored: Mapping[str, Any], wanted: Mapping[str, tuple[float, float]]) -> list[str]:
    """Where the ranges that a store was scaled by are not those wanted; its record may be damaged."""
    found = {source["role"]: source.get("scaling", {}) for source in stored.get("sources", [])}
    return [
        f"scaling of {role}: {scaling['low']:.10g} to {scaling['high']:.10g} in the store, "
        f"{wanted[role][0]:.10g} to {wanted[role][1]:.10g} over the campaign"
        for role, scaling in found.items()
        if role in wanted and "low" in scaling and (scaling["low"], scaling["high"]) != wanted[role]
    ]


def _checksum(weights: Mapping[str, Any] | None) -> str | None:
    """What tells weights apart: their bytes, whatever the file is called."""
    return weights["sha256"] if weights else None


def _weights(weights: Mapping[str, Any] | None) -> str:
    return f"{weights['name']} ({weights['sha256'][:12]}…)" if weights else "none"


def _files(source: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The files of a source, its mask the last."""
    return [*source["files"], *([source["mask"]] if "mask" in source else [])]


def _changed_files(stored: Iterable[Mapping[str, Any]], wanted: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    before = {source["role"]: _files(source) for source in stored}
    for source in wanted:
        role, files = source["role"], _files(source)
        if role not in before or before[role] == files:
            continue
        names = [file["name"] for file in before[role]], [file["name"] for file in files]
        if names[0] != names[1]:
            yield f"{role}: made from {' + '.join(names[0])}, now {' + '.join(names[1])}"
        else:
            old = [f["name"] for f, g in zip(before[role], files, strict=True) if f != g]
            yield f"{role}: {' + '.join(old)} has changed since"
