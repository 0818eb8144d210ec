"""The memory that a plan says a worker needs, against what it uses at most: over different recipes.

    python benchmarks/memory_promise.py [FOLDER] [--only NAME]

Makes scenes of several kinds and fuses two of each kind in a process of its own, two tiles in five by the
network and the others by a method that does nothing, which saves time and no memory. Prints what the plan
promises, the peak resident memory of the process, and their ratio: never above 1, and not far below.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))

NETWORK = 5  # of so many tiles two are fused by the network, early and late ones
CASES: dict[str, dict[str, Any]] = {
    "gray pair": {"optical": {"bands": 1}},
    "colour, other zone": {"thermal": {"zone": 33, "spacing": 30.0}},
    "tiles of 256": {"tiles": 256},
    "tiles of 2048": {"tiles": 2048, "optical": {"bands": 1}},
    "mean": {"fusion": {"strategy": "mean"}},
    "detail": {"fusion": {"strategy": "detail"}, "optical": {"bands": 1}},
    "finer source": {"thermal": {"spacing": 2.5, "size": 8000}, "optical": {"bands": 1, "size": 2000}},
    "much finer, float64": {
        "thermal": {"spacing": 2.5, "size": 8000, "dtype": "float64"},
        "optical": {"bands": 1, "size": 2000},
        "tiles": 976,
    },
    "colour, float64, tiles of 256": {"optical": {"dtype": "float64"}, "tiles": 256},
    "finer source, turned": {
        "thermal": {"spacing": 2.5, "size": 8000, "turn": 30.0},
        "optical": {"bands": 1, "size": 2000},
    },
    "eight bands": {"fusion": {"color": "bands"}, "optical": {"bands": 8}},
    "three sources": {"more": 1},
    "float64": {"optical": {"bands": 1, "dtype": "float64"}, "thermal": {"dtype": "float64"}},
    "one thread": {"threads": 1},
    "volumes, axial": {"volume": "axial"},
    "volumes, sagittal": {"volume": "sagittal"},
    "volumes, triplanar": {"volume": "triplanar"},
}


class Some:
    """The network for some tiles, nothing for the others."""

    def __init__(self, **settings: Any) -> None:
        from batchfuse.fusion.windowed import Res2NetFuser

        self._network = Res2NetFuser(**settings)
        self._tiles = 0
        self.device, self.precision = self._network.device, self._network.precision

    def survey(self, sources: NDArray[Any], valid: NDArray[Any], core: Any) -> Any:
        """One survey by the network; what it finds counts for nothing here."""
        self._found = getattr(self, "_found", None) or self._network.survey(sources, valid, core)
        return self._found

    def fuse(self, sources: NDArray[Any], core: Any, survey: Any) -> NDArray[Any]:
        self._tiles += 1
        if self._tiles % NETWORK < 2:
            fused: NDArray[Any] = self._network.fuse(sources, core, survey)
            return fused
        rows, columns = core.slices
        return np.ascontiguousarray(sources[0][..., rows, columns])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="where the scenes and stores go")
    parser.add_argument("--only", help="one case")
    parser.add_argument("--case", help="fuse one case in this process")
    arguments = parser.parse_args()
    if arguments.case:
        fuse(arguments.folder, arguments.case)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        print(f"{'recipe':>20} {'promised MB':>12} {'peak MB':>8} {'ratio':>6}")
        for name in CASES:
            if arguments.only in (None, name):
                made = folder / name
                made.mkdir(exist_ok=True)
                make(made, name)
                command = [sys.executable, __file__, str(made), "--case", name]
                found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
                promised, peak = found["promised"] / 1e6, found["peak"] / 1e6
                print(f"{name:>20} {promised:12.0f} {peak:8.0f} {peak / promised:6.2f}", flush=True)


def make(folder: Path, name: str) -> None:
    """The files of a case."""
    from memory import make_volumes

    case = CASES[name]
    if "volume" in case:
        make_volumes(folder, 64, ".nii")
        made = [folder / f"64_{role}.nii" for role in ("pet", "mri")]
    else:
        made = [folder / f"{name}_{role}.tif" for role in roles_of(name)]
        for path, role in zip(made, roles_of(name), strict=True):
            settings = case.get("optical" if role == "optical" else "thermal", {})
            raster(path, **{"bands": 3 if role == "optical" else 1, **settings})
    for path in made:
        twin = path.with_name(f"twin_{path.name}")
        if not twin.exists():
            twin.hardlink_to(path)


def roles_of(name: str) -> list[str]:
    """The sources of a case of rasters."""
    return ["thermal", "optical", *(f"more{i}" for i in range(CASES[name].get("more", 0)))]


def raster(
    path: Path,
    bands: int,
    size: int = 4000,
    spacing: float = 10.0,
    zone: int = 32,
    dtype: str = "uint16",
    turn: float = 0.0,
) -> None:
    """A texture whose upper left corner is 500,000, 5,600,000 of zone 32, unless it is there.

    Turned by so many degrees about its centre.
    """
    import rasterio
    from affine import Affine
    from rasterio.warp import transform_bounds

    if path.exists():
        return
    edge = size * spacing if spacing == 2.5 else size * 10.0
    bounds = 500_000.0, 5_600_000.0 - edge, 500_000.0 + edge, 5_600_000.0
    if zone != 32:
        bounds = transform_bounds("EPSG:32632", f"EPSG:326{zone}", *bounds)
    columns = round((bounds[2] - bounds[0]) / spacing)
    rows = round((bounds[3] - bounds[1]) / spacing)
    options = {"driver": "GTiff", "width": columns, "height": rows, "count": bands, "dtype": dtype}
    upright = Affine(spacing, 0, bounds[0], 0, -spacing, bounds[3])
    turned = Affine.rotation(turn, upright @ (columns / 2, rows / 2)) @ upright
    place = {"crs": f"EPSG:326{zone}", "transform": turned}
    texture = np.random.default_rng(0).integers(1000, 9000, (512, columns)).astype(dtype)
    kept = {"tiled": True, "compress": "deflate", "zlevel": 1}
    with rasterio.open(path, "w", **options, **place, **kept) as dataset:
        for top in range(0, rows, 512):
            height = min(512, rows - top)
            for band in range(1, bands + 1):
                window = rasterio.windows.Window(0, top, columns, height)
                dataset.write(np.roll(texture[:height], band * 7 + top, 1), band, window=window)


def fuse(folder: Path, name: str) -> None:
    """Fuses a case and prints what was promised and what it took, as JSON."""
    import batchfuse

    case = CASES[name]
    from batchfuse.budget import memory_of
    from batchfuse.fusion.methods import method

    batchfuse.register(
        batchfuse.Method("some", "__main__:Some", method("res2netfuse").strategies, "res2netfuse")
    )
    recipe: dict[str, Any] = {
        "inputs": {role: f"{{scene}}_{role}.tif" for role in roles_of(name)},
        "reference": "optical",
        "fusion": {**case.get("fusion", {}), "method": "some"},
        "tiles": {"size": case.get("tiles", 1024)},
    }
    if "volume" in case:
        recipe["inputs"] = {"pet": "{scene}_pet.nii", "mri": "{scene}_mri.nii"}
        recipe |= {"reference": "mri", "fusion": {"plane": case["volume"], "method": "some"}}
    recipe |= {"output": {"path": "fused"}, "folder": folder}
    made = batchfuse.Recipe.model_validate(recipe)
    threads = case.get("threads", 2)
    profile = batchfuse.Profile.model_validate({"threads": threads})
    promised = memory_of(batchfuse.make_plan(made).jobs, profile)
    report = batchfuse.run(made, profile, overwrite=True)
    if report.exit_code:
        sys.exit(str(report.outcomes))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"promised": promised, "peak": peak}))


if __name__ == "__main__":
    main()
