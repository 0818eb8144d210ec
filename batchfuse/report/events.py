"""What a run tells for machines: a JSON object a line, each of one event."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, TextIO

from batchfuse.report.alike import Kinds
from batchfuse.report.progress import FusedTile
from batchfuse.report.report import Outcome, Report

__all__ = ["EventLines", "Events", "event_line", "utc"]

LEVELS = ("info", "warning", "error")
GOOD = ("complete", "kept")
_writing = threading.Lock()  # of all that write to one stream: a line is never cut by another


def event_line(event: str, level: str, about: Mapping[str, Any]) -> str:
    """One event as JSON with ``time`` (UTC), ``level`` and ``event`` first; what is None is left out.

    It is ASCII, so that no text, whatever it holds, breaks the line or fails to be written.
    """
    told = {key: value for key, value in about.items() if value is not None}
    return json.dumps({"time": utc(), "level": level, "event": event, **told}, default=str)


def utc(seconds: float | None = None) -> str:
    """A time in seconds since 1970, or now, as ISO 8601 in UTC, to the millisecond."""
    at = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Events:
    """Writes events of a level or above, each as soon as it is told.

    Args:
        least: info, warning or error.
        stream: standard error, as it is at each event, without one.
    """

    def __init__(self, least: str = "info", stream: TextIO | None = None) -> None:
        self._least = LEVELS.index(least)
        self._stream = stream

    def tell(self, event: str, level: str = "info", **about: Any) -> None:
        """Writes one event; may be called from several threads."""
        if LEVELS.index(level) < self._least:
            return
        line = f"{event_line(event, level, about)}\n"
        stream = self._stream or sys.stderr
        with _writing:
            stream.write(line)
            stream.flush()


class EventLines:
    """The progress of a run as events; docs/logs.md lists them. See ``progress.Progress``."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._lock = threading.Lock()
        self._phases: dict[str, str] = {}
        self._kinds = Kinds()

    def begin(self, scenes: int, tiles: int) -> None:
        self._events.tell("begin", scenes=scenes, tiles=tiles, version=version("batchfuse"))

    def more(self, tiles: int) -> None:
        self._events.tell("more", tiles=tiles)

    def phase(self, scene: str, phase: str, done: int, total: int) -> None:  # noqa: ARG002
        """Told once, when the phase begins: its parts are too many to tell each."""
        with self._lock:
            new = self._phases.get(scene) != phase
            self._phases[scene] = phase
        if new:
            self._events.tell("phase", scene=scene, phase=phase, parts=total)

    def tile(self, scene: str, tile: FusedTile) -> None:
        self._events.tell(
            "tile",
            scene=scene,
            tile=tile.index,
            worker=tile.worker,
            worker_name=tile.worker_name,
            began=utc(tile.began),
            seconds=round(tile.seconds, 6),
            pixels=tile.pixels,
            bytes=tile.bytes,
        )

    def skip(self, scene: str, tiles: int) -> None:
        if tiles:
            self._events.tell("skip", scene=scene, tiles=tiles)

    def retry(self, scene: str, reason: str, pause: float, number: int, most: int) -> None:
        self._events.tell(
            "retry", "warning", scene=scene, message=reason, pause=pause, retry=number, retries=most
        )

    def end(self, outcome: Outcome, line: str) -> None:
        with self._lock:
            self._phases.pop(outcome.scene, None)
        self._events.tell(
            "end",
            "info" if outcome.status in GOOD else "error",
            scene=outcome.scene,
            status=outcome.status,
            message=outcome.reason or line,
            seconds=outcome.seconds,
            tiles=outcome.tiles,
            fused=outcome.fused,
            bytes=outcome.bytes,
            store=outcome.store,
            traceback=outcome.traceback,
        )

    def warn(self, scene: str | None, warning: str) -> None:
        """Each of a scene; what is said of the run as a whole, by many workers perhaps, once."""
        with self._lock:
            told = scene is None and not self._kinds.is_new("", warning)
        if not told:
            self._events.tell("warning", "warning", scene=scene, message=warning)

    def note(self, line: str) -> None:
        self._events.tell("note", message=line)

    def unmatched(self, path: str, reason: str) -> None:
        """A file that belongs to no scene."""
        self._events.tell("unmatched", path=path, message=reason)

    def finished(self, report: Report) -> None:
        """The sum of the run, as the last event."""
        for warning in report.warnings:
            self.warn(None, warning)
        statuses = [outcome.status for outcome in report.outcomes]
        self._events.tell(
            "finished",
            "error" if report.exit_code else "info",
            complete=statuses.count("complete"),
            kept=statuses.count("kept"),
            failed=statuses.count("failed"),
            interrupted=statuses.count("interrupted"),
            not_started=statuses.count("not started"),
            seconds=round(report.seconds, 3),
            fused=sum(outcome.fused for outcome in report.outcomes),
            bytes=sum(outcome.bytes for outcome in report.outcomes),
            report=report.path,
            exit_code=report.exit_code,
        )
