"""How a store says where its pixels lie: the attributes of CF, GDAL and GeoZarr, made from a Grid.

No reader understands all of these and none is understood by every reader, so all are written:

- CF: the coordinates ``x`` and ``y``, and the grid mapping ``spatial_ref`` with ``crs_wkt``
  (xarray, rioxarray and odc-geo; GDAL before 3.13 takes the affine from ``x`` and ``y``),
- GDAL: ``_CRS`` on the image, ``spatial_ref`` and ``GeoTransform`` on the grid mapping,
- GeoZarr: the conventions ``proj:`` and ``spatial:`` on the image and on the group, and ``multiscales``
  on a group that has reduced levels inside.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray

from batchfuse.errors import StoreError
from batchfuse.geometry.grid import Grid

__all__ = ["GRID_MAPPING", "Georeference", "grid_from", "pixel_centres", "with_levels"]

GRID_MAPPING = "spatial_ref"
"""Name of the array that holds the grid mapping, as rioxarray and GDAL call it."""

_PROJ = {
    "schema_url": "https://raw.githubusercontent.com/zarr-conventions/geo-proj/refs/tags/v1/schema.json",
    "spec_url": "https://github.com/zarr-conventions/geo-proj/blob/v1/README.md",
    "uuid": "f17cb550-5864-4468-aeb7-f3180cfb622f",
    "name": "proj:",
    "description": "Coordinate reference system information for geospatial data",
}
_SPATIAL = {
    "schema_url": "https://raw.githubusercontent.com/zarr-conventions/spatial/refs/tags/v1/schema.json",
    "spec_url": "https://github.com/zarr-conventions/spatial/blob/v1/README.md",
    "uuid": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4",
    "name": "spatial:",
    "description": "Spatial coordinate information",
}
_MULTISCALES = {
    "schema_url": "https://raw.githubusercontent.com/zarr-conventions/multiscales/refs/tags/v1/schema.json",
    "spec_url": "https://github.com/zarr-conventions/multiscales/blob/v1/README.md",
    "uuid": "d35379db-88df-4056-af3a-620245f8e347",
    "name": "multiscales",
    "description": "Multiscale layout of zarr datasets",
}


class Georeference:
    """The attributes of each array of a raster store on ``grid``.

    Raises StoreError where PROJ can't read the grid's CRS. A rotated grid is a bug of the caller:
    the axes ``x`` and ``y`` can't say it.
    """

    def __init__(self, grid: Grid) -> None:
        if not grid.is_axis_aligned:
            raise ValueError(f"a store holds axis-aligned grids only, not {tuple(grid.affine)[:6]}")
        self._grid = grid
        self._crs = _parsed(grid.crs)

    def group(self) -> dict[str, Any]:
        """Attributes of the store's group."""
        return {"Conventions": "CF-1.10", **self._conventions()}

    def image(self) -> dict[str, Any]:
        """Attributes of the image: without ``coordinates`` a plain ``xarray.open_zarr`` loses the CRS."""
        found = {"grid_mapping": GRID_MAPPING, "coordinates": GRID_MAPPING, **self._conventions()}
        if self._crs is not None:
            found["_CRS"] = self._gdal_crs(self._crs)
        return found

    def grid_mapping(self) -> dict[str, Any]:
        """Attributes of the array ``spatial_ref``; ``grid_from`` reads them back."""
        found: dict[str, Any] = {}
        if self._crs is not None:
            found.update(_cf_parameters(self._crs))
            found["crs_wkt"] = _wkt2(self._crs)
            found["spatial_ref"] = self._grid.crs
        found["GeoTransform"] = " ".join(repr(float(n)) for n in self._grid.affine.to_gdal())
        return found

    def axis(self, name: str) -> dict[str, Any]:
        """Attributes of the coordinate ``x`` or ``y``."""
        letter = name.upper()
        if self._crs is None:
            return {"axis": letter, "long_name": f"{name} of the pixel centre"}
        for axis in self._crs.cs_to_cf():
            if axis.get("axis") == letter:
                return {**axis, "units": self._unit(axis)}
        # south-west oriented systems call both their axes Y
        return {"axis": letter, "standard_name": f"projection_{name}_coordinate"}

    def _unit(self, axis: Mapping[str, str]) -> str:
        assert self._crs is not None
        names = [a.unit_name for a in self._crs.axis_info]
        if self._crs.is_geographic and names and names[0] != "degree":
            return str(names[0])  # pyproj calls grads degrees
        return "m" if axis["units"] == "metre" else axis["units"]

    def _conventions(self) -> dict[str, Any]:
        rows, columns = self._grid.shape
        found: dict[str, Any] = {
            "zarr_conventions": [_SPATIAL],
            "spatial:dimensions": ["y", "x"],
            "spatial:transform_type": "affine",
            "spatial:transform": [float(n) for n in tuple(self._grid.affine)[:6]],
            "spatial:shape": [rows, columns],
            "spatial:bbox": [float(n) for n in self._grid.bounds],
            "spatial:registration": "pixel",
        }
        if self._crs is None:
            return found
        code = _authority_code(self._crs)
        proj = {"proj:code": code} if code else {"proj:wkt2": _wkt2(self._crs)}
        return {**found, "zarr_conventions": [_PROJ, _SPATIAL], **proj}

    def _gdal_crs(self, crs: pyproj.CRS) -> dict[str, Any]:
        """GDAL takes the first of url, wkt and projjson."""
        # the WKT as it came: made into WKT2 by PROJ, some systems are no longer the same to GDAL
        found: dict[str, Any] = {"wkt": self._grid.crs, "projjson": crs.to_json_dict()}
        authority, _, code = (_authority_code(crs) or "").partition(":")
        if authority == "EPSG":
            found["url"] = f"http://www.opengis.net/def/crs/EPSG/0/{code}"
        return found


def pixel_centres(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """World coordinates of the pixel centres: y of each row, x of each column."""
    rows, columns = grid.shape
    y = grid.affine.f + np.arange(0.5, rows, dtype=np.float64) * grid.affine.e
    x = grid.affine.c + np.arange(0.5, columns, dtype=np.float64) * grid.affine.a
    return y, x


def grid_from(grid_mapping: Mapping[str, Any], shape: Sequence[int]) -> Grid:
    """Make the grid of the attributes ``Georeference.grid_mapping`` wrote, bit for bit.

    Raises ValueError or KeyError where they don't hold a grid.
    """
    numbers = [float(n) for n in str(grid_mapping["GeoTransform"]).split()]
    if len(numbers) != 6:
        raise ValueError(f"GeoTransform has {len(numbers)} numbers, not 6")
    rows, columns = shape
    return Grid((int(rows), int(columns)), Affine.from_gdal(*numbers), grid_mapping.get("spatial_ref"))


def with_levels(
    attributes: Mapping[str, Any], levels: Mapping[str, Mapping[str, Any]], array: str = "fused"
) -> dict[str, Any]:
    """Attributes of a group with the ``multiscales`` convention: each level half as fine as the one before.

    ``levels`` are the attributes of the level's own group, by its name; finest first.
    """
    layout = [{"asset": array, "transform": _transform(1.0), **_place(attributes)}]
    for name, own in levels.items():
        before = layout[-1]["asset"]
        layout.append(
            {"asset": f"{name}/{array}", "derived_from": before, "transform": _transform(2.0), **_place(own)}
        )
    others = [found for found in attributes["zarr_conventions"] if found["uuid"] != _MULTISCALES["uuid"]]
    if not levels:
        return {key: value for key, value in attributes.items() if key != "multiscales"} | {
            "zarr_conventions": others
        }
    return {
        **attributes,
        "zarr_conventions": [_MULTISCALES, *others],
        "multiscales": {"layout": layout, "resampling_method": "average"},
    }


def _transform(factor: float) -> dict[str, list[float]]:
    """From one level to the next, along (band, y, x), in coordinates of pixel corners."""
    return {"scale": [1.0, factor, factor], "translation": [0.0, 0.0, 0.0]}


def _place(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: attributes[key] for key in ("spatial:transform", "spatial:shape")}


def _parsed(wkt: str | None) -> pyproj.CRS | None:
    if wkt is None:
        return None
    try:
        return pyproj.CRS.from_wkt(wkt)
    except pyproj.exceptions.CRSError as error:
        said = " ".join(str(error).split())
        raise StoreError(
            f"PROJ can't read the CRS of the reference ({said[:200]}): give it one with `crs:` in the recipe"
        ) from None


def _authority_code(crs: pyproj.CRS) -> str | None:
    """Code such as EPSG:32632, only where it means exactly this system."""
    found = crs.to_authority(min_confidence=100)
    if found is None or pyproj.CRS.from_authority(*found) != crs:
        return None
    return ":".join(found)


def _wkt2(crs: pyproj.CRS) -> str:
    return str(crs.to_wkt("WKT2_2019"))


def _cf_parameters(crs: pyproj.CRS) -> dict[str, Any]:
    with warnings.catch_warnings():
        # what CF has no parameter for is in the WKT beside it
        warnings.simplefilter("ignore")
        return dict(crs.to_cf())
