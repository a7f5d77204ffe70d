"""containerd's filters. Expected results: containerd v2.2.6, pkg/filters, with the same fields."""

import sys
from dataclasses import replace

import pytest

from tocsin.mounting.snapshotter.filters import parse_filters
from tocsin.mounting.snapshotter.problems import SnapshotArgumentError
from tocsin.mounting.snapshotter.snapshot import Kind, Snapshot, Usage

LABELS = {
    "one": "1",
    "containerd.io/snapshot.ref": "sha256:ab",
    "quote": 'a"b',
    "tab": "\t",
    "lines": "ab\ncd",
    "place": "a/b|c",
    "word": "牛肉",
}
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
        ('kind==a"b', False),
        (r'labels.word=="\xe7\x89\x9b\350\202\211"', True),
        ("kind~=act", True),
        ("kind~=^act.*e$", True),
        ("kind~=^view$", False),
        (r"name~=/^ns\/1/", True),
        ("name~=|^ns/1/a b$|", True),
        ('name~="^ns/[0-9]+/"', True),
        ("name~=/a{1,2} b/", True),
        ("labels.one~=[0-9],kind~=a", True),
        ("labels.two~=a?", True),
        ("labels.two~=[^a]", False),
        ("labels.lines~=/^ab$/", False),
        ("labels.lines~=/(?m)^ab$/", True),
        ("labels.lines~=/b.c/", False),
        ("labels.lines~=/(?s)b.c/", True),
        ("labels.word~=^牛.$", True),
        (r"labels.word~=\pL", True),
        (r"labels.place~=|a/b\|c|", True),
        (r"labels.tab~=/^\x09$/", True),
        (r"labels.tab~=/^\\t$/", True),
        (r"labels.one~=^\d$", True),
        (r"labels.one~=/^\\d$/", True),
        ("kind~=//", True),
        ("kind~=a|c", True),
        ("kind~=a/c", False),
        ("kind~=(?i)ACTIVE", True),
        (r"kind~=\Qactive\E", True),
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
        "kind=active", "kind==", ",", "kind==active,", "==active", "kind active",
        'name=="a', r'name=="\q"', r'name=="\ud800"', r'name=="\U00110000"', "a" * 20_000, "kind.",
        "name==a b", "kind==/a/", "kind==|active|", 'name=="a\\777"', r'name=="\xff"',
        r'kind=="\/"', "kind~=", "kind~=/a", "kind~=|a|x", "labels.two~=.*", "kind~=~", "kind~==a",
        r"labels.place~=/a\/b\|c/", r"labels.one~=/^\d$/", r"kind~=/\xff/",
    ],
)  # fmt: skip
def test_filter_when_invalid_or_unknown_then_it_is_refused(text):
    with pytest.raises(SnapshotArgumentError):
        parse_filters([text])


@pytest.mark.parametrize(
    "text",
    ["kind~=(", "kind~=a(?=c)", r"kind~=(a)\1", "kind~=a{1001}", "kind~=/((a{50}){50}){50}/"],
)
def test_filter_when_its_regular_expression_is_not_valid_then_refused(text):
    with pytest.raises(SnapshotArgumentError, match=r"regular expression .* is not valid"):
        parse_filters([text])


def test_filter_when_a_regex_has_many_repetitions_then_it_still_answers():
    long = replace(SNAPSHOT, labels={"long": "a" * 4000 + "b"})
    assert not parse_filters(["labels.long~=(a+)+$"])(long)
    assert parse_filters(["labels.long~=(a|aa)+b$"])(long)


def test_filter_when_google_re2_is_missing_then_regexes_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(SnapshotArgumentError, match="needs the package google-re2"):
        parse_filters(["kind~=a"])
    assert parse_filters(["kind==active"])(SNAPSHOT)
