"""The versions that batchfuse is tested with can be had wherever it says that it runs."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
PINS = [
    Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1] not in "#"
]
FIRST = "3.11.0"
"""The earliest Python of pyproject.toml: distributions keep it for years."""


def test_the_package_says_the_python_that_is_tested_here() -> None:
    said = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert SpecifierSet(said).contains(FIRST)


@pytest.mark.parametrize("pin", PINS, ids=lambda pin: pin.name)
def test_each_pinned_package_installs_on_the_earliest_python(pin: Requirement) -> None:
    try:
        found = metadata(pin.name)
    except PackageNotFoundError:
        pytest.skip(f"{pin.name} is not installed here")
    assert pin.specifier.contains(found["Version"], prereleases=True), f"installed is {found['Version']}"
    assert SpecifierSet(found.get("Requires-Python", "")).contains(FIRST)
