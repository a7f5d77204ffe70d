"""Which room may import which: docs/architecture.md. Read from the sources, lazy imports too."""

import ast
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python" / "tocsin"
CORE = ROOT / "rust" / "core" / "src"
GATE = ROOT / "rust" / "py" / "src"

# Python

FLOOR = {"errors", "log", "processors", "quoting", "regular_file"}
"""What every room may import."""
MAY_IMPORT = {
    "quoting": set(),
    "errors": {"quoting"},
    "log": set(),
    "processors": set(),
    "regular_file": set(),
    "model": set(),
    "tar": {"model"},
    "layers": {"tar", "model"},
    "stores": {"tar", "model"},
    "images": {"layers", "stores", "model"},
    "reading": {"images", "layers", "stores", "tar", "model"},
    "indexing": {"images", "layers", "stores", "tar", "model"},
    "verifying": {"images", "layers", "stores", "tar", "model"},
}
"""Room by room, from the bottom: what else it may import. ``cli`` may import all of them."""
CORE_USERS = {
    "layers/ztoc.py",
    "layers/indexer.py",
    "layers/spans.py",
    "layers/zstd.py",
    "reading/tree.py",
    "tar/archive.py",
    "tar/headers.py",
}
"""The only modules that may import ``_core``."""
SOURCES = sorted(PACKAGE.rglob("*.py"))


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path):
    """Return dotted names that a module imports, wherever in it it does so."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and is_module_name(node.value):
            # What is imported by its name, as the package and the commands do.
            found.add(node.value)
    return found


def is_module_name(value):
    return isinstance(value, str) and re.fullmatch(r"tocsin(\.[a-z_0-9]+)+", value) is not None


def own_rooms(path):
    """Return the rooms of this package that a module imports; ``""`` is the package itself."""
    rooms = set()
    for name in imports_of(path):
        top, _, rest = name.partition(".")
        if top == "tocsin":
            first = rest.split(".")[0]
            rooms.add(first if (PACKAGE / first).is_dir() or _is_module(first) else "")
    return rooms


def _is_module(name):
    return name == "_core" or (bool(name) and (PACKAGE / f"{name}.py").is_file())


def test_rooms_when_listed_then_each_is_in_the_table():
    rooms = {room_of(path) for path in SOURCES} - {"__init__", "__main__", "cli"}
    assert rooms | FLOOR == set(MAY_IMPORT), "the table lists exactly the rooms that exist"


def test_table_when_read_then_no_room_is_above_itself():
    assert list(TopologicalSorter(MAY_IMPORT).static_order())  # or it raises CycleError


def test_http_when_it_imports_then_no_registry():
    for path in (PACKAGE / "stores" / "http").glob("*.py"):
        assert not [name for name in imports_of(path) if "stores.registry" in name], path


def test_cli_when_imported_then_only_by_itself():
    for path in SOURCES:
        if "cli" in own_rooms(path):
            assert room_of(path) in {"cli", "__main__"}, path


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_module_when_it_imports_then_only_downwards(path):
    room, rooms = room_of(path), own_rooms(path)
    core_users = {"_core"} if str(path.relative_to(PACKAGE)) in CORE_USERS else set()
    if room == "__init__":
        # The public names come from the rooms; the command line has none.
        assert rooms <= set(MAY_IMPORT)
        return
    if room == "__main__":
        assert rooms == {"cli"}
        return
    allowed = {"", "cli", *MAY_IMPORT} if room == "cli" else {room} | MAY_IMPORT[room] | FLOOR
    rooms -= core_users
    assert rooms <= allowed, f"{room} imports {', '.join(sorted(rooms - allowed))}"


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_modules_when_they_import_then_without_a_circle():
    modules = {module_name(path): imports_of(path) for path in SOURCES}
    below = {
        module: {found for name in names if (found := _module_in(name, modules)) != module}
        for module, names in modules.items()
    }
    assert list(TopologicalSorter(below).static_order())  # or it raises CycleError


def _module_in(name, modules):
    """Return the module that an imported name is, or is in; not ours: the name."""
    if name.startswith("tocsin._core"):
        return name
    return next((found for found in (name, name.rpartition(".")[0]) if found in modules), name)


def test_core_when_imported_then_by_those_that_may_and_do():
    users = {str(path.relative_to(PACKAGE)) for path in SOURCES if "_core" in own_rooms(path)}
    assert users == CORE_USERS


def test_core_stub_when_read_then_it_imports_nothing_of_ours():
    assert own_rooms(PACKAGE / "_core.pyi") == set()


FOREIGN = {
    "numpy": {"indexing", "layers", "model", "reading", "verifying"},
    "fsspec": {"reading"},
    "requests": {"stores"},
    "click": {"cli"},
    "rich": {"cli"},
}
"""Which rooms may know a dependency."""


def test_dependencies_when_imported_then_only_by_the_rooms_that_need_them():
    known = set(FOREIGN) | {"tocsin", "typing_extensions", "urllib3"}
    for path in SOURCES:
        for name in imports_of(path):
            top = name.split(".")[0]
            if top in FOREIGN:
                assert room_of(path) in FOREIGN[top], f"{path} imports {name}"
            else:
                assert top in known or top in sys.stdlib_module_names, f"{path} imports {name}"


# Rust


def row_of(room, rows):
    (row,) = (number for number, row in enumerate(rows) if room in row)
    return row


RUST_ROWS = [
    {"indexer", "extract", "tree"},
    {"parallel", "ztoc", "tar"},
    {"inflate", "gzip", "zstd", "checkpoint"},
    {"span", "digest"},
    {"error"},
]
ON_PURPOSE = {
    ("ztoc", "tar"): "the entries of a TOC are the tar's",
    ("gzip", "inflate"): "members hold DEFLATE streams",
    ("gzip", "checkpoint"): "a decoder may start at one",
    ("inflate", "checkpoint"): "the window is a checkpoint's",
    ("error", "span"): "a failure says its place on one of the rulers",
}
"""Imports within a row, or upwards, that are meant to be there, and why."""
RUST_SOURCES = sorted(CORE.rglob("*.rs"))


def without_comments(text):
    return re.sub(r"//[^\n]*", "", text)


def rust_module(path):
    return path.relative_to(CORE).parts[0].removesuffix(".rs")


def rust_imports():
    """Return (module, imported module, file) for every path through the crate's root."""
    found = set()
    for path in RUST_SOURCES:
        text = without_comments(path.read_text())
        # `pub(in crate::x)` restricts, it imports nothing.
        text = re.sub(r"pub\(in [^)]*\)", "", text)
        names = set(re.findall(r"\bcrate::(\w+)", text))
        for group in re.findall(r"\bcrate::\{([^}]*)\}", text):
            names |= {part.strip().split("::")[0] for part in group.split(",") if part.strip()}
        for name in names - {rust_module(path)}:
            found.add((rust_module(path), name, str(path.relative_to(CORE))))
    return found


def test_rust_modules_when_listed_then_each_has_its_row():
    declared = set(re.findall(r"^(?:pub )?mod (\w+);", (CORE / "lib.rs").read_text(), re.M))
    assert declared == {rust_module(path) for path in RUST_SOURCES} - {"lib"}
    assert declared <= set().union(*RUST_ROWS), "a new module needs its place in the table"


def test_rust_modules_when_they_import_then_only_downwards():
    for module, imported, file in sorted(rust_imports()):
        if module == "lib" or (module, imported) in ON_PURPOSE:
            continue
        here, there = row_of(module, RUST_ROWS), row_of(imported, RUST_ROWS)
        assert here < there, f"{file}: {module} imports {imported}"


def test_rust_exceptions_when_listed_then_they_are_used():
    assert set(ON_PURPOSE) <= {(module, imported) for module, imported, _ in rust_imports()}


def test_rust_modules_when_they_import_then_without_a_cycle():
    below = {}
    for module, imported, _ in rust_imports():
        below.setdefault(module, set()).add(imported)
    assert list(TopologicalSorter(below).static_order())  # or it raises CycleError


def test_rust_files_when_at_the_top_then_they_reach_others_only_through_the_crate():
    for path in CORE.glob("*.rs"):
        code = without_comments(path.read_text()).split("#[cfg(test)]")[0]
        assert "super::" not in code, path


def test_rust_core_when_read_then_it_has_no_files_sockets_clock_or_python():
    forbidden = re.compile(
        r"\bpyo3\b|\bstd::(?:fs|net|env|time|process|os|path)\b|\bstdin\b|\bstdout\b|\bstderr\b"
        r"|\bprintln!|\bstatic mut\b|\bthread_local!|\bLazyLock\b|\bOnceLock\b|\blazy_static\b"
    )
    for path in RUST_SOURCES:
        found = forbidden.search(without_comments(path.read_text()))
        assert found is None, f"{path.relative_to(CORE)}: {found and found[0]}"


def test_unsafe_when_allowed_then_only_in_the_files_that_say_so():
    allowed = {
        "core/inflate/fast.rs",
        "py/buffer.rs",
    }
    for room, root in (("core", CORE), ("py", GATE)):
        for path in root.rglob("*.rs"):
            if re.search(r"\bunsafe\b(?!_code)", without_comments(path.read_text())):
                assert f"{room}/{path.relative_to(root)}" in allowed
