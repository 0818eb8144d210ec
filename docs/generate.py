"""Rewrites the parts of the pages that follow from the code.

python docs/generate.py            rewrites the pages
python docs/generate.py --check    says which are stale, and exits 1 if any is

A part stands between ``<!-- generated: NAME -->`` and ``<!-- end of NAME -->``. Keys and types come from
the JSON Schema of recipe and profile, what is not built yet from asking the recipe itself,
commands and options from Click, and what a module is for from the first line of its docstring.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

import batchfuse
from batchfuse.cli import commands
from batchfuse.errors import RecipeError
from batchfuse.recipe import HARMLESS, Profile, Recipe, profile_schema, recipe_schema

DOCS = Path(__file__).parent
PART = re.compile(r"(<!-- generated: ([\w -]+) -->\n).*?(<!-- end of \2 -->)", re.DOTALL)
SECTIONS = {
    "SourceSettings": "inputs.<role>",
    "MaskSettings": "inputs.<role>.mask",
    "TargetGrid": "grid",
    "Fusion": "fusion",
    "Tiles": "tiles",
    "Output": "output",
    "Export": "output.also[]",
}
"""Where the sections of the schema stand in a recipe."""
PROBES: Mapping[str, Sequence[Any]] = {
    "integer": [1, 2],
    "number": [1],
    "boolean": [True, False],
    "string": ["x"],
    "array": [[1, 2, 3, 4]],
    "object": [{"x": 1}],
}
"""Values of each type, to find out whether a key is built."""

Schema = Mapping[str, Any]


def main() -> None:
    """Rewrites the pages, or says which are stale."""
    made = pages()
    stale = [page for page, text in made.items() if page.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for page in stale:
            print(f"{page} is stale: run python docs/generate.py")
        sys.exit(bool(stale))
    for page in stale:
        page.write_text(made[page], encoding="utf-8")
        print(f"{page} rewritten")


def pages() -> dict[Path, str]:
    """What each page with generated parts should hold."""
    texts = {page: page.read_text(encoding="utf-8") for page in sorted(DOCS.rglob("*.md"))}
    return {page: PART.sub(_regenerated, text) for page, text in texts.items() if PART.search(text)}


def _regenerated(found: re.Match[str]) -> str:
    kind, _, name = found[2].partition(" ")
    return f"{found[1]}\n{GENERATORS[kind](name)}\n\n{found[3]}"


# --- keys of recipe and profile -----------------------------------------------------------------


def recipe_keys() -> list[str]:
    """Every key of a recipe, with the way to it: ``inputs.<role>.bands``."""
    schema = recipe_schema()
    defined = schema["$defs"]
    sections = {place: defined[name]["properties"] for name, place in SECTIONS.items() if name in defined}
    return [*schema["properties"], *(f"{place}.{key}" for place, keys in sections.items() for key in keys)]


def profile_keys() -> list[str]:
    """Every key of a profile."""
    return list(profile_schema()["properties"])


def _recipe_table(section: str) -> str:
    schema = recipe_schema()
    if not section:
        return _table("", schema, schema, _refused_by_recipe)
    place = SECTIONS[section]
    return _table(f"{place}.", schema["$defs"][section], schema, _refused_by_recipe)


def _resume_table(_: str) -> str:
    """Every key of a recipe that has a value of its own, and what a change of it does to a store."""
    keys = recipe_keys()
    lines = ["| key | changed between two runs | why |", "|---|---|---|"]
    for key in sorted(key for key in keys if key in HARMLESS or not _is_section(key, keys)):
        layout = key in ("tiles.size", "output.zarr_format", "output.shard")
        why = HARMLESS.get(key, "it decides how the store is laid out" if layout else "it decides pixels")
        lines.append(f"| `{key}` | {'harmless' if key in HARMLESS else 'refused'} | {why} |")
    return "\n".join(lines)


def _is_section(key: str, keys: Sequence[str]) -> bool:
    return any(other.startswith((f"{key}.", f"{key}[")) for other in keys)


def _profile_table(_: str) -> str:
    return _table("", profile_schema(), profile_schema(), _refused_by_profile)


def _table(prefix: str, section: Schema, schema: Schema, refused: Callable[[str, Any], str | None]) -> str:
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    required = section.get("required", ())
    for key, found in section["properties"].items():
        path = f"{prefix}{key}"
        meaning = _meaning(found, schema) + _not_built(path, found, refused)
        lines.append(
            f"| `{path}` | {_kind(found, schema)} | {_default(found, key in required)} | {meaning} |"
        )
    return "\n".join(lines)


def _kind(found: Schema, schema: Schema) -> str:
    """The type of a key in words."""
    if "$ref" in found:
        name = found["$ref"].rpartition("/")[2]
        return {
            "JsonValue": "anything",
            "WorkerRange": "`{minimum: …, maximum: …}`",
        }.get(name, f"a mapping, see `{SECTIONS.get(name)}`")
    if "anyOf" in found:
        kinds = (_kind(one, schema) for one in found["anyOf"] if one.get("type") != "null")
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in found or "const" in found:
        return ", ".join(_code(value) for value in found.get("enum", [found.get("const")]))
    return _plain_kind(found, schema)


def _plain_kind(found: Schema, schema: Schema) -> str:
    kind = found["type"]
    if kind == "array" and "prefixItems" in found:
        return {2: "two numbers", 4: "four numbers"}[len(found["prefixItems"])]
    if kind == "array":
        return f"list of: {_kind(found['items'], schema)}"
    if kind == "object":
        inner = found.get("additionalProperties")
        return f"mapping of names to: {_kind(inner, schema)}" if isinstance(inner, dict) else "mapping"
    if kind == "integer":
        low, high = found.get("minimum"), found.get("maximum")
        limits = f" {low} to {high}" if high is not None else f" from {low}" if low is not None else ""
        return f"whole number{limits}"
    return {"string": "text", "number": "number", "boolean": "`true`, `false`"}[str(kind)]


def _default(found: Schema, required: bool) -> str:
    if required:
        return "(required)"
    if "$ref" in found:
        return "all defaults"
    value = found.get("default")
    return "none" if value in (None, [], {}) else _code(value)


def _code(value: Any) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _meaning(found: Schema, schema: Schema) -> str:
    text = found.get("description")
    if text is None and "$ref" in found:
        text = schema["$defs"][found["$ref"].rpartition("/")[2]].get("description")
    return _escaped(text or "")


def _escaped(text: str) -> str:
    """Prose as a cell of a table; what stands between backticks stays."""
    parts = " ".join(text.split()).replace("|", r"\|").split("`")
    plain = [re.sub(r"([*_\[\]])", r"\\\1", part).replace("<", "&lt;") for part in parts[::2]]
    return "`".join(part for pair in zip(plain, [*parts[1::2], ""], strict=True) for part in pair)[:-1]


def _not_built(path: str, found: Schema, refused: Callable[[str, Any], str | None]) -> str:
    """What of a key is still to come, found by trying."""
    tried = {_code(value): refused(path, value) for value in _probes(found)}
    missing = {value: works for value, works in tried.items() if works is not None}
    if not missing:
        return ""
    if "enum" in found:
        return f" **Not built yet: {', '.join(missing)}.**"
    return f" **Not built yet; what works now: {_escaped(next(iter(missing.values())) or '')}.**"


def _probes(found: Schema) -> Iterator[Any]:
    """Values to ask the recipe about: every one of an enumeration, else one of each type."""
    if "enum" in found:
        yield from found["enum"]
    elif "const" in found:
        yield found["const"]
    elif "anyOf" in found:
        for one in found["anyOf"]:
            yield from _probes(one)
    elif found.get("type") in PROBES:
        yield from PROBES[found["type"]]


def _refused_by_recipe(path: str, value: Any) -> str | None:
    recipe: dict[str, Any] = {"inputs": {"one": {"path": "a.tif"}, "two": {"path": "b.tif"}}}
    section: dict[str, Any] = recipe
    *way, last = path.replace("<role>", "one").split(".")
    if path.startswith("output.also[]"):
        recipe["output"] = {"also": [{"to": "cog", last: value}]}
        return _works_now(lambda: Recipe(**recipe), path.replace("[]", "[0]"))
    for part in way:
        section = section.setdefault(part, {})
    section[last] = value
    return _works_now(lambda: Recipe(**recipe), path.replace("<role>", "one"))


def _refused_by_profile(path: str, value: Any) -> str | None:
    return _works_now(lambda: Profile(**{path: value}), path)


def _works_now(make: Callable[[], object], path: str) -> str | None:
    """What the line of refusal says works now, where it says that this key's value is not built yet."""
    try:
        make()
    except RecipeError as error:
        for line in str(error).splitlines():
            if f" {path}: " in f" {line}" and "not built yet" in line:
                return line.partition("what works now: ")[2]
    return None


# --- commands -----------------------------------------------------------------------------------


def command_names() -> list[str]:
    """Every command."""
    return sorted(commands.commands)


def _command(name: str) -> str:
    command = commands.commands[name]
    with click.Context(command, info_name=f"batchfuse {name}") as context:
        usage = " ".join([f"batchfuse {name}", *command.collect_usage_pieces(context)])
        options = [p for p in command.get_params(context) if isinstance(p, click.Option)]
        rows = [_option(option, context) for option in options if "--help" not in option.opts]
    about = inspect.cleandoc(command.help or "")
    lines = [f"`{usage}`", "", about]
    if rows:
        lines += ["", "| option | meaning |", "|---|---|", *rows]
    return "\n".join(lines)


def _option(option: click.Option, context: click.Context) -> str:
    names, meaning = option.get_help_record(context) or ("", "")
    shown = " ".join(names.split()).replace("|", r"\|")
    return f"| `{shown}` | {_escaped(meaning)} |"


def _commands(_: str) -> str:
    lines = ["| command | what it does |", "|---|---|"]
    for name in command_names():
        first = (commands.commands[name].help or "").strip().split("\n")[0]
        lines.append(f"| [`{name}`](#{name}) | {first} |")
    return "\n".join(lines)


# --- modules ------------------------------------------------------------------------------------


def _modules(folder: str) -> str:
    place = Path(batchfuse.__file__).parent / folder
    files = sorted(path for path in place.glob("*.py") if path.name not in ("__init__.py", "__main__.py"))
    rows = [f"| `{folder + '/' if folder else ''}{path.name}` | {_first_line(path)} |" for path in files]
    return "\n".join(["| module | what it is |", "|---|---|", *rows])


def _first_line(path: Path) -> str:
    about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return _escaped(about.split("\n")[0].replace("``", "`"))


GENERATORS: Mapping[str, Callable[[str], str]] = {
    "recipe": _recipe_table,
    "profile": _profile_table,
    "resume": _resume_table,
    "command": _command,
    "commands": _commands,
    "modules": _modules,
}


if __name__ == "__main__":
    main()
