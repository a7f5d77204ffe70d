from pathlib import Path

import pytest

from tocsin.errors import FormatError, UnsupportedError
from tocsin.model.digest import Digest
from tocsin.model.entry_path import clean_path
from tocsin.model.prefetch import (
    FoundEntry,
    PrefetchArtifact,
    PrefetchRange,
    SearchableLayer,
    merge_ranges,
    plan_prefetch,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "index" / "prefetch.json"
VECTOR = PrefetchArtifact((PrefetchRange(0, 2), PrefetchRange(5, 5)))


def layer(**files: tuple[int, int]) -> SearchableLayer:
    """A layer with spans of 100 bytes; ``__`` in a name stands for ``/``."""
    table = {
        name.replace("__", "/"): FoundEntry("reg", "", *place) for name, place in files.items()
    }
    return SearchableLayer(find=table.get, span_of=lambda offset: offset // 100)


def test_artifact_when_encoded_then_equals_the_golden():
    data = GOLDEN.read_bytes()
    assert Digest.of(data).hex == "d1a6aa13a4c294734531c59c4b4a7e43957203f714a008f61fd35c446ae80791"
    assert VECTOR.to_json() == data
    assert PrefetchArtifact.from_json(data) == VECTOR


def test_artifact_when_range_has_priority_then_encoded():
    artifact = PrefetchArtifact((PrefetchRange(1, 2, 3),))
    assert b'"end_span":2,"priority":3}' in artifact.to_json()
    assert PrefetchArtifact.from_json(artifact.to_json()) == artifact
    assert PrefetchArtifact(()).to_json() == b'{"version":"1.0","prefetch_spans":[]}'


@pytest.mark.parametrize(
    "spans",
    ['[{"start_span":2,"end_span":1}]', '[{"start_span":-1}]', '[{"end_span":2147483648}]', "[1]"],
)
def test_artifact_when_range_is_invalid_then_format_error(spans):
    with pytest.raises(FormatError) as refusal:
        PrefetchArtifact.from_json(b'{"version":"1.0","prefetch_spans":%s}' % spans.encode())
    assert refusal.value.what == "prefetch"


def test_artifact_when_version_is_unknown_then_unsupported_error():
    with pytest.raises(UnsupportedError, match=r'version is "2\.0"'):
        PrefetchArtifact.from_json(b'{"version":"2.0"}')


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/usr/bin/python", "usr/bin/python"),
        ("usr//bin/./python/", "usr/bin/python"),
        ("/a/../../b", "b"),
        ("..", ""),
        ("/", ""),
        ("/a b", "a b"),
    ],
)
def test_clean_path_when_path_is_not_normalized_then_entry_name(path, name):
    assert clean_path(path) == name


@pytest.mark.parametrize(
    ("ranges", "merged"),
    [
        ([], []),
        ([(5, 5), (0, 2)], [(0, 2), (5, 5)]),
        ([(0, 2), (3, 4)], [(0, 4)]),
        ([(0, 2), (1, 1)], [(0, 2)]),
        ([(0, 2), (2, 7), (9, 9)], [(0, 7), (9, 9)]),
    ],
)
def test_merge_ranges_when_they_touch_then_merged(ranges, merged):
    assert merge_ranges(PrefetchRange(*r) for r in ranges) == tuple(
        PrefetchRange(*r) for r in merged
    )


def test_plan_when_file_is_in_several_layers_then_top_layer_wins():
    lower, upper = layer(a=(0, 50), b=(150, 10)), layer(a=(700, 50))
    plan = plan_prefetch(["/a", " /b\n", "", "  ", "/nope/../c"], [lower, upper])
    assert plan.artifacts == (
        PrefetchArtifact((PrefetchRange(1, 1),)),
        PrefetchArtifact((PrefetchRange(7, 7),)),
    )
    assert plan.missing == ("c",)


def test_plan_when_file_ends_at_span_boundary_then_next_span_is_included():
    plan = plan_prefetch(["a", "b"], [layer(a=(0, 100), b=(300, 0))])
    assert plan.artifacts == (PrefetchArtifact((PrefetchRange(0, 1), PrefetchRange(3, 3))),)


def test_plan_when_nothing_is_found_then_no_artifacts():
    plan = plan_prefetch(["x"], [layer(x__=(0, 1)), layer()])
    assert plan.artifacts == (None, None)
    assert plan.missing == ("x",)
