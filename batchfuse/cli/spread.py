"""An option that takes all that follows it: ``--sources A B --fused F``."""

from __future__ import annotations

from collections.abc import Sequence

import click

__all__ = ["SourcesCommand", "spread"]


class SourcesCommand(click.Command):
    """A command whose option `--sources` takes every word up to the next option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See ``click.Command``: Click's own options take a fixed number of words."""
        return super().parse_args(ctx, spread(args, "--sources"))


def spread(args: Sequence[str], option: str) -> list[str]:
    """The words of a call with ``option`` repeated before each of its values."""
    words: list[str] = []
    within = first = False
    for word in args:
        if word.startswith("-") and word != "-":
            within, first = word.split("=")[0] == option, word == option
        else:
            if within and not first:
                words.append(option)
            first = False
        words.append(word)
    return words
