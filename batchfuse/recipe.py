"""What the user wants, as frozen models."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from batchfuse.errors import RecipeError
from batchfuse.fusion.methods import method
from batchfuse.profile import Profile, profile_schema
from batchfuse.recipe_file import Document, read_document, shown
from batchfuse.recipe_grid import TargetGrid
from batchfuse.recipe_mistakes import mistakes, nearest, unknown_key, wrong
from batchfuse.recipe_values import (
    Bands,
    Bits,
    Crs,
    Factor,
    FileValue,
    Interval,
    Number,
    Paths,
    PathText,
    PercentInterval,
    Settings,
    SettingsFile,
    Strategy,
    Text,
    WholeNumbers,
)

__all__ = [
    "HARMLESS",
    "Export",
    "Fusion",
    "MaskSettings",
    "Output",
    "Profile",
    "Recipe",
    "SourceSettings",
    "TargetGrid",
    "Tiles",
    "differences",
    "profile_schema",
    "recipe_schema",
]

HARMLESS = {
    "inputs.<role>.path": "the contents of the files are compared, wherever they lie",
    "inputs.<role>.mask.path": "the contents of the files are compared, wherever they lie",
    "manifest": "the contents of the files are compared, wherever they lie",
    "output.path": "another folder has other stores",
    "output.pyramid": "reduced levels are made of the image, and are no part of it",
    "output.also": "exports are made of the image beside the store",
    "output.also[].to": "exports are made of the image beside the store",
    "output.also[].dtype": "an export of another type is made anew",
    "output.also[].stretch": "an export of another stretch is made anew",
    "output.also[].keep_text": "an export of other texts is made anew",
    "on_error": "decides which scenes are begun, and nothing in them",
}
"""Keys that may change between a run and the one that goes on, and why; any other is refused."""
MOST_ROLES = 100
"""Sources of a scene."""


def _as_source(value: Any) -> Any:
    return {"path": value} if isinstance(value, str | list | tuple) else value


def _as_mask(value: Any) -> Any:
    """A path alone is a mask as GDAL's own: 0 is invalid."""
    return {"path": value, "reject_values": [0]} if isinstance(value, str) else value


def _as_export(value: Any) -> Any:
    return {"to": value} if isinstance(value, str) else value


class MaskSettings(Settings):
    """A raster of whole numbers, on the source's own grid, that says which of its pixels are valid."""

    path: PathText | None = None
    """The file, with the wildcards of the source's. With a manifest: none here, its column is <role>.mask."""
    reject_bits: Bits | None = None
    """Invalid where any of these bits is set, counted from 0, the lowest."""
    reject_values: WholeNumbers | None = None
    """Invalid where the mask has one of these values."""
    accept_values: WholeNumbers | None = None
    """Invalid where the mask has none of these values."""

    @model_validator(mode="after")
    def _has_a_rule(self) -> MaskSettings:
        if not (self.reject_bits or self.reject_values or self.accept_values):
            raise wrong("says nothing of its values: give reject_bits, reject_values or accept_values")
        return self


Mask = Annotated[MaskSettings, BeforeValidator(_as_mask, json_schema_input_type=str | MaskSettings)]


class SourceSettings(Settings):
    """One input of a scene: where its files are, and what its numbers mean."""

    path: Paths = ()
    """One file, or one file a band, in order; relative to the recipe's folder. {name} is a wildcard within
    one path segment, * and ** may stand beside it; {{ and }} are braces."""
    bands: Bands | None = None
    """The bands to use, counted from 1; three mean colour. Default: all but alpha."""
    range: Interval | None = None
    """The physical values `[low, high]` that map to 0 and 1. Default: 0 and 255 for 8-bit files, else the
    scene's minimum and 99.5th percentile."""
    percentiles: PercentInterval | None = None
    """In place of range: the percentiles `[low, high]` of the scene's values that map to 0 and 1."""
    scale: Factor | None = None
    """Physical value = file value * scale + offset; overrides the file's own scale."""
    offset: Number | None = None
    """Overrides the file's own offset."""
    nodata: FileValue | None = None
    """The file value that means "no data"; overrides the file's own. NaN is always invalid."""
    mask: Mask | None = None
    """A file that says which pixels are valid, such as a quality band. A path alone: 0 is invalid."""
    crs: Crs | None = None
    """The coordinate reference system, such as EPSG:32632; overrides the file's own."""
    volume: Annotated[int, Field(strict=True, ge=0)] | None = None
    """Of a 4-D NIfTI file: which volume, counted from 0. Default: each of them, as a scene of its own."""
    labels: Annotated[bool, Field(strict=True)] = False
    """Whether its values are labels, such as classes: they are resampled by nearest."""

    @field_validator("percentiles")
    @classmethod
    def _one_scaling(cls, percentiles: Any, info: ValidationInfo) -> Any:
        if percentiles is not None and info.data.get("range") is not None:
            raise wrong("given beside range: keep one of the two")
        return percentiles


class Fusion(Settings):
    """How the sources become one image."""

    method: Text = "res2netfuse"
    """A registered method, or an entry point's name; `batchfuse methods` lists them."""
    weights: Text = "res2netfuse"
    """A shipped name, or a .safetensors file relative to the recipe's folder."""
    strategy: Strategy = "l1"
    """How features are merged: l1, mean, average, detail; or a mapping of one name to its parameters."""
    color: Literal["luma", "bands"] = "luma"
    """luma: fuse the luminance and keep the reference's chroma; bands: each band of the reference with the
    others' luminance."""
    plane: Literal["axial", "coronal", "sagittal", "triplanar"] = "axial"
    """Of volumes: the anatomical plane of the slices that are fused, whatever the orientation of the files;
    triplanar: the mean of all three."""

    @field_validator("strategy")
    @classmethod
    def _strategy_has_the_parameters(cls, strategy: Any, info: ValidationInfo) -> Any:
        """Of a method and strategy that are known; the plan tells of those that are not."""
        for name, given in () if isinstance(strategy, str) else strategy.items():
            try:
                mistakes = list(method(info.data["method"]).strategy(name).mistakes(given))
            except (KeyError, RecipeError):
                continue
            for parameter, reason in mistakes:
                raise wrong(reason, below=(name, parameter))
        return strategy


class Tiles(Settings):
    """How a scene is cut into units of work."""

    size: Annotated[int, Field(strict=True, ge=16, le=8192)] = 1024
    """Pixels along the edge of the core a task writes: the chunk it owns."""


class Export(Settings):
    """A file made from a store when it is complete."""

    to: Literal["cog", "nifti", "png"]
    """The format: cog, a cloud optimised GeoTIFF; png, a picture; nifti, for volumes."""
    dtype: Literal["float32", "float16", "uint8", "uint16", "int16"] | None = None
    """The type of its values. Default: the store's; of a PNG, and of what is stretched, uint8."""
    stretch: Literal["none", "minmax", "percentiles"] = "none"
    """none: values stay what they are, rounded and cut where the type wants it; minmax, percentiles: the
    minimum and maximum of the whole image, or its percentiles 2 and 98, become the ends of the type."""
    keep_text: Annotated[bool, Field(strict=True)] = False
    """Of nifti: whether the free texts and the extensions of the reference's header are copied, which may
    name the patient."""

    @field_validator("keep_text")
    @classmethod
    def _nifti_has_texts(cls, keep_text: bool, info: ValidationInfo) -> bool:
        if keep_text and info.data.get("to") not in (None, "nifti"):
            raise wrong("goes with nifti alone: leave it out")
        return keep_text

    @field_validator("dtype")
    @classmethod
    def _png_holds_it(cls, dtype: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("to") == "png" and dtype not in (None, "uint8", "uint16"):
            raise wrong(f"found {shown(dtype)}; a PNG holds uint8 or uint16")
        return dtype

    @classmethod
    def of(cls, to: str, dtype: str | None = None, stretch: str = "none", keep_text: bool = False) -> Export:
        """The export of these settings; a RecipeError in a line for each that is wrong."""
        try:
            return cls.model_validate({"to": to, "dtype": dtype, "stretch": stretch, "keep_text": keep_text})
        except ValidationError as error:
            raise RecipeError(*mistakes(error, cls, Document("export", {}))) from None

    def refusal(self, bands: int, volume: bool = False) -> str | None:
        """Why an image of so many bands, or a volume, can't be exported so, or None."""
        if volume:
            return {
                "cog": "a GeoTIFF holds no volume: export nifti",
                "png": "a PNG holds no volume: export nifti; the quicklook shows cuts through it",
            }.get(self.to)
        if self.to == "nifti":
            return "NIfTI is for volumes, and the image is a raster: export a cog or a png"
        if self.to != "png" or bands in (1, 3):
            return None
        return f"a PNG holds one band or red, green and blue, and the image has {bands} bands: export a cog"

    def beside(self, store: Path) -> Path:
        """Where the export of a store goes, if nobody says otherwise: its name with another ending."""
        return store.with_name(store.name.removesuffix(".zarr") + self.suffix)

    @property
    def suffix(self) -> str:
        """The ending of its files."""
        return {"cog": ".tif", "nifti": ".nii.gz", "png": ".png"}[self.to]

    def suits(self, path: Path) -> bool:
        """Whether a file of this name is taken for one of this format."""
        return path.name.lower().replace(".tiff", ".tif").endswith(self.suffix)


class Output(Settings):
    """Where the fused images go, and what they hold."""

    path: PathText = "fused"
    """The folder of the stores, one a scene: fused/<scene>.zarr. Relative to the recipe's folder."""
    dtype: Literal["float32", "float16", "uint8", "uint16", "int16"] = "float32"
    """The type of the stored values."""
    units: Literal["reference", "unit"] = "reference"
    """reference: back in the reference's own range; unit: 0..1."""
    zarr_format: Literal["auto", 2, 3] = "auto"
    """auto: 2 for rasters, which opens in every GDAL in use (3 wants GDAL 3.12, with shards 3.13); 3 for
    volumes, as OME-Zarr 0.5 has it (2 is 0.4)."""
    shard: Annotated[int, Field(strict=True, ge=16, le=8192)] | None = None
    """Of format 3: the edge of a chunk inside a shard of tiles.size, which it must divide. Default: a tile
    is one chunk."""
    pyramid: Literal["auto", True, False] = "auto"
    """Whether reduced levels are stored, for zooming out. auto: volumes yes, rasters no."""
    also: Annotated[
        tuple[Annotated[Export, BeforeValidator(_as_export, json_schema_input_type=str | Export)], ...],
        BeforeValidator(lambda value: value or ()),
    ] = ()
    """What is exported beside a complete store, as fused/<scene>.tif, .png or .nii.gz: cog, png, nifti, or a
    mapping."""

    @field_validator("also")
    @classmethod
    def _one_a_format(cls, also: tuple[Export, ...]) -> tuple[Export, ...]:
        formats = [export.to for export in also]
        for index, name in enumerate(formats):
            if name in formats[:index]:
                raise wrong(f"{name} is there twice, and both would have one name: keep one", below=(index,))
        return also

    @field_validator("shard")
    @classmethod
    def _shards_are_of_format_3(cls, shard: int | None, info: ValidationInfo) -> int | None:
        if shard is not None and info.data.get("zarr_format", 3) != 3:
            raise wrong("shards are of format 3 only: say `zarr_format: 3` beside it, or leave `shard` out")
        return shard

    def format_number(self, volume: bool) -> Literal[2, 3]:
        """2 or 3, of a volume or a raster."""
        if self.zarr_format == "auto":
            return 3 if volume else 2
        return self.zarr_format


Source = Annotated[
    SourceSettings, BeforeValidator(_as_source, json_schema_input_type=str | list[str] | SourceSettings)
]


class Recipe(SettingsFile):
    """What to fuse, how, and where to put it. Everything has a default but the inputs."""

    inputs: Mapping[str, Source]
    """Two or more sources, named by role, such as thermal and optical: a path, or a mapping of settings."""
    manifest: PathText | None = Field(default=None, validate_default=True)
    """A CSV file in place of wildcards: columns `scene` and one a role, several files joined by ;, relative
    to the manifest."""
    reference: Text | None = None
    """The role whose grid, units and colour the output has. Default: the finest grid; of equals a colour
    source, else the last."""
    grid: TargetGrid = TargetGrid()
    """The grid that the sources of a scene are brought onto."""
    validity: Literal["any", "all"] = "any"
    """any: valid where at least one source is; all: only where every source is."""
    scaling: Literal["scene", "campaign"] = "scene"
    """scene: one range a role and scene; campaign: one range a role for all scenes, so that they mosaic."""
    fusion: Fusion = Fusion()
    """How the sources become one image."""
    tiles: Tiles = Tiles()
    """How a scene is cut into units of work."""
    output: Output = Output()
    """Where the fused images go, and what they hold."""
    on_error: Literal["skip", "fail"] = "skip"
    """skip: go on with the other scenes; fail: stop at the first."""
    folder: SkipJsonSchema[Path] = Field(default=Path(), exclude=True)
    """The folder that relative paths start from: the recipe's own. Not a key of the file."""
    file: SkipJsonSchema[Path | None] = Field(default=None, exclude=True)
    """The file it was read from. Not a key of it either."""

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
        """Read a recipe, with each ``key.path=value`` of ``overrides`` set.

        Raises RecipeError with a line for each mistake: file and line, key path, what was found, what is
        allowed and what was probably meant.
        """
        path = Path(path)
        document = read_document(path).with_overrides(overrides)
        for key in {"folder", "file"} & document.data.keys():
            raise RecipeError(unknown_key((key,), document.data[key], cls, document))
        return cls.model_validate({**document.data, "folder": path.parent, "file": path}, context=document)

    @field_validator("inputs")
    @classmethod
    def _roles_have_names(cls, inputs: Mapping[str, SourceSettings]) -> Mapping[str, SourceSettings]:
        for role in inputs:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,63}", role) or role == "scene":
                raise wrong(
                    "a role is named by letters, digits, _ and -, beginning with a letter, and not scene",
                    below=(role,),
                )
        if len(inputs) > MOST_ROLES:
            raise wrong(f"found {len(inputs)} sources: a scene has at most {MOST_ROLES}")
        if len(inputs) < 2:
            raise wrong(f"found {len(inputs)} of the two or more sources to fuse: name each by its role")
        return inputs

    @field_validator("manifest")
    @classmethod
    def _either_manifest_or_paths(cls, manifest: str | None, info: ValidationInfo) -> str | None:
        for role, source in info.data.get("inputs", {}).items():
            if manifest is None and not source.path:
                raise wrong("has no path: give it one, or give the recipe a manifest", key=("inputs", role))
            if manifest is not None and source.path:
                raise wrong("has a path beside the manifest: keep one", key=("inputs", role))
            if source.mask is None:
                continue
            if manifest is None and source.mask.path is None:
                raise wrong("has no path: give it one, or use a manifest", key=("inputs", role, "mask"))
            if manifest is not None and source.mask.path is not None:
                reason = f"has a path beside the manifest: name the file there, in a column {role}.mask"
                raise wrong(reason, key=("inputs", role, "mask"))
        return manifest

    @field_validator("reference")
    @classmethod
    def _reference_is_a_role(cls, reference: str | None, info: ValidationInfo) -> str | None:
        roles = list(info.data.get("inputs", {}))
        if reference is not None and roles and reference not in roles:
            meant = nearest(reference, roles)
            guess = f'; did you mean "{meant}"?' if meant else ";"
            raise wrong(f"found {shown(reference)}, which is no role{guess} allowed: {', '.join(roles)}")
        return reference

    @field_validator("output")
    @classmethod
    def _chunks_divide_the_shard(cls, output: Output, info: ValidationInfo) -> Output:
        tiles = info.data.get("tiles")
        if output.shard is not None and tiles is not None and tiles.size % output.shard:
            raise wrong(
                f"{output.shard} doesn't divide the shard, which is a tile of {tiles.size}: "
                f"give a divisor of `tiles.size`, such as {_divisor(tiles.size, output.shard)}",
                below=("shard",),
            )
        return output

    @property
    def patterns(self) -> dict[str, tuple[str, ...]]:
        """The paths of each role as written: files, or patterns with wildcards; none with a manifest.

        Its mask follows as ``<role>.mask``.
        """
        patterns: dict[str, tuple[str, ...]] = {}
        for role, source in self.inputs.items():
            patterns[role] = source.path
            if source.mask is not None:
                patterns[f"{role}.mask"] = (source.mask.path,) if source.mask.path else ()
        return patterns

    @property
    def output_folder(self) -> Path:
        """Where the stores go."""
        return self.located(self.output.path)

    def located(self, path: str) -> Path:
        """Where a path of this recipe leads, from the recipe's folder."""
        return self.folder / os.path.expanduser(path)  # noqa: PTH111 (never raises)

    def written(self, path: Path) -> str:
        """A path that this recipe or its manifest led to, as they write it: from the recipe's folder."""
        if path.is_relative_to(self.folder):
            return path.relative_to(self.folder).as_posix()
        home = Path(os.path.expanduser("~"))  # noqa: PTH111 (never raises)
        if self._names_home and path.is_relative_to(home):
            return f"~/{path.relative_to(home).as_posix()}"
        return str(path)

    @property
    def _names_home(self) -> bool:
        """Whether a path may begin with ~, the home folder of whoever runs it."""
        texts = [text for texts in self.patterns.values() for text in texts]
        return self.manifest is not None or any(text.startswith("~") for text in texts)

    def identity(self, volume: bool = False) -> dict[str, Any]:
        """The part that decides the pixels and the layout of one store: no paths, no weights' name."""
        resolved = self.resolved()
        kept = ("reference", "grid", "validity", "scaling", "fusion", "tiles")
        identity = {"roles": list(self.inputs), **{key: resolved[key] for key in ("inputs", *kept)}}
        for source in identity["inputs"].values():
            del source["path"]
            if source["mask"] is not None:
                del source["mask"]["path"]
        del identity["fusion"]["weights"]
        output = resolved["output"]
        identity["output"] = {key: output[key] for key in ("dtype", "units", "zarr_format", "shard")}
        identity["output"]["zarr_format"] = self.output.format_number(volume)
        return identity


def _divisor(size: int, near: int) -> int:
    """The divisor of ``size`` that is nearest to a number, and not below what a chunk may be."""
    return min((n for n in range(16, size + 1) if size % n == 0), key=lambda n: abs(n - near))


def recipe_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe; every key has its description."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}


def differences(
    stored: Mapping[str, Any],
    wanted: Mapping[str, Any],
    where: str = "the store",
    now: str = "in the recipe",
) -> list[str]:
    """How two identities differ, a line a key: ``fusion.strategy: l1 in the store, mean in the recipe``."""
    return [
        f"{key}: {_told(old)} in {where}, {_told(new)} {now}" for key, old, new in _differing(stored, wanted)
    ]


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The key path and both values of whatever differs; a section against a value is told as a whole."""
    for key in dict.fromkeys((*old, *new)):
        one, other = old.get(key), new.get(key)
        if all(value is None or isinstance(value, Mapping) for value in (one, other)):
            yield from ((f"{key}.{below}", *pair) for below, *pair in _differing(one or {}, other or {}))
        elif _plain(one) != _plain(other):
            yield key, one, other


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _told(value: Any) -> str:
    if isinstance(value, Mapping):  # of one strategy and its parameters
        return ", ".join(map(str, value))
    return "nothing" if value is None else shown(value, quoted=False)
