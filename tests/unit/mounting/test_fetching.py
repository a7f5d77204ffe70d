"""The fetch threads, with a queue in place of the core."""

import threading
import time
from queue import Empty, Queue

import pytest

from tocsin.errors import RegistryError
from tocsin.layers.sources import BytesRanges
from tocsin.mounting.fetching import FetchThreads
from tocsin.mounting.opening import FillSource

LAYER = bytes(range(256)) * 16
BLOB = b"chunk-one|chunk-two|rest"
CHUNKS = ((0, 10), (10, 20))


class FakeQueue:
    """Gives fetches, and collects their answers; `problems` are returned for answers in order."""

    def __init__(self, *fetches, problems=()):
        self.fetches = Queue()
        for fetch in fetches:
            self.fetches.put(fetch)
        self.problems = list(problems)
        self.done = Queue()

    def next_fetch(self, timeout):
        try:
            return self.fetches.get(timeout=min(timeout, 0.05))
        except Empty:
            return None

    def answer(self, number, data):
        self.done.put((number, bytes(data)))
        return self.problems.pop(0) if self.problems else None

    def fail(self, number, error):
        self.done.put((number, error))


class FakeParts:
    """Parts of a blob in a disk cache."""

    def __init__(self, **parts):
        self.parts = {int(start): data for start, data in parts.items()}

    def part(self, number, size):
        data = self.parts.get(number)
        return data if data is not None and len(data) == size else None

    def keep(self, number, data):
        self.parts[number] = data


class Failing:
    """A source whose reads fail."""

    name = "layer"
    in_order = False
    request_size = 0

    def __init__(self, error):
        self.error = error

    def read(self, start, end):
        raise self.error


def layer(*, source=None, chunk_source=None, kept=None):
    return FillSource(
        table=None,
        source=source or BytesRanges("layer", LAYER),
        chunks=CHUNKS,
        chunk_source=chunk_source or BytesRanges("blob", BLOB),
        kept_chunks=kept,
        directory=None,
    )


@pytest.fixture
def answers():
    """Return the answers to the fetches of a queue, with threads that are stopped at the end."""
    running = []

    def run(queue, *layers, count=1):
        threads = FetchThreads(queue, layers, 2)
        running.append(threads)
        threads.start()
        return [queue.done.get(timeout=10) for _ in range(count)]

    yield run
    for threads in running:
        threads.stop(5)


def test_fetch_when_of_a_layer_then_its_bytes(answers):
    queue = FakeQueue((7, 0, False, 100, 300, "demand"))
    assert answers(queue, layer()) == [(7, LAYER[100:300])]


def test_fetch_when_of_chunks_then_kept_once_verified(answers):
    kept = FakeParts()
    queue = FakeQueue((1, 0, True, 0, 20, "demand"))
    assert answers(queue, layer(kept=kept)) == [(1, BLOB[:20])]
    deadline = time.monotonic() + 5
    while kept.parts != {0: BLOB[:10], 10: BLOB[10:20]}:
        assert time.monotonic() < deadline


def test_fetch_when_chunks_are_damaged_then_not_kept(answers):
    kept = FakeParts()
    queue = FakeQueue((1, 0, True, 0, 10, "demand"), problems=["wrong digest"])
    answers(queue, layer(kept=kept))
    assert kept.parts == {}


def test_fetch_when_chunks_are_kept_then_nothing_is_requested(answers):
    kept = FakeParts(**{"0": b"A" * 10, "10": b"B" * 10})
    queue = FakeQueue((1, 0, True, 0, 20, "list"))
    failing = Failing(AssertionError("requested"))
    assert answers(queue, layer(kept=kept, chunk_source=failing)) == [(1, b"A" * 10 + b"B" * 10)]


def test_fetch_when_kept_chunks_are_damaged_then_the_next_try_requests(answers):
    kept = FakeParts(**{"0": b"X" * 10})
    fetches = [(1, 0, True, 0, 10, "demand"), (2, 0, True, 0, 10, "demand")]
    queue = FakeQueue(fetches[0], problems=["wrong digest"])
    threads = FetchThreads(queue, [layer(kept=kept)], 1)
    threads.start()
    try:
        assert queue.done.get(timeout=10) == (1, b"X" * 10)
        queue.fetches.put(fetches[1])
        assert queue.done.get(timeout=10) == (2, BLOB[:10])
    finally:
        threads.stop(5)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RegistryError("registry: refused"), "registry: refused"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (ZeroDivisionError(), "bug in tocsin: ZeroDivisionError"),
    ],
    ids=["registry", "disk", "bug"],
)
def test_fetch_when_it_fails_then_core_gets_the_reason(answers, error, message):
    queue = FakeQueue((3, 0, False, 0, 10, "demand"))
    assert answers(queue, layer(source=Failing(error))) == [(3, message)]


def test_fetch_when_one_hangs_then_others_are_answered(answers):
    released = threading.Event()

    class Hanging(Failing):
        def read(self, start, end):
            released.wait(20)
            return b"late"

    queue = FakeQueue((1, 0, False, 0, 4, "demand"), (2, 1, False, 0, 4, "demand"))
    assert answers(queue, layer(source=Hanging(None)), layer()) == [(2, LAYER[:4])]
    released.set()
    assert queue.done.get(timeout=10) == (1, b"late")
