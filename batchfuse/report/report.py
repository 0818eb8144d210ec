"""The outcome of a run, as the file report.json and as exit code."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from errno import EISDIR
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from batchfuse.errors import RecipeError, said
from batchfuse.system.notes import Kind, UnreadableError, encoded, read_note
from batchfuse.system.partials import partial_path

__all__ = ["KIND", "Outcome", "Report", "check_is_free", "check_writable", "replace_text", "versions"]

PACKAGES = ("batchfuse", "torch", "numpy", "rasterio", "pyproj", "zarr", "dask", "numba")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one scene."""

    scene: str
    """Its name."""
    status: str
    """complete, kept (was complete before), failed, interrupted or not started; meanwhile, running."""
    reason: str | None = None
    """Why it failed, in one line."""
    store: str | None = None
    """Where the fused image is."""
    seconds: float = 0.0
    """Wall time from its first task to its seal."""
    tiles: int = 0
    """Tiles of the scene."""
    fused: int = 0
    """Tiles fused in this run; the others were there."""
    bytes: int = 0
    """Bytes written in this run."""
    scaling: dict[str, Any] = field(default_factory=dict)
    """By role: the range and what was found on the way to it."""
    differences: Sequence[str] = ()
    """How the sources' grids differ from the reference grid."""
    warnings: Sequence[str] = ()
    """What a person should look at."""
    exports: Sequence[str] = ()
    """Files made from the store, now or before."""
    repaired: Sequence[str] = ()
    """What was wrong with the store of an earlier run and was made again."""
    retries: int = 0
    """How often the scene was tried again after what may pass."""
    traceback: str | None = None
    """Of a bug: where it was met. Of scenes that met the same one, the first has it."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did."""

    outcomes: tuple[Outcome, ...]
    """Scene by scene, in the plan's order."""
    unmatched: tuple[tuple[str, str], ...] = ()
    """(file, reason) of files that belong to no scene."""
    seconds: float = 0.0
    """Wall time of the run."""
    device: str = "cpu"
    """Where the network computed; several are joined by a comma."""
    cluster: str = "threads"
    """What led the workers, as the profile says it."""
    workers: tuple[tuple[str, str, int], ...] = ()
    """(name, device, tiles at once) of each process."""
    started: float = 0.0
    """When the run began, in seconds since 1970."""
    finished: bool = True
    """False in the file while the run lasts, and for ever if it was killed."""
    interrupted: bool = False
    """Whether it was stopped by hand."""
    warnings: tuple[str, ...] = ()
    """What a person should look at, of the run as a whole."""
    recipe_folder: str = ""
    """The folder that the recipe's relative paths start from."""
    path: str = ""
    """The file beside the stores that has it."""

    @property
    def exit_code(self) -> int:
        """0 all scenes complete, 1 some failed, 130 interrupted."""
        if self.interrupted:
            return 130
        return int(any(o.status not in ("complete", "kept") for o in self.outcomes))

    def to_dict(self) -> dict[str, Any]:
        """For report.json."""
        return {
            "scenes": [asdict(outcome) for outcome in self.outcomes],
            "unmatched": [{"path": path, "reason": reason} for path, reason in self.unmatched],
            "seconds": round(self.seconds, 3),
            "started": datetime.fromtimestamp(self.started, UTC).isoformat(timespec="seconds"),
            "finished": self.finished,
            "interrupted": self.interrupted,
            "warnings": list(self.warnings),
            "recipe_folder": self.recipe_folder,
            "device": self.device,
            "cluster": self.cluster,
            "workers": [{"name": n, "device": d, "threads": t} for n, d, t in self.workers],
            "host": socket.gethostname(),
            "python": platform.python_version(),
            "versions": dict(versions()),
        }

    def write(self, path: Path) -> None:
        """Writes the report as JSON; whoever reads it meanwhile sees the old one or the new one.

        Raises RecipeError where it can't be written.
        """
        try:
            replace_text(path, encoded(KIND, self.to_dict()).decode())
        except OSError as error:
            raise unwritable(path, error) from error


def _is_a_report(values: Mapping[str, Any]) -> bool:
    """Whether these are the values of a report, as far as one is read again."""
    scenes = values.get("scenes")
    return (
        isinstance(scenes, list)
        and all(map(_is_an_outcome, scenes))
        and isinstance(values.get("recipe_folder"), str)
        and isinstance(values.get("finished"), bool)
    )


def _is_an_outcome(values: Any) -> bool:
    return (
        isinstance(values, dict)
        and all(isinstance(values.get(key), str) for key in ("scene", "status"))
        and isinstance(values.get("reason"), str | None)
        and type(values.get("tiles")) is int
    )


KIND = Kind("report", _is_a_report)


def replace_text(path: Path, text: str) -> None:
    """Writes a file whole: whoever reads it meanwhile sees the old one or the new one.

    Raises OSError where it can't be written; nothing of it is left then.
    """
    partial = partial_path(path)
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def check_writable(path: Path) -> None:
    """Raises RecipeError where no file can be written at ``path``: better before a run than after it."""
    probe = partial_path(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise unwritable(path, error) from error


def check_is_free(path: Path) -> None:
    """Raises RecipeError where something lies at ``path`` that is neither a report of ours nor empty."""
    try:
        if path.is_file() and path.stat().st_size:
            read_note(path, KIND)
    except (OSError, UnreadableError) as error:
        raise RecipeError(
            f"{path} is there and is no report of batchfuse ({said(error)}): name another place"
        ) from None


def unwritable(path: Path, error: OSError) -> RecipeError:
    """The one line for a report that can't be written."""
    return RecipeError(f"the report {path} can't be written ({error.strerror}): name another place")


@cache
def versions() -> Mapping[str, str]:
    """Installed versions of what decides the pixels; to read them takes as long as to begin a store."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
