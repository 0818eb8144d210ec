"""Odd NIfTI headers as the reference, through a run: fused where nibabel has it, or refused in one line."""

from __future__ import annotations

import gzip
import io
import random
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
import zarr
from shared_data import shared_data
from volumes import nifti_bytes, write_nifti

import batchfuse
from batchfuse import scene_run
from batchfuse.imagery.nifti_extensions import good_extensions
from batchfuse.imagery.volume_header import header_bytes, read_header
from batchfuse.scene_run import SceneRun

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import odd_headers

NAN, INF = float("nan"), float("inf")
AFFINE = np.array([[2.0, 0, 0, -8], [0, 2.5, 0, -9], [0, 0, 3, -6], [0, 0, 0, 1]])
QFORM: dict[str, Any] = {"sform": 0, "qform": 1, "spacing": (2, 2.5, 3), "origin": (-8, -9, -6)}
BOTH: dict[str, Any] = {**QFORM, "sform": 2}
VOXELS = (np.random.default_rng(1).random((9, 8, 5)) * 100).astype(np.float32)


def extension(content: bytes, code: int = 6, claims: int | None = None, order: str = "<") -> bytes:
    size = len(content) + 8
    return struct.pack(f"{order}ii", size if claims is None else claims, code) + content


GOOD = extension(b"a word of 24 bytes in all"[:24])


def single(
    *, tail: bytes = b"", patch: tuple[int, str, Any] | None = None, **told: Any
) -> Callable[..., str]:
    """Writes a .nii with something between header and voxels, and another number at a place."""

    def write(folder: Path, name: str) -> str:
        order = told.get("order", "<")
        header, data = nifti_bytes(VOXELS, AFFINE, **told)
        raw = bytearray(header[:348] + (b"\1\0\0\0" if tail else bytes(4)) + tail)
        struct.pack_into(f"{order}f", raw, 108, 352 + len(tail))
        if patch:
            at, form, value = patch
            struct.pack_into(order + form, raw, at, *(value if isinstance(value, tuple) else (value,)))
        (folder / f"{name}.nii").write_bytes(bytes(raw) + data)
        return f"{name}.nii"

    return write


def pair(header: str, data: str, named: str) -> Callable[..., str]:
    """Writes a .hdr and an .img that are called so, one of which the recipe names."""

    def write(folder: Path, name: str) -> str:
        both = nifti_bytes(VOXELS, AFFINE, pair=True, **BOTH)
        for ending, content in zip((header, data), both, strict=True):
            packed = gzip.compress(content) if ending.lower().endswith(".gz") else content
            (folder / f"{name}.{ending}").write_bytes(packed)
        return f"{name}.{named}"

    return write


PLACED: dict[str, tuple[Callable[..., str], str]] = {
    # what is odd: how it is written, and what the report warns of
    "nothing": (single(**BOTH), ""),
    "qfac 0": (single(**QFORM, qfac=0), ""),
    "qfac -0.3": (single(**QFORM, qfac=-0.3), "its qfac is -0.3"),
    "qfac NaN": (single(**QFORM, qfac=NAN), "its qfac is nan"),
    "qfac 0 beside an sform": (single(**BOTH, qfac=0), ""),
    "negative voxels": (single(**{**QFORM, "spacing": (-2, 2.5, -3)}), "2 x 2.5 x 3 is taken"),
    "no size beside an sform": (single(**{**BOTH, "spacing": (0, NAN, 3)}), "(voxels of 0 x nan x 3)"),
    "no rotation beside an sform": (single(**BOTH, quaternion=(0.8, 0.8, 0.8)), "its qform is unusable"),
    "no rotation, and no one's": (single(sform=2, spacing=(2, 2.5, 3), quaternion=(9, 9, 9)), ""),
    "sizes beside an sform": (single(sform=2, spacing=(2, 7, 3)), ""),
    "a qform beyond all": (single(**{**BOTH, "origin": (INF, 0, 0)}), "its qform is unusable"),
    "an sform of NaN beside a qform": (single(**BOTH, patch=(280, "4f", (NAN,) * 4)), "sform is unusable"),
    "an sform of 0 beside a qform": (single(**BOTH, patch=(280, "12f", (0.0,) * 12)), "sform is unusable"),
    "a code of the sform": (single(**{**BOTH, "sform": 99}), "its sform has the code 99"),
    "a code of the qform": (single(**{**BOTH, "qform": -1}), "its qform has the code -1"),
    "a unit of space": (single(**BOTH, units=7), "its unit of space has the code 7"),
    "a unit of time": (single(**BOTH, units=2 + 56), ""),
    "bits of a voxel": (single(**BOTH, patch=(72, "h", 8)), ""),
    "a slope of NaN": (single(**BOTH, slope=NAN, inter=7), ""),
    "an infinite slope": (single(**BOTH, slope=INF, inter=INF), ""),
    "an intent": (single(**BOTH, intent=9999), ""),
    "trailing axes of 0": (single(**BOTH, patch=(40, "8h", (3, 9, 8, 5, 0, 0, 0, 0))), ""),
    "an offset of 0": (single(**BOTH, patch=(108, "f", 0.0)), ""),
    "an offset of 353": (single(**BOTH, tail=b"\0", patch=(348, "i", 0)), ""),
    "big-endian": (single(**BOTH, order=">", tail=extension(bytes(24), order=">")), ""),
    "an overlong extension": (single(**BOTH, tail=GOOD + extension(b"", claims=10**6)), "1,000,000 bytes"),
    "a negative extension": (single(**BOTH, tail=GOOD + extension(b"x" * 8, claims=-16)), "claims -16"),
    "an extension of 20": (single(**BOTH, tail=extension(b"x" * 12) + GOOD + bytes(12)), "multiple of 16"),
    "a code of an extension": (single(**BOTH, tail=extension(bytes(8), code=-3) + GOOD), "of the code -3"),
    "an extension and zeros": (single(**BOTH, tail=GOOD + bytes(64)), ""),
    "extensions that aren't there": (single(**BOTH, patch=(348, "B", 1)), ""),
    "hdr, img.gz": (pair("hdr", "img.gz", "img.gz"), ""),
    "hdr.gz, img": (pair("hdr.gz", "img", "hdr.gz"), ""),
    "HDR, img": (pair("HDR", "img", "img"), ""),
    "HDR.gz, img.GZ": (pair("HDR.gz", "img.GZ", "HDR.gz"), ""),
}  # fmt: skip
REFUSED = {
    "both forms": (single(**{**BOTH, "origin": (NAN, 0, 0)}, patch=(280, "f", NAN)), "an unusable sform"),
    "the qform alone": (single(**QFORM, quaternion=(0.8, 0.8, 0.8)), "w2 should be positive"),
    "the sform alone": (single(sform=2, patch=(280, "12f", (0.0,) * 12)), "an unusable sform"),
    "a place beyond all": (single(**QFORM | {"origin": (1e30, 0, 0)}), "an unusable qform"),
    "voxels beyond all": (single(sform=2, patch=(280, "f", 3e38)), "an unusable sform"),
    "the intercept": (single(**BOTH, slope=2, inter=INF), "invalid intercept inf"),
    "the magic": (single(**BOTH, patch=(344, "4s", b"n+7\0")), "magic string"),
    "the first number": (single(**BOTH, patch=(0, "i", 349)), "is not NIfTI"),
    "an offset within the header": (single(**BOTH, patch=(108, "f", 300.0)), "vox offset 300 too low"),
    "an offset of 1e38": (single(**BOTH, patch=(108, "f", 1e38)), "cut off"),
    "axes": (single(**BOTH, patch=(40, "h", 9)), "dimensions"),
}


def spare(patch: pytest.MonkeyPatch) -> None:
    """Leaves out what takes most of the time, and has nothing to do with headers."""
    patch.setattr(SceneRun, "_quicklook", lambda *_: None)
    patch.setattr(scene_run, "misregistrations", lambda *_, **__: ())


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """One run of all of them, each the reference of a scene."""
    folder = tmp_path_factory.mktemp("odd")
    write_nifti(folder / "pet.nii", VOXELS[::-1], AFFINE, sform=2)
    rows = ["scene,pet,mri"]
    names = {}
    for number, (told, (write, _)) in enumerate((PLACED | REFUSED).items()):
        names[told] = f"s{number:03}"
        rows.append(f"s{number:03},pet.nii,{write(folder, names[told])}")
    (folder / "m.csv").write_text("\n".join(rows) + "\n")
    settings: dict[str, Any] = {
        "fusion": {"strategy": "average"},
        "output": {"also": [{"to": "nifti", "keep_text": True}], "pyramid": False},
    }
    recipe = batchfuse.Recipe(
        inputs={"pet": {}, "mri": {}}, manifest="m.csv", folder=folder, reference="mri", **settings
    )
    with pytest.MonkeyPatch.context() as patch:
        spare(patch)
        report = batchfuse.run(recipe)
    return SimpleNamespace(
        folder=folder, names=names, outcomes={outcome.scene: outcome for outcome in report.outcomes}
    )


def stored(fused: SimpleNamespace, told: str) -> tuple[Any, Any]:
    """The header and the voxels of a store, as the docs read them."""
    group: Any = zarr.open_group(fused.folder / f"fused/{fused.names[told]}.zarr", mode="r")
    return nibabel.Nifti1Header.from_fileobj(io.BytesIO(group["nifti"][:].tobytes())), group["0"][:]


@pytest.mark.parametrize("told", PLACED)
def test_an_odd_reference_is_fused_and_everybody_reads_it_in_its_place(
    fused: SimpleNamespace, told: str
) -> None:
    outcome = fused.outcomes[fused.names[told]]
    assert (outcome.status, outcome.reason) == ("complete", None)
    warned = PLACED[told][1]
    assert warned in " ".join(outcome.warnings)
    assert len(outcome.warnings) == bool(warned)
    header, voxels = stored(fused, told)
    # the same voxels in the same place, whatever was odd
    assert np.array_equal(voxels, stored(fused, "nothing")[1])
    image: Any = nibabel.load(fused.folder / f"fused/{fused.names[told]}.nii.gz")
    assert np.array_equal(image.get_fdata().T, voxels)
    for affine in (header.get_best_affine(), image.affine):
        np.testing.assert_allclose(affine, AFFINE, atol=1e-5)
    for one in (header, image.header):
        assert one.get_xyzt_units()[0] in ("mm", "unknown")
        if one["qform_code"] > 0:
            np.testing.assert_allclose(one.get_qform(), AFFINE, atol=1e-5)
    read: Any = SimpleITK.ReadImage(fused.folder / f"fused/{fused.names[told]}.nii.gz")
    np.testing.assert_allclose(read.TransformIndexToPhysicalPoint((8, 7, 4)), (-8, -8.5, 6), atol=1e-4)


@pytest.mark.parametrize("told", REFUSED)
def test_what_can_t_be_mended_is_one_line_and_the_others_go_on(fused: SimpleNamespace, told: str) -> None:
    outcome = fused.outcomes[fused.names[told]]
    assert outcome.status == "failed"
    assert REFUSED[told][1] in outcome.reason
    assert f"{fused.names[told]}.nii" in outcome.reason
    assert len(outcome.reason.splitlines()) == 1


def test_a_header_without_flaws_keeps_each_byte(fused: SimpleNamespace) -> None:
    source = (fused.folder / f"{fused.names['nothing']}.nii").read_bytes()
    group: Any = zarr.open_group(fused.folder / f"fused/{fused.names['nothing']}.zarr", mode="r")
    assert group["nifti"][:].tobytes() == source[:352]


@pytest.mark.parametrize(
    ("told", "contents"),
    [
        ("an overlong extension", [GOOD[8:]]),
        ("a negative extension", [GOOD[8:]]),
        ("an extension of 20", [GOOD[8:]]),
        ("a code of an extension", [GOOD[8:]]),
        ("an extension and zeros", [GOOD[8:]]),
        ("extensions that aren't there", []),
        ("big-endian", [b""]),
    ],
)
def test_good_extensions_are_kept_and_damaged_ones_left_out(
    fused: SimpleNamespace, told: str, contents: list[bytes]
) -> None:
    header, _ = stored(fused, told)
    assert [one.get_content() for one in header.extensions] == contents
    image: Any = nibabel.load(fused.folder / f"fused/{fused.names[told]}.nii.gz")
    *kept, ours = image.header.extensions
    assert [one.get_content() for one in kept] == contents
    assert ours.get_content().startswith(b"BATCHFUSE ")


def test_a_slice_without_thickness_is_a_millimetre_thick(tmp_path: Path) -> None:
    path = write_nifti(
        tmp_path / "a.nii", VOXELS[:, :, 0], dims=(9, 8), sform=0, qform=1, spacing=(2, 2.5, 0)
    )
    found = read_header(path)
    assert found.grid.spacing == (1, 2.5, 2)
    assert "2 x 2.5 x 1 is taken" in found.warnings[0]
    np.testing.assert_allclose(found.grid.affine, nibabel.load(path).affine)


def test_extensions_longer_than_are_read_are_left_out(tmp_path: Path) -> None:
    content = extension(bytes(2**24 + 8)) + GOOD
    path = tmp_path / "a.nii"
    header, data = nifti_bytes(VOXELS, AFFINE)
    raw = bytearray(header[:348] + b"\1\0\0\0" + content)
    struct.pack_into("<f", raw, 108, len(raw))
    path.write_bytes(bytes(raw) + data)
    bytes_, told = header_bytes(read_header(path).file)
    assert bytes_[348:] == bytes(4)
    assert "claims 16,777,232 bytes" in told[0]


def test_any_bytes_after_a_header_leave_extensions_that_nibabel_reads() -> None:
    rng = random.Random(0)
    for _ in range(500):
        order = rng.choice("<>")
        raw = b"\1\0\0\0" + odd_headers.extensions(rng, order) + rng.randbytes(rng.randrange(40))
        tail, _ = good_extensions(raw, order, len(raw))
        assert len(tail) % 16 == 4 or tail == raw
        found = nibabel.nifti1.Nifti1Extensions.from_fileobj(io.BytesIO(tail[4:]), len(tail) - 4, False)
        assert (not found) == (tail[0] == 0)
        assert bool(found) == (len(tail) > 4)


def test_random_headers_are_fused_or_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """benchmarks/odd_headers.py does it by the thousand."""
    spare(monkeypatch)
    found = odd_headers.Found()
    odd_headers.run_some(range(12), 7, tmp_path, found)
    assert found.bugs == []
    assert min(found.outcomes["complete"], found.outcomes["failed"]) > 2


def test_every_shared_volume_serves_as_the_reference_or_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spare(monkeypatch)
    folder = shared_data("nifti")
    found = [path for path in sorted(folder.rglob("*")) if ".nii" in path.name or path.suffix == ".hdr"]
    small = [path for path in found if path.stat().st_size < 40_000]
    rows = ["scene,other,mri"]
    for number, path in enumerate(small):
        for side in ("a", "b"):
            (tmp_path / side).mkdir(exist_ok=True)
            for part in path.parent.glob(f"{path.stem}.*") if path.suffix == ".hdr" else [path]:
                shutil.copyfile(part, tmp_path / side / part.name)
        rows.append(f"s{number},a/{path.name},b/{path.name}")
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    settings: dict[str, Any] = {
        "fusion": {"strategy": "average"},
        "output": {"also": [{"to": "nifti", "keep_text": True}], "pyramid": False},
    }
    inputs = {"other": {"volume": 0}, "mri": {"volume": 0}}
    report = batchfuse.run(
        batchfuse.Recipe(inputs=inputs, manifest="m.csv", folder=tmp_path, reference="mri", **settings)
    )
    for outcome in report.outcomes:
        path = small[int(outcome.scene[1:])]
        if outcome.status != "complete":
            assert len(str(outcome.reason).splitlines()) == 1
            assert path.name in str(outcome.reason)
            continue
        source: Any = nibabel.load(path)
        made: Any = nibabel.load(tmp_path / f"fused/{outcome.scene}.nii.gz")
        np.testing.assert_allclose(made.affine, source.affine, atol=1e-5)
    assert sum(outcome.status == "complete" for outcome in report.outcomes) >= 4
