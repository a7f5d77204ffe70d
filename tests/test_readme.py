"""What the README links to and recommends; `test_docs_commands` runs its other blocks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.docs_pages import blocks

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
REPOSITORY = re.compile(
    r"https://(?:github\.com|raw\.githubusercontent\.com)/tocsin-oci/tocsin/"
    r"(?:(?:blob|tree)/)?main/(?P<path>[^)#\s]+)"
)
"""A file of this repository. Links are absolute, because PyPI shows the README too."""


def test_links_when_followed_then_each_file_exists():
    paths = [match["path"] for match in REPOSITORY.finditer(README.read_text())]
    assert len(paths) > 10
    for path in paths:
        assert (ROOT / path).exists(), path


def test_links_when_read_then_none_is_relative():
    targets = re.findall(r"\]\(([^)\s]+)\)", README.read_text())
    assert [target for target in targets if not target.startswith("https://")] == []


def test_ci_steps_when_read_then_they_are_those_of_the_recipe():
    (steps,) = [block.code for block in blocks(README) if block.language == "yaml"]
    recipes = [block.code for block in blocks(ROOT / "docs" / "ci.md")]
    assert any(all(line in recipe for line in steps.splitlines()) for recipe in recipes)


@pytest.mark.parametrize("target", ["demo", "test"])
def test_make_targets_when_read_then_the_makefile_has_them(target):
    assert f"make {target} " in README.read_text()
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
