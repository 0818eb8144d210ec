"""What tells Zarr format 2 from format 3: where metadata and chunks lie, and what a seal writes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from numcodecs import Zstd
from zarr.codecs import ZstdCodec

from batchfuse.system.notes import read

__all__ = ["FLAT", "NESTED", "THREE", "Format", "Index", "format_of"]

Index = tuple[int, ...]


class Format(Protocol):
    """One of the two formats of Zarr, as far as a store depends on it.

    The store at a path is a group with arrays inside, or (a reduced level of a volume) an array itself,
    whose own name is "".
    """

    number: ClassVar[Literal[2, 3]]
    """2 or 3."""
    metadata: ClassVar[str]
    """The file that holds the attributes of a group or an array."""
    codec: ClassVar[Any]
    """How chunks are compressed: zstd with its own checksum, which finds flipped bits."""

    def options(self, dimensions: Sequence[str]) -> dict[str, Any]:
        """How an array is told the names of its dimensions and chunks: keywords of ``create_array``."""

    def is_array(self, path: Path) -> bool:
        """Whether an array lies at ``path``, not a group."""

    def attributes(self, path: Path) -> Any:
        """The attributes of the node at ``path``; OSError or ValueError where they can't be read."""

    def is_sealed(self, path: Path) -> bool:
        """Whether the metadata of a group is consolidated; an array has none to consolidate."""

    def sealing(
        self, path: Path, attributes: Mapping[str, Any], nodes: Sequence[str]
    ) -> list[tuple[Path, bytes]]:
        """The files that seal a store and what they hold; with the last of them it is sealed.

        ``nodes`` are all groups and arrays inside it.
        """

    def chunk(self, path: Path, array: str, index: Index) -> Path:
        """Where a chunk of an array lies."""

    def written(self, path: Path, array: str, lead: Index, axes: int) -> dict[Index, int]:
        """The size in bytes of each chunk (*lead, *index) that has a file; an index has ``axes`` numbers."""

    def metadata_files(self, path: Path, arrays: Sequence[str]) -> list[Path]:
        """Every file of metadata of a store with these arrays; without any, of an array.

        But for what only a seal writes.
        """


@dataclass(frozen=True)
class Format2:
    """Zarr format 2: a chunk is a file ``0.row.column``, or of OME-Zarr ``z/y/x``."""

    separator: Literal[".", "/"]
    """What stands between the numbers of a chunk."""
    number: ClassVar[Literal[2, 3]] = 2
    metadata: ClassVar[str] = ".zattrs"
    # blosc and plain zstd find no flipped bit, and a separate checksum filter makes the array
    # unreadable to GDAL 3.10
    codec: ClassVar[Any] = Zstd(level=1, checksum=True)

    def options(self, dimensions: Sequence[str]) -> dict[str, Any]:
        """See ``Format``."""
        return {
            "attributes": {"_ARRAY_DIMENSIONS": list(dimensions)},
            "chunk_key_encoding": {"name": "v2", "separator": self.separator},
        }

    def is_array(self, path: Path) -> bool:
        """See ``Format``."""
        return (path / ".zarray").exists()

    def attributes(self, path: Path) -> Any:
        """See ``Format``."""
        return read(path / ".zattrs")

    def is_sealed(self, path: Path) -> bool:
        """See ``Format``."""
        return self.is_array(path) or (path / ".zmetadata").is_file()

    def sealing(
        self, path: Path, attributes: Mapping[str, Any], nodes: Sequence[str]
    ) -> list[tuple[Path, bytes]]:
        """See ``Format``."""
        own = path / ".zattrs", json.dumps(attributes, indent=2).encode()
        if not nodes:
            return [own]
        files = self.metadata_files(path, nodes)
        metadata = {
            file.relative_to(path).as_posix(): attributes if file == own[0] else read(file) for file in files
        }
        # sorted by us: zarr's own has the order that the folder is listed in
        together = {"metadata": metadata, "zarr_consolidated_format": 1}
        return [own, (path / ".zmetadata", json.dumps(together, indent=2).encode())]

    def chunk(self, path: Path, array: str, index: Index) -> Path:
        """See ``Format``."""
        return path / array / (self.separator.join(map(str, index)) or "0")

    def written(self, path: Path, array: str, lead: Index, axes: int) -> dict[Index, int]:
        """See ``Format``."""
        if self.separator == "/":
            return dict(_nested(path.joinpath(array, *map(str, lead)), axes))
        pattern = re.compile(r"\.".join([*map(str, lead), *[r"(\d+)"] * axes]))
        with os.scandir(path / array) as entries:
            found = ((pattern.fullmatch(entry.name), entry) for entry in entries)
            return {tuple(map(int, m.groups())): entry.stat().st_size for m, entry in found if m}

    def metadata_files(self, path: Path, arrays: Sequence[str]) -> list[Path]:
        """See ``Format``."""
        inside = [path / array / name for array in arrays for name in (".zarray", ".zattrs")]
        return [path / ".zattrs", path / (".zgroup" if arrays else ".zarray"), *inside]


class Format3:
    """Zarr format 3: a chunk or shard is a file ``c/0/row/column``, or ``c/z/y/x``."""

    number: ClassVar[Literal[2, 3]] = 3
    metadata: ClassVar[str] = "zarr.json"
    codec: ClassVar[Any] = ZstdCodec(level=1, checksum=True)

    def options(self, dimensions: Sequence[str]) -> dict[str, Any]:
        """See ``Format``."""
        return {"dimension_names": list(dimensions)}

    def is_array(self, path: Path) -> bool:
        """See ``Format``."""
        node = read(path / "zarr.json")
        return isinstance(node, dict) and node.get("node_type") == "array"

    def attributes(self, path: Path) -> Any:
        """See ``Format``."""
        node = read(path / "zarr.json")
        return node.get("attributes") if isinstance(node, dict) else None

    def is_sealed(self, path: Path) -> bool:
        """See ``Format``."""
        return self.is_array(path) or "consolidated_metadata" in read(path / "zarr.json")

    def sealing(
        self, path: Path, attributes: Mapping[str, Any], nodes: Sequence[str]
    ) -> list[tuple[Path, bytes]]:
        """See ``Format``."""
        root = read(path / "zarr.json") | {"attributes": attributes}
        if nodes:
            inside = {node: _node(path / node / "zarr.json") for node in sorted(nodes)}
            root["consolidated_metadata"] = _consolidated(inside)
        return [(path / "zarr.json", json.dumps(root, indent=2).encode())]

    def chunk(self, path: Path, array: str, index: Index) -> Path:
        """See ``Format``."""
        return path.joinpath(array, "c", *map(str, index))

    def written(self, path: Path, array: str, lead: Index, axes: int) -> dict[Index, int]:
        """See ``Format``."""
        return dict(_nested(self.chunk(path, array, lead), axes))

    def metadata_files(self, path: Path, arrays: Sequence[str]) -> list[Path]:
        """See ``Format``."""
        return [path / "zarr.json", *(path / array / "zarr.json" for array in arrays)]


FLAT = Format2(".")
"""Format 2 as GDAL's rasters have it."""
NESTED = Format2("/")
"""Format 2 as OME-Zarr 0.4 has it."""
THREE = Format3()
"""Format 3."""


def format_of(path: Path) -> Format:
    """The format of what lies at ``path``: 3 where there is a zarr.json, else 2 (of either separator)."""
    return THREE if (path / "zarr.json").exists() else FLAT


def _nested(folder: Path, axes: int) -> Iterator[tuple[Index, int]]:
    """The files below a folder whose names are ``axes`` numbers, one folder a number but for the last."""
    for entry in _numbered(folder):
        if axes == 1:
            yield (int(entry.name),), entry.stat().st_size
        elif entry.is_dir():
            yield from (((int(entry.name), *index), size) for index, size in _nested(Path(entry), axes - 1))


def _numbered(path: Path) -> list[os.DirEntry[str]]:
    """The entries that are named by a number; none where nothing was written yet."""
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if re.fullmatch(r"\d+", entry.name)]
    except FileNotFoundError:
        return []


def _node(file: Path) -> dict[str, Any]:
    """An array or group as consolidated metadata has it: of a group, not what lies inside it."""
    node: dict[str, Any] = read(file)
    if node["node_type"] == "group":
        node["consolidated_metadata"] = _consolidated({})
    return node


def _consolidated(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": "inline", "must_understand": False, "metadata": dict(metadata)}
