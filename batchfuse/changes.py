"""What tells the making of a store from what is asked now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from batchfuse.recipe import differences

__all__ = ["changes", "files_of", "other_ranges"]


def changes(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What tells the store's making from what is asked now; nothing if it may be continued.

    Files that only lie elsewhere now are no change: what is in them has to be compared.
    """
    changed = differences(stored.get("identity", {}), wanted["identity"])
    for key, name in (("reference", "reference"), ("precision", "precision")):
        if stored.get(key) != wanted[key]:
            changed.append(f"{name}: {stored.get(key)} in the store, {wanted[key]} now")
    if _checksum(stored.get("weights")) != _checksum(wanted["weights"]):
        changed.append(
            f"weights: {_weights(stored.get('weights'))} in the store, {_weights(wanted['weights'])} now"
        )
    versions = {"pixels": stored.get("pixels")}, {"pixels": wanted["pixels"]}
    changed += differences(*versions, now="now")
    changed += _changed_files(stored.get("sources", []), wanted["sources"])
    # files of other bytes say other things, which need not be told
    return changed or list(_read_otherwise(stored, wanted))


def other_ranges(stored: Mapping[str, Any], wanted: Mapping[str, tuple[float, float]]) -> list[str]:
    """Where the ranges that a store was scaled by are not those wanted; its record may be damaged."""
    found = {source["role"]: source.get("scaling", {}) for source in stored.get("sources", [])}
    return [
        f"scaling of {role}: {scaling['low']:.10g} to {scaling['high']:.10g} in the store, "
        f"{wanted[role][0]:.10g} to {wanted[role][1]:.10g} over the campaign"
        for role, scaling in found.items()
        if role in wanted and "low" in scaling and (scaling["low"], scaling["high"]) != wanted[role]
    ]


def files_of(source: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The files of a source in a record, its mask the last."""
    return [*source["files"], *([source["mask"]] if "mask" in source else [])]


def _checksum(weights: Mapping[str, Any] | None) -> str | None:
    """What tells weights apart: their bytes, whatever the file is called."""
    return weights["sha256"] if weights else None


def _weights(weights: Mapping[str, Any] | None) -> str:
    return f"{weights['name']} ({weights['sha256'][:12]}…)" if weights else "none"


def _changed_files(stored: Iterable[Mapping[str, Any]], wanted: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    before = {source["role"]: files_of(source) for source in stored}
    for source in wanted:
        role, files = source["role"], files_of(source)
        if role not in before:
            continue
        places = [file.get("path") for file in before[role]], [file["path"] for file in files]
        same = [_bytes(old) == _bytes(new) for old, new in zip(before[role], files, strict=False)]
        if len(places[0]) == len(places[1]) and all(same):
            continue
        if places[0] != places[1]:
            yield f"{role}: made from {' + '.join(map(str, places[0]))}, now {' + '.join(places[1])}"
        else:
            old = [file["name"] for file, alike in zip(files, same, strict=True) if not alike]
            yield f"{role}: {' + '.join(old)} has changed since"


def _bytes(file: Mapping[str, Any]) -> tuple[Any, Any]:
    return file["size"], file["checksum"]


def _read_otherwise(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    """Where the same files were understood otherwise."""
    yield from differences({"grid": stored.get("grid")}, {"grid": wanted["grid"]}, now="now")
    before = {source["role"]: source.get("understood") for source in stored.get("sources", [])}
    for source in wanted["sources"]:
        role = source["role"]
        yield from differences({role: before.get(role)}, {role: source["understood"]}, now="now")
