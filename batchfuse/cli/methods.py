"""``batchfuse methods``."""

from __future__ import annotations

from typing import Any

import click

from batchfuse.cli.options import JSON, echo, echo_json, told

__all__ = ["methods"]


@click.command()
@JSON
@told
def methods(as_json: bool) -> None:
    """List the fusion methods with their strategies, halos and weights."""
    from batchfuse.fusion.methods import all_methods

    if as_json:
        echo_json([_method(found) for found in all_methods()])
        return
    for found in all_methods():
        echo(f"{found.name}  weights: {found.default_weights or 'none'}  {found.summary}")
        for strategy in found.strategies.values():
            survey = "" if strategy.survey_halo is None else f", survey pass with halo {strategy.survey_halo}"
            echo(f"  {strategy.name:8} halo {strategy.halo}{survey}: {strategy.summary}")
            for parameter in strategy.parameters:
                echo(f"           {parameter}")


def _method(found: Any) -> dict[str, Any]:
    return {
        "name": found.name,
        "summary": found.summary,
        "weights": found.default_weights or None,
        "strategies": [
            {
                "name": s.name,
                "halo": s.halo,
                "survey_halo": s.survey_halo,
                "summary": s.summary,
                "parameters": {parameter.name: parameter.schema() for parameter in s.parameters},
            }
            for s in found.strategies.values()
        ],
    }
