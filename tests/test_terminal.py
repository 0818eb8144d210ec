"""What a person sees on a terminal while a run goes on."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console
from test_progress import fused

from batchfuse.report.report import Outcome
from batchfuse.terminal import SHOWN, Bar

NAMES = [f"LC09_L2SP_1950{i:02d}_20240615_20240616_02_T1" for i in range(9)]
SIZES = dict.fromkeys(NAMES, (10, 10_000_000))


def console(width: int, encoding: str = "utf-8", height: int = 30) -> Console:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    return Console(file=stream, force_terminal=True, width=width, height=height, color_system=None)


def busy(width: int, **more: object) -> tuple[Bar, Console]:
    """A run of nine scenes, all of them under way."""
    to = console(width, **more)  # type: ignore[arg-type]
    bar = Bar(to, SIZES)
    bar.begin(9, 90)
    for name in NAMES:
        bar.phase(name, "statistics", 1, 4)
    bar.skip(NAMES[0], 2)
    bar.tile(NAMES[0], fused(1_000_000))
    return bar, to


def lines(bar: Bar, to: Console) -> list[str]:
    with to.capture() as capture:
        to.print(bar)
    return capture.get().splitlines()


def printed(to: Console) -> str:
    assert isinstance(to.file, io.TextIOWrapper)
    buffer = to.file.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode(to.file.encoding)


def test_each_scene_under_way_has_a_line_with_its_phase_and_what_does_not_fit_is_counted() -> None:
    shown = lines(*busy(120))
    assert len(shown) == 1 + SHOWN + 1
    assert shown[0].startswith("0 of 9 scenes")
    assert "3/90 tiles" in shown[0]
    assert "Mpixel/s" in shown[0]
    assert NAMES[0] in shown[1]
    assert shown[1].split()[-1] == "3/10"
    assert "fusing" in shown[1]
    assert "statistics" in shown[2]
    assert shown[2].split()[-1] == "1/4"
    assert shown[-1].strip() == "and 3 more"


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_none_wraps(width: int) -> None:
    shown = lines(*busy(width))
    assert len(shown) == 1 + SHOWN + 1
    assert max(map(len, shown)) <= width


def test_long_names_keep_their_ends_where_the_terminal_is_narrow() -> None:
    for line in lines(*busy(50))[1:7]:
        assert line.strip().startswith("LC09")
        assert "02_T1 " in line


def test_a_low_terminal_shows_fewer_scenes() -> None:
    assert len(lines(*busy(80, height=8))) == 1 + 4 + 1


def test_a_terminal_without_unicode_gets_ascii() -> None:
    bar, to = busy(80, encoding="ascii")
    with bar:
        bar.end(Outcome(NAMES[1], "complete"), "complete")
    assert printed(to).isascii()
    assert "..." in printed(to)


def test_what_is_said_once_stands_above_and_the_bars_are_gone_in_the_end() -> None:
    bar, to = busy(100)
    with bar:
        bar.end(Outcome(NAMES[1], "complete"), "complete, 10 of 10 tiles fused in 3 s")
        for name in NAMES:
            bar.warn(name, f"{name}_B10.TIF is constant (7)")
        bar.warn(None, "the report can't be written")
        bar.retry(NAMES[2], "away", 2.0, 1, 2)
        bar.note("stopping: the tiles in hand are finished")
    said = printed(to)
    assert f"[1/9] {NAMES[1]}: complete, 10 of 10 tiles fused in 3 s" in said
    assert said.count("is constant") == 1
    assert "warning: the report can't be written" in said
    assert f"{NAMES[2]}: away; tried again in 2 s (1 of 2)" in said
    assert "stopping: the tiles in hand" in said
    assert said.rstrip().endswith("\x1b[2K")  # the last line that was drawn is erased


def test_the_cursor_is_never_left_hidden() -> None:
    bar, to = busy(100)
    at_work = []

    def interrupted() -> None:
        with bar:
            at_work.append(printed(to))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    for said in (*at_work, printed(to)):
        assert said.rfind("\x1b[?25h") > said.rfind("\x1b[?25l")


def test_threads_may_tell_at_once_while_it_is_drawn() -> None:
    to = console(100)
    with Bar(to, SIZES) as bar:
        bar.begin(9, 90)

        def work(name: str) -> None:
            bar.skip(name, 0)
            for _ in range(10):
                bar.tile(name, fused(1_000_000))
            bar.end(Outcome(name, "complete"), "complete")

        threads = [threading.Thread(target=work, args=(name,)) for name in NAMES]
        for thread in threads:
            thread.start()
        for _ in range(20):
            to.print("between")
        for thread in threads:
            thread.join(timeout=30)
        assert not any(thread.is_alive() for thread in threads)
    assert lines(bar, console(100))[0].startswith("9 of 9 scenes")
    assert "[9/9]" in printed(to)
