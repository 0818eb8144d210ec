from __future__ import annotations

import io

import pytest

from batchfuse.report.progress import Lines, duration


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_log_gets_plain_lines_with_tiles_speed_and_time_left() -> None:
    stream = io.StringIO()
    lines = Lines(stream, every=0)
    lines.begin(2, 4)
    lines.phase("a", "statistics", 1, 2)
    lines.tile("a", 1_000_000)
    lines.skip("b", 2)
    lines.tile("a", 1_000_000)
    lines.end("a", "complete")
    said = stream.getvalue().splitlines()
    assert said[0] == "2 scenes, 4 tiles"
    assert said[1] == "a: statistics, 1 of 2 parts"
    assert said[2].startswith("1/4 tiles, ")
    assert "Mpixel/s, about" in said[2]
    assert said[3].startswith("4/4 tiles")
    assert said[4] == "[1/2] a: complete"


def test_a_log_is_not_flooded() -> None:
    stream = io.StringIO()
    lines = Lines(stream, every=3600)
    lines.begin(1, 1000)
    for _ in range(1000):
        lines.tile("a", 10)
    assert len(stream.getvalue().splitlines()) == 1
