"""Images are copied between stores with everything they list, children first."""

import errno
import os
from dataclasses import replace

import pytest

from support.images import image_of, make_image, put_index
from support.layout_files import LayoutFiles
from tocsin.errors import NotFoundError, VerificationError
from tocsin.images.copying import copy_blob, copy_entry, copy_manifest_blobs
from tocsin.model.descriptor import Descriptor, write_descriptor
from tocsin.model.digest import Digest
from tocsin.model.manifest import Manifest
from tocsin.model.media_types import (
    DOCKER_LAYER_FOREIGN_GZIP,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
)
from tocsin.model.platform import Platform
from tocsin.stores.archive import OciArchive
from tocsin.stores.base import MustStream
from tocsin.stores.layout import OciLayout


class Recorder(OciLayout):
    """A layout that streams every blob and records their order."""

    def __init__(self, path):
        super().__init__(path, write=True)
        self.order = []

    def take_over(self, descriptor, origin):
        return MustStream()

    def put_blob(self, source, *, digest=None, size=None, media_type="x"):
        put = super().put_blob(source, digest=digest, size=size, media_type=media_type)
        self.order.append(str(put.digest))
        return put


@pytest.fixture
def source(tmp_path):
    return OciLayout(tmp_path / "source", write=True)


@pytest.fixture
def sink(tmp_path):
    return Recorder(tmp_path / "sink")


def test_blob_when_streamed_then_it_is_verified(source, sink):
    good, bad = source.put_blob(b"good"), source.put_blob(b"bad")
    copy_blob(source, sink, good)
    copy_blob(source, sink, good)
    assert sink.order == [str(good.digest)]
    (source.path / "blobs" / "sha256" / bad.digest.hex).write_bytes(b"BAD")
    with pytest.raises(VerificationError):
        copy_blob(source, sink, bad)
    assert LayoutFiles(sink.path).blobs == {str(good.digest)}


def test_blob_when_it_can_be_linked_then_it_is_verified_and_not_streamed(source, tmp_path):
    good, bad = source.put_blob(b"good"), source.put_blob(b"bad")
    sink = OciLayout(tmp_path / "sink", write=True)
    copy_blob(source, sink, good)
    mine, theirs = (s.path / "blobs" / "sha256" / good.digest.hex for s in (source, sink))
    assert mine.samefile(theirs)
    (source.path / "blobs" / "sha256" / bad.digest.hex).write_bytes(b"BAD")
    with pytest.raises(VerificationError):
        copy_blob(source, sink, bad)


def test_blob_when_linking_fails_then_it_is_streamed(source, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EMLINK, "too many links")

    monkeypatch.setattr(os, "link", refuse)
    blob = source.put_blob(b"data")
    sink = OciLayout(tmp_path / "sink", write=True)
    copy_blob(source, sink, blob)
    mine, theirs = (s.path / "blobs" / "sha256" / blob.digest.hex for s in (source, sink))
    assert not mine.samefile(theirs)
    assert LayoutFiles(sink.path).blob(str(blob.digest)) == b"data"


def test_image_when_copied_then_blobs_come_before_the_manifest(source, sink):
    image = make_image({"a": b"1"}, {"b": b"2"})
    put = image.put(source)
    copy_entry(source, sink, put)
    layers = [str(layer.digest) for layer in image.layer_descriptors]
    config = str(Digest.of(image.config))
    assert sink.order == [config, *layers, str(put.digest)]
    manifest_only = OciLayout(sink.path.parent / "other", write=True)
    copy_manifest_blobs(source, manifest_only, image.manifest, OCI_MANIFEST)
    assert LayoutFiles(manifest_only.path).blobs == {config, *layers}


def test_index_when_copied_then_the_copy_is_complete(source, sink):
    platforms = ("linux/amd64", "linux/arm64")
    images = {p: make_image({"p": p.encode()}, platform=p) for p in platforms}
    inner = put_index(source, {"linux/s390x": make_image({"s": b""}, platform="linux/s390x")})
    odd = replace(source.put_blob(b"odd"), media_type="application/x-odd")
    outer = put_index(source, images, tag="t", more=(inner, odd))
    copy_entry(source, sink, outer)
    files = LayoutFiles(sink.path)
    assert files.whole(write_descriptor(outer)) == files.blobs == LayoutFiles(source.path).blobs
    assert sink.order[-1] == str(outer.digest)
    assert len(sink.order) == len(set(sink.order))


def test_index_when_parts_were_never_fetched_then_the_copy_lacks_them_too(source, sink):
    absent = (
        replace(make_image({"far": b""}).descriptor, platform=Platform("linux", "s390x")),
        Descriptor(OCI_INDEX, Digest("8" * 64), 8),
        Descriptor("application/x-odd", Digest("9" * 64), 9),
    )
    index = put_index(source, {"linux/amd64": make_image()}, more=absent)
    copy_entry(source, sink, index)
    assert LayoutFiles(sink.path).blobs == LayoutFiles(source.path).blobs
    copy_entry(source, sink, absent[0])
    copy_entry(source, sink, absent[2])
    assert LayoutFiles(sink.path).blobs == LayoutFiles(source.path).blobs


def test_image_when_a_foreign_layer_is_missing_then_the_rest_is_copied(source, sink):
    image = image_of((b"far", DOCKER_LAYER_FOREIGN_GZIP), (b"near", OCI_LAYER_GZIP))
    source.put_blob(b"near")
    source.put_blob(image.config)
    source.put_manifest(image.manifest, OCI_MANIFEST)
    copy_entry(source, sink, image.descriptor)
    assert str(Digest.of(b"far")) not in LayoutFiles(sink.path).blobs
    source.put_blob(b"far")
    copy_entry(source, sink, image.descriptor)
    assert str(Digest.of(b"far")) in LayoutFiles(sink.path).blobs


def test_image_when_a_layer_is_missing_then_error_and_no_manifest(source, sink):
    image = make_image({"a": b"1"}, {"b": b"2"})
    put = image.put(source)
    (source.path / "blobs" / "sha256" / image.layer_descriptors[1].digest.hex).unlink()
    with pytest.raises(NotFoundError, match=str(image.layer_descriptors[1].digest)):
        copy_entry(source, sink, put)
    assert str(put.digest) not in LayoutFiles(sink.path).blobs


def test_image_when_copied_to_an_archive_then_it_is_complete(source, tmp_path):
    image = make_image({"a": b"1"})
    put = image.put(source)
    with OciArchive(tmp_path / "a.tar", write=True) as archive:
        copy_entry(source, archive, put)
        archive.tag(put, "t")
    with OciArchive(tmp_path / "a.tar") as archive:
        manifest = Manifest.from_json(archive.manifest(archive.resolve("t")))
        for descriptor, data in zip(manifest.layers, image.layers, strict=True):
            assert b"".join(archive.blob(descriptor)) == data
