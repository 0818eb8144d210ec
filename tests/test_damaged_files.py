"""Files that were cut off or damaged: refused in a line, or read as another decoder reads them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasters import photo, write_raster

from batchfuse.errors import SourceError
from batchfuse.geometry.window import Window
from batchfuse.imagery.geotiff import open_source
from batchfuse.imagery.pixels import read_pixels

Pixels = NDArray[Any]


def picture(size: int, bands: int) -> NDArray[np.uint8]:
    noisy = photo((size, size), size, bands) + np.random.default_rng(size).normal(
        0, 0.05, (bands, size, size)
    )
    return np.moveaxis(np.clip(noisy * 255, 1, 254).astype(np.uint8), 0, -1)


def saved(pixels: Pixels, kind: str, **options: Any) -> bytes:
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def png(pixels: Pixels, passes: Sequence[tuple[int, int, int, int]] = ((0, 0, 1, 1),)) -> bytes:
    """A PNG in chunks of 8 KiB, as libpng writes them; Pillow's are larger, and never in several passes."""
    rows, columns, _ = pixels.shape
    lines = (row for y, x, dy, dx in passes for row in pixels[y::dy, x::dx])
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in lines))
    head = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, len(passes) > 1)
    pieces = [png_chunk(b"IDAT", body[k : k + 8192]) for k in range(0, len(body), 8192)]
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + b"".join(pieces) + png_chunk(b"IEND", b"")


def tiff(folder: Path, pixels: Pixels, **options: Any) -> bytes:
    return write_raster(folder / "whole.tif", np.moveaxis(pixels, -1, 0), **options).read_bytes()


def written(kind: str, folder: Path, size: int) -> bytes:
    colour, gray = picture(size, 3), picture(size, 1)[..., 0]
    form, _, how = kind.partition(" ")
    if form == "TIFF":
        tiled = {"tiled": True, "blockxsize": 64, "blockysize": 64} if how.endswith("tiles") else {}
        return tiff(folder, colour, compress=how.split()[0], interleave="pixel", **tiled)
    if kind == "PNG interlaced":
        return png(colour, ADAM7)
    if kind == "PNG palette":
        stream = BytesIO()
        Image.fromarray(colour).quantize(200).save(stream, "PNG")
        return stream.getvalue()
    pixels = {
        "rgba": np.dstack([colour, np.full_like(gray, 255)]),
        "16": gray.astype(np.uint16) * 200,
        "gray": gray,
    }.get(how, colour)
    options = {"progressive": {"progressive": True}, "lossless": {"lossless": True}}.get(how, {})
    return saved(pixels, form, **options)


def read(path: Path) -> Pixels | None:
    """The pixels as a run reads them, None where the file is refused in a line."""
    try:
        source = open_source("optical", [path])
        return read_pixels(source, Window.whole(source.place.shape))[0]  # type: ignore[arg-type]
    except SourceError:
        return None


def decoded(path: Path) -> Pixels | None:
    """The pixels by Pillow, None where it refuses."""
    try:
        with Image.open(path) as image:
            image.load()
            flat = np.asarray(image.convert("RGB") if image.mode == "P" else image)
    except (OSError, SyntaxError, ValueError):
        return None
    return np.moveaxis(flat[..., :3], -1, 0) if flat.ndim == 3 else flat[None]


KINDS = [
    *("PNG rgb", "PNG gray", "PNG rgba", "PNG 16", "PNG palette", "PNG interlaced"),
    *("JPEG rgb", "JPEG gray", "JPEG progressive", "WEBP rgb", "WEBP lossless", "BMP rgb", "BMP gray"),
    *("JPEG2000 rgb", "JPEG2000 gray"),
    *(
        f"TIFF {c} {b}"
        for c in ("none", "lzw", "deflate", "packbits", "zstd", "jpeg")
        for b in ("strips", "tiles")
    ),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_was_cut_off_is_refused_whatever_its_format_and_size(tmp_path: Path, kind: str) -> None:
    for size in (100, 160):
        content = written(kind, tmp_path, size)
        path = tmp_path / f"{size}.img"
        path.write_bytes(content)
        assert read(path) is not None
        for share in (30, 60, 90, 99):
            cut = tmp_path / f"{size}-{share}.img"
            cut.write_bytes(content[: len(content) * share // 100])
            assert read(cut) is None, (size, share)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith(("PNG", "BMP", "WEBP"))])
def test_a_damaged_picture_is_refused_or_read_as_another_decoder_reads_it(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(1)
    for size in (100, 160):
        content = written(kind, tmp_path, size)
        for number in range(8):
            damaged = bytearray(content)
            at = int(rng.integers(60, len(content)))
            long = (1, 8, 4096)[number % 3]  # a bit, the header of a chunk, a block of a disk
            damaged[at : at + long] = rng.bytes(len(damaged[at : at + long]))
            path = tmp_path / f"{size}-{number}.img"
            path.write_bytes(damaged)
            found = read(path)
            if found is not None:
                expected = decoded(path)
                assert expected is not None, (size, number)
                assert np.array_equal(found, expected), (size, number)


def test_damage_at_the_header_of_a_chunk_of_a_small_png_is_refused(tmp_path: Path) -> None:
    content = bytearray(png(picture(160, 3)))
    second = content.index(b"IDAT", content.index(b"IDAT") + 4)
    content[second - 4 : second + 4] = b"\x42\x71\x3f\x99}&\x95\r"
    path = tmp_path / "damaged.png"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"damaged\.png can't be read .*damaged or cut off"):
        read_pixels(open_source("optical", [path]), Window.whole((160, 160)))


def test_a_jpeg_whose_data_end_early_is_refused_and_not_filled_with_grey(tmp_path: Path) -> None:
    content = saved(picture(200, 3), "JPEG")
    half = len(content) // 2
    path = tmp_path / "early.jpg"
    path.write_bytes(content[:half] + b"\xff\xd9" + content[half:])  # Pillow reads it, the rest grey
    assert read(path) is None
    path.write_bytes(content + b"a maker's notes")  # after the picture anything may follow
    assert read(path) is not None


def test_blocks_that_were_never_written_are_zeros(tmp_path: Path) -> None:
    path = tmp_path / "sparse.tif"
    whole = np.zeros((1, 128, 128), np.uint8)
    whole[0, :64, :64] = picture(64, 1)[..., 0]
    options = {"tiled": True, "blockxsize": 64, "blockysize": 64, "sparse_ok": True}
    with rasterio.open(
        path, "w", driver="GTiff", width=128, height=128, count=1, dtype="uint8", **options
    ) as out:
        out.write(whole[0, :64, :64], 1, window=((0, 64), (0, 64)))
    found = read(path)
    assert found is not None
    assert np.array_equal(found, whole)


def test_a_block_with_more_than_its_rows_is_decoded_to_its_end(tmp_path: Path) -> None:
    """Some programs write the last strip whole; the fast decoder of GDAL stops before its last bytes."""
    packed = zlib.compress(bytes([7]) * (64 * 64 + 100))
    tags = {256: 64, 257: 64, 258: 8, 259: 8, 262: 1, 273: 8, 277: 1, 278: 64, 279: len(packed)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + directory)
    values, _ = read_pixels(open_source("thermal", [path]), Window.whole((64, 64)))
    assert (values == 7).all()
