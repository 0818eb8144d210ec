"""Every name that a run gives to what it writes beside its stores: one list of them all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = [
    "CAMPAIGN",
    "LEASE",
    "LOGS",
    "REPORT",
    "contents_path",
    "faults_path",
    "levels_folder",
    "names_beside",
    "names_in",
    "quicklook_path",
    "world_path",
]

LEASE = ".batchfuse-lease.json"
"""The file that gives one run the output folder for itself."""
REPORT = "report.json"
"""What became of each scene."""
CAMPAIGN = "campaign.json"
"""The ranges of `scaling: campaign`."""
LOGS = "logs"
"""The folder of what workers tell."""


def levels_folder(store: Path) -> Path:
    """The folder beside a raster store of format 2 that holds its levels."""
    return store.with_name(f"{store.name.removesuffix('.zarr')}.levels.zarr")


def quicklook_path(store: Path) -> Path:
    """The picture of sources and fused image."""
    return store.with_suffix(".quicklook.png")


def contents_path(store: Path) -> Path:
    """The checksums of the sources of a store."""
    return store.with_suffix(".checksums.json")


def faults_path(store: Path) -> Path:
    """What is known to be wrong with a store."""
    return store.with_suffix(".faults.json")


def world_path(picture: Path) -> Path:
    """The world file of an exported PNG: where its pixels lie."""
    return picture.with_suffix(".pgw")


def names_beside(store: Path, exports: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Each path that the run of a scene may make, replace or delete, with words for what it is.

    Names of what is half written are not among them: nothing else is called so (``system.partials``).
    """
    yield store, "the store"
    yield levels_folder(store), "the levels"
    yield quicklook_path(store), "the quicklook"
    yield contents_path(store), "the checksums"
    yield faults_path(store), "the faults"
    for export in exports:
        yield export, "an export"
        if export.suffix == ".png":
            yield world_path(export), "the world file"


def names_in(folder: Path) -> Iterator[tuple[Path, str]]:
    """The same of the output folder as a whole."""
    yield folder / LEASE, "the lease"
    yield folder / REPORT, "the report"
    yield folder / CAMPAIGN, "the campaign's ranges"
    yield folder / LOGS, "the workers' logs"
