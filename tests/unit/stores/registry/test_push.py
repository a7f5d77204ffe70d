import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.images import make_image, referrer_to
from support.registry_client import FakeTime, noise, store_of
from tocsin.errors import AuthError, FormatError, RegistryError, VerificationError
from tocsin.images.copying import copy_blob
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.media_types import OCI_MANIFEST, OCTET_STREAM
from tocsin.stores.base import MustStream, TakenOver
from tocsin.stores.layout import OciLayout
from tocsin.stores.registry import push
from tocsin.stores.registry.endpoint import PUSH_AGAIN

UPLOADS = "/blobs/uploads/"
SMALL = b"small" * 1000
ALICE = {"username": "alice", "password": "secret"}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(push, "CHUNK_SIZE", 100_000)
    monkeypatch.setattr(push, "MAX_CHUNK_SIZE", 400_000)


@pytest.fixture
def data():
    return noise(350_000)


def pieces(data, size=30_000):
    """Return an iterator, which can be read only once."""
    return (data[at : at + size] for at in range(0, len(data), size))


def stored(registry):
    return list(registry.repository("team/app").blobs.values())


def uploads(registry, method):
    return registry.asked(method, UPLOADS)


# -- methods of upload -----------------------------------------------------------------------------


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("form", ["bytes", "iterable"])
def test_put_blob_when_small_then_one_put(registry, form, relative):
    registry.relative_locations = relative
    with store_of(registry) as store:
        put = store.put_blob(SMALL if form == "bytes" else pieces(SMALL, 999), media_type="a/b")
    assert put == Descriptor.of(SMALL, "a/b")
    assert stored(registry) == [SMALL]
    assert [r.method for r in registry.requests] == ["HEAD", "POST", "PUT"]
    assert registry.requests[-1].query == {
        "_state": "state-secret-0",
        "digest": str(put.digest),
    }


def test_put_blob_when_bytes_are_large_then_still_one_put(registry, data):
    with store_of(registry) as store:
        store.put_blob(data)
    assert uploads(registry, "PATCH") == []
    assert stored(registry) == [data]


@pytest.mark.parametrize("size", [100_000, 100_001, 200_000, 350_000])
@pytest.mark.parametrize("promised", [True, False])
def test_put_blob_when_a_stream_is_long_then_in_chunks(registry, data, size, promised):
    data = data[:size]
    wanted = Descriptor.of(data, "a/b")
    promise = {"digest": wanted.digest, "size": size} if promised else {}
    with store_of(registry) as store:
        assert store.put_blob(pieces(data), media_type="a/b", **promise) == wanted
    assert stored(registry) == [data]
    chunks = uploads(registry, "PATCH")
    assert len(chunks) == (0 if size == 100_000 else -(-size // 100_000))
    ranges = [r.headers["content-range"] for r in chunks]
    assert ranges == [
        f"{at}-{min(at + 100_000, size) - 1}" for at in range(0, size, 100_000) if chunks
    ]
    assert [r.query["_state"] for r in chunks] == [
        f"state-secret-{at}" for at in range(0, size, 100_000) if chunks
    ]


def test_put_blob_when_empty_then_stored(registry):
    with store_of(registry) as store:
        assert store.put_blob(b"").size == 0
        assert store.put_blob(iter(())).size == 0
    assert stored(registry) == [b""]


def test_put_blob_when_it_exists_then_not_sent_but_verified(registry, data):
    wanted = Descriptor.of(data, "a/b")
    registry.repository("team/app").blobs[str(wanted.digest)] = data
    source = pieces(data)
    with store_of(registry) as store:
        assert store.put_blob(source, digest=wanted.digest, size=wanted.size).size == len(data)
        assert next(source, None) is None
        store.put_blob(data)
        with pytest.raises(VerificationError):
            store.put_blob(pieces(data[:-1]), digest=wanted.digest, size=wanted.size)
    assert {r.method for r in registry.requests} == {"HEAD"}


def test_put_blob_when_the_registry_requires_larger_chunks_then_used(registry, data):
    registry.chunk_minimum = 150_000
    with store_of(registry) as store:
        store.put_blob(pieces(data))
    assert [len(r.body) for r in uploads(registry, "PATCH")] == [150_000, 150_000, 50_000]
    assert stored(registry) == [data]


@pytest.mark.parametrize("form", [pieces, bytes])
def test_put_blob_when_chunks_have_a_minimum_then_each_is_a_multiple_of_it(registry, data, form):
    registry.chunk_minimum = 60_000
    registry.single_put = False
    with store_of(registry) as store:
        store.put_blob(form(data))
    assert stored(registry) == [data]
    sizes = [len(r.body) for r in uploads(registry, "PATCH")]
    assert sizes == [120_000, 120_000, 110_000]


@pytest.mark.parametrize("promised", [True, False])
@pytest.mark.parametrize("why", ["refuses chunks", "wants huge chunks"])
def test_put_blob_when_chunks_are_refused_then_one_long_request(registry, data, promised, why):
    registry.chunks = why != "refuses chunks"
    registry.chunk_minimum = 0 if why == "refuses chunks" else 1 << 30
    wanted = Descriptor.of(data, "a/b")
    promise = {"digest": wanted.digest, "size": wanted.size} if promised else {}
    with store_of(registry) as store:
        for _ in range(2):
            store.put_blob(pieces(data), **promise)
            registry.repository("team/app").blobs.clear()
        store.put_blob(pieces(data), **promise)
    assert stored(registry) == [data]
    refused = [r for r in uploads(registry, "PATCH") if "content-range" in r.headers]
    assert len(refused) == (1 if why == "refuses chunks" else 0)  # the refusal is remembered
    long = uploads(registry, "PUT" if promised else "PATCH")[-1]
    assert long.body == data
    assert ("content-length" in long.headers) == promised


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 411, 413, 415, 416, 501])
def test_put_blob_when_a_single_put_is_refused_then_in_chunks(registry, data, status):
    registry.fault("PUT", UPLOADS, status=status)
    with store_of(registry) as store:
        store.put_blob(data)
        store.put_blob(SMALL)
    assert stored(registry) == [data, SMALL]
    assert [len(r.body) for r in uploads(registry, "PUT")] == [len(data), 0, 0]  # remembered
    assert registry.uploads == {}


def test_put_blob_when_a_single_put_fails_once_then_used_for_the_next(registry):
    registry.fault("PUT", UPLOADS, status=503)
    with store_of(registry) as store:
        store.put_blob(SMALL)
        store.put_blob(SMALL + b"2")
    assert [bool(r.body) for r in uploads(registry, "PUT")] == [True, False, True]


def test_put_blob_when_all_methods_are_refused_then_the_last_is_reported(registry):
    def says(words):
        return {"body": json.dumps({"errors": [{"code": "DENIED", "message": words}]}).encode()}

    registry.fault("PUT", UPLOADS, status=403, times=9, **says("not this way"))
    registry.fault("PATCH", UPLOADS, status=403, times=9, **says("quota exceeded"))
    with store_of(registry) as store, pytest.raises(AuthError) as caught:
        store.put_blob(SMALL)
    assert '"quota exceeded"' in caught.value.message
    assert caught.value.code == "DENIED"
    assert registry.uploads == {}


@pytest.mark.parametrize("status", [401, 403, 404, 405, 500, 501])
def test_put_blob_when_the_first_chunk_is_refused_then_one_long_request(registry, data, status):
    promised = Descriptor.of(data, OCTET_STREAM)
    registry.fault("PATCH", UPLOADS, status=status, times=99)
    with store_of(registry) as store:
        store.put_blob(pieces(data), digest=promised.digest, size=promised.size)
    assert stored(registry) == [data]


@pytest.mark.parametrize("status", [400, 401, 403, 405, 429, 500, 501, 503])
def test_put_blob_when_head_is_refused_then_it_is_sent(registry, data, status):
    registry.fault("HEAD", "/blobs/", status=status, times=99)
    with store_of(registry) as store:
        for source in (SMALL, data, pieces(data)):
            store.put_blob(source)
    assert stored(registry) == [SMALL, data]
    assert registry.asked("GET", "/blobs/sha256:") == []


def test_put_blob_when_larger_than_a_chunk_then_at_most_two_are_held(registry, data):
    taken = 0
    held = []

    def source():
        nonlocal taken
        for piece in pieces(data, 10_000):
            taken += len(piece)
            held.append(taken - sum(len(r.body) for r in uploads(registry, "PATCH")))
            yield piece

    with store_of(registry) as store:
        store.put_blob(source())
    assert max(held) <= 120_000


# -- expected digest and size ----------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [True, False])
@pytest.mark.parametrize("size", [5_000, 350_000])
@pytest.mark.parametrize("wrong", ["digest", "size", "longer"])
def test_put_blob_when_digest_or_size_differs_then_nothing_is_stored(
    registry, data, size, wrong, chunks
):
    registry.chunks = chunks
    data = data[:size]
    digest = Digest("1" * 64) if wrong == "digest" else Digest.of(data)
    promised_size = {"digest": size, "size": size + 1, "longer": size - 1}[wrong]
    with store_of(registry) as store:
        for source in (data, pieces(data)):
            with pytest.raises(VerificationError):
                store.put_blob(source, digest=digest, size=promised_size)
    assert stored(registry) == []
    assert registry.uploads == {}


@pytest.mark.parametrize("chunks", [True, False])
@pytest.mark.parametrize(
    "error", [RegistryError("source"), OSError("source"), ValueError("source")]
)
def test_put_blob_when_the_source_fails_then_its_error_is_raised(registry, data, error, chunks):
    registry.chunks = chunks

    def source():
        yield from pieces(data)
        raise error

    with store_of(registry) as store, pytest.raises(type(error), match=r"^source$"):
        store.put_blob(source())
    assert stored(registry) == []


def test_put_blob_when_the_registry_names_another_digest_then_refused(registry):
    other = {"Docker-Content-Digest": f"sha256:{'2' * 64}"}
    registry.fault("PUT", UPLOADS, status=201, headers=other)
    with store_of(registry) as store, pytest.raises(VerificationError):
        store.put_blob(SMALL)


# -- broken uploads --------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 1, 70_000])
@pytest.mark.parametrize("skip", [0, 1, 3])
def test_put_blob_when_a_chunk_fails_then_resumed_at_the_registrys_offset(
    registry, data, skip, kept
):
    if skip == 0 and kept == 1:
        kept = 2  # 0-0 would mean no byte or one byte
    kept = min(kept, 40_000) if skip == 3 else kept
    registry.fault("PATCH", UPLOADS, skip=skip, keep=kept)
    with store_of(registry) as store:
        store.put_blob(pieces(data))
    assert stored(registry) == [data]
    assert len(uploads(registry, "GET")) == 1
    starts = [int(r.headers["content-range"].split("-")[0]) for r in uploads(registry, "PATCH")]
    assert skip * 100_000 + kept in starts


@pytest.mark.parametrize("kinds", [{"drop_answer": True}, {"status": 503}, {"drop": True}])
def test_put_blob_when_the_response_to_a_chunk_is_lost_then_not_sent_twice(registry, data, kinds):
    registry.fault("PATCH", UPLOADS, skip=1, **kinds)
    with store_of(registry) as store:
        store.put_blob(pieces(data))
    assert stored(registry) == [data]


def test_put_blob_when_retry_after_then_the_chunk_is_repeated(registry, data):
    registry.fault("PATCH", UPLOADS, status=429, headers={"Retry-After": "3"}, times=2)
    time = FakeTime()
    with store_of(registry, time=time) as store:
        store.put_blob(pieces(data))
    assert stored(registry) == [data]
    assert time.slept == [3.0, 3.0]
    assert uploads(registry, "GET") == []


def lose_sessions(registry):
    registry.uploads.clear()


@pytest.mark.parametrize("form", [lambda data: list(pieces(data)), lambda data: data])
def test_put_blob_when_the_session_is_lost_then_repeated_if_possible(registry, data, form):
    method = "PATCH" if isinstance(form(data), list) else "PUT"
    skip = 2 if method == "PATCH" else 0
    registry.fault(method, UPLOADS, skip=skip, before=lambda: lose_sessions(registry))
    with store_of(registry) as store:
        store.put_blob(form(data))
    assert stored(registry) == [data]
    assert len(uploads(registry, "POST")) == 2


def test_put_blob_when_an_empty_session_is_lost_then_started_again(registry, data):
    registry.fault("PATCH", UPLOADS, before=lambda: lose_sessions(registry), times=2)
    with store_of(registry) as store:
        store.put_blob(pieces(data))
    assert stored(registry) == [data]


def test_put_blob_when_session_and_source_are_lost_then_an_error(registry, data):
    registry.fault("PATCH", UPLOADS, skip=1, before=lambda: lose_sessions(registry))
    lost = pytest.raises(RegistryError, match=r"lost the session after ")
    with store_of(registry) as store, lost as caught:
        store.put_blob(pieces(data))
    assert caught.value.temporary
    assert caught.value.code == "BLOB_UPLOAD_UNKNOWN"
    assert caught.value.hint == PUSH_AGAIN
    assert stored(registry) == []


def test_put_blob_when_sessions_are_always_lost_then_an_error(registry, data):
    for method in ("PATCH", "PUT"):
        registry.fault(method, UPLOADS, before=lambda: lose_sessions(registry), times=999)
    with store_of(registry) as store:
        for source in (data, list(pieces(data)), pieces(data)):
            with pytest.raises(RegistryError, match="lost the session"):
                store.put_blob(source)
    assert len(registry.requests) < 100


@pytest.mark.parametrize("kinds", [{"drop_answer": True}, {"drop": True}, {"status": 502}])
@pytest.mark.parametrize("size", [5_000, 350_000])
def test_put_blob_when_the_last_response_is_lost_then_existence_is_checked(
    registry, data, size, kinds
):
    registry.fault("PUT", UPLOADS, **kinds)
    with store_of(registry) as store:
        store.put_blob(pieces(data[:size]))
    assert stored(registry) == [data[:size]]


@pytest.mark.parametrize("skip", [0, 1])
def test_put_blob_when_no_progress_is_made_then_an_error(registry, data, skip):
    registry.fault("PATCH", UPLOADS, skip=skip, status=503, times=99)
    says = "no progress at byte 100000" if skip else "one request: HTTP 503"
    with store_of(registry) as store, pytest.raises(RegistryError, match=says):
        store.put_blob(pieces(data))
    assert len(uploads(registry, "PATCH")) == 6
    assert registry.uploads == {}


def test_put_blob_when_the_token_expires_between_chunks_then_renewed(registry, data):
    registry.auth = "token"
    registry.fault("PATCH", UPLOADS, skip=1, before=registry.tokens.clear)
    with store_of(registry, username="alice", password="secret") as store:  # noqa: S106 (a fake)
        store.put_blob(pieces(data))
    assert stored(registry) == [data]


def test_put_blob_when_not_allowed_then_an_auth_error(registry, data):
    registry.auth = "basic"
    with (
        store_of(registry) as store,
        pytest.raises(AuthError, match="denied for scope repository:team/app:pull,push"),
    ):
        store.put_blob(pieces(data))
    registry.auth = None
    registry.fault("POST", UPLOADS, status=403, times=9)
    with store_of(registry) as store, pytest.raises(AuthError, match="start upload: HTTP 403"):
        store.put_blob(pieces(data))


def test_put_blob_when_in_many_threads_then_all_are_stored(registry):
    blobs = [noise(250_000, seed=i) for i in range(12)]
    with store_of(registry) as store, ThreadPoolExecutor(6) as pool:
        put = list(pool.map(lambda blob: store.put_blob(pieces(blob)), blobs))
    assert [p.digest for p in put] == [Digest.of(blob) for blob in blobs]
    assert sorted(stored(registry)) == sorted(blobs)


@pytest.mark.parametrize("fault", [{"status": 400}, {"status": 413}])
def test_put_blob_when_a_later_chunk_is_refused_then_sent_in_one_request(registry, data, fault):
    registry.fault("PATCH", UPLOADS, skip=1, **fault)
    registry.fault("PATCH", UPLOADS, skip=1, **fault)
    with store_of(registry) as store, pytest.raises(RegistryError) as caught:
        store.put_blob(pieces(data))
    assert caught.value.status == fault["status"]
    assert registry.uploads == {}
    with store_of(registry) as store:
        store.put_blob(list(pieces(data)))
    assert stored(registry) == [data]
    assert uploads(registry, "PATCH")[-1].body == data


def test_copy_blob_when_a_second_chunk_is_refused_then_read_again(registry, elsewhere, data):
    """Some registries accept only one PATCH per session."""
    blob = Descriptor.of(data, OCTET_STREAM)
    elsewhere.repository("team/app").blobs[str(blob.digest)] = data
    registry.fault("PATCH", UPLOADS, skip=1, status=416, times=99)
    with store_of(registry) as store, store_of(elsewhere) as source:
        copy_blob(source, store, blob)
    assert stored(registry) == [data]
    assert len(elsewhere.asked("GET", "/blobs/")) == 2


def test_put_blob_when_part_of_a_chunk_is_accepted_then_the_rest_is_sent(registry, data):
    taken = 40_000

    def take_part():
        [session] = registry.uploads
        registry.uploads[session] += data[:taken]
        part.headers["Location"] = f"/v2/team/app/blobs/uploads/{session}"

    part = registry.fault("PATCH", UPLOADS, status=202, before=take_part)
    part.headers["Range"] = f"0-{taken - 1}"
    with store_of(registry) as store:
        store.put_blob(pieces(data))
    assert stored(registry) == [data]
    assert uploads(registry, "PATCH")[1].headers["content-range"] == "40000-99999"


def test_put_blob_when_out_of_order_then_the_offset_is_requested(registry, data):
    registry.fault("PATCH", UPLOADS, skip=1, status=416)
    with store_of(registry) as store:
        store.put_blob(pieces(data))
    assert stored(registry) == [data]
    assert len(uploads(registry, "GET")) == 1


@pytest.mark.parametrize(
    "status", [{"status": 404}, {"status": 405}, {"status": 204}, {"status": 204, "range": "0-5"}]
)
def test_put_blob_when_the_offset_is_unknown_then_started_again(registry, data, status):
    headers = {"Range": status.pop("range", "nonsense")}
    registry.fault("PATCH", UPLOADS, skip=2, keep=10)
    registry.fault("GET", UPLOADS, headers=headers, **status)
    with store_of(registry) as store:
        store.put_blob(list(pieces(data)))
    assert stored(registry) == [data]
    assert len(uploads(registry, "POST")) == 2


@pytest.mark.parametrize("promised", [True, False])
@pytest.mark.parametrize("fault", [{"drop": True}, {"status": 503}, {"status": 404}])
def test_put_blob_when_the_long_request_fails_then_repeated_if_possible(
    registry, data, promised, fault
):
    registry.chunk_minimum = 1 << 30
    wanted = Descriptor.of(data, "a/b")
    promise = {"digest": wanted.digest, "size": wanted.size} if promised else {}
    method = "PUT" if promised else "PATCH"
    registry.fault(method, UPLOADS, **fault)
    with store_of(registry) as store:
        store.put_blob(list(pieces(data)), **promise)
        assert stored(registry) == [data]
        registry.repository("team/app").blobs.clear()
        registry.fault(method, UPLOADS, **fault)
        with pytest.raises(RegistryError, match="lost the session") as caught:
            store.put_blob(pieces(data), **promise)
    assert caught.value.temporary
    assert stored(registry) == []


def test_put_blob_when_the_registry_finds_another_digest_then_refused(registry, data):
    body = b'{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}'
    registry.fault("PUT", UPLOADS, status=400, body=body, times=3)
    with store_of(registry) as store:
        for source in (data, pieces(data)):
            with pytest.raises(RegistryError) as caught:
                store.put_blob(source)
            assert caught.value.code == "DIGEST_INVALID"
    assert registry.uploads == {}


# -- malicious Locations ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "location",
    ["", "file:///etc/passwd", "http://u:p@127.0.0.1/x", "ftp://x/", "a b", "x" * 20_000],
)
def test_put_blob_when_the_location_is_malicious_then_refused(registry, location):
    registry.fault("POST", UPLOADS, status=202, headers={"Location": location})
    with (
        store_of(registry) as store,
        pytest.raises(RegistryError, match=r"refused|Location is missing"),
    ):
        store.put_blob(SMALL)
    assert uploads(registry, "PUT") == []


def test_put_blob_when_location_is_on_another_host_then_no_authorization(registry, elsewhere):
    registry.auth = "token"
    elsewhere.uploads["there"] = bytearray()
    location = f"{elsewhere.url}/v2/team/app/blobs/uploads/there?sig=signed-secret"
    registry.fault("POST", UPLOADS, status=202, headers={"Location": location})
    with store_of(registry, username="alice", password="secret") as store:  # noqa: S106 (a fake)
        store.put_blob(SMALL)
    assert stored(elsewhere) == [SMALL]
    assert all("authorization" not in r.headers for r in elsewhere.requests)


def test_put_blob_when_redirected_then_with_body_and_no_authorization(registry, elsewhere):
    registry.auth = "basic"
    elsewhere.uploads["there"] = bytearray()
    digest = Digest.of(SMALL)
    location = f"{elsewhere.url}/v2/team/app/blobs/uploads/there?digest={digest}"
    registry.fault("PUT", UPLOADS, status=307, headers={"Location": location})
    with store_of(registry, username="alice", password="secret") as store:  # noqa: S106 (a fake)
        store.put_blob(SMALL)
    assert stored(elsewhere) == [SMALL]
    assert all("authorization" not in r.headers for r in elsewhere.requests)


def test_put_blob_when_the_upload_is_redirected_by_303_then_refused(registry):
    registry.fault("PUT", UPLOADS, status=303, headers={"Location": "/elsewhere"}, times=2)
    with store_of(registry) as store, pytest.raises(RegistryError, match="is not allowed for PUT"):
        store.put_blob(SMALL)


# -- mounts ----------------------------------------------------------------------------------------


def test_take_over_when_in_the_same_registry_then_no_bytes_are_transferred(registry, data):
    blob = Descriptor.of(data, "a/b")
    registry.repository("team/base").blobs[str(blob.digest)] = data
    with store_of(registry) as store, store_of(registry, "team/base") as base:
        assert store.take_over(blob, base.origin) == TakenOver()
        assert store.has_blob(blob)
    assert stored(registry) == [data]
    assert [r.method for r in registry.requests] == ["POST", "HEAD"]
    assert registry.requests[0].query == {"mount": str(blob.digest), "from": "team/base"}


@pytest.mark.parametrize("why", ["accepted", 404, 405, 400, 401, 403, 429, 500, 501, 503])
def test_take_over_when_a_mount_is_refused_then_it_is_not_tried_again(registry, data, why):
    blob = Descriptor.of(data, "a/b")
    registry.repository("team/base").blobs[str(blob.digest)] = data
    registry.mounts = False
    if why != "accepted":
        registry.fault("POST", UPLOADS, status=why, times=9)
    with store_of(registry) as store, store_of(registry, "team/base") as base:
        for _ in range(2):
            assert store.take_over(blob, base.origin) == MustStream()
    assert registry.uploads == {}
    assert len(uploads(registry, "POST")) == (5 if why in (429, 500, 503) else 1)


def test_take_over_when_the_token_server_refuses_two_scopes_then_uploaded(registry, data):
    """Amazon's and some small token servers accept only one scope per request."""
    registry.auth = "token"
    blob = Descriptor.of(data, "a/b")
    registry.repository("team/base").blobs[str(blob.digest)] = data
    with store_of(registry, write=True, **ALICE) as store, store_of(registry, "team/base") as base:
        store.put_blob(SMALL)
        registry.fault("GET", "^/token", status=400, times=9)
        assert store.take_over(blob, base.origin) == MustStream()
        assert store.put_blob(data) == Descriptor.of(data, OCTET_STREAM)
    assert stored(registry) == [SMALL, data]


def test_take_over_when_in_another_registry_then_no_request_is_sent(
    registry, elsewhere, data, tmp_path
):
    blob = Descriptor.of(data, "a/b")
    with store_of(registry) as store, store_of(elsewhere) as other:
        assert store.take_over(blob, other.origin) == MustStream()
        with OciLayout(tmp_path / "l", write=True) as layout:
            assert store.take_over(blob, layout.origin) == MustStream()
    assert registry.requests == []


def test_take_over_when_the_same_repository_then_only_checked(registry, data):
    blob = Descriptor.of(data, "a/b")
    with store_of(registry) as store, store_of(registry) as same:
        assert store.take_over(blob, same.origin) == MustStream()
        same.put_blob(data)
        assert store.take_over(blob, same.origin) == TakenOver()


# -- manifests -------------------------------------------------------------------------------------


def test_put_manifest_when_with_and_without_tag_then_found(registry):
    image = make_image()
    with store_of(registry) as store:
        put = image.put(store)
        assert put == image.descriptor
        assert store.tags() == []
        store.tag(put, "a")
        assert image.put(store, "b") == put
        assert store.tags() == ["a", "b"]
        assert store.resolve("a") == put


@pytest.mark.parametrize("kinds", [{"drop": True}, {"drop_answer": True}, {"status": 500}])
def test_put_manifest_when_the_connection_is_lost_then_repeated(registry, kinds):
    image = make_image()
    registry.fault("PUT", "/manifests/", times=3, **kinds)
    with store_of(registry) as store:
        image.put(store, "v1")
        assert store.resolve("v1") == image.descriptor


def test_put_manifest_when_digest_invalid_by_a_race_then_repeated(registry):
    image = make_image()
    registry.refused_manifests = 3
    with store_of(registry) as store:
        image.put(store, "v1")
        assert store.resolve("v1") == image.descriptor


def test_put_manifest_when_digest_invalid_persists_then_an_error(registry):
    registry.refused_manifests = 1000
    with store_of(registry) as store, pytest.raises(RegistryError) as error:
        make_image().put(store, "v1")
    assert error.value.code == "DIGEST_INVALID"


def test_put_manifest_when_the_type_is_refused_then_an_error_with_a_hint(registry):
    image = make_image()
    registry.refused_types = {OCI_MANIFEST}
    with store_of(registry) as store, pytest.raises(RegistryError) as caught:
        image.put(store, "v1")
    assert caught.value.code == "MANIFEST_INVALID"
    says = f'as tag v1 ({OCI_MANIFEST}): HTTP 400 MANIFEST_INVALID: "no"'
    assert str(caught.value).endswith(says)
    assert caught.value.hint.startswith("Check that this registry accepts such manifests, ")


def test_put_manifest_when_artifacts_are_refused_then_an_error_with_a_hint(registry):
    image = make_image()
    kind = "application/vnd.amazon.soci.index.v1+json"
    registry.refuses_artifacts = True
    registry.repository("team/app").blobs[str(Digest.of(b"{}"))] = b"{}"
    with store_of(registry) as store:
        image.put(store, "v1")
        before = dict(registry.repository("team/app").manifests)
        says = re.escape(f"(artifact of type {kind}): HTTP 400 ")
        with pytest.raises(RegistryError, match=says) as caught:
            store.put_manifest(referrer_to(image.descriptor, kind), OCI_MANIFEST)
        assert caught.value.hint.startswith("Check that this registry accepts such artifacts, ")
        assert registry.repository("team/app").manifests == before
        assert store.tags() == ["v1"]
        assert store.referrers(image.descriptor.digest) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", UPLOADS), ("PATCH", UPLOADS), ("PUT", UPLOADS), ("PUT", "/manifests/")],
)
def test_put_when_the_registry_is_down_then_the_hint_is_to_push_again(registry, method, path):
    body = b'{"errors":[{"message":"storage is full; run curl x | sh"}]}'
    registry.fault(method, path, status=503, body=body, times=99)

    def put(store):
        make_image().put(store, "v1")
        store.put_blob(pieces(bytes(20 << 20)))

    with store_of(registry) as store, pytest.raises(RegistryError) as caught:
        put(store)
    assert caught.value.temporary
    assert '"storage is full; run curl x | sh"' in caught.value.message
    assert caught.value.hint == PUSH_AGAIN


def test_put_blob_when_the_source_fails_then_the_error_has_no_push_hint(registry):
    failure = RegistryError("docker://elsewhere/x: timed out", temporary=True)

    def broken():
        yield bytes(20 << 20)
        raise failure

    with store_of(registry) as store, pytest.raises(RegistryError) as caught:
        store.put_blob(broken())
    assert caught.value is failure
    assert caught.value.hint is None


def test_put_manifest_when_the_registry_names_another_digest_then_refused(registry):
    other = {"Docker-Content-Digest": f"sha256:{'2' * 64}"}
    registry.fault("PUT", "/manifests/", status=201, headers=other)
    with store_of(registry) as store, pytest.raises(VerificationError):
        make_image().put(store)


def test_put_manifest_when_not_a_manifest_then_nothing_is_sent(registry):
    with store_of(registry) as store:
        with pytest.raises(FormatError):
            store.put_manifest(b"{}", OCI_MANIFEST)
        with pytest.raises(FormatError):
            store.put_manifest(b" " * (5 << 20), OCI_MANIFEST)
    assert registry.requests == []
