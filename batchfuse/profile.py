"""Where a recipe runs: the same recipe runs on a laptop and on a cluster."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, ValidationInfo, field_validator
from pydantic.json_schema import SkipJsonSchema

from batchfuse.errors import RecipeError
from batchfuse.machine import cores
from batchfuse.recipe_file import read_document, shown
from batchfuse.recipe_mistakes import nearest, unknown_key, wrong
from batchfuse.recipe_values import SettingsFile, Text, built

__all__ = ["Profile", "is_remote", "profile_schema"]

SHIPPED = Path(__file__).parent / "profiles"
"""The folder of the profiles that have names."""
LATER = ("cuda", "slurm", "pbs", "sge", "lsf", "oar", "htcondor")
"""Clusters still to come; a Dask cluster class by import path is another."""
ADDRESS = re.compile(r"(tcp|tls)://[^/\s]+:[0-9]{1,5}")
"""A Dask scheduler's address."""
TLS = ("tls_ca_file", "tls_client_cert", "tls_client_key")
"""What ``options`` may hold for a tls:// address: paths."""
NOW = "threads, processes, a scheduler's address (tcp://host:8786) or its scheduler file (scheduler.json)"


def _number(value: Any) -> Any:
    if value != "auto" and (type(value) is not int or not 1 <= value <= 1024):
        raise wrong(f"found {shown(value)}; give auto, or a number from 1 to 1024")
    return value


def _cluster(text: str) -> str:
    if text in ("threads", "processes") or is_remote(text):
        return text
    if text in LATER or re.fullmatch(r"\w+(\.\w+)+", text):
        raise wrong(f"{shown(text)} is not built yet; what works now: {NOW}")
    meant = nearest(text, ("threads", "processes", *LATER))
    guess = f'; did you mean "{meant}"?' if meant else ";"
    raise wrong(f"found {shown(text)}{guess} allowed: {NOW}")


def is_remote(text: str) -> bool:
    """Whether this is a scheduler's address, or its scheduler file."""
    return bool(ADDRESS.fullmatch(text)) or text.endswith(".json")


def _options(options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    secure = str(info.data.get("cluster")).startswith("tls://")
    allowed = TLS if secure else ()
    for key, value in options.items():
        if key not in allowed:
            only = f"{info.data.get('cluster')} takes {', '.join(allowed) or 'none'}"
            raise wrong(f"is no option here: {only}", below=(key,))
        if not isinstance(value, str):
            raise wrong(f"found {shown(value)}; give a path", below=(key,))
    return options


def _memory(text: str) -> str:
    if _bytes(text) is None:
        raise wrong(f"found {shown(text)}; give a number with its unit, such as 16GB, 1.5 GiB or 800MB")
    return text


def _bytes(text: str) -> int | None:
    """What a size in words is in bytes."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?([kMGT]?)(i?)B?", text.strip(), re.IGNORECASE)
    if not found or not float(found[1]):
        return None
    base = 1024 if found[3] else 1000
    return int(float(found[1]) * base ** " KMGT".index(found[2].upper() or " "))


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?|mps", text):
        raise wrong(f"found {shown(text)}; allowed: auto, cpu, cuda, cuda:N, mps")
    return text


class Profile(SettingsFile):
    """Where a recipe runs."""

    cluster: Annotated[Text, AfterValidator(_cluster)] = "threads"
    """threads, processes, a scheduler's address such as tcp://host:8786, or its scheduler file
    (scheduler.json, relative to the profile). Still to come: cuda, slurm, a Dask cluster class by import
    path."""
    workers: Annotated[int | Literal["auto"], BeforeValidator(_number)] = "auto"
    """Processes, of `processes`. auto: one a GPU where there are several, else one for every four cores, and
    at least two."""
    threads: Annotated[int | Literal["auto"], BeforeValidator(_number)] = "auto"
    """Tiles at once in each process. auto: as many as suit the cores; the network's own threads are set so
    that the cores are not oversubscribed. A scheduler's workers have threads of their own."""
    memory: Annotated[Text, AfterValidator(_memory)] | None = None
    """What a worker may use, such as 16GB: as many tiles at once as need no more, and a recipe whose tiles
    need more is refused. Default: no limit."""
    device: Annotated[Text, AfterValidator(_device)] = "auto"
    """auto, cpu, cuda, cuda:N or mps. auto: a CUDA GPU when there is one."""
    precision: Annotated[Literal["auto", "float32", "bfloat16", "float16"], built("auto", "float32")] = "auto"
    """The network's arithmetic: part of a store's identity."""
    options: Annotated[
        dict[str, JsonValue], BeforeValidator(lambda value: value or {}), AfterValidator(_options)
    ] = Field(default_factory=dict)
    """Of a tls:// address: tls_ca_file, tls_client_cert and tls_client_key, relative to the profile. Without
    them Dask's own settings count."""
    folder: SkipJsonSchema[Path] = Field(default=Path(), exclude=True)
    """The folder that relative paths start from: the profile's own. Not a key of the file."""

    @classmethod
    def load(cls, name_or_path: str | Path) -> Profile:
        """Read a profile: a shipped one by its name, or a YAML file.

        Raises RecipeError with a line for each mistake.
        """
        name = str(name_or_path)
        if is_remote(name):
            return cls(cluster=name)
        path = _file(name)
        document = read_document(path, "profile")
        if "folder" in document.data:
            raise RecipeError(unknown_key(("folder",), document.data["folder"], cls, document))
        return cls.model_validate({**document.data, "folder": path.parent}, context=document)

    @field_validator("memory")
    @classmethod
    def _memory_is_of_workers_here(cls, memory: str | None, info: ValidationInfo) -> str | None:
        if memory is not None and is_remote(str(info.data.get("cluster"))):
            raise wrong("a scheduler's workers are started elsewhere, with their own limit: leave it out")
        return memory

    @property
    def memory_bytes(self) -> int | None:
        """``memory`` in bytes."""
        return None if self.memory is None else _bytes(self.memory)

    @field_validator("workers", "threads")
    @classmethod
    def _number_suits_the_cluster(cls, number: int | str, info: ValidationInfo) -> int | str:
        cluster = str(info.data.get("cluster"))
        if number != "auto" and is_remote(cluster):
            raise wrong("a scheduler's workers are started elsewhere, with their own number: leave it out")
        if info.field_name == "workers" and cluster == "threads" and number not in ("auto", 1):
            raise wrong(f"found {number}, but threads are of one process: say `cluster: processes`")
        return number

    def numbers(self, gpus: int = 0) -> tuple[int, int]:
        """Processes on this machine, and tiles at once in each, where there are so many GPUs to share out."""
        if is_remote(self.cluster):
            return 1, 1  # theirs are known only there
        if self.cluster == "threads":
            workers = 1
        elif self.workers != "auto":
            workers = self.workers
        else:
            workers = gpus if gpus > 1 else min(cores(), max(2, cores() // 4))
        return workers, max(1, cores() // workers) if self.threads == "auto" else self.threads

    def located(self, path: str) -> Path:
        """Where a path of this profile leads, from the profile's folder."""
        return self.folder / os.path.expanduser(path)  # noqa: PTH111 (never raises)


def profile_schema() -> dict[str, Any]:
    """The JSON Schema of a profile."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Profile.model_json_schema()}


def _file(name_or_path: str) -> Path:
    """Where the profile of this name, or the file of this path, is."""
    shipped = sorted(path.stem for path in SHIPPED.glob("*.yaml"))
    if name_or_path in shipped:
        return SHIPPED / f"{name_or_path}.yaml"
    if name_or_path in LATER:
        raise RecipeError(
            f"profile {shown(name_or_path)} is not built yet; what works now: {', '.join(shipped)}, "
            "a .yaml file, or a scheduler's address"
        )
    if "://" in name_or_path:
        raise RecipeError(
            f"profile {shown(name_or_path)} is no scheduler's address: write tcp://host:port or tls://host:port"
        )
    if Path(name_or_path).suffix or len(Path(name_or_path).parts) > 1:
        return Path(name_or_path)
    meant = nearest(name_or_path, shipped)
    guess = f'; did you mean "{meant}"?' if meant else ";"
    raise RecipeError(
        f"profile {shown(name_or_path)}: no shipped profile has this name{guess} "
        f"allowed: {', '.join(shipped)}, a .yaml file, or a scheduler's address"
    )
