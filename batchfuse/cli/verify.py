"""``batchfuse verify``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from batchfuse.cli.options import JSON, VERBOSE, echo, echo_json, told
from batchfuse.system.words import printable, printable_lines

if TYPE_CHECKING:
    from batchfuse.exactness import Exactness
    from batchfuse.storage.check import Checked

__all__ = ["verify"]

T = TypeVar("T")

AT_ONCE = 64  # tiles given to the threads at a time: little is left to end after Ctrl-C


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of one store."""

    checked: Checked
    exactness: Exactness | None
    refused: str | None
    """Why it could not be fused again."""
    unnoted: str | None = None
    """Why what is wrong could not be noted for the next run."""
    behind: str | None = None
    """The traceback, of a bug."""

    @property
    def holds(self) -> bool:
        """Whether all is right."""
        exact = self.exactness is None or self.exactness.holds
        return not self.checked.faults and exact and self.refused is None


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--exact", is_flag=True, help="Fuse some windows again, untiled, and compare.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="With --exact: the folder of the recipe, where report.json beside the store doesn't say it.",
)
@JSON
@VERBOSE
@told
def verify(path: Path, exact: bool, folder: Path | None, as_json: bool, verbose: bool) -> None:
    """Check that every chunk is there and whole, in a store or in all stores of a folder.

    What is wrong is noted beside the store: the next run of its recipe repairs that, and nothing else.

    Exit codes: 0 all is right, 1 something is wrong, or a store could not be checked.
    """
    from batchfuse.storage.check import stores_in

    if folder is not None and not exact:
        raise click.UsageError("--folder goes with --exact")
    verdicts = []
    for store in stores_in(path):
        verdict = _verdict(store, exact, folder)
        verdicts.append(verdict)
        if verbose and verdict.behind:
            click.echo(printable_lines(verdict.behind), nl=False, err=True)
        for line in () if as_json else _lines(verdict):
            echo(line)
    if as_json:
        echo_json([_described(verdict) for verdict in verdicts])
    elif len(verdicts) > 1:
        wrong = sum(not verdict.holds for verdict in verdicts)
        echo(f"{len(verdicts)} stores, {wrong or 'none'} with something wrong")
    sys.exit(0 if all(verdict.holds for verdict in verdicts) else 1)


def _verdict(store: Path, exact: bool, folder: Path | None) -> Verdict:
    from batchfuse.errors import BatchfuseError, SceneError, bugs_told
    from batchfuse.storage.check import Checked, Fault, check_store

    try:
        with bugs_told(), ThreadPoolExecutor(_cores()) as pool, _bar(store.name) as advance:
            checked = check_store(store, lambda function, items: _mapped(pool, function, items, advance))
    except SceneError as error:
        unread = Checked(store, False, 0, 0, (Fault(store, "unread", str(error)),))
        return Verdict(unread, None, None, behind=error.behind)
    unnoted = _noted(checked)
    if not exact or checked.faults:
        return Verdict(checked, None, None, unnoted)
    try:
        with bugs_told():
            return Verdict(checked, _exactness(store, folder), None)
    except BatchfuseError as error:
        return Verdict(checked, None, str(error), behind=error.behind)


def _noted(checked: Checked) -> str | None:
    """Notes what is wrong for the next run, and says why that can't be; forgets what is mended."""
    from batchfuse.errors import StoreError
    from batchfuse.storage.repair import forget_faults, is_worth_noting, note_faults

    store = checked.path
    if store.suffix != ".zarr":  # a reduced level on its own: its store is what a run repairs
        return None
    try:
        if is_worth_noting(checked):
            note_faults(store, checked.faults)
        elif not checked.faults:
            forget_faults(store)
    except StoreError as error:
        return str(error)
    return None


def _exactness(store: Path, folder: Path | None) -> Exactness:
    from batchfuse.exactness import measure, merged

    with _bar(f"{store.name}, fused again") as advance:
        return merged([advance(found) for found in measure(store, folder)])


def _cores() -> int:
    from batchfuse.machine import cores

    return cores()


def _mapped(
    pool: ThreadPoolExecutor,
    function: Callable[[Any], Any],
    items: Iterable[Any],
    advance: Callable[[T], T],
) -> Iterator[Any]:
    waiting = iter(items)
    while some := list(islice(waiting, AT_ONCE)):
        yield from (advance(result) for result in pool.map(function, some))


@contextmanager
def _bar(label: str) -> Iterator[Callable[[T], T]]:
    """A count on a terminal, nothing in a log: a line a store is told anyway."""
    terminal, done = sys.stderr.isatty(), 0

    def advance(result: T) -> T:
        nonlocal done
        done += 1
        if terminal:
            click.echo(f"\r{printable(label)}: {done}", nl=False, err=True)
        return result

    yield advance
    if terminal:
        click.echo("\r\x1b[K", nl=False, err=True)


def _lines(verdict: Verdict) -> Iterator[str]:
    from batchfuse.report.progress import counted

    checked, exact = verdict.checked, verdict.exactness
    levels = f" in the image and {counted(checked.levels, 'level')}" if checked.levels else ""
    state = f"all right, {counted(checked.tiles, 'tile')}{levels}"
    if checked.faults:
        state = f"{counted(len(checked.faults), 'thing')} wrong"
    yield f"{checked.path}: {state}"
    for fault in checked.faults:
        inside = fault.path != checked.path and fault.path.is_relative_to(checked.path)
        name = fault.path.relative_to(checked.path) if inside else fault.path
        yield f"  {fault.kind}: {name}: {fault.what}"
    if verdict.unnoted is not None:
        yield f"  not noted for the next run ({verdict.unnoted}): delete the files named above first"
    if verdict.refused is not None:
        yield f"  can't be fused again: {verdict.refused}"
    if exact is not None:
        yield f"  {'exact' if exact.holds else 'NOT EXACT'}: {_told(exact)}"


def _told(exact: Exactness) -> str:
    from batchfuse.exactness import LIMIT
    from batchfuse.report.progress import counted

    rounding = f" and {exact.rounding:.1e} of rounding" if exact.rounding > LIMIT / 10 else ""
    masks = f"; {exact.masks} pixels are valid in one of the two only" if exact.masks else ""
    largest = f"{exact.largest:.1e}" if exact.largest else "0"
    return (
        f"largest difference from {counted(exact.windows, 'window')} fused untiled {largest} of the range, "
        f"allowed {LIMIT:.0e}{rounding}{masks}"
    )


def _described(verdict: Verdict) -> dict[str, Any]:
    checked, exact = verdict.checked, verdict.exactness
    return {
        "path": str(checked.path),
        "right": verdict.holds,
        "complete": checked.complete,
        "tiles": checked.tiles,
        "levels": checked.levels,
        "faults": [{**asdict(fault), "path": str(fault.path)} for fault in checked.faults],
        "exact": None if exact is None else {**asdict(exact), "holds": exact.holds},
        "refused": verdict.refused,
    }
