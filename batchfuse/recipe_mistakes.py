"""What is wrong with a recipe, one line a mistake: place, key path, what was found, what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from batchfuse.recipe_file import Document, Key, dotted, shown

__all__ = ["keys", "mistakes", "nearest", "unknown_key", "wrong"]

MOST_LINES = 10
"""Mistakes told at once."""


def wrong(reason: str, below: Key = (), key: Key = ()) -> PydanticCustomError:
    """A mistake, told in words of its own.

    ``below`` leads from the checked value to the one at fault; ``key`` from the top, where the fault is
    elsewhere.
    """
    return PydanticCustomError("wrong", "{reason}", {"reason": reason, "below": below, "key": key})


def keys(model: type[BaseModel]) -> list[str]:
    """The keys that a section knows."""
    return [name for name, field in model.model_fields.items() if not field.exclude]


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The word that was probably meant."""
    by_lower = {known.lower(): known for known in words}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def mistakes(error: ValidationError, model: type[BaseModel], document: Document) -> list[str]:
    """Every mistake, a line each: place, key path, what was found, what is allowed."""
    details = error.errors()
    lines = [_line(detail, model, document) for detail in details[:MOST_LINES]]
    more = len(details) - MOST_LINES
    return [*lines, *([f"… and {more} more"] if more > 0 else [])]


def unknown_key(key: Key, found: object, model: type[BaseModel], document: Document) -> str:
    """The line for a key that its section doesn't have."""
    allowed = keys(_section(model, key[:-1]))
    return f"{document.origin(key)}: {dotted(key)}: unknown key (found {shown(found)})" + _remedy(
        str(key[-1]), allowed
    )


def _line(detail: ErrorDetails, model: type[BaseModel], document: Document) -> str:
    key, found, context = detail["loc"], detail["input"], detail.get("ctx", {})
    if detail["type"] == "extra_forbidden":
        return unknown_key(key, found, model, document)
    key = context.get("key") or (*key, *context.get("below", ()))
    describe = _WORDS.get(detail["type"], _other)
    reason = describe(detail, found, keys(_section(model, key)))
    return f"{document.origin(key)}: {dotted(key)}{': ' if key else ''}{reason}"


def _missing(_detail: ErrorDetails, _found: object, _keys: list[str]) -> str:
    return "is missing"


def _literal(detail: ErrorDetails, found: object, _keys: list[str]) -> str:
    allowed = detail["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
    return f"found {shown(found)}" + _remedy(str(found), allowed)


def _no_section(_detail: ErrorDetails, found: object, keys: list[str]) -> str:
    kind = "a path, or a mapping" if "path" in keys and {"bands", "reject_bits"} & {*keys} else "a mapping"
    return f"found {shown(found)}; give {kind} with keys among {', '.join(keys)}"


def _no_mapping(_detail: ErrorDetails, found: object, _keys: list[str]) -> str:
    return f"found {shown(found)}; give a mapping of names to values"


def _own(detail: ErrorDetails, _found: object, _keys: list[str]) -> str:
    return str(detail["ctx"]["reason"])


def _other(detail: ErrorDetails, found: object, _keys: list[str]) -> str:
    return f"found {shown(found)}; {detail['msg'].replace('Input', 'it', 1)}"


_WORDS: Mapping[str, Callable[[ErrorDetails, object, list[str]], str]] = {
    "missing": _missing,
    "literal_error": _literal,
    "model_type": _no_section,
    "mapping_type": _no_mapping,
    "dict_type": _no_mapping,
    "wrong": _own,
}


def _remedy(word: str, allowed: list[str]) -> str:
    meant = nearest(word, allowed)
    guess = f'; did you mean "{meant}"?' if meant else ";"
    return f"{guess} allowed: {', '.join(allowed)}"


def _section(model: type[BaseModel], key: Key) -> type[BaseModel]:
    """The section that a key path leads into (the names of roles are passed over)."""
    for part in key:
        field = model.model_fields.get(str(part))
        model = (_model_in(field.annotation) if field else None) or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(argument) for argument in get_args(annotation))
    return next((model for model in found if model), None)
