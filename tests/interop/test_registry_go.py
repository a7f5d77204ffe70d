"""A registry with the referrers API: go-containerregistry's."""

import pytest

from support.images import make_image, put_index, referrer_to
from support.registry_client import noise
from support.registry_real import go_registry
from tocsin.model.descriptor import Descriptor
from tocsin.model.media_types import OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST
from tocsin.model.reference import RegistryReference
from tocsin.stores.base import MustStream, TakenOver
from tocsin.stores.registry import open_registry

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    with go_registry(tmp_path_factory.mktemp("goregistry")) as running:
        yield running


@pytest.fixture
def store(host, request):
    with open_registry(RegistryReference(host, f"a/{request.node.name[:20].lower()}")) as opened:
        yield opened


def test_images_are_pushed_and_read_again(store):
    images = {"linux/amd64": make_image(), "linux/arm64": make_image(platform="linux/arm64")}
    root = put_index(store, images, "v1")
    assert store.resolve("v1") == root
    assert root.media_type == OCI_INDEX
    assert store.tags() == ["v1"]
    layer = images["linux/amd64"].layer_descriptors[0]
    assert b"".join(store.blob(layer)) == images["linux/amd64"].layers[0]
    store.tag(root, "v2")
    assert store.tags() == ["v1", "v2"]


def test_long_blobs_and_their_ranges(store):
    data = noise(20 << 20)
    wanted = Descriptor.of(data, OCI_LAYER_GZIP)
    pieces = (data[at : at + (1 << 20)] for at in range(0, len(data), 1 << 20))
    assert store.put_blob(pieces, media_type=OCI_LAYER_GZIP) == wanted
    assert b"".join(store.blob(wanted)) == data
    for start, end in ((0, 1), (7_000_000, 9_000_000), (len(data) - 5, len(data))):
        assert store.blob_range(wanted, start, end) == data[start:end]


def test_referrers_come_from_the_api_and_the_tag_is_kept_as_specified(store):
    """The registry lists referrers, but does not send OCI-Subject."""
    subject = make_image().put(store, "v1")
    store.put_blob(b"{}")
    assert store.referrers(subject.digest) == []
    for number in range(3):
        store.put_manifest(referrer_to(subject, f"test/{number}"), OCI_MANIFEST)
    found = store.referrers(subject.digest)
    assert sorted(d.artifact_type for d in found) == ["test/0", "test/1", "test/2"]
    [one] = store.referrers(subject.digest, "test/1")
    assert store.manifest(one) == referrer_to(subject, "test/1")
    assert store.tags() == [f"sha256-{subject.digest.hex}", "v1"]


def test_mounting_between_repositories(host, store):
    layer = make_image().layer_descriptors[0]
    make_image().put(store, "v1")
    with open_registry(RegistryReference(host, "another/place")) as other:
        if other.take_over(layer, store.origin) == TakenOver():
            assert other.has_blob(layer)
        else:
            assert other.take_over(layer, store.origin) == MustStream()
