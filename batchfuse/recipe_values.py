"""The values that a recipe or profile may hold, and how what is not one is refused."""

from __future__ import annotations

import math
import re
import sys
import unicodedata
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ModelWrapValidatorHandler,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from batchfuse.errors import RecipeError
from batchfuse.fusion.methods import method
from batchfuse.fusion.parameters import read_strategy
from batchfuse.recipe_file import Document, shown
from batchfuse.recipe_mistakes import mistakes, wrong

__all__ = [
    "Bands",
    "Bits",
    "Box",
    "Count",
    "Crs",
    "Factor",
    "FileValue",
    "Interval",
    "Number",
    "PathText",
    "Paths",
    "PercentInterval",
    "PixelSize",
    "Settings",
    "SettingsFile",
    "Strategy",
    "Text",
    "WholeNumbers",
    "built",
    "not_built",
]

LARGEST = sys.float_info.max
"""The largest finite float; whole numbers in YAML can be larger."""


class Settings(BaseModel):
    """A section of a recipe: frozen, with no keys but its own; empty means all defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, data: Any) -> Any:
        return {} if data is None else data


class SettingsFile(Settings):
    """A whole file: mistakes in it become one RecipeError, whether it was loaded or made in Python."""

    @model_validator(mode="wrap")
    @classmethod
    def _told_in_lines(
        cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            document = info.context if isinstance(info.context, Document) else Document(cls.__name__, {})
            raise RecipeError(*mistakes(error, cls, document)) from None

    def resolved(self) -> dict[str, Any]:
        """Everything, defaults filled in, as JSON can hold it; paths as the user wrote them."""
        return self.model_dump(mode="json")


def built(*values: object) -> AfterValidator:
    """Refuses those of the contract's values that are still to come."""

    def check(value: Any) -> Any:
        if value not in values:
            now = ", ".join(shown(v, quoted=False) for v in values)
            raise wrong(f"{shown(value)} is not built yet; what works now: {now}")
        return value

    return AfterValidator(check)


def not_built(*defaults: object, now: str) -> BeforeValidator:
    """Refuses every value but the defaults of a key that is still to come."""

    def check(value: Any) -> Any:
        if value not in defaults:
            raise wrong(f"{shown(value)} is not built yet; what works now: {now}")
        return value

    return BeforeValidator(check)


def _path(text: str) -> str:
    if not text.strip() or any(unicodedata.category(sign) == "Cc" for sign in text):
        raise wrong(f"found {shown(text)}; give a path")
    if re.match(r"[A-Za-z][\w+.-]+://|/vsi", text):
        raise wrong(f"{shown(text)}: remote files are not built yet; what works now: files on this machine")
    return text


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _interval(value: Any) -> Any:
    numbers = value if isinstance(value, list | tuple) else ()
    if len(numbers) != 2 or not all(type(n) is not bool and isinstance(n, int | float) for n in numbers):
        raise wrong(f"found {shown(value)}; give two numbers, [low, high]")
    low, high = numbers
    if not -LARGEST <= low < high <= LARGEST:
        raise wrong(f"found {shown(value)}; give two finite numbers, the lower first")
    return value


def _percent_interval(value: Any) -> Any:
    low, high = _interval(value)
    if low < 0 or high > 100:
        raise wrong(f"found {shown(value)}; percentiles lie between 0 and 100")
    return value


def _pixel_size(value: Any) -> Any:
    sizes = value if isinstance(value, list | tuple) else (value, value)
    if len(sizes) != 2 or not all(_is_finite(n) and n > 0 for n in sizes):
        raise wrong(f"found {shown(value)}; give one number above 0, or two: [x, y]")
    return tuple(sizes)


def _box(value: Any) -> Any:
    numbers = value if isinstance(value, list | tuple) else ()
    if len(numbers) != 4 or not all(map(_is_finite, numbers)):
        raise wrong(f"found {shown(value)}; give four numbers, [left, bottom, right, top]")
    left, bottom, right, top = numbers
    if not (left < right and bottom < top):
        raise wrong(
            f"found {shown(value)}; give [left, bottom, right, top], left below right, bottom below top"
        )
    return tuple(numbers)


def _is_finite(value: Any) -> bool:
    return type(value) is not bool and isinstance(value, int | float) and -LARGEST <= value <= LARGEST


def _different(paths: tuple[str, ...]) -> tuple[str, ...]:
    for index, text in enumerate(paths):
        if text in paths[:index]:
            raise wrong(f"{shown(text)} is listed twice", below=(index,))
    return paths


def _each_once(bands: tuple[int, ...]) -> tuple[int, ...]:
    if not bands or len(set(bands)) < len(bands):
        raise wrong(f"found {shown(bands)}; give each band once, counted from 1")
    return bands


def _each_number_once(numbers: tuple[int, ...]) -> tuple[int, ...]:
    if not numbers or len(set(numbers)) < len(numbers):
        raise wrong(f"found {shown(numbers)}; give one or more whole numbers, each once")
    return numbers


def _not_zero(value: float) -> float:
    if value == 0:
        raise wrong("found 0; every value would become the offset")
    return value


def _crs(value: Any) -> Any:
    if isinstance(value, int):
        raise wrong(f"found {shown(value)}; write it as text, such as EPSG:{value}")
    return value


def _strategy(value: Any) -> Any:
    try:
        named = dict([read_strategy(value)]) if isinstance(value, str) else value
    except RecipeError as error:
        raise wrong(str(error)) from None
    if not isinstance(named, dict) or len(named) != 1 or not all(isinstance(k, str) and k for k in named):
        raise wrong(f"found {shown(value)}; give a name, or one name with its parameters: {{name: {{…}}}}")
    ((name, parameters),) = named.items()
    if not isinstance(parameters, dict | None) or not all(isinstance(k, str) for k in parameters or ()):
        raise wrong(f"found {shown(parameters)}; the parameters of {name} are a mapping", below=(name,))
    return {name: parameters} if parameters else name


def _strategy_schema() -> dict[str, Any]:
    """A name or a mapping of one; of the strategies that come with batchfuse, all that can be chosen."""
    found = method("res2netfuse").strategies.values()
    known = {
        strategy.name: {
            "type": "object",
            "description": strategy.summary,
            "properties": {parameter.name: parameter.schema() for parameter in strategy.parameters},
            "additionalProperties": False,
        }
        for strategy in found
    }
    mapping = {"type": "object", "properties": known, "additionalProperties": {"type": "object"}}
    return {"anyOf": [{"type": "string"}, {**mapping, "minProperties": 1, "maxProperties": 1}]}


def _number_or_nan(value: Any) -> Any:
    return math.nan if isinstance(value, str) and value.lower() in ("nan", ".nan") else value


PathText = Annotated[str, Field(strict=True), AfterValidator(_path)]
"""A path on this machine, as the user wrote it."""
Text = Annotated[str, Field(strict=True, min_length=1)]
"""Text that is not empty."""
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A finite number, not a boolean."""
Count = Annotated[int, Field(strict=True, ge=1)]
"""A whole number from 1."""
Interval = Annotated[tuple[float, float], BeforeValidator(_interval)]
"""Two finite numbers, the lower first."""
PercentInterval = Annotated[tuple[float, float], BeforeValidator(_percent_interval)]
"""Two numbers from 0 to 100, the lower first."""
PixelSize = Annotated[
    tuple[float, float], BeforeValidator(_pixel_size, json_schema_input_type=float | tuple[float, float])
]
"""Width and height of a pixel, both above 0; one number means both."""
Box = Annotated[tuple[float, float, float, float], BeforeValidator(_box)]
"""Left, bottom, right, top, in x and y of a CRS."""
Paths = Annotated[
    tuple[PathText, ...],
    BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
    AfterValidator(_different),
    PlainSerializer(lambda path: path[0] if len(path) == 1 else list(path)),
]
"""One path, or several in order."""
Bands = Annotated[tuple[Count, ...], AfterValidator(_each_once)]
"""Band numbers counted from 1, each once."""
WholeNumbers = Annotated[tuple[Annotated[int, Field(strict=True)], ...], AfterValidator(_each_number_once)]
"""Whole numbers, each once."""
Bits = Annotated[
    tuple[Annotated[int, Field(strict=True, ge=0, le=63)], ...], AfterValidator(_each_number_once)
]
"""Bits counted from 0, each once."""
Factor = Annotated[Number, AfterValidator(_not_zero)]
"""A finite number that is not 0."""
FileValue = Annotated[
    Annotated[float, Field(strict=True)],
    BeforeValidator(_number_or_nan),
    PlainSerializer(lambda value: value if math.isfinite(value) else str(value), when_used="json"),
]
"""A number, NaN and infinity included."""
Crs = Annotated[Text, BeforeValidator(_crs)]
"""A coordinate reference system as the user wrote it; PROJ is asked when a source is opened."""
Strategy = Annotated[
    str | dict[str, dict[str, JsonValue]], BeforeValidator(_strategy), WithJsonSchema(_strategy_schema())
]
"""A strategy's name, or one name with its parameters."""
