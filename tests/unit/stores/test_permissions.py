"""Stores without read or write permission."""

import pytest

from support.disks import unprivileged
from support.images import make_image
from tocsin.stores.archive import OciArchive
from tocsin.stores.layout import OciLayout


@pytest.fixture
def image():
    return make_image()


def test_layout_when_a_file_is_unreadable_then_the_error_names_it(place, image):
    layout = OciLayout(place / "D", write=True)
    image.put(layout, "t")
    layer = image.layer_descriptors[0]
    blob = layout.path / "blobs" / "sha256" / layer.digest.hex
    blob.chmod(0)
    with unprivileged(), pytest.raises(PermissionError) as refusal:
        list(OciLayout(layout.path).blob(layer))
    assert str(blob) == str(refusal.value.filename)
    (layout.path / "index.json").chmod(0)
    with unprivileged(), pytest.raises(PermissionError) as refusal:
        OciLayout(layout.path)
    assert str(layout.path / "index.json") == str(refusal.value.filename)


def test_layout_when_directory_is_not_writable_then_the_error_names_it(place, image):
    layout = OciLayout(place / "D", write=True)
    image.put(layout, "t")
    (layout.path / "blobs" / "sha256").chmod(0o555)
    layout.path.chmod(0o555)
    with unprivileged():
        store = OciLayout(layout.path, write=True)
        with pytest.raises(PermissionError, match="no write permission") as refusal:
            store.put_blob(b"new")
        assert refusal.value.filename == str(layout.path)
        with pytest.raises(PermissionError, match="no write permission"):
            store.tag(store.resolve("t"), "u")
        with pytest.raises(PermissionError, match="no write permission") as refusal:
            OciLayout(place / "D" / "sub", write=True).put_blob(b"new")
        assert str(place / "D" / "sub") in refusal.value.filename
    assert layout.tags() == ["t"]


def test_layout_when_blob_directory_is_not_writable_then_nothing_is_left(place, image):
    layout = OciLayout(place / "D", write=True)
    image.put(layout, "t")
    (layout.path / "blobs" / "sha256").chmod(0o555)
    layout.path.chmod(0o777)
    before = sorted(layout.path.iterdir())
    with unprivileged(), pytest.raises(PermissionError, match="no write permission"):
        OciLayout(layout.path, write=True).put_blob(b"new")
    assert sorted(layout.path.iterdir()) == before


def test_layout_when_oci_layout_file_is_read_only_then_it_is_still_written(place, image):
    layout = OciLayout(place / "D", write=True)
    descriptor = image.put(layout, "t")
    (layout.path / "oci-layout").chmod(0o444)
    layout.path.chmod(0o777)
    with unprivileged():
        OciLayout(layout.path, write=True).tag(descriptor, "u")
    assert layout.tags() == ["t", "u"]


def test_archive_when_directory_is_not_writable_then_the_error_names_it(place, image):
    with OciArchive(place / "a.tar", write=True) as archive:
        image.put(archive, "t")
    place.chmod(0o555)
    with unprivileged():
        store = OciArchive(place / "a.tar", write=True)
        with pytest.raises(PermissionError, match="no write permission") as refusal:
            store.put_blob(b"new")
        assert refusal.value.filename == str(place)
    (place / "a.tar").chmod(0)
    with unprivileged(), pytest.raises(PermissionError):
        OciArchive(place / "a.tar")
