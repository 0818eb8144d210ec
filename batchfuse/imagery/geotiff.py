"""Rasters on disk: their headers become sources (rasterio)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rasterio.errors import CRSError

from batchfuse.errors import RecipeError, SourceError
from batchfuse.imagery.header import Header, crs_of
from batchfuse.imagery.masks import open_mask
from batchfuse.imagery.scene import Band, MaskRule, Source, refuse_turned

__all__ = ["checked_crs", "open_source", "plane_crs", "visible_bands"]


def open_source(
    role: str,
    paths: Sequence[Path],
    *,
    bands: Sequence[int] | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    crs: str | None = None,
    mask: tuple[Path, MaskRule] | None = None,
    every_band: bool = False,
    labels: bool = False,
) -> Source:
    """The source these files make: one file, or one file a band, in order.

    ``bands`` counts through all files from 1; without it every band but alpha is taken: one or three, or as
    many as there are with ``every_band``. ``scale``, ``offset``, ``nodata`` and ``crs`` override what the
    files say; ``mask`` is a file that says more of which pixels are valid, and how to read it; ``labels`` are
    values that only nearest may resample.

    Raises:
        SourceError: a file can't be opened, its pixels are no image, or the mask doesn't fit them.
    """
    headers = [Header(path) for path in paths]
    for other in headers[1:]:
        _refuse_other_grid(headers[0], other)
    chosen = _chosen_bands(headers, bands, every_band)
    palette = _palette(headers, chosen)
    first = headers[0]
    made = tuple(headers[f].band(f, n, scale, offset, nodata) for f, n in chosen)
    if palette:
        made = tuple(
            Band(made[0].file, made[0].number, name, scale or 1.0, offset or 0.0, made[0].nodata)
            for name in (("",) if _is_gray(palette) else ("red", "green", "blue"))
        )
    return Source(
        role=role,
        files=tuple(header.file for header in headers),
        place=first.place(crs),
        dtype=_dtype(headers, chosen),
        bands=made,
        masks=tuple({f: (f, n) for f, n in chosen if headers[f].has_mask(n)}.values()),
        alphas=tuple({f: (f, a) for f, n in chosen if (a := headers[f].alpha(n)) is not None}.values()),
        quality=None if mask is None else open_mask(first, *mask, crs),
        palette=palette,
        block=first.block,
        bits=0 if palette else max(headers[f].bits(n) for f, n in chosen),
        units=first.units[chosen[0][1] - 1] or None,
        labels=labels,
        warnings=tuple(line for header in headers for line in header.warnings())
        + _coloured(role, first, palette),
        orientation=first.orientation(),
    )


def _coloured(role: str, first: Header, palette: Sequence[tuple[int, int, int, int]]) -> tuple[str, ...]:
    """A warning of a thermal image that has a table of colours: it is a drawing of temperatures."""
    if not palette or _is_gray(palette) or not re.search("therm|tir|lst|temp", role.lower()):
        return ()
    return (
        f"{first.path} has a colour table, and the brightness of its colours is fused, which is not "
        f"temperature: give the file that {role} was drawn from",
    )


def visible_bands(path: Path) -> dict[int, str]:
    """The bands of a file but alpha, counted from 1, with what it calls them.

    Raises SourceError where it can't be opened.
    """
    header = Header(path)
    return {number: header.descriptions[number - 1] or "" for number in header.visible_bands()}


def _chosen_bands(
    headers: Sequence[Header], wanted: Sequence[int] | None, every_band: bool
) -> list[tuple[int, int]]:
    """(file, band number) of each band of the source."""
    names = " + ".join(str(header.path) for header in headers)
    if wanted is None:
        chosen = [(f, n) for f, header in enumerate(headers) for n in header.visible_bands()]
        if not chosen:
            raise SourceError(f"{names} has nothing but alpha: name its band with `bands:` in the recipe")
        if len(chosen) not in (1, 3) and not every_band:
            raise SourceError(
                f"{names} has {len(chosen)} bands: say which one or which three (red, green, blue) with "
                "`bands:` in the recipe, or fuse each band of the reference with `fusion.color: bands`"
            )
        return chosen
    every = [(f, n) for f, header in enumerate(headers) for n in range(1, header.count + 1)]
    if max(wanted) > len(every):
        raise SourceError(f"{names} has {len(every)} bands, the recipe asks for band {max(wanted)}")
    if len(wanted) not in (1, 3) and not every_band:
        raise SourceError(
            f"`bands: {list(wanted)}` names {len(wanted)} bands of {names}: name one or three, or fuse each "
            "band of the reference with `fusion.color: bands`"
        )
    return [every[number - 1] for number in wanted]


def _palette(
    headers: Sequence[Header], chosen: Sequence[tuple[int, int]]
) -> tuple[tuple[int, int, int, int], ...]:
    palettes = [headers[f].palettes[n - 1] for f, n in chosen]
    if not any(palettes):
        return ()
    if len(chosen) > 1:
        raise SourceError(f"{headers[0].path} has a colour table: name that band alone with `bands:`")
    table = palettes[0] or {}
    return tuple(table.get(i, (0, 0, 0, 255)) for i in range(max(table) + 1))


def _is_gray(palette: Sequence[tuple[int, int, int, int]]) -> bool:
    return all(red == green == blue for red, green, blue, _ in palette)


def _dtype(headers: Sequence[Header], chosen: Sequence[tuple[int, int]]) -> str:
    found = {headers[f].dtypes[n - 1] for f, n in chosen}
    names = " + ".join(str(header.path) for header in headers)
    if any("complex" in dtype for dtype in found):
        raise SourceError(
            f"{names} has complex pixels: save their magnitude as a real raster first "
            "(gdal_calc -A FILE --calc 'abs(A)' --outfile OUT.tif)"
        )
    if len(found) > 1:
        raise SourceError(f"the bands of {names} have different types ({', '.join(sorted(found))})")
    return str(found.pop())


def _refuse_other_grid(first: Header, other: Header) -> None:
    if not first.shares_grid(other):
        raise SourceError(
            f"the bands of one source must share a grid, but {first.path} is "
            f"{first.shape[1]}x{first.shape[0]} and {other.path} is {other.shape[1]}x{other.shape[0]}"
            if first.shape != other.shape
            else f"the bands of one source must share a grid, but {first.path} and {other.path} "
            f"differ in geotransform or CRS: make them sources of their own, or warp one"
        )
    refuse_turned(str(first.path), first.orientation(), str(other.path), other.orientation())


def checked_crs(text: str, key: str) -> str:
    """The WKT of a CRS of the recipe; RecipeError where ``text``, which stands at ``key``, is none."""
    try:
        return str(crs_of(text).to_wkt())
    except (CRSError, ValueError) as error:
        raise RecipeError(f"{key}: {text!r} is no known CRS: write it as EPSG:32632, or as WKT") from error


def plane_crs(text: str, key: str) -> str:
    """The WKT of a CRS of the recipe in which a grid can lie; RecipeError where ``text`` is none."""
    known = crs_of(checked_crs(text, key))
    if not (known.is_geographic or known.is_projected):
        raise RecipeError(
            f"{key}: {text!r} is neither geographic nor projected, and has no plane for a grid: "
            "write one such as EPSG:32632"
        )
    return str(known.to_wkt())
