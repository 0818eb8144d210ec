"""Draws quickstart.png: the quicklook of the quickstart's scene, in panels that suit the width of a page.

python docs/images/make_quickstart.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

import batchfuse
from batchfuse.report import mosaic

HERE = Path(__file__).parent
RECIPE = HERE.parents[1] / "recipes" / "quickstart" / "recipe.yaml"
PANEL = 320  # reduced here, not afterwards: letters keep their size


def main() -> None:
    """Fuses the scene in a temporary folder, and puts its quicklook on white."""
    mosaic.AREA = PANEL * PANEL
    with tempfile.TemporaryDirectory() as folder:
        report = batchfuse.run(batchfuse.Recipe.load(RECIPE, [f"output.path={folder}"]))
        if report.exit_code:
            raise SystemExit(str(report.outcomes))
        with Image.open(Path(folder) / "valley.quicklook.png") as quicklook:
            page = Image.new("RGBA", quicklook.size, "white")
            page.alpha_composite(quicklook.convert("RGBA"))
    page.convert("RGB").save(HERE / "quickstart.png", optimize=True)


if __name__ == "__main__":
    main()
