"""Source and destination: stores, tags, and images that must not be replaced."""

from pathlib import Path

import pytest

from support.images import make_image
from tocsin.errors import ConflictError, FormatError, UnsupportedError
from tocsin.images.targets import image_in_the_way, pair_of
from tocsin.model.reference import parse_reference
from tocsin.stores.layout import OciLayout

DIGEST = "sha256:" + "1" * 64


@pytest.mark.parametrize(
    ("source", "destination", "named", "tag", "carries"),
    [
        ("oci:A:t", "oci:B:u", "oci:B:u", "u", True),
        ("oci:A:t", "oci:B", "oci:B:t", "t", True),
        ("oci:A", "oci:B", "oci:B:latest", "latest", True),
        (f"oci:A@{DIGEST}", "oci:B", "oci:B:latest", "latest", True),
        ("oci:A:t", "oci:A:u", "oci:A:u", "u", False),
        ("oci:A:t", "oci:./x/../A:u", "oci:x/../A:u", "u", False),
        ("oci:A:t", "oci-archive:A:u", "oci-archive:A:u", "u", True),
        ("oci-archive:A:t", "oci-archive:A:u", "oci-archive:A:u", "u", False),
        ("oci-archive:A:t", "oci-archive:B", "oci-archive:B:t", "t", True),
        ("docker-archive:A:x:1", "oci:B", "oci:B:latest", "latest", True),
        ("oci:A:t", "docker://h.example/r", "docker://h.example/r:latest", "latest", True),
        ("oci:A:t", "containerd:r.io/x:1", "containerd:r.io/x:1", "r.io/x:1", True),
        ("containerd:r.io/x:1", "containerd:r.io/x:2", "containerd:r.io/x:2", "r.io/x:2", False),
        ("containerd:r.io/x:1", "containerd:n/r.io/x:1", "containerd:n/r.io/x:1", "r.io/x:1", True),
        ("containerd:r.io/x:1", "oci:B", "oci:B:1", "1", True),
    ],
)
def test_pair_when_both_are_given_then_store_and_tag_are_resolved(
    source, destination, named, tag, carries
):
    pair = pair_of(source, destination)
    assert (str(pair.named_sink), pair.tag, pair.carries) == (named, tag, carries)
    assert pair.source == parse_reference(source)
    assert pair_of(parse_reference(source), parse_reference(destination)) == pair
    assert not pair.overwrites_source


@pytest.mark.parametrize("place", ["oci", "oci-archive"])
def test_pair_when_the_destination_is_the_source_then_it_is_detected(tmp_path, place):
    (tmp_path / "link").symlink_to(tmp_path / "A")
    for other in ("A", "link", "x/../A"):
        pair = pair_of(f"{place}:{tmp_path}/A:t", f"{place}:{tmp_path}/{other}:t")
        assert pair.overwrites_source
        assert not pair.carries
        assert pair_of(f"{place}:{tmp_path}/A:t", f"{place}:{tmp_path}/{other}").overwrites_source


def test_pair_when_both_are_one_image_in_containerd_then_it_is_detected(monkeypatch):
    monkeypatch.setenv("CONTAINERD_NAMESPACE", "n")
    pair = pair_of("containerd:r.io/x:1", "containerd:n/r.io/x:1")
    assert (pair.carries, pair.overwrites_source) == (False, True)
    monkeypatch.delenv("CONTAINERD_NAMESPACE")
    pair = pair_of("containerd:r.io/x:1", "containerd:n/r.io/x:1")
    assert (pair.carries, pair.overwrites_source) == (True, False)


def test_pair_when_no_destination_is_given_then_it_is_the_source():
    pair = pair_of("oci:A:t", None)
    assert (pair.tag, pair.carries, pair.sink) == (None, False, parse_reference("oci:A:t"))
    assert pair.named_sink == pair.source
    by_digest = pair_of(f"oci:A@{DIGEST}", None)
    assert str(by_digest.named_sink) == f"oci:A@{DIGEST}"


@pytest.mark.parametrize(
    ("source", "destination", "error", "message"),
    [
        ("docker-archive:A", None, UnsupportedError, "cannot be written"),
        ("oci:A", "docker-archive:B", UnsupportedError, "cannot be written"),
        ("oci:A", f"oci:B@{DIGEST}", UnsupportedError, "a destination cannot have a digest"),
        ("oci:A", f"docker://h/r@{DIGEST}", UnsupportedError, "a destination cannot have a digest"),
        ("", "oci:B", FormatError, "reference"),
        ("oci:A", "oci:", FormatError, "reference"),
        ("dir:A", "oci:B", UnsupportedError, "dir"),
    ],
)
def test_pair_when_invalid_then_refused(source, destination, error, message):
    with pytest.raises(error, match=message) as caught:
        pair_of(source, destination)
    if error is UnsupportedError and source != "dir:A":
        assert caught.value.hint.startswith("Name a")


@pytest.fixture
def layout(tmp_path):
    store = OciLayout(tmp_path / "A", write=True)
    make_image().put(store, "t")
    return store


def test_image_in_the_way_when_the_tag_exists_then_returned(layout):
    place = f"oci:{layout.path}"
    itself = pair_of(f"{place}:t", f"{place}:t")
    with pytest.raises(ConflictError, match="the source image"):
        image_in_the_way(layout, itself, force=False)
    assert image_in_the_way(layout, itself, force=True) is None
    assert image_in_the_way(layout, pair_of(f"{place}:t", f"{place}:u"), force=False) is None
    other = pair_of(f"oci:{Path('elsewhere')}:x", f"{place}:t")
    assert image_in_the_way(layout, other, force=False) == layout.resolve("t")
    assert image_in_the_way(layout, other, force=True) is None


def test_image_in_the_way_when_no_destination_is_given_then_none(layout):
    assert image_in_the_way(layout, pair_of(f"oci:{layout.path}:t", None), force=False) is None
