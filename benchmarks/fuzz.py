"""Reads thousands of damaged files and recipes, each reader in a process of its own.

    python benchmarks/fuzz.py [--geotiffs 2000] [--photographs 500] [--volumes 2000] [--recipes 10000]
                              [--through-run 50] [--seed 0]

Small valid GeoTIFFs (striped, tiled, compressed, masked, with palettes, of several bands and types), PNG,
JPEG, JPEG 2000, BMP and NIfTI files are damaged: bits flipped, bytes set, pieces cut out, doubled or zeroed,
the end cut off, entries of their headers set to extreme values. Each is opened and all its pixels are read,
by reader processes with limits on time and memory. Prints how many were read, were refused in one line, made
a traceback (a bug), took too long, or ended their process (GDAL's own crash: another takes its place). Then
some of them go through `batchfuse run` beside good scenes, which have to be complete. The exit code is 1 if
anything is a bug.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import os
import random
import resource
import struct
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine

from batchfuse.errors import BatchfuseError, RecipeError
from batchfuse.geometry.window import Window
from batchfuse.imagery.geotiff import open_source
from batchfuse.imagery.nifti import open_volumes
from batchfuse.imagery.raster_files import read_band
from batchfuse.imagery.volume_files import read_volume
from batchfuse.profile import Profile
from batchfuse.recipe import Recipe

PATIENCE = 20.0
"""Seconds that one file may take."""
MEMORY = 2 * 2**30
"""Bytes that a reader may have besides what it began with."""
LARGEST = 2048
"""Edge of the windows that are read."""
NASTY = (0, 1, 2, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)

RECIPE = """\
inputs:
  thermal: scenes/{scene}_B10.TIF
  optical:
    path: ["scenes/{scene}_B4.TIF", "scenes/{scene}_B3.TIF", "scenes/{scene}_B2.TIF"]
    bands: [1, 2, 3]
    range: [0, 30000]
    scale: 2.75e-05
    offset: -0.2
    nodata: 0
    crs: EPSG:32632
    labels: false
    mask: {path: "scenes/{scene}_QA.TIF", reject_bits: [1, 3]}
reference: optical
grid: {resampling: bilinear, extent: reference, resolution: null, bounds: null}
validity: any
scaling: scene
fusion: {method: res2netfuse, weights: res2netfuse, strategy: l1, color: luma}
tiles: {size: 1024}
output: {path: fused, dtype: float32, zarr_format: auto, shard: null, also: [cog, {to: png, stretch: minmax}]}
on_error: skip
"""
WORDS = [
    "null", "true", ".nan", ".inf", "-.inf", "1e999", "-1", "0", "0x7fffffffffffffffffff", "9" * 20, "~",
    "''", "[]", "{}", "[[]]", "{a: {b: c}}", "&a", "*a", "!!python/name:os.system", "!!binary", "<<:", "-",
    "|", ">", '"\\0"', '"\\ud800"', "../../etc/passwd",
    "/dev/zero", "${HOME}", "/vsicurl/http://h/x", "{scene}",
    "{scene}", "**", "inputs", "output", "path",
]  # fmt: skip


@dataclass
class Found:
    """What became of many files."""

    outcomes: Counter[str] = field(default_factory=Counter)
    bugs: list[str] = field(default_factory=list)


def damaged(content: bytes, rng: random.Random, header: int) -> bytes:
    """A file with one to four flaws; ``header`` bytes at its beginning are hit more often."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        if not data:
            break
        place = rng.randrange(min(header, len(data)) if rng.random() < 0.7 else len(data))
        kind = rng.randrange(7)
        if kind == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[place] = rng.randrange(256)
        elif kind == 2:  # a number of 2, 4 or 8 bytes, as header entries are
            form = rng.choice("<>") + rng.choice("HIQ")
            size = struct.calcsize(form)
            place -= place % 2
            data[place : place + size] = struct.pack(form, rng.choice(NASTY) % (1 << 8 * size))
        elif kind == 3:
            del data[place : place + rng.randint(1, 64)]
        elif kind == 4:
            data[place:place] = data[place : place + rng.randint(1, 64)]
        elif kind == 5:
            data[place : place + 16] = bytes(len(data[place : place + 16]))
        else:
            del data[rng.randrange(len(data)) :]
    return bytes(data)


def tagged(content: bytes, rng: random.Random) -> bytes:
    """A little-endian classic TIFF, an entry of which has another tag, type, count or value."""
    data = bytearray(content)
    if data[:4] != b"II*\0":
        return damaged(content, rng, 512)
    (directory,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, directory)
    for _ in range(rng.randint(1, 3)):
        entry = directory + 2 + 12 * rng.randrange(count)
        part, form = rng.choice(((0, "<H"), (2, "<H"), (4, "<I"), (8, "<I"), (8, "<I")))
        value = rng.choice([*NASTY, rng.randrange(2**16), rng.randrange(20), len(data)])
        struct.pack_into(form, data, entry + part, value % (1 << 8 * struct.calcsize(form)))
    return bytes(data)


def geotiffs(folder: Path) -> list[Path]:
    """Small valid GeoTIFFs of many kinds."""
    rng = np.random.default_rng(0)
    kinds: list[tuple[str, str, int, dict[str, Any]]] = [
        ("plain", "uint8", 1, {}),
        ("uint16", "uint16", 1, {"nodata": 0}),
        ("float", "float32", 1, {"nodata": float("nan"), "compress": "deflate", "predictor": 3}),
        ("double", "float64", 1, {"compress": "lzw"}),
        ("int16", "int16", 1, {"compress": "packbits"}),
        ("tiled", "uint16", 1, {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "zstd"}),
        ("rgb", "uint8", 3, {"photometric": "RGB", "compress": "deflate", "interleave": "pixel"}),
        ("jpeg", "uint8", 3, {"photometric": "YCBCR", "compress": "jpeg"}),
        ("alpha", "uint8", 4, {"photometric": "RGB", "alpha": "yes"}),
        ("bits", "uint8", 1, {"nbits": 1}),
        ("lerc", "float32", 1, {"compress": "lerc"}),
        ("big", "uint8", 1, {"bigtiff": "yes"}),
        ("bigendian", "uint16", 1, {"endianness": "big"}),
        ("palette", "uint8", 1, {"photometric": "palette"}),
    ]  # fmt: skip
    paths = []
    for name, dtype, bands, options in kinds:
        path = folder / f"{name}.tif"
        pixels = (rng.random((bands, 48, 56)) * (1 if name == "bits" else 200)).astype(dtype)
        profile = {"height": 48, "width": 56, "count": bands, "dtype": dtype, "crs": "EPSG:32632"}
        place = Affine(10, 0, 500_000, 0, -10, 5_600_000)
        with rasterio.open(path, "w", driver="GTiff", transform=place, **profile, **options) as dataset:
            if name == "palette":
                dataset.write_colormap(1, {i: (i, 255 - i, i, 255) for i in range(256)})
            dataset.write(pixels)
            if name in ("plain", "tiled"):
                with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"):
                    dataset.write_mask(pixels[0] > 20)
        paths.append(path)
    return paths


def photographs(folder: Path) -> list[Path]:
    """Small valid images in the other formats that are read, without a place on Earth."""
    pixels = (np.random.default_rng(0).random((3, 48, 56)) * 200).astype(np.uint8)
    paths = []
    for driver, ending, bands in (
        ("PNG", "png", 1),
        ("JPEG", "jpg", 3),
        ("JP2OpenJPEG", "jp2", 1),
        ("BMP", "bmp", 1),
    ):
        path = folder / f"x.{ending}"
        with rasterio.MemoryFile() as memory:
            with memory.open(driver="GTiff", height=48, width=56, count=bands, dtype="uint8") as some:
                some.write(pixels[:bands])
            with rasterio.Env(GDAL_PAM_ENABLED="NO"), memory.open() as some:
                rasterio.shutil.copy(some, path, driver=driver)
        paths.append(path)
    return paths


def volumes(folder: Path) -> list[Path]:
    """Small valid NIfTI files: versions 1 and 2, compressed or not, of several types and axes."""
    import nibabel

    rng = np.random.default_rng(0)
    paths = []
    kinds_of_file: tuple[Any, ...] = (nibabel.Nifti1Image, nibabel.Nifti2Image)
    for version in kinds_of_file:
        for dtype, shape in (
            ("uint8", (9, 10, 11)),
            ("int16", (7, 8, 9, 3)),
            ("float32", (6, 7, 8)),
            ("float64", (5, 6, 1)),
        ):
            for ending in ("nii", "nii.gz"):
                path = folder / f"{version.__name__}_{dtype}.{ending}"
                image: Any = version((rng.random(shape) * 100).astype(dtype), np.diag([2, 2, 3, 1.0]))
                image.header.set_slope_inter(0.5, 3)
                nibabel.save(image, path)
                paths.append(path)
    return paths


def mutant(paths: Sequence[Path], number: int, seed: int) -> tuple[str, bytes]:
    """The damaged file of a number: its name and content, equal whenever it is made."""
    rng = random.Random(f"{seed} {number}")
    path = rng.choice(paths)
    content = path.read_bytes()
    if path.name.endswith(".nii.gz") and rng.random() < 0.7:
        content = gzip.compress(damaged(gzip.decompress(content), rng, 544), 1)
    elif path.suffix == ".tif" and rng.random() < 0.6:
        content = tagged(content, rng)
    else:
        content = damaged(content, rng, 560)
    return f"{number}_{path.name}", content


def read_raster(path: Path) -> None:
    source = open_source("x", [path], every_band=True)
    window = Window((0, 0), tuple(min(n, LARGEST) for n in source.place.shape))
    for band in source.bands:
        read_band(source.files[band.file], band.number, window)
        if source.masks:
            read_band(source.files[band.file], band.number, window, mask=True)


def read_nifti(path: Path) -> None:
    for source in open_volumes("x", path)[:4]:
        shape = source.place.shape
        assert len(shape) == 3
        window = Window((0, 0, 0), tuple(min(n, 128) for n in shape))
        read_volume(source.files[0], source.bands[0].number, window)


def outcome_of(read: Callable[[Path], None], path: Path) -> str:
    """read, or refused in one line; else the traceback."""
    try:
        read(path)
    except BatchfuseError as error:
        one_line = len(str(error).splitlines()) == 1 and str(error).isprintable()
        return "refused" if one_line else f"traceback: not one line: {error!r}"
    except BaseException:
        return f"traceback: {traceback.format_exc()}"
    return "read"


def reader(
    wire: Connection, read: Callable[[Path], None], paths: Sequence[Path], seed: int, folder: Path
) -> None:
    """Reads the mutants whose numbers come along the wire, until it is ended."""
    warnings.simplefilter("ignore")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)  # the C libraries' own words
    begun = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (begun + MEMORY, begun + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        number = wire.recv()
        name, content = mutant(paths, number, seed)
        path = folder / name
        path.write_bytes(content)
        wire.send(outcome_of(read, path))
        path.unlink()


def read_all(read: Callable[[Path], None], paths: Sequence[Path], numbers: Sequence[int], seed: int) -> Found:
    """What became of the mutants of these numbers, one reader process after another where one ends."""
    found = Found()
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as scratch:
        wire = process = None
        for number in numbers:
            if process is None:
                wire, theirs = context.Pipe()
                process = context.Process(
                    target=reader, args=(theirs, read, paths, seed, Path(scratch)), daemon=True
                )
                process.start()
                theirs.close()
            assert wire is not None
            wire.send(number)
            try:
                answer = wire.recv() if wire.poll(PATIENCE) else "hang"
            except (EOFError, ConnectionError):
                answer = "crash"
            if answer in ("hang", "crash"):
                process.kill()
                process.join()
                process = None
            kind = answer.partition(":")[0]
            found.outcomes[kind] += 1
            if kind not in ("read", "refused"):
                found.bugs.append(
                    f"{kind} of {mutant(paths, number, seed)[0]} (seed {seed}): {answer[-1500:]}"
                )
        if process is not None:
            process.kill()
            process.join()
    return found


def random_recipe(rng: random.Random) -> bytes:
    """A valid recipe with flaws: words swapped, lines moved, doubled or left out, bytes changed."""
    lines = RECIPE.splitlines()
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(lines))
        kind = rng.randrange(6)
        if kind == 0:
            words = lines[at].split(" ")
            words[rng.randrange(len(words))] = rng.choice(WORDS)
            lines[at] = " ".join(words)
        elif kind == 1:
            lines[at] = f"{lines[at].partition(':')[0]}: {rng.choice(WORDS)}"
        elif kind == 2 and len(lines) > 1:
            del lines[at]
        elif kind == 3:
            lines.insert(at, rng.choice(lines))
        elif kind == 4:
            lines[at] = " " * rng.randrange(5) + lines[at].strip()
        else:
            lines[at] = lines[at].replace(rng.choice(":{}[], "), rng.choice(":{}[], \t"), 1)
    content = bytearray("\n".join(lines).encode())
    if rng.random() < 0.3:
        for _ in range(rng.randint(1, 3)):
            content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content)


def read_recipes(numbers: Sequence[int], seed: int, folder: Path) -> Found:
    """What became of random recipes, read as recipes and as profiles."""
    found = Found()
    path = folder / "recipe.yaml"
    path.write_text(RECIPE)
    Recipe.load(path)  # without flaws it is a recipe, or the others would all be refused for the same one
    for number in numbers:
        content = random_recipe(random.Random(f"{seed} {number}"))
        path.write_bytes(content)
        for kind in (Recipe, Profile):
            try:
                kind.load(path)
                found.outcomes["read"] += kind is Recipe
            except RecipeError as error:
                found.outcomes["refused"] += kind is Recipe
                if not 1 <= len(str(error).splitlines()) <= 11:
                    found.bugs.append(f"recipe {number}: {error}")
            except Exception:
                found.outcomes["traceback"] += 1
                found.bugs.append(f"recipe {number}: {content!r}\n{traceback.format_exc()}")
    return found


def through_run(folder: Path, paths: Sequence[Path], number: int, seed: int) -> Found:
    """So many mutants, each fused with an undamaged file, beside three good scenes, in one `run`."""
    found = Found()
    ending = ".nii" if ".nii" in paths[0].name else ".tif"
    for name in ("good_a", "good_b"):
        (folder / f"{name}{ending}").write_bytes(paths[0].read_bytes())
    rows = ["scene,a,b", *(f"good{i},good_a{ending},good_b{ending}" for i in range(3))]
    for i in range(number):
        name, content = mutant(paths, i, seed)
        (folder / name).write_bytes(content)
        rows.append(f"m{i},{name},good_b{ending}")
    (folder / "m.csv").write_text("\n".join(rows) + "\n")
    settings = "volume: 0" if ending == ".nii" else "bands: [1], crs: EPSG:32632"
    (folder / "recipe.yaml").write_text(f"inputs: {{a: {{{settings}}}, b: {{}}}}\nmanifest: m.csv\n")
    before = {path.name for path in folder.iterdir()}
    command = [sys.executable, "-m", "batchfuse", "run", str(folder / "recipe.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if "Traceback" in done.stdout + done.stderr or done.returncode not in (0, 1):
        found.bugs.append(f"run ended with {done.returncode}: {done.stderr[-3000:]}")
        return found
    if written := sorted({path.name for path in folder.iterdir()} - before - {"fused"}):
        found.bugs.append(f"written outside the output: {written}")
    for scene in json.loads((folder / "fused/report.json").read_text())["scenes"]:
        found.outcomes[scene["status"]] += 1
        good = scene["scene"].startswith("good")
        if (good and scene["status"] != "complete") or len(str(scene["reason"]).splitlines()) != 1:
            found.bugs.append(f"{scene['scene']}: {scene['reason']}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--geotiffs", type=int, default=2000)
    parser.add_argument("--photographs", type=int, default=500)
    parser.add_argument("--volumes", type=int, default=2000)
    parser.add_argument("--recipes", type=int, default=10_000)
    parser.add_argument("--through-run", type=int, default=50, help="of the mutants of either kind")
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    bugs: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        kinds: dict[str, tuple[Any, Any, int]] = {
            "geotiffs": (geotiffs, read_raster, told.geotiffs),
            "photographs": (photographs, read_raster, told.photographs),
            "volumes": (volumes, read_nifti, told.volumes),
        }
        parts: list[tuple[str, Callable[[], Found]]] = [
            ("recipes", partial(read_recipes, range(told.recipes), told.seed, folder))
        ]
        for name, (make, read, number) in kinds.items():
            (folder / name).mkdir()
            made = make(folder / name)
            parts.append((name, partial(read_all, read, made, range(number), told.seed)))
            if name != "photographs":
                (folder / f"run of {name}").mkdir()
                run = partial(through_run, folder / f"run of {name}", made, told.through_run, told.seed)
                parts.append((f"run of {name}", run))
        for name, part in parts:
            found = part()
            counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(found.outcomes.items()))
            print(f"{name}: {counts or 'none'}; {len(found.bugs)} bugs", flush=True)
            bugs += found.bugs
    for bug in bugs[:20]:
        print(bug)
    sys.exit(bool(bugs))


if __name__ == "__main__":
    main()
