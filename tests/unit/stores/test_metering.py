"""Bytes that are read and written are counted, even if they are discarded."""

from __future__ import annotations

import pytest

from support.images import make_image
from support.registry import Registry
from support.registry_client import noise, store_of
from tocsin.images.copying import copy_manifest_blobs
from tocsin.model.descriptor import Descriptor
from tocsin.model.media_types import OCI_MANIFEST, OCTET_STREAM
from tocsin.stores.base import MustStream, TakenOver
from tocsin.stores.discarding import DiscardingSink
from tocsin.stores.layout import OciLayout
from tocsin.stores.metering import Meter, MeteredSink, MeteredSource, Traffic

IMAGE = make_image({"a": noise(1 << 20)}, {"b": noise(10_000, 2)})
BLOBS = sum(map(len, IMAGE.layers)) + len(IMAGE.config)


@pytest.fixture
def registry():
    with Registry() as running:
        yield running


def traffic_of_copy(source, sink):
    """Copy `IMAGE` through meters and return the traffic."""
    meter = Meter()
    read, write = MeteredSource(source, meter), MeteredSink(sink, meter)
    data = read.manifest(IMAGE.descriptor)
    copy_manifest_blobs(read, write, data, OCI_MANIFEST)
    write.put_manifest(data, OCI_MANIFEST, tag="t")
    return meter.traffic


def test_traffic_when_an_image_is_copied_then_each_byte_is_counted_once(tmp_path, registry):
    manifest = len(IMAGE.manifest)
    with OciLayout(tmp_path / "a", write=True) as layout, store_of(registry) as store:
        IMAGE.put(layout, "t")
        once = traffic_of_copy(layout, store)
        assert once == Traffic(read=BLOBS + manifest, manifests=manifest, blobs=BLOBS)
        assert once.pushed == BLOBS + manifest
        # Now everything exists.
        assert traffic_of_copy(layout, store) == Traffic(read=manifest, manifests=manifest)


def test_traffic_when_a_registry_mounts_then_nothing_is_read_or_pushed(registry):
    with store_of(registry) as store, store_of(registry, "other", write=True) as other:
        IMAGE.put(store, "t")
        manifest = len(IMAGE.manifest)
        expected = Traffic(read=manifest, manifests=manifest, mounted=BLOBS)
        dry = traffic_of_copy(store, DiscardingSink("other", other))
        assert "other" not in registry.repositories or not registry.repository("other").blobs
        assert dry == traffic_of_copy(store, other) == expected


def test_traffic_when_dry_run_then_bytes_that_would_be_written_are_counted(tmp_path, registry):
    with OciLayout(tmp_path / "a", write=True) as layout, store_of(registry) as store:
        IMAGE.put(layout, "t")
        manifest = len(IMAGE.manifest)
        dry = traffic_of_copy(layout, DiscardingSink("docker://x", store))
        assert dry == Traffic(read=manifest, manifests=manifest, blobs=BLOBS)
        nowhere = traffic_of_copy(layout, DiscardingSink("docker://x", None))
        assert nowhere == dry


def test_traffic_when_a_layout_links_then_counted_as_mounted_when_finished(tmp_path):
    with OciLayout(tmp_path / "a", write=True) as layout:
        IMAGE.put(layout, "t")
        manifest = len(IMAGE.manifest)
        sink = OciLayout(tmp_path / "b", write=True)
        expected = Traffic(read=manifest, manifests=manifest, mounted=BLOBS)
        assert traffic_of_copy(layout, DiscardingSink("oci:b", sink)) == expected
        assert traffic_of_copy(layout, sink) == expected
        meter = Meter()
        layer = IMAGE.layer_descriptors[0]
        other = MeteredSink(OciLayout(tmp_path / "c", write=True), meter)
        takeover = other.take_over(layer, layout.origin)
        takeover.prepare()
        assert meter.traffic == Traffic()
        assert takeover.finish() == TakenOver()
        assert meter.traffic == Traffic(mounted=layer.size)
        missing = Descriptor.of(b"missing", OCTET_STREAM)
        assert other.take_over(missing, layout.origin).verify_and_finish() == MustStream()
        assert meter.traffic == Traffic(mounted=layer.size)


def test_traffic_when_a_blob_is_generated_then_counted_unless_it_exists(tmp_path):
    meter = Meter()
    with OciLayout(tmp_path / "a", write=True) as layout:
        store = MeteredSink(layout, meter)
        for _ in range(2):
            assert store.put_blob(b"ztoc") == Descriptor.of(b"ztoc", OCTET_STREAM)
        assert meter.traffic == Traffic(ztocs=4)
        blob = Descriptor.of(b"ztoc", OCTET_STREAM)
        assert b"".join(store.blob(blob)) + store.blob_range(blob, 1, 3) == b"ztocto"
        assert meter.traffic == Traffic(ztocs=4, read=6)
