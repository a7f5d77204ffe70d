"""The commands and programs of the README and docs/, run as written (see `support.docs_pages`).

``TOCSIN_REWRITE_DOCS=1`` puts what commands print now into the pages.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from support.docs_image import put_images
from support.docs_pages import DOCS, NOT_RUN, REGISTRY, Sandbox, blocks, rewrite
from support.registry import Registry
from tocsin import copy

ERROR = re.compile(r"^error: |^  \"error\": ", re.MULTILINE)
"""What a page shows where a command fails: the message, or the document of ``--json``."""
PAGES = [DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))]
RUNS = {"console", "python"}
TESTS = Path(__file__).parent
"""One page reads a layer of the goldens."""


def runnable(page):
    return [block for block in blocks(page) if block.language in RUNS and not block.comment]


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    directory = tmp_path_factory.mktemp("docs") / "images"
    put_images(directory)
    return directory


@pytest.fixture
def sandbox(tmp_path, images, page):
    """The directory of a page, with images; the registry is filled if the page uses it."""
    shutil.copytree(images, tmp_path / "images", copy_function=os.link)
    (tmp_path / "tests").symlink_to(TESTS)
    with Registry() as registry:
        if REGISTRY in page.read_text():
            for tag, name in (("app", "1"), ("app-next", "2")):
                copy(f"oci:{images}:{tag}", f"{registry.host}/team/app:{name}")
        yield Sandbox(tmp_path, registry.host)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_when_read_then_each_is_run_or_says_why_not(page):
    for block in blocks(page):
        named = f"{page.name}:{block.line}"
        assert block.language, f"{named}: the fence names no language"
        assert block.language in RUNS | NOT_RUN or block.comment, (
            f"{named}: {block.language} is neither run nor says why not"
        )


@pytest.mark.parametrize(
    "page", [page for page in PAGES if runnable(page)], ids=lambda page: page.name
)
def test_commands_when_run_then_they_print_what_the_page_shows(page, sandbox):
    shown = [command for block in runnable(page) for command in sandbox.run(block)]
    for command in shown:
        shows_error = ERROR.search(command.expected or command.printed)
        assert command.exit_code == 0 or shows_error, report(command)
    if os.environ.get("TOCSIN_REWRITE_DOCS"):
        rewrite(page, shown)
        return
    for command in shown:
        assert not command.differs, report(command)


def report(command):
    place = f"{command.block.page}:{command.block.line}"
    return f"{place}: exit code {command.exit_code}\n$ {command.command}\n{command.printed}"
