from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchfuse.report.account import Account
from batchfuse.report.alike import Kinds, alike
from batchfuse.report.progress import FusedTile, Lines, Silence, duration, shortened
from batchfuse.report.report import Outcome

MEGA = 1_000_000


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds


def fused(pixels: int, index: tuple[int, ...] = (0, 1), name: str | None = None) -> FusedTile:
    return FusedTile(index, pixels, 144_000, "node7:4321", name, 1_700_000_000.25, 0.1234567)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@given(st.text(min_size=1), st.integers(1, 30))
def test_a_shortened_name_fits_and_keeps_both_its_ends(name: str, width: int) -> None:
    short = shortened(name, width)
    assert len(short) <= max(width, 1)
    assert short == name if len(name) <= width else "…" in short
    if len(name) > width >= 5:
        assert (short[:2], short[-2:]) == (name[:2], name[-2:])


# --- the books ----------------------------------------------------------------------------------


def test_the_time_left_is_of_pixels_and_not_of_tiles() -> None:
    clock = Clock()
    account = Account({"small": (9, 9 * MEGA), "large": (10, 90 * MEGA)}, clock)
    account.begin(2, 19)
    account.skip("small", 0)
    for _ in range(9):
        clock.passes(1)
        account.tile("small", MEGA)
    account.end("small")
    assert account.rate == pytest.approx(MEGA)
    assert account.seconds_left == pytest.approx(90)  # ten tiles only, but ninety megapixels
    assert account.share == pytest.approx(9 / 99)


def test_neither_the_statistics_before_nor_tiles_of_an_earlier_run_spoil_the_rate() -> None:
    clock = Clock()
    account = Account({"a": (100, 100 * MEGA), "kept": (1000, 1000 * MEGA)}, clock)
    account.begin(2, 1100)
    account.skip("kept", 1000)
    account.end("kept")
    account.phase("a", "statistics", 1, 2)
    clock.passes(500)
    account.phase("a", "statistics", 2, 2)
    account.skip("a", 60)
    for _ in range(20):
        clock.passes(2)
        account.tile("a", MEGA)
    assert account.rate == pytest.approx(MEGA / 2)
    assert account.seconds_left == pytest.approx(20 * 2)
    assert (account.tiles_done, account.under_way["a"].done) == (1080, 80)


def test_no_time_is_promised_before_anything_is_known_and_none_after_the_last_tile() -> None:
    clock = Clock()
    account = Account({"a": (2, 2 * MEGA)}, clock)
    account.begin(1, 2)
    assert (account.rate, account.seconds_left, account.share) == (None, None, 0.0)
    account.skip("a", 0)
    clock.passes(0.1)
    account.tile("a", MEGA)
    assert account.seconds_left is None  # a tenth of a second says nothing
    clock.passes(9.9)
    assert account.seconds_left == pytest.approx(10)
    account.tile("a", MEGA)
    assert (account.seconds_left, account.share) == (None, 1.0)


def test_without_sizes_every_tile_counts_the_same() -> None:
    clock = Clock()
    account = Account({}, clock)
    account.begin(2, 10)
    account.skip("a", 4)
    clock.passes(6)
    account.tile("a", 5)
    account.tile("b", 500)
    assert account.seconds_left == pytest.approx(4 * 3)
    assert account.share == pytest.approx(0.6)


def test_a_scene_that_fails_leaves_no_trace_among_those_under_way() -> None:
    account = Account({"a": (4, 4), "b": (4, 4)}, Clock())
    account.begin(2, 8)
    account.tile("a", 1)
    account.skip("a", 3)
    account.end("a")
    account.phase("b", "survey", 1, 4)
    assert list(account.under_way) == ["b"]
    assert (account.tiles_done, account.ended) == (4, 1)


# --- a log --------------------------------------------------------------------------------------


def test_a_log_gets_plain_lines_with_tiles_speed_time_left_and_what_is_under_way() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = Lines(stream, every=0, sizes={"a": (4, 4 * MEGA), "b": (2, 2 * MEGA)}, clock=clock)
    lines.begin(2, 6)
    lines.phase("a", "statistics", 1, 2)
    lines.skip("b", 2)
    lines.skip("a", 0)
    clock.passes(4)
    lines.tile("a", fused(MEGA))
    lines.note("stopping")
    lines.end(Outcome("a", "complete"), "complete")
    lines.warn("a", "a.tif is constant")
    assert stream.getvalue().splitlines() == [
        "2 scenes, 6 tiles",
        "0/6 tiles (a: statistics 1/2)",
        "3/6 tiles, 0.25 Mpixel/s, about 12 s left (a: fusing 1/4)",
        "stopping",
        "[1/2] a: complete",
        "warning: a: a.tif is constant",
    ]


def test_a_log_is_not_flooded_by_many_scenes_at_once() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = Lines(stream, every=10, clock=clock)
    lines.begin(50, 50_000)
    for _ in range(800):
        clock.passes(0.125)
        for scene in range(50):
            lines.tile(f"s{scene}", fused(10))
            lines.warn(f"s{scene}", f"dir/s{scene}_B10.TIF: {scene}.5% of the valid pixels are lone")
    said = stream.getvalue().splitlines()
    assert len(said) == 1 + 1 + 10  # the beginning, one warning, a line every ten seconds
    assert said[-1].endswith("(s0: fusing 800, s1: fusing 799, s2: fusing 799, and 47 more)")
    assert re.fullmatch(r"[\x20-\x7e\n]*", stream.getvalue())


def test_a_log_of_many_words_has_a_line_a_tile_and_says_what_is_tried_again() -> None:
    stream = io.StringIO()
    lines = Lines(stream, every=1e9, tiles=True)
    lines.begin(1, 2)
    lines.tile("a", fused(10))
    lines.retry("a", "a.tif can't be read", 2.0, 1, 2)
    lines.tile("a", fused(10, (0, 2, 1), "cluster-3"))
    lines.warn(None, "the machine has less memory")
    assert stream.getvalue().splitlines()[1:] == [
        "a: tile (0, 1) fused in 0.123 s by node7:4321, 144 kB",
        "a: a.tif can't be read; tried again in 2 s (1 of 2)",
        "a: tile (0, 2, 1) fused in 0.123 s by node7:4321 (cluster-3), 144 kB",
        "warning: the machine has less memory",
    ]


def test_silence_takes_every_call_and_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    silence = Silence()
    silence.begin(1, 1)
    silence.phase("a", "statistics", 1, 1)
    silence.skip("a", 0)
    silence.tile("a", fused(1))
    silence.retry("a", "away", 2.0, 1, 2)
    silence.end(Outcome("a", "complete"), "complete")
    silence.warn("a", "odd")
    silence.note("stopping")
    assert capsys.readouterr() == ("", "")


# --- sentences that are alike -------------------------------------------------------------------


def test_what_many_scenes_have_is_told_once_with_their_number() -> None:
    told = [
        ("LC08_1", "thermal: 30 m pixels instead of 10 m"),
        ("LC08_2", "thermal: 30 m pixels instead of 10 m"),
        ("LC08_2", "my scenes/LC08_2_B10.TIF: 3.5% of the valid pixels have the lone value -9999"),
        ("LC08_3", "my scenes/LC08_3_B10.TIF: 17% of the valid pixels have the lone value -9999"),
        ("LC08_3", "scenes/LC08_3_B4.TIF is constant (7): it has nothing to show"),
    ]
    assert [str(group) for group in alike(told)] == [
        "2 scenes, such as LC08_1: thermal: 30 m pixels instead of 10 m",
        "2 scenes, such as LC08_2: my scenes/LC08_2_B10.TIF: "
        "3.5% of the valid pixels have the lone value -9999",
        "LC08_3: scenes/LC08_3_B4.TIF is constant (7): it has nothing to show",
    ]


def test_a_kind_is_new_once() -> None:
    kinds = Kinds()
    assert [kinds.is_new(s, f"{s}.tif is constant ({s})") for s in ("1", "2")] == [True, False]
    assert kinds.is_new("3", "covers 3 % of the reference")
