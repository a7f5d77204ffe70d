"""docs/security.md names a test for each promise: each must exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text()
PROMISES = re.findall(r"^\| (.+) \| `([^`]+)::([^`]+)` \|$", PAGE, re.M)


@pytest.mark.parametrize(("promise", "file", "name"), PROMISES, ids=[name for *_, name in PROMISES])
def test_promise_when_a_test_is_named_then_it_exists(promise, file, name):
    text = (ROOT / "tests" / file).read_text()
    assert re.search(rf"^\s*(?:def|fn) {re.escape(name)}\(", text, re.M), promise


def test_promises_when_the_page_is_read_then_no_row_is_without_a_test():
    tables = re.findall(r"^\| promise \| test \|\n\| --- \| --- \|\n((?:\|.*\n)+)", PAGE, re.M)
    assert sum(table.count("\n") for table in tables) == len(PROMISES) > len(tables) > 1
