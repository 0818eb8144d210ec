"""NIfTI files: what their headers say, what their voxels are, and each one that can't be read in one line."""

from __future__ import annotations

import errno
import gzip
import os
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
from shared_data import shared_data
from volumes import nifti_bytes, turned, write_nifti

from batchfuse.errors import SourceError
from batchfuse.geometry.window import Window
from batchfuse.imagery import volume_files
from batchfuse.imagery.nifti import is_volume, open_volumes
from batchfuse.imagery.pixels import read_pixels
from batchfuse.imagery.volume_files import read_volume
from batchfuse.imagery.volume_header import header_of

AFFINE = turned((0.2, -0.1, 0.4), (2, -1.5, 3), (-70, 30, 12))
TYPES = ("uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")


def counting(dtype="int16", shape=(5, 4, 3)):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def opened(path):
    (source, *_) = open_volumes("mri", path)
    return read_pixels(source, Window.whole(source.place.shape))


def refusal(path):
    with pytest.raises(SourceError) as refused:
        opened(path)
    line = str(refused.value)
    assert "\n" not in line
    assert str(path) in line
    return line


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.hdr"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", TYPES)
def test_every_format_reads_as_nibabel_reads_it(tmp_path, name, version, order, dtype):
    voxels = counting(dtype)
    path = write_nifti(tmp_path / name, voxels, AFFINE, version=version, order=order, slope=0.5, inter=-3)
    (source,) = open_volumes("mri", path)
    image = nibabel.load(path)
    assert source.is_volume
    assert source.dtype == dtype
    assert source.place.shape == (3, 4, 5)
    np.testing.assert_allclose(source.place.affine, image.affine, atol=1e-12)
    assert (source.bands[0].scale, source.bands[0].offset) == (0.5, -3)
    values, valid = read_pixels(source, Window.whole(source.place.shape))
    assert values.dtype == np.dtype(dtype)
    assert valid.all()
    np.testing.assert_array_equal(values[0], voxels.T)
    np.testing.assert_allclose(values[0] * 0.5 - 3, image.get_fdata().T)
    assert source.warnings == ()


def test_a_pair_is_named_by_either_file(tmp_path):
    path = write_nifti(tmp_path / "a.hdr", counting())
    (one,), (two,) = open_volumes("mri", path), open_volumes("mri", path.with_suffix(".img"))
    whole = Window.whole((3, 4, 5))
    np.testing.assert_array_equal(read_pixels(one, whole)[0], read_pixels(two, whole)[0])
    assert one.files[0].size == two.files[0].size == 348 + 5 * 4 * 3 * 2
    before = one.files[0].checksum
    data = bytearray(path.with_suffix(".img").read_bytes())
    data[-1] += 1
    path.with_suffix(".img").write_bytes(bytes(data))
    assert open_volumes("mri", path)[0].files[0].checksum != before


def test_a_pair_in_capitals_or_compressed(tmp_path):
    path = write_nifti(tmp_path / "a.hdr", counting())
    img = path.with_suffix(".img")
    (tmp_path / "B.HDR").write_bytes(path.read_bytes())
    (tmp_path / "B.IMG").write_bytes(img.read_bytes())
    (tmp_path / "c.hdr").write_bytes(path.read_bytes())
    (tmp_path / "c.img.gz").write_bytes(gzip.compress(img.read_bytes()))
    for name in ("B.HDR", "B.IMG", "c.hdr", "c.img.gz"):
        (source,) = open_volumes("mri", tmp_path / name)
        assert is_volume(tmp_path / name)
        np.testing.assert_array_equal(read_pixels(source, Window.whole((3, 4, 5)))[0][0], counting().T)


@pytest.mark.parametrize(("slope", "inter"), [(0, 7), (np.nan, 7), (np.inf, 0)])
def test_no_slope_is_unscaled(tmp_path, slope, inter):
    (source,) = open_volumes("mri", write_nifti(tmp_path / "a.nii", counting(), slope=slope, inter=inter))
    assert (source.bands[0].scale, source.bands[0].offset) == (1, 0)


def test_the_recipe_overrides_what_the_file_says(tmp_path):
    path = write_nifti(tmp_path / "a.nii", counting(), slope=2, inter=1)
    (source,) = open_volumes("seg", path, scale=3, offset=4, nodata=0, labels=True)
    assert (source.bands[0].scale, source.bands[0].offset, source.bands[0].nodata) == (3, 4, 0)
    assert source.labels
    _, valid = read_pixels(source, Window.whole((3, 4, 5)))
    assert not valid[0, 0, 0]
    assert valid.sum() == valid.size - 1
    with pytest.raises(SourceError, match="nodata"):
        open_volumes("seg", path, nodata=1.5)
    with pytest.raises(SourceError, match="scale"):
        open_volumes("seg", path, scale=0)


def test_four_axes_are_several_volumes(tmp_path):
    voxels = counting(shape=(5, 4, 3, 6))
    for name in ("a.nii", "a.nii.gz"):
        path = write_nifti(tmp_path / name, voxels)
        sources = open_volumes("bold", path)
        assert [source.bands[0].number for source in sources] == [1, 2, 3, 4, 5, 6]
        for number, source in enumerate(sources):
            values, _ = read_pixels(source, Window((1, 0, 2), (3, 3, 4)))
            np.testing.assert_array_equal(values[0], voxels[2:4, :3, 1:3, number].T)
        (fourth,) = open_volumes("bold", path, volume=3)
        assert fourth.bands[0].number == 4
        for out in (6, -1):
            with pytest.raises(SourceError, match="volumes 0 to 5"):
                open_volumes("bold", path, volume=out)
    (one,) = open_volumes("bold", write_nifti(tmp_path / "b.nii", counting(), dims=(5, 4, 3, 1, 1)))
    assert one.bands[0].number == 1
    with pytest.raises(SourceError, match="one volume, 0"):
        open_volumes("bold", tmp_path / "b.nii", volume=1)
    (flat,) = open_volumes("slice", write_nifti(tmp_path / "c.nii", counting(shape=(5, 4))))
    assert flat.place.shape == (1, 4, 5)


def test_not_finite_is_invalid(tmp_path):
    voxels = counting("float32")
    voxels[0, 0, 0], voxels[1, 0, 0], voxels[2, 0, 0] = np.nan, np.inf, -np.inf
    for order in "<>":
        (source,) = open_volumes("mri", write_nifti(tmp_path / "a.nii", voxels, order=order))
        _, valid = read_pixels(source, Window.whole((3, 4, 5)))
        np.testing.assert_array_equal(valid, np.isfinite(voxels.T))


def test_units_of_metres_and_micrometres_become_millimetres(tmp_path):
    for units, factor in ((0, 1), (1, 1000), (2, 1), (3, 0.001), (2 + 8, 1)):
        path = write_nifti(tmp_path / "a.nii", counting(), AFFINE, units=units)
        (source,) = open_volumes("mri", path)
        np.testing.assert_allclose(source.place.affine[:3], AFFINE[:3] * factor, rtol=1e-6)


def test_the_sform_wins_and_a_qform_elsewhere_is_told(tmp_path):
    told = {"sform": 1, "qform": 1, "spacing": (2, 2, 2)}
    affine = np.diag([2.0, 2, 2, 1])
    path = write_nifti(tmp_path / "a.nii", counting(), affine, origin=(3, 4, 0), **told)
    (source,) = open_volumes("mri", path)
    np.testing.assert_allclose(source.place.affine, affine)
    (warning,) = source.warnings
    assert "up to 5 mm apart" in warning
    assert "sform is used" in warning
    path = write_nifti(tmp_path / "a.nii", counting(), affine, origin=(0.0019, 0, 0), **told)
    assert open_volumes("mri", path)[0].warnings == ()


def test_how_far_sform_and_qform_are_apart_is_told_of_the_corner_where_it_is_most(tmp_path):
    sform = turned((0.3, -0.2, 0.1), (2, 3, 4), (5, -6, 7))
    for units, millimetres in ((2, 1), (1, 1000)):
        told = {"sform": 1, "qform": 1, "spacing": (2, 3, 4), "units": units}
        path = write_nifti(tmp_path / "a.nii", counting(), sform, quaternion=(0.1, 0, 0.05), **told)
        header = nibabel.load(path).header
        corners = list(np.ndindex(2, 2, 2)) * (np.array(header.get_data_shape()) - 1)
        places = [nibabel.affines.apply_affine(form, corners) for form in (sform, header.get_qform())]
        most = np.linalg.norm(places[1] - places[0], axis=1).max() * millimetres
        (warning,) = open_volumes("mri", path)[0].warnings
        assert f"up to {most:.4g} mm apart" in warning


def test_the_qform_alone(tmp_path):
    path = write_nifti(
        tmp_path / "a.nii", counting(), sform=0, qform=1, spacing=(2, 3, 4), quaternion=(0, 0, 1), qfac=-1,
        origin=(10, 20, 30),
    )  # fmt: skip
    (source,) = open_volumes("mri", path)
    np.testing.assert_allclose(source.place.affine[:3, 3], (10, 20, 30))
    assert source.place.orientation == "LPI"
    np.testing.assert_allclose(source.place.affine, nibabel.load(path).affine)
    assert source.place.placed


def test_a_sign_of_zero_is_mended_as_nibabel_does(tmp_path):
    path = write_nifti(tmp_path / "a.nii", counting(), sform=0, qform=1, qfac=0)
    np.testing.assert_allclose(open_volumes("mri", path)[0].place.affine, np.eye(4))


def test_no_form_is_no_world(tmp_path):
    path = write_nifti(tmp_path / "a.nii", counting(), sform=0, spacing=(2, 3, 4))
    (source,) = open_volumes("mri", path)
    assert not source.place.placed
    assert source.place.spacing == (4, 3, 2)
    assert "no world space" in source.warnings[0]


def test_a_window_is_read_in_pieces_from_any_thread(tmp_path, monkeypatch):
    monkeypatch.setattr(volume_files, "PIECE", 64)
    voxels = counting("float64", (11, 9, 7))
    for name in ("a.nii", "a.nii.gz"):
        (source,) = open_volumes("mri", write_nifti(tmp_path / name, voxels, order=">"))
        found, faults = [], []

        def look(seed, source=source, found=found):
            rng = np.random.default_rng(seed)
            for _ in range(30):
                start = [int(rng.integers(0, n)) for n in (7, 9, 11)]
                stop = [int(rng.integers(a, n + 1)) for a, n in zip(start, (7, 9, 11), strict=True)]
                window = Window(tuple(start), tuple(stop))
                found.append(np.array_equal(read_volume(source.files[0], 1, window), voxels.T[window.slices]))

        threads = [threading.Thread(target=look, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 120
        assert all(found)
        assert not faults


def test_a_compressed_file_is_inflated_once_and_leaves_no_name(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    many = []
    inflate = volume_files._inflate
    monkeypatch.setattr(volume_files, "_inflate", lambda *args: (many.append(1), inflate(*args)))
    (source,) = open_volumes("mri", write_nifti(tmp_path / "a.nii.gz", counting()))
    threads = [
        threading.Thread(target=read_volume, args=(source.files[0], 1, Window.whole((3, 4, 5))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(many) == 1
    assert list((tmp_path / "scratch").iterdir()) == []


def test_evicted_files_are_closed_and_opened_again(tmp_path, monkeypatch):
    kept = volume_files._Kept()
    monkeypatch.setattr(volume_files, "_kept", kept)
    monkeypatch.setattr(volume_files, "KEPT", 2)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for round_ in range(2):
        for number in range(5):
            name = f"{number}.nii" + (".gz" if number % 2 else "")
            voxels = counting() + number
            (source,) = open_volumes("mri", write_nifti(tmp_path / name, voxels))
            found = read_volume(source.files[0], 1, Window.whole((3, 4, 5)))
            np.testing.assert_array_equal(found, voxels.T)
            # one that is still in use stays open when it is evicted
            if number == 0 and round_ == 0:
                used = kept.get(header_of(source.files[0]))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 3
    into = np.empty(4, np.uint8)
    used.read(into, 0)
    assert into.tobytes() == b"\x5c\x01\0\0"


def test_a_file_that_is_written_anew_is_read_anew(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", counting())
    (source,) = open_volumes("mri", path)
    read_volume(source.files[0], 1, Window.whole((3, 4, 5)))
    write_nifti(path, counting() + 1)
    os.utime(path, ns=(1, 1))
    (source,) = open_volumes("mri", path)
    assert read_volume(source.files[0], 1, Window.whole((3, 4, 5)))[0, 0, 0] == 1


def test_members_and_trailing_data_of_gzip(tmp_path):
    header, data = nifti_bytes(counting())
    raw = header + data
    path = tmp_path / "a.nii.gz"
    for content in (
        gzip.compress(raw[:100]) + gzip.compress(raw[100:400]) + gzip.compress(raw[400:]),
        gzip.compress(raw) + b"trailing nonsense",
        gzip.compress(raw + b"\0" * 10_000_000),
    ):
        path.write_bytes(content)
        (source,) = open_volumes("mri", path)
        np.testing.assert_array_equal(read_pixels(source, Window.whole((3, 4, 5)))[0][0], counting().T)


def test_the_content_tells_what_is_compressed(tmp_path):
    header, data = nifti_bytes(counting())
    (tmp_path / "a.nii").write_bytes(gzip.compress(header + data))
    (tmp_path / "b.nii.gz").write_bytes(header + data)
    for name in ("a.nii", "b.nii.gz"):
        (source,) = open_volumes("mri", tmp_path / name)
        np.testing.assert_array_equal(read_pixels(source, Window.whole((3, 4, 5)))[0][0], counting().T)


def test_cut_off_files(tmp_path):
    header, data = nifti_bytes(np.random.default_rng(0).integers(0, 30000, (20, 20, 20)).astype("int16"))
    raw, packed = header + data, gzip.compress(header + data)
    path = tmp_path / "a.nii"
    path.write_bytes(raw[:-1])
    with pytest.raises(SourceError, match=r"promises 16,352 bytes, and it has 16,351"):
        open_volumes("mri", path)
    path.write_bytes(raw[:300])
    assert "within its header" in refusal(path)
    for length in (1, 5, 30, 200, len(packed) // 2, len(packed) - 9, len(packed) - 1):
        (tmp_path / "a.nii.gz").write_bytes(packed[:length])
        assert "cut off" in refusal(tmp_path / "a.nii.gz") or length == 1
    damaged = bytearray(packed)
    damaged[-6] ^= 1  # of the checksum
    (tmp_path / "a.nii.gz").write_bytes(bytes(damaged))
    assert "damaged" in refusal(tmp_path / "a.nii.gz")
    damaged = bytearray(packed)
    damaged[len(damaged) // 2] ^= 255
    (tmp_path / "a.nii.gz").write_bytes(bytes(damaged))
    assert "damaged" in refusal(tmp_path / "a.nii.gz") or "cut off" in refusal(tmp_path / "a.nii.gz")


def test_a_file_that_is_cut_off_later_is_told_and_no_crash(tmp_path):
    path = write_nifti(tmp_path / "a.nii", counting())
    (source,) = open_volumes("mri", path)
    read_volume(source.files[0], 1, Window.whole((3, 4, 5)))
    os.truncate(path, 360)
    with pytest.raises(SourceError, match="was changed while the scene was fused"):
        read_volume(source.files[0], 1, Window.whole((3, 4, 5)))


def test_a_volume_larger_than_the_temporary_folder_is_refused_before_it_is_inflated(tmp_path, monkeypatch):
    room = 4096
    monkeypatch.setattr(
        os, "fstatvfs", lambda _: SimpleNamespace(f_bavail=room // 512, f_frsize=512, f_blocks=99)
    )
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    inflated = []
    inflate = volume_files._inflate
    monkeypatch.setattr(volume_files, "_inflate", lambda *args: (inflated.append(1), inflate(*args)))
    assert opened(write_nifti(tmp_path / "small.nii.gz", counting())) is not None
    assert len(inflated) == 1
    path = write_nifti(tmp_path / "a.nii.gz", counting(shape=(20, 20, 20)))
    assert refusal(path) == (
        f"{path} takes 16,352 bytes inflated and can't be inflated into {tmp_path} (No space left on device, "
        "4,096 bytes are free): free some space there, or name a larger folder with TMPDIR"
    )
    assert len(inflated) == 1


def test_a_file_that_is_no_longer_read_gives_its_room_to_the_next(tmp_path, monkeypatch):
    """As on a disk that has room for one inflated file."""
    kept = volume_files._Kept()
    monkeypatch.setattr(volume_files, "_kept", kept)
    claims = []

    def claim(*_):
        claims.append(1)
        if any(entry._opened for entry in kept._entries.values()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", claim)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for name in "aba":
        path = write_nifti(tmp_path / f"{name}.nii.gz", counting())
        np.testing.assert_array_equal(opened(path)[0][0], counting().T)
    assert len(claims) == 5
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


def test_nothing_is_inflated_beyond_what_the_header_says(tmp_path):
    header, data = nifti_bytes(counting())
    packed = gzip.compress(header + data + bytes(2 * volume_files.PIECE), 1)
    path = tmp_path / "a.nii.gz"
    path.write_bytes(packed[:-8] + b"no checksum, and no end of it")
    np.testing.assert_array_equal(opened(path)[0][0], counting().T)


def test_each_file_that_holds_no_volume_is_refused_in_one_line(tmp_path):
    path = tmp_path / "a.nii"
    cases = {
        "complex": {"voxels": counting("complex64")},
        "RGB": {"voxels": counting("uint8", (15, 4, 3)), "dims": (5, 4, 3), "code": 128},
        "RGB ": {"voxels": counting("uint8", (20, 4, 3)), "dims": (5, 4, 3), "code": 2304},
        "float128": {"voxels": counting("float64", (10, 4, 3)), "dims": (5, 4, 3), "code": 1536},
        "one bit": {"voxels": counting("uint8"), "code": 1},
        "data code 77": {"voxels": counting("uint8"), "code": 77},
        "has 5 axes": {"voxels": counting(shape=(5, 4, 3, 1, 2))},
        "CIFTI": {"voxels": counting(shape=(1, 1, 1, 1, 5, 6)), "version": 2, "intent": 3001},
        "no voxels": {"voxels": counting(), "dims": (5, 0, 3)},
        "damaged NIfTI header": {"voxels": counting(), "dims": (5, -4, 3)},
        "more than any volume": {"voxels": counting(), "dims": (10**6, 10**6, 1000), "version": 2},
        "one axis": {"voxels": counting(shape=(60,))},
        "unusable sform": {"voxels": counting(), "affine": np.zeros((4, 4))},
        "unusable sform ": {"voxels": counting(), "affine": np.full((4, 4), np.nan)},
        "w2 should be positive": {"voxels": counting(), "sform": 0, "qform": 1, "quaternion": (1e9, 0, 0)},
    }
    for words, told in cases.items():
        assert words.strip() in refusal(write_nifti(path, **told)), words
    header, data = nifti_bytes(counting())
    for number in (np.nan, np.inf, -np.inf):  # where the voxels begin is a float in version 1
        path.write_bytes(header[:108] + np.float32(number).tobytes() + header[112:] + data)
        assert "damaged NIfTI header" in refusal(path)
    header, data = nifti_bytes(counting(), pair=True)
    analyze = tmp_path / "b.hdr"
    analyze.write_bytes(header[:344] + b"\0\0\0\0")
    analyze.with_suffix(".img").write_bytes(data)
    assert "ANALYZE 7.5" in refusal(analyze)
    with pytest.raises(SourceError, match=r"b\.hdr is ANALYZE"):
        opened(analyze.with_suffix(".img"))
    lone = tmp_path / "c.hdr"
    lone.write_bytes(header)
    assert "c.img is not beside it" in refusal(lone)
    path.write_bytes(b"")
    assert "empty" in refusal(path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n")
    assert "git lfs pull" in refusal(path)
    path.write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 300)
    assert "dcm2niix" in refusal(path)
    path.write_bytes(b"hello world, this is not it" * 30)
    assert "not NIfTI" in refusal(path)
    assert "does not exist" in refusal(tmp_path / "none.nii")
    assert "folder" in refusal(tmp_path)
    (tmp_path / "slices").mkdir()
    (tmp_path / "slices" / "IM1.dcm").write_bytes(b"x")
    assert "dcm2niix" in refusal(tmp_path / "slices")


def test_a_small_file_that_claims_much_is_told_at_once(tmp_path):
    header, _ = nifti_bytes(counting(), dims=(1000, 1000, 1000))
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(header))
    with pytest.raises(SourceError, match="cut off"):
        open_volumes("mri", path)


def test_what_is_a_volume(tmp_path):
    names = ("a.nii", "a.NII", "a.nii.gz", "a.Nii.GZ")
    assert all(is_volume(tmp_path / name) for name in names)
    assert not any(is_volume(tmp_path / name) for name in ("a.tif", "a.gz", "a.hdr", "a.img", "nii"))
    write_nifti(tmp_path / "p.hdr", counting())
    assert is_volume(tmp_path / "p.hdr")
    assert is_volume(tmp_path / "p.img")
    (tmp_path / "e.hdr").write_text("ENVI\nsamples = 3\n")
    (tmp_path / "e.img").write_bytes(b"\0" * 100)
    (tmp_path / "f.img").write_bytes(b"EHFA_HEADER_TAG\0" * 30)
    assert not any(is_volume(tmp_path / name) for name in ("e.hdr", "e.img", "f.img"))


NASTY = {
    "5d_small.nii": "has 5 axes",
    "cifti.dconn.nii": "CIFTI",
    "complex64.nii.gz": "complex",
    "header_without_img.hdr": "not beside it",
    "not_nifti.nii": "not NIfTI",
    "rgb24.nii.gz": "RGB",
    "truncated.nii.gz": "cut off",
    "zero_bytes.nii.gz": "empty",
    "zero_dim.nii.gz": "no voxels",
}


def test_nasty_files_are_right_or_refused_in_one_line():
    folder = shared_data("nifti") / "nasty"
    for path in sorted(folder.iterdir()):
        if path.name in NASTY:
            assert NASTY[path.name] in refusal(path), path.name
            continue
        sources = open_volumes("mri", path)
        image = nibabel.load(path.with_suffix(".hdr") if path.suffix == ".img" else path)
        expected = np.asanyarray(image.dataobj.get_unscaled()).reshape(*image.shape[:3], -1)
        assert len(sources) == expected.shape[3]
        np.testing.assert_allclose(sources[0].place.affine, image.affine, atol=1e-9)
        assert (sources[0].bands[0].scale, sources[0].bands[0].offset) == (
            image.dataobj.slope,
            image.dataobj.inter,
        )
        for number, source in enumerate(sources):
            values, valid = read_pixels(source, Window.whole(source.place.shape))
            np.testing.assert_array_equal(values[0], expected[..., number].T)
            np.testing.assert_array_equal(valid, np.isfinite(values[0].astype(float)))
    assert "14.76 mm" in open_volumes("mri", folder / "qform_sform_disagree.nii.gz")[0].warnings[0]
    assert "no world space" in open_volumes("mri", folder / "no_form_codes.nii.gz")[0].warnings[0]
