"""NIfTI files on disk: their headers become sources (nibabel)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from batchfuse.errors import SourceError
from batchfuse.imagery.scene import Band, Source, refuse_impossible, refuse_unusable
from batchfuse.imagery.volume_header import has_volume_header, partner, read_header

__all__ = ["is_volume", "open_volumes"]


def is_volume(path: Path) -> bool:
    """Whether a file is one of NIfTI: by its name, .nii or .nii.gz in any case, or as .hdr and .img.

    Since ENVI and ERDAS call their rasters .hdr and .img too, those count where the .hdr begins as a NIfTI
    or ANALYZE header does.
    """
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".nii"):
        return True
    if not name.endswith((".hdr", ".img")):
        return False
    return has_volume_header(path if name.endswith(".hdr") else partner(path, ".hdr"))


def open_volumes(
    role: str,
    path: Path,
    *,
    volume: int | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    labels: bool = False,
) -> tuple[Source, ...]:
    """The sources in a NIfTI file, or in the pair of .hdr and .img that either names: one a volume.

    A file of three axes has one, so has one of four whose last is of length 1. ``volume`` picks one, counted
    from 0. ``scale``, ``offset`` and ``nodata`` override slope and intercept, and add what the format can't
    say; ``labels`` says that values are names, which are never mixed.

    A source's ``place`` is a VolumeGrid, in mm whatever unit the header uses, and its one band's number the
    volume counted from 1. Only headers are read.

    Raises:
        SourceError: the file can't be opened, holds no volume of real numbers, or not the one asked for.
    """
    header = read_header(path)
    if volume is not None and not 0 <= volume < header.volumes:
        has = f"volumes 0 to {header.volumes - 1}" if header.volumes > 1 else "one volume, 0"
        raise SourceError(f"{path} has {has}: there is no `volume: {volume}`")
    dtype = header.dtype.name
    band = Band(
        file=0,
        number=1,
        name="",
        scale=header.scale if scale is None else scale,
        offset=header.offset if offset is None else offset,
        nodata=nodata,
    )
    refuse_unusable(band.scale, band.offset, path)
    if nodata is not None:
        refuse_impossible(nodata, dtype, path)
    wanted = range(header.volumes) if volume is None else (volume,)
    return tuple(
        Source(
            role=role,
            files=(header.file,),
            place=header.grid,
            dtype=dtype,
            bands=(replace(band, number=number + 1),),
            labels=labels,
            warnings=header.warnings,
        )
        for number in wanted
    )
