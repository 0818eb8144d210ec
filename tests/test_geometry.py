from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

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
