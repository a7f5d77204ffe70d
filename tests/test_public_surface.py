"""The public names are pinned, documented and imported lazily."""

import ast
import importlib
import importlib.metadata
import inspect
import re
import subprocess
import sys
import warnings
from itertools import pairwise
from pathlib import Path

import pytest

import tocsin
from support import annotations

PUBLIC = [
    "FILES_DTYPE",
    "SPANS_DTYPE",
    "AccessLog",
    "AccessedFile",
    "Advanced",
    "AuthError",
    "ConflictError",
    "ContainerdError",
    "ContainerdReference",
    "ConvertResult",
    "CopyResult",
    "CreateResult",
    "Descriptor",
    "Digest",
    "DockerArchiveReference",
    "Document",
    "EngineError",
    "Event",
    "ExtractResult",
    "FileMetadata",
    "FileStat",
    "Files",
    "Finding",
    "FormatError",
    "FoundAccessLog",
    "FoundIndex",
    "FoundSeekTable",
    "GzipError",
    "Hazard",
    "HttpOptions",
    "Image",
    "ImageCoverage",
    "ImageIndexes",
    "ImageLayer",
    "IndexVerdict",
    "IndexedLayerBytes",
    "IndexingOptions",
    "LayerAdvanced",
    "LayerCoverage",
    "LayerFiles",
    "LayerFinished",
    "LayerResult",
    "LayerSource",
    "LayerStarted",
    "LayerVerdict",
    "LayoutReference",
    "Manifest",
    "Mount",
    "MountStatus",
    "NotFoundError",
    "OciArchiveReference",
    "PathError",
    "Planned",
    "Platform",
    "PlatformCoverage",
    "PlatformIndexes",
    "PlatformResult",
    "PlatformVerdict",
    "PrefetchInfo",
    "PrefetchRange",
    "Progress",
    "PushedAccessLog",
    "Reference",
    "ReferenceLike",
    "Refusal",
    "RegistryError",
    "RegistryOptions",
    "RegistryReference",
    "SeekBlob",
    "SeekLayerVerdict",
    "SeekManifest",
    "SeekTableError",
    "SeekTableVerdict",
    "SeekableLayer",
    "Severity",
    "SkippedFile",
    "SociIndex",
    "StrPath",
    "TarError",
    "TocsinError",
    "Traffic",
    "UnsupportedError",
    "VerificationError",
    "VerifyResult",
    "Ztoc",
    "ZtocDirectory",
    "ZtocError",
    "ZtocInfo",
    "ZtocStore",
    "build_ztoc",
    "convert",
    "copy",
    "create",
    "index_layer",
    "indexes",
    "info",
    "mount",
    "open",
    "open_layer",
    "push_access_log",
    "remove_indexes",
    "resolve",
    "verify",
]
"""Every change of this list belongs in the CHANGELOG."""


def test_all_when_compared_then_equals_the_pinned_list():
    assert tocsin.__all__ == PUBLIC
    assert set(PUBLIC) <= set(dir(tocsin))


@pytest.mark.parametrize("name", PUBLIC)
def test_name_when_public_then_importable_and_documented(name):
    value = getattr(tocsin, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__module__.startswith("tocsin.")
        assert value.__name__ == name
        assert inspect.getdoc(value)
        # Not the docstring that a dataclass generates.
        assert not value.__doc__.startswith(f"{name}(")
        home = importlib.import_module(value.__module__)
        assert getattr(home, name) is value


@pytest.mark.parametrize("name", ["FILES_DTYPE", "SPANS_DTYPE"])
def test_dtype_when_public_then_every_column_is_documented(name):
    home = Path(tocsin.__file__).parent / "model" / "columns.py"
    body = ast.parse(home.read_text()).body
    docs = {
        before.targets[0].id: after.value.value
        for before, after in pairwise(body)
        if isinstance(before, ast.Assign) and isinstance(after, ast.Expr)
    }
    for column in getattr(tocsin, name).names:
        assert f"``{column}``" in docs[name]


@pytest.mark.parametrize("name", PUBLIC)
def test_class_when_public_then_every_method_is_documented(name):
    value = getattr(tocsin, name)
    if not inspect.isclass(value):
        return
    for method, member in vars(value).items():
        if not method.startswith("_") and (
            inspect.isfunction(member) or isinstance(member, property)
        ):
            assert inspect.getdoc(member), f"{name}.{method}"


MADE_BY = {"Image": "open", "LayerFiles": "open_layer", "Ztoc": "build_ztoc"}
"""Classes that users do not construct, and the functions that return them."""


@pytest.mark.parametrize("name", PUBLIC)
def test_annotations_when_walked_then_every_tocsin_class_is_public(name):
    met = annotations.classes_met(getattr(tocsin, name), constructor=name not in MADE_BY)
    public = {id(getattr(tocsin, each)) for each in PUBLIC}
    assert [place for place, kind in met.items() if id(kind) not in public] == []


@pytest.mark.parametrize("name", PUBLIC)
def test_annotations_when_walked_then_every_tocsin_alias_is_public(name):
    value = getattr(tocsin, name)
    assert annotations.aliases_met(value, constructor=name not in MADE_BY) <= set(PUBLIC)


def test_alias_when_public_then_documented():
    aliases = set().union(*(annotations.aliases_met(getattr(tocsin, name)) for name in PUBLIC))
    assert {"Progress", "ReferenceLike", "Document"} <= aliases
    for name in aliases & set(PUBLIC):
        body = ast.parse(Path(inspect.getsourcefile(home_of(name))).read_text()).body
        (after,) = (
            after
            for before, after in pairwise(body)
            if re.match(rf"{name}(?:: TypeAlias)? = ", ast.unparse(before))
        )
        assert isinstance(after, ast.Expr), name


def home_of(name):
    return importlib.import_module(tocsin._MODULE_OF[name])


def test_annotations_when_they_name_inner_classes_then_walk_finds_them():
    constructor = {kind.__name__ for kind in annotations.classes_met(tocsin.Image).values()}
    assert {"PlatformImage", "_SourceHolder"} <= constructor
    fields = annotations.classes_met(importlib.import_module("tocsin.reading.opening").LayerOpener)
    assert {
        "LayerOpener.store: Source",
        "LayerOpener.disk: DiskCache",
        "LayerOpener.progress: Planned",
        "LayerOpener.open(return): Layer",
        "LayerOpener.indexes(choice): IndexChoice",
    } <= set(fields)


def test_class_when_not_constructible_then_docstring_names_factory():
    for name, function in MADE_BY.items():
        assert f"tocsin.{function}``" in inspect.getdoc(getattr(tocsin, name)).splitlines()[2]


@pytest.mark.parametrize("name", PUBLIC)
def test_class_when_docstring_lists_attributes_then_they_are_typed(name):
    value = getattr(tocsin, name)
    if not inspect.isclass(value):
        return
    listed = re.search(r"\nAttributes:\n((?:    .*\n?)+)", inspect.getdoc(value) or "")
    typed = {each for base in value.__mro__ for each in vars(base).get("__annotations__", {})}
    for attribute in re.findall(r"^    (\w+): ", listed[1] if listed else "", re.M):
        assert attribute in typed or isinstance(getattr(value, attribute), property), attribute


def test_version_when_read_then_equals_distribution_version():
    assert tocsin.__version__ == importlib.metadata.version("tocsin")
    assert "__version__" in dir(tocsin)


NAMES_IN_0_1 = [
    "FILES_DTYPE",
    "SPANS_DTYPE",
    "AuthError",
    "ConflictError",
    "ConvertResult",
    "CopyResult",
    "CreateResult",
    "ExtractResult",
    "FileMetadata",
    "FileStat",
    "Files",
    "Finding",
    "FormatError",
    "GzipError",
    "Image",
    "IndexVerdict",
    "IndexedLayerBytes",
    "IndexingOptions",
    "LayerFiles",
    "LayerResult",
    "LayerVerdict",
    "NotFoundError",
    "PathError",
    "PlatformResult",
    "PlatformVerdict",
    "RegistryError",
    "RegistryOptions",
    "SeekTableError",
    "Severity",
    "SkippedFile",
    "TarError",
    "TocsinError",
    "Traffic",
    "UnsupportedError",
    "VerificationError",
    "VerifyResult",
    "Ztoc",
    "ZtocError",
    "build_ztoc",
    "convert",
    "copy",
    "create",
    "index_layer",
    "open",
    "open_layer",
    "push_access_log",
    "remove_indexes",
    "verify",
]
"""``tocsin.__all__`` of 0.1, never changed. A name that is not in `PUBLIC` must warn."""


@pytest.mark.parametrize("name", NAMES_IN_0_1)
def test_name_when_in_0_1_then_importable_with_warning_if_renamed(name):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        getattr(tocsin, name)
    renamed = name not in PUBLIC
    assert [warning.category for warning in warned] == [DeprecationWarning] * renamed


def test_name_when_unknown_then_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        tocsin.nope  # noqa: B018 (the look-up is the test)


def loaded_after(code):
    """Return the modules loaded after `code` has run in a new interpreter."""
    script = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(  # noqa: S603 (this interpreter)
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


HEAVY = {"numpy", "requests", "urllib3", "click", "rich", "tocsin._core", "tocsin.cli"}


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import tocsin; tocsin.__version__", HEAVY | {"tocsin.errors", "tocsin.model"}),
        ("import tocsin", HEAVY | {"tocsin.errors", "tocsin.indexing", "tocsin.stores"}),
        ("from tocsin import FormatError", HEAVY | {"tocsin.indexing"}),
        ("from tocsin import IndexingOptions", HEAVY),
        ("from tocsin import build_ztoc; build_ztoc(b'')", HEAVY - {"tocsin._core"}),
        ("from tocsin import Ztoc", {"numpy", "requests", "click", "rich"}),
        ("from tocsin import convert, create", {"numpy", "requests", "click", "rich"}),
    ],
)
def test_package_when_imported_then_heavy_modules_are_not_loaded(code, absent):
    loaded = loaded_after(code)
    assert not absent & loaded


def test_package_when_installed_then_marked_as_typed():
    root = Path(tocsin.__file__).parent
    assert (root / "py.typed").is_file()
    assert (root / "_core.pyi").is_file()


def test_names_when_type_checked_then_same_as_at_run_time():
    tree = ast.parse(Path(tocsin.__file__).read_text())
    (guard,) = (node for node in tree.body if isinstance(node, ast.If))
    homes = {
        alias.name: node.module
        for node in ast.walk(guard)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert homes == tocsin._MODULE_OF
    assert sorted(homes) == sorted(PUBLIC)
