"""What `evaluate` prints and writes."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchfuse.cli.options import echo
from batchfuse.errors import RecipeError
from batchfuse.report.alike import alike
from batchfuse.report.progress import counted
from batchfuse.system.words import json_text, printable

if TYPE_CHECKING:
    from batchfuse.evaluation.results import Evaluation

__all__ = ["check_files", "print_found", "write_files"]

STDOUT = "-"
CSV_BEGINS, JSON_BEGINS = b"scene,image,", b'{\n  "figures": ['
"""What the files begin with: those that begin otherwise are somebody else's."""


def check_files(csv_file: str | None, json_file: str | None, inputs: Sequence[str]) -> None:
    """Refuse, before anything is measured, what can't be written in the end."""
    from batchfuse.report.report import check_writable

    if csv_file == json_file == STDOUT:
        raise click.UsageError("--csv - and --json - would be mixed: write one of them to a file")
    for option, name in (("--csv", csv_file), ("--json", json_file)):
        if name is None or name == STDOUT:
            continue
        if any(os.path.realpath(name) == os.path.realpath(one) for one in inputs):
            raise RecipeError(
                f"{option} {name} would be written over: it is what is read, so name another file"
            )
        _refuse_foreign(option, Path(name))
        check_writable(Path(name))
    if csv_file is not None and csv_file == json_file:
        raise click.UsageError(f"--csv and --json are both {csv_file}: name two files")


def _refuse_foreign(option: str, path: Path) -> None:
    """RecipeError where a file that is there begins otherwise than what `evaluate` writes."""
    if not path.is_file():
        return
    try:
        with path.open("rb") as file:
            begins = file.read(len(JSON_BEGINS))
    except OSError as error:
        raise RecipeError(f"{option} {path} can't be read ({error.strerror}): name another file") from None
    if begins and not begins.startswith(CSV_BEGINS if option == "--csv" else JSON_BEGINS):
        raise RecipeError(
            f"{option} {path} is there and was not written by `batchfuse evaluate`: move it away, or name "
            "another file"
        )


def write_files(found: Evaluation, csv_file: str | None, json_file: str | None) -> None:
    """The figures in full, as files or on standard output."""
    for name, text in ((csv_file, _csv), (json_file, _json)):
        if name == STDOUT:
            click.echo(text(found), nl=False)
        elif name is not None:
            _write(Path(name), text(found))


def print_found(found: Evaluation, quiet: bool, verbose: bool) -> None:
    """The table, and below it what a person should know of it."""
    from batchfuse.evaluation.table import table

    if not found.measured:
        return
    for row in table(found):
        cells = (
            click.style(printable(cell.text), bold=True) if cell.bold else printable(cell.text)
            for cell in row
        )
        click.echo("".join(cells).rstrip())
    for line in () if quiet else _notes(found, verbose):
        echo(line)


def _notes(found: Evaluation, verbose: bool) -> Iterator[str]:
    if found.stretch:
        gained = "; those with more contrast are not" if len(found.contenders) > 1 else ""
        yield f"stretched by the least and greatest value of each image{gained}"
    for figure in found.figures:
        fewest = min(found.mean(contender, figure).scenes for contender in found.contenders)
        if 0 < fewest < len(found.measured):
            from batchfuse.evaluation.figure_names import label

            many = counted(len(found.measured), "scene")
            yield f"note: the mean {label(figure)} is over {fewest} of {many}, where it is defined"
    told = [(scene.scene, note) for scene in found.measured for note in scene.notes]
    for scene, note in told if verbose else ():
        yield f"note: {scene}: {note}"
    for group in () if verbose else alike(told):
        yield f"note: {group}"
    failed = len(found.scenes) - len(found.measured)
    if failed:
        yield f"{counted(len(found.measured), 'scene')} measured, {failed} not"


def _csv(found: Evaluation) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(found.rows())
    return text.getvalue()


def _json(found: Evaluation) -> str:
    return json_text(found.to_dict()) + "\n"


def _write(path: Path, text: str) -> None:
    from batchfuse.report.report import replace_text

    try:
        replace_text(path, text)
    except OSError as error:
        raise RecipeError(f"{path} can't be written ({error.strerror}): name another place") from None
