"""Tasks of several tiles where tiles are quick."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batchfuse.pace import ENOUGH, MOST, SHARES, Pace


def test_the_first_tasks_take_one_tile_and_slow_tiles_stay_alone() -> None:
    pace = Pace()
    assert pace.size("fuse", 1000, 2) == 1
    pace.learn("fuse", 1, 3.0)
    assert pace.size("fuse", 1000, 2) == 1


def test_quick_tiles_go_together_until_a_task_is_worth_its_cost() -> None:
    pace = Pace()
    pace.learn("fuse", 1, ENOUGH / 10)
    assert pace.size("fuse", 1000, 2) == 10
    quickest = Pace()
    quickest.learn("fuse", 5, 0)
    assert quickest.size("fuse", 100_000, 2) == MOST


def test_the_pace_follows_tiles_that_become_slow() -> None:
    pace = Pace()
    pace.learn("fuse", 1, 0.001)
    for _ in range(30):
        pace.learn("fuse", 1, 1.0)
    assert pace.size("fuse", 1000, 2) == 1


def test_each_phase_has_a_pace_of_its_own() -> None:
    pace = Pace()
    pace.learn("fuse", 1, 3.0)
    assert pace.size("quicklook", 1000, 2) == 1
    pace.learn("quicklook", 1, ENOUGH / 10)
    assert pace.size("quicklook", 1000, 2) == 10
    assert pace.size("fuse", 1000, 2) == 1


@given(
    st.lists(st.integers(), max_size=300),
    st.integers(1, 9),
    st.lists(st.floats(0, 2), min_size=1, max_size=5),
)
def test_groups_hold_each_tile_once_and_leave_work_for_all(
    items: list[int], slots: int, seconds: list[float]
) -> None:
    pace = Pace()
    for spent in seconds:
        pace.learn("fuse", 1, spent)
    groups = [list(group) for group in pace.groups("fuse", items, slots)]
    assert [item for group in groups for item in group] == items
    left = len(items)
    for group in groups:
        assert 1 <= len(group) <= max(1, left // (SHARES * slots), 1)
        left -= len(group)
