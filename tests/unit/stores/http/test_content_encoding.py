"""Responses with a content coding that was not requested.

Documents are decoded before their digest is computed, as in Go's clients (net/http, `Transport`);
layers are not decoded.
"""

import gzip
import zlib

import pytest

from support.images import make_image
from support.registry_client import store_of
from tocsin.errors import RegistryError, VerificationError

IMAGE = make_image()
CODERS = {"gzip": gzip.compress, "GZIP": gzip.compress, "deflate": zlib.compress}


@pytest.fixture
def stored(registry):
    with store_of(registry) as store:
        IMAGE.put(store, "t")
    return registry


def encode(registry, method, body, coding):
    headers = {"Content-Encoding": coding, "Content-Type": IMAGE.media_type}
    if method == "HEAD":
        headers["Docker-Content-Digest"] = str(IMAGE.descriptor.digest)
        headers["Content-Length"] = str(len(body))
    registry.fault(method, "/manifests/", status=200, body=body, headers=headers, times=9)


@pytest.mark.parametrize("coding", CODERS)
def test_manifest_when_encoded_then_the_digest_is_of_the_content(stored, coding):
    encode(stored, "GET", CODERS[coding](IMAGE.manifest), coding)
    with store_of(stored) as store:
        assert store.manifest(IMAGE.descriptor) == IMAGE.manifest


@pytest.mark.parametrize("coding", CODERS)
def test_tag_when_head_has_the_encoded_length_then_the_size_is_decoded(stored, coding):
    body = CODERS[coding](IMAGE.manifest)
    encode(stored, "HEAD", body, coding)
    encode(stored, "GET", body, coding)
    with store_of(stored) as store:
        assert store.resolve("t") == IMAGE.descriptor
        assert store.has_blob(IMAGE.descriptor)


@pytest.mark.parametrize("coding", ["utf-8", "none", "identity", "binary"])
def test_manifest_when_the_value_is_not_a_coding_then_not_decoded(stored, coding):
    encode(stored, "GET", IMAGE.manifest, coding)
    with store_of(stored) as store:
        assert store.manifest(IMAGE.descriptor) == IMAGE.manifest


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "gzip,br", "compress"])
def test_manifest_when_the_coding_is_unknown_then_the_error_names_it(stored, coding):
    encode(stored, "GET", IMAGE.manifest, coding)
    with store_of(stored) as store, pytest.raises(RegistryError, match="content coding"):
        store.manifest(IMAGE.descriptor)


def test_manifest_when_the_decoded_content_differs_then_refused(stored):
    encode(stored, "GET", gzip.compress(IMAGE.manifest + b" "), "gzip")
    with store_of(stored) as store, pytest.raises(VerificationError):
        store.manifest(IMAGE.descriptor)


def test_token_when_encoded_then_read(stored):
    stored.auth = "token"
    stored.anonymous_scopes = {"repository:team/app:pull"}
    stored.tokens["abc"] = {"repository:team/app:pull"}
    body = gzip.compress(b'{"token":"abc"}')
    stored.fault("GET", "/token", status=200, body=body, headers={"Content-Encoding": "gzip"})
    with store_of(stored) as store:
        assert store.resolve("t") == IMAGE.descriptor


def test_layer_when_it_has_a_content_encoding_then_it_is_not_decoded(stored):
    layer, descriptor = IMAGE.layers[0], IMAGE.layer_descriptors[0]
    headers = {"Content-Encoding": "gzip"}
    stored.fault("GET", "/blobs/", status=200, body=layer, headers=headers)
    with store_of(stored) as store:
        assert b"".join(store.blob(descriptor)) == layer
