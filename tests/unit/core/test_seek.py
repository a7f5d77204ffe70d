"""Seek blobs and reading spans with them, from Python, checked against ``zlib``."""

import hashlib
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import tarmaker
from support.streams import Shape, gunzip
from tocsin import SeekTableError, VerificationError, _core

RANDOM = Random(6)  # noqa: S311 (test data)
TEXT = b"".join(b"line %d of %d\n" % (n, RANDOM.randrange(n + 1)) for n in range(60_000))
PLAIN = tarmaker.tar(tarmaker.entry("text", TEXT), tarmaker.entry("last", b"the end"))
LAYERS = {
    "gzip": Shape(level=6).compress(PLAIN),
    "stored": Shape(level=0).compress(PLAIN),
    "members": Shape(level=1, members=True, cuts=(300_000, 700_001)).compress(PLAIN),
    "uncompressed": PLAIN,
}
SPAN_SIZE = 65_536


@pytest.fixture(scope="module", params=LAYERS)
def layer(request):
    return LAYERS[request.param]


def seek_blob(layer):
    indexer = _core.LayerIndexer(
        format=None,
        span_size=4 << 20,
        build_tool_identifier="test",
        diff_id=False,
        reference_identical=False,
        seek_span_size=SPAN_SIZE,
    )
    indexer.push(layer)
    return indexer.finish().seek


@pytest.fixture(scope="module")
def blob(layer):
    return seek_blob(layer)


def plain_of(layer):
    return layer if layer is PLAIN else gunzip(layer)


def chunk_of(blob, chunk):
    start, end = blob.chunk_range(chunk)
    return blob.blob[start:end]


def spans_of(blob):
    spans = blob.spans()
    for chunk in range(blob.chunk_count):
        spans.add_chunk(chunk, chunk_of(blob, chunk))
    return spans


def compressed_of(spans, layer, span_id):
    start, end = spans.compressed_range(span_id)
    return layer[start:end]


def test_spans_when_joined_then_equal_to_the_layer(blob, layer):
    spans = spans_of(blob)
    readers = [
        _core.SpanReader(spans, span_id, compressed_of(spans, layer, span_id))
        for span_id in range(spans.span_count)
    ]
    assert len(readers) > 2
    assert [(reader.start, reader.end) for reader in readers] == [
        spans.uncompressed_range(span_id) for span_id in range(spans.span_count)
    ]
    plain = plain_of(layer)
    assert b"".join(reader.read(reader.start, reader.end) for reader in readers) == plain
    inflated = [
        spans.inflate_span(span_id, compressed_of(spans, layer, span_id))
        for span_id in range(spans.span_count)
    ]
    assert b"".join(inflated) == plain


@settings(deadline=None)
@given(data=st.data())
def test_read_when_range_is_arbitrary_then_that_slice(data):
    layer = LAYERS[data.draw(st.sampled_from(sorted(LAYERS)))]
    spans = SPANS.setdefault(layer[:64], None) or spans_of(seek_blob(layer))
    SPANS[layer[:64]] = spans
    plain = plain_of(layer)
    start = data.draw(st.integers(0, len(plain) - 1))
    end = data.draw(st.integers(start, len(plain)))
    first, last = spans.span_ids(start, end)
    parts = [
        spans.read_span(span_id, compressed_of(spans, layer, span_id), start, end)
        for span_id in range(first, last)
    ]
    assert b"".join(parts) == plain[start:end]
    if end > start:
        assert (first, last - 1) == (spans.span_of(start), spans.span_of(end - 1))


SPANS: dict[bytes, object] = {}


def test_parse_when_blob_was_written_then_the_same(blob, layer):
    parsed = _core.SeekLayer.parse(blob.blob)
    assert parsed.blob == blob.blob
    assert parsed.span_size == SPAN_SIZE
    assert parsed.compressed_size == len(layer)
    assert parsed.uncompressed_size == len(plain_of(layer))
    assert parsed.compression == ("uncompressed" if layer is PLAIN else "gzip")
    assert parsed.span_count == parsed.spans().span_count == blob.span_count
    with pytest.raises(IndexError, match="seek chunk 99 does not exist"):
        parsed.chunk_range(99)


def test_read_when_chunk_was_not_added_then_error_names_it(blob, layer):
    spans = blob.spans()
    assert not spans.has_chunk(0)
    assert spans.chunk_of(5) == 0
    with pytest.raises(SeekTableError) as error:
        _core.SpanReader(spans, 0, compressed_of(spans, layer, 0))
    assert error.value.what == "seek.missing-chunk"
    assert error.value.offset == "seek chunk 0"
    spans.add_chunk(0, chunk_of(blob, 0))
    assert spans.has_chunk(0)
    assert spans.memory > 0
    _core.SpanReader(spans, 0, compressed_of(spans, layer, 0))


def test_add_chunk_when_bytes_differ_then_verification_error(blob):
    spans = blob.spans()
    chunk = bytearray(chunk_of(blob, 0))
    chunk[len(chunk) // 2] ^= 1
    with pytest.raises(VerificationError) as error:
        spans.add_chunk(0, bytes(chunk))
    assert error.value.actual == "sha256:" + hashlib.sha256(chunk).hexdigest()
    assert not spans.has_chunk(0)


def test_span_reader_when_bytes_differ_then_verification_error(blob, layer):
    spans = spans_of(blob)
    compressed = bytearray(compressed_of(spans, layer, 1))
    compressed[-1] ^= 1
    with pytest.raises(VerificationError, match="span 1 digest"):
        _core.SpanReader(spans, 1, bytes(compressed))


def test_span_when_it_does_not_exist_then_index_error(blob):
    spans = spans_of(blob)
    with pytest.raises(IndexError, match="span 9999 does not exist"):
        spans.compressed_range(9999)
    with pytest.raises(IndexError):
        spans.inflate_span(9999, b"")


def test_parse_when_blob_is_invalid_then_seek_table_error():
    for blob, what in [(b"", "seek.truncated"), (b"x" * 100, "seek.magic")]:
        with pytest.raises(SeekTableError) as error:
            _core.SeekLayer.parse(blob)
        assert error.value.what == what
        assert error.value.offset == "head of the layer's seek blob"


def test_whole_when_layer_is_zstd_then_no_spans():
    blob = _core.SeekLayer.whole("zstd", 1000, 5000, SPAN_SIZE)
    assert (blob.span_count, blob.chunk_count) == (0, 0)
    assert _core.SeekLayer.parse(blob.blob).uncompressed_size == 5000
    assert blob.spans().span_of(0) is None
    with pytest.raises(ValueError, match='invalid compression "xz"'):
        _core.SeekLayer.whole("xz", 1000, 5000, SPAN_SIZE)
