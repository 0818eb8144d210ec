from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from batchfuse.fusion.windowed import _parts as inner_windows
from batchfuse.geometry.grid import Grid
from batchfuse.geometry.tiling import Tiling
from batchfuse.geometry.window import Window

SHAPES = st.tuples(st.integers(1, 90), st.integers(1, 90))


@given(SHAPES, st.integers(1, 40), st.integers(0, 15))
def test_cores_cover_each_pixel_once_and_windows_hold_their_halo(
    shape: tuple[int, int], size: int, halo: int
) -> None:
    tiling = Tiling(shape, size, halo)
    seen = np.zeros(shape, int)
    for tile in tiling:
        seen[tile.core.slices] += 1
        assert tiling[tile.index] == tile
        for axis in range(2):
            assert tile.window.start[axis] == max(0, tile.core.start[axis] - halo)
            assert tile.window.stop[axis] == min(shape[axis], tile.core.stop[axis] + halo)
    assert (seen == 1).all()
    assert len(list(tiling)) == len(tiling)


@given(SHAPES, st.data())
def test_the_intersection_of_windows_is_that_of_their_pixels(
    shape: tuple[int, int], data: st.DataObject
) -> None:
    def window() -> Window:
        corners = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
        return Window(tuple(c[0] for c in corners), tuple(c[1] for c in corners))

    a, b = window(), window()
    both = np.zeros(shape, int)
    both[a.slices] += 1
    both[b.slices] += 1
    common = a.intersection(b)
    assert (both == 2).sum() == (common.size if common else 0)
    if common:
        assert (both[common.slices] == 2).all()
        inner = common.relative_to(a)
        assert (both[a.slices][inner.slices] == 2).all()


@st.composite
def windows_of_one_array(draw: st.DrawFn, many: int) -> tuple[tuple[int, ...], list[Window]]:
    """The shape of an array of two or three axes, and windows of it, empty ones too."""
    shape = draw(st.lists(st.integers(1, 12), min_size=2, max_size=3).map(tuple))
    ends = [st.tuples(st.integers(0, n), st.integers(0, n)).map(sorted) for n in shape]
    drawn = [[draw(axis) for axis in ends] for _ in range(many)]
    return shape, [Window(tuple(a for a, _ in one), tuple(b for _, b in one)) for one in drawn]


@given(windows_of_one_array(3))
def test_intersections_keep_the_laws_of_sets(case: tuple[tuple[int, ...], list[Window]]) -> None:
    shape, (a, b, c) = case

    def common(*windows: Window | None) -> Window | None:
        found = windows[0]
        for window in windows[1:]:
            found = found and window and found.intersection(window)
        return found

    assert common(a, b) == common(b, a)
    assert common(common(a, b), c) == common(a, common(b, c))
    assert common(a, a) == (a if a.size else None)
    assert common(a, Window.whole(shape)) == (a if a.size else None)
    if both := common(a, b):
        assert both.intersection(a) == both.intersection(b) == both
        # the same wherever it is counted from
        assert a.relative_to(c).intersection(b.relative_to(c)) == both.relative_to(c)


@given(windows_of_one_array(2), st.integers(0, 5))
def test_a_window_of_a_window_is_a_window_of_the_array(
    case: tuple[tuple[int, ...], list[Window]], margin: int
) -> None:
    shape, (core, other) = case
    array = np.arange(np.prod(shape)).reshape(shape)
    grown = core.grown(margin, shape)
    assert np.array_equal(array[grown.slices][core.relative_to(grown).slices], array[core.slices])
    assert core.relative_to(core) == Window.whole(core.shape)
    assert core.relative_to(Window.whole(shape)) == core
    assert core.relative_to(other).relative_to(grown.relative_to(other)) == core.relative_to(grown)
    assert core.grown(0, shape) == core
    assert core.grown(margin, shape).grown(2, shape) == core.grown(margin + 2, shape)
    assert grown.intersection(Window.whole(shape)) == (grown if grown.size else None)


@given(
    st.integers(2, 3).flatmap(
        lambda axes: st.tuples(
            *(
                st.lists(st.integers(low, high), min_size=axes, max_size=axes)
                for low, high in ((1, 12), (1, 14), (0, 5))
            )
        )
    )
)
def test_tiles_of_any_axes_cover_all_once_and_differ_only_at_the_far_edge(
    case: tuple[list[int], list[int], list[int]],
) -> None:
    shape, size, halo = (tuple(numbers) for numbers in case)
    tiling = Tiling(shape, size, halo)
    seen = np.zeros(shape, int)
    for tile in tiling:
        seen[tile.core.slices] += 1
        assert tile.window.intersection(tile.core) == tile.core
        for axis, i in enumerate(tile.index):
            core, window = tile.core.shape[axis], tile.window.shape[axis]
            last = i == tiling.counts[axis] - 1
            assert core == size[axis] if not last else 1 <= core <= size[axis]
            if size[axis] >= halo[axis] and 0 < i < tiling.counts[axis] - 2:
                assert window == size[axis] + 2 * halo[axis]  # away from the edges all have one shape
    assert (seen == 1).all()
    assert [tiling[tile.index] for tile in tiling] == list(tiling)


@given(st.tuples(st.integers(0, 50), st.integers(0, 50)), SHAPES, st.integers(1, 40))
def test_inner_windows_cover_a_core_once_and_are_of_nearly_one_shape(
    start: tuple[int, int], shape: tuple[int, int], edge: int
) -> None:
    core = Window(start, (start[0] + shape[0], start[1] + shape[1]))
    parts = list(inner_windows(core, edge))
    seen = np.zeros(core.shape, int)
    for part in parts:
        seen[part.relative_to(core).slices] += 1
    assert (seen == 1).all()
    for axis in range(2):
        lengths = {part.shape[axis] for part in parts}
        assert max(lengths) <= edge
        assert max(lengths) - min(lengths) <= 1


@given(st.tuples(st.integers(1, 30), st.integers(1, 30)), st.floats(0, 360), st.data())
def test_a_cropped_grid_has_its_pixels_where_they_were(
    shape: tuple[int, int], angle: float, data: st.DataObject
) -> None:
    grid = Grid(shape, Affine.translation(500, 900) @ Affine.rotation(angle) @ Affine.scale(10, -10))
    (top, down), (left, right) = (
        sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in shape
    )
    window = Window((top, left), (down, right))
    cropped = grid.cropped(window)
    assert cropped.shape == window.shape
    assert cropped.affine @ (3, 5) == pytest.approx(grid.affine @ (left + 3, top + 5))
    assert cropped.cropped(Window.whole(cropped.shape)) == cropped


def test_a_backward_window_is_a_bug() -> None:
    with pytest.raises(ValueError, match="before start"):
        Window((5, 0), (4, 9))


def test_a_tile_outside_the_tiling_is_a_bug() -> None:
    with pytest.raises(IndexError):
        Tiling((10, 10), 4, 0)[(3, 0)]


@pytest.mark.parametrize("angle", [0, 17, 90, 133, 180])
def test_the_north_up_grid_holds_every_corner_of_the_rotated_one(angle: float) -> None:
    rotated = Grid((40, 70), Affine.translation(500, 900) @ Affine.rotation(angle) @ Affine.scale(10, -10))
    upright = rotated.north_up()
    assert upright.is_axis_aligned
    assert upright.affine.e < 0 < upright.affine.a
    assert upright.spacing_yx == pytest.approx(rotated.spacing_yx)
    left, bottom, right, top = upright.bounds
    for corner in ((0, 0), (70, 0), (0, 40), (70, 40)):
        x, y = rotated.affine @ corner
        assert left - 1e-6 <= x <= right + 1e-6
        assert bottom - 1e-6 <= y <= top + 1e-6


def test_a_grid_without_area_is_a_bug() -> None:
    with pytest.raises(ValueError, match="no area"):
        Grid((10, 10), Affine(0, 0, 0, 0, 1, 0))
