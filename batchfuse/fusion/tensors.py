"""Tensors in a safetensors file, with a description of them and a checksum over both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, uint8

from batchfuse.files import replace_file
from batchfuse.system.notes import decoded

__all__ = ["Described", "read_tensors", "tells_kind", "write_tensors"]

_CHECKSUM = "sha256"
LONGEST = 16_000_000  # bytes of the head of such a file


@dataclass(frozen=True, slots=True)
class Described:
    """What such a file holds."""

    about: Mapping[str, Any]
    """The description, as JSON has it; empty where the file has none of the kind asked for."""
    tensors: Mapping[str, Tensor]
    """By name."""
    checksum: str | None
    """As the file tells it; None where others wrote it without one."""

    @property
    def is_damaged(self) -> bool:
        """Whether the file tells a checksum, and description or tensors have another."""
        return self.checksum is not None and self.checksum != _checksum(self.about, self.tensors)


def write_tensors(path: Path, kind: str, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Writes a file whole and durably; equal contents give equal bytes.

    Args:
        path: the file; its folder is there.
        kind: the metadata entry under which the description is kept.
        about: the description: what JSON can hold.
        tensors: by name.

    Raises:
        OSError: it can't be written.
    """
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    sealed = {**about, _CHECKSUM: _checksum(about, flat)}
    # one metadata entry: safetensors writes several in an order of its own
    metadata = {kind: json.dumps(sealed, sort_keys=True)}
    # not save_file: it makes files that nobody else may read
    replace_file(path, save(flat, metadata))


def read_tensors(path: Path, kind: str) -> Described:
    """What a safetensors file holds, its description looked for under ``kind``.

    Raises:
        OSError: it can't be read.
        ValueError: it is no safetensors file, or is cut off.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = _description(file.metadata(), kind)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    return Described(about, tensors, about.pop(_CHECKSUM, None))


def tells_kind(path: Path, kind: str) -> bool:
    """Whether a file says in its head that ``write_tensors`` wrote it with this kind, damaged or not."""
    try:
        if path.is_symlink() or not path.is_file():
            return False
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            head = decoded(file.read(size)) if size <= LONGEST else None
    except (OSError, ValueError):
        return False
    told = head.get("__metadata__") if isinstance(head, dict) else None
    return isinstance(told, dict) and kind in told


def _description(metadata: Mapping[str, str] | None, kind: str) -> dict[str, Any]:
    try:
        about = decoded((metadata or {})[kind])
    except (KeyError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _checksum(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the description and of each tensor's name, type, shape and bytes, in the order of names."""
    checksum = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        checksum.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        checksum.update(tensor.reshape(-1).view(uint8).numpy().tobytes())
    return checksum.hexdigest()
