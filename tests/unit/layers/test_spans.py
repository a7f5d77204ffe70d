"""Spans of one layer, fetched with one request, inflated in parallel and returned in order."""

from __future__ import annotations

import gzip
import threading

import pytest

import tocsin
from support import tarmaker
from support.readable import SPAN, text
from support.tarmaker import entry
from tocsin import _core
from tocsin.errors import VerificationError
from tocsin.layers import spans as spans_module
from tocsin.layers.fetchers import Fetchers
from tocsin.layers.spans import SpanCache
from tocsin.layers.ztoc import Ztoc

DATA = text(1_500_000, seed=4)
TAR = tarmaker.tar(entry("before", b"x"), entry("data", DATA))
LAYER = gzip.compress(TAR, mtime=0)
BLOB = tocsin.build_ztoc(LAYER, span_size=SPAN).to_bytes()
ZTOC = tocsin.Ztoc.from_bytes(BLOB)
THREADS = [1, 2, 3, 8]


class Source:
    """A layer, perhaps damaged, that records the ranges read from it."""

    name = "source"
    in_order = False

    def __init__(self, layer=LAYER, *, request_size=0):
        self.layer = layer
        self.request_size = request_size
        self.asked = []

    def read(self, start, end):
        self.asked.append((start, end))
        return self.layer[start:end]


@pytest.fixture
def opened():
    closing = []

    def open_spans(source, *, threads=2, cache_size=64 << 20):
        fetchers = Fetchers(threads)
        closing.append(fetchers)
        ztoc = Ztoc.from_bytes(BLOB)
        return ztoc._open_spans(source, cache=SpanCache(cache_size), fetchers=fetchers)

    yield open_spans
    for fetchers in closing:
        fetchers.close()


def test_layer_when_made_here_then_it_has_many_spans():
    assert ZTOC.span_count >= 8
    assert len(LAYER) < spans_module.MAX_REQUEST_SIZE


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("cache_size", [1, 64 << 20])
def test_read_when_of_many_spans_then_in_order_with_one_request(opened, threads, cache_size):
    source = Source()
    layer = opened(source, threads=threads, cache_size=cache_size)
    assert layer.read(0, len(TAR)) == TAR
    if cache_size > 1:
        assert len(source.asked) == 1
    assert layer.read(1000, len(TAR) - 1000) == TAR[1000:-1000]
    assert layer.read(5, 5) == b""


@pytest.mark.parametrize("threads", THREADS)
def test_stream_when_of_many_spans_then_one_piece_for_each_in_order(opened, threads):
    pieces = list(opened(Source(), threads=threads).stream(0, len(TAR)))
    assert b"".join(pieces) == TAR
    assert len(pieces) == ZTOC.span_count


@pytest.mark.parametrize("threads", THREADS)
def test_read_when_one_span_is_damaged_then_only_that_one_cannot_be_read(opened, threads):
    bad = ZTOC.span_count // 2
    start, end = ZTOC.span_range(bad)
    middle = (start + end) // 2
    layer = LAYER[:middle] + bytes([LAYER[middle] ^ 1]) + LAYER[middle + 1 :]
    spans = opened(Source(layer), threads=threads)
    with pytest.raises(VerificationError, match=f"span {bad}"):
        spans.read(0, len(TAR))
    first, last = (int(ZTOC.spans["uncompressed_start"][at]) for at in (bad, bad + 1))
    assert spans.read(0, first) == TAR[:first]
    assert spans.read(last, len(TAR)) == TAR[last:]


def test_read_when_spans_are_fetched_together_then_inflated_in_parallel(opened, monkeypatch):
    together = threading.Barrier(2, timeout=60)
    met = set()

    class Meeting:
        """A span reader; the first two are made only if two threads make them at the same time."""

        def __new__(cls, ztoc, span_id, compressed):
            if span_id < 2 and span_id not in met:
                met.add(span_id)
                together.wait()
            return inner(ztoc, span_id, compressed)

    inner = _core.SpanReader
    monkeypatch.setattr(_core, "SpanReader", Meeting)
    source = Source()
    assert opened(source, threads=2).read(0, len(TAR)) == TAR
    assert len(source.asked) == 1


def span_start(span_id):
    return int(ZTOC.spans["uncompressed_start"][span_id])


def test_read_when_remote_and_more_may_follow_then_one_larger_request(opened):
    source = Source(request_size=200 << 10)
    layer = opened(source)
    at = span_start(1)
    assert layer.read(at, at + 10, until=len(TAR)) == TAR[at : at + 10]
    ((start, end),) = source.asked
    assert start == ZTOC.span_range(1)[0]
    assert 64 << 9 < end - start <= 200 << 10
    last = max(n for n in range(ZTOC.span_count) if ZTOC.span_range(n)[1] <= end)
    assert last > 3
    layer.read(at, span_start(last + 1))
    assert len(source.asked) == 1


def test_read_when_remote_and_the_file_ends_then_not_more_is_fetched(opened):
    source = Source(request_size=1 << 20)
    at = span_start(2)
    opened(source).read(at, at + 10, until=span_start(4))
    assert source.asked == [(ZTOC.span_range(2)[0], ZTOC.span_range(3)[1])]


@pytest.mark.parametrize("until", [0, len(TAR)])
def test_read_when_local_or_exact_then_only_the_span_is_fetched(opened, until):
    source = Source(request_size=0 if until else 1 << 20)
    at = span_start(2)
    opened(source).read(at, at + 10, until=until)
    assert source.asked == [ZTOC.span_range(2)]


@pytest.mark.parametrize(("request_size", "count"), [(0, 2), (1 << 20, 1)])
def test_read_all_ahead_when_gaps_are_small_then_bridged_if_remote(opened, request_size, count):
    source = Source(request_size=request_size)
    layer = opened(source)
    ranges = [(span_start(n), span_start(n) + 10) for n in (1, 3)]
    layer.read_all_ahead(ranges)
    for start, end in ranges:
        assert layer.read(start, end) == TAR[start:end]
    assert len(source.asked) == count
    # What is between them was not kept.
    layer.read(span_start(2), span_start(2) + 10)
    assert len(source.asked) == count + 1


def test_read_all_ahead_when_ranges_share_spans_then_each_is_fetched_once(opened):
    source = Source()
    layer = opened(source)
    layer.read_all_ahead([(0, 10), (5, 20), (20, 20), (span_start(1), span_start(2) + 1)])
    assert layer.read(0, span_start(2) + 1) == TAR[: span_start(2) + 1]
    assert source.asked == [(ZTOC.span_range(0)[0], ZTOC.span_range(2)[1])]


def test_read_when_several_threads_read_then_each_has_its_bytes(opened):
    spans = opened(Source(), threads=3, cache_size=1)
    places = [(at, at + 300_000) for at in range(0, len(TAR) - 300_000, 100_000)]
    got = {}

    def read(place):
        got[place] = spans.read(*place)

    readers = [threading.Thread(target=read, args=(place,)) for place in places]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
    assert got == {place: TAR[slice(*place)] for place in places}


@pytest.mark.parametrize("threads", THREADS)
def test_file_when_read_in_small_pieces_then_complete(tmp_path, threads):
    (tmp_path / "layer").write_bytes(LAYER)
    with tocsin.open_layer(tmp_path / "layer", BLOB, threads=threads) as layer:
        assert layer.cat("data") == DATA
        with layer.open("data") as file:
            assert b"".join(iter(lambda: file.read(70_001), b"")) == DATA
        layer.extract("data", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == DATA


def test_open_layer_when_threads_is_0_then_value_error(tmp_path):
    (tmp_path / "layer").write_bytes(LAYER)
    with pytest.raises(ValueError, match="threads is 0"):
        tocsin.open_layer(tmp_path / "layer", BLOB, threads=0)
