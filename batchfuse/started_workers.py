"""Workers that are started for a run, by a batch system or any other of Dask's cluster classes."""

from __future__ import annotations

import inspect
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from dask.utils import parse_bytes
from distributed import Client
from distributed.deploy.adaptive import Adaptive
from distributed.deploy.cluster import Cluster as DaskCluster

from batchfuse.batch_system import Jobs, job_arguments, jobs_told, named_class, silent, will_never_start
from batchfuse.cluster import Demand
from batchfuse.dask_pool import LOOK, TOLD, TOLD_AGAIN, DaskPool, shortly, with_settings
from batchfuse.errors import RecipeError
from batchfuse.profile import Profile, is_batch_system
from batchfuse.report.progress import counted, sized
from batchfuse.storage.beside import LOGS
from batchfuse.workers import Place, spared_from_interrupts

__all__ = ["StartedPool"]

ASKED = 15.0  # seconds, at the least, between two looks at the queue while the run goes on: others ask, too
ASKED_AT_FIRST = (1.0, 30.0)  # before the first worker: longer and longer
LOST = 10.0  # seconds without a job's worker after which the job is submitted anew
RENEWED = 3  # times the jobs asked for: so many may end, no tile fused meanwhile, until the run gives up
CLOSING = 30.0  # seconds for the jobs to be cancelled


class StartedPool(DaskPool):
    """Workers of a cluster that is started for this run, and ended with it.

    What the batch system takes away is asked for again, as long as there are tiles left.
    """

    def __init__(self, profile: Profile, demand: Demand) -> None:
        super().__init__(profile.device, demand, logs=True)
        self.profile = profile
        self._range = profile.worker_range
        self._jobs: Jobs | None = Jobs() if is_batch_system(profile.cluster) else None
        self._seen: dict[str, float] = {}
        self._renewed = 0
        self._asked = -ASKED
        self._asked_again = -TOLD_AGAIN
        self._logs = demand.folder / LOGS
        self._windows_each: int | None = None
        self._job_size = ""
        self._cluster = self._started()
        self._client = _client_of(self._cluster)
        with self._opening():
            self._register()
            self._scale()
            self._wait_for_the_first()
            self._meet()
            self._keep_up()

    def windows_each(self, tiles: int) -> int | None:  # noqa: ARG002
        """See ``Pool``: of a job, its cores are shared by the tiles at once."""
        return self._windows_each

    def result(self, future: Any) -> Any:
        """See ``Pool``."""
        found = super().result(future)
        self._renewed = 0
        return found

    def close(self, at_once: bool) -> None:
        """See ``Pool``: its jobs are cancelled."""
        super().close(at_once)
        cluster = self._cluster
        with suppress(TimeoutError, OSError), silent():
            cluster.close(timeout=CLOSING) if isinstance(cluster, DaskCluster) else cluster.close()

    def _started(self) -> Any:
        """The cluster, without workers; RecipeError where it can't be made."""
        profile, demand = self.profile, self.demand
        found = named_class(profile)
        options: dict[str, Any] = dict(profile.options)
        if self._jobs is not None:
            options = job_arguments(profile, demand.folder, demand.memory())
            _, threads = profile.numbers()
            self._windows_each = max(1, options["cores"] // (options["processes"] * threads))
            options["job_cls"] = self._jobs.watched(found.job_cls)
            self._job_size = (
                f"{counted(options['cores'], 'core')} and {sized(parse_bytes(options['memory']))}"
            )
            self._logs = Path(options["log_directory"])
            for folder in (self._logs, demand.folder / LOGS):
                folder.mkdir(parents=True, exist_ok=True)
            _sweep(demand.folder / LOGS)
        if "silence_logs" in inspect.signature(found).parameters:
            options["silence_logs"] = logging.CRITICAL
        try:
            with with_settings(), spared_from_interrupts(), silent():
                return found(**options)
        except ImportError as error:
            raise RecipeError(f"cluster: {profile.cluster}: {shortly(error)}") from error
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise RecipeError(
                f"options: {profile.cluster} refuses them: {shortly(_first_of(error))}"
            ) from error
        except (OSError, RuntimeError, TimeoutError) as error:
            raise RecipeError(
                f"cluster: {profile.cluster} can't be started ({shortly(_first_of(error))}): check `options`"
            ) from error

    def _register(self) -> None:
        processes = self.profile.options.get("processes", 1)
        if self._jobs is not None and isinstance(processes, int) and processes > 1:
            self._client.register_plugin(Place())

    def _wanted(self) -> int:
        """Workers that have something to do; where the run is stopped, as many as there are."""
        threads = self.profile.numbers()[1]
        left = self.demand.tiles_left()
        return math.ceil(left / threads) if left else max(1, len(self._cluster.scheduler_info["workers"]))

    def _scale(self) -> None:
        low, high = self._range.minimum, self._range.maximum
        if self.profile.workers == "auto" and self._jobs is None:
            return  # as many as the class starts by itself
        if low == high:
            self._cluster.scale(min(high, self._wanted()))
        elif isinstance(self._cluster, DaskCluster):
            self._cluster.adapt(
                Adaptive=_by_tiles_left(self._wanted), minimum=low, maximum=high, interval=f"{LOOK:g}s"
            )
        else:
            self._cluster.adapt(minimum=low, maximum=high)

    def _wait_for_the_first(self) -> None:
        """Waits for a worker as long as there is hope, and says what it waits for."""
        began = time.monotonic()
        told, asked = 0.0, began
        soonest, latest = ASKED_AT_FIRST
        while not self._client.nthreads():
            now = time.monotonic()
            if self._jobs is not None and now - asked > min(max(soonest, (now - began) / 10), latest):
                asked = now
                self._refuse_if_hopeless(self._jobs)
            if now - max(told, began) > (TOLD_AGAIN if told else TOLD):
                told = now
                self.demand.tell(self._want())
            time.sleep(0.2)

    def _refuse_if_hopeless(self, jobs: Jobs) -> None:
        """RecipeError where no job could be submitted, or all have ended."""
        if not jobs.submitted:
            # of those that are being submitted none is known
            if jobs.refusals and len(jobs.refusals) >= len(self._cluster.worker_spec):
                raise RecipeError(jobs.refusals[0])
            return
        states = jobs_told(self.profile.cluster, jobs.submitted)
        if reason := will_never_start(states or {}):
            raise RecipeError(
                f"the jobs, of {self._job_size} each, will never start ({reason}): ask for what a node of "
                "the queue has, with fewer `threads`, less `memory` or a shorter walltime; see "
                "`batchfuse plan --profile`"
            )
        if states == {} and not self._client.nthreads():
            raise RecipeError(f"the jobs ended before a worker came: {self._last_words()}")

    def _last_words(self) -> str:
        """What the latest job wrote last, and where."""
        files = sorted(self._logs.glob("*.err"), key=lambda path: path.stat().st_mtime)
        if not files:
            return f"look into {self._logs}"
        lines = [line for line in files[-1].read_text(errors="replace").splitlines() if line.strip()]
        return f"{shortly(lines[-1]) if lines else 'they wrote nothing'} ({files[-1]})"

    def _want(self) -> str:
        """Said when there is no worker."""
        if self._jobs is None:
            return f"no worker of {self.profile.cluster} is there yet: waiting (Ctrl-C ends it)"
        states = jobs_told(self.profile.cluster, self._jobs.submitted)
        told = Counter((states or {}).values()).most_common()
        jobs = ", ".join(f"{counted(number, 'job')} {state}" for state, number in told)
        if not jobs:
            known = "" if states is None else ", none waits or runs"
            jobs = f"{counted(len(self._jobs.submitted), 'job')} submitted{known}"
        yet = "" if self._met else " yet"
        return f"no worker is there{yet}: {jobs}; waiting (Ctrl-C ends it and cancels them)"

    def _look(self) -> None:
        super()._look()
        if self._jobs is not None and isinstance(self._cluster, DaskCluster):
            self._renew(self._jobs)

    def _renew(self, jobs: Jobs) -> None:
        """Asks again for the jobs that are gone: for lack of time, preempted, cancelled, or died."""
        now = time.monotonic()
        there = {str(info["name"]) for info in self._cluster.scheduler_info["workers"].values()}
        spec = dict(self._cluster.worker_spec)
        here = {name for name, one in spec.items() if there & _names(name, one)}
        self._seen = {name: seen for name, seen in self._seen.items() if name in spec}
        self._seen.update((name, now) for name in here)
        number_of = {name: job.job_id for name, job in dict(self._cluster.workers).items()}
        self._ask_again([name for name, number in number_of.items() if number is None], jobs)
        gone = [name for name in spec if now - self._seen.get(name, now) > LOST]
        unseen = spec.keys() - self._seen.keys()
        coming = {name: number for name, number in number_of.items() if number and name in unseen}
        gone += self._ended_before(coming, jobs)
        if not gone or not self.demand.tiles_left() or self._ended.is_set():
            return
        if self._renewed + len(gone) > RENEWED * self._range.maximum:
            if not there:
                self.demand.halt(f"its workers keep ending: {self._last_words()}")
            return
        self._renewed += len(gone)
        self.demand.tell(f"{counted(len(gone), 'job')} ended: submitting again")
        self._cluster.sync(self._submitted_anew, gone)

    def _ended_before(self, coming: dict[str, str], jobs: Jobs) -> list[str]:
        """Of jobs, by name with their numbers, those that are over though no worker of theirs has come."""
        now = time.monotonic()
        if not coming or now - self._asked <= ASKED:
            return []
        self._asked = now
        # asked after the numbers are known: none of them can be too new to be listed
        states = jobs_told(self.profile.cluster, jobs.submitted)
        return [] if states is None else [name for name, number in coming.items() if number not in states]

    def _ask_again(self, refused: list[str], jobs: Jobs) -> None:
        """Submits, once a minute, the jobs that were refused: there may be a limit to their number."""
        now = time.monotonic()
        if not refused or now - self._asked_again < TOLD_AGAIN:
            return
        self._asked_again = now
        self.demand.tell(f"{counted(len(refused), 'job')} not submitted: {jobs.refusals[-1]}")
        self._cluster.sync(self._submitted_anew, refused)

    async def _submitted_anew(self, names: list[str]) -> None:
        """Gives up these jobs for as many others, of other names: Dask may yet close what has an old one."""
        cluster = self._cluster
        number = len(cluster.worker_spec)
        for name in names:
            cluster.worker_spec.pop(name, None)
            if (job := cluster.workers.pop(name, None)) is not None:
                await job.close()
        cluster.scale(jobs=number)


def _names(name: str, spec: dict[str, Any]) -> set[str]:
    """The names of a job's workers."""
    return {f"{name}{suffix}" for suffix in spec.get("group", [""])}


def _by_tiles_left(wanted: Callable[[], int]) -> type[Adaptive]:
    """Dask's way to let workers come and go, by the tiles left: Dask itself sees only a few of them."""

    class ByTilesLeft(Adaptive):
        async def target(self) -> int:
            return wanted()

    return ByTilesLeft


def _first_of(error: BaseException) -> BaseException:
    """What went wrong at first: Dask raises one error about another."""
    while (
        behind := error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    ) is not None:
        error = behind
    return error


def _client_of(cluster: Any) -> Any:
    if isinstance(cluster, DaskCluster):
        return Client(cluster, set_as_default=False)
    return cluster.get_client(set_as_default=False)


def _sweep(logs: Path) -> None:
    """Removes the certificates of runs that were killed."""
    for left in logs.glob(".dask-jobqueue.*"):
        left.unlink(missing_ok=True)
