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


def test_manifest_when_read_and_written_then_the_bytes_are_equal():
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


def test_manifest_when_it_has_no_media_type_then_the_descriptor_decides_and_none_is_written():
    data = dump({"schemaVersion": 2, "config": CONFIG, "layers": [ONE]})
    manifest = parse_manifest(data, OCI_MANIFEST)
    assert manifest.media_type == ""
    assert manifest.to_json() == data
    assert sniff_media_type(data) == OCI_MANIFEST


def test_manifest_when_lists_are_missing_or_null_then_they_print_null():
    manifest = parse_manifest(dump({**MANIFEST, "layers": None, "annotations": None}))
    assert manifest.layers is None
    assert manifest.to_json().endswith(b'"layers":null}')
    index = parse_manifest(b'{"schemaVersion":2,"mediaType":"%s"}' % OCI_INDEX.encode(), OCI_INDEX)
    assert index.to_json().endswith(b'"manifests":null}')


def test_manifest_when_keys_differ_in_case_or_are_unknown_then_go_reads_the_same():
    data = dump({"SchemaVersion": 2, "MEDIATYPE": OCI_MANIFEST, "Config": CONFIG, "x": [1.5]})
    manifest = parse_manifest(data)
    assert manifest == Manifest(
        Descriptor(OCI_CONFIG, Digest("c" * 64), 2), None, media_type=OCI_MANIFEST
    )


def test_index_when_docker_list_is_read_then_platforms_are_there():
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
        ({"schemaVersion": "2"}, "schemaVersion: got string, wanted integer"),
        ({"schemaVersion": True}, "schemaVersion"),
        ({"schemaVersion": 3}, "schemaVersion: got 3"),
        ({"schemaVersion": 2.0}, "schemaVersion: got number, wanted integer"),
        ({"config": None}, "config: got nothing"),
        ({"config": []}, "config: got array"),
        ({"config": {**CONFIG, "digest": None}}, "config.digest: got nothing"),
        ({"config": {**CONFIG, "digest": "sha256:../../etc/passwd"}}, "digest"),
        ({"layers": {}}, "layers: got object"),
        ({"layers": [1]}, r"layers\[0\]: got number"),
        ({"layers": [ONE, {**ONE, "size": -1}]}, r"layers\[1\].size: got -1"),
        ({"layers": [{**ONE, "size": 1 << 63}]}, r"layers\[0\].size"),
        ({"layers": [{**ONE, "size": "10"}]}, r"layers\[0\].size: got string"),
        ({"layers": [ONE] * (MAX_ENTRIES + 1)}, "at most"),
        ({"layers": [{**ONE, "data": "e30"}]}, r"layers\[0\].data: got .* base64"),
        ({"annotations": {"a": 1}}, "annotations"),
        ({"annotations": dict.fromkeys(map(str, range(MAX_ENTRIES + 1)), "")}, "at most"),
        ({"manifests": [ONE]}, "manifests: a manifest cannot"),
        ({"mediaType": OCI_INDEX}, "mediaType: got .* the descriptor says"),
        ({"mediaType": 5}, "mediaType: got number"),
    ],
)
def test_parse_manifest_when_a_field_is_bad_then_the_refusal_names_it(change, says):
    with pytest.raises(FormatError, match=says) as refusal:
        parse_manifest(dump({**MANIFEST, **change}), OCI_MANIFEST)
    assert refusal.value.what in ("manifest", "digest")


def test_parse_manifest_when_an_index_has_layers_then_it_is_refused():
    with pytest.raises(FormatError, match="cannot have it"):
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
def test_parse_manifest_when_schema_is_1_then_it_is_unsupported(data, media_type):
    with pytest.raises(UnsupportedError, match="schema 1"):
        parse_manifest(data, media_type)


def test_parse_manifest_when_type_or_digest_is_not_an_images_then_it_is_unsupported():
    with pytest.raises(UnsupportedError, match="media type"):
        parse_manifest(dump(MANIFEST), "application/json")
    with pytest.raises(UnsupportedError, match="sha512"):
        parse_manifest(dump({**MANIFEST, "config": {**CONFIG, "digest": "sha512:" + "a" * 128}}))


def test_sniff_media_type_when_fields_look_like_none_then_it_is_refused():
    assert sniff_media_type(dump(INDEX)) == OCI_INDEX
    with pytest.raises(FormatError, match="neither"):
        sniff_media_type(b"{}")
