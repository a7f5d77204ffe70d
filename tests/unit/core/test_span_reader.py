"""A span that is read bit by bit, from Python; judged by ``zlib``."""

import hashlib
import mmap
import threading
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import tarmaker
from support.streams import Shape, gunzip
from tocsin import GzipError, VerificationError, _core, build_ztoc

RANDOM = Random(5)  # noqa: S311 (test data)
TEXT = b"".join(b"line %d of %d\n" % (n, RANDOM.randrange(n + 1)) for n in range(60_000))
PLAIN = tarmaker.tar(tarmaker.entry("text", TEXT), tarmaker.entry("last", b"the end"))
LAYERS = {
    "gzip": Shape(level=6).compress(PLAIN),
    "members": Shape(level=1, members=True, cuts=(300_000, 700_001)).compress(PLAIN),
    "uncompressed": PLAIN,
}
SPAN_SIZE = 400_000


@pytest.fixture(scope="module", params=LAYERS)
def layer(request):
    return LAYERS[request.param]


@pytest.fixture(scope="module")
def ztoc(layer):
    return build_ztoc(layer, span_size=SPAN_SIZE)._core


def compressed_of(ztoc, layer, span_id):
    start, end = ztoc.span_range(span_id)
    return layer[start:end]


def reader_of(ztoc, layer, span_id):
    return _core.SpanReader(ztoc, span_id, compressed_of(ztoc, layer, span_id))


def test_spans_when_joined_then_the_layer(ztoc, layer):
    readers = [reader_of(ztoc, layer, span_id) for span_id in range(ztoc.span_count)]
    assert len(readers) > 2
    assert [reader.start for reader in readers[1:]] == [reader.end for reader in readers[:-1]]
    plain = layer if layer is PLAIN else gunzip(layer)
    assert b"".join(reader.read(reader.start, reader.end) for reader in readers) == plain


def test_read_when_small_then_only_so_much_is_inflated_and_held():
    layer = LAYERS["gzip"]
    ztoc = build_ztoc(layer, span_size=SPAN_SIZE)._core
    compressed = compressed_of(ztoc, layer, 1)
    reader = _core.SpanReader(ztoc, 1, compressed)
    assert reader.inflated == 0
    assert len(compressed) < reader.memory < len(compressed) + (256 << 10)
    assert reader.read(reader.start + 5, reader.start + 9) == PLAIN[reader.start :][5:9]
    assert 9 <= reader.inflated <= 200_000 < reader.end - reader.start
    reader.read(0, 1 << 62)
    # The decoder and the compressed bytes are gone.
    assert reader.inflated == reader.memory == reader.end - reader.start


@pytest.mark.parametrize("name", LAYERS)
def test_new_when_a_byte_differs_then_both_digests_are_told(name):
    layer = LAYERS[name]
    ztoc = build_ztoc(layer, span_size=SPAN_SIZE)._core
    compressed = compressed_of(ztoc, layer, 1)
    bad = bytearray(compressed)
    bad[len(bad) // 2] ^= 1
    with pytest.raises(VerificationError, match="span 1 digest") as refusal:
        _core.SpanReader(ztoc, 1, bad)
    assert refusal.value.expected == f"sha256:{hashlib.sha256(compressed).hexdigest()}"
    assert refusal.value.actual == f"sha256:{hashlib.sha256(bad).hexdigest()}"
    with pytest.raises(VerificationError, match="span 1 size") as refusal:
        _core.SpanReader(ztoc, 1, compressed[:-1])
    sizes = (str(len(compressed)), str(len(compressed) - 1))
    assert (refusal.value.expected, refusal.value.actual) == sizes


def test_new_when_there_is_no_such_span_then_index_error(ztoc):
    with pytest.raises(IndexError, match="span 99 does not exist"):
        _core.SpanReader(ztoc, 99, b"")


def test_read_when_the_buffer_changes_after_new_then_verified_bytes(tmp_path):
    ztoc = build_ztoc(PLAIN, span_size=SPAN_SIZE)._core
    writable = bytearray(compressed_of(ztoc, PLAIN, 0))
    path = tmp_path / "span"
    path.write_bytes(writable)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        readers = [_core.SpanReader(ztoc, 0, buffer) for buffer in (writable, mapped)]
        writable[:] = bytes(len(writable))
        file.write(writable)
        file.flush()
        assert mapped[:] == writable
        for reader in readers:
            assert reader.read(0, SPAN_SIZE) == PLAIN[:SPAN_SIZE]


def test_read_when_the_stream_lies_then_the_same_error_every_time():
    layer = LAYERS["gzip"]
    honest = build_ztoc(layer)
    start, end = honest.span_range(0)
    # The digest of other bytes, so that only inflating shows the lie.
    other = b"\x07" + layer[start + 1 : end]
    good, bad = (hashlib.sha256(part).hexdigest().encode() for part in (layer[start:end], other))
    lying = _core.Ztoc.from_bytes(honest.to_bytes().replace(good, bad))
    reader = _core.SpanReader(lying, 0, other)
    for _ in range(3):
        with pytest.raises(GzipError) as refusal:
            reader.read(0, 10)
        assert refusal.value.what == "deflate.reserved-block-type"
    assert (reader.memory, reader.inflated) == (0, 0)


def test_read_when_many_threads_at_once_then_each_gets_its_slice(ztoc, layer):
    reader = reader_of(ztoc, layer, 0)
    failures = []

    def read(seed):
        random = Random(seed)  # noqa: S311 (test data)
        for _ in range(200):
            start = random.randrange(reader.start, reader.end)
            end = min(start + random.randrange(9000), reader.end)
            if reader.read(start, end) != PLAIN[start:end]:
                failures.append((start, end))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


reads = st.lists(
    st.tuples(st.integers(0, len(PLAIN) + 9), st.integers(0, 200_000)), min_size=1, max_size=20
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(LAYERS)), st.sampled_from([70_000, SPAN_SIZE, 4 << 20]), reads)
def test_read_when_any_sequence_then_slices_of_what_zlib_inflates(name, span_size, wanted):
    layer = LAYERS[name]
    plain = layer if layer is PLAIN else gunzip(layer)
    ztoc = build_ztoc(layer, span_size=span_size)._core
    readers = [reader_of(ztoc, layer, span_id) for span_id in range(ztoc.span_count)]
    for start, size in wanted:
        parts = [reader.read(start, start + size) for reader in readers]
        assert b"".join(parts) == plain[start : start + size]
