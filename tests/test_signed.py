"""Pictures say that they are ours, and none is drawn over one that is not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rasters import photo, write_raster
from stores import scenery, write_store

import batchfuse
from batchfuse.errors import SceneError
from batchfuse.exports import export
from batchfuse.recipe import Export
from batchfuse.report.signed import save_signed

PICTURE = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))


def test_a_signed_picture_is_drawn_over_and_the_same_again(tmp_path: Path) -> None:
    path = tmp_path / "new/a.png"
    save_signed(PICTURE, path, "quicklook")
    before = path.read_bytes()
    save_signed(PICTURE, path, "quicklook")
    assert path.read_bytes() == before
    with Image.open(path) as image:
        assert image.text == {"BATCHFUSE": "quicklook"}
        assert (np.asarray(image) == np.asarray(PICTURE)).all()
    assert list(path.parent.iterdir()) == [path]


def test_whatever_else_lies_there_is_left_alone(tmp_path: Path) -> None:
    path, ours = tmp_path / "a.png", tmp_path / "ours.png"
    save_signed(PICTURE, ours, "quicklook")
    store = write_store(tmp_path / "a.zarr", scenery("uint8"))
    export(store, Export(to="png"), tmp_path / "export.png")
    cut = ours.read_bytes()[:30]
    for content in (b"", b"mine", cut, cut[:8] + b"\xff" * 40, (tmp_path / "export.png").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(SceneError, match=r"a\.png is there and was not drawn by batchfuse: move it away"):
            save_signed(PICTURE, path, "quicklook")
        assert path.read_bytes() == content
    PICTURE.save(path)
    made = {
        "a folder": path.mkdir,
        "a link": lambda: path.symlink_to(ours),
        "a pipe": lambda: os.mkfifo(path),
    }
    for make in made.values():
        path.unlink()
        make()
        with pytest.raises(SceneError, match="was not drawn by batchfuse"):
            save_signed(PICTURE, path, "quicklook")
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
            path.touch()
    with pytest.raises(SceneError, match="was not drawn by batchfuse"):
        save_signed(PICTURE, ours, "losses")


def test_a_run_goes_on_without_a_quicklook_that_would_replace_somebody_elses(tmp_path: Path) -> None:
    for role, seed in (("t", 1), ("o", 2)):
        write_raster(tmp_path / f"K_{role}.tif", np.rint(photo((30, 40), seed)[0] * 250))
    (tmp_path / "fused").mkdir()
    picture = tmp_path / "fused/K.quicklook.png"
    picture.write_text("mine")
    recipe = batchfuse.Recipe(inputs={"t": "{scene}_t.tif", "o": "{scene}_o.tif"}, folder=tmp_path)
    (first,) = batchfuse.run(recipe).outcomes
    assert (first.status, picture.read_text()) == ("complete", "mine")
    assert any(
        "no quicklook" in line and "was not drawn by batchfuse: move it away" in line
        for line in first.warnings
    )
    picture.unlink()
    batchfuse.run(recipe, overwrite=True)
    drawn = picture.read_bytes()
    batchfuse.run(recipe, overwrite=True)
    assert picture.read_bytes() == drawn
