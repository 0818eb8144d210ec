from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from batchfuse.imagery.distribution import Column, Distribution, Unit
from batchfuse.imagery.tally import Tally, is_counted, key_of, refined, tallied, values_of

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(FLOATS, min_size=2, max_size=50))
def test_keys_sort_as_the_floats_do_and_lead_back_to_them(values: list[float]) -> None:
    floats = np.array(values, np.float32) + np.float32(0)
    keys = key_of(floats)
    assert (np.sort(floats) == floats[np.argsort(keys, kind="stable")]).all()
    assert values_of(keys.astype(np.int64)).tolist() == floats.tolist()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_counting_small_integers_is_exact(dtype: str) -> None:
    rng = np.random.default_rng(1)
    info = np.iinfo(dtype)
    values = rng.integers(info.min, info.max, (70, 90), dtype=dtype, endpoint=True)
    valid = rng.random(values.shape) > 0.2
    tally = tallied(values, valid)
    keys, counts = np.unique(values[valid], return_counts=True)
    assert tally.keys.tolist() == keys.tolist()
    assert tally.counts.tolist() == counts.tolist()
    assert (tally.low, tally.high) == (keys[0], keys[-1])
    assert tally.pixels == values.size


@given(
    arrays.arrays(np.float32, (40,), elements=FLOATS),
    st.lists(st.integers(0, 40), min_size=2, max_size=2),
)
def test_a_tally_of_parts_merges_to_the_tally_of_the_whole(values: Any, cuts: list[int]) -> None:
    valid = np.ones(values.shape, bool)
    a, b = sorted(cuts)
    parts = [tallied(values[s], valid[s]) for s in (slice(0, a), slice(a, b), slice(b, None))]
    whole = tallied(values, valid)
    for order in ((0, 1, 2), (2, 0, 1)):
        merged = Tally.merged(parts[i] for i in order)
        assert merged.keys.tolist() == whole.keys.tolist()
        assert merged.counts.tolist() == whole.counts.tolist()
        assert (merged.low, merged.high) == (whole.low, whole.high)
        assert (merged.at_low, merged.at_high) == (whole.at_low, whole.at_high)


def test_the_second_pass_unfolds_a_bin_to_its_exact_values() -> None:
    values = np.random.default_rng(2).normal(300, 0.01, 5000).astype(np.float32)
    valid = np.ones(values.shape, bool)
    tally = tallied(values, valid)
    upper = int(tally.keys[tally.counts.argmax()])
    inner = refined(values, valid, [upper])[upper]
    found = values_of((upper << 16) | inner.keys)
    within = np.unique(values[(key_of(values) >> 16) == upper])
    assert found.tolist() == within.tolist()


def test_a_lone_huge_value_does_not_spoil_the_tally() -> None:
    values = np.append(np.linspace(0, 1, 1000), 3e38)
    tally = tallied(values, np.ones(values.shape, bool))
    assert tally.high == pytest.approx(3e38)
    assert tally.valid == 1001
    assert tally.keys.size > 100


DTYPES = ["uint8", "int16", "uint32", "float32", "float64"]


@st.composite
def parted(draw: st.DrawFn) -> tuple[Any, Any, list[Any]]:
    """Pixels of any type with some invalid, and indices of parts that hold each once, in any order."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    if dtype.kind == "f":
        # close together and far apart: several values in one bin of the first pass, and several bins
        few = st.sampled_from([0.0, -0.0, 1.0, 1.0000001, -2.5, 3e38, 1e-40]) | st.floats(-100, 100, width=32)
    else:
        few = st.integers(max(-300, np.iinfo(dtype).min), min(70_000, np.iinfo(dtype).max))
    values = np.array(draw(st.lists(few, min_size=1, max_size=60)), dtype)
    valid = np.array(draw(st.lists(st.booleans(), min_size=values.size, max_size=values.size)))
    order = np.array(draw(st.permutations(range(values.size))))
    cuts = sorted(draw(st.lists(st.integers(0, values.size), max_size=4)))
    return values, valid, np.split(order, cuts)


def described(tally: Tally) -> tuple[Any, ...]:
    ends = tally.pixels, tally.low, tally.high, tally.at_low, tally.at_high
    return (tally.keys.tolist(), tally.counts.tolist(), *ends)


@settings(max_examples=200)
@given(parted())
def test_any_parts_in_any_order_merge_to_the_tally_of_the_whole(case: tuple[Any, Any, list[Any]]) -> None:
    values, valid, parts = case
    whole = tallied(values, valid)
    tallies = [tallied(values[part], valid[part]) for part in parts]
    assert described(Tally.merged(tallies)) == described(whole)
    while len(tallies) > 1:  # as a tree
        tallies = [Tally.merged(tallies[i : i + 2]) for i in range(0, len(tallies), 2)]
    assert described(tallies[0].merge(Tally.empty())) == described(whole)


@settings(max_examples=200)
@given(parted(), st.sampled_from([0, 2, 50, 99.5, 100]))
def test_percentiles_of_any_parts_are_those_of_the_valid_pixels(
    case: tuple[Any, Any, list[Any]], q: float
) -> None:
    values, valid, parts = case
    assume(valid.any())
    unit = Unit(is_counted(values.dtype), 1.0, 0.0)
    tally = Tally.merged(tallied(values[part], valid[part]) for part in parts)
    (bins,) = Distribution([Column(tally, unit)]).bins(None, (q, q))
    refinement: dict[int, Tally] = {}
    for part in parts if bins else []:
        for key, found in refined(values[part], valid[part], bins).items():
            refinement[key] = refinement.get(key, Tally.empty()).merge(found)
    found = Distribution([Column(tally, unit, refinement)])
    assert found.percentile(q) == pytest.approx(
        np.percentile(values[valid].astype(float), q), rel=1e-6, abs=1e-30
    )
    assert found.extremes() == (values[valid].min(), values[valid].max())


@pytest.mark.parametrize("scale", [0.37, -1.9])
@pytest.mark.parametrize("q", [0, 3, 50, 97, 99.5, 100])
def test_percentiles_over_columns_of_several_units_are_those_of_all_values(scale: float, q: float) -> None:
    """Bins of one unit reach across those of another: the percentile may lie in any of them."""
    rng = np.random.default_rng(5)
    parts = [
        (rng.normal(1.0, 0.002, 700).astype(np.float32), 1.0, 0.0),
        ((rng.normal(1.0, 0.003, 500).astype(np.float32) / np.float32(scale)), scale, 0.001),
        (rng.integers(99, 102, 40).astype(np.uint8), 0.01, 0.0),
    ]
    units = [Unit(is_counted(values.dtype), by, plus) for values, by, plus in parts]
    tallies = [tallied(values, np.ones(values.shape, bool)) for values, *_ in parts]
    coarse = Distribution([Column(*pair) for pair in zip(tallies, units, strict=True)])
    columns = []
    for tally, unit, (values, *_), bins in zip(tallies, units, parts, coarse.bins(None, (q, q)), strict=True):
        columns.append(Column(tally, unit, refined(values, np.ones(values.shape, bool), bins)))
    every = np.concatenate([values.astype(float) * by + plus for values, by, plus in parts])
    assert Distribution(columns).percentile(q) == pytest.approx(np.percentile(every, q), rel=1e-12)
