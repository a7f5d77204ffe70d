"""What counts as a failure in the table of `make wheels`, and what each wheel must have inside."""

import zipfile

import pytest

from make_wheels import _DATA, Row, _contents


def wheel(path, *, without=""):
    names = [
        *(f"tocsin-1.data/{file.relative_to(_DATA)}" for file in _DATA.rglob("*.*")),
        "tocsin-1.data/data/share/bash-completion/completions/tocsin",
        "tocsin-1.data/data/share/zsh/site-functions/_tocsin",
        *("tocsin/py.typed", "tocsin/_core.abi3.so", "tocsin-1.dist-info/licenses/LICENSE"),
    ]
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            if not name.endswith(without or "nothing"):
                archive.writestr(name, b"")
    return path


def test_contents_when_nothing_is_missing_then_ok(tmp_path):
    assert _contents(wheel(tmp_path / "a.whl")) == "ok"


@pytest.mark.parametrize(
    "name", ["man1/tocsin-convert.1", "completions/tocsin", "_tocsin", "py.typed", "LICENSE"]
)
def test_contents_when_a_file_is_missing_then_it_is_named(tmp_path, name):
    found = _contents(wheel(tmp_path / "a.whl", without=name))
    assert found.startswith("FAILED: ")
    assert found.endswith(f"{name} is missing")


@pytest.mark.parametrize(
    ("result", "failed"), [("ok", False), ("not run: reason", False), ("FAILED: reason", True)]
)
def test_row_when_a_check_has_a_result_then_only_failures_count(result, failed):
    assert Row("a.whl", {"built": "ok", "ran": result}).failed is failed
