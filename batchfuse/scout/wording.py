"""The recipe as text: what counts, and comments on what was seen and what one may want to change."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from batchfuse.geometry.volume_grid import VolumeGrid
from batchfuse.imagery.scene import Source
from batchfuse.scout.chosen import Chosen
from batchfuse.scout.findings import counted
from batchfuse.scout.proposals import third_sources
from batchfuse.scout.remarks import are_parts, remarks
from batchfuse.scout.together import OTHER, WILDCARD, kinds
from batchfuse.system.words import printable

__all__ = ["OUTPUT", "recipe_text", "yaml_text"]

OUTPUT = "fused"
"""The folder of the stores, beside the recipe."""
MOST_LINES = 20
"""Lines of one list in the comments."""
MOST_OTHERS = 3
"""Other pairs that are shown."""
PLAIN = re.compile(r"[A-Za-z0-9_./][^\s:#'\"\[\]{},&*!|>%@`\\][^\s:#'\"\[\],\\]*")
"""Text that YAML takes as it is."""
RESERVED = ("true", "false", "null", "yes", "no", "on", "off", ".inf", ".nan")


def recipe_text(chosen: Chosen, call: str, name: str) -> str:
    """The whole recipe, which the command ``call`` wrote to ``name``."""
    lines = [*_head(chosen, call, name), "", "inputs:"]
    for role in chosen.proposal.roles:
        lines += [*_source(chosen, role), ""]
    lines += [*_third(chosen), *_rest(chosen), *_others(chosen)]
    text = "\n".join(lines).replace("\n\n\n", "\n\n")
    return f"{text.rstrip()}\n"


def yaml_text(value: Any, flow: bool = False) -> str:
    """A value as YAML on one line; ``flow`` where it stands between { and }."""
    if not isinstance(value, str):
        return str(value)
    if (
        not flow
        and PLAIN.fullmatch(value)
        and value.isprintable()
        and value.lower() not in RESERVED
        and not _is_number(value)
    ):
        return value
    inner = "".join(
        f"\\{sign}" if sign in '"\\' else sign if sign.isprintable() else f"\\U{ord(sign):08x}"
        for sign in value
    )
    return f'"{inner}"'


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-+.0-9][0-9a-fA-FoxX_.eE+-]*", text) is not None


def _head(chosen: Chosen, call: str, name: str) -> Iterator[str]:
    yield f"# {chosen.families}"
    if chosen.are_volumes:
        yield "# Not for diagnosis: what is fused is no longer what a scanner measured."
    yield f"# Written by `{printable(call)}`. Paths are relative to this file."
    yield "#"
    yield f"#     batchfuse plan {printable(name)}      # look before you run"
    yield f"#     batchfuse run {printable(name)}"
    yield "#"
    failed = list(chosen.failures())
    scenes, first = counted(len(chosen.names), "scene"), printable(chosen.names[0])
    yield f"# {scenes} with a file of every source, such as {first}:"
    for role, files in chosen.example.items():
        yield f"#   {role}: {files}"
    yield from _listed("Note:", list(remarks(chosen)))
    yield from _listed("Complete by name, but not fusible as they are:", failed)
    yield from _listed("Left out:", list(chosen.left_out()))


def _listed(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield f"# {title}"
        yield from (f"#   {line}" for line in lines[:MOST_LINES])
        if len(lines) > MOST_LINES:
            yield f"#   … and {len(lines) - MOST_LINES} more"


def _source(chosen: Chosen, role: str) -> Iterator[str]:
    settings, option = chosen.settings[role], chosen.option(role)
    source, paths = settings.source, chosen.patterns[role]
    yield f"  # {_kind(source)}"
    yield f"  {role}:"
    if len(paths) == 1:
        yield f"    path: {yaml_text(paths[0])}"
    else:
        yield "    path:  # a file a band, taken for red, green, blue"
        yield from (f"      - {yaml_text(path)}" for path in paths)
    for one in settings.settings:
        if one.comment:
            yield f"    # {one.comment}"
        yield f"    {'# ' if one.is_remark else ''}{one.key}: {yaml_text(one.value)}"
    if role == OTHER:
        yield f"    # {WILDCARD} is the word for {' or '.join(kinds(option))}, the same wherever it stands."
    if option.is_one_colour:
        yield f"    # Its {option.name} band alone: red, green and blue are not all there."
    yield from _mask(chosen, role)
    if source.dtype != "uint8":
        yield "    # The values that count as 0 and 1; without it the scene's minimum and 99.5th percentile:"
        yield "    # range: [low, high]"


def _kind(source: Source) -> str:
    """What the files of a source hold: bands, type, size."""
    place = source.place
    if isinstance(place, VolumeGrid):
        voxels, sizes = (" x ".join(f"{n:.4g}" for n in each[::-1]) for each in (place.shape, place.spacing))
        return (
            f"{source.dtype}, {voxels} voxels of {sizes} mm in the first scene, axes to {place.orientation}"
        )
    bands = "red, green, blue" if source.is_colour else "one band"
    return f"{bands}, {source.dtype}{_pixels(place)}"


def _pixels(place: Any) -> str:
    rows, columns = place.shape
    where = "" if getattr(place, "crs", None) else ", without a CRS"
    return f", {columns} x {rows} pixels in the first scene{where}"


def _mask(chosen: Chosen, role: str) -> Iterator[str]:
    """The quality band of a Landsat product, as the source's mask, commented out."""
    example = chosen.option(role).series[0].example
    if not example.spans or not example.family.startswith("Landsat"):
        return
    start, stop = example.spans[-1]
    beside = f"{example.path[:start]}QA_PIXEL{example.path[stop:]}"
    mark, pattern = example.path[start:stop], chosen.patterns[role][0]
    if beside in chosen.found.images and pattern.count(mark):
        before, _, behind = pattern.rpartition(mark)
        yield "    # Makes cloud (bit 3 of the quality band) and its shadow (bit 4) invalid:"
        path = yaml_text(f"{before}QA_PIXEL{behind}", flow=True)
        yield f"    # mask: {{path: {path}, reject_bits: [3, 4]}}"


def _third(chosen: Chosen) -> Iterator[str]:
    """Other sources of the same scenes, commented out."""
    found = list(third_sources(chosen.proposal, tuple(chosen.files.values())))
    if not found:
        return
    yield "  # Seen as well: uncomment one to fuse it, too, or put it in the place of another."
    for role, below, scenes in found:
        paths = [chosen.found.from_recipe(path, chosen.folder) for path in below]
        only = "" if scenes >= len(chosen.names) else f"  # in {scenes} of the scenes only"
        if len(paths) == 1:
            yield f"  # {role}: {yaml_text(paths[0])}{only}"
        else:
            yield f"  # {role}:{only}"
            yield from (f"  #   - {yaml_text(path)}" for path in paths)
    yield ""


def _rest(chosen: Chosen) -> Iterator[str]:
    role, why = chosen.reference
    yield f"reference: {role}  # {why}"
    if are_parts(chosen):
        yield "scaling: campaign  # one range for all parts of the image, so that they leave no seams"
    yield ""
    if chosen.are_volumes:
        yield "fusion:"
        yield "  # The slices that are fused: axial, coronal, sagittal; triplanar is the mean of all three."
        yield "  plane: axial"
        yield ""
    yield "output:"
    yield f"  path: {OUTPUT}  # {OUTPUT}/<scene>.zarr, beside this file"
    dtype = chosen.settings[role].source.dtype
    if dtype in ("uint8", "uint16", "int16"):
        yield f"  # dtype: {dtype}  # as {role} has; without it float32"
    if chosen.are_volumes:
        yield f"  # also: [nifti]  # {OUTPUT}/<scene>.nii.gz as well, in the place of {role}"


def _others(chosen: Chosen) -> Iterator[str]:
    """Other pairs, of other scenes than those that were chosen."""
    if not chosen.others:
        return
    yield ""
    yield "# Other pairs that are there, each for a recipe of its own:"
    for other in chosen.others[:MOST_OTHERS]:
        yield f"# {counted(other.scenes, 'scene')} of {' and '.join(other.roles)}:"
        for role, below in other.ways[0].items():
            paths = [chosen.found.from_recipe(path, chosen.folder) for path in below]
            yield f"#   {role}: {yaml_text(paths[0]) if len(paths) == 1 else ''}".rstrip()
            yield from (f"#     - {yaml_text(path)}" for path in paths if len(paths) > 1)
