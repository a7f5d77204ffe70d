"""Check a built site: every link leads somewhere, and no page needs the network to be shown.

Run by ``make docs`` after the site has been built.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADED = {
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("object", "data"),
}
"""What a browser fetches to show a page, besides the links below."""
_LOADED_RELATIONS = {"stylesheet", "icon", "preload", "modulepreload", "manifest"}
_REMOTE_IN_CSS = re.compile(r"url\(\s*[\"']?((?:https?:)?//[^\"')]*)|@import")
_NOT_FILES = {"mailto", "data", "javascript"}


@dataclass
class Page(HTMLParser):
    """What a page refers to, and the anchors in it."""

    anchors: set[str] = field(default_factory=lambda: {"", "__skip"})
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note anchors and references of one element."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "link":
            if _LOADED_RELATIONS & set(values.get("rel", "").split()):
                self.loaded.append(values.get("href", ""))
        elif tag == "a" and "href" in values:
            self.links.append(values["href"])
        self.loaded += [values[name] for kind, name in _LOADED if kind == tag and name in values]


def problems(site: Path) -> list[str]:
    """Return what is wrong with the pages of a site, a line each."""
    pages = {path: _parsed(path) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        name = path.relative_to(site)
        found += [
            f"{name}: loads {reference} from the network"
            for reference in page.loaded
            if urlsplit(reference).netloc
        ]
        for reference in [*page.links, *page.loaded]:
            problem = _dead(reference, path, pages, site)
            if problem:
                found.append(f"{name}: {reference}: {problem}")
    for path in sorted(site.rglob("*.css")):
        found += [
            f"{path.relative_to(site)}: loads {match[0]} from the network"
            for match in _REMOTE_IN_CSS.finditer(path.read_text())
        ]
    if not pages:
        found.append(f"{site}: no pages")
    return found


def _parsed(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text())
    return page


def _dead(reference: str, path: Path, pages: dict[Path, Page], site: Path) -> str | None:
    """Return why a reference leads nowhere; those to other sites are taken on trust."""
    parts = urlsplit(reference)
    if parts.scheme in _NOT_FILES or parts.netloc:
        return None
    # The page of missing pages can be shown at any address, so its links begin at the root.
    base = site if parts.path.startswith("/") else path.parent
    target = (base / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.exists():
        return "file is missing"
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
        return "anchor is missing"
    return None


if __name__ == "__main__":
    wrong = problems(Path(sys.argv[1]).resolve())
    print("\n".join(wrong) or "every link leads somewhere, and nothing is loaded from the network")
    sys.exit(bool(wrong))
