"""The state of a training on disk, from which it goes on as if nothing had happened."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from batchfuse.errors import RecipeError, WeightsError
from batchfuse.fusion.tensors import Described, read_tensors, tells_kind, write_tensors
from batchfuse.system.partials import sweep
from batchfuse.training.course import Course
from batchfuse.training.identity import difference

__all__ = ["Checkpoint", "checkpoint_path"]

EVERY = 20.0
"""Seconds between two checkpoints; one takes about 10 ms."""
MOST_THREADS = 1024
"""Of torch, that a checkpoint can tell of."""
_KIND = "training"
_REMEDY = "--restart begins anew, another output leaves it alone"


def checkpoint_path(out: Path) -> Path:
    """Where the checkpoint of a training lies whose weights go to ``out``."""
    return out.with_name(f"{out.stem}.checkpoint.safetensors")


class Checkpoint:
    """The checkpoint of one training: a safetensors file, so that reading it runs no code."""

    def __init__(self, out: Path, wanted: Mapping[str, Any], device: torch.device) -> None:
        self.path = checkpoint_path(out)
        self.threads = torch.get_num_threads()
        """Of torch: those the training began with. Sums in another number of parts have other last bits."""
        self._wanted = {**wanted, "device": device.type}
        self._found: Described | None = None
        self._due = time.monotonic() + EVERY

    def find(self) -> bool:
        """Whether there is one of this training.

        Raises:
            RecipeError: it is of other settings, images or devices.
            WeightsError: it can't be read, is damaged, or is something else.
        """
        if not self.path.exists():
            return False
        self.refuse_foreign()
        try:
            found = read_tensors(self.path, _KIND)
        except (OSError, ValueError) as error:
            raise WeightsError(f"the checkpoint {self.path} can't be read ({error}): {_REMEDY}") from error
        if found.is_damaged:
            raise WeightsError(f"the checkpoint {self.path} is damaged: {_REMEDY}")
        self._check_identity(found.about)
        threads = found.about.get("threads", self.threads)
        if type(threads) is not int or not 1 <= threads <= MOST_THREADS:
            raise WeightsError(f"the checkpoint {self.path} is damaged ({threads!r:.40} threads): {_REMEDY}")
        self.threads = threads
        self._found = found
        return True

    def restore(self, course: Course) -> None:
        """Sets a course, fresh so far, to what ``find`` has found, if anything.

        Raises:
            WeightsError: another version wrote it.
        """
        if self._found is None:
            return
        try:
            course.restore(self._found.tensors, self._found.about["random"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise WeightsError(f"the checkpoint {self.path} is of another version: {_REMEDY}") from error
        self._found = None

    def write_if_due(self, course: Course) -> None:
        """Writes every now and then.

        Raises:
            WeightsError: it can't be written.
        """
        if time.monotonic() >= self._due:
            self.write(course)

    def write(self, course: Course) -> None:
        """Writes the course, unless its weights are lost already: going on from those leads nowhere.

        Raises:
            WeightsError: it can't be written.
        """
        tensors, random = course.state()
        if all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
            about = {**self._wanted, "random": random, "threads": self.threads}
            try:
                write_tensors(self.path, _KIND, about, tensors)
            except OSError as error:
                raise WeightsError(f"the checkpoint {self.path} can't be written: {error}") from error
        self._due = time.monotonic() + EVERY

    def refuse_foreign(self) -> None:
        """WeightsError where what lies under its name is something else than a checkpoint, damaged or not."""
        if os.path.lexists(self.path) and not tells_kind(self.path, _KIND):
            raise WeightsError(f"{self.path} is there and is no checkpoint of a training: use another output")

    def discard(self) -> None:
        """Removes it, and what a killed process has left half written.

        Raises:
            WeightsError: it can't be removed.
        """
        try:
            sweep(self.path.parent, of=self.path.name)
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise WeightsError(f"the checkpoint {self.path} can't be removed: {error}") from error

    def _check_identity(self, there: Mapping[str, Any]) -> None:
        differs = difference(there, self._wanted)
        if differs is None and there.get("device") != self._wanted["device"]:
            differs = f"the device is {there.get('device')} there, {self._wanted['device']} here"
        if differs is not None:
            raise RecipeError(
                f"the checkpoint {self.path} is of another training ({differs}): its own settings and images "
                f"continue it, {_REMEDY}"
            )
