"""What an output folder holds, told from its stores and its report: also while a run writes there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from batchfuse.errors import StoreError
from batchfuse.imagery.naming import natural_order
from batchfuse.report.progress import counted
from batchfuse.report.report import KIND
from batchfuse.storage.beside import REPORT
from batchfuse.storage.lease import Holder, fault_of, holder_of
from batchfuse.storage.repair import has_noted_faults
from batchfuse.storage.store import Store, is_store, stores_within
from batchfuse.system.notes import place_of

__all__ = ["FolderStatus", "SceneStatus", "status_of"]

STATES = ("done", "partial", "failed", "never started")


@dataclass(frozen=True, slots=True)
class SceneStatus:
    """How far one scene is."""

    scene: str
    """Its name."""
    state: str
    """done, partial, failed or never started."""
    tiles: int
    """Tiles of the scene; 0 where it isn't known."""
    written: int
    """Tiles that are in the store."""
    reason: str | None
    """Why the last run could not fuse it, if it could not."""


@dataclass(frozen=True, slots=True)
class FolderStatus:
    """An output folder at this moment."""

    path: Path
    """The folder."""
    scenes: tuple[SceneStatus, ...]
    """Those of the stores, and those that the last run told of."""
    holder: Holder | None
    """The run that writes into it now."""
    killed: bool
    """Whether the last run ended without saying so, and left something to do."""
    warnings: tuple[str, ...] = ()
    """A line for each of our notes that can't be read."""

    def count(self, state: str) -> int:
        """Scenes in this state."""
        return sum(scene.state == state for scene in self.scenes)

    @property
    def exit_code(self) -> int:
        """0 where every scene is done, else 1."""
        return int(self.count("done") < len(self.scenes))

    def to_dict(self) -> dict[str, Any]:
        """For ``status --json``."""
        run = self.holder and {"host": self.holder.host, "process": self.holder.process}
        return {
            "path": str(self.path),
            "running": run,
            "killed": self.killed,
            "warnings": list(self.warnings),
            "counts": {state: self.count(state) for state in STATES},
            "scenes": [asdict(scene) for scene in self.scenes],
        }

    def lines(self, verbose: bool) -> Iterator[str]:
        """For people: the sum, the run, and each scene that is not done (all of them if ``verbose``)."""
        counts = ", ".join(f"{self.count(state)} {state}" for state in STATES)
        yield f"{self.path}: {counted(len(self.scenes), 'scene')}: {counts}"
        if self.holder is not None:
            yield f"  process {self.holder.process} on {self.holder.host} is fusing into it"
        elif self.killed:
            yield "  the last run was killed: run its recipe again to continue"
        yield from (f"  {warning}" for warning in self.warnings)
        for scene in self.scenes:
            if verbose or scene.state != "done":
                tiles = f", {scene.written} of {scene.tiles} tiles" if scene.tiles else ""
                yield f"  {scene.scene}: {scene.state}{tiles}{f': {scene.reason}' if scene.reason else ''}"


def status_of(path: Path) -> FolderStatus:
    """The status of an output folder, or of a single store.

    Raises StoreError where there is neither a store nor a report.
    """
    if not path.is_dir():
        raise StoreError(f"{path} is not a folder" if path.exists() else f"{path} is not there")
    if is_store(path):
        return FolderStatus(path, (_of_store(path, {}),), holder_of(path.parent), killed=False)
    report, warnings = _report(path)
    told = {scene["scene"]: scene for scene in report.get("scenes", [])}
    stores = {store.stem: store for store in stores_within(path) if store.suffix == ".zarr"}
    if not told and not stores:
        why = f" ({'; '.join(warnings)})" if warnings else ""
        raise StoreError(
            f"{path} has neither stores nor a report of batchfuse{why}: give a run's output folder"
        )
    # past knowing as stores, and yet there
    stores |= {name: place for name in told.keys() - stores if (place := path / f"{name}.zarr").is_dir()}
    names = sorted({*told, *stores}, key=natural_order)
    scenes = tuple(
        _of_store(stores[name], told.get(name, {})) if name in stores else _without_store(told[name])
        for name in names
    )
    holder = holder_of(path)
    unfinished = any(scene.state != "done" for scene in scenes)
    killed = holder is None and report.get("finished") is False and unfinished
    return FolderStatus(path, scenes, holder, killed, warnings)


def _report(folder: Path) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """What the last run told, and a line for each file that is called as a note of a run and is none."""
    path = folder / REPORT
    try:
        place = place_of(path, KIND)
    except OSError as error:
        raise StoreError(f"{path} can't be read ({error.strerror}): is its disk or network there?") from None
    fault = fault_of(folder)
    return (place.note.values if place.note else {}), (*place.left, *([fault] if fault else []))


def _of_store(path: Path, told: Mapping[str, Any]) -> SceneStatus:
    """From what lies on the disk; the report adds why a run refused it."""
    refused = told.get("reason") if told.get("status") == "failed" else None
    try:
        store = Store.open(path)
        tiling = store.tiling
        tiles, written = len(tiling), len(tiling) - len(store.unwritten(tiling))
        doubted = has_noted_faults(path)
    except StoreError as error:
        return SceneStatus(path.stem, "failed", 0, 0, str(error))
    if doubted and not refused:
        refused = "something is wrong with it (batchfuse verify says what): run its recipe again to repair it"
        return SceneStatus(path.stem, "partial", tiles, written, refused)
    done = store.complete and written == tiles
    state = "failed" if refused else "done" if done else "partial"
    return SceneStatus(path.stem, state, tiles, written, refused)


def _without_store(told: Mapping[str, Any]) -> SceneStatus:
    failed = told.get("status") == "failed"
    state = "failed" if failed else "never started"
    return SceneStatus(told["scene"], state, told["tiles"], 0, told.get("reason"))
