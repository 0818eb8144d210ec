"""The container files: right by their own syntax, alike, and made of files that are there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs/containers"
DOCKERFILE = FOLDER / "Dockerfile"
DEFINITION = FOLDER / "batchfuse.def"
SECTIONS = (
    "arguments",
    "setup",
    "files",
    "post",
    "environment",
    "runscript",
    "startscript",
    "test",
    "labels",
    "help",
)
"""All that Apptainer knows, as its manual lists them, but for those of its own apps."""


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's, each with what follows it in one line."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    parts = (line.partition(" ") for line in lines if line.strip())
    return [(name, rest) for name, _, rest in parts]


def definition() -> tuple[dict[str, str], dict[str, list[str]]]:
    """The header of the Apptainer file, and the lines of its sections."""
    header: dict[str, str] = {}
    sections: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in DEFINITION.read_text().splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line.startswith("%"):
            name = line[1:].split()[0]
            assert name in SECTIONS, line
            assert name not in sections, f"{line} twice"
            lines = sections[name] = []
        elif lines is None:
            key, colon, value = line.partition(":")
            assert colon, line
            header[key.strip()] = value.strip()
        else:
            lines.append(line.strip())
    return header, sections


def test_the_dockerfile_passes_its_linter() -> None:
    beside = Path(sys.executable).with_name("hadolint")
    hadolint = str(beside) if beside.exists() else shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed, as on machines that it isn't built for")
    done = subprocess.run([hadolint, str(DOCKERFILE)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_definition_file_has_the_sections_that_apptainer_knows() -> None:
    header, sections = definition()
    assert set(header) == {"Bootstrap", "From"}
    assert header["Bootstrap"] == "docker"
    arguments = dict(line.split("=") for line in sections["arguments"])
    used = set(re.findall(r"{{ (\w+) }}", DEFINITION.read_text()))
    assert used == set(arguments)
    for name in ("post", "environment", "runscript", "test"):
        script = "\n".join(sections[name]).replace("{{ ", "").replace(" }}", "")
        done = subprocess.run(["bash", "-n"], input=script, check=False, capture_output=True, text=True)
        assert done.returncode == 0, f"%{name}: {done.stderr}"


def test_both_are_made_of_the_same_files_by_the_same_commands_with_the_same_arguments() -> None:
    header, sections = definition()
    arguments = dict(rest.split("=") for name, rest in instructions() if name == "ARG")
    assert [f"{name}={value}" for name, value in arguments.items()] == sections["arguments"]
    assert header["From"].replace("{{ PYTHON }}", "${PYTHON}") == dict(instructions())["FROM"]
    run = [part.strip() for name, rest in instructions() if name == "RUN" for part in rest.split("&&")]
    post = [line.replace("{{ TORCH }}", "${TORCH}") for line in sections["post"]]
    assert run == [line for line in post if not re.match(r"set |cd ", line)]
    copied = [file for name, rest in instructions() if name == "COPY" for file in rest.split()[:-1]]
    assert copied == [line.split()[0] for line in sections["files"]]
    let_in = [
        line[1:] for line in Path(f"{DOCKERFILE}.dockerignore").read_text().splitlines() if line[0] == "!"
    ]
    assert sorted(let_in) == sorted(copied)
    assert all((ROOT / file).exists() for file in copied)
