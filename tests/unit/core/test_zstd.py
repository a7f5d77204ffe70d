"""zstd layers in pieces; made and judged by libzstd."""

import io
import threading
from random import Random

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin import FormatError, _core

KIB = 1024


def data(seed, size):
    """Return bytes that compress like a mix of text, runs and noise."""
    random = Random(seed)  # noqa: S311 (test data)
    words = [random.randbytes(random.randrange(1, 9)) for _ in range(300)]
    out = io.BytesIO()
    while out.tell() < size:
        kind = random.randrange(4)
        length = random.randrange(1, 3000)
        if kind == 0:
            out.write(random.randbytes(length))
        elif kind == 1:
            out.write(bytes([random.randrange(256)]) * length)
        else:
            out.write(b" ".join(random.choices(words, k=length // 5 + 1)))
    return out.getvalue()[:size]


PLAIN = data(1, 3 << 20)


def frame(content, *, level=3, window_log=0, checksum=True, sized=True):
    options = {"write_checksum": checksum, "write_content_size": sized}
    if window_log:
        options["window_log"] = window_log
    parameters = zstandard.ZstdCompressionParameters.from_level(level, **options)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(content)


def decode(stream, *, piece=1 << 16, most=1 << 16):
    decoder = _core.ZstdDecoder()
    out = []
    for at in range(0, len(stream), piece):
        decoder.feed(stream[at : at + piece])
        while part := decoder.read(most):
            assert len(part) <= most
            out.append(part)
    decoder.finish()
    return b"".join(out)


def libzstd(stream):
    """Return what libzstd makes of all frames of a stream; an error as tocsin has to see one."""
    out = []
    while stream:
        if int.from_bytes(stream[:4], "little") & ~15 == 0x184D2A50:
            end = 8 + int.from_bytes(stream[4:8], "little")
            if len(stream) < max(end, 8):
                raise zstandard.ZstdError("skippable frame ends early")
            stream = stream[end:]
            continue
        decoder = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
        out.append(decoder.decompress(stream))
        if not decoder.eof:
            raise zstandard.ZstdError("frame ends early")
        stream = decoder.unused_data
    return b"".join(out)


@pytest.mark.parametrize("level", [-5, 1, 3, 9, 19])
@pytest.mark.parametrize("sized", [True, False])
def test_read_when_any_level_then_what_was_compressed(level, sized):
    assert decode(frame(PLAIN, level=level, sized=sized)) == PLAIN


@pytest.mark.parametrize("window_log", [10, 17, 24, 27])
def test_read_when_any_window_then_what_was_compressed(window_log):
    assert decode(frame(PLAIN, window_log=window_log, sized=False)) == PLAIN


def test_read_when_nothing_is_fed_then_empty():
    decoder = _core.ZstdDecoder()
    assert decoder.read(10) == b""
    decoder.feed(b"")
    assert decoder.read(10) == b""
    with pytest.raises(FormatError, match="stream ends inside a frame header"):
        decoder.finish()


def test_read_when_checksum_differs_then_error():
    stream = bytearray(frame(PLAIN[:5000]))
    stream[-1] ^= 1
    with pytest.raises(FormatError) as refusal:
        decode(bytes(stream))
    assert (refusal.value.what, refusal.value.offset) == (
        "zstd.checksum",
        f"compressed byte {len(stream)}",
    )


def test_read_when_threads_share_a_decoder_then_nothing_is_lost():
    decoder = _core.ZstdDecoder()
    decoder.feed(frame(PLAIN))
    parts = []

    def read():
        while part := decoder.read(10_000):
            parts.append(len(part))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(parts) == len(PLAIN)
    decoder.finish()


skippables = st.builds(
    lambda number, content: (
        (0x184D2A50 + number).to_bytes(4, "little") + len(content).to_bytes(4, "little") + content
    ),
    st.integers(0, 15),
    st.binary(max_size=40),
)
frames = st.builds(
    lambda seed, size, level, window_log, checksum, sized: frame(
        data(seed, size), level=level, window_log=window_log, checksum=checksum, sized=sized
    ),
    st.integers(0, 50),
    st.integers(0, 300 * KIB),
    st.integers(-3, 12),
    st.sampled_from([0, 10, 14, 20]),
    st.booleans(),
    st.booleans(),
)
streams = st.lists(st.one_of(frames, frames, skippables), min_size=1, max_size=4).map(b"".join)


@settings(max_examples=60, deadline=None)
@given(streams, st.integers(1, 100_000), st.integers(1, 200_000))
def test_read_when_any_frames_in_any_pieces_then_what_libzstd_decodes(stream, piece, most):
    # Not too many turns.
    piece, most = max(piece, len(stream) // 500), max(most, 300)
    assert decode(stream, piece=piece, most=most) == libzstd(stream)


damages = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 50), st.integers(0, 100 * KIB), st.integers(-3, 19), damages, st.booleans())
def test_read_when_damaged_then_an_error_or_what_was_compressed(seed, size, level, changes, cut):
    # Without a checksum, decoders do not agree on what a broken block holds.
    plain = data(seed, size)
    one = frame(plain, level=level)
    damaged = bytearray(one + one)
    for place, value in changes:
        damaged[int(place * (len(damaged) - 1))] = value
    if cut:
        del damaged[len(damaged) * 2 // 3 :]
    try:
        decoded = decode(bytes(damaged))
    except FormatError:
        return
    assert decoded == plain + plain
