"""Layers read as streams, in `tocsin.layers.sources`."""

from __future__ import annotations

import pytest

from tocsin.layers.sources import StreamRanges


def test_read_when_the_stream_fails_once_then_later_reads_are_correct():
    failures = [OSError("connection lost")]

    def unpack():
        yield b"A" * 10
        yield b"B" * 10
        if failures:
            raise failures.pop()
        yield b"C" * 10

    ranges = StreamRanges("layer", unpack)
    with pytest.raises(OSError, match="connection lost"):
        ranges.read(20, 30)
    assert ranges.read(20, 30) == b"C" * 10
    assert ranges.read(5, 25) == b"AAAAABBBBBBBBBBCCCCC"
