"""containerd's filters. Expected results: containerd v2.2.6, pkg/filters/filter_test.go."""

import pytest

from tocsin.mounting.snapshotter.filters import parse_filters
from tocsin.mounting.snapshotter.problems import SnapshotArgumentError
from tocsin.mounting.snapshotter.snapshot import Kind, Snapshot, Usage

LABELS = {"one": "1", "containerd.io/snapshot.ref": "sha256:ab", "quote": 'a"b', "tab": "\t"}
SNAPSHOT = Snapshot(1, "ns/1/a b", "p", Kind.ACTIVE, 0, 0, LABELS, Usage())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("kind==active", True),
        ("kind!=active", False),
        ("name==ns/1/a", False),
        ('name=="ns/1/a b"', True),
        ("parent==p,kind==active", True),
        ("parent==p,kind==view", False),
        ("labels.one", True),
        ("labels.two", False),
        ("labels.one==1", True),
        ("labels.two!=1", True),
        ('labels.two!=""', False),
        ('labels."containerd.io/snapshot.ref"==sha256:ab,parent=="p"', True),
        (r'labels.quote=="a\"b"', True),
        (r'labels.tab=="\t"', True),
        (r'labels.tab=="\x09"', True),
        (r'labels.tab=="\u0009"', True),
        ("unknown==1", False),
        (" kind == active , labels.one ", True),
    ],
)
def test_filter_when_valid_then_it_matches_as_in_containerd(text, expected):
    assert parse_filters([text])(SNAPSHOT) is expected


def test_filters_when_there_are_several_then_one_has_to_match():
    assert parse_filters([])(SNAPSHOT)
    assert parse_filters(["kind==view", "labels.one"])(SNAPSHOT)
    assert not parse_filters(["kind==view", "labels.two"])(SNAPSHOT)


@pytest.mark.parametrize(
    "text",
    [
        "kind~=a.*", "kind=active", "kind==", ",", "kind==active,", "==active", "kind active",
        'name=="a', r'name=="\q"', r'name=="\ud800"', r'name=="\U00110000"', "a" * 20_000, "kind.",
        "name==a b",
    ],
)  # fmt: skip
def test_filter_when_invalid_or_unknown_then_it_is_refused(text):
    with pytest.raises(SnapshotArgumentError):
        parse_filters([text])
