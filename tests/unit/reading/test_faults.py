"""Reading an image from a faulty registry."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

import tocsin
from support import tarmaker
from support.readable import OPTIONS, SPAN, put_image, text
from support.registry import Registry
from support.registry_client import FakeTime
from support.tarmaker import entry
from tocsin.errors import RegistryError, VerificationError

BIG = text(900_000, seed=3)
BLOBS = "/blobs/sha256:"


@pytest.fixture
def registry():
    with Registry() as running:
        yield running


@pytest.fixture
def reference(registry, tmp_path):
    """An image in the registry with one layer of two files, indexed."""
    plain = put_image(tmp_path, tarmaker.tar(entry("a", b"first"), entry("big", BIG)))
    reference = f"{registry.host}/team/app:1"
    tocsin.convert(plain, reference, options=OPTIONS)
    registry.requests.clear()
    return reference


def opened(reference, **options):
    registry = tocsin.RegistryOptions(_clock=FakeTime().clock)
    return tocsin.open(reference, registry=registry, **options)


def layer_path(image):
    return f"{BLOBS}{image.layers[0].descriptor.digest.hex}"


def test_cat_when_nothing_fails_then_few_requests_fetch_only_spans(registry, reference):
    with opened(reference) as image:
        assert image.cat("a") == b"first"
        asked = registry.asked("GET", layer_path(image))
        assert [request.status for request in asked] == [206]
        assert asked[0].headers["range"].startswith("bytes=")
        assert asked[0].sent < image.layers[0].descriptor.size // 3
        assert image.cat("big") == BIG
        # Adjacent spans are fetched together.
        assert len(registry.asked("GET", layer_path(image))) <= 4


@pytest.mark.parametrize("after", [0, 1, 5_000])
def test_cat_when_the_connection_breaks_then_the_rest_is_requested(registry, reference, after):
    with opened(reference) as image:
        image.listdir()
        registry.fault("GET", layer_path(image), reset_after=after, times=2)
        assert image.cat("big") == BIG


def test_cat_when_range_is_ignored_then_the_bytes_are_correct(registry, reference):
    with opened(reference) as image:
        image.listdir()
        registry.fault("GET", layer_path(image), ignore_range=True, times=99)
        assert image.cat("big") == BIG
        assert image.read_range("big", 500_000, 500_010) == BIG[500_000:500_010]


def test_cat_when_bytes_are_corrupt_once_then_fetched_again(registry, reference):
    with opened(reference) as image:
        image.listdir()
        registry.fault("GET", layer_path(image), corrupt=True)
        assert image.cat("big") == BIG


def test_cat_when_bytes_are_always_corrupt_then_verification_error(registry, reference):
    with opened(reference) as image:
        image.listdir()
        registry.fault("GET", layer_path(image), corrupt=True, times=99)
        with pytest.raises(VerificationError, match=r"layer sha256:.*: .*span \d+") as failed:
            image.cat("big")
        assert failed.value.expected != failed.value.actual
        registry.faults.clear()
        assert image.cat("big") == BIG  # the corrupt bytes were not cached


def test_cat_when_the_registry_is_down_then_a_later_read_succeeds(registry, reference):
    with opened(reference) as image:
        image.listdir()
        registry.fault("GET", layer_path(image), status=503, times=999)
        with pytest.raises(RegistryError) as failed:
            image.cat("big")
        assert failed.value.temporary
        registry.faults.clear()
        assert image.cat("big") == BIG


def test_read_ahead_when_it_fails_then_the_read_that_needs_it_retries(registry, reference):
    with opened(reference) as image:
        image.listdir()
        fault = registry.fault("GET", layer_path(image), status=404, times=99)
        image._merged.layers[0].spans.read_ahead(0, len(BIG))
        for future in list(image._merged.layers[0].spans._in_flight.values()):
            assert future.exception() is not None  # waits for the requests in flight
        assert fault.times < 99
        registry.faults.clear()
        assert image.cat("big") == BIG


def test_read_when_sequential_then_nothing_beyond_the_file_is_fetched(registry, tmp_path):
    tar = tarmaker.tar(entry("big", BIG), entry("after", text(900_000, seed=4)))
    reference = f"{registry.host}/team/app:2"
    tocsin.convert(put_image(tmp_path, tar), reference, options=OPTIONS)
    with opened(reference) as image, image.open("big") as file:
        assert hashlib.sha256(file.read()).digest() == hashlib.sha256(BIG).digest()
        last = image._merged.layers[0].spans.span_ids(0, 512 + len(BIG)).stop
        end = image._merged.layers[0].spans.table.compressed_range(last - 1)[1]
        for request in registry.asked("GET", layer_path(image)):
            assert int(request.headers["range"].rpartition("-")[2]) < end


def test_cat_when_many_threads_and_a_flaky_registry_then_correct(registry, reference):
    with opened(reference, cache_size=1) as image, ThreadPoolExecutor(16) as pool:
        image.listdir()
        registry.fault("GET", layer_path(image), reset_after=3_000, times=4)
        ranges = [(n * 20_011 % len(BIG), n * 20_011 % len(BIG) + 90_000) for n in range(64)]
        read = pool.map(lambda part: image.read_range("big", *part), ranges)
        assert list(read) == [BIG[start:end] for start, end in ranges]


def test_open_when_the_token_expires_during_a_read_then_renewed(registry, tmp_path):
    registry.auth = "token"
    registry.anonymous_scopes = {f"repository:team/app:{do}" for do in ("pull", "push")}
    reference = f"{registry.host}/team/app:3"
    tocsin.convert(put_image(tmp_path, tarmaker.tar(entry("big", BIG))), reference, options=OPTIONS)
    with opened(reference) as image:
        image.listdir()
        registry.tokens.clear()
        assert image.cat("big") == BIG


def test_cat_when_an_adjacent_span_is_corrupt_then_only_that_one_fails(registry, tmp_path):
    files = {f"f{n}": text(SPAN - 1024, seed=n) for n in range(12)}
    tar = tarmaker.tar(*(entry(name, data) for name, data in files.items()))
    reference = f"{registry.host}/team/app:4"
    tocsin.convert(put_image(tmp_path, tar), reference, options=OPTIONS)
    with opened(reference) as image:
        spans = image._merged.layers[0].spans
        bad = spans.span_ids(len(tar) // 2, len(tar) // 2 + 1)[0]
        start, end = spans.table.compressed_range(bad)
        blobs = registry.repository("team/app").blobs
        digest = str(image.layers[0].descriptor.digest)
        blobs[digest] = blobs[digest][: start + 5] + b"\0" * 20 + blobs[digest][start + 25 :]
        spans.read_ahead(0, len(tar))
        wrong = []
        for name, data in files.items():
            try:
                assert image.cat(name) == data
            except VerificationError as error:
                assert f"span {bad}" in str(error)  # noqa: PT017 (several calls may raise)
                wrong.append(name)
        assert 1 <= len(wrong) <= 3  # the files with data in that span
        assert end > start


def test_read_when_the_image_is_closed_then_error_and_no_new_thread(reference):
    image = opened(reference)
    file = image.open("big", buffering=0)
    image.close()
    with pytest.raises(ValueError, match="the image is closed"):
        file.readall()
