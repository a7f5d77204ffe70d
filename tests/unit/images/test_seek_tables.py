"""Tests of `tocsin.images.seek_tables`: finding the seek tables of an image, and its cost."""

from dataclasses import replace

import pytest

from support import seek
from support.images import image_of, make_image, put_index, referrer_to
from support.registry import Registry
from support.registry_client import store_of
from tocsin.errors import FormatError, NotFoundError, VerificationError
from tocsin.images.seek_tables import (
    bound_seek_table,
    listed_seek_tables,
    referrers_with_seek_tables,
    referring_seek_tables,
    requested_seek_table,
    seek_tables_of,
)
from tocsin.model.digest import Digest
from tocsin.model.manifest import Manifest
from tocsin.model.media_types import OCI_LAYER_GZIP, OCI_MANIFEST
from tocsin.model.seek_manifest import SEEK_ROOT, seek_entry
from tocsin.model.soci_index import SOCI_INDEX_V1
from tocsin.stores.layout import OciLayout

MANY = {f"file{number}": b"%d" % number for number in range(200)}
IMAGE = make_image(MANY, {"other": b"content"})
TABLE = seek.make_table(*IMAGE.layers)


@pytest.fixture
def registry():
    with Registry() as running:
        yield running


@pytest.fixture
def layout(tmp_path):
    with OciLayout(tmp_path / "layout", write=True) as store:
        yield store


def put_bound(store, table=TABLE, tag="1"):
    """Put the image with a table that its manifest names; return both descriptors."""
    IMAGE.put(store, tag)
    seek.bind(store, tag, tag, table)
    image = store.resolve(tag)
    return image, Manifest.from_json(store.manifest(image))


# -- named by the image ------------------------------------------------------------------------


def test_bound_when_remote_then_one_request_and_no_referrers(registry):
    with store_of(registry) as store:
        image, manifest = put_bound(store)
        registry.requests.clear()
        found = bound_seek_table(store, manifest)
    assert (found.root, found.is_bound, found.problem) == (TABLE.root, True, None)
    assert len(found.manifest.layers) == 2
    assert found.descriptor.digest == found.digest != image.digest
    assert [(r.method, "manifests" in r.path) for r in registry.requests] == [("GET", True)]


def test_bound_when_the_root_is_not_inline_then_two_requests(registry):
    with store_of(registry) as store:
        _, manifest = put_bound(store, replace(TABLE, inline=False))
        registry.requests.clear()
        assert bound_seek_table(store, manifest).root == TABLE.root
    assert [request.path.split("/")[-2] for request in registry.requests] == ["manifests", "blobs"]


@pytest.mark.parametrize("named", [None, "", "latest", "sha256:1", "sha512:" + "0" * 128])
def test_bound_when_the_annotation_is_not_a_digest_then_no_request(registry, named):
    annotations = {} if named is None else {"dev.tocsin.seek-table-digest": named}
    manifest = replace(Manifest.from_json(IMAGE.manifest), annotations=annotations)
    with store_of(registry) as store:
        assert bound_seek_table(store, manifest) is None
    assert registry.requests == []


def test_bound_when_its_manifest_is_missing_then_a_problem(layout):
    annotations = {"dev.tocsin.seek-table-digest": f"sha256:{'0' * 64}"}
    manifest = replace(Manifest.from_json(IMAGE.manifest), annotations=annotations)
    found = bound_seek_table(layout, manifest)
    assert isinstance(found.error, NotFoundError)
    assert (found.manifest, found.root, found.size) == (None, None, 0)
    assert found.to_dict()["problem"] == found.error.message


def test_bound_when_it_is_an_image_then_a_problem(layout):
    put = IMAGE.put(layout)
    annotations = {"dev.tocsin.seek-table-digest": str(put.digest)}
    manifest = replace(Manifest.from_json(IMAGE.manifest), annotations=annotations)
    found = bound_seek_table(layout, manifest)
    assert isinstance(found.error, FormatError)
    assert "media type" in found.problem


@pytest.mark.parametrize("has_blob", [True, False])
def test_bound_when_the_inline_root_is_wrong_then_only_the_blob_counts(layout, has_blob):
    """The inline bytes may be anything; the digest decides whether they are the root."""
    manifest = TABLE.manifest(None)
    lie = replace(manifest, config=replace(manifest.config, data=bytes(len(TABLE.root))))
    for blob in (TABLE.file_list, *TABLE.layers, *([TABLE.root] if has_blob else [])):
        layout.put_blob(blob)
    put = layout.put_manifest(lie.to_json(), OCI_MANIFEST)
    annotations = {"dev.tocsin.seek-table-digest": str(put.digest)}
    found = bound_seek_table(
        layout, replace(Manifest.from_json(IMAGE.manifest), annotations=annotations)
    )
    if has_blob:
        assert found.root == TABLE.root
    else:
        assert isinstance(found.error, NotFoundError)


def test_bound_when_the_root_blob_is_damaged_then_a_problem(layout, tmp_path):
    _, manifest = put_bound(layout, replace(TABLE, inline=False))
    digest = Digest.of(TABLE.root)
    blob = tmp_path / "layout" / "blobs" / "sha256" / digest.hex
    blob.chmod(0o644)
    blob.write_bytes(bytes(len(TABLE.root)))
    assert isinstance(bound_seek_table(layout, manifest).error, VerificationError)


def test_bound_when_the_root_claims_to_be_huge_then_not_read(registry):
    manifest = TABLE.manifest(None)
    config = replace(manifest.config, data=b"", size=1 << 40)
    with store_of(registry) as store:
        for blob in (TABLE.root, TABLE.file_list, *TABLE.layers):
            store.put_blob(blob)
        put = store.put_manifest(replace(manifest, config=config).to_json(), OCI_MANIFEST)
        registry.requests.clear()
        annotations = {"dev.tocsin.seek-table-digest": str(put.digest)}
        image = replace(Manifest.from_json(IMAGE.manifest), annotations=annotations)
        assert isinstance(bound_seek_table(store, image).error, FormatError)
    assert not any("/blobs/" in request.path for request in registry.requests)


def test_size_when_a_layer_occurs_twice_then_counted_once(layout):
    layer = IMAGE.layers[0]
    image_of((layer, OCI_LAYER_GZIP), (layer, OCI_LAYER_GZIP)).put(layout, "1")
    table = seek.bind(layout, "1", "1")
    assert table.layers[0] == table.layers[1]
    found = bound_seek_table(layout, Manifest.from_json(layout.manifest(layout.resolve("1"))))
    assert len(found.manifest.layers) == 2
    assert found.size == len(table.root) + len(table.file_list) + len(table.layers[0])


# -- referring to the image --------------------------------------------------------------------


@pytest.mark.parametrize("api", [True, False])
def test_referrers_when_there_are_others_too_then_only_seek_tables(registry, api):
    registry.referrers_api = registry.oci_subject = api
    with store_of(registry) as store:
        image = IMAGE.put(store, "1")
        store.put_blob(b"{}")
        for kind in (SOCI_INDEX_V1, "application/vnd.example.signature"):
            store.put_manifest(referrer_to(image.plain(), kind), OCI_MANIFEST)
        put = TABLE.put(store, image.plain())
        listed = referrers_with_seek_tables(store, image.digest)
        assert [table.digest for table in listed] == [put.digest]
        assert listed[0].artifact_type == "application/vnd.tocsin.seek.v1"
        (found,) = referring_seek_tables(store, image)
        assert (found.root, found.is_bound, found.problem) == (TABLE.root, False, None)
        is_tagged = f"sha256-{image.digest.hex}" in store.tags()
        assert is_tagged is not api


def test_referrers_when_in_a_layout_then_found(layout):
    image = IMAGE.put(layout, "1")
    TABLE.put(layout, image.plain())
    (found,) = referring_seek_tables(layout, image)
    assert found.root == TABLE.root


def test_referrers_when_the_first_is_broken_then_the_second_follows(layout):
    image = IMAGE.put(layout, "1")
    broken = replace(TABLE, media_types=[SEEK_ROOT, "application/octet-stream"])
    broken.put(layout, image.plain())
    TABLE.put(layout, image.plain())
    found = list(referring_seek_tables(layout, image))
    assert sorted(table.problem is None for table in found) == [False, True]


# -- all tables of an image --------------------------------------------------------------------


CHOICES = [
    # pinned, has_v2, used, reason
    (False, False, True, "it refers to the image"),
    (True, False, False, "the digest in the image's reference does not cover it"),
    (False, True, False, "the image names a SOCI index, which comes first"),
]


@pytest.mark.parametrize(("pinned", "has_v2", "taken", "reason"), CHOICES)
def test_choice_when_not_bound_then_explained(layout, pinned, has_v2, taken, reason):
    image = IMAGE.put(layout, "1")
    TABLE.put(layout, image.plain())
    manifest = Manifest.from_json(IMAGE.manifest)
    (found,) = seek_tables_of(layout, image, manifest, pinned=pinned, has_v2=has_v2, every=True)
    assert (found.taken, found.reason) == (taken, reason)


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("has_v2", [False, True])
def test_choice_when_bound_then_used_and_before_others(layout, pinned, has_v2):
    image, manifest = put_bound(layout)
    TABLE.put(layout, image.plain())
    found = seek_tables_of(layout, image, manifest, pinned=pinned, has_v2=has_v2, every=True)
    assert [(table.is_bound, table.taken) for table in found] == [(True, True), (False, False)]


@pytest.mark.parametrize("names", ["seek table", "SOCI index"])
def test_choice_when_the_image_names_an_index_then_no_referrers(registry, names):
    with store_of(registry) as store:
        image, manifest = put_bound(store)
        TABLE.put(store, image.plain())
        if names == "SOCI index":
            manifest = replace(manifest, annotations={})
        registry.requests.clear()
        has_v2 = names == "SOCI index"
        found = seek_tables_of(store, image, manifest, pinned=False, has_v2=has_v2)
    assert [table.is_bound for table in found] == ([] if has_v2 else [True])
    assert not any("referrers" in r.path or "sha256-" in r.path for r in registry.requests)


# -- by digest, and listed by an image index ---------------------------------------------------


@pytest.mark.parametrize("refers", [True, False])
def test_requested_when_a_seek_table_then_trusted_no_more_than_its_digest(layout, refers):
    image = IMAGE.put(layout)
    put = TABLE.put(layout, image.plain() if refers else None)
    found = requested_seek_table(layout, put.digest)
    assert (found.root, found.is_bound) == (TABLE.root, False)


def test_requested_when_something_else_then_none(layout):
    assert requested_seek_table(layout, IMAGE.put(layout).digest) is None
    index = put_index(layout, {"linux/amd64": IMAGE})
    assert requested_seek_table(layout, index.digest) is None


def test_requested_when_missing_then_error(layout):
    with pytest.raises(NotFoundError):
        requested_seek_table(layout, Digest("0" * 64))


def test_listed_when_in_an_image_index_then_found(layout):
    image = IMAGE.put(layout)
    entry = seek_entry(TABLE.put(layout), image.digest)
    index = put_index(layout, {"linux/amd64": IMAGE}, more=(entry,))
    (found,) = listed_seek_tables(layout, index)
    assert (found.root, found.is_bound) == (TABLE.root, True)
    assert list(listed_seek_tables(layout, image)) == []
