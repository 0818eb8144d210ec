"""What fixes the bytes of a scene's empty store: from its job and what was measured of it."""

from __future__ import annotations

from batchfuse.geometry.grid import Grid
from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.imagery.volume_header import header_bytes
from batchfuse.job import Job
from batchfuse.storage.nifti_header import header_for
from batchfuse.storage.store import Layout, RasterLayout, VolumeLayout
from batchfuse.task import Work, encoding

__all__ = ["layout_of"]


def layout_of(work: Work) -> Layout:
    """What fixes the bytes of the scene's empty store."""
    return _volume_layout(work) if work.job.is_volume else _raster_layout(work)


def _raster_layout(work: Work) -> RasterLayout:
    job, made = work.job, encoding(work)
    grid = job.scene.grid
    assert isinstance(grid, Grid)
    return RasterLayout(
        grid=grid,
        bands=_band_names(job),
        dtype=job.dtype,
        fill=made.fill,
        tile_size=max(job.tiling.sizes),
        zarr_format=job.zarr_format,
        inner=job.shard,
        scale=made.scale,
        offset=made.offset,
        units=_units(job),
        long_name=_long_name(job),
    )


def _volume_layout(work: Work) -> VolumeLayout:
    job, made = work.job, encoding(work)
    grid = job.scene.grid
    assert isinstance(grid, VolumeGrid)
    scale, offset = (None if values is None else values[0] for values in (made.scale, made.offset))
    reference, _ = header_bytes(job.reference.files[0])
    return VolumeLayout(
        grid=grid,
        dtype=job.dtype,
        fill=made.fill,
        tile_sizes=job.tiling.sizes,
        zarr_format=job.zarr_format,
        inner=job.shard,
        scale=scale,
        offset=offset,
        units=_units(job),
        long_name=_long_name(job),
        header=header_for(reference, grid, job.dtype, scale, offset),
    )


def _units(job: Job) -> str | None:
    return job.reference.units if job.units == "reference" else None


def _long_name(job: Job) -> str:
    return f"{' + '.join(source.role for source in job.scene.sources)}, fused"


def _band_names(job: Job) -> tuple[str, ...]:
    """Names of the fused bands: the file's own where they tell the bands apart."""
    bands = job.reference.bands
    names = tuple(band.name for band in bands)
    if job.color != "bands" and len(bands) == 1:
        return ("fused",)
    if all(names) and len(set(names)) == len(names):
        return names
    numbers = tuple(f"band {number}" for number in job.reference.numbers)
    return numbers if job.color == "bands" else ("red", "green", "blue")
