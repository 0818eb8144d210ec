from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from batchfuse.encoding import Encoding
from batchfuse.geometry.grid import Affine, Grid
from batchfuse.imagery.scaling import Scaling
from batchfuse.imagery.scene import Band, Source, SourceFile


def source(nodata: float | None = None, scale: float = 1.0, offset: float = 0.0, bands: int = 1) -> Source:
    file = SourceFile(Path("a.tif"), 1, "0", ((1, 0),))
    made = tuple(Band(0, n + 1, "", scale, offset, nodata) for n in range(bands))
    return Source("optical", (file,), Grid((2, 3), Affine(1, 0, 0, 0, -1, 0)), "uint16", made)


def scaling(low: float, high: float) -> Scaling:
    return Scaling(low, high, low, high, 6, 6, 0)


FUSED = np.linspace(-0.1, 1.3, 6, dtype=np.float32).reshape(1, 2, 3)
VALID = np.array([[True, True, False], [True, True, True]])


def test_floats_come_back_in_physical_values_with_nan_where_invalid() -> None:
    encoding = Encoding.of("float32", "reference", source(nodata=0, scale=0.1), scaling(250, 300))
    stored = encoding.encoded(FUSED, VALID)
    assert stored.dtype == np.float32
    assert np.isnan(stored[0, 0, 2])
    assert np.allclose(stored[0][VALID], FUSED[0][VALID].astype(np.float64) * 50 + 250, rtol=1e-6)
    assert encoding.scale is None


def test_unit_floats_are_the_fused_values_themselves() -> None:
    stored = Encoding.of("float32", "unit", source(), scaling(250, 300)).encoded(FUSED, VALID)
    assert (stored[0][VALID] == FUSED[0][VALID]).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_integers_hold_file_values_and_a_reader_gets_the_physical_ones_back(dtype: str) -> None:
    reference = source(nodata=0, scale=0.5, offset=20.0)
    encoding = Encoding.of(dtype, "reference", reference, scaling(30, 70))
    stored = encoding.encoded(FUSED, VALID)
    assert stored.dtype == dtype
    assert encoding.fill == 0
    assert encoding.scale is not None
    assert encoding.offset is not None
    physical = stored[0].astype(float) * encoding.scale[0] + encoding.offset[0]
    wanted = FUSED[0] * 40 + 30
    assert np.abs(physical - wanted)[VALID].max() <= 0.25 + 1e-5
    assert stored[0, 0, 2] == 0


@pytest.mark.parametrize(
    ("dtype", "low", "high", "doubt"),
    [
        ("int16", 5_000, 55_000, "what lies beyond is cut"),
        ("uint16", 0.0, 0.46, "a few whole numbers"),
        ("uint16", 5_000, 55_000, None),
        ("float32", 0.0, 0.46, None),
        ("float16", 0.0, 2e5, "what lies beyond is cut"),
    ],
)
def test_a_type_that_cannot_hold_the_range_is_told(
    dtype: str, low: float, high: float, doubt: str | None
) -> None:
    encoding = Encoding.of(dtype, "reference", source(), scaling(low, high))
    said = " ".join(encoding.doubts(source(), scaling(low, high)))
    assert doubt in said if doubt else not said


def test_integers_saturate_and_valid_values_never_read_as_nodata() -> None:
    fused = np.array([[[-5.0, 0.0, 0.5], [1.0, 9.0, 0.001]]], np.float32)
    encoding = Encoding.of("uint8", "reference", source(), scaling(0, 255))
    stored = encoding.encoded(fused, np.ones((2, 3), bool))
    assert stored[0].tolist() == [[1, 1, 128], [255, 255, 1]]


@pytest.mark.parametrize(
    ("dtype", "nodata", "fill"),
    [("uint16", 65535.0, 65535), ("uint8", 300.0, 0), ("int16", None, -32768), ("uint8", float("nan"), 0)],
)
def test_the_fill_value_is_the_references_nodata_where_it_fits_and_valid_ends_move_off_it(
    dtype: str, nodata: float | None, fill: int
) -> None:
    encoding = Encoding.of(dtype, "reference", source(nodata=nodata), scaling(0, 1))
    assert encoding.fill == fill
    ends = encoding.encoded(np.array([[[-1e9, 1e9]]], np.float32), np.ones((1, 2), bool))
    info = np.iinfo(dtype)
    assert ends[0, 0].tolist() == [
        info.min + 1 if fill == info.min else info.min,
        info.max - 1 if fill == info.max else info.max,
    ]


def test_unit_integers_use_the_whole_type_and_carry_its_scale() -> None:
    encoding = Encoding.of("uint8", "unit", source(nodata=0), scaling(250, 300))
    stored = encoding.encoded(np.array([[[0.0, 0.5, 1.0]]], np.float32), np.ones((1, 3), bool))
    assert stored[0, 0].tolist() == [1, 128, 255]
    assert encoding.scale == (1 / 255,)
