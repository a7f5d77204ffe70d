import json

import pytest

from tocsin.errors import FormatError, UnsupportedError
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.fields import MAX_ENTRIES
from tocsin.model.manifest import ImageIndex, Manifest, parse_manifest, sniff_media_type
from tocsin.model.media_types import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
)
from tocsin.model.platform import Platform

ONE = {"mediaType": OCI_LAYER_GZIP, "digest": "sha256:" + "1" * 64, "size": 10}
CONFIG = {"mediaType": OCI_CONFIG, "digest": "sha256:" + "c" * 64, "size": 2}
MANIFEST = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": CONFIG, "layers": [ONE]}
INDEX = {
    "schemaVersion": 2,
    "mediaType": OCI_INDEX,
    "manifests": [{**ONE, "mediaType": OCI_MANIFEST}],
}


def dump(value) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def test_manifest_when_parsed_and_encoded_then_bytes_are_equal():
    full = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "a/b",
        "config": CONFIG,
        "layers": [
            {
                **ONE,
                "urls": ["https://x"],
                "annotations": {"a": "1", "b": "2"},
                "data": "e30=",
                "platform": {
                    "architecture": "amd64",
                    "os": "windows",
                    "os.version": "10",
                    "os.features": ["win32k"],
                    "variant": "v1",
                },
                "artifactType": "c/d",
            }
        ],
        "subject": ONE,
        "annotations": {"k": "v"},
    }
    manifest = parse_manifest(dump(full), OCI_MANIFEST)
    assert isinstance(manifest, Manifest)
    assert manifest.to_json() == dump(full)
    assert manifest.kind == "a/b"


def test_manifest_when_media_type_is_missing_then_descriptor_decides():
    data = dump({"schemaVersion": 2, "config": CONFIG, "layers": [ONE]})
    manifest = parse_manifest(data, OCI_MANIFEST)
    assert manifest.media_type == ""
    assert manifest.to_json() == data
    assert sniff_media_type(data) == OCI_MANIFEST


def test_manifest_when_lists_are_missing_or_null_then_written_as_null():
    manifest = parse_manifest(dump({**MANIFEST, "layers": None, "annotations": None}))
    assert manifest.layers is None
    assert manifest.to_json().endswith(b'"layers":null}')
    index = parse_manifest(b'{"schemaVersion":2,"mediaType":"%s"}' % OCI_INDEX.encode(), OCI_INDEX)
    assert index.to_json().endswith(b'"manifests":null}')


def test_manifest_when_keys_differ_in_case_then_parsed_as_in_go():
    data = dump({"SchemaVersion": 2, "MEDIATYPE": OCI_MANIFEST, "Config": CONFIG, "x": [1.5]})
    manifest = parse_manifest(data)
    assert manifest == Manifest(
        Descriptor(OCI_CONFIG, Digest("c" * 64), 2), None, media_type=OCI_MANIFEST
    )


def test_index_when_docker_list_then_platforms_are_parsed():
    entry = {
        **ONE,
        "mediaType": DOCKER_MANIFEST,
        "platform": {"architecture": "s390x", "os": "linux"},
    }
    index = parse_manifest(
        dump({"schemaVersion": 2, "mediaType": DOCKER_INDEX, "manifests": [entry]}), DOCKER_INDEX
    )
    assert isinstance(index, ImageIndex)
    assert index.manifests[0].platform == Platform("linux", "s390x")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schemaVersion": "2"}, "schemaVersion: found string, expected integer"),
        ({"schemaVersion": True}, "schemaVersion"),
        ({"schemaVersion": 3}, "schemaVersion: found 3"),
        ({"schemaVersion": 2.0}, "schemaVersion: found number, expected integer"),
        ({"config": None}, "config: missing"),
        ({"config": []}, "config: found array"),
        ({"config": {**CONFIG, "digest": None}}, "config.digest: missing"),
        ({"config": {**CONFIG, "digest": "sha256:../../etc/passwd"}}, "digest"),
        ({"layers": {}}, "layers: found object"),
        ({"layers": [1]}, r"layers\[0\]: found number"),
        ({"layers": [ONE, {**ONE, "size": -1}]}, r"layers\[1\].size: found -1"),
        ({"layers": [{**ONE, "size": 1 << 63}]}, r"layers\[0\].size"),
        ({"layers": [{**ONE, "size": "10"}]}, r"layers\[0\].size: found string"),
        ({"layers": [ONE] * (MAX_ENTRIES + 1)}, "at most"),
        ({"layers": [{**ONE, "data": "e30"}]}, r"layers\[0\].data: invalid base64"),
        ({"annotations": {"a": 1}}, "annotations"),
        ({"annotations": dict.fromkeys(map(str, range(MAX_ENTRIES + 1)), "")}, "at most"),
        ({"manifests": [ONE]}, "manifests: not allowed"),
        ({"mediaType": OCI_INDEX}, "mediaType: found .* the descriptor has"),
        ({"mediaType": 5}, "mediaType: found number"),
    ],
)
def test_parse_manifest_when_field_is_invalid_then_error_names_it(change, says):
    with pytest.raises(FormatError, match=says) as refusal:
        parse_manifest(dump({**MANIFEST, **change}), OCI_MANIFEST)
    assert refusal.value.what in ("manifest", "digest")


def test_parse_manifest_when_index_has_layers_then_format_error():
    with pytest.raises(FormatError, match="not allowed"):
        parse_manifest(dump({**INDEX, "layers": []}), OCI_INDEX)


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (b'{"schemaVersion":1}', ""),
        (dump(MANIFEST), "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        (
            dump({**MANIFEST, "mediaType": "application/vnd.docker.distribution.manifest.v1+json"}),
            "",
        ),
    ],
)
def test_parse_manifest_when_schema_is_1_then_unsupported_error(data, media_type):
    with pytest.raises(UnsupportedError, match="schema 1"):
        parse_manifest(data, media_type)


def test_parse_manifest_when_type_or_digest_is_unknown_then_unsupported():
    with pytest.raises(UnsupportedError, match="media type"):
        parse_manifest(dump(MANIFEST), "application/json")
    with pytest.raises(UnsupportedError, match="sha512"):
        parse_manifest(dump({**MANIFEST, "config": {**CONFIG, "digest": "sha512:" + "a" * 128}}))


def test_sniff_media_type_when_not_a_manifest_then_format_error():
    assert sniff_media_type(dump(INDEX)) == OCI_INDEX
    with pytest.raises(FormatError, match="not an image manifest"):
        sniff_media_type(b"{}")
