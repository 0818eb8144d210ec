"""Files and folders made to harm: nothing is opened, written or run but what the recipe names."""

from __future__ import annotations

import json
import os
import pickle
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import rasterio
from rasters import photo, write_raster
from shared_data import shared_data
from volumes import write_nifti

import batchfuse
from batchfuse.errors import RecipeError, SourceError, WeightsError
from batchfuse.fusion.weights import load_weights
from batchfuse.geometry.window import Window
from batchfuse.imagery.discovery import discover
from batchfuse.imagery.geotiff import open_source
from batchfuse.imagery.naming import name_fault
from batchfuse.imagery.nifti import is_volume, open_volumes
from batchfuse.imagery.raster_files import read_band
from batchfuse.plan import make_plan
from batchfuse.storage.export import signature_of
from batchfuse.training.photographs import read_photograph


def pair(folder: Path, name: str, size: int = 40) -> None:
    for seed, role in enumerate(("thermal", "optical")):
        write_raster(folder / f"{name}_{role}.tif", (photo((size, size), seed)[0] * 200).astype(np.uint8))


def recipe_of(folder: Path, **settings: Any) -> batchfuse.Recipe:
    inputs = {"thermal": "{scene}_thermal.tif", "optical": "{scene}_optical.tif"}
    return batchfuse.Recipe(inputs=inputs, folder=folder, **settings)


# names and links: nothing is written outside the output folder


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "",
        "../x",
        "a/b",
        "a\\b",
        ".hidden",
        "/etc/x",
        "a\nb",
        "a\0b",
        "x" * 201,
        "é" * 101,
        "a ",
        "a.",
    ],
)
def test_no_such_name_becomes_a_scene(tmp_path: Path, name: str) -> None:
    assert name_fault(name)
    (tmp_path / "m.csv").write_text(f'scene,a,b\n"{name}",a.tif,b.tif\n')
    with pytest.raises(RecipeError):
        discover(tmp_path, {"a": (), "b": ()}, "m.csv")


def test_wildcards_that_make_no_name_are_left_out(tmp_path: Path) -> None:
    for name in ("a..b", "a\\b", "a\nb", "x" * 230, "fine"):
        for role in "to":
            (tmp_path / f"{name}_{role}").touch()
    (tmp_path / "s").mkdir()
    found = discover(tmp_path, {"t": ("{scene}_t",), "o": ("{scene}_o",)})
    assert [scene.name for scene in found.scenes] == ["a..b", "fine"]
    assert all("can't be the name of a scene" in one.reason for one in found.unmatched)


def test_two_scenes_do_not_share_an_output(tmp_path: Path) -> None:
    pair(tmp_path, "a")
    pair(tmp_path, "a.quicklook")
    with pytest.raises(RecipeError, match="would both be written to"):
        make_plan(recipe_of(tmp_path, output={"also": ["png"]}))


def test_a_store_that_is_a_link_is_neither_continued_nor_replaced(tmp_path: Path) -> None:
    pair(tmp_path, "a")
    assert batchfuse.run(recipe_of(tmp_path)).exit_code == 0
    store, elsewhere = tmp_path / "fused/a.zarr", tmp_path / "elsewhere"
    store.rename(elsewhere)
    store.symlink_to(elsewhere)
    before = {path: path.stat().st_mtime_ns for path in elsewhere.rglob("*")}
    for overwrite in (False, True):
        report = batchfuse.run(recipe_of(tmp_path), overwrite=overwrite)
        assert report.exit_code == 1
        assert "is a symbolic link" in str(report.outcomes[0].reason)
    assert {path: path.stat().st_mtime_ns for path in elsewhere.rglob("*")} == before


def test_a_link_within_a_store_is_not_written_through(tmp_path: Path) -> None:
    pair(tmp_path, "a")
    assert batchfuse.run(recipe_of(tmp_path)).exit_code == 0
    inside, elsewhere = tmp_path / "fused/a.zarr/fused", tmp_path / "elsewhere"
    inside.rename(elsewhere)
    inside.symlink_to(elsewhere)
    for chunk in elsewhere.glob("0*"):
        chunk.unlink()
    assert batchfuse.run(recipe_of(tmp_path)).exit_code == 1
    assert not list(elsewhere.glob("0*"))


def test_links_at_the_place_of_an_output_are_replaced_and_not_followed(tmp_path: Path) -> None:
    pair(tmp_path, "a")
    (tmp_path / "fused").mkdir()
    for name in ("report.json", "a.quicklook.png"):
        (tmp_path / name).write_text("mine")
        (tmp_path / "fused" / name).symlink_to(tmp_path / name)
    assert batchfuse.run(recipe_of(tmp_path)).exit_code == 0
    for name in ("report.json", "a.quicklook.png"):
        assert (tmp_path / name).read_text() == "mine"


def test_an_output_folder_and_sources_may_be_links(tmp_path: Path) -> None:
    for name in ("real", "large", "recipe"):
        (tmp_path / name).mkdir()
    pair(tmp_path / "real", "a")
    for path in (tmp_path / "real").iterdir():
        (tmp_path / "recipe" / path.name).symlink_to(path)
    (tmp_path / "recipe/fused").symlink_to(tmp_path / "large")
    assert batchfuse.run(recipe_of(tmp_path / "recipe")).exit_code == 0
    assert (tmp_path / "large/a.zarr").is_dir()


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize("make", [os.mkfifo, make_socket, os.mkdir])
def test_what_is_no_file_is_refused_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("x.tif", "x.nii", "x.hdr", "x.png"):
        make(Path(name))
        with pytest.raises(SourceError, match=r"pipe or a device|is a folder|no file"):
            open_source("a", [Path(name)])
        with pytest.raises(SourceError):
            open_volumes("a", Path(name))
        with pytest.raises(SourceError):
            read_photograph(Path(name))
        assert is_volume(Path(name)) == (name == "x.nii")
        assert signature_of(Path(name)) is None
    with pytest.raises(WeightsError):
        load_weights("x.tif")


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/tty", "/dev/null"])
def test_a_device_is_no_image(name: str) -> None:
    for read in (lambda p: open_source("a", [p]), lambda p: open_volumes("a", p), read_photograph):
        with pytest.raises(SourceError):
            read(Path(name))


# GDAL: few drivers, and nothing is followed


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server that nobody should call."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(0.05)
        yield server
        with pytest.raises(TimeoutError):
            server.accept()


def url_of(server: socket.socket) -> str:
    return f"/vsicurl/http://127.0.0.1:{server.getsockname()[1]}/{os.urandom(4).hex()}.tif"


def vrt_of(source: str) -> str:
    return (
        '<VRTDataset rasterXSize="40" rasterYSize="40"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{source}</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )


def read_all(path: Path) -> None:
    source = open_source("a", [path], every_band=True)
    for band in source.bands:
        read_band(source.files[0], band.number, Window((0, 0), source.place.shape))
        read_band(source.files[0], band.number, Window((0, 0), source.place.shape), mask=True)


@pytest.mark.parametrize("ending", [".vrt", ".tif", ".png", ".xml"])
def test_a_vrt_is_not_followed_whatever_it_is_called(
    tmp_path: Path, listener: socket.socket, ending: str
) -> None:
    path = tmp_path / f"x{ending}"
    for source in (url_of(listener), str(write_raster(tmp_path / "secret.tif", np.ones((40, 40), np.uint8)))):
        path.write_text(vrt_of(source))
        with pytest.raises(SourceError, match="is a GDAL VRT: it leads to other files"):
            read_all(path)


@pytest.mark.parametrize(
    "content",
    [
        b"<GDAL_WMS><Service name='TMS'><ServerUrl>http://127.0.0.1:9/x</ServerUrl></Service></GDAL_WMS>",
        b"<GDALTileIndexDataset><IndexDataset>/etc/passwd</IndexDataset></GDALTileIndexDataset>",
        b"%PDF-1.7\n", b"\x89HDF\r\n\x1a\n" + b"\0" * 100, b"CDF\x01" + b"\0" * 100, b"SQLite format 3\0",
        b"GIF89a", b"RIFF\0\0\0\0AVI ", b"EHFA_HEADER_TAG\0", b"PK\3\4", b"SIMPLE  =", b"ncols 4\nnrows 4\n",
    ],
)  # fmt: skip
def test_other_formats_are_not_opened(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.tif"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"x\.tif is (not an image that can be read|an? .+: )") as caught:
        read_all(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("ending", [".msk", ".ovr", ".msk.ovr", ".ovr.msk"])
def test_an_image_beside_a_file_leads_nowhere(tmp_path: Path, listener: socket.socket, ending: str) -> None:
    path = write_raster(tmp_path / "x.tif", np.ones((40, 40), np.uint8))
    (tmp_path / f"x.tif{ending}").write_text(vrt_of(url_of(listener)))
    with pytest.raises(SourceError, match="is no TIFF file"):
        read_all(path)


def test_an_overview_elsewhere_is_not_opened(tmp_path: Path, listener: socket.socket) -> None:
    path = write_raster(tmp_path / "x.tif", np.ones((40, 40), np.uint8))
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=url_of(listener))
    with pytest.raises(SourceError, match="overview"):
        read_all(path)
    beside = write_raster(tmp_path / "y.tif", np.ones((40, 40), np.uint8))
    (tmp_path / "y.tif.aux.xml").write_text(
        '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">'
        f"{url_of(listener)}</MDI></Metadata></PAMDataset>"
    )
    with pytest.raises(SourceError, match="overview"):
        read_all(beside)


@pytest.mark.parametrize("ending", [".aux.xml", ".msk.aux.xml", ".ovr.aux.xml"])
@pytest.mark.parametrize("key", ["OVERVIEW_FILE", "overview_file", "Overview_File"])
def test_an_overview_that_a_sidecar_names_is_not_opened_in_whatever_case(
    tmp_path: Path, listener: socket.socket, ending: str, key: str
) -> None:
    """GDAL takes the names of metadata items in any case."""
    path = write_raster(tmp_path / "x.tif", np.ones((40, 40), np.uint8))
    for beside in (".msk", ".ovr"):
        write_raster(tmp_path / f"x.tif{beside}", np.full((40, 40), 255, np.uint8))
    read_all(path)
    sidecar = tmp_path / f"x.tif{ending}"
    sidecar.write_text(
        f'<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="{key}">{url_of(listener)}</MDI></Metadata>'
        "</PAMDataset>"
    )
    with pytest.raises(SourceError, match=f"{sidecar.name} names another file as an overview"):
        read_all(path)


def test_a_name_that_gdal_takes_for_more_than_a_path_is_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_raster(tmp_path / "other.tif", np.full((40, 40), 7, np.uint8))
    for name in (
        "GTIFF_DIR:1:other.tif",
        "VRT:other.tif",
        "zip+file:other.tif",
        "DERIVED_SUBDATASET:AMPLITUDE:other.tif",
    ):
        made = write_raster(tmp_path / "made.tif", np.full((40, 40), 3, np.uint8))
        made.rename(tmp_path / name)
        source = open_source("a", [Path(name)])
        assert (read_band(source.files[0], 1, Window((0, 0), (40, 40))) == 3).all()


# sizes


def tiff(width: int, height: int, rows: int, data: bytes, compression: int = 1, bits: int = 8) -> bytes:
    """A TIFF of one band in strips, of which only the first is there."""
    entries = [
        (256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, compression), (262, 3, 1),
        (273, 4, 8 + 2 + 9 * 12 + 4), (277, 3, 1), (278, 4, rows), (279, 4, len(data)),
    ]  # fmt: skip
    body = b"".join(
        struct.pack("<HHI", tag, kind, 1)
        + (struct.pack("<HH", value, 0) if kind == 3 else struct.pack("<I", value))
        for tag, kind, value in entries
    )
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + b"\0\0\0\0" + data


@pytest.mark.parametrize(
    ("width", "height", "rows", "compression"),
    [
        (10**6, 10**6, 10**6, 1), (10**6, 10**6, 1, 1), (10**6, 10**6, 10**6, 8), (10**6, 10**6, 16, 5),
        (2**31 - 1, 2**31 - 1, 1, 8), (2**32 - 1, 1, 1, 1), (40_000, 40_000, 40_000, 8),
    ],
)  # fmt: skip
def test_a_small_file_that_promises_a_huge_image_is_one_line_at_once(
    tmp_path: Path, width: int, height: int, rows: int, compression: int
) -> None:
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(width, height, rows, zlib.compress(b"\0" * 60_000), compression))
    started, before = time.monotonic(), psutil.Process().memory_info().rss
    with pytest.raises(SourceError) as caught:
        read_all(path)
    assert len(str(caught.value).splitlines()) == 1
    assert time.monotonic() - started < 5
    assert psutil.Process().memory_info().rss - before < 2**28


def test_a_block_that_inflates_without_end_stays_within_its_block(tmp_path: Path) -> None:
    bomb = zlib.compress(b"\0" * 300_000_000, 9)
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(64, 64, 64, bomb, 8))
    before = psutil.Process().memory_info().rss
    with suppress(SourceError):
        read_all(path)
    assert psutil.Process().memory_info().rss - before < 2**27


def test_a_png_bomb_is_one_line(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 1)
    path = tmp_path / "x.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 10**7, 9))
        + chunk(b"IEND", b"")
    )
    for read in (read_all, read_photograph):
        with pytest.raises(SourceError) as caught:
            read(path)
        assert len(str(caught.value).splitlines()) == 1


def test_a_photograph_starts_no_program(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(touched) (w) file closefile\n")
    with pytest.raises(SourceError, match="can't be read as a photograph"):
        read_photograph(path)


# weights


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


class Touch:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch touched",)


def described(**about: Any) -> dict[str, Any]:
    config = {"architecture": "res2netfuse", "config": {}, **about}
    return {"__metadata__": {"res2netfuse": json.dumps(config)}}


def tensor(shape: list[int], start: int, stop: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


HALVES = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
WEIGHTS = {
    "nothing": b"",
    "a pickle": pickle.dumps(Touch()),
    "a pickle in disguise": b"\x80\x04" + b"x" * 6 + b"{" + pickle.dumps(Touch()),
    "a huge header": safetensors(b"{}", length=2**62),
    "a long header": safetensors(b"{" + b" " * 10**6 + b"}", length=2**40),
    "a header deep": safetensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "metadata deep": safetensors({"__metadata__": {"res2netfuse": "[" * 100_000}}),
    "no metadata": safetensors(HALVES, b"\0" * 8),
    "cut off": safetensors(HALVES, b"\0" * 3),
    "overlapping": safetensors(
        {**HALVES, "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, b"\0" * 12
    ),
    "10 GB claimed": safetensors({"a": tensor([2_500_000_000], 0, 10**10)}),
    "a shape that overflows": safetensors({"a": tensor([2**40, 2**40], 0, 0)}),
    "a negative shape": safetensors({"a": tensor([-1], 0, 4)}, b"\0" * 4),
    "another type": safetensors({**described(), "a": tensor([1], 0, 1, "X9")}, b"\0"),
    "other tensors": safetensors({**described(), **HALVES}, b"\0" * 8),
    "a config of text": safetensors({**described(config="huge"), **HALVES}, b"\0" * 8),
    "a huge config": safetensors({**described(config={"channels": 10**30}), **HALVES}, b"\0" * 8),
}


@pytest.mark.parametrize("content", WEIGHTS.values(), ids=WEIGHTS)
def test_hostile_weights_are_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.safetensors").write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        load_weights("x.safetensors")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 1000
    assert not Path("touched").exists()


@pytest.mark.parametrize(
    "dtype", ["float8_e4m3fn", "bfloat16", "int64", "bool", "complex64", "nan", "inf", "extra"]
)
def test_weights_of_another_type_or_not_finite_are_refused_in_a_line(tmp_path: Path, dtype: str) -> None:
    import torch
    from safetensors.torch import save_file

    good = load_weights("res2netfuse")
    tensors = {name: tensor.clone() for name, tensor in good.tensors.items()}
    name = next(iter(tensors))
    if dtype in ("nan", "inf"):
        tensors[name].view(-1)[0] = float(dtype)
    elif dtype == "extra":
        tensors["extra"] = torch.zeros(3)
    else:
        tensors[name] = tensors[name].to(getattr(torch, dtype))
    about = {"architecture": "res2netfuse", "config": good.config.to_json(), "made": {}}
    save_file(tensors, tmp_path / "x.safetensors", {"res2netfuse": json.dumps(about)})
    if dtype in ("bfloat16", "float8_e4m3fn"):  # real numbers, and finite
        load_weights(tmp_path / "x.safetensors").network()
        return
    with pytest.raises(WeightsError) as caught:
        load_weights(tmp_path / "x.safetensors").network()
    assert len(str(caught.value).splitlines()) == 1


# network


def test_workers_and_their_scheduler_listen_on_this_machine_only(tmp_path: Path) -> None:
    code = (
        "import psutil, sys\n"
        "from batchfuse.profile import Profile\n"
        "from batchfuse.cluster import Demand\n"
        "from batchfuse.workers import opened_pool\n"
        "if __name__ == '__main__':\n"
        "    with opened_pool(Profile(cluster='processes', workers=2, threads=1), Demand()) as pool:\n"
        "        me = psutil.Process()\n"
        "        for process in [me, *me.children(recursive=True)]:\n"
        "            for c in process.net_connections('inet'):\n"
        "                if c.status == 'LISTEN' or c.type == 2:\n"
        "                    print('listens', c.laddr.ip)\n"
        "        pool.close(at_once=True)\n"
    )
    (tmp_path / "listens.py").write_text(code)
    done = subprocess.run(
        [sys.executable, tmp_path / "listens.py"], capture_output=True, text=True, check=False, timeout=120
    )
    found = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("listens")]
    assert len(found) >= 3, done.stderr
    assert set(found) <= {"127.0.0.1", "::1"}


# everything at once


def test_every_nasty_file_beside_good_scenes_costs_only_itself(tmp_path: Path) -> None:
    nasty = [p for p in sorted(shared_data("geo/nasty").iterdir()) if p.suffix == ".tif"]
    nasty += sorted(p for p in shared_data("nifti/nasty").iterdir() if p.suffix != ".img")
    rows = ["scene,thermal,optical"]
    for i in range(3):
        pair(tmp_path, f"good{i}")
        rows.append(f"good{i},good{i}_thermal.tif,good{i}_optical.tif")
    voxels = (np.random.default_rng(0).random((12, 13, 14)) * 200).astype(np.uint8)
    for role in ("thermal", "optical"):
        write_nifti(tmp_path / f"goodv_{role}.nii", voxels)
    rows.append("goodv,goodv_thermal.nii,goodv_optical.nii")
    made = {"vrt.tif": vrt_of("/etc/passwd").encode(), "huge.tif": tiff(10**6, 10**6, 1, b"")}
    for name, content in made.items():
        (tmp_path / name).write_bytes(content)
        nasty.append(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.tif")
    nasty.append(tmp_path / "pipe.tif")
    rows += [f"{path.name},{path},good0_optical.tif" for path in nasty]
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "recipe.yaml").write_text("inputs: {thermal: {}, optical: {}}\nmanifest: m.csv\n")
    done = subprocess.run(
        [sys.executable, "-m", "batchfuse", "run", tmp_path / "recipe.yaml"],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert "Traceback" not in done.stderr + done.stdout
    assert done.returncode == 1, done.stderr
    outcomes = json.loads((tmp_path / "fused/report.json").read_text())["scenes"]
    of = {outcome["scene"]: outcome for outcome in outcomes}
    assert all(of[name]["status"] == "complete" for name in ("good0", "good1", "good2", "goodv"))
    told = done.stdout + done.stderr
    for path in nasty:
        outcome = of.get(path.name) or next(o for name, o in of.items() if name.startswith(path.name))
        if outcome["status"] == "failed":
            assert len(outcome["reason"].splitlines()) == 1
            assert path.name in told
        else:
            assert outcome["status"] == "complete"
