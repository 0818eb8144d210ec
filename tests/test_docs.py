"""The pages: their examples run, their links lead somewhere, and nothing in them is stale."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from affine import Affine
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image
from rasters import photo, write_raster
from volume_stores import anatomy, oblique, write_volume_store
from volume_stores import write_nifti as write_volume
from volumes import write_nifti

import batchfuse
from batchfuse.cli import commands
from batchfuse.fusion import methods
from batchfuse.report.progress import Lines

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "recipes" / "README.md"]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
FENCE = re.compile(r"^(`{3,})(\w*)\s*$")
NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
CHECKED = {"python", "console", "yaml", "toml"}
"""Languages of blocks that are run or read; ``sh`` has to say why not, ``text`` and ``csv`` claim nothing."""
PROGRESS = re.compile(r"^(?:\d+/\d+ tiles.*|\S+: \w+, \d+ of \d+ parts)\n", re.MULTILINE)
"""Lines that a run prints every ten seconds: on a busy machine there are some."""
INPUTS = {"thermal": "t.tif", "optical": "o.tif"}
GRID = Affine(10, 0, 500_000, 0, -10, 5_600_000)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    line: int
    language: str
    text: str
    reason: str | None
    """Why it is not run."""


@cache
def blocks(name: str) -> list[Block]:
    found: list[Block] = []
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    start, before = None, ""
    for number, line in enumerate(lines):
        fence = FENCE.match(line)
        if fence and start is None:
            start, language = number, fence[2]
        elif fence and start is not None:
            reason = NOT_RUN.fullmatch(before)
            text = "\n".join(lines[start + 1 : number]) + "\n"
            found.append(Block(start + 1, language, text, reason[1] if reason else None))
            start, before = None, ""
        elif start is None and line.strip():
            before = line.strip()
    assert start is None, f"{name}:{start} is not closed"
    return found


def generate() -> ModuleType:
    """docs/generate.py."""
    found = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


# --- examples -----------------------------------------------------------------------------------


def scene(folder: Path, name: str, shape: tuple[int, int] = (100, 120), **thermal: Any) -> None:
    """A thermal and an optical image, ``<name>_thermal.tif`` and ``<name>_optical.tif``."""
    seed = sum(map(ord, name))
    optical = np.rint(photo(shape, seed, bands=3) * 9000 + 500).astype(np.uint16)
    write_raster(folder / f"{name}_optical.tif", optical, transform=GRID)
    write_raster(folder / f"{name}_thermal.tif", thermal_image(shape, seed), transform=GRID, **thermal)


def thermal_image(shape: tuple[int, int], seed: int) -> NDArray[np.uint16]:
    return np.asarray(np.rint(photo(shape, seed + 1)[0] * 3000 + 28_000), np.uint16)


def landsat(folder: Path, product: str, names: str, shape: tuple[int, int]) -> None:
    """One band a file, 16 bits, named as USGS does."""
    for number, name in enumerate(names.split()):
        image = np.rint(photo(shape, number)[0] * 9000 + 9000).astype(np.uint16)
        write_raster(folder / f"{product}_{name}.TIF", image, nodata=0)


def of_readme(folder: Path) -> None:
    landsat(folder / "scenes", "LC08", "B10 B4 B3 B2", (60, 70))


def of_tutorial(folder: Path) -> None:
    quickstart = ROOT / "recipes" / "quickstart"
    shutil.copytree(quickstart / "scenes", folder / "recipes/quickstart/scenes")
    shutil.copy(quickstart / "recipe.yaml", folder / "recipes/quickstart")


def of_recipes(folder: Path) -> None:
    scene(folder / "scenes", "a", (50, 60))
    write_recipe(folder)


def of_commands(folder: Path) -> None:
    scene(folder, "a")
    scene(folder, "b")
    gray = np.rint(photo((90, 96), 7)[0] * 255).astype(np.uint8)
    (folder / "photographs").mkdir()
    Image.fromarray(gray).save(folder / "photographs" / "coffee.png")


def of_values(folder: Path) -> None:
    scene(folder, "plain")
    kelvin = (thermal_image((100, 120), 3) / 100).astype(np.float32)
    kelvin[:, :12] = -9999
    write_raster(folder / "plain_thermal.tif", kelvin, transform=GRID)
    write_recipe(folder)


def of_grids(folder: Path) -> None:
    shutil.copytree(ROOT / "recipes/quickstart/scenes", folder / "scenes")
    shutil.copy(ROOT / "recipes/quickstart/recipe.yaml", folder)


def of_outputs(folder: Path) -> None:
    """The quickstart's fused scene, of which a corner is enough."""
    of_tiling(folder)
    assert batchfuse.run(batchfuse.Recipe.load(folder / "recipe.yaml")).exit_code == 0
    (folder / "volumes").mkdir()
    reference = write_volume(folder / "mri.nii.gz", anatomy(), oblique())
    write_volume_store(folder / "volumes" / "brain.zarr", reference, anatomy())


def of_tiling(folder: Path) -> None:
    of_grids(folder)
    optical = folder / "scenes" / "valley_optical.tif"
    with rasterio.open(optical) as dataset:
        corner, transform, crs = dataset.read()[:, :264, :264], dataset.transform, dataset.crs
    write_raster(optical, corner, transform=transform, crs=crs, nodata=0)


def of_profiles(folder: Path) -> None:
    scene(folder, "a", (50, 60))
    write_recipe(folder)


def of_training(folder: Path) -> None:
    of_profiles(folder)
    gray = np.rint(photo((90, 96), 7)[0] * 255).astype(np.uint8)
    (folder / "photographs").mkdir()
    Image.fromarray(gray).save(folder / "photographs" / "camera.png")


def of_volumes(folder: Path) -> None:
    """A PET of 4 mm and an MRI of 2 mm of one head, their axes in different order."""
    (folder / "study").mkdir()
    for name, count, mm, turn in (("pet", 24, 4.0, -1), ("T1w", 48, 2.0, 1)):
        rows = photo((count, count), count)[0]
        affine = np.diag([turn * mm, turn * mm, mm, 1.0])
        affine[:3, 3] = -affine[:3, :3] @ np.full(3, (count - 1) / 2)
        voxels = np.repeat(rows[:, :, None], count, 2).astype(np.float32)
        write_nifti(folder / "study" / f"anna_{name}.nii.gz", voxels, affine)


def of_architecture(folder: Path) -> None:
    scene(folder, "a", (50, 60))
    write_recipe(folder)


def write_recipe(folder: Path) -> None:
    inputs = {role: f"{{scene}}_{role}.tif" for role in ("thermal", "optical")}
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"inputs": inputs, "reference": "optical"}))


PREPARED: Mapping[str, Callable[[Path], None]] = {
    "README.md": of_readme,
    "docs/tutorial.md": of_tutorial,
    "docs/figures.md": lambda _: None,
    "docs/recipes.md": of_recipes,
    "docs/commands.md": of_commands,
    "docs/values.md": of_values,
    "docs/grids.md": of_grids,
    "docs/outputs.md": of_outputs,
    "docs/tiling.md": of_tiling,
    "docs/profiles.md": of_profiles,
    "docs/logs.md": of_profiles,
    "docs/cluster.md": of_profiles,
    "docs/troubleshooting.md": of_outputs,
    "docs/training.md": of_training,
    "docs/architecture.md": of_architecture,
    "docs/volumes.md": of_volumes,
}
"""What the examples of a page find in their folder."""
RUN = [name for name in NAMES if any(b.language in CHECKED and b.reason is None for b in blocks(name))]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to run in; modules and methods that examples bring are gone afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(methods, "_REGISTERED", dict(methods._REGISTERED))
    # how far a slow machine is after ten seconds stands in no example
    monkeypatch.setattr(Lines, "_say_if_due", lambda _: None)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


# rioxarray and odc-geo still multiply affines with *
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("name", RUN)
def test_the_examples_of_a_page_run_and_print_what_it_says(name: str, folder: Path) -> None:
    PREPARED[name](folder)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(name):
        if block.reason is None and block.language in CHECKED:
            Example(f"{name}:{block.line}", block, namespace).tried()


@dataclass(frozen=True)
class Example:
    """A block that is run or read."""

    place: str
    block: Block
    namespace: dict[str, Any]

    def tried(self) -> None:
        getattr(self, self.block.language)()

    def python(self) -> None:
        """Runs; a block that begins with a file's name becomes that file, to be imported by others."""
        text = self.block.text
        if named := re.match(r"# (\w+\.py)\n", text):
            Path(named[1]).write_text(text)
        exec(compile(text, self.place, "exec"), {**self.namespace} if named else self.namespace)

    def yaml(self) -> None:
        """Is a recipe, a part of one, or a profile; one that begins with a file's name becomes that file."""
        text = self.block.text
        if named := re.match(r"# (\w+\.yaml)\n", text):
            Path(named[1]).write_text(text)
        data = yaml.safe_load(text)
        if data.keys() & {"threads", "device", "cluster"}:
            batchfuse.Profile(**data)
        else:
            batchfuse.Recipe(**{"inputs": INPUTS, **data})

    def toml(self) -> None:
        assert tomllib.loads(self.block.text)

    def console(self) -> None:
        """Commands after ``$``, each with what it prints; … stands for anything, alone for any lines."""
        code = 0
        for part in re.split(r"^\$ ", self.block.text, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            if command == "echo $?":
                assert expected.strip() == str(code), f"{self.place}: exit code {code}"
                code = 0
                continue
            assert code == 0, f"{self.place}: exit code {code} and nothing says so"
            words = shlex.split(command, comments=True)
            assert words[0] == "batchfuse", f"{self.place}: {command}"
            result = CliRunner().invoke(commands, words[1:], prog_name="batchfuse")
            code = result.exit_code
            if expected.strip():
                printed = PROGRESS.sub("", result.output)
                told = f"{self.place}: $ {command}\nprinted\n{printed}"
                assert re.fullmatch(pattern_of(expected), printed), told
        assert code == 0, f"{self.place}: exit code {code} and nothing says so"


def pattern_of(expected: str) -> str:
    lines = expected.rstrip("\n").splitlines()
    return "".join(
        r"(?:.*\n)*?" if line == "…" else ".*?".join(map(re.escape, line.split("…"))) + r"\n"
        for line in lines
    )


def test_no_block_is_left_unchecked() -> None:
    unchecked = []
    for name in NAMES:
        shells = 0
        for block in blocks(name):
            shells += block.language == "sh"
            installs = name == "README.md" and block.language == "sh" and shells <= 2  # CI runs those
            console = block.language == "console" and not block.text.startswith("$ batchfuse")
            if block.language not in CHECKED | {"sh", "text", "csv"} or console:
                unchecked.append(f"{name}:{block.line}: {block.language or 'no language'}")
            elif block.language == "sh" and not installs and not block.reason:
                unchecked.append(f"{name}:{block.line}: sh without a reason not to run it")
    assert not unchecked


def test_an_offered_method_is_found_by_its_entry_point(folder: Path) -> None:
    page = blocks("docs/architecture.md")
    (offer,) = (tomllib.loads(block.text) for block in page if block.language == "toml")
    (module,) = (b.text for b in page if b.language == "python" and b.text.startswith("# brightest.py"))
    (folder / "brightest.py").write_text(module)
    about = folder / "brightest-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: brightest\nVersion: 1.0\n")
    (group,) = offer["project"]["entry-points"].items()
    lines = "".join(f"{name} = {value}\n" for name, value in group[1].items())
    (about / "entry_points.txt").write_text(f"[{group[0]}]\n{lines}")
    listed = CliRunner().invoke(commands, ["methods"]).output
    assert "brightest  weights: none  no network at all" in listed


# --- pages --------------------------------------------------------------------------------------


def test_the_generated_parts_are_fresh() -> None:
    stale = [page.name for page, text in generate().pages().items() if page.read_text("utf-8") != text]
    assert not stale, "run python docs/generate.py"


def test_every_key_and_every_option_is_on_its_page() -> None:
    made = generate()
    for page, keys in (("recipes.md", made.recipe_keys()), ("profiles.md", made.profile_keys())):
        told = (ROOT / "docs" / page).read_text("utf-8")
        assert [key for key in keys if f"| `{key}` |" not in told] == []
    told = (ROOT / "docs" / "commands.md").read_text("utf-8")
    for name, command in commands.commands.items():
        assert f"\n## {name}\n" in told
        for parameter in command.params:
            assert all(option in told for option in parameter.opts if option.startswith("-"))


def test_what_the_tables_call_not_built_is_what_the_recipe_refuses() -> None:
    told = "".join((ROOT / "docs" / name).read_text("utf-8") for name in ("recipes.md", "profiles.md"))
    missing = set(re.findall(r"^\| `([\w.]+)` \|.*Not built yet", told, re.MULTILINE))
    assert "precision" in missing
    assert not missing & {
        "reference",
        "validity",
        "grid.resampling",
        "grid.extent",
        "grid.bounds",
        "output.dtype",
        "tiles.size",
        "threads",
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_link_within_the_repository_leads_somewhere(name: str) -> None:
    page = ROOT / name
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            dead.append(target)
    assert not dead


def test_every_line_that_is_explained_is_one_that_batchfuse_prints() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    assert len(rows) > 40
    lines = list(printed_lines())
    assert [row for row in rows if not any(re.search(fragment_of(row), line) for line in lines)] == []


def printed_lines() -> Iterator[str]:
    """Every text in the code, with … for what is filled in."""
    for path in sorted(Path(batchfuse.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def fragment_of(row: str) -> str:
    return "….*".join(map(re.escape, row.split("…")))


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        for target in re.findall(r"\]\(([^)#\s]+)", without_blocks(page)):
            path = (page.parent / target).resolve()
            path = path / "README.md" if path.is_dir() else path
            if path in PAGES and path not in reached:
                waiting.append(path)
    assert reached == set(PAGES)


def test_every_picture_of_the_pages_is_small_and_opens() -> None:
    pictures = sorted((ROOT / "docs" / "images").glob("*.png"))
    names = [p.name for p in pictures]
    assert names == ["exact-tiles.png", "losses.png", "quickstart.png", "tiling.png", "volumes.png"]
    for picture in pictures:
        assert picture.stat().st_size < 700_000
        with Image.open(picture) as image:
            image.load()


def without_blocks(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
