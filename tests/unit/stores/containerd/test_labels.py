"""The labels of garbage collection; tests/interop compares them with those of a real pull."""

from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.manifest import ImageIndex, Manifest
from tocsin.model.media_types import OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST
from tocsin.stores.containerd.labels import child_labels, referrer_in, referrer_label

PREFIX = "containerd.io/gc.ref.content."


def child(number, media_type):
    return Descriptor(media_type, Digest(f"{number:064x}"), number)


def test_labels_when_of_a_manifest_then_config_and_layers_are_numbered():
    manifest = Manifest(
        child(1, OCI_CONFIG),
        (child(2, OCI_LAYER_GZIP), child(3, "x/y"), child(4, OCI_LAYER_GZIP)),
        media_type=OCI_MANIFEST,
    )
    assert child_labels(manifest) == {
        f"{PREFIX}config": str(Digest(f"{1:064x}")),
        f"{PREFIX}l.0": str(Digest(f"{2:064x}")),
        f"{PREFIX}blob.0": str(Digest(f"{3:064x}")),
        f"{PREFIX}l.1": str(Digest(f"{4:064x}")),
    }


def test_labels_when_of_an_index_then_every_entry_has_one():
    index = ImageIndex(
        (child(1, OCI_MANIFEST), child(2, OCI_MANIFEST), child(3, OCI_INDEX)), OCI_INDEX
    )
    assert set(child_labels(index)) == {f"{PREFIX}m.0", f"{PREFIX}m.1", f"{PREFIX}blob.0"}
    assert child_labels(ImageIndex(None, OCI_INDEX)) == {}


def test_label_of_a_referrer_when_read_then_unlike_those_of_children():
    digest = Digest("a" * 64)
    assert referrer_label(digest) == f"{PREFIX}tocsin.{'a' * 64}"
    assert referrer_in(referrer_label(digest)) == digest
    for other in (f"{PREFIX}l.0", f"{PREFIX}0", f"{PREFIX}tocsin.x", f"{PREFIX}tocsin.{'A' * 64}"):
        assert referrer_in(other) is None
