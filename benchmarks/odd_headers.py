"""Fuses thousands of volumes whose NIfTI header says something odd, and reads what comes out.

    python benchmarks/odd_headers.py [--number 2000] [--first 0] [--at-once 50] [--seed 0]

Small volumes, as NIfTI-1 and NIfTI-2, in either byte order, as pairs, compressed, and with extensions, have
one to three fields of their header set to odd values (0, -1, NaN, infinities, extremes, any number), or an
extension damaged. Each is the reference of a scene, by `batchfuse.run`, with exports. Either it is refused in
one line, or the store's header and the exports are read by nibabel (and SimpleITK, where it can read the
mended header's forms) and place the voxels where the plan did. Prints how many were fused and refused, and
why; the exit code is 1 if there was a bug.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import random
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK
import zarr

import batchfuse

SHAPE = (9, 8, 5)
AFFINE = np.array([[2.0, 0, 0, -8], [0, 2.5, 0, -9], [0, 0, 3, -6], [0, 0, 0, 1]])
ODD = (0, -1, 1, 2, 3, 7, 99, 255, 32767, -32768, 2**31 - 1, -(2**31))
REAL = (0.0, -0.0, -1.0, 0.5, 1e-30, 1e30, 3.4e38, float("nan"), float("inf"), float("-inf"))
ENDINGS = ("nii", "nii.gz", "hdr", "hdr.gz")


@dataclass
class Found:
    """What became of the scenes."""

    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    bugs: list[str] = field(default_factory=list)


def good_header(rng: random.Random) -> Any:
    """The header of a good volume, of either version, with one, both or none of the forms."""
    kind: Any = rng.choice((nibabel.Nifti1Header, nibabel.Nifti2Header))
    header = kind(endianness=rng.choice("<>"))
    header.set_data_dtype(rng.choice((np.uint8, np.int16, np.float32)))
    header.set_data_shape(SHAPE)
    header.set_qform(AFFINE, rng.choice((0, 1, 1)))
    header.set_sform(AFFINE, rng.choice((0, 2, 2)))
    header.set_xyzt_units("mm", "sec")
    return header


def odd_value(dtype: np.dtype[Any], rng: random.Random) -> Any:
    """A value of a field that may well be wrong."""
    if dtype.kind == "f":
        value = rng.choice(REAL) if rng.random() < 0.7 else rng.uniform(-4, 4)
        return np.float64(value).astype(dtype)
    if dtype.kind == "S":
        return rng.randbytes(dtype.itemsize)
    info = np.iinfo(dtype)
    value = rng.choice(ODD) if rng.random() < 0.7 else rng.randint(int(info.min), int(info.max))
    return max(int(info.min), min(int(info.max), value))


def make_odd(header: Any, rng: random.Random) -> list[str]:
    """Sets fields to odd values; what was set."""
    told = []
    # sizeof_hdr and magic alone decide whether it is a header at all
    names = [name for name in header.keys() if name not in ("sizeof_hdr",)]  # noqa: SIM118
    for _ in range(rng.randint(1, 3)):
        name = rng.choice([*names, *(name for name in names if name[:4] in ("pixd", "quat", "srow", "vox_"))])
        spot = header.structarr[name]
        with np.errstate(all="ignore"):
            value = odd_value(spot.dtype, rng)
        if spot.ndim:
            at = rng.randrange(spot.size)
            spot[at] = value
            told.append(f"{name}[{at}]={value!r}")
        else:
            header.structarr[name] = value
            told.append(f"{name}={value!r}")
    return told


def extensions(rng: random.Random, order: str) -> bytes:
    """Up to three extensions, some of them damaged."""
    made = b""
    for _ in range(rng.randint(0, 3)):
        size = rng.choice((16, 32, 48))
        claimed, code = (rng.choice((*ODD, 40)), rng.choice(ODD)) if rng.random() < 0.3 else (size, 6)
        both = np.array([claimed, code], f"{order}i8").astype(f"{order}i4").tobytes()
        made += both + rng.randbytes(size - 8)
    return made


def write(folder: Path, name: str, rng: random.Random) -> tuple[str, str]:
    """An odd volume; the name of its file, and what is odd."""
    header = good_header(rng)
    order, size = header.endianness, header.sizeof_hdr
    voxels = (np.random.default_rng(rng.randrange(99)).random(SHAPE) * 100).astype(header.get_data_dtype())
    data = voxels.tobytes(order="F")
    pair = rng.random() < 0.25
    tail = extensions(rng, order) if rng.random() < 0.3 else b""
    tail = (b"\1\0\0\0" if tail or rng.random() < 0.05 else b"\0\0\0\0") + tail
    header["vox_offset"] = 0 if pair else size + len(tail)
    if pair:
        header["magic"] = header.pair_magic
    told = make_odd(header, rng)
    start = header.binaryblock + tail

    def put(ending: str, content: bytes) -> str:
        packed = rng.random() < 0.4
        path = folder / f"{name}.{ending}{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(content, 1) if packed else content)
        return path.name

    if not pair:
        return put("nii", start + data), f"{size}{order} {told} {tail[:12].hex()}"
    capitals = rng.random() < 0.3
    names = put("HDR" if capitals else "hdr", start), put("img", data)
    return rng.choice(names), f"pair {size}{order} {told} {tail[:12].hex()}"


def faults_of(store: Path, planned: np.ndarray[Any, Any]) -> str | None:
    """What nibabel or SimpleITK can't read of a store's header and exports, or reads elsewhere."""
    group: Any = zarr.open_group(store, mode="r")
    content = group["nifti"][:].tobytes()
    kind: Any = nibabel.Nifti1Header if content[:2] == b"\x5c\x01" else nibabel.Nifti2Header
    header = kind.from_fileobj(io.BytesIO(content))
    if len(content) != header["vox_offset"]:
        return f"the stored header has {len(content)} bytes and says {header['vox_offset']}"
    shape = group["0"].shape
    if apart(in_millimetres(header.get_best_affine(), header), planned, shape):
        return f"the stored header places the volume at {header.get_best_affine()}, not {planned}"
    header.get_qform(), header.get_zooms()
    path = store.with_suffix(".nii.gz")
    image: Any = nibabel.load(path)
    if image.shape != shape[::-1] or not np.array_equal(image.get_fdata().T, group["0"][:], equal_nan=True):
        return "the export has other voxels"
    if apart(in_millimetres(image.affine, image.header), planned, shape):
        return f"the export places the volume at {image.affine}, not {planned}"
    return itk_fault(path, image, planned, shape)


def in_millimetres(affine: Any, header: Any) -> Any:
    """An affine that is in the header's unit, where nibabel leaves it."""
    return np.diag([*[{"meter": 1e3, "micron": 1e-3}.get(header.get_xyzt_units()[0], 1.0)] * 3, 1]) @ affine


def itk_fault(path: Path, image: Any, planned: Any, shape: Sequence[int]) -> str | None:
    """SimpleITK knows one form, no shear, no NIfTI-2, and nothing of volumes without a place."""
    header = image.header
    sform, qform = header.get_sform(), header.get_qform()
    codes = int(header["sform_code"]), int(header["qform_code"])
    cosines = planned[:3, :3] / np.linalg.norm(planned[:3, :3], axis=0)
    if (
        header.sizeof_hdr == 540
        or max(codes) == 0
        or not np.allclose(cosines.T @ cosines, np.eye(3), atol=1e-5)
    ):
        return None
    if min(codes) > 0 and apart(sform, qform, shape):
        return None  # told in a warning: both are kept
    read: Any = SimpleITK.ReadImage(str(path))
    for corner in np.ndindex(2, 2, 2):
        index = [int(c * (n - 1)) for c, n in zip(corner, shape[::-1], strict=True)]
        point = np.array(read.TransformIndexToPhysicalPoint(index)) * [-1, -1, 1]
        wanted = planned[:3] @ [*index, 1]
        limit = 1e-3 * np.linalg.norm(planned[:3, :3], axis=0).min() + 1e-5 * np.abs(planned).max()
        if np.abs(point - wanted).max() > limit:
            return f"SimpleITK has {index} at {point}, not {wanted}"
    return None


def apart(found: Any, wanted: Any, shape: Sequence[int]) -> bool:
    """Whether two affines place a corner of the volume more than 1/1000 of a voxel apart."""
    ends = np.array([[*np.array(shape[::-1]) - 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
    limit = 1e-3 * np.linalg.norm(wanted[:3, :3], axis=0).min() + 1e-6 * np.abs(wanted).max()
    with np.errstate(all="ignore"):
        return not np.abs(ends @ (np.asarray(found) - wanted).T).max() <= limit


def run_some(numbers: Sequence[int], seed: int, folder: Path, found: Found) -> None:
    """Fuses the volumes of these numbers in one run."""
    other = nibabel.Nifti1Image((np.random.default_rng(0).random(SHAPE) * 9).astype("f4"), AFFINE)
    nibabel.save(other, folder / "pet.nii")
    # what has no place lies upon what has none
    loose = nibabel.Nifti1Image(np.asarray(other.dataobj), None, other.header)
    loose.set_qform(None)
    loose.set_sform(None)
    nibabel.save(loose, folder / "loose.nii")
    told, rows = {}, ["scene,pet,mri"]
    for number in numbers:
        rng = random.Random(f"{seed} {number}")
        name, told[f"s{number}"] = write(folder, f"s{number}", rng)
        pet = "loose.nii" if rng.random() < 0.1 else "pet.nii"
        rows.append(f"s{number},{pet},{name}")
    (folder / "m.csv").write_text("\n".join(rows) + "\n")
    exports = [{"to": "nifti", "keep_text": random.Random(f"{seed} {numbers[0]}").random() < 0.5}]
    settings: dict[str, Any] = {
        "inputs": {"pet": {"volume": 0}, "mri": {"volume": 0}},
        "manifest": "m.csv",
        "folder": folder,
        "reference": "mri",
        "fusion": {"strategy": "average"},
        "grid": {"extent": random.Random(f"{numbers[0]}").choice(("reference", "intersection"))},
        "output": {"also": exports, "pyramid": False},
    }
    try:
        report = batchfuse.run(batchfuse.Recipe(**settings))
    except BaseException:
        found.bugs.append(f"run of {numbers}: {traceback.format_exc()}")
        return
    for scene in report.outcomes:
        judge(scene, folder, told[scene.scene], found)


def judge(scene: Any, folder: Path, told: str, found: Found) -> None:
    """Counts what became of a scene, and notes what is a bug."""
    found.outcomes[str(scene.status)] += 1
    for warning in scene.warnings:
        found.reasons[f"warning: {plain(warning)}"] += 1
    if scene.status != "complete":
        reason = str(scene.reason)
        found.reasons[plain(reason)] += 1
        if len(reason.splitlines()) != 1 or scene.status != "failed" or scene.scene not in reason:
            found.bugs.append(f"{scene.scene} ({told}): {reason}")
        return
    store = folder / f"fused/{scene.scene}.zarr"
    rows = json.loads((store / "0/zarr.json").read_text())["attributes"]["affine"]
    try:
        fault = faults_of(store, np.array([*rows, [0, 0, 0, 1.0]]))
    except Exception:
        fault = traceback.format_exc()
    if fault:
        found.bugs.append(f"{scene.scene} ({told}): {fault}")


def plain(line: str) -> str:
    """A line without what differs from scene to scene."""
    words = ["…" if any(c.isdigit() for c in word) or "/" in word else word for word in line.split()]
    return " ".join(words)[:110]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="go on from this number")
    parser.add_argument("--at-once", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    warnings.simplefilter("ignore")
    itk: Any = SimpleITK
    itk.ProcessObject.SetGlobalWarningDisplay(False)
    found = Found()
    end = told.first + told.number
    for first in range(told.first, end, told.at_once):
        numbers = range(first, min(first + told.at_once, end))
        before = len(found.bugs)
        with tempfile.TemporaryDirectory() as folder:
            run_some(numbers, told.seed, Path(folder), found)
        print(f"{numbers.stop}: {dict(found.outcomes)}, {len(found.bugs)} bugs", flush=True)
        print("\n".join(found.bugs[before:]), end="\n" * (len(found.bugs) > before), flush=True)
    for reason, count in found.reasons.most_common():
        print(f"{count:6} {reason}")
    sys.exit(bool(found.bugs))


if __name__ == "__main__":
    main()
