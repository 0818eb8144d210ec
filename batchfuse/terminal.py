"""Progress as bars on a terminal (rich)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from batchfuse.report.account import Account, Size, UnderWay
from batchfuse.report.alike import Kinds
from batchfuse.report.progress import FusedTile, counted, duration, retried, shortened, warned
from batchfuse.report.report import Outcome
from batchfuse.report.steps import Steps
from batchfuse.system.words import printable

__all__ = ["Bar", "LineBar", "StepBar", "can_draw"]

SHOWN = 6  # scenes under way that have a line of their own
ROOMY = 76  # columns from which bars fit beside words
WIDTH = 24  # columns of the bar over all of the run


def can_draw() -> bool:
    """Whether standard error is a terminal that can redraw lines."""
    console = Console(stderr=True)
    return console.file.isatty() and not console.is_dumb_terminal


class Shown(Protocol):
    """Work that tells in words how far it is."""

    @property
    def share(self) -> float:
        """How much of it is done, 0..1."""


class _Drawn:
    """What is drawn anew five times a second while its block runs, and is gone in the end."""

    def __init__(self, console: Console | None) -> None:
        self._console = console or Console(stderr=True)
        self._lock = threading.Lock()  # never held while printing: drawing wants it, too
        self._live = Live(self, console=self._console, refresh_per_second=5, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        self._console.show_cursor(True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What it looks like now."""
        raise NotImplementedError


class Bar(_Drawn):
    """A bar over all of the run, and below it a line for each scene under way.

    What is told once (scenes that end, warnings, notes) is printed above. The cursor stays visible, so
    that a run which is killed leaves the terminal as it was.

    Args:
        console: standard error without one.
        sizes: tiles and pixels of each scene, for the time left; without them every tile counts the same.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        console: Console | None = None,
        sizes: Mapping[str, Size] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(console)
        self._account = Account(sizes or {}, clock)
        self._kinds = Kinds()

    def begin(self, scenes: int, tiles: int) -> None:
        """See ``report.progress.Progress``."""
        with self._lock:
            self._account.begin(scenes, tiles)

    def more(self, tiles: int) -> None:
        """See ``report.progress.Progress``."""
        with self._lock:
            self._account.more(tiles)

    def phase(self, scene: str, phase: str, done: int, total: int) -> None:
        """See ``report.progress.Progress``."""
        with self._lock:
            self._account.phase(scene, phase, done, total)

    def tile(self, scene: str, tile: FusedTile) -> None:
        """See ``report.progress.Progress``."""
        with self._lock:
            self._account.tile(scene, tile.pixels)

    def skip(self, scene: str, tiles: int) -> None:
        """See ``report.progress.Progress``."""
        with self._lock:
            self._account.skip(scene, tiles)

    def retry(self, scene: str, reason: str, pause: float, number: int, most: int) -> None:
        """See ``report.progress.Progress``."""
        self.note(retried(scene, reason, pause, number, most))

    def end(self, outcome: Outcome, line: str) -> None:
        """See ``report.progress.Progress``."""
        with self._lock:
            self._account.end(outcome.scene)
            place = f"[{self._account.ended}/{self._account.scenes}]"
        self.note(f"{place} {outcome.scene}: {line}")

    def warn(self, scene: str | None, warning: str) -> None:
        """The first warning of each kind; how many scenes have it is told at the end of the run."""
        with self._lock:
            new = self._kinds.is_new(scene or "", warning)
        if new:
            self.note(warned(scene, warning))

    def note(self, line: str) -> None:
        """See ``report.progress.Progress``."""
        self._console.print(printable(line), markup=False, highlight=False, soft_wrap=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines as they are now, none wider than the terminal."""
        width, gap = options.max_width, "..." if options.ascii_only else "…"
        room = max(1, min(SHOWN, console.height - 4))
        with self._lock:
            overall = self._overall(width >= ROOMY)
            scenes = [(name, replace(at)) for name, at in self._account.under_way.items()]
        yield overall
        if width >= ROOMY:
            yield _table(scenes[:room], width, gap)
        else:
            yield from (_narrow(*scene, width, gap) for scene in scenes[:room])
        if len(scenes) > room:
            yield _line(f"  and {len(scenes) - room} more")

    def _overall(self, roomy: bool) -> Table | Text:
        """The run as a whole."""
        account = self._account
        if not account.scenes:
            return _line("starting")
        words = [f"{account.tiles_done}/{account.tiles} tiles"]
        if account.rate is not None and roomy:
            words.append(f"{account.rate / 1e6:.2f} Mpixel/s")
        if account.seconds_left is not None:
            words.append(f"{duration(account.seconds_left)} left")
        if not roomy:
            return _line("  ".join(words))
        grid = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=1.0, completed=account.share, width=WIDTH)
        grid.add_row(
            _line(f"{account.ended} of {counted(account.scenes, 'scene')}"), bar, _line("  ".join(words))
        )
        return grid


class LineBar(_Drawn):
    """One line with a bar: how far something is. It is gone in the end."""

    def __init__(self, work: Shown, console: Console | None = None) -> None:
        super().__init__(console)
        self._work = work

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The line as it is now, cut where the terminal ends."""
        with self._lock:
            words, share = str(self._work), self._work.share
        grid = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=1.0, completed=share, width=max(4, min(WIDTH, options.max_width // 3)))
        grid.add_row(bar, _line(words))
        yield grid


class StepBar(LineBar):
    """How far work is that consists of many alike."""

    def __init__(self, steps: Steps, console: Console | None = None) -> None:
        super().__init__(steps, console)
        self._steps = steps

    def add(self, name: str, share: float) -> None:
        """Some share of a thing was done."""
        with self._lock:
            self._steps.add(name, share)


def _table(scenes: list[tuple[str, UnderWay]], width: int, gap: str) -> Table:
    """Scenes under way, each with a bar of its phase."""
    grid = Table.grid(padding=(0, 2))
    for name, at in scenes:
        share = at.done / at.total if at.total else 0.0
        bar = ProgressBar(total=1.0, completed=share, width=WIDTH // 2)
        # name, phase, bar and numbers with the space between them
        shown = shortened(name, width - WIDTH // 2 - 34, gap)
        grid.add_row(_line(f"  {shown}"), _line(at.phase), bar, _line(str(at)))
    return grid


def _narrow(name: str, at: UnderWay, width: int, gap: str) -> Text:
    words = f" {at.phase} {at}"
    return _line(f"  {shortened(name, max(4, width - len(words) - 2), gap)}{words}")


def _line(text: str) -> Text:
    """A line that is cut rather than wrapped."""
    return Text(printable(text), no_wrap=True, overflow="crop")
