"""What tells Zarr format 2 from format 3: where metadata and chunks lie, and what a seal writes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from numcodecs import Zstd
from zarr.codecs import ZstdCodec

__all__ = ["ARRAYS", "FORMATS", "Format", "format_of"]

ARRAYS = ("band", "fused", "spatial_ref", "x", "y")
"""Every array of a raster store."""

Index = tuple[int, ...]


class Format(Protocol):
    """One of the two formats of Zarr, as far as a raster store depends on it."""

    number: ClassVar[Literal[2, 3]]
    """2 or 3."""
    metadata: ClassVar[str]
    """The file that holds the attributes of a group."""
    codec: ClassVar[Any]
    """How chunks are compressed: zstd with its own checksum, which finds flipped bits."""

    def dimensions(self, names: Sequence[str]) -> dict[str, Any]:
        """How an array is told the names of its dimensions, as keywords of ``create_array``."""

    def attributes(self, path: Path) -> Any:
        """The attributes of the group at ``path``; OSError or ValueError where they can't be read."""

    def is_sealed(self, path: Path) -> bool:
        """Whether the store's metadata is consolidated."""

    def sealing(
        self, path: Path, attributes: Mapping[str, Any], groups: Sequence[str]
    ) -> Iterator[tuple[Path, bytes]]:
        """The files that seal a store and what they hold, each to be written before the next is asked for."""

    def chunk(self, path: Path, array: str, index: Index) -> Path:
        """Where a chunk of an array lies."""

    def written(self, path: Path) -> dict[Index, int]:
        """The chunks (row, column) of ``fused`` that have a file, with its size in bytes."""

    def metadata_files(self, path: Path) -> list[Path]:
        """Every file of metadata that a store has, sealed or not."""


class Format2:
    """Zarr format 2: a chunk is a file ``fused/0.row.column``."""

    number: ClassVar[Literal[2, 3]] = 2
    metadata: ClassVar[str] = ".zattrs"
    # blosc and plain zstd find no flipped bit, and a separate checksum filter makes the array
    # unreadable to GDAL 3.10
    codec: ClassVar[Any] = Zstd(level=1, checksum=True)

    def dimensions(self, names: Sequence[str]) -> dict[str, Any]:
        """See ``Format``."""
        return {"attributes": {"_ARRAY_DIMENSIONS": list(names)}}

    def attributes(self, path: Path) -> Any:
        """See ``Format``."""
        return json.loads((path / ".zattrs").read_bytes())

    def is_sealed(self, path: Path) -> bool:
        """See ``Format``."""
        return (path / ".zmetadata").is_file()

    def sealing(
        self,
        path: Path,
        attributes: Mapping[str, Any],
        groups: Sequence[str],  # noqa: ARG002  (none inside: GDAL 3.10 shows no band where it finds two images)
    ) -> Iterator[tuple[Path, bytes]]:
        """See ``Format``."""
        yield path / ".zattrs", json.dumps(attributes, indent=2).encode()
        files = self.metadata_files(path)
        metadata = {file.relative_to(path).as_posix(): json.loads(file.read_bytes()) for file in files}
        # sorted by us: zarr's own has the order that the folder is listed in
        together = {"metadata": metadata, "zarr_consolidated_format": 1}
        yield path / ".zmetadata", json.dumps(together, indent=2).encode()

    def chunk(self, path: Path, array: str, index: Index) -> Path:
        """See ``Format``."""
        return path / array / (".".join(map(str, index)) or "0")

    def written(self, path: Path) -> dict[Index, int]:
        """See ``Format``."""
        with os.scandir(path / "fused") as entries:
            found = ((re.fullmatch(r"0\.(\d+)\.(\d+)", entry.name), entry) for entry in entries)
            return {(int(m[1]), int(m[2])): entry.stat().st_size for m, entry in found if m}

    def metadata_files(self, path: Path) -> list[Path]:
        """See ``Format``."""
        inside = [path / array / name for array in ARRAYS for name in (".zarray", ".zattrs")]
        return [path / ".zattrs", path / ".zgroup", *inside]


class Format3:
    """Zarr format 3: a chunk or shard is a file ``fused/c/0/row/column``."""

    number: ClassVar[Literal[2, 3]] = 3
    metadata: ClassVar[str] = "zarr.json"
    codec: ClassVar[Any] = ZstdCodec(level=1, checksum=True)

    def dimensions(self, names: Sequence[str]) -> dict[str, Any]:
        """See ``Format``."""
        return {"dimension_names": list(names)}

    def attributes(self, path: Path) -> Any:
        """See ``Format``."""
        node = json.loads((path / "zarr.json").read_bytes())
        return node.get("attributes") if isinstance(node, dict) else None

    def is_sealed(self, path: Path) -> bool:
        """See ``Format``."""
        return "consolidated_metadata" in json.loads((path / "zarr.json").read_bytes())

    def sealing(
        self, path: Path, attributes: Mapping[str, Any], groups: Sequence[str]
    ) -> Iterator[tuple[Path, bytes]]:
        """See ``Format``."""
        files = [path / array / "zarr.json" for array in ARRAYS]
        for group in groups:
            files += [path / group / "zarr.json", *(path / group / array / "zarr.json" for array in ARRAYS)]
        nodes = {file.parent.relative_to(path).as_posix(): _node(file) for file in files}
        root = json.loads((path / "zarr.json").read_bytes())
        root |= {
            "attributes": attributes,
            "consolidated_metadata": _consolidated(dict(sorted(nodes.items()))),
        }
        yield path / "zarr.json", json.dumps(root, indent=2).encode()

    def chunk(self, path: Path, array: str, index: Index) -> Path:
        """See ``Format``."""
        return path.joinpath(array, "c", *map(str, index))

    def written(self, path: Path) -> dict[Index, int]:
        """See ``Format``."""
        found: dict[Index, int] = {}
        for row in _numbered(path / "fused" / "c" / "0"):
            for column in _numbered(Path(row)):
                found[(int(row.name), int(column.name))] = column.stat().st_size
        return found

    def metadata_files(self, path: Path) -> list[Path]:
        """See ``Format``."""
        return [path / "zarr.json", *(path / array / "zarr.json" for array in ARRAYS)]


FORMATS: dict[int, Format] = {2: Format2(), 3: Format3()}
"""Both formats by their number."""


def format_of(path: Path) -> Format:
    """The format of what lies at ``path``: 3 where there is a zarr.json, else 2."""
    return FORMATS[3 if (path / "zarr.json").exists() else 2]


def _numbered(path: Path) -> list[os.DirEntry[str]]:
    """The entries that are named by a number; none where nothing was written yet."""
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if re.fullmatch(r"\d+", entry.name)]
    except FileNotFoundError:
        return []


def _node(file: Path) -> dict[str, Any]:
    """An array or group as consolidated metadata has it: of a group, not what lies inside it."""
    node: dict[str, Any] = json.loads(file.read_bytes())
    if node["node_type"] == "group":
        node["consolidated_metadata"] = _consolidated({})
    return node


def _consolidated(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": "inline", "must_understand": False, "metadata": dict(metadata)}
