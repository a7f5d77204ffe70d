"""Tests of `tocsin.model.seek_manifest`, and of how a conversion places seek tables."""

import hashlib
import json
from dataclasses import replace

import pytest

from tocsin.errors import FormatError, UnsupportedError
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.manifest import ImageIndex, Manifest
from tocsin.model.media_types import OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST
from tocsin.model.platform import Platform
from tocsin.model.seek_manifest import (
    MAX_INLINE_SIZE,
    PACK_FRAMES,
    PACK_INDEX,
    SEEK_FILE_LIST,
    SEEK_LAYER,
    SEEK_ROOT,
    SeekManifest,
    is_seek_entry,
    pack_index_descriptor,
    root_descriptor,
    seek_entry,
)
from tocsin.model.soci_index import PlatformIndex, convert_image, is_soci_entry, start_index

ROOT = "application/vnd.tocsin.seek.v1"
FILE_LIST = "application/vnd.tocsin.seek.toc.v1"
LAYER = "application/vnd.tocsin.seek.layer.v1"
TABLE_DIGEST = "dev.tocsin.seek-table-digest"
IMAGE_DIGEST = "dev.tocsin.image-manifest-digest"
MANIFEST = SeekManifest(
    root_descriptor(b"root"),
    Descriptor.of(b"files", FILE_LIST),
    (Descriptor.of(b"one", LAYER), Descriptor.of(b"two", LAYER), Descriptor.of(b"one", LAYER)),
)
SUBJECT = Descriptor(
    OCI_MANIFEST, Digest("3" * 64), 500, platform=Platform("linux", "amd64"), annotations={"a": "b"}
)


def descriptor_of(data, media_type):
    """Return a descriptor as JSON, with the names of the OCI image specification."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


# -- the manifest ------------------------------------------------------------------------------


def test_manifest_when_written_then_as_specified():
    assert json.loads(MANIFEST.to_json()) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        # RFC 4648: base64 of "root"
        "config": {**descriptor_of(b"root", ROOT), "data": "cm9vdA=="},
        "layers": [
            descriptor_of(b"files", FILE_LIST),
            descriptor_of(b"one", LAYER),
            descriptor_of(b"two", LAYER),
            descriptor_of(b"one", LAYER),
        ],
    }


def test_manifest_when_it_refers_to_an_image_then_plain_subject():
    written = json.loads(MANIFEST.to_json(subject=SUBJECT))
    assert written["subject"] == {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": f"sha256:{'3' * 64}",
        "size": 500,
    }
    assert "artifactType" not in written


@pytest.mark.parametrize("subject", [None, SUBJECT])
def test_manifest_when_parsed_then_the_same(subject):
    assert SeekManifest.from_json(MANIFEST.to_json(subject=subject)) == MANIFEST


PACKED = replace(
    MANIFEST,
    pack_index=pack_index_descriptor(b"index"),
    pack=Descriptor.of(b"frames", "application/vnd.tocsin.seek.pack.v1"),
)


@pytest.mark.parametrize("subject", [None, SUBJECT])
def test_manifest_when_it_has_a_pack_then_its_parts_are_last(subject):
    data = PACKED.to_json(subject=subject)
    assert SeekManifest.from_json(data) == PACKED
    assert json.loads(data)["layers"][-2:] == [
        # RFC 4648: base64 of "index"
        {
            **descriptor_of(b"index", "application/vnd.tocsin.seek.pack.index.v1"),
            "data": "aW5kZXg=",
        },
        descriptor_of(b"frames", "application/vnd.tocsin.seek.pack.v1"),
    ]
    assert PACKED.pack_size == len(b"index") + len(b"frames")
    assert PACKED.size == MANIFEST.size + PACKED.pack_size
    assert MANIFEST.pack_size == 0


@pytest.mark.parametrize("size", [512 << 10, (512 << 10) + 1])
def test_pack_index_when_larger_than_the_limit_then_not_inline(size):
    descriptor = pack_index_descriptor(bytes(size))
    assert len(descriptor.data) == (size if size == 512 << 10 else 0)


def test_manifest_when_the_image_has_no_layers_then_parsed():
    empty = replace(MANIFEST, layers=())
    assert SeekManifest.from_json(empty.to_json()) == empty


@pytest.mark.parametrize("size", [MAX_INLINE_SIZE, MAX_INLINE_SIZE + 1])
def test_root_when_larger_than_the_limit_then_not_inline(size):
    descriptor = root_descriptor(bytes(size))
    assert descriptor.size == size
    assert len(descriptor.data) == (size if size == 1 << 20 else 0)


def with_layers(*media_types):
    layers = tuple(Descriptor.of(b"x", media_type) for media_type in media_types)
    return Manifest(Descriptor.of(b"root", SEEK_ROOT), layers, media_type=OCI_MANIFEST).to_json()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (with_layers(), "the file list is missing"),
        (with_layers(SEEK_LAYER, SEEK_LAYER), "unexpected media type"),
        (with_layers(SEEK_FILE_LIST, SEEK_FILE_LIST), "unexpected media type"),
        (with_layers(SEEK_FILE_LIST, SEEK_LAYER, OCI_LAYER_GZIP), "unexpected media type"),
        (with_layers(SEEK_FILE_LIST, None), "unexpected media type"),
        (with_layers(PACK_FRAMES), "unexpected media type"),
        (with_layers(PACK_INDEX, PACK_FRAMES), "unexpected media type"),
        (with_layers(SEEK_FILE_LIST, PACK_FRAMES), "unexpected media type"),
        (with_layers(SEEK_FILE_LIST, PACK_INDEX), "unexpected media type"),
        (with_layers(SEEK_FILE_LIST, PACK_FRAMES, PACK_INDEX), "unexpected media type"),
        (with_layers(SEEK_FILE_LIST, PACK_INDEX, PACK_FRAMES, SEEK_LAYER), "unexpected media type"),
        (with_layers(SEEK_FILE_LIST).replace(b"seek.v1", b"seek.v2"), "seek.v2"),
        (with_layers(SEEK_FILE_LIST).replace(b'"layers"', b'"blobs"'), "the file list is missing"),
        (with_layers(SEEK_FILE_LIST).replace(b'"size":1', b'"size":-1'), "size"),
        (with_layers(SEEK_FILE_LIST).replace(b'"size":1', b'"size":1.5'), "size"),
        (ImageIndex((SUBJECT,), OCI_INDEX).to_json(), None),
        (b"[]", None),
        (b"{", None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_manifest_when_invalid_then_format_error(data, message):
    with pytest.raises(FormatError, match=message):
        SeekManifest.from_json(data)


def test_manifest_when_a_digest_is_not_sha256_then_unsupported():
    data = MANIFEST.to_json().replace(
        str(MANIFEST.file_list.digest).encode(), b"sha512:" + b"0" * 128
    )
    with pytest.raises(UnsupportedError):
        SeekManifest.from_json(data)


# -- in an image index -------------------------------------------------------------------------


def test_entry_when_made_then_no_reader_takes_it_for_an_image():
    entry = seek_entry(Descriptor.of(b"table", OCI_MANIFEST), SUBJECT.digest)
    assert is_seek_entry(entry)
    assert not is_soci_entry(entry)
    assert json.loads(ImageIndex((entry,), OCI_INDEX).to_json())["manifests"] == [
        {
            **descriptor_of(b"table", "application/vnd.oci.image.manifest.v1+json"),
            "annotations": {IMAGE_DIGEST: f"sha256:{'3' * 64}"},
            "platform": {"architecture": "unknown", "os": "unknown"},
        }
    ]


IMAGE = Manifest(
    Descriptor.of(b"{}", OCI_CONFIG),
    (Descriptor.of(b"layer", OCI_LAYER_GZIP),),
    media_type=OCI_MANIFEST,
)


def described(text):
    return Descriptor.of(text.encode(), OCI_MANIFEST)


def converted(index, *, seek=None, soci=None, held):
    """Convert the first image of `index`; return the new index and all manifests."""
    first = index.manifests[0]
    made = [PlatformIndex(first.platform, first.digest, soci, seek)]
    result = convert_image(index, made, lambda entry: held.get(entry.digest))
    new = {Digest.of(data): data for data in result.manifests}
    return result.index, {**held, **new}


@pytest.fixture
def start():
    data = IMAGE.to_json()
    index = start_index(data, Descriptor.of(data, OCI_MANIFEST), Platform("linux", "amd64"))
    return index, {Digest.of(data): data}


def annotations_of(index, held):
    return Manifest.from_json(held[index.manifests[0].digest]).annotations


def test_convert_when_only_a_seek_table_then_bound_both_ways(start):
    index, held = start
    index, held = converted(index, seek=described("table"), held=held)
    image, table = index.manifests
    assert annotations_of(index, held) == {TABLE_DIGEST: str(Digest.of(b"table"))}
    assert table.digest == Digest.of(b"table")
    assert table.annotations == {IMAGE_DIGEST: str(image.digest)}


def test_convert_when_both_are_made_then_soci_entries_come_first(start):
    index, held = start
    index, held = converted(index, seek=described("table"), soci=described("soci"), held=held)
    assert [is_soci_entry(entry) for entry in index.manifests] == [False, True, False]
    assert [is_seek_entry(entry) for entry in index.manifests] == [False, False, True]
    assert annotations_of(index, held) == {
        TABLE_DIGEST: str(Digest.of(b"table")),
        "com.amazon.soci.index-digest": str(Digest.of(b"soci")),
    }


def test_convert_when_made_again_then_the_old_table_is_replaced(start):
    index, held = start
    index, held = converted(index, seek=described("old"), held=held)
    index, held = converted(index, seek=described("new"), held=held)
    image, table = index.manifests
    assert table.digest == Digest.of(b"new")
    assert table.annotations == {IMAGE_DIGEST: str(image.digest)}
    assert annotations_of(index, held) == {TABLE_DIGEST: str(Digest.of(b"new"))}


def test_convert_when_no_table_is_made_then_the_old_one_follows_its_image(start):
    index, held = start
    index, held = converted(index, seek=described("table"), held=held)
    before = index.manifests[0].digest
    index, held = converted(index, soci=described("soci"), held=held)
    image, table, soci = index.manifests
    assert image.digest != before
    assert table.digest == Digest.of(b"table")
    assert table.annotations == {IMAGE_DIGEST: str(image.digest)}
    assert is_soci_entry(soci)
    assert annotations_of(index, held)[TABLE_DIGEST] == str(Digest.of(b"table"))


def test_convert_when_another_platform_has_a_table_then_it_stays(start):
    index, held = start
    other = replace(IMAGE, annotations={"other": "image"}).to_json()
    arm = replace(Descriptor.of(other, OCI_MANIFEST), platform=Platform("linux", "arm64"))
    theirs = seek_entry(described("theirs"), arm.digest)
    index = replace(index, manifests=(*index.manifests, arm, theirs))
    held[arm.digest] = other
    index, held = converted(index, seek=described("ours"), held=held)
    tables = [entry for entry in index.manifests if is_seek_entry(entry)]
    assert [table.digest for table in tables] == [Digest.of(b"theirs"), Digest.of(b"ours")]
    # Every manifest is rewritten, and entries name the new digests of their images.
    assert tables[0].annotations == {IMAGE_DIGEST: str(index.manifests[1].digest)}
