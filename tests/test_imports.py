"""Imports between rooms follow docs/architecture.md, including imports inside functions."""

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

FLOOR = {
    "errors",
    "log",
    "operating_system",
    "processors",
    "quoting",
    "regular_file",
    "staged_file",
}
"""Modules that every room may import."""
MAY_IMPORT = {
    "quoting": set(),
    "errors": {"quoting"},
    "log": set(),
    "operating_system": {"errors"},
    "processors": set(),
    "regular_file": set(),
    "staged_file": set(),
    "containerd_api": set(),
    "model": set(),
    "tar": {"model"},
    "layers": {"tar", "model"},
    "stores": {"containerd_api", "tar", "model"},
    "images": {"layers", "stores", "model"},
    "reading": {"images", "layers", "stores", "tar", "model"},
    "recording": {"reading", "images", "layers", "stores", "tar", "model"},
    "indexing": {"images", "layers", "stores", "tar", "model"},
    "fleet": {"indexing", "images", "stores", "model"},
    "mounting": {
        "reading",
        "images",
        "layers",
        "stores",
        "containerd_api",
        "tar",
        "model",
    },
    "verifying": {"images", "layers", "stores", "tar", "model"},
    "integrations": {"indexing", "images", "stores", "model"},
}
"""Additional imports that each room may use, from the bottom up. ``cli`` may import every room."""
CORE_USERS = {
    "layers/ztoc.py",
    "layers/indexer.py",
    "layers/inflated_spans.py",
    "layers/pack.py",
    "layers/seek_table.py",
    "layers/seek.py",
    "layers/seek_contents.py",
    "layers/span_table.py",
    "layers/spans.py",
    "layers/zstd.py",
    "mounting/engine.py",
    "reading/seek_image.py",
    "reading/seek_tree.py",
    "reading/tree.py",
    "tar/archive.py",
    "tar/headers.py",
}
"""The only modules that may import ``_core``."""
SOURCES = sorted(PACKAGE.rglob("*.py"))


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path):
    """Return the dotted names that a module imports, at the top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and is_module_name(node.value):
            # Names passed to importlib, as in the package and in the lazy commands.
            found.add(node.value)
    return found


def is_module_name(value):
    return isinstance(value, str) and re.fullmatch(r"tocsin(\.[a-z_0-9]+)+", value) is not None


def own_rooms(path):
    """Return the rooms that a module imports; ``""`` is the package itself."""
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


def test_table_when_sorted_then_it_has_no_cycle():
    assert list(TopologicalSorter(MAY_IMPORT).static_order())  # or it raises CycleError


def test_http_when_it_imports_then_not_the_registry():
    for path in (PACKAGE / "stores" / "http").glob("*.py"):
        assert not [name for name in imports_of(path) if "stores.registry" in name], path


def test_cli_when_imported_then_only_by_itself():
    for path in SOURCES:
        if "cli" in own_rooms(path):
            assert room_of(path) in {"cli", "__main__"}, path


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_module_when_it_imports_then_only_lower_rooms(path):
    room, rooms = room_of(path), own_rooms(path)
    core_users = {"_core"} if str(path.relative_to(PACKAGE)) in CORE_USERS else set()
    if room == "__init__":
        # The package re-exports public names of every room except the command line.
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


def test_modules_when_sorted_then_imports_have_no_cycle():
    modules = {module_name(path): imports_of(path) for path in SOURCES}
    below = {
        module: {found for name in names if (found := _module_in(name, modules)) != module}
        for module, names in modules.items()
    }
    assert list(TopologicalSorter(below).static_order())  # or it raises CycleError


def _module_in(name, modules):
    """Return the module that an imported name is or belongs to; other names are unchanged."""
    if name.startswith("tocsin._core"):
        return name
    return next((found for found in (name, name.rpartition(".")[0]) if found in modules), name)


def test_core_when_imported_then_only_by_the_listed_modules():
    users = {str(path.relative_to(PACKAGE)) for path in SOURCES if "_core" in own_rooms(path)}
    assert users == CORE_USERS


def test_core_stub_when_read_then_it_imports_no_tocsin_module():
    assert own_rooms(PACKAGE / "_core.pyi") == set()


FOREIGN = {
    "numpy": {"indexing", "layers", "model", "reading", "verifying"},
    "fsspec": {"reading"},
    "requests": {"stores"},
    "google": {"containerd_api", "mounting", "stores"},  # google.protobuf
    "grpc": {"containerd_api", "mounting", "stores"},
    "prometheus_client": {"mounting"},
    "click": {"cli"},
    "distributed": {"cli"},
    "rich": {"cli"},
}
"""Rooms that may import each dependency."""


def test_dependencies_when_imported_then_only_in_listed_rooms():
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
    {"fetch"},
    {"pack"},
    {"indexer", "extract", "inodes"},
    {"seek"},
    {"tree"},
    {"parallel", "ztoc", "tar"},
    {"inflate", "trace", "gzip", "zstd", "checkpoint"},
    {"span", "bytes", "digest", "recent"},
    {"error"},
]
ON_PURPOSE = {
    ("ztoc", "tar"): "the TOC consists of tar entries",
    ("gzip", "inflate"): "members hold DEFLATE streams",
    ("gzip", "trace"): "a decoder notes what it decodes",
    ("trace", "inflate"): "a trace contains the matches",
    ("gzip", "checkpoint"): "a decoder may start at a checkpoint",
    ("inflate", "checkpoint"): "a checkpoint contains the window",
    ("error", "span"): "an error has a compressed or uncompressed offset",
}
"""Intended imports within a row or upwards, and why."""
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


def test_rust_modules_when_listed_then_each_is_in_the_table():
    declared = set(re.findall(r"^(?:pub )?mod (\w+);", (CORE / "lib.rs").read_text(), re.M))
    assert declared == {rust_module(path) for path in RUST_SOURCES} - {"lib"}
    assert declared <= set().union(*RUST_ROWS), "a new module needs its place in the table"


def test_rust_modules_when_they_import_then_only_lower_rows():
    for module, imported, file in sorted(rust_imports()):
        if module == "lib" or (module, imported) in ON_PURPOSE:
            continue
        here, there = row_of(module, RUST_ROWS), row_of(imported, RUST_ROWS)
        assert here < there, f"{file}: {module} imports {imported}"


def test_rust_exceptions_when_listed_then_each_is_used():
    assert set(ON_PURPOSE) <= {(module, imported) for module, imported, _ in rust_imports()}


def test_rust_modules_when_sorted_then_imports_have_no_cycle():
    below = {}
    for module, imported, _ in rust_imports():
        below.setdefault(module, set()).add(imported)
    assert list(TopologicalSorter(below).static_order())  # or it raises CycleError


def test_rust_files_when_they_import_then_through_the_crate_root():
    for path in CORE.glob("*.rs"):
        code = without_comments(path.read_text()).split("#[cfg(test)]")[0]
        assert "super::" not in code, path


def test_rust_core_when_read_then_no_files_sockets_clock_or_python():
    forbidden = re.compile(
        r"\bpyo3\b|\bstd::(?:fs|net|env|time|process|os|path)\b|\bstdin\b|\bstdout\b|\bstderr\b"
        r"|\bprintln!|\bstatic mut\b|\bthread_local!|\bstatic\b[^;=]*Lock\b|\blazy_static\b"
    )
    for path in RUST_SOURCES:
        found = forbidden.search(without_comments(path.read_text()))
        assert found is None, f"{path.relative_to(CORE)}: {found and found[0]}"


def test_unsafe_when_allowed_then_only_in_listed_files():
    allowed = {
        "core/inflate/fast.rs",
        "py/buffer.rs",
    }
    for room, root in (("core", CORE), ("py", GATE)):
        for path in root.rglob("*.rs"):
            if re.search(r"\bunsafe\b(?!_code)", without_comments(path.read_text())):
                assert f"{room}/{path.relative_to(root)}" in allowed
