"""Makes a site of pages that are written for the repository, where links lead to any of its files.

The pages in docs/ are the site's; the README is its first page. A file outside docs/ that a page links to
(a recipe, a model card) becomes a page, too, and the links lead to it. A folder in the navigation stands
for each page in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
DOCS = "docs/"
LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")
BLOCK = re.compile(r"^```.*?^```\s*$", re.MULTILINE | re.DOTALL)
LANGUAGES = {".yaml": "yaml", ".py": "python", ".toml": "toml"}

_origins: dict[str, str] = {}
"""From the site's pages to the repository's files, for those outside docs/."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Spells out the folders in the navigation."""
    config.nav = [_spelled_out(entry) for entry in config.nav or []]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the README and all that is linked to outside docs/."""
    _origins.clear()
    waiting = ["README.md", *(DOCS + file.src_uri for file in files.documentation_pages())]
    while waiting:
        origin = waiting.pop()
        if not origin.startswith(DOCS):
            page = _page_of(origin)
            if page in _origins:
                continue
            _origins[page] = origin
            files.append(
                File.generated(config, page, content=_text(origin), inclusion=InclusionLevel.NOT_IN_NAV)
            )
        waiting += [there for there in _linked(origin) if not there.startswith(DOCS)]
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turns links between files of the repository into links between pages of the site."""
    here = page.file.src_uri
    origin = _origins.get(here, DOCS + here)

    def led(link: re.Match[str]) -> str:
        there = _target(origin, link[1])
        return os.path.relpath(_page_of(there), PurePosixPath(here).parent) if there else link[1]

    return _outside_blocks(markdown, lambda prose: LINK.sub(led, prose))


def _spelled_out(entry: Any) -> Any:
    if isinstance(entry, dict):
        ((title, place),) = entry.items()
        if isinstance(place, str) and place.endswith("/"):
            pages = sorted((ROOT / DOCS / place).glob("*.md"), key=lambda p: (p.name != "README.md", p.name))
            return {title: [place + page.name for page in pages]}
    return entry


def _target(origin: str, link: str) -> str | None:
    """The file of the repository that a link leads to; of a folder its README."""
    if re.match(r"[a-z]+:", link):
        return None
    there = os.path.normpath(PurePosixPath(origin).parent / link)
    if (ROOT / there).is_dir():
        there += "/README.md"
    return there if (ROOT / there).is_file() else None


def _linked(origin: str) -> Iterator[str]:
    if origin.endswith(".md"):
        for link in LINK.findall(BLOCK.sub("", (ROOT / origin).read_text(encoding="utf-8"))):
            if there := _target(origin, link):
                yield there


def _page_of(origin: str) -> str:
    """Where a file of the repository lies in the site."""
    if origin == "README.md":
        return "index.md"
    if origin.startswith(DOCS):
        return origin.removeprefix(DOCS)
    return origin if origin.endswith(".md") else f"{origin}.md"


def _text(origin: str) -> str:
    """A file as a page; what is not Markdown is shown as it is."""
    text = (ROOT / origin).read_text(encoding="utf-8")
    if origin.endswith(".md"):
        return text
    return f"# {origin}\n\n```{LANGUAGES.get(Path(origin).suffix, 'text')}\n{text}```\n"


def _outside_blocks(markdown: str, change: Callable[[str], str]) -> str:
    """Changes the prose and leaves fenced blocks as they are."""
    blocks = BLOCK.findall(markdown)
    prose = BLOCK.split(markdown)
    changed = [change(part) + block for part, block in zip(prose, [*blocks, ""], strict=True)]
    return "".join(changed)
