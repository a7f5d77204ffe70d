"""What counts as a failure in the table of `make wheels`, and what each wheel must have inside."""

import zipfile

import pytest

from make_wheels import _DATA, Row, _contents, _platform_verdict


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


def report(sym_tag, *libraries, unsupported_isa=False):
    """Return what `auditwheel show --json` (6.8.2) prints, as far as it is used."""
    return {
        "overall_tag": sym_tag if not libraries else "linux_x86_64",
        "sym_tag": sym_tag,
        "unsupported_isa": unsupported_isa,
        "external_libs": dict.fromkeys(libraries),
    }


MANYLINUX = "manylinux2014_x86_64.manylinux_2_17_x86_64"
MUSLLINUX = "musllinux_1_2_aarch64"


@pytest.mark.parametrize(
    ("found", "tags"),
    [
        (report("manylinux_2_17_x86_64"), MANYLINUX),
        (report("manylinux_2_5_x86_64"), MANYLINUX),
        (report("musllinux_1_2_aarch64", "libc.so"), MUSLLINUX),
    ],
)
def test_platform_when_it_allows_what_is_needed_then_ok(found, tags):
    assert _platform_verdict(found, tags) == "ok"


@pytest.mark.parametrize(
    ("found", "tags", "reason"),
    [
        (report("manylinux_2_28_x86_64"), MANYLINUX, "needs manylinux_2_28_x86_64"),
        (report("linux_x86_64"), MANYLINUX, "needs linux_x86_64"),
        (report("manylinux_2_17_x86_64", "libssl.so.3"), MANYLINUX, "needs libssl.so.3"),
        (report("manylinux_2_17_x86_64", "libc.so"), MANYLINUX, "needs libc.so"),
        (report("musllinux_1_2_aarch64", "libc.so", "libz.so.2"), MUSLLINUX, "needs libz.so.2"),
        (report("manylinux_2_17_x86_64", unsupported_isa=True), MANYLINUX, "needs instructions"),
    ],
)
def test_platform_when_the_wheel_needs_more_then_it_is_named(found, tags, reason):
    assert _platform_verdict(found, tags).startswith(f"FAILED: {reason}")
