"""The recipe that a store was made by, from the store's own record."""

from __future__ import annotations

import json
from pathlib import Path

from batchfuse.errors import StoreError
from batchfuse.recipe import Recipe
from batchfuse.storage.store import Store

__all__ = ["stored_recipe"]


def stored_recipe(store: Store, folder: Path) -> Recipe:
    """The recipe of a store, whose relative paths start from ``folder``; StoreError where it is damaged."""
    try:
        recipe = json.loads(json.dumps(store.record["recipe"]))
        # a record is sorted by its keys, and the order of roles decides the reference
        recipe["inputs"] = {role: recipe["inputs"][role] for role in store.record["identity"]["roles"]}
        if not recipe["fusion"]["weights"]:
            del recipe["fusion"]["weights"]  # of a method that has none
    except (KeyError, TypeError) as error:
        raise StoreError(f"{store.path} is damaged: its record lacks {error}") from None
    return Recipe.model_validate({**recipe, "folder": folder})
