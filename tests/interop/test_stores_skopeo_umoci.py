"""tocsin reads images of other tools, and they read ours."""

import json
from dataclasses import replace

import pytest

from support.images import make_image, put_index, referrer_to
from support.tools import tool
from tocsin.images.walk import walk_manifests
from tocsin.model.digest import Digest
from tocsin.model.manifest import ImageIndex, Manifest, parse_manifest
from tocsin.model.media_types import OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from tocsin.model.reference import parse_reference
from tocsin.model.soci_index import (
    SOCI_INDEX_V1,
    IndexedLayer,
    PlatformIndex,
    convert_image,
    make_soci_index,
    start_index,
)
from tocsin.stores.archive import OciArchive
from tocsin.stores.layout import OciLayout
from tocsin.stores.opening import open_source

pytestmark = pytest.mark.interop


@pytest.fixture
def skopeo():
    return tool("skopeo", "--insecure-policy")


@pytest.fixture
def umoci():
    return tool("umoci")


@pytest.fixture
def umoci_image(umoci, tmp_path):
    """A layout with the tags ``t`` and ``u``; ``t`` has two layers."""
    files = tmp_path / "files"
    files.mkdir()
    (files / "a").write_text("hello" * 5000)
    layout = tmp_path / "umoci"
    umoci("init", "--layout", layout)
    umoci("new", "--image", f"{layout}:t")
    umoci("insert", "--image", f"{layout}:t", files, "/one")
    umoci("insert", "--image", f"{layout}:t", files, "/two")
    umoci("new", "--image", f"{layout}:u")
    return layout


def read_whole(store, selector):
    """Return the manifest and all blobs of a single-platform image, verified."""
    descriptor = store.resolve(selector)
    data = store.manifest(descriptor)
    manifest = parse_manifest(data, descriptor.media_type)
    assert isinstance(manifest, Manifest)
    blobs = {d.digest: b"".join(store.blob(d)) for d in (manifest.config, *manifest.layers)}
    return manifest, blobs


def test_umoci_layout_without_media_type_when_read_then_complete(umoci_image):
    with OciLayout(umoci_image) as store:
        assert store.tags() == ["t", "u"]
        manifest, blobs = read_whole(store, "t")
        assert manifest.media_type == ""
        assert len(manifest.layers) == 2
        assert len(blobs) == 3


def test_skopeo_layout_and_archives_when_read_then_same_image(umoci_image, skopeo, tmp_path):
    source = f"oci:{umoci_image}:t"
    places = [f"oci:{tmp_path}/D:x", f"oci-archive:{tmp_path}/a.tar:localhost/x:1"]
    with OciLayout(umoci_image) as store:
        _, expected = read_whole(store, "t")
    for place in places:
        skopeo("copy", source, place)
        reference = parse_reference(place)
        with open_source(reference) as store:
            assert read_whole(store, reference.selector)[1] == expected
            assert store.resolve(None) == store.resolve(reference.selector)


def test_skopeo_docker_archive_when_read_then_layers_are_plain_tars(umoci_image, skopeo, tmp_path):
    place = f"docker-archive:{tmp_path}/d.tar:localhost/x:1"
    skopeo("copy", f"oci:{umoci_image}:t", place)
    reference = parse_reference(place)
    with open_source(reference) as store:
        manifest, blobs = read_whole(store, reference.selector)
        assert {d.media_type for d in manifest.layers} == {OCI_LAYER}
        config = json.loads(blobs[manifest.config.digest])
        assert config["rootfs"]["diff_ids"] == [str(d.digest) for d in manifest.layers]
        layout = OciLayout(tmp_path / "E", write=True)
        for descriptor in (manifest.config, *manifest.layers):
            layout.put_blob(store.blob(descriptor), digest=descriptor.digest)
        layout.put_manifest(store.manifest(store.resolve(None)), OCI_MANIFEST, tag="x")
    skopeo("copy", f"oci:{tmp_path}/E:x", f"oci:{tmp_path}/F:x")
    inspected = json.loads(skopeo("inspect", f"oci:{tmp_path}/F:x"))
    assert len(inspected["Layers"]) == 2


def converted(store):
    """Put a two-platform image and its converted form, with fake zTOCs."""
    images = {p: make_image({"p": p.encode()}, platform=p) for p in ("linux/amd64", "linux/arm64")}
    source = put_index(store, images, tag="source")
    store.put_blob(b"{}")
    index = start_index(store.manifest(source), source, None)
    made = []
    for entry in index.manifests:
        layer = Manifest.from_json(store.manifest(entry)).layers[0]
        ztoc = store.put_blob(b"ztoc of " + str(layer.digest).encode())
        soci = make_soci_index([IndexedLayer(layer, ztoc, 4 << 20)])
        made.append(
            PlatformIndex(
                entry.platform, entry.digest, store.put_manifest(soci.to_json(), OCI_MANIFEST)
            )
        )
    image = convert_image(index, made, store.manifest)
    for manifest in image.manifests:
        store.put_manifest(manifest, OCI_MANIFEST)
    return store.put_manifest(image.index.to_json(), OCI_INDEX, tag="converted")


def check_copy(ours, copy):
    """Everything below the image index is identical; the index differs in one field.

    skopeo 1.9 (Debian 12) knows no ``artifactType`` and writes the index again without it.
    """
    sent = ours.resolve("converted")
    index = ImageIndex.from_json(ours.manifest(sent))
    got = ImageIndex.from_json(copy.manifest(copy.resolve("c")))
    if copy.resolve("c").digest != sent.digest:
        assert all(e.artifact_type == "" for e in got.manifests)
        index = replace(
            index, manifests=tuple(replace(e, artifact_type="") for e in index.manifests)
        )
    assert got == index
    assert len(got.manifests) == 4
    for entry in walk_manifests(copy, copy.resolve("c")):
        assert copy.manifest(entry) == ours.manifest(entry)
        manifest = Manifest.from_json(copy.manifest(entry))
        for blob in (manifest.config, *manifest.layers):
            assert b"".join(copy.blob(blob)) == b"".join(ours.blob(blob))


def test_our_layout_when_skopeo_copies_all_then_image_is_identical(skopeo, tmp_path):
    with OciLayout(tmp_path / "ours", write=True) as ours:
        converted(ours)
        skopeo("copy", "--all", f"oci:{tmp_path}/ours:converted", f"oci:{tmp_path}/copy:c")
        check_copy(ours, OciLayout(tmp_path / "copy"))


def test_our_layout_when_skopeo_copies_the_source_then_index_is_identical(skopeo, tmp_path):
    with OciLayout(tmp_path / "ours", write=True) as ours:
        converted(ours)
        skopeo("copy", "--all", f"oci:{tmp_path}/ours:source", f"oci:{tmp_path}/copy:c")
        assert OciLayout(tmp_path / "copy").resolve("c").digest == ours.resolve("source").digest


def test_our_archive_when_skopeo_copies_all_then_image_is_identical(skopeo, tmp_path):
    with OciArchive(tmp_path / "ours.tar", write=True) as ours:
        converted(ours)
        ours.commit()
        source = f"oci-archive:{tmp_path}/ours.tar:converted"
        skopeo("copy", "--all", source, f"oci:{tmp_path}/copy:c")
        check_copy(ours, OciLayout(tmp_path / "copy"))


def test_layout_with_referrer_when_skopeo_or_umoci_read_it_then_unchanged(
    skopeo, umoci, umoci_image, tmp_path
):
    with OciLayout(umoci_image, write=True) as store:
        subject = store.resolve("t")
        store.put_blob(b"{}")
        store.put_manifest(referrer_to(subject, SOCI_INDEX_V1), OCI_MANIFEST)
        (found,) = store.referrers(subject.digest, SOCI_INDEX_V1)
    assert umoci("list", "--layout", umoci_image).split() == ["t", "u"]
    umoci("stat", "--image", f"{umoci_image}:t")
    skopeo("copy", f"oci:{umoci_image}:t", f"oci:{tmp_path}/D:t")
    with OciLayout(tmp_path / "D") as store:
        assert store.resolve("t").digest == subject.digest
    umoci("gc", "--layout", umoci_image)  # keeps what index.json lists
    with OciLayout(umoci_image) as store:
        assert store.referrers(subject.digest) == [found]


def test_our_layout_when_umoci_reads_it_then_it_unpacks(umoci, tmp_path):
    with OciLayout(tmp_path / "D", write=True) as store:
        make_image({"etc/greeting": b"hello"}).put(store, "t")
    umoci("unpack", "--rootless", "--image", f"{tmp_path}/D:t", tmp_path / "bundle")
    assert (tmp_path / "bundle" / "rootfs" / "etc" / "greeting").read_text() == "hello"


def test_our_layout_when_skopeo_writes_to_it_then_both_tags_exist(umoci_image, skopeo, tmp_path):
    image = make_image({"x": b"1"})
    with OciLayout(tmp_path / "D", write=True) as store:
        image.put(store, "ours")
    skopeo("copy", f"oci:{umoci_image}:t", f"oci:{tmp_path}/D:theirs")
    with OciLayout(tmp_path / "D", write=True) as store:
        store.tag(store.resolve("theirs"), "both")
        assert store.tags() == ["both", "ours", "theirs"]
        assert store.resolve("ours").digest == image.descriptor.digest
    inspected = json.loads(skopeo("inspect", f"oci:{tmp_path}/D:both"))
    assert Digest.parse(inspected["Digest"])


def test_skopeo_docker_image_when_read_then_schema_2_is_supported(umoci_image, skopeo, tmp_path):
    place = tmp_path / "dir"
    skopeo("copy", "--format", "v2s2", f"oci:{umoci_image}:t", f"dir:{place}")
    manifest = Manifest.from_json((place / "manifest.json").read_bytes())
    assert manifest.media_type == "application/vnd.docker.distribution.manifest.v2+json"
    assert len(manifest.layers) == 2
