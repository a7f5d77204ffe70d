import json

import pytest

from support.images import make_image, put_index, referrer_to
from support.registry import digest_of
from support.registry_client import FakeTime, store_of
from tocsin.errors import (
    FormatError,
    NotFoundError,
    RegistryError,
    UnsupportedError,
    VerificationError,
)
from tocsin.images.walk import walk_manifests
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.manifest import ImageIndex
from tocsin.model.media_types import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from tocsin.model.reference import RegistryReference, parse_reference
from tocsin.stores.layout import OciLayout
from tocsin.stores.opening import open_sink
from tocsin.stores.registry import RegistryOptions, RegistryStore, open_registry

MANIFESTS = "/manifests/"


@pytest.fixture
def image(registry):
    made = make_image({"a": b"hello"}, {"b": b"world"})
    with store_of(registry) as store:
        made.put(store, "v1")
    registry.requests.clear()
    return made


# -- resolve and manifest --------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["tag", "digest", "only"])
def test_resolve_when_it_exists_then_one_head_request(registry, image, by):
    wanted = image.descriptor
    selector = {"tag": "v1", "digest": wanted.digest, "only": None}[by]
    with store_of(registry) as store:
        found = store.resolve(selector)
        assert (found.media_type, found.digest, found.size) == (
            OCI_MANIFEST,
            wanted.digest,
            wanted.size,
        )
        assert store.manifest(found) == image.manifest
    assert [r.method for r in registry.asked("HEAD")] == ["HEAD"]
    accept = registry.asked("HEAD")[0].headers["accept"]
    assert all(t in accept for t in (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX))


def test_resolve_when_the_response_has_no_digest_then_the_manifest_is_read(registry, image):
    registry.digest_header = False
    with store_of(registry) as store:
        assert store.resolve("v1") == image.descriptor
        assert store.resolve(image.descriptor.digest) == image.descriptor
    assert len(registry.asked("GET", MANIFESTS)) == 1


@pytest.mark.parametrize("status", [204, 400, 401, 403, 404, 405, 406, 429, 500, 501, 503])
def test_resolve_when_head_is_refused_then_one_get_decides(registry, image, status):
    time = FakeTime()
    registry.fault("HEAD", MANIFESTS, status=status, times=9)
    with store_of(registry, time=time) as store:
        assert store.resolve("v1") == image.descriptor
    assert [r.method for r in registry.requests] == ["HEAD", "GET"]
    assert time.slept == []


@pytest.mark.parametrize("status", [401, 403, 404, 429, 503])
def test_resolve_when_get_is_refused_too_then_its_error_is_reported(registry, image, status):
    """The response to HEAD has no body (RFC 9110, 9.3.2), and so no reason."""
    message = "You have reached your pull rate limit"
    body = json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": message}]}).encode()
    headers = {"WWW-Authenticate": 'Basic realm="r"'} if status == 401 else {}
    registry.fault("HEAD", MANIFESTS, status=status, times=9, headers=headers)
    registry.fault("GET", MANIFESTS, status=status, times=9, body=body, headers=headers)
    refused = pytest.raises((RegistryError, NotFoundError))
    with store_of(registry, username="a", password="b") as store, refused as caught:  # noqa: S106 (a fake)
        store.resolve("v1")
    assert f'HTTP {status} TOOMANYREQUESTS: "{message}"' in caught.value.message
    assert isinstance(caught.value, NotFoundError) == (status == 404)


def test_resolve_when_head_is_encoded_then_its_length_is_ignored(registry, image):
    headers = {
        "Content-Type": OCI_MANIFEST,
        "Content-Encoding": "gzip",
        "Content-Length": "17",
        "Docker-Content-Digest": str(image.descriptor.digest),
    }
    registry.fault("HEAD", MANIFESTS, status=200, headers=headers)
    with store_of(registry) as store:
        assert store.resolve("v1") == image.descriptor


@pytest.mark.parametrize("status", [400, 401, 403, 405, 429, 500, 501])
def test_has_blob_when_head_is_refused_then_get_decides(registry, image, status):
    registry.fault("HEAD", "/", status=status, times=99)
    other = Descriptor.of(b"other", "a/b")
    with store_of(registry) as store:
        blob = image.layers[0]
        layer = Descriptor.of(blob, "a/b") if isinstance(blob, bytes) else blob
        assert store.has_blob(layer)
        assert not store.has_blob(other)
        registry.fault("GET", "/blobs/", status=403)
        with pytest.raises(RegistryError, match="HTTP 403"):
            store.has_blob(other)


def test_resolve_when_the_media_type_is_generic_then_the_document_counts(registry, image):
    digest = str(image.descriptor.digest)
    registry.repository("team/app").manifests[digest] = ("text/plain", image.manifest)
    with store_of(registry) as store:
        assert store.resolve("v1") == image.descriptor


def test_resolve_when_missing_then_not_found(registry, image):
    with store_of(registry) as store:
        with pytest.raises(NotFoundError, match="team/app: tag v2: not found"):
            store.resolve("v2")
        with pytest.raises(NotFoundError, match="manifest sha256:0"):
            store.resolve(Digest("0" * 64))
        with pytest.raises(NotFoundError):
            store.manifest(Descriptor(OCI_MANIFEST, Digest("0" * 64), 10))


def test_resolve_when_several_tags_and_none_is_named_then_not_found(registry, image):
    registry.repository("team/app").tags["v2"] = str(image.descriptor.digest)
    with (
        store_of(registry) as store,
        pytest.raises(NotFoundError, match="contains 2 tags"),
    ):
        store.resolve(None)


def test_resolve_when_the_registry_names_another_digest_then_refused(registry, image):
    other = {"Docker-Content-Digest": digest_of(b"other"), "Content-Type": OCI_MANIFEST}
    registry.fault("HEAD", MANIFESTS, status=200, headers={**other, "Content-Length": "7"}, times=2)
    with store_of(registry) as store:
        with pytest.raises(VerificationError) as caught:
            store.resolve(image.descriptor.digest)
        assert caught.value.expected == str(image.descriptor.digest)
        lied = store.resolve("v1")
        with pytest.raises(NotFoundError):
            store.manifest(lied)


def test_resolve_when_the_manifest_has_another_digest_then_refused(registry, image):
    registry.fault("HEAD", MANIFESTS, status=405, times=2)
    registry.fault("GET", MANIFESTS, corrupt=True, times=2)
    with store_of(registry) as store:
        for selector in ("v1", image.descriptor.digest):
            with pytest.raises(VerificationError):
                store.resolve(selector)


def test_manifest_when_a_byte_differs_then_refused_and_not_repeated(registry, image):
    registry.fault("GET", MANIFESTS, corrupt=True)
    with store_of(registry) as store, pytest.raises(VerificationError):
        store.manifest(image.descriptor)
    assert len(registry.requests) == 1


def test_manifest_when_of_another_size_then_refused(registry, image):
    wrong = Descriptor(OCI_MANIFEST, image.descriptor.digest, image.descriptor.size + 1)
    with store_of(registry) as store, pytest.raises(VerificationError):
        store.manifest(wrong)


@pytest.mark.parametrize("announced", [True, False])
def test_manifest_when_too_large_then_it_is_not_read_to_its_end(registry, image, announced):
    headers = {"Content-Type": OCI_MANIFEST}
    if not announced:
        headers["Content-Length"] = "x"
    registry.fault("GET", MANIFESTS, status=200, body=b" " * (20 << 20), headers=headers)
    with store_of(registry) as store, pytest.raises(FormatError, match=r"too large .* 4194304"):
        store.manifest(image.descriptor)
    huge = Descriptor(OCI_MANIFEST, image.descriptor.digest, (4 << 20) + 1)
    with store_of(registry) as store, pytest.raises(FormatError, match="at most 4194304"):
        store.manifest(huge)


@pytest.mark.parametrize("kinds", [{"close_after": 50}, {"reset_after": 50}, {"length_delta": -9}])
def test_manifest_when_the_response_is_interrupted_then_repeated(registry, image, kinds):
    registry.fault("GET", MANIFESTS, times=2, **kinds)
    with store_of(registry) as store:
        if "length_delta" in kinds:
            with pytest.raises(VerificationError):
                store.manifest(image.descriptor)
        else:
            assert store.manifest(image.descriptor) == image.manifest


def test_manifest_when_of_a_foreign_type_then_it_is_in_accept(registry):
    data = b'{"odd":1}'
    odd = Descriptor.of(data, "application/vnd.odd+json")
    registry.repository("team/app").manifests[str(odd.digest)] = (odd.media_type, data)
    with store_of(registry) as store:
        assert store.manifest(odd) == data
    assert registry.requests[-1].headers["accept"].startswith("application/vnd.odd+json, ")


def test_walk_when_an_index_has_200_entries_then_all_are_read(registry):
    entries = []
    with store_of(registry, plain_http=True) as store:
        for number in range(200):
            data = referrer_to(Descriptor.of(b"%d" % number, OCI_MANIFEST), "a/b")
            registry.repository("team/app").blobs[digest_of(b"{}")] = b"{}"
            entry = Descriptor.of(data, OCI_MANIFEST)
            registry.repository("team/app").manifests[str(entry.digest)] = (OCI_MANIFEST, data)
            entries.append(entry)
        root = store.put_manifest(ImageIndex(tuple(entries)).to_json(), OCI_INDEX, tag="many")
        assert store.resolve("many") == root
        found = list(walk_manifests(store, root))
        assert [f.digest for f in found] == [e.digest for e in entries]
        for entry in found:
            store.manifest(entry)
    assert len(registry.accepted) == 1


# -- tags and deletion -----------------------------------------------------------------------------


def test_tags_when_in_pages_then_all_sorted(registry, image):
    registry.page_size = 7
    digest = str(image.descriptor.digest)
    registry.repository("team/app").tags = {f"t{i}": digest for i in range(200)}
    with store_of(registry) as store:
        assert store.tags() == sorted(f"t{i}" for i in range(200))
    assert len(registry.asked("GET", "tags/list")) == 29


def test_tags_when_the_page_size_is_refused_then_repeated_without_it(registry, image):
    registry.fault("GET", "/tags/list", status=400)
    with store_of(registry) as store:
        assert store.tags() == ["v1"]
    assert [r.query.get("n") for r in registry.asked("GET", "/tags/list")] == ["1000", None]


def test_tags_when_there_is_no_repository_then_none(registry):
    with store_of(registry, "new/one") as store:
        assert store.tags() == []


@pytest.mark.parametrize("tag", ["../../etc/passwd", "a b", "\x1b[31m", "", "x" * 129, 7, None])
def test_tags_when_a_name_is_malicious_then_refused(registry, tag):
    registry.fault("GET", "tags/list", status=200, body=json.dumps({"tags": ["ok", tag]}).encode())
    with (
        store_of(registry) as store,
        pytest.raises(FormatError, match=r"tags: (invalid tag|expected a list)"),
    ):
        store.tags()


@pytest.mark.parametrize("body", [b"", b"[]", b'{"tags":"a"}', b'{"tags":{"a":1}}'])
def test_tags_when_the_response_is_not_a_list_then_refused(registry, body):
    registry.fault("GET", "tags/list", status=200, body=body)
    with store_of(registry) as store, pytest.raises(FormatError):
        store.tags()


@pytest.mark.parametrize(
    ("link", "error", "problem"),
    [
        ("</v2/team/app/tags/list?n=1000>; rel=next", FormatError, "repeats an earlier page"),
        (
            "<http://elsewhere.invalid/v2/x>; rel=next",
            RegistryError,
            "the next page is on another host",
        ),
        ("<file:///etc/passwd>; rel=next", RegistryError, "refused"),
    ],
)
def test_tags_when_the_next_page_is_malicious_then_refused(registry, link, error, problem):
    registry.fault(
        "GET", "tags/list", status=200, body=b'{"tags":["a"]}', headers={"Link": link}, times=9
    )
    with store_of(registry) as store, pytest.raises(error, match=problem):
        store.tags()


def test_delete_when_it_exists_then_removed_otherwise_not_found(registry, image):
    layer = image.layer_descriptors[0]
    with store_of(registry) as store:
        store.tag(image.descriptor, "v2")
        store.delete_tag("v2")
        assert store.tags() == ["v1"]
        store.delete_blob(layer)
        assert not store.has_blob(layer)
        store.delete(image.descriptor)
        assert store.tags() == []
        with pytest.raises(NotFoundError):
            store.delete_tag("v1")
        with pytest.raises(NotFoundError):
            store.delete_blob(layer)
        with pytest.raises(NotFoundError):
            store.delete(image.descriptor)


def test_delete_when_disabled_then_a_hint(registry, image):
    registry.fault("DELETE", MANIFESTS, status=405)
    with store_of(registry) as store, pytest.raises(RegistryError, match="HTTP 405") as caught:
        store.delete(image.descriptor)
    assert caught.value.hint == "Check that deletion is enabled in this registry."


# -- has_blob and opening --------------------------------------------------------------------------


def test_has_blob_when_blob_or_manifest_then_digest_and_size_decide(registry, image):
    layer = image.layer_descriptors[0]
    with store_of(registry) as store:
        assert store.has_blob(layer)
        assert store.has_blob(image.descriptor)
        assert not store.has_blob(Descriptor(layer.media_type, layer.digest, layer.size + 1))
        assert not store.has_blob(Descriptor(layer.media_type, Digest("0" * 64), layer.size))
    assert all(r.method == "HEAD" for r in registry.requests)


def test_open_sink_when_a_registry_then_no_request_until_used(registry):
    reference = parse_reference(f"docker://{registry.host}/team/app:v1")
    with open_sink(reference, registry=RegistryOptions(jobs=2)) as store:
        assert isinstance(store, RegistryStore)
        assert store.name == f"docker://{registry.host}/team/app"
        assert registry.requests == []
        put_index(store, {"linux/amd64": make_image()}, reference.tag)
    with open_registry(reference) as store:
        assert store.resolve("v1").media_type == OCI_INDEX


def test_copy_when_from_registry_to_layout_then_the_same_bytes(registry, image, tmp_path):
    with store_of(registry) as store, OciLayout(tmp_path / "l", write=True) as layout:
        for descriptor in (*image.layer_descriptors,):
            layout.put_blob(store.blob(descriptor), digest=descriptor.digest, size=descriptor.size)
            assert b"".join(layout.blob(descriptor)) == b"".join(store.blob(descriptor))


@pytest.mark.parametrize("host", ["host:99999", "a/b", "a?b", "a#b", "a\\b", "user@host", ""])
def test_open_registry_when_the_host_is_invalid_then_an_error(host):
    with pytest.raises(RegistryError):
        open_registry(RegistryReference(host, "x"))


def test_manifest_when_docker_schema_1_then_unsupported(registry):
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    data = b'{"schemaVersion":1}'
    registry.repository("team/app").manifests[digest_of(data)] = (kind, data)
    registry.repository("team/app").tags["old"] = digest_of(data)
    with store_of(registry) as store:
        found = store.resolve("old")
        assert found.media_type == kind
        with pytest.raises(UnsupportedError, match="schema 1"):
            list(walk_manifests(store, found)) and store.put_manifest(data, kind)


def test_errors_when_requests_are_repeated_then_tests_do_not_sleep(registry):
    time = FakeTime()
    registry.fault("GET", MANIFESTS, status=503, times=4)
    with store_of(registry, time=time) as store, pytest.raises(NotFoundError):
        store.resolve("x")
    assert len(time.slept) == 4
