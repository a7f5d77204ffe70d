"""How the pages of docs/ are read before their commands are run."""

import pytest

from support.docs_pages import blocks, commands, rewrite

FENCE = "```"


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.md"

    def write(*lines):
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def shown_by(path):
    return [command for block in blocks(path) for command in commands(block)]


def test_blocks_when_read_then_language_title_and_comment_are_known(page):
    found = blocks(
        page(
            f'{FENCE}python title="a.py"',
            "x = 1",
            FENCE,
            "1. a list",
            "",
            "    <!-- not run here: needs AWS -->",
            f"    {FENCE}sh",
            "    true",
            f"    {FENCE}",
        )
    )
    assert [(b.language, b.title, b.code, b.comment) for b in found] == [
        ("python", "a.py", "x = 1\n", ""),
        ("sh", "", "true\n", "<!-- not run here: needs AWS -->"),
    ]


def test_commands_when_read_then_each_has_its_output(page):
    path = page(f"{FENCE}console", "$ one", "1", "", "2", "$ two \\", "> more", "> 3", FENCE)
    assert [(c.command, c.expected) for c in shown_by(path)] == [
        ("one", "1\n\n2\n"),
        ("two more", "> 3\n"),
    ]


@pytest.mark.parametrize(
    ("expected", "printed", "differs"),
    [
        ("a\n", "a\n", False),
        ("a\n", "b\n", True),
        ("", "a\n", True),
        ("digest 0123456789ab, 1.2 MiB in 3 ms\n", "digest ba9876543210, 7 B in 2.5 s\n", False),
        ("a   b\n", "a b\n", False),
        ("a\n...\n", "a\n", False),
        ("a\n...\nd\n", "a\nb\nc\nd\n", False),
        ("a\n...\nd\n", "a\nb\nc\n", True),
    ],
)
def test_output_when_compared_then_only_what_varies_may_differ(page, expected, printed, differs):
    (shown,) = shown_by(page(f"{FENCE}console", "$ run", *expected.splitlines(), FENCE))
    shown.printed = printed
    assert shown.differs == differs


def test_page_when_rewritten_then_it_shows_what_was_printed(page):
    path = page(f"{FENCE}console", "$ one", "old", "$ two", "in 3 ms", FENCE)
    one, two = shown_by(path)
    one.printed, two.printed = "new\n", "in 4 ms\n"
    rewrite(path, [one, two])
    assert path.read_text() == f"{FENCE}console\n$ one\nnew\n$ two\nin 3 ms\n{FENCE}\n"
