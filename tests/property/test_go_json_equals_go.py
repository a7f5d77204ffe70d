"""Decoding and encoding gives the same bytes as Go's ``encoding/json`` for any document."""

import base64
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.gojson import build_gojson
from tocsin.errors import TocsinError
from tocsin.model.go_json import decode_object, encode, sorted_map
from tocsin.model.manifest import ImageIndex, Manifest

texts = st.text(st.characters(), max_size=12) | st.sampled_from(
    ["a<b>&c", "\u2028\u2029", "\x7f", "\b\f\v\x00", "\ud800", "\udc00\ud800", '/+\\"']
)
maps = st.dictionaries(texts, texts, max_size=4)
digests = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)
platforms = st.fixed_dictionaries(
    {},
    optional={
        "architecture": texts,
        "os": texts | st.none(),
        "os.version": texts,
        "os.features": st.lists(texts, max_size=2),
        "variant": texts,
    },
)
descriptors = st.fixed_dictionaries(
    {"digest": digests},
    optional={
        "mediaType": texts | st.none(),
        "size": st.integers(0, (1 << 63) - 1),
        "urls": st.lists(texts, max_size=2) | st.none(),
        "annotations": maps | st.none(),
        "data": st.binary(max_size=9).map(lambda b: base64.b64encode(b).decode()),
        "platform": platforms | st.none(),
        "artifactType": texts,
        "unknown": st.recursive(
            texts | st.floats(allow_nan=False, allow_infinity=False), st.lists, max_leaves=4
        ),
    },
)
rest = {
    "artifactType": texts,
    "subject": descriptors | st.none(),
    "annotations": maps | st.none(),
    "Unknown": texts,
}
manifests = st.fixed_dictionaries(
    {"schemaVersion": st.just(2), "config": descriptors},
    optional={"layers": st.lists(descriptors, max_size=3) | st.none(), **rest},
)
indexes = st.fixed_dictionaries(
    {"schemaVersion": st.just(2)},
    optional={"manifests": st.lists(descriptors, max_size=3) | st.none(), **rest},
)
shuffled = st.randoms(use_true_random=False)


@pytest.fixture(scope="module")
def go(tmp_path_factory):
    program = build_gojson(tmp_path_factory.mktemp("gojson"))
    yield program
    program.close()


def spell(value, ascii_only: bool) -> bytes:
    """Encode JSON with or without escapes; lone surrogates are always escaped."""
    try:
        return json.dumps(value, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


relaxed = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@relaxed
@given(manifests, st.booleans())
def test_manifest_when_reencoded_then_bytes_equal_those_of_go(go, value, ascii_only):
    document = spell(value, ascii_only)
    assert Manifest.from_json(document).to_json() == go.ask("manifest", document)


@relaxed
@given(indexes, st.booleans())
def test_index_when_reencoded_then_bytes_equal_those_of_go(go, value, ascii_only):
    document = spell(value, ascii_only)
    assert ImageIndex.from_json(document).to_json() == go.ask("index", document)


@relaxed
@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=5), st.booleans())
def test_map_when_encoded_then_bytes_equal_those_of_go(go, value, ascii_only):
    assert encode(sorted_map(value)) == go.ask("any", spell(value, ascii_only))


@relaxed
@given(st.binary(max_size=12))
def test_text_when_bytes_are_not_utf8_then_replaced_as_in_go(go, noise):
    document = b'{"k":"' + noise + b'"}'
    answer = go.ask("any", document)
    try:
        ours = encode(decode_object(document, what="manifest"))
    except TocsinError:
        ours = None
    if answer is not None and b'"k":' in answer and len(json.loads(answer)) == 1:
        assert ours == answer


@relaxed
@given(manifests, st.integers(0, 10_000), st.binary(min_size=1, max_size=2))
def test_manifest_when_damaged_then_rejected_or_decoded_as_in_go(go, value, at, noise):
    document = bytearray(json.dumps(value).encode())
    at %= len(document)
    document[at : at + len(noise)] = noise
    try:
        ours = Manifest.from_json(bytes(document)).to_json()
    except TocsinError:
        return
    assert ours == go.ask("manifest", bytes(document))
