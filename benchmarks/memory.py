"""Peak memory against the size of the scene: it must not grow.

    python benchmarks/memory.py [FOLDER]
    python benchmarks/memory.py --volumes [FOLDER]

Makes pairs of 5,000² and 20,000² pixels (optical at 10 m, thermal at 30 m in the neighbouring UTM zone)
and fuses each in a process of its own: with the network, with a method that does nothing, and with the
network for a tenth of the tiles. With ``--volumes``: pairs of 512 x 512 x 128, 300 and 600 voxels of float32,
one of them oblique, uncompressed or (gz) not, fused in a plane by the method that does nothing, or by the
network. Prints the peak resident memory of each process and its children.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

VOLUMES = (
    (128, "network", "axial"),
    *((slices, "nothing", plane) for plane in ("axial", "sagittal") for slices in (128, 300, 600)),
    (600, "nothing", "triplanar"),
    (128, "nothing", "axial gz"),
    (600, "nothing", "axial gz"),
)
CASES = ((5_000, "network"), (5_000, "nothing"), (20_000, "nothing"), (20_000, "tenth"))


class Nothing:
    """A fuser that hands back its first source: what is left is the engine."""

    device, precision = "cpu", "float32"

    def __init__(self, **_: Any) -> None:
        pass

    def fuse(self, sources: NDArray[Any], core: Any, survey: Any) -> NDArray[np.float32]:  # noqa: ARG002
        rows, columns = core.slices
        return np.ascontiguousarray(sources[0][..., rows, columns])


class Tenth:
    """The network for every tenth tile, nothing for the others."""

    def __init__(self, **settings: Any) -> None:
        from batchfuse.fusion.windowed import Res2NetFuser

        self._network = Res2NetFuser(**settings)
        self._tiles = 0
        self.device, self.precision = self._network.device, self._network.precision

    def fuse(self, sources: NDArray[Any], core: Any, survey: Any) -> NDArray[Any]:
        self._tiles += 1
        fuser: Any = self._network if self._tiles % 10 == 0 else Nothing()
        fused: NDArray[Any] = fuser.fuse(sources, core, survey)
        return fused


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="where the scenes and stores go")
    parser.add_argument("--volumes", action="store_true", help="volumes in place of rasters")
    parser.add_argument("--volume", nargs=3, metavar=("SLICES", "METHOD", "PLANE"), help="one of those")
    parser.add_argument("--case", nargs=2, metavar=("SIZE", "METHOD"), help="fuse one case in this process")
    arguments = parser.parse_args()
    if arguments.case:
        fuse_case(arguments.folder, int(arguments.case[0]), arguments.case[1])
        return
    if arguments.volume:
        fuse_volumes(arguments.folder, int(arguments.volume[0]), *arguments.volume[1:])
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        print(f"{'scene':>9} {'method':>9} {'peak MB':>8} {'s':>7} {'Mpixel/s':>9}")
        for slices, name, plane in VOLUMES if arguments.volumes else ():
            make_volumes(folder, slices, ".nii.gz" if "gz" in plane else ".nii")
            command = [sys.executable, __file__, str(folder), "--volume", str(slices), name, plane]
            subprocess.run(command, check=True)
        for size, name in () if arguments.volumes else CASES:
            make_pair(folder, size)
            command = [sys.executable, __file__, str(folder), "--case", str(size), name]
            subprocess.run(command, check=True)


def make_pair(folder: Path, size: int) -> None:
    """An optical and a thermal GeoTIFF of this size, unless they are there."""
    from rasterio.warp import transform_bounds

    west, south, east, north = 500_000.0, 5_600_000 - 10 * size, 500_000 + 10 * size, 5_600_000.0
    write(folder / f"{size}_optical.tif", "EPSG:32632", (west, south, east, north), 10, 1)
    write(
        folder / f"{size}_thermal.tif",
        "EPSG:32633",
        transform_bounds("EPSG:32632", "EPSG:32633", west, south, east, north),
        30,
        2,
    )


def write(path: Path, crs: str, bounds: tuple[float, float, float, float], spacing: float, seed: int) -> None:
    """A raster of smooth noise, block by block."""
    import rasterio
    from affine import Affine
    from rasterio.windows import Window

    if path.exists():
        return
    west, south, east, north = bounds
    rows, columns = round((north - south) / spacing), round((east - west) / spacing)
    rng = np.random.default_rng(seed)
    with rasterio.open(
        path.with_suffix(".partial"),
        "w",
        driver="GTiff",
        width=columns,
        height=rows,
        count=1,
        dtype="uint16",
        crs=crs,
        transform=Affine(spacing, 0, west, 0, -spacing, north),
        tiled=True,
        blockxsize=512,
        blockysize=512,
        compress="deflate",
        zlevel=1,
        nodata=0,
    ) as dataset:
        texture = rng.integers(1000, 9000, (512, 512), np.uint16)
        for top in range(0, rows, 512):
            for left in range(0, columns, 512):
                height, width = min(512, rows - top), min(512, columns - left)
                block = texture[:height, :width] + np.uint16((top // 7 + left // 11) % 5000)
                dataset.write(block, 1, window=Window(left, top, width, height))
    path.with_suffix(".partial").rename(path)


def make_volumes(folder: Path, slices: int, ending: str) -> None:
    """Two volumes of 512 x 512 voxels and so many slices, the second turned, unless they are there."""
    import gzip

    import nibabel

    turn = np.deg2rad(8)
    straight = np.diag([0.5, 0.5, 1.0, 1.0])
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    rng = np.random.default_rng(0)
    for name, affine in (("mri", straight), ("pet", turned @ straight)):
        path = folder / f"{slices}_{name}{ending}"
        if path.exists():
            continue
        image = nibabel.Nifti1Image(np.zeros((512, 512, 1), np.float32), affine)
        header = image.header.copy()
        header.set_data_shape((512, 512, slices))
        header.set_sform(affine, 1)
        header["vox_offset"], header["magic"] = 352, b"n+1"
        with gzip.open(path, "wb", 1) if ending.endswith("gz") else path.open("wb") as file:
            file.write(header.binaryblock + bytes(4))
            texture = rng.random((512, 512), np.float32)
            for number in range(slices):
                file.write((np.roll(texture, number) * (100 + number % 50)).tobytes())


def fuse_volumes(folder: Path, slices: int, name: str, plane: str) -> None:
    """Fuses one pair of volumes and prints the peak memory of this process."""
    ending = ".nii.gz" if "gz" in plane else ".nii"
    recipe = {
        "inputs": {"pet": f"{slices}_pet{ending}", "mri": f"{slices}_mri{ending}"},
        "reference": "mri",
        "fusion": {"plane": plane.split()[0]},
    }
    measure(folder, recipe, f"{slices}", name, plane, slices * 512 * 512)


def fuse_case(folder: Path, size: int, name: str) -> None:
    """Fuses one pair and prints the peak memory of this process."""
    inputs = {"thermal": f"{size}_thermal.tif", "optical": f"{size}_optical.tif"}
    measure(folder, {"inputs": inputs}, f"{size}²", name, "", size * size)


def measure(folder: Path, recipe: dict[str, Any], scene: str, name: str, plane: str, pixels: int) -> None:
    """Fuses a scene by a method and prints the peak memory of this process and its children."""
    import batchfuse

    strategies = {"l1": batchfuse.Strategy("l1", 12, None, "for the measurement")}
    fuser: dict[str, Callable[..., Any]] = {"nothing": Nothing, "tenth": Tenth}
    if name in fuser:
        weights = "res2netfuse" if name == "tenth" else ""
        batchfuse.register(batchfuse.Method(name, f"__main__:{fuser[name].__name__}", strategies, weights))
    fusion = {**recipe.get("fusion", {}), "method": "res2netfuse" if name == "network" else name}
    made = {**recipe, "fusion": fusion, "output": {"path": f"{scene}_{name}"}, "folder": folder}
    started = time.monotonic()
    report = batchfuse.run(batchfuse.Recipe.model_validate(made), overwrite=True)
    seconds = time.monotonic() - started
    if report.exit_code:
        sys.exit(str(report.outcomes))
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(
        f"{scene:>9} {name:>9} {peak / 1024:8.0f} {seconds:7.1f} {pixels / 1e6 / seconds:9.2f} {plane}",
        flush=True,
    )


if __name__ == "__main__":
    main()
