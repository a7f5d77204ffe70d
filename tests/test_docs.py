"""docs/architecture.md lists exactly the files that exist."""

import re
from pathlib import Path

import tocsin
from tocsin import fleet

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python" / "tocsin"
CRATES = [ROOT / "rust" / crate / "src" for crate in ("core", "mount", "py")]
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def section(title):
    """Return the text below a heading of the second level."""
    return re.search(rf"^## {re.escape(title)}.*?(?=^## |\Z)", PAGE, re.M | re.S)[0]


def python_files_listed():
    found = []
    room = ""
    for line in section("Python: `python/tocsin`").splitlines():
        if heading := re.match(r"### `([a-z_/]+)/`", line):
            room = heading[1] + "/"
        elif line.startswith("### "):
            break
        elif row := re.match(r"\| `([a-z_/0-9]+\.py)` \|", line):
            found.append(room + row[1])
    return found


def rust_files_listed():
    text = section("Rust: `rust/core`")
    table = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    found = []
    for _, room, _, files, _ in table:
        name = room.strip(" `")
        inside = re.findall(r"`([a-z_0-9/]+\.rs)`", files)
        found += [name] if name.endswith(".rs") else [name + file for file in inside]
    mount, gate = text[text.index("`rust/mount` ") : text.index("### ")].split("`rust/py` is")
    return found, *(re.findall(r"`([a-z_/]+\.rs)`", crate) for crate in (mount, gate))


def test_architecture_when_read_then_lists_each_python_file_once():
    existing = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py" or path.parent == PACKAGE
    ]
    assert sorted(python_files_listed()) == sorted(existing)


def test_architecture_when_read_then_lists_each_rust_file_once():
    core, mount, gate = rust_files_listed()
    existing = [sorted(str(p.relative_to(root)) for p in root.rglob("*.rs")) for root in CRATES]
    assert [sorted([*core, "lib.rs"]), sorted(mount), sorted(gate)] == existing


def test_navigation_when_read_then_it_lists_each_page_once():
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    listed = re.findall(r": (\S+\.md)$", nav, re.M)
    assert sorted(listed) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_api_page_when_read_then_it_lists_each_name_of_fleets_once():
    listed = re.findall(r"^::: tocsin\.fleet\.(\w+)$", (ROOT / "docs" / "api.md").read_text(), re.M)
    assert sorted(listed) == sorted(fleet.__all__)


def test_api_page_when_read_then_it_lists_each_public_name_once():
    listed = re.findall(r"^::: tocsin\.(\w+)$", (ROOT / "docs" / "api.md").read_text(), re.M)
    assert sorted(listed) == sorted(tocsin.__all__)
