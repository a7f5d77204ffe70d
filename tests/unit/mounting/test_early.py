"""Early requests for a pack: every byte is returned, and each early one is requested once."""

import random

import pytest

from tocsin.errors import RegistryError
from tocsin.layers.sources import BytesRanges
from tocsin.mounting.early import EarlyRanges

KIB = 1 << 10
DATA = random.Random(2).randbytes(1500 * KIB)  # noqa: S311 (any bytes)


class Counting(BytesRanges):
    """Counts requests; those that start at `broken` fail once."""

    def __init__(self, data, broken=()):
        super().__init__("data", data)
        self.requests = []
        self._broken = set(broken)

    def read(self, start, end):
        self.requests.append((start, end))
        if start in self._broken:
            self._broken.discard(start)
            raise RegistryError("refused")
        return super().read(start, end)


@pytest.mark.parametrize("sizes", [[1500], [1, 255, 256, 300, 688], [512, 512, 476], [100] * 15])
def test_read_when_in_order_then_all_bytes(sizes):
    source = Counting(DATA)
    early = EarlyRanges(source, len(DATA), 3)
    at, found = 0, b""
    for size in sizes:
        found += early.read(at * KIB, (at + size) * KIB)
        at += size
    assert found == DATA
    assert [one for one in sorted(source.requests) if one[0] < 1024 * KIB] == [
        (start * KIB, (start + 256) * KIB) for start in (0, 256, 512, 768)
    ]


def test_read_when_an_early_request_failed_then_requested_again():
    source = Counting(DATA, broken=[256 * KIB])
    early = EarlyRanges(source, len(DATA), 3)
    assert early.read(0, 700 * KIB) == DATA[: 700 * KIB]
    assert (256 * KIB, 700 * KIB) in source.requests


def test_read_when_repeated_then_requested_again():
    early = EarlyRanges(Counting(DATA), len(DATA), 3)
    for _ in range(2):
        assert early.read(1000, 600_000) == DATA[1000:600_000]


@pytest.mark.parametrize("size", [0, 1, 256 * KIB])
def test_read_when_the_blob_is_small_then_all_bytes(size):
    early = EarlyRanges(Counting(DATA[:size]), size, 3)
    assert early.read(0, size) == DATA[:size]
