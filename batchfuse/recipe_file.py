"""A recipe or profile on disk, as plain data that remembers the line each value came from."""

from __future__ import annotations

import copy
import json
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from batchfuse.errors import RecipeError
from batchfuse.system.words import printable

__all__ = ["Document", "Key", "dotted", "read_document", "shown"]

Key = tuple[str | int, ...]
"""The way from the top of a document to a value: ("inputs", "thermal", "bands", 0)."""

LARGEST = 256 * 1024
"""Bytes: a hundred times a long recipe; an image given by mistake is larger."""
MOST_VALUES = 20_000
"""Values once aliases are expanded: stops the "billion laughs"."""
DEEPEST = 20
"""Levels of nesting: stops aliases that contain themselves."""
LONGEST = 16_384
"""Characters of one text or key: the WKT of a CRS has several thousand."""
MOST_DIGITS = 400
"""Characters of a number: the largest that a float can be has 309 digits."""
SURROGATES = re.compile(r"[\ud800-\udfff]")
"""Halves of characters: no file can be named, and no line printed, with one."""


@dataclass(frozen=True, slots=True)
class Document:
    """The content of a file and the origin of each of its values."""

    name: str
    """What errors call it: the path as the user gave it."""
    data: dict[str, Any]
    """The content, as plain dicts, lists, text, numbers, booleans and None."""
    origins: Mapping[Key, str] = field(default_factory=dict)
    """Where a key stands: ``recipe.yaml:7`` or ``--set fusion.strategy=mean``."""

    def origin(self, key: Key) -> str:
        """Where a key stands; else what was set below it, or its nearest parent, stands."""
        for known, place in self.origins.items():
            if place.startswith("--set") and known[: len(key)] == key:
                return place
        for length in range(len(key), 0, -1):
            if key[:length] in self.origins:
                return self.origins[key[:length]]
        return self.name

    def with_overrides(self, overrides: Iterable[str]) -> Document:
        """The document with each ``key.path=value`` set; the value is read as YAML.

        Raises RecipeError where the text is not of that form, or the path leads through a value
        that has no keys. Keys that a recipe doesn't know are left for its validation.
        """
        document = self
        for override in overrides:
            document = document._with_override(override)
        return document

    def _with_override(self, override: str) -> Document:
        origin = f"--set {shown(override, quoted=False)}"
        path, equals, text = override.partition("=")
        key = tuple(path.strip().split("."))
        if not equals or not all(key):
            raise RecipeError(f"{origin}: give it as key.path=value, as in fusion.strategy=mean")
        value = _Reading(origin, numbered=False).read(text)
        data = copy.deepcopy(self.data)
        section = data
        for depth, part in enumerate(key[:-1], 1):
            section[part] = section = _section(section.get(part), key[:depth], origin)
        section[key[-1]] = value
        kept = {known: where for known, where in self.origins.items() if known[: len(key)] != key}
        return Document(self.name, data, {**kept, key: origin})


def read_document(path: Path, kind: str = "recipe") -> Document:
    """Read a YAML file that holds a mapping. It is read as data: no tag, alias or key makes anything run.

    Raises RecipeError, in one line, where the file is no regular one, can't be read, is too large, is no
    UTF-8 text or YAML, is empty, holds no mapping, or holds a key twice.
    """
    text = _text(path, kind)
    reading = _Reading(str(path), numbered=True)
    data = reading.read(text)
    if data is None:
        raise RecipeError(f"{path}: empty: a {kind} is YAML, as in docs/recipes.md")
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: found {shown(data)}; a {kind} is a mapping of keys to values")
    return Document(str(path), data, reading.origins)


def shown(value: object, quoted: bool = True) -> str:
    """A value in one short line, as JSON (text without its quotes if not ``quoted``)."""
    if isinstance(value, Mapping) and value:
        names = [shown(str(key), quoted=False) for key in islice(value, 12)]
        return "a mapping with " + ", ".join([*names, *(["…"] if len(value) > len(names) else [])])
    line = printable(json.dumps(value, ensure_ascii=False, default=str))
    if isinstance(value, str) and not quoted:
        line = line[1:-1].replace('\\"', '"')
    return line if len(line) <= 80 else f"{line[:60]} … ({len(line)} characters)"


def dotted(key: Key) -> str:
    """A key path in text: ``inputs.thermal.bands[0]``."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{shown(part, quoted=False)}"
    return text.removeprefix(".")


def _text(path: Path, kind: str) -> str:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a pipe could be waited for in vain
            raise RecipeError(f"{path}: a pipe or a device; give the {kind} as a file")
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such {kind} file") from None
    except IsADirectoryError:
        raise RecipeError(f"{path}: a folder; give the {kind}'s YAML file in it") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecipeError(f"{shown(str(path), quoted=False)}: can't be read: {reason}") from None
    if len(raw) > LARGEST:
        raise RecipeError(f"{path}: larger than {LARGEST // 1024} KiB: not a {kind}")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"{path}: not UTF-8 text (byte {error.start} is 0x{raw[error.start]:02x}): "
            f"a {kind} is YAML text, saved as UTF-8"
        ) from None


def _section(found: Any, key: Key, origin: str) -> dict[str, Any]:
    """The mapping that an override goes into, made from what stands there."""
    if found is None:
        return {}
    if isinstance(found, dict):
        return found
    if len(key) == 2 and key[0] == "inputs" and isinstance(found, str | list):
        return {"path": found}
    if key == ("fusion", "strategy") and isinstance(found, str):
        return {}  # what is set below it names a strategy again
    raise RecipeError(f"{origin}: {dotted(key)} is {shown(found)}, which has no keys: set it as a whole")


class _Loader(yaml.SafeLoader):
    """Text, numbers, booleans and null as YAML 1.2 has them: ``no`` is text, 1e-3 a number, 12:30 no time."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own way)


_TAG = "tag:yaml.org,2002:"
for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", [*"-+0123456789"]),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        [*"-+0123456789."],
    ),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_pattern})$"), _first)


class _Reading:
    """One pass from YAML text to plain data; PyYAML's own constructor would lose lines and doubled keys."""

    def __init__(self, name: str, numbered: bool) -> None:
        self.name = name
        self.numbered = numbered
        self.origins: dict[Key, str] = {}
        self.values = 0

    def read(self, text: str) -> Any:
        try:
            node = yaml.compose(text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            raise self._syntax_error(text, error) from None
        except yaml.YAMLError as error:
            reason = str(error).splitlines()[0]
            raise RecipeError(f"{self.name}: not valid YAML: {reason}") from None
        except RecursionError:
            raise RecipeError(f"{self.name}: nested deeper than {DEEPEST} levels") from None
        return None if node is None else self._value(node, ())

    def _value(self, node: yaml.Node, key: Key) -> Any:
        self.values += 1
        if self.values > MOST_VALUES or len(key) > DEEPEST:
            raise self._error(node, f"more than {MOST_VALUES} values or {DEEPEST} levels, aliases expanded")
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, key)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self._item(item, (*key, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        raise self._error(node, f"the tag {node.tag} has no place in a recipe")

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for name_node, value_node in node.value:
            if not isinstance(name_node, yaml.ScalarNode) or _is_bare(name_node, value_node):
                raise self._error(name_node, 'quote a path that begins with {: "{scene}_B10.TIF"')
            name = self._text(name_node)
            below = (*key, name)
            if name in data:
                first = self.origins[below].rpartition(":")[2]
                also = f" (first on line {first})" if self.numbered else ""
                raise self._error(name_node, f"{dotted(below)}: given twice{also}: keep one")
            self.origins[below] = self._place(name_node)
            data[name] = self._value(value_node, below)
        return data

    def _item(self, node: yaml.Node, key: Key) -> Any:
        self.origins[key] = self._place(node)
        return self._value(node, key)

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text, kind = self._text(node), node.tag.removeprefix(_TAG)
        try:
            if kind == "str":
                return text
            if len(text) > MOST_DIGITS:
                raise ValueError(text)
            if kind == "null":
                return None
            if kind == "bool":
                return {"true": True, "false": False}[text.lower()]
            if kind == "int":
                return int(text, 0 if text[:2] in ("0o", "0x") else 10)
            if kind == "float":
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        except (KeyError, ValueError):
            raise self._error(node, f"{shown(text)} can't be read as {kind}") from None
        raise self._error(node, f"the tag {node.tag} has no place in a recipe")

    def _text(self, node: yaml.ScalarNode) -> str:
        """The characters of a value or key; RecipeError where they can't be meant."""
        text = str(node.value)
        if len(text) > LONGEST:
            raise self._error(node, f"{shown(text)}: no value has more than {LONGEST} characters")
        if SURROGATES.search(text):
            raise self._error(node, f"{shown(text)} has half a character in it: write it out")
        return text

    def _place(self, node: yaml.Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}" if self.numbered else self.name

    def _error(self, node: yaml.Node, reason: str) -> RecipeError:
        return RecipeError(f"{self._place(node)}: {reason}")

    def _syntax_error(self, text: str, error: yaml.MarkedYAMLError) -> RecipeError:
        mark = error.problem_mark or error.context_mark
        number = mark.line if mark else 0
        place = f"{self.name}:{number + 1}" if self.numbered else self.name
        reason = f"{place}: not valid YAML: {error.problem or error.context}"
        line = text.splitlines()[number] if number < len(text.splitlines()) else ""
        if found := re.search(r"(?:^|[\s\[,])(\{\w+\}|[*&!@%`][\w/.*{])", line):
            reason += f"; quote a path that begins with {found[1][0]}"
        elif found := re.search(r"\[[^\]'\"]*\{\w+\}", line):
            reason += "; quote paths with { } inside [ ]"
        return RecipeError(reason)


def _is_bare(name: yaml.Node, value: yaml.Node) -> bool:
    """Whether this is ``{scene}``, without a colon: a path that YAML took for a mapping."""
    return bool(value.value == "" and value.start_mark.index == name.end_mark.index)
