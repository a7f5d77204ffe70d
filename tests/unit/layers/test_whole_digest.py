"""The digest of a layer whose ranges arrive in any order, compared with hashing it at once."""

import hashlib
import itertools

from hypothesis import given
from hypothesis import strategies as st

from tocsin.layers.whole_digest import WholeDigest

DATA = bytes(range(256)) * 4


@given(st.lists(st.integers(0, len(DATA)), max_size=12), st.integers(0, 3), st.randoms())
def test_digest_when_ranges_arrive_in_any_order_then_that_of_the_whole(cuts, overlap, chance):
    edges = sorted({0, len(DATA), *cuts})
    ranges = [(max(0, start - overlap), end) for start, end in itertools.pairwise(edges)]
    chance.shuffle(ranges)
    whole = WholeDigest(len(DATA))
    for start, end in ranges:
        whole.add(start, DATA[start:end])
    assert whole.missing() == []
    assert whole.hexdigest() == hashlib.sha256(DATA).hexdigest()


@given(st.sets(st.integers(0, 15)))
def test_missing_when_some_ranges_arrived_then_exactly_the_other_ranges(came):
    whole = WholeDigest(16)
    for at in came:
        whole.add(at, DATA[at : at + 1])
    listed = [at for start, end in whole.missing() for at in range(start, end)]
    assert listed == [at for at in range(16) if at not in came]


def test_digest_when_too_many_bytes_are_pending_then_given_up():
    whole = WholeDigest(len(DATA), max_pending_size=100)
    whole.add(500, DATA[500:550])
    assert whole.missing() is not None
    whole.add(600, DATA[600:700])
    assert whole.missing() is None
    whole.add(0, DATA)
    assert whole.hexdigest() is None
