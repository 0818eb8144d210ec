"""``batchfuse schema``."""

from __future__ import annotations

import click

from batchfuse.cli.options import echo_json, told

__all__ = ["schema"]


@click.command()
@click.option("--profile", "of_profile", is_flag=True, help="The profile's schema instead of the recipe's.")
@told
def schema(of_profile: bool) -> None:
    """Print the JSON Schema of a recipe."""
    from batchfuse.recipe import profile_schema, recipe_schema

    echo_json(profile_schema() if of_profile else recipe_schema())
