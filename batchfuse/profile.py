"""Where a recipe runs: the same recipe runs on a laptop and on a cluster."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue

from batchfuse.errors import RecipeError
from batchfuse.recipe_file import read_document, shown
from batchfuse.recipe_mistakes import nearest, wrong
from batchfuse.recipe_values import Count, SettingsFile, Text, built, not_built

__all__ = ["Profile", "profile_schema"]

SHIPPED = Path(__file__).parent / "profiles"
"""The folder of the profiles that have names."""
LATER = ("processes", "workstation", "cuda", "slurm")
"""Profiles still to come; a scheduler's address is another."""


def _threads(value: Any) -> Any:
    if value != "auto" and (type(value) is not int or not 1 <= value <= 1024):
        raise wrong(f"found {shown(value)}; give auto, or a number from 1 to 1024")
    return value


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?|mps", text):
        raise wrong(f"found {shown(text)}; allowed: auto, cpu, cuda, cuda:N, mps")
    return text


class Profile(SettingsFile):
    """Where a recipe runs."""

    cluster: Annotated[Text, built("threads")] = "threads"
    """threads, processes, cuda, slurm, a scheduler's address, or a Dask cluster class by import path."""
    workers: Annotated[Count, built(1)] = 1
    """Processes."""
    threads: Annotated[int | Literal["auto"], BeforeValidator(_threads)] = "auto"
    """Tiles at once in each process. auto: as many as suit the cores; the network's own threads are set so
    that the cores are not oversubscribed."""
    memory: Annotated[Text | None, not_built(None, now="null, and tiles.size to need less")] = None
    """What a worker may use, such as 16GB."""
    device: Annotated[Text, AfterValidator(_device)] = "auto"
    """auto, cpu, cuda, cuda:N or mps. auto: a CUDA GPU when there is one."""
    precision: Annotated[Literal["auto", "float32", "bfloat16", "float16"], built("auto", "float32")] = "auto"
    """The network's arithmetic: part of a store's identity."""
    options: Annotated[dict[str, JsonValue], not_built({}, None, now="{}")] = Field(default_factory=dict)
    """Passed to the cluster as they are."""

    @classmethod
    def load(cls, name_or_path: str | Path) -> Profile:
        """Read a profile: a shipped one by its name, or a YAML file.

        Raises RecipeError with a line for each mistake.
        """
        document = read_document(_file(str(name_or_path)), "profile")
        return cls.model_validate(document.data, context=document)


def profile_schema() -> dict[str, Any]:
    """The JSON Schema of a profile."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Profile.model_json_schema()}


def _file(name_or_path: str) -> Path:
    """Where the profile of this name, or the file of this path, is."""
    shipped = sorted(path.stem for path in SHIPPED.glob("*.yaml"))
    if name_or_path in shipped:
        return SHIPPED / f"{name_or_path}.yaml"
    if name_or_path in LATER or re.match(r"[a-z]+://", name_or_path):
        raise RecipeError(
            f"profile {shown(name_or_path)} is not built yet; what works now: {', '.join(shipped)}"
        )
    if Path(name_or_path).suffix or len(Path(name_or_path).parts) > 1:
        return Path(name_or_path)
    meant = nearest(name_or_path, shipped)
    guess = f'; did you mean "{meant}"?' if meant else ";"
    raise RecipeError(
        f"profile {shown(name_or_path)}: no shipped profile has this name{guess} "
        f"allowed: {', '.join(shipped)}, or a .yaml file"
    )
