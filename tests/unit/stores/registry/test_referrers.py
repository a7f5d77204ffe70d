import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.images import make_image, referrer_to
from support.registry import digest_of
from support.registry_client import FakeTime, store_of
from tocsin.errors import ConflictError, FormatError, RegistryError
from tocsin.model.descriptor import Descriptor
from tocsin.model.manifest import ImageIndex
from tocsin.model.media_types import OCI_INDEX, OCI_MANIFEST
from tocsin.model.reference import RegistryReference
from tocsin.stores.http.clock import Clock
from tocsin.stores.registry import RegistryOptions, open_repository
from tocsin.stores.registry import referrers as room

SOCI = "application/vnd.amazon.soci.index.v1+json"
SUBJECT = make_image().descriptor
TAG = f"sha256-{SUBJECT.digest.hex}"
LIST = f"/manifests/{TAG}"


@pytest.fixture(autouse=True)
def config(registry):
    registry.repository("team/app").blobs[digest_of(b"{}")] = b"{}"


def referrer(number):
    return referrer_to(SUBJECT, f"application/vnd.test.{number}")


def listed(store, kind=None):
    return [d.artifact_type for d in store.referrers(SUBJECT.digest, kind)]


def kinds(count):
    return [f"application/vnd.test.{number}" for number in range(count)]


def at_tag(registry):
    repository = registry.repository("team/app")
    return json.loads(repository.manifests[repository.tags[TAG]][1])


# -- with the API ----------------------------------------------------------------------------------


@pytest.mark.parametrize("filters", [True, False])
@pytest.mark.parametrize("subject_header", [True, False])
def test_referrers_when_the_api_exists_then_no_tag_is_written(registry, filters, subject_header):
    registry.referrers_api = True
    registry.oci_subject = subject_header
    registry.filters_referrers = filters
    with store_of(registry) as store:
        for number in range(3):
            store.put_manifest(referrer(number), OCI_MANIFEST)
        assert listed(store) == kinds(3)
        assert listed(store, kinds(2)[1]) == kinds(2)[1:]
        assert listed(store, SOCI) == []
        [one] = store.referrers(SUBJECT.digest, kinds(1)[0])
        assert one.annotations == {"made-by": "test"}
        assert store.manifest(one) == referrer(0)
        assert store.tags() == []
    filtered = [r.query.get("artifactType") for r in registry.asked("GET", "/referrers/")]
    assert SOCI in filtered


def test_referrers_when_in_pages_then_all_are_read(registry):
    registry.referrers_api = registry.oci_subject = True
    registry.page_size = 3
    with store_of(registry) as store:
        for number in range(10):
            store.put_manifest(referrer(number), OCI_MANIFEST)
        registry.requests.clear()
        assert listed(store) == kinds(10)
    assert len(registry.asked("GET", "/referrers/")) == 4


def test_referrers_when_there_are_none_then_an_empty_list(registry):
    with store_of(registry) as store:
        assert listed(store) == []
        registry.referrers_api = True
        assert listed(store) == []


@pytest.mark.parametrize("status", [400, 404, 405, 501])
def test_referrers_when_the_api_is_refused_then_the_tag_is_read(registry, status):
    with store_of(registry) as store:
        store.put_manifest(referrer(0), OCI_MANIFEST)
        registry.referrers_api = True
        registry.fault("GET", "/referrers/", status=status)
        assert listed(store) == kinds(1)


def test_referrers_when_the_api_answers_with_a_web_page_then_the_tag_is_read(registry):
    html = {"Content-Type": "text/html"}
    registry.fault("GET", "/referrers/", status=200, body=b"<html>", headers=html, times=9)
    with store_of(registry) as store:
        store.put_manifest(referrer(0), OCI_MANIFEST)
        assert listed(store) == kinds(1)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"schemaVersion":2,"manifests":[{"digest":"x"}]}'])
def test_referrers_when_the_answer_is_broken_then_refused(registry, body):
    kind = {"Content-Type": OCI_INDEX}
    registry.fault("GET", "/referrers/", status=200, body=body, headers=kind)
    with store_of(registry) as store, pytest.raises(FormatError):
        listed(store)


def test_referrers_when_not_allowed_or_broken_then_never_taken_for_none(registry):
    registry.fault("GET", "/referrers/", status=403)
    with store_of(registry) as store, pytest.raises(RegistryError, match="HTTP 403"):
        listed(store)
    registry.fault("GET", "/referrers/", status=503, times=9)
    with store_of(registry) as store, pytest.raises(RegistryError, match="HTTP 503"):
        listed(store)


# -- with the tag ----------------------------------------------------------------------------------


def test_put_manifest_when_there_is_no_api_then_listed_at_the_tag_in_order(registry):
    with store_of(registry) as store:
        for number in range(3):
            store.put_manifest(referrer(number), OCI_MANIFEST)
        assert listed(store) == kinds(3)
        assert listed(store, kinds(2)[1]) == kinds(2)[1:]
        assert store.tags() == [TAG]
    document = at_tag(registry)
    assert document["mediaType"] == OCI_INDEX
    assert document["manifests"][0] == {
        "mediaType": OCI_MANIFEST,
        "digest": digest_of(referrer(0)),
        "size": len(referrer(0)),
        "annotations": {"made-by": "test"},
        "artifactType": kinds(1)[0],
    }


def test_put_manifest_when_it_is_listed_already_then_the_tag_is_not_written(registry):
    with store_of(registry) as store:
        store.put_manifest(referrer(0), OCI_MANIFEST)
        store.put_manifest(referrer(0), OCI_MANIFEST)
    assert len(registry.asked("PUT", LIST)) == 1


def test_put_manifest_when_listed_then_the_manifest_came_before_the_list(registry):
    with store_of(registry) as store:
        store.put_manifest(referrer(0), OCI_MANIFEST)
    assert [r.path.rpartition("/")[2] for r in registry.asked("PUT")] == [
        digest_of(referrer(0)),
        TAG,
    ]


def test_delete_when_it_was_listed_then_no_longer(registry):
    with store_of(registry) as store:
        put = [store.put_manifest(referrer(number), OCI_MANIFEST) for number in range(3)]
        store.delete(put[1])
        assert listed(store) == [kinds(3)[0], kinds(3)[2]]
        store.delete(put[0])
        store.delete(put[2])
        assert listed(store) == []
    assert at_tag(registry)["manifests"] == []


def test_put_manifest_when_the_tag_is_something_else_then_it_is_not_overwritten(registry):
    image = make_image({"other": b"thing"})
    with store_of(registry) as store:
        image.put(store, TAG)
        with pytest.raises(ConflictError, match="is no list of referrers"):
            store.put_manifest(referrer(0), OCI_MANIFEST)
        assert store.resolve(TAG) == image.descriptor


def test_put_manifest_when_the_list_would_be_too_large_then_refused(registry, monkeypatch):
    with store_of(registry) as store:
        store.put_manifest(referrer(0), OCI_MANIFEST)
        limit = len(json.dumps(at_tag(registry))) + 100
        monkeypatch.setattr(room, "MAX_SIZE", limit)
        with pytest.raises(FormatError, match=f"at most {limit} allowed"):
            store.put_manifest(referrer(1), OCI_MANIFEST)
        monkeypatch.setattr(room, "MAX_ENTRIES", 0)
        with pytest.raises(FormatError, match="more than 0 referrers"):
            listed(store)


@pytest.mark.parametrize("kinds_of_fault", [{"drop": True}, {"drop_answer": True}, {"status": 502}])
def test_put_manifest_when_writing_the_list_breaks_then_repeated(registry, kinds_of_fault):
    registry.fault("PUT", LIST, times=2, **kinds_of_fault)
    with store_of(registry) as store:
        store.put_manifest(referrer(0), OCI_MANIFEST)
        assert listed(store) == kinds(1)


# -- several writers -------------------------------------------------------------------------------


def store_with(registry, clock):
    reference = RegistryReference(registry.host, "team/app")
    return open_repository(reference, RegistryOptions(_clock=clock))


class Steps:
    """A sleep in which two writers wait for each other, the first time each of them sleeps."""

    def __init__(self):
        self.met = threading.Barrier(2)
        self.seen = threading.local()

    def sleep(self, _):
        if not getattr(self.seen, "slept", False):
            self.seen.slept = True
            self.met.wait(20)


@pytest.mark.parametrize("entity_tags", [False, True])
def test_two_writers_when_both_read_before_either_writes_then_none_is_lost(registry, entity_tags):
    registry.entity_tags = entity_tags
    both_have_read = threading.Barrier(2)
    registry.fault("PUT", LIST, times=2, before=lambda: both_have_read.wait(20))
    steps = Steps()

    def write(number):
        with store_with(registry, Clock(sleep=steps.sleep)) as store:
            store.put_manifest(referrer(number), OCI_MANIFEST)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(2)))
    with store_of(registry) as store:
        assert sorted(listed(store)) == kinds(2)
    statuses = sorted(r.status for r in registry.asked("PUT", LIST))
    assert statuses == ([201, 201, 412] if entity_tags else [201, 201, 201])


def test_two_writers_when_one_overwrites_after_the_other_looked_then_it_looks_again(registry):
    """The list is not quite what we wrote, so others are at work, so one look is not enough."""
    with store_of(registry) as store:
        store.put_manifest(referrer(0), OCI_MANIFEST)
        own = Descriptor.of(referrer(1), OCI_MANIFEST)
        time = FakeTime()
        states = iter([[referrer(0), referrer(1), referrer(2)], [referrer(0), referrer(2)]])

        def others_write(_):
            entries = next(states, None)
            if entries is not None:
                index = ImageIndex(tuple(Descriptor.of(e, OCI_MANIFEST) for e in entries))
                data = index.to_json()
                registry.repository("team/app").manifests[digest_of(data)] = (OCI_INDEX, data)
                registry.repository("team/app").tags[TAG] = digest_of(data)

        clock = Clock(monotonic=time.monotonic, sleep=others_write)
        with store_with(registry, clock) as other:
            other.put_manifest(referrer(1), OCI_MANIFEST)
        assert own.digest in [d.digest for d in store.referrers(SUBJECT.digest)]
        assert len(store.referrers(SUBJECT.digest)) == 3


@pytest.mark.parametrize("entity_tags", [False, True])
def test_many_writers_when_really_at_once_then_none_is_lost(registry, entity_tags):
    registry.entity_tags = entity_tags
    start = threading.Barrier(6)

    def write(number):
        with store_with(registry, Clock()) as store:  # the real one
            start.wait(20)
            store.put_manifest(referrer(number), OCI_MANIFEST)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    with store_of(registry) as store:
        assert sorted(listed(store)) == kinds(6)


def test_a_writer_when_others_never_stop_then_it_ends_with_an_error(registry):
    empty = ImageIndex(()).to_json()

    def erase(_):
        repository = registry.repository("team/app")
        repository.manifests[digest_of(empty)] = (OCI_INDEX, empty)
        repository.tags[TAG] = digest_of(empty)

    refused = pytest.raises(RegistryError, match="others kept replacing the list")
    with store_with(registry, Clock(sleep=erase)) as store, refused as caught:
        store.put_manifest(referrer(0), OCI_MANIFEST)
    assert caught.value.temporary
    assert len(registry.asked("PUT", LIST)) == room.MAX_ROUNDS
