import pytest

from support.registry_client import FakeTime, noise, store_of
from tocsin.errors import NotFoundError, RegistryError, VerificationError
from tocsin.model.descriptor import Descriptor
from tocsin.model.media_types import OCI_LAYER_GZIP

BLOBS = r"/blobs/sha256:"


@pytest.fixture
def blob(registry):
    """A blob of more than 3 MiB in the repository."""
    data = noise((3 << 20) + 12345)
    descriptor = Descriptor.of(data, OCI_LAYER_GZIP)
    registry.repository("team/app").blobs[str(descriptor.digest)] = data
    return data, descriptor


def ranges(registry):
    return [r.headers.get("range") for r in registry.asked("GET", BLOBS)]


def test_blob_when_no_failure_then_one_request_and_large_pieces(registry, blob):
    data, descriptor = blob
    with store_of(registry) as store:
        pieces = list(store.blob(descriptor))
    assert b"".join(pieces) == data
    assert ranges(registry) == [None]
    assert all(512 << 10 <= len(piece) <= 1 << 20 for piece in pieces[:-1])
    [request] = registry.asked("GET", BLOBS)
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["user-agent"].startswith("tocsin/")


@pytest.mark.parametrize("at", [0, 17, 65_537, 1_500_001, (3 << 20) + 12344])
def test_blob_when_the_connection_is_reset_then_the_bytes_are_the_same(registry, blob, at):
    data, descriptor = blob
    registry.fault("GET", BLOBS, reset_after=at)
    with store_of(registry) as store:
        assert b"".join(store.blob(descriptor)) == data
    whole, rest = ranges(registry)
    assert whole is None
    first = int(rest.removeprefix("bytes=").split("-")[0]) if rest else 0
    assert first <= at


@pytest.mark.parametrize("at", [1, 70_000, (1 << 20) + 1, 3 << 20])
def test_blob_when_the_connection_is_closed_then_resumed_at_the_next_byte(registry, blob, at):
    data, descriptor = blob
    registry.fault("GET", BLOBS, close_after=at)
    with store_of(registry) as store:
        assert b"".join(store.blob(descriptor)) == data
    assert ranges(registry) == [None, f"bytes={at}-{len(data) - 1}"]


def test_blob_when_it_fails_repeatedly_with_progress_then_it_continues(registry, blob):
    data, descriptor = blob
    registry.fault("GET", BLOBS, close_after=1 << 19, times=4)
    with store_of(registry) as store:
        assert b"".join(store.blob(descriptor)) == data


def test_blob_when_it_fails_repeatedly_without_progress_then_an_error(registry, blob):
    _, descriptor = blob
    registry.fault("GET", BLOBS, close_after=10, times=100)
    time = FakeTime()
    with (
        store_of(registry, time=time) as store,
        pytest.raises(
            RegistryError, match=r"download failed at byte 60 of \d+ after 5 retries"
        ) as caught,
    ):
        list(store.blob(descriptor))
    assert caught.value.temporary
    assert len(registry.asked("GET", BLOBS)) == 6
    assert time.slept == sorted(time.slept)
    assert sum(time.slept) < 30


def test_blob_when_the_server_ignores_range_then_known_bytes_are_skipped(registry, blob):
    data, descriptor = blob
    registry.fault("GET", BLOBS, close_after=2_000_000)
    registry.fault("GET", BLOBS, ignore_range=True)
    with store_of(registry) as store:
        assert b"".join(store.blob(descriptor)) == data
    assert ranges(registry) == [None, f"bytes=2000000-{len(data) - 1}"]


def test_blob_when_the_server_shortens_ranges_then_the_rest_is_requested(registry, blob):
    data, descriptor = blob
    registry.fault("GET", BLOBS, close_after=5)
    registry.fault("GET", BLOBS, short_range=500_000, times=4)
    time = FakeTime()
    with store_of(registry, time=time) as store:
        assert b"".join(store.blob(descriptor)) == data
    assert len(time.slept) == 1  # for the lost connection, not for the shortened ranges


@pytest.mark.parametrize("delta", [1, -1])
def test_blob_when_content_length_is_wrong_then_refused_before_reading(registry, blob, delta):
    data, descriptor = blob
    registry.fault("GET", BLOBS, length_delta=delta)
    with store_of(registry) as store, pytest.raises(VerificationError) as caught:
        list(store.blob(descriptor))
    assert caught.value.expected == str(len(data))
    assert caught.value.actual == str(len(data) + delta)


@pytest.mark.parametrize("text", ["bytes 5-9/10", "bytes 7-8/{size}", "items 1-2/3", "bytes 9-5/*"])
def test_blob_when_content_range_is_wrong_then_it_is_refused(registry, blob, text):
    data, descriptor = blob
    registry.fault("GET", BLOBS, close_after=5)
    registry.fault("GET", BLOBS, content_range=text.format(size=len(data)))
    with store_of(registry) as store, pytest.raises((RegistryError, VerificationError)):
        list(store.blob(descriptor))


def test_blob_when_a_byte_differs_then_refused_and_not_requested_again(registry, blob):
    data, descriptor = blob
    registry.fault("GET", BLOBS, corrupt=True)
    got = []
    with (
        store_of(registry) as store,
        pytest.raises(VerificationError, match="wrong digest"),
    ):
        got.extend(store.blob(descriptor))
    assert sum(map(len, got)) < len(data)
    assert len(registry.asked("GET", BLOBS)) == 1


def test_blob_when_not_verified_then_only_the_size_is_checked(registry, blob):
    data, descriptor = blob
    registry.fault("GET", BLOBS, corrupt=True)
    with store_of(registry) as store:
        assert len(b"".join(store.blob(descriptor, verify=False))) == len(data)


def test_blob_when_the_stored_one_is_shorter_then_resuming_detects_it(registry, blob):
    data, descriptor = blob
    registry.fault("GET", BLOBS, close_after=1 << 20)
    short = data[: 1 << 20]
    registry.repository("team/app").blobs[str(descriptor.digest)] = short
    registry.faults[-1].length_delta = len(data) - len(short)
    with store_of(registry) as store, pytest.raises(VerificationError) as caught:
        list(store.blob(descriptor))
    assert caught.value.actual == str(len(short))


def test_blob_when_missing_then_it_is_not_found(registry):
    descriptor = Descriptor.of(b"x", OCI_LAYER_GZIP)
    with store_of(registry) as store:
        with pytest.raises(NotFoundError, match=f"team/app: blob {descriptor.digest}: not found"):
            list(store.blob(descriptor))
        with pytest.raises(NotFoundError):
            store.blob_range(descriptor, 0, 1)


def test_blob_when_empty_then_it_must_still_exist(registry):
    empty = Descriptor.of(b"", OCI_LAYER_GZIP)
    with store_of(registry) as store:
        with pytest.raises(NotFoundError):
            list(store.blob(empty))
        registry.repository("team/app").blobs[str(empty.digest)] = b""
        assert list(store.blob(empty)) == []


def test_blob_when_the_server_is_extremely_slow_then_an_error(registry, blob):
    data, descriptor = blob
    registry.fault("GET", BLOBS, stall=True, close_after=10)
    time = FakeTime(steps=[0.0, 61.0])  # a minute for the first read
    with store_of(registry, time=time, timeout=0.5) as store:
        assert b"".join(store.blob(descriptor)) == data
    assert ranges(registry)[1] == f"bytes=10-{len(data) - 1}"


def test_blob_when_the_server_stalls_then_the_read_times_out_and_resumes(registry, blob):
    data, descriptor = blob
    registry.fault("GET", BLOBS, stall=True, close_after=100)
    with store_of(registry, timeout=0.05) as store:
        assert b"".join(store.blob(descriptor)) == data
    assert ranges(registry)[1] == f"bytes=100-{len(data) - 1}"


def test_blob_when_iterator_is_closed_early_then_connection_is_released(registry, blob):
    _, descriptor = blob
    with store_of(registry) as store:
        pieces = store.blob(descriptor)
        next(pieces)
        pieces.close()
        assert store.has_blob(descriptor)


def test_blob_when_read_twice_then_the_connection_is_reused(registry, blob):
    _, descriptor = blob
    before = len(registry.accepted)
    with store_of(registry, plain_http=True) as store:
        for _ in range(3):
            list(store.blob(descriptor))
        store.blob_range(descriptor, 10, 20)
        store.has_blob(descriptor)
    assert len(registry.accepted) - before == 1


@pytest.mark.parametrize(("start", "end"), [(0, 1), (5, 5), (1000, 3_000_000), (3 << 20, None)])
def test_blob_range_when_read_then_exactly_those_bytes(registry, blob, start, end):
    data, descriptor = blob
    end = len(data) if end is None else end
    with store_of(registry) as store:
        assert store.blob_range(descriptor, start, end) == data[start:end]
    if start < end:
        assert ranges(registry) == [f"bytes={start}-{end - 1}"]


def test_blob_range_when_the_server_ignores_it_then_bytes_are_extracted(registry, blob):
    data, descriptor = blob
    registry.fault("GET", BLOBS, ignore_range=True)
    with store_of(registry) as store:
        assert store.blob_range(descriptor, 1_000_000, 1_000_100) == data[1_000_000:1_000_100]


@pytest.mark.parametrize("status", [400, 403, 405, 501])
def test_blob_range_when_ranges_are_refused_then_the_bytes_are_extracted(registry, blob, status):
    data, descriptor = blob
    registry.fault("GET", BLOBS, status=status)
    with store_of(registry) as store:
        assert store.blob_range(descriptor, 1000, 9000) == data[1000:9000]
        registry.fault("GET", BLOBS, status=status, times=2)
        with pytest.raises(RegistryError, match=f"HTTP {status}"):
            store.blob_range(descriptor, 1000, 9000)


def test_blob_range_when_interrupted_then_only_missing_bytes_are_requested(registry, blob):
    data, descriptor = blob
    registry.fault("GET", BLOBS, close_after=100)
    with store_of(registry) as store:
        assert store.blob_range(descriptor, 1000, 2000) == data[1000:2000]
    assert ranges(registry) == ["bytes=1000-1999", "bytes=1100-1999"]


def test_blob_range_when_the_blob_is_shorter_then_its_size_is_reported(registry, blob):
    data, descriptor = blob
    longer = Descriptor(descriptor.media_type, descriptor.digest, len(data) + 100)
    with store_of(registry, timeout=0.5) as store, pytest.raises(VerificationError) as caught:
        store.blob_range(longer, len(data) + 1, len(data) + 50)
    assert caught.value.actual == str(len(data))


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 2), (0, 1 << 40)])
def test_blob_range_when_out_of_bounds_then_value_error(registry, blob, start, end):
    _, descriptor = blob
    with store_of(registry) as store, pytest.raises(ValueError, match="is out of bounds"):
        store.blob_range(descriptor, start, end)
    assert registry.requests == []


def test_blob_when_the_body_is_encoded_unasked_then_it_is_refused(registry, blob):
    data, descriptor = blob
    registry.fault(
        "GET", BLOBS, status=200, body=b"x" * len(data), headers={"Content-Encoding": "gzip"}
    )
    with store_of(registry) as store, pytest.raises(VerificationError):
        list(store.blob(descriptor))
