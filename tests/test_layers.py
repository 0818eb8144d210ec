"""The folder tree is the architecture: who may import whom, and which library has which door."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import batchfuse

PACKAGE = Path(batchfuse.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

DASK = ("workers.py", "dask_pool.py", "started_workers.py", "batch_system.py")
DOORS = {
    "torch": ("fusion/", "training/"),
    "safetensors": ("fusion/",),
    "rasterio": ("imagery/", "storage/export.py"),
    "numba": ("imagery/",),
    "nibabel": ("imagery/", "storage/"),
    "zarr": ("storage/",),
    "numcodecs": ("storage/",),
    "pydantic": ("recipe", "profile.py"),
    "yaml": ("recipe",),
    "dask": DASK,
    "distributed": DASK,
    "dask_jobqueue": ("batch_system.py",),
    "click": ("cli/",),
    "rich": ("terminal.py",),
    "PIL": ("report/", "training/"),
    "scipy": ("metrics/",),
}
MAY_IMPORT = {
    "system": {"errors"},
    "geometry": set(),
    "imagery": {"system", "geometry", "errors"},
    "storage": {"system", "geometry", "files", "errors"},
    "fusion": {"system", "geometry", "files", "errors"},
    "training": {"system", "fusion", "errors"},
    "evaluation": {"system", "geometry", "errors"},
    "report": {"system", "errors"},
    "metrics": {"errors"},
    "scout": {"system", "geometry", "imagery", "plan", "recipe", "errors"},
}


# the top level, from what is called to what calls: each module may import those of earlier lines
ORDER = (
    ("errors", "files", "machine", "pace", "quiet"),
    ("processes",),
    ("recipe_file", "recipe_mistakes", "recipe_values", "profile", "recipe_grid", "recipe"),
    ("job",),
    ("budget", "scene_jobs"),
    ("plan",),
    ("place", "retries", "worker_log"),
    ("changes", "encoding", "exports", "source_contents", "status", "stored_recipe"),
    ("batch_system", "cluster", "dask_pool", "started_workers", "workers"),
    ("campaign_passes", "campaign"),
    ("picture", "task"),
    ("cuts",),
    ("scene_layout", "scene_tasks"),
    ("scene_run",),
    ("exactness",),
    ("engine",),
    ("one_scene",),
    ("comparison",),
    ("file_comparison", "pairing"),
    ("measuring",),
    ("evaluate",),
    ("terminal",),
    ("__main__", "__init__"),
)


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, also within functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_each_library_has_one_door(path: Path) -> None:
    place = path.relative_to(PACKAGE).as_posix()
    for module in imports(path):
        allowed = DOORS.get(module.split(".")[0])
        assert allowed is None or place.startswith(allowed), f"{place} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_folders_import_only_what_lies_below_them(path: Path) -> None:
    folder = path.relative_to(PACKAGE).parts[0]
    if folder not in MAY_IMPORT:
        return
    for module in imports(path):
        parts = module.split(".")
        if parts[0] == "batchfuse" and len(parts) > 1 and parts[1] != folder:
            assert parts[1] in MAY_IMPORT[folder], f"{folder} imports {module}"


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda p: p.stem)
def test_the_top_level_is_a_line_of_callers(path: Path) -> None:
    rank = {name: number for number, names in enumerate(ORDER) for name in names}
    for module in imports(path):
        parts = module.split(".")
        if parts[0] == "batchfuse" and len(parts) == 2 and parts[1] in rank:
            assert rank[parts[1]] <= rank[path.stem], f"{path.stem} imports {module}"


@pytest.mark.parametrize(
    ("command", "heavy"),
    [
        (["--help"], ("torch", "dask", "distributed", "rasterio", "zarr", "numba", "numpy")),
        (["run", "--help"], ("torch", "dask", "distributed", "rasterio", "zarr")),
        (["methods"], ("torch", "dask", "distributed", "rasterio", "zarr")),
        (
            ["evaluate", "--help"],
            ("torch", "dask", "distributed", "rasterio", "zarr", "numba", "numpy", "scipy"),
        ),
        (["init", "--help"], ("torch", "dask", "distributed", "rasterio", "zarr", "numba", "numpy")),
        (["schema"], ("torch", "dask", "distributed", "rasterio", "zarr")),
    ],
)
def test_light_commands_import_nothing_heavy(command: list[str], heavy: tuple[str, ...]) -> None:
    code = (
        "import sys, contextlib, io\n"
        "from batchfuse.cli import main\n"
        f"sys.argv = ['batchfuse', *{command!r}]\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    try:\n        main()\n    except SystemExit as done:\n        assert not done.code, done.code\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_every_public_name_is_there() -> None:
    for name in batchfuse.__all__:
        assert getattr(batchfuse, name) is not None
    assert set(batchfuse.__all__) <= set(dir(batchfuse))
