"""What is asked of a batch system: Dask's class for it, its arguments, the script of a job."""

from __future__ import annotations

import inspect
import math
import re
import shutil
import signal
import subprocess
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import dask
from distributed.core import Status

from batchfuse.dask_pool import SETTINGS, shortly
from batchfuse.errors import RecipeError
from batchfuse.profile import BATCH_SYSTEMS, Profile
from batchfuse.recipe_mistakes import nearest
from batchfuse.storage.beside import LOGS

__all__ = ["Jobs", "job_arguments", "job_script", "jobs_told", "named_class", "silent", "will_never_start"]

EXTRAS = {
    "dask_jobqueue": ("dask-jobqueue", "slurm"),
    "dask_kubernetes": ("dask-kubernetes", "kubernetes"),
    "dask_gateway": ("dask-gateway", "gateway"),
    "dask_cuda": ("dask-cuda", "dask-cuda"),
}
"""By module: the package, and the extra that brings it."""
SPARE = 1.25  # of the memory that a recipe needs, asked for where the profile says nothing
STEP = 100_000_000  # bytes to which that is rounded up
NANNY = 150_000_000  # bytes of the process that watches over a job's workers
WALLTIME = re.compile(r"(?:(\d+)-)?(\d{1,4}):(\d{2}):(\d{2})")
OWN_LIFETIME = re.compile(r"--lifetime(?![-\w])")
"""Where the user gives one, ours would leave its stagger behind, which may be longer than that."""
WORKER_SETTINGS = ("distributed.worker.", "distributed.admin.")
ANSWERING = 10.0  # seconds for squeue
LISTS = ("job_directives_skip", "job_extra_directives", "job_script_prologue", "worker_extra_args")
FOLDERS = ("log_directory", "shared_temp_directory")
UNQUOTED = re.compile(r"[^\w@+=:,./-]")
"""What a path can't hold in the script of a job, where Dask writes it as it is."""
NEVER = re.compile(
    r"PartitionConfig|PartitionNodeLimit|PartitionTimeLimit|BadConstraints|Invalid(Account|QOS)"
    r"|(Account|Qos)NotAllowed|(Assoc|QOS)(Max|Grp)\w*PerJob\w*"
)
"""Reasons of Slurm for which a job would wait for ever."""


def named_class(profile: Profile) -> Any:
    """Dask's class of the profile's cluster.

    Raises RecipeError where its package is not installed, or has no such class.
    """
    path = BATCH_SYSTEMS.get(profile.cluster, profile.cluster)
    module, _, name = path.rpartition(".")
    package, extra = EXTRAS.get(module.partition(".")[0], (module.partition(".")[0], ""))
    if profile.cluster in BATCH_SYSTEMS:
        extra = profile.cluster
    try:
        with _signals_kept():
            found = getattr(import_module(module), name, None)
    except ImportError as error:
        ours = f"pip install 'batchfuse[{extra}]'" if extra else f"install {package}"
        raise RecipeError(f"cluster: {profile.cluster} needs {package} ({shortly(error)}): {ours}") from error
    if not inspect.isclass(found) or not all(hasattr(found, method) for method in ("scale", "close")):
        raise RecipeError(f"cluster: {path} is no Dask cluster class: correct the import path")
    return found


def job_arguments(profile: Profile, folder: Path, needed: int) -> dict[str, Any]:
    """The arguments of a dask-jobqueue class for workers as the profile has them.

    Args:
        profile: whose cluster is a batch system.
        folder: the output folder; logs and certificates go below it.
        needed: bytes of memory that a worker needs, asked for where the profile names none.

    Raises:
        RecipeError: the class has no such option, or an option has a value that it can't have.
    """
    options: dict[str, Any] = dict(profile.options)
    found = named_class(profile)
    _check_names(found, options)
    _check_values(options)
    processes = _whole(options.pop("processes", 1), "processes")
    _, threads = profile.numbers()
    cores = _whole(options.pop("cores", threads * processes), "cores")
    if cores < threads * processes:
        raise RecipeError(f"options.cores: found {cores}; {processes} x {threads} tiles at once need as many")
    memory = profile.memory_bytes or math.ceil(needed * SPARE / STEP) * STEP
    logs = folder / LOGS
    given = options.pop("worker_extra_args", None) or []
    before = options.pop("job_script_prologue", None) or []
    scheduler = options.pop("scheduler_options", None) or {}
    folders = {name: options.pop(name, None) or str(logs) for name in FOLDERS}
    _check_folders(folders, profile.cluster)
    ours = ["--nthreads", str(threads), "--memory-limit", "0", "--no-dashboard"]
    walltime = options.get("walltime") or dask.config.get(
        f"jobqueue.{found.job_cls.config_name}.walltime", None
    )
    ends = [] if any(OWN_LIFETIME.match(part) for part in given) else _lifetime(walltime)
    # who reaches a scheduler runs code on its workers: only those with this run's certificate do
    secured = options.pop("security", True)
    return {
        "security": secured or None,  # as Dask calls it
        **folders,
        **options,
        "cores": cores,
        "memory": f"{memory * processes + NANNY}B",
        "processes": processes,
        "job_script_prologue": [*_exports(), *before],
        "worker_extra_args": [*ours, *ends, *given],
        "scheduler_options": {"dashboard_address": "127.0.0.1:0", **scheduler},
    }


def job_script(profile: Profile, folder: Path, needed: int) -> str:
    """The script of one job as it would be submitted; nothing is started.

    Raises RecipeError as ``job_arguments``.
    """
    arguments = job_arguments(profile, folder, needed)
    for name in ("security", "shared_temp_directory", "scheduler_options"):
        arguments.pop(name)
    # the folder is not made by looking
    logs = arguments.pop("log_directory")
    try:
        with silent():
            job = named_class(profile).job_cls("tls://<scheduler>", name="<name>", **arguments)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"options: {shortly(error)}") from error
    script: str = job.job_script()
    return f"{script.rstrip()}\n# its output: {logs}\n"


@dataclass
class Jobs:
    """The jobs of a run: what was submitted, and what was refused."""

    submitted: list[str] = field(default_factory=list)
    """Numbers, as the batch system gave them."""
    refusals: list[str] = field(default_factory=list)
    """Why others could not be submitted, a line each."""

    def watched(self, job_class: Any) -> Any:
        """The job class, whose jobs are noted here; a refused one raises nothing and stays away."""
        jobs = self

        class Job(job_class):  # type: ignore[misc]
            async def start(self) -> None:
                try:
                    await super().start()
                    jobs.submitted.append(str(self.job_id))
                except (RuntimeError, OSError, ValueError) as error:
                    jobs.refusals.append(_refusal(error, job_class.submit_command))
                    self.status = Status.running  # as Dask wants it of whatever was started

            async def close(self) -> None:
                self.status = Status.closing  # Dask looks at it when a cluster ends, and breaks off otherwise
                await super().close()
                self.status = Status.closed

        return Job


def jobs_told(cluster: str, numbers: Iterable[str]) -> dict[str, str] | None:
    """The state of each of the jobs that wait or run, in the batch system's words; None where it isn't known.

    Only Slurm is asked.
    """
    if cluster not in ("slurm", BATCH_SYSTEMS["slurm"]) or shutil.which("squeue") is None:
        return None
    try:
        asked = subprocess.run(
            ["squeue", "--noheader", "--me", "--format=%i|%T|%r"],
            capture_output=True,
            text=True,
            timeout=ANSWERING,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    asked_for = set(numbers)
    rows = [line.strip().split("|") for line in asked.stdout.splitlines()]
    known = {row[0]: (row[1], row[2]) for row in rows if len(row) == 3}
    return {
        number: f"{state.lower()}{'' if reason in ('None', '') else f' ({reason})'}"
        for number, (state, reason) in known.items()
        if number in asked_for and state not in ("COMPLETING", "COMPLETED", "FAILED", "CANCELLED")
    }


@contextmanager
def silent() -> Iterator[None]:
    """Without the warnings of libraries, such as that a port is taken and another was chosen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _signals_kept() -> Iterator[None]:
    """dask-jobqueue, when it is imported, takes Ctrl-C for itself, which ends the process with 0.

    In a thread that is not the main one it can't, and its import would fail.
    """
    set_handler, importing = signal.signal, threading.get_ident()

    def set_by_others(number: Any, handler: Any) -> Any:
        if threading.get_ident() == importing:
            return signal.getsignal(number)
        return set_handler(number, handler)

    signal.signal = set_by_others  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = set_handler


def will_never_start(states: Mapping[str, str]) -> str | None:
    """The reason why none of the jobs in these states will ever run; None where one may."""
    found = [NEVER.search(state) if state.startswith("pending") else None for state in states.values()]
    return found[0][0] if found and all(found) and found[0] else None


def _check_names(found: Any, options: Mapping[str, Any]) -> None:
    """RecipeError where neither the cluster nor its job takes such an argument."""
    job = getattr(found, "job_cls", None)
    if job is None:
        raise RecipeError(f"{found.__module__}.{found.__name__} is no class of dask-jobqueue")
    places = [*found.__mro__, *job.__mro__]
    taken = {
        name
        for place in places
        if "__init__" in vars(place)
        for name, parameter in inspect.signature(place.__init__).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and name != "self"
    }
    for name in options:
        if name not in taken:
            meant = nearest(name, sorted(taken))
            guess = f'; did you mean "{meant}"?' if meant else ""
            raise RecipeError(f"options.{name}: {found.__name__} has no such option{guess}")


def _whole(value: Any, name: str) -> int:
    if type(value) is not int or value < 1:
        raise RecipeError(f"options.{name}: found {value!r}; give a whole number from 1")
    return value


def _check_values(options: Mapping[str, Any]) -> None:
    """RecipeError for a value that Dask would take apart, or fail at, instead of refusing it."""
    for name, value in options.items():
        if value is None:
            continue
        if name in LISTS and not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            raise RecipeError(f"options.{name}: found {value!r}; give a list of text")
        if name in FOLDERS and not isinstance(value, str):
            raise RecipeError(f"options.{name}: found {value!r}; give a folder")
        if name == "scheduler_options" and not isinstance(value, dict):
            raise RecipeError(f"options.{name}: found {value!r}; give a mapping, such as {{host: 10.1.0.1}}")
        if name == "security" and not isinstance(value, bool):
            raise RecipeError(f"options.{name}: found {value!r}; give true or false")


def _check_folders(folders: Mapping[str, str], cluster: str) -> None:
    for name, folder in folders.items():
        if found := UNQUOTED.search(folder):
            raise RecipeError(
                f"the folder {folder} has {found[0]!r} in its path, which the script of a job of {cluster} "
                f"can't hold: give another `output.path`, or another folder as `options.{name}`"
            )


def _exports() -> list[str]:
    """Lines of a shell that give the workers what processes of this machine are given, too."""
    return [
        f"export DASK_{key.upper().replace('.', '__').replace('-', '_')}={value}"
        for key, value in SETTINGS.items()
        if key.startswith(WORKER_SETTINGS)
    ]


def _lifetime(walltime: Any) -> list[str]:
    """A worker's own end, somewhat before its job's, not all at once: it hands its tiles on itself."""
    found = WALLTIME.fullmatch(walltime) if isinstance(walltime, str) else None
    if not found:
        return []
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    left = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    lifetime = left - max(60, left // 10)
    return ["--lifetime", f"{lifetime}s", "--lifetime-stagger", f"{left // 20}s"] if lifetime >= 60 else []


def _refusal(error: Exception, command: Any) -> str:
    """The batch system's own words, and what to do."""
    program = str(command).split()[0]
    if isinstance(error, FileNotFoundError):
        return f"{program} is not found here: run it where jobs are submitted"
    _, _, words = str(error).partition("stderr:")
    lines = (re.sub(rf"^{program}: (error: )?", "", line) for line in (words or str(error)).split("\n"))
    told = "; ".join(line.strip() for line in lines if line.strip())
    return f"{program} refuses a job ({shortly(told)}): correct `options` in the profile"
