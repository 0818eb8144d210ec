"""Size and SHA-256 of each file of a sealed store, kept in one small file inside it.

It lies in the folder of the image's array (``fused/digests.json``, ``0/digests.json``), where readers ask
for chunks by name and look at nothing else; of a strange file in the folder of a group zarr warns. So it goes
wherever the store is copied to. It depends on nothing but the store's other bytes, holds the record once
more, and ends with a digest of itself.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from batchfuse.storage.files import refusals
from batchfuse.system.notes import UnreadableError, bytes_of, decoded

__all__ = ["NAME", "Digest", "Digests", "digest_of", "digest_of_bytes", "encoded", "read_digests"]

NAME = "digests.json"
"""The file's name, in the folder of the image's array."""
END = re.compile(rb',\n "sha256": "([0-9a-f]{64})"\n\}\n')
"""What follows upon everything that the file's own digest is of."""
LENGTH = len(b',\n "sha256": ""\n}\n') + 64


class Digest(NamedTuple):
    """What tells the bytes of a file from any others."""

    size: int
    """How many they are."""
    sha256: str
    """Their SHA-256, in hexadecimal digits."""


@dataclass(frozen=True, slots=True)
class Digests:
    """What a seal keeps of a store."""

    record: Mapping[str, Any]
    """What made the store, once more."""
    files: Mapping[str, Digest]
    """By the file's path within the store: every file but this one, reduced levels left out, which have their
    own."""


def digest_of(path: Path) -> Digest:
    """Read a file; OSError where that can't be."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return Digest(file.tell(), sha256)


def digest_of_bytes(content: bytes) -> Digest:
    """The digest of a file that holds these bytes."""
    return Digest(len(content), hashlib.sha256(content).hexdigest())


def encoded(digests: Digests) -> bytes:
    """The bytes of the file: equal digests give equal bytes."""
    files = {name: f"{digest.size} {digest.sha256}" for name, digest in digests.files.items()}
    text = json.dumps({"files": files, "record": digests.record}, indent=1, sort_keys=True)
    told = text.removesuffix("\n}").encode()
    return told + f',\n "sha256": "{hashlib.sha256(told).hexdigest()}"\n}}\n'.encode()


def read_digests(folder: Path) -> Digests | None:
    """What a seal has left in the folder of an image's array; None where there is none, or it is damaged.

    Raises StoreError where the file system refuses.
    """
    path = folder / NAME
    with refusals(f"{path} can't be read"):
        try:
            content = bytes_of(path)
        except (FileNotFoundError, NotADirectoryError, UnreadableError):
            return None
    end = END.fullmatch(content[-LENGTH:])
    if end is None or hashlib.sha256(content[:-LENGTH]).hexdigest() != end[1].decode():
        return None
    try:
        told = decoded(content)
        parts = ((name, line.split()) for name, line in told["files"].items())
        return Digests(told["record"], {name: Digest(int(size), sha256) for name, (size, sha256) in parts})
    except (ValueError, KeyError, TypeError, AttributeError):  # whole, and of somebody else
        return None
