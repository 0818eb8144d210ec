"""The site of the pages: built strictly, complete, and without anything from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
pytest.importorskip("mkdocs", reason="the site is built by mkdocs: pip install -e '.[dev]'")
pytest.importorskip("material", reason="the site looks like mkdocs-material: pip install -e '.[dev]'")

LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src"}
"""Tags that make a browser fetch something, and by which attribute."""
SAID = {"canonical", "next", "prev", "edit"}
"""What a ``link`` tag may be without anything being fetched."""


class Page(HTMLParser):
    """What a page loads, where it leads, and which places it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.leads: list[str] = []
        self.places: set[str] = {""}
        self.inside: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if place := found.get("id"):
            self.places.add(place)
        if tag == "a" and (there := found.get("href")):
            self.leads.append(there)
        loaded = found.get(LOADED.get(tag, ""))
        if loaded and not (tag == "link" and found.get("rel") in SAID):
            self.loads.append(loaded)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as ``mkdocs build --strict`` makes it: any warning is an error there."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", "docs/site/mkdocs.yml", "-d", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}


def test_every_page_is_in_the_site(pages: dict[Path, Page], site: Path) -> None:
    built = {path.relative_to(site).with_suffix(".md").as_posix() for path in pages}
    written = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    index = {"README.md": "index.md"}
    assert {p.with_name(index.get(p.name, p.name)).as_posix() for p in written} <= built
    assert {"index.md", "recipes/index.md", "recipes/landsat.yaml.md"} <= built


def test_every_page_is_in_the_navigation(pages: dict[Path, Page], site: Path) -> None:
    home = pages[site / "index.html"]
    listed = {(site / unquote(urlsplit(there).path)).resolve() for there in home.leads if "://" not in there}
    decisions = {path for path in pages if path.parent.name == "decisions"}
    assert len(decisions) > 10
    assert decisions <= listed
    assert {path for path in pages if path.parent == site} <= listed


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, Page], site: Path) -> None:
    for path, page in pages.items():
        assert any(there.endswith(".css") for there in page.loads)
        for there in page.loads:
            assert not urlsplit(there).netloc, f"{path.name} loads {there}"
            assert (path.parent / unquote(urlsplit(there).path)).is_file(), f"{path.name} lacks {there}"
    sheets = "".join(sheet.read_text("utf-8") for sheet in site.rglob("*.css"))
    assert re.findall(r"url\([\"']?(?:https?:)?//|@import", sheets) == []


def test_every_link_within_the_site_leads_to_a_place_of_a_page(pages: dict[Path, Page]) -> None:
    dead = []
    for path, page in pages.items():
        for there in page.leads:
            parts = urlsplit(there)
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target not in pages or unquote(parts.fragment) not in pages[target].places:
                dead.append(f"{path.name}: {there}")
    assert not dead


def test_a_recipe_is_shown_as_it_is(site: Path) -> None:
    shown = re.sub(r"<[^>]+>", "", (site / "recipes" / "landsat.yaml.html").read_text("utf-8"))
    for line in (ROOT / "recipes" / "landsat.yaml").read_text("utf-8").splitlines():
        assert line.replace("<", "&lt;").replace(">", "&gt;") in shown


def test_no_program_is_published(site: Path) -> None:
    assert not [path for path in site.rglob("*") if path.suffix in (".py", ".pyc", ".yml")]


def test_no_list_or_table_is_shown_as_text(pages: dict[Path, Page]) -> None:
    """GitHub takes a list right below a paragraph, the site wants an empty line between."""
    for path in pages:
        text = re.sub(r"<pre.*?</pre>", "", path.read_text("utf-8"), flags=re.DOTALL)
        paragraphs = re.findall(r"<(?:p|li)>(.*?)</(?:p|li)>", text, re.DOTALL)
        found = [
            line for part in paragraphs for line in re.findall(r"^\s*(?:[-*|]|\d+\.) .*", part, re.MULTILINE)
        ]
        assert not found, path.name
        assert "```" not in text, path.name
