"""What a store remembers of where its sources came from, and what was understood of them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from rasters import NORTH_UP, UTM32, write_raster
from test_engine import tree

import batchfuse
from batchfuse import job, scene_jobs
from batchfuse.fusion import methods
from batchfuse.geometry.grid import Grid
from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.imagery import files
from batchfuse.imagery.align import align
from batchfuse.imagery.files import identified, sample_of
from batchfuse.imagery.scene import Band, MaskRule, QualityMask, Source, SourceFile
from batchfuse.imagery.understood import place_of, understood
from batchfuse.report.report import Outcome
from batchfuse.storage.store import Store

SHAPE = (40, 32)


@pytest.fixture(autouse=True)
def short_ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small images have a middle, beyond the ends that are always compared."""
    monkeypatch.setattr(files, "ENDS", 1000)
    sample_of.cache_clear()
    yield
    sample_of.cache_clear()


def noise(seed: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 60000, shape).astype(np.uint16)


def other_middle(path: Path) -> None:
    """Other pixels in the middle of a file: name, size and ends stay."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(255 - byte for byte in content[middle : middle + 64])
    path.write_bytes(content)


@pytest.fixture
def nights(tmp_path: Path) -> Path:
    """A scene by day and by night: thermal images of one name, size and ends."""
    write_raster(tmp_path / "day/a.tif", noise(0))
    write_raster(tmp_path / "optical/a.tif", noise(1))
    shutil.copytree(tmp_path / "day", tmp_path / "night")
    other_middle(tmp_path / "night/a.tif")
    assert identified(tmp_path / "day/a.tif").checksum == identified(tmp_path / "night/a.tif").checksum
    return tmp_path


def run(folder: Path, thermal: Any = "day/{scene}.tif", checksum: bool = False, **settings: Any) -> Outcome:
    inputs = {"thermal": thermal, "optical": "optical/{scene}.tif"}
    if "manifest" in settings:
        inputs = {"thermal": {}, "optical": {}}
    recipe = batchfuse.Recipe(
        inputs=settings.pop("inputs", inputs),
        reference="optical",
        fusion={"strategy": "mean"},
        tiles={"size": 256},
        output={"path": "fused"},
        folder=folder,
        **settings,
    )
    (outcome,) = batchfuse.run(recipe, checksum=checksum, retries=0).outcomes
    return outcome


def test_another_folder_with_files_of_the_same_names_sizes_and_ends_is_refused(nights: Path) -> None:
    assert run(nights).status == "complete"
    (nights / "fused/a.zarr/fused/0.0.0").unlink()
    outcome = run(nights, "night/{scene}.tif")
    assert outcome.status == "failed"
    told = "thermal: made from day/a.tif, now night/a.tif, of another content (all bytes compared)"
    assert told in (outcome.reason or "")
    assert run(nights).status == "complete"


def test_a_file_that_was_moved_is_kept_and_the_line_says_what_was_compared(nights: Path) -> None:
    assert run(nights).status == "complete"
    before = tree(nights / "fused/a.zarr")
    (nights / "day").rename(nights / "elsewhere")
    outcome = run(nights, "elsewhere/{scene}.tif")
    assert outcome.status == "kept"
    told = "thermal: made from day/a.tif, now elsewhere/a.tif, of the same content (all bytes compared)"
    assert outcome.reason == told
    assert tree(nights / "fused/a.zarr") == before


def test_another_row_of_a_manifest_is_another_file(nights: Path) -> None:
    def listed(folder: str) -> Path:
        path = nights / folder / "scenes.csv"
        path.write_text("scene,thermal,optical\na,a.tif,../optical/a.tif\n")
        return path

    for folder in ("day", "night"):
        listed(folder)
    assert run(nights, manifest="day/scenes.csv").status == "complete"
    assert run(nights, manifest="day/scenes.csv").status == "kept"
    (nights / "day/scenes.csv").write_text("scene,thermal,optical\na,../night/a.tif,../optical/a.tif\n")
    assert "now day/../night/a.tif, of another content" in (
        run(nights, manifest="day/scenes.csv").reason or ""
    )
    # one row, of a manifest in another folder
    assert "now night/a.tif, of another content" in (run(nights, manifest="night/scenes.csv").reason or "")


def test_a_mask_of_another_folder_is_compared_too(tmp_path: Path) -> None:
    write_raster(tmp_path / "day/a.tif", noise(0))
    write_raster(tmp_path / "optical/a.tif", noise(1))
    write_raster(tmp_path / "one/a.tif", noise(2) % 2)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    other_middle(tmp_path / "two/a.tif")

    def masked(folder: str) -> dict[str, Any]:
        return {"path": "day/{scene}.tif", "mask": f"{folder}/{{scene}}.tif"}

    assert run(tmp_path, masked("one")).status == "complete"
    assert "made from one/a.tif, now two/a.tif, of another content" in (
        run(tmp_path, masked("two")).reason or ""
    )


def test_of_a_large_file_ends_and_samples_are_compared_and_all_with_sums(
    nights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "WHOLE", 1000)
    monkeypatch.setattr(files, "SAMPLE", 64)
    (nights / "copy").mkdir()
    shutil.copy(nights / "day/a.tif", nights / "copy")
    assert run(nights).status == "complete"
    outcome = run(nights, "copy/{scene}.tif")
    assert (outcome.status, "both ends and 256 samples compared" in (outcome.reason or "")) == ("kept", True)
    assert "another content (both ends and 256" in (run(nights, "night/{scene}.tif").reason or "")
    outcome = run(nights, checksum=True)
    assert outcome.status == "kept"
    assert "day/a.tif can't be compared whole, as the store was begun without --checksum" in (
        outcome.reason or ""
    )


def test_samples_cover_both_ends_and_are_spread_over_a_large_file(tmp_path: Path) -> None:
    size = files.WHOLE + 3 * 1024 * 1024
    path = tmp_path / "large"
    path.write_bytes(bytes(size))
    before = sample_of(identified(path))
    assert before[1] is False
    longest = size // files.SAMPLES + files.SAMPLE  # of what may lie between two samples
    for time, place in enumerate((0, files.ENDS - 1, size - 1, size // 2)):
        with path.open("r+b") as stream:
            stream.seek(max(0, place - longest // 2))
            stream.write(bytes([time + 1]) * min(longest, size - max(0, place - longest // 2)))
        os.utime(path, ns=(0, time))
        now = sample_of(identified(path))
        assert now != before
        before = now


UNDERSTOOD: dict[str, tuple[dict[str, Any], str]] = {
    "nodata": ({"nodata": 7}, "thermal.nodata: nothing in the store, 7"),
    "scale": ({"scale": 0.5}, "thermal.scale: 1.0 in the store, 0.5 now"),
    "offset": ({"offset": 3.0}, "thermal.offset: 0.0 in the store, 3.0 now"),
    "affine": ({"transform": NORTH_UP @ Affine.translation(0.5, 0.5)}, "thermal.affine: "),
    "CRS": ({"crs": "EPSG:25832"}, "thermal.crs: EPSG:32632 in the store, EPSG:25832 now"),
}


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_a_sidecar_that_says_otherwise_is_refused_by_what_it_says(tmp_path: Path, name: str) -> None:
    settings, told = UNDERSTOOD[name]
    path = write_raster(tmp_path / "day/a.tif", noise(0))
    write_raster(tmp_path / "optical/a.tif", noise(1))
    assert run(tmp_path).status == "complete"
    sidecar = write_sidecar(path, **settings)
    outcome = run(tmp_path)
    assert outcome.status == "failed"
    assert told in (outcome.reason or "")
    sidecar.unlink()
    assert run(tmp_path).status == "kept"


def write_sidecar(path: Path, **said: Any) -> Path:
    """An .aux.xml that overrides what an image says of itself."""
    words = {"nodata": "NoDataValue", "scale": "Scale", "offset": "Offset"}
    band = "".join(f"<{words[key]}>{said[key]}</{words[key]}>" for key in words if key in said)
    text = f'<PAMRasterBand band="1">{band}</PAMRasterBand>'
    if "transform" in said:
        text += f"<GeoTransform>{', '.join(map(str, said['transform'].to_gdal()))}</GeoTransform>"
    if "crs" in said:
        text += f"<SRS>{said['crs']}</SRS>"
    sidecar = path.with_name(f"{path.name}.aux.xml")
    sidecar.write_text(f"<PAMDataset>{text}</PAMDataset>")
    return sidecar


def test_a_warp_by_another_operation_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_raster(
        tmp_path / "day/a.tif",
        noise(0),
        crs="EPSG:31467",
        transform=Affine(10, 0, 3_500_000, 0, -10, 5_602_000),
    )
    write_raster(tmp_path / "optical/a.tif", noise(1))
    assert run(tmp_path).status == "complete"
    understood = scene_jobs.understood

    def otherwise(*arguments: Any) -> dict[str, Any]:
        found = understood(*arguments)
        if found["warp"]["pipeline"] is not None:
            found["warp"]["pipeline"] = "another datum grid"
        return found

    monkeypatch.setattr(scene_jobs, "understood", otherwise)
    reason = run(tmp_path).reason or ""
    assert "thermal.warp.pipeline: " in reason
    assert "another datum grid now" in reason


@pytest.mark.parametrize("whose", ["batchfuse", "res2netfuse"])
def test_pixels_of_another_version_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    write_raster(tmp_path / "day/a.tif", noise(0))
    write_raster(tmp_path / "optical/a.tif", noise(1))
    assert run(tmp_path).status == "complete"
    if whose == "batchfuse":
        monkeypatch.setattr(scene_jobs, "PIXELS", job.PIXELS + 1)
    else:
        known = methods.method(whose)
        newer = methods.Method(whose, known.fuser, known.strategies, known.default_weights, "", 2)
        monkeypatch.setitem(methods._REGISTERED, whose, newer)
    assert f"pixels.{whose}: 1 in the store, 2 now" in (run(tmp_path).reason or "")


FILE = SourceFile(Path("a.tif"), 1, "0", ((1, 0),))
PLACE = Grid((6, 5), NORTH_UP, UTM32)
BANDS = (Band(0, 1, "one", 1.0, 0.0, None), Band(0, 2, "two", 1.0, 0.0, None))
SOURCE = Source("a", (FILE,), PLACE, "uint16", BANDS)
OF_A_BAND = {"file": 1, "number": 7, "scale": 2.0, "offset": -1.0, "nodata": 9.0}
OF_A_SOURCE = {
    "place": Grid((6, 5), NORTH_UP @ Affine.translation(0.25, 0), UTM32),
    "dtype": "int16",
    "masks": ((0, 1),),
    "alphas": ((0, 2),),
    "quality": QualityMask(FILE, MaskRule(), masked=True, nodata=3.0),
    "palette": ((1, 2, 3, 255),),
    "bits": 4,
    "units": "K",
}
NOT_OF_PIXELS = {"name", "role", "files", "bands", "block", "labels", "warnings", "orientation"}


def test_all_that_a_header_decides_of_pixels_is_remembered_and_of_each_band() -> None:
    known = {field.name for kind in (Band, Source) for field in fields(kind)}
    assert known == OF_A_BAND.keys() | OF_A_SOURCE.keys() | NOT_OF_PIXELS
    alignment = align(PLACE, PLACE)
    found = [understood(SOURCE, alignment)]
    for (key, value), which in product(OF_A_BAND.items(), (0, 1)):
        bands = [replace(band, **{key: value}) if i == which else band for i, band in enumerate(BANDS)]
        found.append(understood(replace(SOURCE, bands=tuple(bands)), alignment))
    found += [understood(replace(SOURCE, **{key: value}), alignment) for key, value in OF_A_SOURCE.items()]
    assert len({json.dumps(one) for one in found}) == len(found)


@pytest.mark.parametrize(("by", "same"), [(1e-6, False), (1e-13, True)])
def test_a_volumes_place_is_remembered_to_nine_digits(by: float, same: bool) -> None:
    """The last ones of a quaternion depend on the processor."""
    affine = np.diag([1.1, 2.2, 3.3, 1.0])
    one, other = (VolumeGrid.of((4, 5, 6), affine * [[f], [1], [1], [1]], True) for f in (1.0, 1 + by))
    assert (place_of(one) == place_of(other)) == same


def test_two_checkouts_write_the_same_record(tmp_path: Path) -> None:
    made: list[dict[str, Any]] = []
    for name in ("one", "two"):
        folder = tmp_path / name / "project"
        write_raster(folder / "day/a.tif", noise(0))
        write_raster(folder.parent / "optical/a.tif", noise(1))
        inputs = {"thermal": "day/{scene}.tif", "optical": "../optical/{scene}.tif"}
        assert run(folder, inputs=inputs).status == "complete"
        made.append(dict(Store.open(folder / "fused/a.zarr").record))
    assert json.dumps(made[0]) == json.dumps(made[1])
    assert [source["files"][0]["path"] for source in made[0]["sources"]] == ["day/a.tif", "../optical/a.tif"]
