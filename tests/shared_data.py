"""Finds the real scenes that lie beside the checkout, or skips the test that wants them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("BATCHFUSE_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


def shared_data(name: str) -> Path:
    """The path of a real file or folder, such as ``geo/pair_crs_mismatch``."""
    path = ROOT / name
    if not path.exists():
        pytest.skip(f"the real data {name} is not here ({ROOT}; set BATCHFUSE_SHARED_DATA)")
    return path
