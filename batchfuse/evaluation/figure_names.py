"""What the figures are called in tables and calls; nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from batchfuse.errors import RecipeError

__all__ = ["chosen_figures", "label", "why_undefined"]

LABELS = {
    "ssim_a": "SSIM_a",
    "q_abf": "Q_abf",
    "fmi_dct": "FMI_dct",
    "fmi_w": "FMI_w",
    "q_abf_255": "Q_abf_255",
}
"""Where it isn't all capitals."""

UNDEFINED = {
    "q_abf": "where the sources are black, or one pixel",
    "fmi_dct": "below 3x3 pixels",
    "scd": "where a source is constant, or the fused image is one of the sources",
    "ms_ssim": "below 44 pixels a side, or where the fused image is the opposite of its sources",
    "q_abf_255": "where the sources are black, or one pixel",
    "ag": "of a single row or column",
    "sf": "of a single row or column",
    "vif": "below 41 pixels a side, or where a source is constant",
}
"""Where a figure of two sources is NaN."""


def why_undefined(figure: str, sources: int, of: str = "") -> str:
    """Why a figure has no value, in a sentence; ``of`` says of which images, where not of all."""
    if figure == "scd" and sources != 2:
        return f"{label(figure)} is defined of two sources, and there are {sources}"
    return f"{label(figure)}{of and f' of {of}'} is not defined {UNDEFINED[figure]}"


def label(figure: str) -> str:
    """A figure as the paper writes it: Q_abf of q_abf."""
    return LABELS.get(figure, figure.upper())


def chosen_figures(wanted: str, six: Sequence[str], every: Iterable[str]) -> tuple[str, ...]:
    """The figures of `--figures`: ``six``, ``all``, or names joined by commas, in any case.

    Raises:
        RecipeError: a name is none.
    """
    known = tuple(every)
    if wanted.lower() == "six":
        return tuple(six)
    if wanted.lower() == "all":
        return known
    names = [name.strip().lower() for name in wanted.split(",")]
    for name in names:
        if name not in known:
            allowed = ", ".join(label(one) for one in known)
            raise RecipeError(f"--figures {wanted}: {name!r} is no figure; allowed: six, all, or {allowed}")
    return tuple(dict.fromkeys(names))
