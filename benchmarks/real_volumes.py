"""What becomes of real volumes and of nasty files: a table of outcomes.

    python benchmarks/real_volumes.py FOLDER [OUTPUT] [--planes]

FOLDER holds ``pair_*/`` folders of NIfTI files that show one patient, and ``nasty/`` with files that go wrong
elsewhere. Every two files of a pair are fused. Each nasty file is fused with a brain, and with a made-up
partner on its own grid. The store has to be valid OME-Zarr with the reference's header, and the export has
to lie where nibabel and SimpleITK see the reference. With ``--planes`` each pair is fused in every plane as
a whole and in small tiles, and the largest difference is told.
"""

from __future__ import annotations

import argparse
import io
import itertools
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import zarr

import batchfuse

ENDINGS = (".nii", ".nii.gz", ".hdr")
PLANES = ("axial", "coronal", "sagittal", "triplanar")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", nargs="?", type=Path)
    parser.add_argument("--planes", action="store_true", help="tiles against the whole, instead")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder.resolve()
        output = (arguments.output or Path(scratch)).resolve()
        if arguments.planes:
            for name, files in pairs(folder):
                differences = [f"{plane} {difference(name, files, output, plane):.1e}" for plane in PLANES]
                print(f"| {name} | {' | '.join(differences)} |", flush=True)
            return
        for name, files in [*pairs(folder), *nasty(folder, output)]:
            print(f"| {name} | {outcome(name, files, output)} |", flush=True)


def pairs(folder: Path) -> Iterator[tuple[str, tuple[Path, Path]]]:
    """Every two files of each folder; a map of statistics with the brain it belongs to."""
    for place in sorted(folder.glob("pair_*")):
        files = sorted(file for file in place.iterdir() if file.name.endswith(ENDINGS))
        if len(files) == 1:
            files += [folder / "pair_mni152_1mm" / "T1.nii.gz"]
        for one, other in itertools.combinations(files, 2):
            yield f"{place.name}: {one.name}, {other.name}", (one, other)


def nasty(folder: Path, output: Path) -> Iterator[tuple[str, tuple[Path, Path]]]:
    """Each nasty file with a brain, and with a partner on its own grid."""
    brain = folder / "pair_same_brain_orientations" / "LPS.nii.gz"
    for file in sorted((folder / "nasty").iterdir()):
        if not file.name.endswith(ENDINGS):
            continue
        yield f"{file.name}, with a brain", (brain, file)
        partner = output / "partners" / file.name.replace(".hdr", ".nii")
        if make_partner(file, partner):
            yield f"{file.name}, own grid", (file, partner)


def make_partner(file: Path, partner: Path) -> bool:
    """Random texture on the grid of ``file``; False where it has none."""
    try:
        image: Any = nibabel.load(file)
        shape, affine = image.shape[:3], image.affine
    except Exception:  # that it can't be read is what is told
        return False
    if len(shape) != 3 or min(shape) < 1:
        return False
    partner.parent.mkdir(parents=True, exist_ok=True)
    made = nibabel.Nifti1Image(np.random.default_rng(0).random(shape, np.float32), affine)
    made.set_sform(affine, int(image.header["sform_code"]))
    made.set_qform(affine, int(image.header["qform_code"]))
    nibabel.save(made, partner)
    return True


def run(files: tuple[Path, Path], into: Path, name: str, **settings: Any) -> batchfuse.Report:
    """Fuses two files; of equally fine ones the first is the reference."""
    inputs = {"second": str(files[1]), "first": str(files[0])}
    folder = into / "".join(c if c.isalnum() else "_" for c in name)
    made = {
        "inputs": inputs,
        "output": {"path": str(folder), "also": ["nifti"]},
        "folder": into,
        **settings,
    }
    return batchfuse.run(batchfuse.Recipe.model_validate(made), overwrite=True)


def outcome(name: str, files: tuple[Path, Path], output: Path) -> str:
    """The one line of what became of two files."""
    try:
        report = run(files, output, name)
    except batchfuse.BatchfuseError as error:
        return f"refused: {error}"
    scene, *others = report.outcomes
    if scene.status != "complete":
        return f"{scene.status}: {scene.reason}"
    stored = (source["files"][0]["name"] for source in record(Path(str(scene.store)))["sources"])
    assert set(stored) == {file.name for file in files}
    reference = files[0] if record(Path(str(scene.store)))["reference"] == "first" else files[1]
    checks = checked(reference, Path(str(scene.store)), Path(scene.exports[0]))
    notes = [*scene.differences, *(f"warning: {w}" for w in scene.warnings)]
    many = f" ({1 + len(others)} volumes)" if others else ""
    return f"fused{many} like {reference.name}; {checks}" + "".join(f"; {note}" for note in notes)


def record(store: Path) -> dict[str, Any]:
    """What a store says of its making."""
    attributes: Any = zarr.open_group(store, mode="r").attrs
    found: dict[str, Any] = attributes["batchfuse"]
    return found


def checked(reference: Path, store: Path, export: Path) -> str:
    """Names what is wrong with the store and the export of a fused volume."""
    import ome_zarr_models
    import SimpleITK

    ome_zarr_models.open_ome_zarr(zarr.open_group(store, mode="r"))
    wanted: Any = nibabel.load(reference)
    exported: Any = nibabel.load(export)
    content = np.asarray(zarr.open_array(store / "nifti", mode="r")[:]).tobytes()
    kind = nibabel.Nifti1Header if content[:4] == b"\x5c\x01\x00\x00" else nibabel.Nifti2Header
    header = kind.from_fileobj(io.BytesIO(content))
    own = wanted.header
    wrong = []
    if not np.allclose(header.get_best_affine(), wanted.affine, atol=1e-4):
        wrong.append("the store's affine")
    if not np.allclose(exported.affine, wanted.affine, atol=1e-4) or exported.shape != wanted.shape[:3]:
        wrong.append("the export's affine or shape")
    for field in ("qform_code", "sform_code", "xyzt_units"):
        if header[field] != own[field] or exported.header[field] != own[field]:
            wrong.append(field)
    readers = "nibabel and SimpleITK agree"
    corner = tuple(n - 1 for n in exported.shape)
    there = (exported.affine @ [*corner, 1])[:3]
    image: Any = None
    try:
        image = SimpleITK.ReadImage(str(export))
    except RuntimeError as error:  # no NIfTI-2, no shear
        readers = f"nibabel agrees (SimpleITK: {str(error).splitlines()[-1].partition('ERROR: ')[2]})"
    if image is not None and own["sform_code"] + own["qform_code"] > 0:
        world = np.array(image.TransformIndexToPhysicalPoint(corner)) * (-1, -1, 1)
        if not np.allclose(world, there, atol=1e-2):
            wrong.append(f"SimpleITK, by {np.abs(world - there).max():.3g} mm")
    return "differs: " + ", ".join(wrong) if wrong else f"OME-Zarr valid, {readers}"


def difference(name: str, files: tuple[Path, Path], output: Path, plane: str) -> float:
    """The largest difference between small tiles and the whole, in units of 0..1."""
    import batchfuse.scene_jobs as jobs

    volumes = []
    for size, voxels, cube in ((48, 30_000, 40), (4096, 2**40, 4096)):
        jobs.VOXELS, jobs.CUBE = voxels, cube
        settings = {"fusion": {"plane": plane, "strategy": "mean"}, "tiles": {"size": size}}
        folder = output / f"tiles{size}"
        output_settings = {"path": str(folder), "units": "unit", "pyramid": False}
        report = run(files, output, name, **settings, output=output_settings)
        store = Path(str(report.outcomes[0].store))
        volumes.append(np.asarray(zarr.open_array(store / "0", mode="r")[:]))
    return float(np.nanmax(np.abs(volumes[0] - volumes[1])))


if __name__ == "__main__":
    main()
