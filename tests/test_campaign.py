"""One range for all scenes: against numpy over the concatenated pixels, kept between runs, and mosaicking."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray
from rasters import NORTH_UP, photo, write_raster

import batchfuse
from batchfuse import campaign_passes, retries
from batchfuse.campaign_passes import Found, measured_over
from batchfuse.cluster import Cluster, opened_cluster
from batchfuse.errors import RecipeError, SourceAwayError
from batchfuse.geometry.window import Window
from batchfuse.imagery import aligned
from batchfuse.imagery.scene import Source
from batchfuse.plan import make_plan
from batchfuse.recipe import Profile
from batchfuse.retries import Retries
from batchfuse.storage.beside import CAMPAIGN
from batchfuse.storage.store import Store

INPUTS = {"thermal": "{scene}_thermal.tif", "optical": "{scene}_optical.tif"}
HALO = 12


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with opened_cluster(Profile(threads=3)) as cluster:
        yield cluster


def recipe_of(folder: Path, inputs: dict[str, Any] | None = None, **settings: Any) -> batchfuse.Recipe:
    return batchfuse.Recipe(inputs=inputs or INPUTS, folder=folder, scaling="campaign", **settings)


def once() -> Retries:
    """No further try."""
    return Retries(0, threading.Event(), print)


def measured(cluster: Cluster, recipe: batchfuse.Recipe) -> Found:
    return measured_over(cluster, make_plan(recipe).campaign, lambda *_: None, once())


def write_pair(folder: Path, name: str, thermal: NDArray[Any], optical: NDArray[Any], **options: Any) -> None:
    write_raster(folder / f"{name}_thermal.tif", thermal, **options)
    write_raster(folder / f"{name}_optical.tif", optical, **options)


def write_campaign(folder: Path, names: str = "abc", shape: tuple[int, int] = (60, 70)) -> None:
    """Scenes that differ much in what they show, so that each has a range of its own."""
    for number, name in enumerate(names):
        thermal = np.rint(photo(shape, number)[0] * 900 * (number + 1) + 300).astype(np.uint16)
        optical = (photo(shape, number + 50)[0] * 0.2 + 0.1 * number).astype(np.float32)
        write_pair(folder, name, thermal, optical)


def pixels(folder: Path, role: str) -> NDArray[np.float64]:
    import rasterio

    read = []
    for path in sorted(folder.glob(f"*_{role}.tif")):
        with rasterio.open(path) as dataset:
            scales, offsets = (np.array(v)[:, None, None] for v in (dataset.scales, dataset.offsets))
            physical = dataset.read().astype(np.float64) * scales + offsets
            read.append(physical[dataset.read_masks() > 0])
    return np.concatenate(read)


# --- the ranges


def test_the_range_is_that_of_all_pixels_put_together(tmp_path: Path, cluster: Cluster) -> None:
    write_campaign(tmp_path)
    ranges = measured(cluster, recipe_of(tmp_path)).ranges
    for role in INPUTS:
        every = pixels(tmp_path, role)
        assert ranges[role][0] == every.min()
        assert ranges[role][1] == pytest.approx(np.percentile(every, 99.5), rel=1e-12)


@pytest.mark.parametrize("percentiles", [(2, 98), (0, 100), (33.3, 66.6)])
def test_percentiles_are_exact_for_whole_numbers_and_floats(
    tmp_path: Path, cluster: Cluster, percentiles: tuple[float, float]
) -> None:
    write_campaign(tmp_path)
    inputs = {role: {"path": path, "percentiles": percentiles} for role, path in INPUTS.items()}
    ranges = measured(cluster, recipe_of(tmp_path, inputs)).ranges
    for role in INPUTS:
        wanted = np.percentile(pixels(tmp_path, role), percentiles)
        assert ranges[role] == pytest.approx(wanted, rel=1e-12)


def test_scenes_of_other_scales_and_types_merge_by_their_physical_values(
    tmp_path: Path, cluster: Cluster
) -> None:
    kelvin = [photo((50, 60), seed)[0] * 40 + 270 for seed in range(4)]
    storage = [
        ("uint16", 0.01, 0.0),
        ("int16", 0.01, 273.15),
        ("float32", 1.0, 0.0),
        ("uint16", -0.02, 500.0),
    ]
    for number, (dtype, scale, offset) in enumerate(storage):
        numbers = (kelvin[number] - offset) / scale
        whole = numbers if dtype == "float32" else np.rint(numbers)
        write_raster(tmp_path / f"{number}_optical.tif", np.full((50, 60), number + 1, np.uint8))
        path = tmp_path / f"{number}_thermal.tif"
        write_raster(path, whole.astype(dtype), scale=scale, offset=offset)
    found = measured(cluster, recipe_of(tmp_path)).ranges["thermal"]
    every = pixels(tmp_path, "thermal")
    assert found == pytest.approx((every.min(), np.percentile(every, 99.5)), rel=1e-12)


def test_more_scales_than_memory_should_hold_are_refused(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchfuse.campaign_passes.MOST_UNITS", 2)
    write_campaign(tmp_path)
    for number, path in enumerate(sorted(tmp_path.glob("*_thermal.tif"))):
        write_raster(path, np.full((60, 70), 9 + number, np.uint16), scale=0.1 * (number + 1))
    with pytest.raises(RecipeError, match=r"thermal have more than 2 .*`scale:`"):
        measured(cluster, recipe_of(tmp_path))


def test_the_pixels_are_those_within_each_scene_each_counted_once(tmp_path: Path, cluster: Cluster) -> None:
    write_campaign(tmp_path)
    # the thermal image reaches far beyond the optical one, with other values there
    wide = np.full((200, 210), 60_000, np.uint16)
    wide[40:100, 50:120] = np.rint(photo((60, 70), 9)[0] * 1000 + 1).astype(np.uint16)
    shifted = NORTH_UP @ Affine.translation(-50, -40)
    write_raster(tmp_path / "a_thermal.tif", wide, transform=shifted)
    found = measured(cluster, recipe_of(tmp_path)).ranges["thermal"]
    write_raster(tmp_path / "a_thermal.tif", wide[40:100, 50:120])
    every = pixels(tmp_path, "thermal")
    assert found == pytest.approx((every.min(), np.percentile(every, 99.5)), rel=1e-12)


def test_bytes_keep_the_range_of_their_type_and_no_pixel_is_read(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        write_pair(tmp_path, name, *(np.full((20, 20), 9, np.uint8),) * 2)
    inputs: dict[str, Any] = {**INPUTS, "optical": {"path": INPUTS["optical"], "range": [3, 30]}}
    monkeypatch.setattr(aligned, "read_pixels", None)
    found = measured(cluster, recipe_of(tmp_path, inputs))
    assert found.ranges == {"thermal": (0, 255), "optical": (3, 30)}


def test_large_scenes_are_counted_in_parts_and_few_are_under_way_at_a_time(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_campaign(tmp_path, "abcdefghijklmnopqrst", (40, 50))
    monkeypatch.setattr(aligned, "COUNTED", 300)
    jobs = make_plan(recipe_of(tmp_path)).campaign
    counting = campaign_passes._Counting(jobs, [0])
    under_way: list[int] = []
    counting.run(cluster, lambda *_: under_way.append(len(counting.under_way)), once())
    assert len(under_way) == len(jobs)
    assert max(under_way) <= cluster.slots * 3
    assert sum(job.scene.sources[0].place.shape[0] // 6 for job in jobs) > 100  # so many parts
    (tally,) = counting.pools[0].tallies.values()
    every = pixels(tmp_path, "thermal")
    assert (tally.keys.tolist(), tally.counts.tolist()) == tuple(
        found.tolist() for found in np.unique(every.astype(int), return_counts=True)
    )


# --- runs


def test_neighbours_have_one_range_and_agree_where_they_overlap(tmp_path: Path) -> None:
    thermal = np.rint(photo((150, 220), 1)[0] * 5000 + 1000).astype(np.uint16)
    optical = np.rint(photo((150, 220), 2, bands=3) * 9000 + 500).astype(np.uint16)
    thermal[:, 130:] += 20_000  # the eastern scene shows something else
    optical[:, :, 130:] //= 4
    for name, columns in (("west", slice(0, 140)), ("east", slice(80, 220))):
        place = NORTH_UP @ Affine.translation(columns.start, 0)
        write_pair(tmp_path, name, thermal[:, columns], optical[..., columns], transform=place)
    assert batchfuse.run(recipe_of(tmp_path, tiles={"size": 64})).exit_code == 0
    west, east = (Store.open(tmp_path / f"fused/{name}.zarr") for name in ("west", "east"))
    ranges = [
        [s["scaling"][k] for s in store.record["sources"] for k in ("low", "high")] for store in (west, east)
    ]
    assert ranges[0] == ranges[1]
    span = ranges[0][3] - ranges[0][2]
    one = west.read(Window((0, 80 + HALO), (150, 140 - HALO)))
    other = east.read(Window((0, HALO), (150, 60 - HALO)))
    assert np.abs(one - other).max() <= 1e-6 * span
    # and they don't with a range a scene
    recipe = batchfuse.Recipe(inputs=INPUTS, folder=tmp_path, output={"path": "alone"})
    batchfuse.run(recipe)
    alone = [Store.open(tmp_path / f"alone/{name}.zarr") for name in ("west", "east")]
    one = alone[0].read(Window((0, 80 + HALO), (150, 140 - HALO)))
    other = alone[1].read(Window((0, HALO), (150, 60 - HALO)))
    assert np.abs(one - other).max() > 0.01 * span


def test_a_second_run_keeps_the_ranges_and_the_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_campaign(tmp_path)
    batchfuse.run(recipe_of(tmp_path))
    kept = (tmp_path / "fused" / CAMPAIGN).read_bytes()
    monkeypatch.setattr("batchfuse.campaign.measured_over", None)  # it is not called
    report = batchfuse.run(recipe_of(tmp_path))
    assert [o.status for o in report.outcomes] == ["kept"] * 3
    assert report.warnings == ()
    assert (tmp_path / "fused" / CAMPAIGN).read_bytes() == kept


def test_the_ranges_are_those_of_all_scenes_also_with_only(tmp_path: Path) -> None:
    write_campaign(tmp_path)
    batchfuse.run(recipe_of(tmp_path, output={"path": "one"}), only="a")
    batchfuse.run(recipe_of(tmp_path, output={"path": "all"}))
    one, every = (json.loads((tmp_path / folder / CAMPAIGN).read_text()) for folder in ("one", "all"))
    assert one == every
    assert not (tmp_path / "one/b.zarr").exists()
    records = [Store.open(tmp_path / folder / "a.zarr").record["sources"] for folder in ("one", "all")]
    assert records[0] == records[1]


def test_the_kept_ranges_are_the_same_bytes_whatever_the_threads_and_the_order(tmp_path: Path) -> None:
    write_campaign(tmp_path, "abcdef", (40, 50))
    for threads in (1, 4):
        recipe = recipe_of(tmp_path, output={"path": f"in{threads}"})
        batchfuse.run(recipe, Profile(threads=threads), only="a")
    assert (tmp_path / "in1" / CAMPAIGN).read_bytes() == (tmp_path / "in4" / CAMPAIGN).read_bytes()


def test_tasks_and_what_they_give_back_can_go_to_other_processes(tmp_path: Path) -> None:
    write_campaign(tmp_path, "a")
    jobs = make_plan(recipe_of(tmp_path)).campaign
    counting = campaign_passes._Counting(jobs, [0, 1])
    counting.run(Pickling(), lambda *_: None, once())  # type: ignore[arg-type]
    found = dict(counting.distributions(Pickling(), jobs, lambda *_: None, once()))  # type: ignore[arg-type]
    for index, role in enumerate(INPUTS):
        wanted = np.percentile(pixels(tmp_path, role), 99.5)
        assert found[index].percentile(99.5) == pytest.approx(wanted, rel=1e-12)


class Pickling:
    """Runs tasks here, as another process would get them."""

    def map(self, function: Any, items: Any) -> Iterator[Any]:
        for item in items:
            called, arguments = pickle.loads(pickle.dumps((function, item)))
            yield pickle.loads(pickle.dumps(called(*arguments)))


def test_a_scene_that_comes_later_gets_the_kept_ranges_and_a_warning(tmp_path: Path) -> None:
    write_campaign(tmp_path)
    batchfuse.run(recipe_of(tmp_path))
    ranges = json.loads((tmp_path / "fused" / CAMPAIGN).read_text())["ranges"]
    write_campaign(tmp_path, "abcd")
    report = batchfuse.run(recipe_of(tmp_path))
    assert [o.status for o in report.outcomes] == ["kept", "kept", "kept", "complete"]
    (warning,) = report.warnings
    assert "1 scene (d) of 4 is not counted in" in warning
    assert "--overwrite" in warning
    assert json.loads((tmp_path / "fused/report.json").read_text())["warnings"] == [warning]
    scalings = Store.open(tmp_path / "fused/d.zarr").record["sources"]
    assert [[s["scaling"]["low"], s["scaling"]["high"]] for s in scalings] == list(ranges.values())
    anew = batchfuse.run(recipe_of(tmp_path), overwrite=True)
    assert anew.warnings == ()
    assert json.loads((tmp_path / "fused" / CAMPAIGN).read_text())["ranges"] != ranges


def test_overwriting_one_scene_keeps_the_ranges_of_the_others(tmp_path: Path) -> None:
    write_campaign(tmp_path)
    batchfuse.run(recipe_of(tmp_path))
    kept = (tmp_path / "fused" / CAMPAIGN).read_bytes()
    write_campaign(tmp_path, "abcd")
    assert batchfuse.run(recipe_of(tmp_path), only="a", overwrite=True).exit_code == 0
    assert (tmp_path / "fused" / CAMPAIGN).read_bytes() == kept
    assert [o.status for o in batchfuse.run(recipe_of(tmp_path), only="[bc]").outcomes] == ["kept"] * 2


def test_a_changed_input_is_warned_about_and_only_its_own_store_refused(tmp_path: Path) -> None:
    write_campaign(tmp_path)
    batchfuse.run(recipe_of(tmp_path))
    write_raster(tmp_path / "b_thermal.tif", np.rint(photo((60, 70), 77)[0] * 99 + 1).astype(np.uint16))
    report = batchfuse.run(recipe_of(tmp_path))
    assert [o.status for o in report.outcomes] == ["kept", "failed", "kept"]
    assert any("1 scene (b) has changed since" in warning for warning in report.warnings)


def test_a_store_of_other_ranges_is_refused_with_both_named(tmp_path: Path) -> None:
    write_campaign(tmp_path)
    batchfuse.run(recipe_of(tmp_path))
    path = tmp_path / "fused" / CAMPAIGN
    stored = json.loads(path.read_text())
    low, high = stored["ranges"]["thermal"]
    stored["ranges"]["thermal"] = [low, high + 7]
    path.write_text(json.dumps(stored))
    reason = batchfuse.run(recipe_of(tmp_path)).outcomes[0].reason or ""
    assert f"scaling of thermal: {low:.10g} to {high:.10g} in the store" in reason
    assert f"{low:.10g} to {high + 7:.10g} over the campaign" in reason


def test_ranges_measured_with_other_settings_are_refused_before_anything_starts(tmp_path: Path) -> None:
    write_campaign(tmp_path)
    batchfuse.run(recipe_of(tmp_path))
    inputs: dict[str, Any] = {**INPUTS, "thermal": {"path": INPUTS["thermal"], "percentiles": [1, 99]}}
    with pytest.raises(RecipeError, match=r"was measured otherwise \(inputs.thermal.percentiles"):
        batchfuse.run(recipe_of(tmp_path, inputs))
    assert batchfuse.run(recipe_of(tmp_path, inputs), overwrite=True).exit_code == 0


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"format": 1, "ranges": {"thermal": 3}}'])
def test_a_file_that_holds_no_ranges_stays_and_the_ranges_are_kept_beside_it(
    tmp_path: Path, content: bytes
) -> None:
    write_campaign(tmp_path)
    (tmp_path / "fused").mkdir()
    (tmp_path / "fused" / CAMPAIGN).write_bytes(content)
    report = batchfuse.run(recipe_of(tmp_path))
    assert report.exit_code == 0
    assert any("campaign.json holds no campaign of batchfuse (" in warning for warning in report.warnings)
    assert (tmp_path / "fused" / CAMPAIGN).read_bytes() == content
    kept = (tmp_path / "fused/campaign-1.json").read_bytes()
    assert batchfuse.run(recipe_of(tmp_path)).exit_code == 0
    assert (tmp_path / "fused/campaign-1.json").read_bytes() == kept
    batchfuse.run(recipe_of(tmp_path), overwrite=True)
    assert sorted(path.name for path in (tmp_path / "fused").glob("campaign*")) == [
        "campaign-1.json",
        "campaign.json",
    ]


def test_ranges_of_a_later_version_are_refused(tmp_path: Path) -> None:
    write_campaign(tmp_path)
    batchfuse.run(recipe_of(tmp_path))
    path = tmp_path / "fused" / CAMPAIGN
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99, "ranges": "other"}))
    with pytest.raises(RecipeError, match=r"campaign.json has format 99, not 1: update batchfuse"):
        batchfuse.run(recipe_of(tmp_path))


def test_a_scene_that_cannot_be_read_fails_alone_and_counts_in_no_range(tmp_path: Path) -> None:
    write_campaign(tmp_path, "ab")
    wanted = [pixels(tmp_path, role) for role in INPUTS]
    noise = np.random.default_rng(0).integers(0, 60_000, (60, 70)).astype(np.uint16)
    write_pair(tmp_path, "c", noise, noise.astype(np.float32), compress="deflate", blockysize=8)
    damaged = bytearray((tmp_path / "c_thermal.tif").read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 400] = bytes(400)
    (tmp_path / "c_thermal.tif").write_bytes(damaged)
    write_pair(tmp_path, "d", np.zeros((60, 70), np.uint16), np.ones((60, 70), np.float32), nodata=0)
    report = batchfuse.run(recipe_of(tmp_path))
    assert [o.status for o in report.outcomes] == ["complete", "complete", "failed", "failed"]
    assert "c_thermal.tif can't be read" in (report.outcomes[2].reason or "")
    assert "d_thermal.tif has no valid pixel" in (report.outcomes[3].reason or "")
    assert any("2 scenes (c, d) could not be read" in warning for warning in report.warnings)
    stored = json.loads((tmp_path / "fused" / CAMPAIGN).read_text())
    assert list(stored["scenes"]) == ["a", "b"]
    for role, every in zip(INPUTS, wanted, strict=True):
        low, high = stored["ranges"][role]
        assert (low, high) == pytest.approx((every.min(), np.percentile(every, 99.5)), rel=1e-12)


def test_a_run_that_ends_at_a_scene_that_cannot_be_read_keeps_no_ranges_without_it(tmp_path: Path) -> None:
    write_campaign(tmp_path, "ab")
    whole = (tmp_path / "b_thermal.tif").read_bytes()
    (tmp_path / "b_thermal.tif").write_bytes(whole[: len(whole) // 2])
    recipe = recipe_of(tmp_path, on_error="fail")
    assert batchfuse.run(recipe).exit_code == 1
    assert not (tmp_path / "fused/campaign.json").exists()
    (tmp_path / "b_thermal.tif").write_bytes(whole)
    report = batchfuse.run(recipe)
    assert (report.exit_code, report.warnings) == (0, ())
    assert list(json.loads((tmp_path / "fused" / CAMPAIGN).read_text())["scenes"]) == ["a", "b"]


@pytest.mark.parametrize("strategy", ["mean", "detail"])
def test_a_strategy_with_a_survey_is_said_not_to_mosaic(tmp_path: Path, strategy: str) -> None:
    write_campaign(tmp_path, "a", (30, 30))
    (line,) = batchfuse.run(recipe_of(tmp_path, fusion={"strategy": strategy})).warnings
    assert f"the strategy {strategy} still looks at each scene on its own" in line
    assert line.endswith(": l1 and average mosaic")


def test_a_run_stopped_while_it_measures_leaves_no_ranges_and_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_campaign(tmp_path)

    def stopped(*_: Any) -> None:
        assert threading.current_thread() is threading.main_thread()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("batchfuse.campaign.measured_over", stopped)
        report = batchfuse.run(recipe_of(tmp_path))
    assert report.exit_code == 130
    assert [o.status for o in report.outcomes] == ["not started"] * 3
    assert not (tmp_path / "fused" / CAMPAIGN).exists()
    assert batchfuse.run(recipe_of(tmp_path)).exit_code == 0


@pytest.mark.parametrize("function", ["tally_window", "refine_window"])
def test_a_scene_that_cannot_be_read_for_a_moment_is_measured_again(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    write_campaign(tmp_path)
    wanted = measured(cluster, recipe_of(tmp_path))
    read, failures = getattr(campaign_passes, function), []

    def failing(source: Source, *rest: Any) -> Any:
        if source.files[0].path.name.startswith("b_") and len(failures) < 2:
            failures.append(None)
            raise SourceAwayError("b_thermal.tif can't be read: Input/output error")
        return read(source, *rest)

    monkeypatch.setattr(campaign_passes, function, failing)
    monkeypatch.setattr(retries, "PAUSE", 0.01)
    notes: list[str] = []
    jobs = make_plan(recipe_of(tmp_path)).campaign
    found = measured_over(
        cluster,
        jobs,
        lambda *_: None,
        Retries(3, threading.Event(), lambda *told: notes.append(f"{told[0]}: {told[1]}")),
    )
    assert found == wanted
    assert len(failures) == 2
    assert 1 <= len(notes) <= 2
    assert "Input/output error" in notes[0]
    failures.clear()
    found = measured_over(cluster, jobs, lambda *_: None, once())
    assert list(found.unreadable) == ["b"]
    others = [job for job in jobs if job.scene.name != "b"]
    assert found.ranges == measured_over(cluster, others, lambda *_: None, once()).ranges
