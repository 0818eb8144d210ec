"""The picture of a training, and the words that tell how far it is."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from batchfuse.report.iterations import IterationLines, Iterations
from batchfuse.report.losses import COLOURS, Curve, write_losses
from batchfuse.terminal import LineBar


def drawn(path: Path, *values: np.ndarray) -> np.ndarray:
    write_losses(tuple(Curve(f"curve {i}", v) for i, v in enumerate(values)), "a title", path)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def places(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Rows and columns within the axes that have about a colour."""
    near = np.abs(image - colour).max(2) < 60
    near[:84], near[502:], near[:, :86] = False, False, False
    return np.argwhere(near)


def test_a_curve_that_falls_falls_in_the_picture(tmp_path: Path) -> None:
    falling = np.geomspace(1, 1e-4, 400)
    image = drawn(tmp_path / "w-loss.png", falling, 0.5 * falling, 1e-2 * falling)
    for colour in COLOURS:
        rows, columns = places(image, colour).T
        middle = [rows[columns == x].mean() for x in (120, 300, 500, 700, 850)]
        steps = np.diff(middle) / np.diff([120, 300, 500, 700, 850])
        assert (steps > 0).all()
        assert np.ptp(steps) < 0.1 * steps.mean()  # straight on a logarithmic axis
    assert [p.name for p in tmp_path.iterdir()] == ["w-loss.png"]


def test_the_thick_line_is_the_mean_of_the_thin_one(tmp_path: Path) -> None:
    noisy = 10 ** np.random.default_rng(0).normal(-2, 0.3, 4000)
    rows, _ = places(drawn(tmp_path / "a.png", noisy), COLOURS[0]).T
    assert np.ptp(rows) < 60


@pytest.mark.parametrize(
    "values", [[0.5], [0.5, 0.5], [0.0, 1.0, 0.0], [3e-9] * 5, list(np.linspace(1, 2, 60)), [1e30, 1e-30]]
)
def test_any_losses_can_be_drawn(tmp_path: Path, values: list[float]) -> None:
    image = drawn(tmp_path / "a.png", np.array(values))
    assert len(places(image, COLOURS[0]))


def test_very_many_iterations_are_drawn_in_no_time(tmp_path: Path) -> None:
    values = np.geomspace(1, 1e-3, 1_000_003)
    values[500_000] = 10  # shows, though its neighbours are left out
    image = drawn(tmp_path / "a.png", values)
    pale = np.abs(image - [184, 184, 184]).max(2) < 60
    assert pale[100:140, 430:500].any()


def test_the_time_left_counts_from_where_a_training_goes_on() -> None:
    now = [0.0]
    iterations = Iterations(1000, clock=lambda: now[0])
    assert (str(iterations), iterations.share) == ("starting", 0)
    now[0] = 50  # of loading
    iterations.tell(900, 0.01, 40.04)
    assert str(iterations) == "iteration 900 of 1000: loss 0.010000, 40.0 dB"
    now[0] = 60
    iterations.tell(950, 0.005, 43)
    assert (iterations.share, iterations.seconds_left) == (0.95, 10)
    assert str(iterations) == "iteration 950 of 1000: loss 0.005000, 43.0 dB, about 10 s left"


def test_a_log_has_twenty_lines() -> None:
    stream = io.StringIO()
    lines = IterationLines(Iterations(2000), stream)
    for number in range(1, 2001):
        lines.tell(number, 0.1, 30.0)
    told = stream.getvalue().splitlines()
    assert len(told) == 20
    assert told[0].startswith("iteration 100 of 2000: loss 0.1")
    assert told[-1] == "iteration 2000 of 2000: loss 0.100000, 30.0 dB"


def test_a_terminal_has_one_line_with_a_bar() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    iterations = Iterations(20)
    iterations.tell(5, 0.1, 30.0)
    with console.capture() as capture:
        console.print(LineBar(iterations, console))
    (line,) = capture.get().splitlines()
    assert line.rstrip().endswith("iteration 5 of 20: loss 0.100000, 30.0 dB")
    assert "━" in line
