"""Where a recipe runs: the same recipe runs on a laptop and on a cluster."""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, ValidationInfo, field_validator
from pydantic.json_schema import SkipJsonSchema

from batchfuse.errors import RecipeError
from batchfuse.machine import cores
from batchfuse.recipe_file import read_document, shown
from batchfuse.recipe_mistakes import nearest, unknown_key, wrong
from batchfuse.recipe_values import Count, Settings, SettingsFile, Text, built

__all__ = ["BATCH_SYSTEMS", "Profile", "WorkerRange", "is_batch_system", "is_remote", "profile_schema"]

SHIPPED = Path(__file__).parent / "profiles"
"""The folder of the profiles that have names."""
BATCH_SYSTEMS = {
    "slurm": "dask_jobqueue.SLURMCluster",
    "pbs": "dask_jobqueue.PBSCluster",
    "sge": "dask_jobqueue.SGECluster",
    "lsf": "dask_jobqueue.LSFCluster",
    "oar": "dask_jobqueue.OARCluster",
    "htcondor": "dask_jobqueue.HTCondorCluster",
}
"""The batch systems that start workers as jobs, and Dask's class for each."""
HERE = ("threads", "processes", "cuda")
"""Clusters of this machine alone."""
IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
"""Where Python finds a class."""
ADDRESS = re.compile(r"(tcp|tls)://[^/\s]+:[0-9]{1,5}")
"""A Dask scheduler's address."""
TLS = ("tls_ca_file", "tls_client_cert", "tls_client_key")
"""What ``options`` may hold for a tls:// address: paths."""
OURS = {"n_workers": "say `workers`", "asynchronous": "batchfuse sets it", "loop": "batchfuse sets it"}
"""What ``options`` of a cluster class may not hold."""
OURS_OF_JOBS = {
    **OURS,
    "memory": "say `memory` beside `cluster`",
    **dict.fromkeys(("config_name", "job_cls", "name", "scheduler_cls", "silence_logs"), "batchfuse sets it"),
}
"""What those of a batch system may not hold."""
ALLOWED = (
    f"{', '.join((*HERE, *BATCH_SYSTEMS))}, a scheduler's address (tcp://host:8786) or its scheduler file "
    "(scheduler.json), or a Dask cluster class by import path (dask_kubernetes.operator.KubeCluster)"
)
TILES_OF_A_JOB = 4  # tiles at once, and cores, of a worker that a batch system starts, unless told


class WorkerRange(Settings):
    """Fewest and most workers, where they come and go with the tiles that are left."""

    minimum: Annotated[int, Field(strict=True, ge=0, le=1024)] = 0
    """Kept as long as the run lasts."""
    maximum: Annotated[Count, Field(le=1024)]
    """Never more."""


def _number(value: Any) -> Any:
    if value != "auto" and (type(value) is not int or not 1 <= value <= 1024):
        raise wrong(f"found {shown(value)}; give auto, or a number from 1 to 1024")
    return value


def _workers(value: Any) -> Any:
    if isinstance(value, WorkerRange):
        return value
    if not isinstance(value, dict):
        return _number(value)
    low, high = value.get("minimum", 0), value.get("maximum", 0)
    numbers = type(low) is int and type(high) is int and 0 <= low <= high <= 1024 and high > 0
    if not numbers or not value.keys() <= {"minimum", "maximum"}:
        found = ", ".join(
            f"{shown(str(key), quoted=False)}: {shown(each)}" for key, each in islice(value.items(), 3)
        )
        raise wrong(
            f"found {{{found}}}; give {{minimum: 0, maximum: 20}}, the minimum no more than the maximum, "
            "that at most 1024"
        )
    return WorkerRange(minimum=low, maximum=high)


def _cluster(text: str) -> str:
    if text in (*HERE, *BATCH_SYSTEMS) or is_remote(text) or IMPORT_PATH.fullmatch(text):
        return text
    meant = nearest(text, (*HERE, *BATCH_SYSTEMS))
    guess = f'; did you mean "{meant}"?' if meant else ";"
    raise wrong(f"found {shown(text)}{guess} allowed: {ALLOWED}")


def is_batch_system(text: str) -> bool:
    """Whether workers of this cluster are the jobs of a batch system."""
    return text in BATCH_SYSTEMS or text.startswith("dask_jobqueue.")


def _is_class(text: str) -> bool:
    """Whether this is a cluster class of which nothing is known but its name."""
    return not (text in HERE or is_batch_system(text) or is_remote(text))


def is_remote(text: str) -> bool:
    """Whether this is a scheduler's address, or its scheduler file."""
    return bool(ADDRESS.fullmatch(text)) or text.endswith(".json")


def _options(options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    cluster = str(info.data.get("cluster"))
    if cluster in HERE or is_remote(cluster):
        return _certificates(options, cluster)
    ours = OURS_OF_JOBS if is_batch_system(cluster) else OURS
    for key in options:
        if key in ours:
            raise wrong(f"can't be given here: {ours[key]}", below=(key,))
    return options


def _certificates(options: dict[str, Any], cluster: str) -> dict[str, Any]:
    allowed = TLS if cluster.startswith("tls://") else ()
    for key, value in options.items():
        if key not in allowed:
            raise wrong(f"is no option here: {cluster} takes {', '.join(allowed) or 'none'}", below=(key,))
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
    """threads, processes or cuda (a process for each GPU) of this machine; slurm, pbs, sge, lsf, oar or
    htcondor: jobs of a batch system; a scheduler's address such as tcp://host:8786, or its scheduler file
    (scheduler.json, relative to the profile); or any Dask cluster class by import path, such as
    dask_kubernetes.operator.KubeCluster."""
    workers: Annotated[int | Literal["auto"] | WorkerRange, BeforeValidator(_workers)] = "auto"
    """Processes. auto: of `processes` one a GPU where there are several, else one for every four cores, and
    at least two; of `cuda` one a GPU; elsewhere one. Where workers are jobs or of a cluster class also
    {minimum: 0, maximum: 20}: as many as there are tiles left for."""
    threads: Annotated[int | Literal["auto"], BeforeValidator(_number)] = "auto"
    """Tiles at once in each process. auto: as many as suit the cores, of a job 4; where there are fewer
    tiles than cores, the network computes several windows of a tile at once. A scheduler's workers have
    threads of their own."""
    memory: Annotated[Text, AfterValidator(_memory)] | None = None
    """What a worker may use, such as 16GB: as many tiles at once as need no more, and a recipe whose tiles
    need more is refused. Default: no limit; a job asks for what the recipe needs."""
    device: Annotated[Text, AfterValidator(_device)] = "auto"
    """auto, cpu, cuda, cuda:N or mps. auto: a CUDA GPU when there is one."""
    precision: Annotated[Literal["auto", "float32", "bfloat16", "float16"], built("auto", "float32")] = "auto"
    """The network's arithmetic: part of a store's identity."""
    options: Annotated[
        dict[str, JsonValue], BeforeValidator(lambda value: value or {}), AfterValidator(_options)
    ] = Field(default_factory=dict)
    """Of a batch system or cluster class: the arguments of Dask's class, such as {queue: debug}. Of a tls://
    address: tls_ca_file, tls_client_cert and tls_client_key, relative to the profile; without them Dask's own
    settings count."""
    folder: SkipJsonSchema[Path] = Field(default=Path(), exclude=True)
    """The folder that relative paths start from: the profile's own. Not a key of the file."""
    file: SkipJsonSchema[Path | None] = Field(default=None, exclude=True)
    """The file it was read from. Not a key of it either."""

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
        for key in {"folder", "file"} & document.data.keys():
            raise RecipeError(unknown_key((key,), document.data[key], cls, document))
        return cls.model_validate({**document.data, "folder": path.parent, "file": path}, context=document)

    @field_validator("memory")
    @classmethod
    def _memory_is_of_workers_of_ours(cls, memory: str | None, info: ValidationInfo) -> str | None:
        cluster = str(info.data.get("cluster"))
        if memory is not None and is_remote(cluster):
            raise wrong("a scheduler's workers are started elsewhere, with their own limit: leave it out")
        if memory is not None and _is_class(cluster):
            raise wrong(f"{cluster} has a name of its own for it: say it in `options`")
        return memory

    @property
    def memory_bytes(self) -> int | None:
        """``memory`` in bytes."""
        return None if self.memory is None else _bytes(self.memory)

    @field_validator("workers", "threads")
    @classmethod
    def _number_suits_the_cluster(
        cls, number: int | str | WorkerRange, info: ValidationInfo
    ) -> int | str | WorkerRange:
        cluster = str(info.data.get("cluster"))
        if number == "auto":
            return number
        if is_remote(cluster):
            raise wrong("a scheduler's workers are started elsewhere, with their own number: leave it out")
        if info.field_name == "threads" and _is_class(cluster):
            raise wrong(f"{cluster} has a name of its own for it: say it in `options`")
        if cluster in HERE and isinstance(number, WorkerRange):
            raise wrong(f"workers of {cluster} don't come and go: give a number")
        if info.field_name == "workers" and cluster == "threads" and number != 1:
            raise wrong(f"found {number}, but threads are of one process: say `cluster: processes`")
        return number

    @property
    def is_elsewhere(self) -> bool:
        """Whether workers may be on other machines."""
        return self.cluster not in HERE

    @property
    def starts_workers(self) -> bool:
        """Whether workers are asked for elsewhere, which may take long."""
        return self.is_elsewhere and not is_remote(self.cluster)

    @property
    def worker_range(self) -> WorkerRange:
        """Fewest and most workers that are asked for."""
        if isinstance(self.workers, WorkerRange):
            return self.workers
        number = 1 if self.workers == "auto" else self.workers
        return WorkerRange(minimum=number, maximum=number)

    def numbers(self, gpus: int = 0) -> tuple[int, int]:
        """Processes, and tiles at once in each, where this machine has so many GPUs to share out."""
        if is_remote(self.cluster) or _is_class(self.cluster):
            return self.worker_range.maximum, 1  # their threads are known only there
        if is_batch_system(self.cluster):
            return self.worker_range.maximum, TILES_OF_A_JOB if self.threads == "auto" else self.threads
        if self.cluster == "threads":
            workers = 1
        elif self.workers != "auto":
            workers = self.worker_range.maximum
        elif self.cluster == "cuda":
            workers = max(1, gpus)
        else:
            workers = gpus if gpus > 1 else min(cores(), max(2, cores() // 4))
        return workers, max(1, cores() // workers) if self.threads == "auto" else self.threads

    @property
    def windows(self) -> int:
        """Windows that the network computes at once in each process, in one tile or several: its cores."""
        workers, threads = self.numbers()
        if self.cluster in HERE:
            return max(threads, cores() // workers)
        given = [self.options.get(name) for name in ("cores", "processes")]
        shared, processes = (int(n) if isinstance(n, int | str) and str(n).isdigit() else 0 for n in given)
        return max(threads, shared // max(1, processes)) if is_batch_system(self.cluster) else threads

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
