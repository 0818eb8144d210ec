"""Dates in names. Oracles: what the agencies say their names mean, and datetime."""

from __future__ import annotations

import re
import string
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rasters import write_raster

import batchfuse
from batchfuse.imagery.dates import acquired

DAYS = st.dates(date(1972, 1, 1), date(2049, 12, 31))


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("LC08_L2SP_195025_20130707_20200912_02_T1_ST_B10.TIF", "2013-07-07"),
        ("LC08_L1TP_195025_20130707_B10.TIF", "2013-07-07"),
        ("LE07_L1GT_224063_19990801_20170217_01_T2_B6_VCID_1.TIF", "1999-08-01"),
        ("LT52240631988227CUB02_B6.TIF", "1988-08-14"),
        ("LC80130312015295LGN00_B10_toa.tif", "2015-10-22"),
        ("T32UMB_20200615T103031_B04_10m.jp2", "2020-06-15"),
        ("S2A_MSIL2A_20200615T103031_N0214_R108_T32UMB_20200616T021133.tif", "2020-06-15"),
        ("ECOSTRESS_L2_LSTE_12345_001_20200615T103031_0601_01.tif", "2020-06-15"),
        ("MOD11A1.A2019123.h18v04.006.2019124085234.tif", "2019-05-03"),
        ("HLS.S30.T10SEH.2023196T184921.v2.0.B02.tif", "2023-07-15"),
        ("clip_LC08_L2SP_195025_20130707_20200912_02_T1_ST_B10.TIF", "2013-07-07"),
        ("field-2024-06-15.tif", "2024-06-15"),
        ("2024_06_15_thermal.tif", "2024-06-15"),
        ("thermal_20240615.tif", "2024-06-15"),
        ("DJI_20240615103031_0001_T.JPG", "2024-06-15"),
        ("IMG_20240615_103031.jpg", "2024-06-15"),
    ],
)
def test_names_tell_the_day_of_acquisition_and_never_that_of_processing(name: str, day: str) -> None:
    assert acquired(name) == date.fromisoformat(day)


@pytest.mark.parametrize(
    "name",
    [
        "thermal.tif",
        "S2A_OPER_MSI_L1C_TL_EPA__20170425T091122_A000734_T33TUL_B04.jp2",  # when it was made
        "mosaic_20240101_20241231.tif",  # a span
        "20241301.tif",  # no such month
        "20230229.tif",  # no such day
        "LT52240631988367CUB02_B6.TIF",  # 1988 had 366 days
        "18991231.tif",
        "20991231.tif",
        "tile20240615.tif",  # might be anything
        "a1b2c320240615d4.tif",
        "620240615.tif",
        "20240615256199.tif",  # 14 digits that tell no time
    ],
)
def test_other_digits_tell_nothing(name: str) -> None:
    assert acquired(name) is None


@given(day=DAYS, made=DAYS, path=st.integers(0, 999_999))
def test_landsat_names_tell_their_first_date_whatever_the_second(day: date, made: date, path: int) -> None:
    stem = f"_L2SP_{path:06}_{day:%Y%m%d}_{made:%Y%m%d}_02_T1_SR_B4.TIF"
    assert acquired(f"LC08{stem}") == acquired(f"LT05{stem}") == day
    assert acquired(f"LT5{path:06}{day:%Y%j}CUB02_B6.TIF") == day


@given(day=st.datetimes(datetime(1972, 1, 1), datetime(2049, 12, 31)), made=DAYS)
def test_sentinel_names_tell_their_first_stamp(day: datetime, made: date) -> None:
    assert acquired(f"T32UMB_{day:%Y%m%dT%H%M%S}_B04.jp2") == day.date()
    name = f"S2B_MSIL1C_{day:%Y%m%dT%H%M%S}_N0500_R051_T32TMT_{made:%Y%m%d}T021133.tif"
    assert acquired(name) == day.date()


@given(text=st.text(string.ascii_letters + string.digits + "_-. ", max_size=30))
def test_a_name_tells_a_day_only_where_eight_of_its_digits_in_a_row_are_it(text: str) -> None:
    found = acquired(text)
    if found is not None:
        assert found.strftime("%Y%m%d") in re.sub(r"[-_]", "", text) or found.strftime("%Y%j") in text


@given(number=st.integers(0, 10**20))
def test_a_number_of_other_than_eight_or_fourteen_digits_is_no_date(number: int) -> None:
    digits = str(number)
    assume(len(digits) not in (8, 14))
    for name in (f"scene_{digits}.tif", f"{digits}_B4.TIF", f"scene-{digits}-x.tif"):
        assert acquired(name) is None


@given(number=st.integers(0, 99_999_999))
def test_eight_digits_are_a_date_only_if_the_calendar_has_it(number: int) -> None:
    try:
        wanted = datetime.strptime(f"{number:08}", "%Y%m%d").date()
    except ValueError:
        wanted = None
    if wanted is not None and not 1972 <= wanted.year <= 2049:
        wanted = None
    assert acquired(f"scene_{number:08}.tif") == wanted


def plan_of(folder: Path, thermal: str, optical: str) -> Any:
    for name in (thermal, optical):
        write_raster(folder / name, np.arange(900, dtype=np.uint16).reshape(30, 30))
    return batchfuse.make_plan(
        batchfuse.Recipe(inputs={"thermal": thermal, "optical": optical}, folder=folder)
    )


def test_sources_a_season_apart_are_warned_about_in_plan_and_report(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        "LC08_L2SP_195025_20130707_20200912_02_T1_ST_B10.TIF",
        "LC08_L2SP_195025_20131230_20200912_02_T1_SR_B4.TIF",
    )
    (warning,) = plan.jobs[0].warnings
    assert warning.startswith(
        "thermal was taken on 2013-07-07 and optical on 2013-12-30, 176 days apart, as LC08_"
    )
    assert "\n" not in warning
    assert warning in batchfuse.run(plan.recipe).outcomes[0].warnings


@pytest.mark.parametrize(
    ("thermal", "optical"),
    [
        ("a_20240601.tif", "b_20240701.tif"),  # 30 days
        ("a_20240601.tif", "b.tif"),
        ("LC08_L2SP_195025_20130707_20200912_x.TIF", "LC08_L2SP_195025_20130707_20130801_y.TIF"),
    ],
)
def test_close_or_unknown_dates_are_no_warning(tmp_path: Path, thermal: str, optical: str) -> None:
    assert plan_of(tmp_path, thermal, optical).jobs[0].warnings == ()
