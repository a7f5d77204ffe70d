import pytest

from support.images import make_image, put_index
from tocsin.errors import FormatError, NotFoundError
from tocsin.images.walk import MAX_DEPTH, walk_manifests
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.fields import MAX_ENTRIES
from tocsin.model.manifest import ImageIndex
from tocsin.model.media_types import OCI_INDEX, OCI_MANIFEST
from tocsin.stores.layout import OciLayout


class FakeStore:
    """Returns manifests from a table without verifying them, so that they can form loops."""

    name = "fake"

    def __init__(self, table):
        self.table = table

    def manifest(self, descriptor):
        return self.table[descriptor.digest]


def index_at(number: int, *entries: Descriptor) -> tuple[Descriptor, bytes]:
    data = ImageIndex(entries).to_json()
    return Descriptor(OCI_INDEX, Digest(f"{number:064x}"), len(data)), data


def leaf(number: int) -> Descriptor:
    return Descriptor(OCI_MANIFEST, Digest(f"{number:064x}"), 1)


def test_walk_when_indexes_are_nested_then_manifests_are_in_order(tmp_path):
    layout = OciLayout(tmp_path / "D", write=True)
    amd, arm = make_image({"a": b"1"}), make_image({"a": b"2"}, platform="linux/arm64")
    inner = put_index(layout, {"linux/amd64": amd, "linux/arm64": arm})
    outer = layout.put_manifest(ImageIndex((inner, leaf(1))).to_json(), OCI_INDEX, tag="t")
    assert [d.digest for d in walk_manifests(layout, outer)] == [
        amd.descriptor.digest,
        arm.descriptor.digest,
        leaf(1).digest,
    ]
    assert list(walk_manifests(layout, amd.descriptor)) == [amd.descriptor]


def test_walk_when_an_index_contains_itself_then_refused():
    one, two = (
        Descriptor(OCI_INDEX, Digest("1" * 64), 1),
        Descriptor(OCI_INDEX, Digest("2" * 64), 1),
    )
    itself = FakeStore({one.digest: ImageIndex((leaf(5), one)).to_json()})
    above = FakeStore(
        {one.digest: ImageIndex((two,)).to_json(), two.digest: ImageIndex((one,)).to_json()}
    )
    for store in (itself, above):
        with pytest.raises(FormatError, match="contains itself") as refusal:
            list(walk_manifests(store, one))
        assert refusal.value.what == "manifest.loop"


def test_walk_when_indexes_are_nested_too_deeply_then_refused():
    table, below = {}, leaf(0)
    for number in range(1, MAX_DEPTH + 2):
        below, data = index_at(number, below)
        table[below.digest] = data
    with pytest.raises(FormatError, match="deeper") as refusal:
        list(walk_manifests(FakeStore(table), below))
    assert refusal.value.what == "manifest.depth"


def test_walk_when_repeated_indexes_multiply_then_refused():
    table, below = {}, leaf(0)
    for number in range(1, MAX_DEPTH + 1):
        below, data = index_at(number, *[below] * 100)
        table[below.digest] = data
    with pytest.raises(FormatError, match=f"more than {MAX_ENTRIES}") as refusal:
        list(walk_manifests(FakeStore(table), below))
    assert refusal.value.what == "manifest.entries"


def test_walk_when_an_index_is_missing_then_not_found(tmp_path):
    layout = OciLayout(tmp_path / "D", write=True)
    layout.put_blob(b"")
    with pytest.raises(NotFoundError):
        list(walk_manifests(layout, Descriptor(OCI_INDEX, Digest("0" * 64), 2)))
