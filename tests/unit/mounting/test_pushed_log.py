"""Looking for the access log beside an image: nothing waits for it, and no failure gets out."""

import threading

import pytest

from support.images import make_image
from tocsin.errors import RegistryError
from tocsin.model.access_log import AccessedFile, AccessLog
from tocsin.mounting import pushed_log
from tocsin.mounting.pushed_log import PushedLog
from tocsin.recording.push import push_access_log
from tocsin.stores.layout import OciLayout

IMAGE = make_image({"a": b"hello"})
SUBJECT = IMAGE.descriptor.digest
LOG = AccessLog(tuple(AccessedFile(0, f"f{at}", ((0, 1), (2, 3))) for at in range(5)), SUBJECT)


@pytest.fixture
def store(tmp_path):
    with OciLayout(tmp_path / "layout", write=True) as store:
        IMAGE.put(store, "1")
    push_access_log(f"oci:{tmp_path}/layout:1", LOG)
    return OciLayout(tmp_path / "layout")


def ended(found):
    found.start()
    found._thread.join(30)
    assert not found._thread.is_alive()
    return found


def test_log_when_found_then_its_reads_are_queued_in_order(store, monkeypatch):
    monkeypatch.setattr(pushed_log, "_BATCH", 4)
    batches = []
    found = ended(PushedLog(store, SUBJECT, batches.append))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert tuple(read for batch in batches for read in batch) == LOG.reads
    assert found.used is not None


def test_log_when_image_has_none_then_nothing_is_queued(store):
    batches = []
    assert ended(PushedLog(store, IMAGE.layer_descriptors[0].digest, batches.append)).used is None
    assert batches == []


@pytest.mark.parametrize(
    "error", [RegistryError("refused"), OSError(5, "broken"), ValueError("a bug")]
)
def test_log_when_the_store_fails_then_only_logged(store, error, monkeypatch, caplog):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(store, "referrers", fail)
    assert ended(PushedLog(store, SUBJECT, print)).used is None
    assert "no access log is used" in caplog.text


def test_stop_when_the_store_hangs_then_returns_and_nothing_is_queued(store, monkeypatch):
    may_answer, batches = threading.Event(), []
    referrers = store.referrers

    def hang(*arguments, **options):
        may_answer.wait(30)
        return referrers(*arguments, **options)

    monkeypatch.setattr(store, "referrers", hang)
    found = PushedLog(store, SUBJECT, batches.append)
    found.start()
    found.stop()
    may_answer.set()
    found._thread.join(30)
    assert (found.used, batches) == (None, [])


def test_stop_when_not_started_then_nothing_happens(store):
    PushedLog(store, SUBJECT, print).stop(1.0)
