"""What the figures are called in tables and calls; nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from batchfuse.errors import RecipeError

__all__ = ["chosen_figures", "label"]

LABELS = {
    "ssim_a": "SSIM_a",
    "q_abf": "Q_abf",
    "fmi_dct": "FMI_dct",
    "fmi_w": "FMI_w",
    "q_abf_255": "Q_abf_255",
}
"""Where it isn't all capitals."""


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
