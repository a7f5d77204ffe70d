import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from support.images import make_image, referrer_to
from support.registry import digest_of
from support.registry_client import FakeTime, store_of
from tocsin.errors import ConflictError, FormatError, RegistryError, TocsinError
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
def test_referrers_when_the_api_exists_then_no_tag_is_written(registry, filters):
    registry.referrers_api = registry.oci_subject = True
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


def test_put_manifest_when_not_acknowledged_then_the_tag_is_written_too(registry):
    """Without OCI-Subject clients must maintain the tag (distribution-spec 1.1)."""
    registry.referrers_api = True
    with store_of(registry) as store:
        for number in range(2):
            store.put_manifest(referrer(number), OCI_MANIFEST)
        assert listed(store) == kinds(2)
        store.delete(Descriptor.of(referrer(0), OCI_MANIFEST))
        assert listed(store) == kinds(2)[1:]
    assert [entry["artifactType"] for entry in at_tag(registry)["manifests"]] == kinds(2)[1:]


def test_put_manifest_when_only_the_api_can_list_it_then_that_is_enough(registry):
    registry.referrers_api = True
    registry.fault("PUT", LIST, status=400, times=9)
    with store_of(registry) as store:
        store.put_manifest(referrer(0), OCI_MANIFEST)
        assert listed(store) == kinds(1)


def index_of(*descriptors):
    kind = {"Content-Type": OCI_INDEX}
    return {"status": 200, "body": ImageIndex(tuple(descriptors)).to_json(), "headers": kind}


def test_put_manifest_when_the_api_lists_it_later_then_waited_for(registry):
    registry.referrers_api = registry.oci_subject = True
    registry.fault("GET", "/referrers/", times=3, **index_of())
    time = FakeTime()
    with store_of(registry, time=time) as store:
        store.put_manifest(referrer(0), OCI_MANIFEST)
        assert listed(store) == kinds(1)
    assert len(time.slept) == 3


@pytest.mark.parametrize("acknowledged", [True, False])
def test_put_manifest_when_the_api_never_lists_it_then_an_error(registry, acknowledged):
    registry.oci_subject = acknowledged
    registry.fault("GET", "/referrers/", times=99, **index_of())
    refused = pytest.raises(RegistryError, match="does not list it among the referrers of sha256:")
    with store_of(registry) as store, refused as caught:
        store.put_manifest(referrer(0), OCI_MANIFEST)
    assert "tocsin convert" in caught.value.hint
    assert len(registry.asked("GET", "/referrers/")) < 10


@pytest.mark.parametrize("kind", ["application/json", "text/html"])
def test_put_manifest_when_acknowledged_without_api_then_tag_is_written(registry, kind):
    """Like oras-go: a response that is not an image index means that there is no API."""
    registry.referrers_api = registry.oci_subject = True
    answer = index_of() | {"headers": {"Content-Type": kind}}
    registry.fault("GET", "/referrers/", times=99, **answer)
    with store_of(registry) as store:
        store.put_manifest(referrer(0), OCI_MANIFEST)
        assert listed(store) == kinds(1)


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


@pytest.mark.parametrize("status", [400, 404, 405, 406, 410, 501])
def test_referrers_when_the_api_is_missing_then_the_tag_is_used(registry, status):
    registry.fault("GET", "/referrers/", status=status, times=9)
    with store_of(registry) as store:
        store.put_manifest(referrer(0), OCI_MANIFEST)
        assert listed(store) == kinds(1)
    assert len(at_tag(registry)["manifests"]) == 1


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 401},
        {"status": 403},
        {"status": 429},
        {"status": 500},
        {"status": 503},
        {"status": 200, "body": b"", "headers": {"Content-Type": OCI_INDEX}},
        {"status": 200, "body": b"[]", "headers": {"Content-Type": OCI_INDEX}},
        {"status": 302, "headers": {"Location": "ftp://x/"}},
    ],
    ids=lambda answer: str(answer["status"]),
)
def test_referrers_when_the_api_refuses_then_one_warning_and_the_tag(registry, answer, caplog):
    with store_of(registry) as store:
        store.put_manifest(referrer(0), OCI_MANIFEST)
    words = b'{"errors":[{"code":"X","message":"not for you"}]}'
    registry.fault("GET", "/referrers/", times=99, **({"body": words} | answer))
    with store_of(registry) as store:
        for _ in range(3):
            found = store.referrers(SUBJECT.digest, lenient=True)
            assert [d.artifact_type for d in found] == kinds(1)
        with pytest.raises(TocsinError):
            store.referrers(SUBJECT.digest)
    [warning] = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert registry.host in warning
    assert "body" in answer or "headers" in answer or 'X: "not for you"' in warning


@pytest.mark.parametrize("status", [401, 403, 503])
def test_referrers_when_a_reader_gets_no_list_then_empty_and_one_warning(registry, status, caplog):
    registry.fault("GET", LIST, status=status, times=99)
    with store_of(registry) as store:
        assert store.referrers(SUBJECT.digest, lenient=True) == []
        with pytest.raises(RegistryError):
            store.referrers(SUBJECT.digest)
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "application/octet-stream"])
def test_put_manifest_when_the_list_has_a_generic_media_type_then_kept(registry, kind):
    registry.fault(
        "GET", LIST, skip=1, times=99, **(index_of() | {"headers": {"Content-Type": kind}})
    )
    with store_of(registry) as store:
        assert store.referrers(SUBJECT.digest) == []
        assert store.referrers(SUBJECT.digest) == []


def test_referrers_when_the_api_returns_a_web_page_then_the_tag_is_read(registry):
    html = {"Content-Type": "text/html"}
    registry.fault("GET", "/referrers/", status=200, body=b"<html>", headers=html, times=9)
    with store_of(registry) as store:
        store.put_manifest(referrer(0), OCI_MANIFEST)
        assert listed(store) == kinds(1)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"schemaVersion":2,"manifests":[{"digest":"x"}]}'])
def test_referrers_when_the_response_is_invalid_then_refused(registry, body):
    kind = {"Content-Type": OCI_INDEX}
    registry.fault("GET", "/referrers/", status=200, body=body, headers=kind)
    with store_of(registry) as store, pytest.raises(FormatError):
        listed(store)


def test_referrers_when_denied_or_failing_then_not_treated_as_empty(registry):
    registry.fault("GET", "/referrers/", status=403)
    with store_of(registry) as store, pytest.raises(RegistryError, match="HTTP 403"):
        listed(store)
    registry.fault("GET", "/referrers/", status=503, times=9)
    with store_of(registry) as store, pytest.raises(RegistryError, match="HTTP 503"):
        listed(store)


# -- with the tag ----------------------------------------------------------------------------------


def test_put_manifest_when_there_is_no_api_then_listed_in_the_tag_in_order(registry):
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


def test_put_manifest_when_already_listed_then_the_tag_is_not_written(registry):
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


def test_put_manifest_when_the_tag_is_not_a_list_then_not_overwritten(registry):
    image = make_image({"other": b"thing"})
    with store_of(registry) as store:
        image.put(store, TAG)
        with pytest.raises(ConflictError, match="not a list of referrers"):
            store.put_manifest(referrer(0), OCI_MANIFEST)
        assert store.resolve(TAG) == image.descriptor


def test_put_manifest_when_the_list_would_be_too_large_then_refused(registry, monkeypatch):
    with store_of(registry) as store:
        store.put_manifest(referrer(0), OCI_MANIFEST)
        limit = len(json.dumps(at_tag(registry))) + 100
        monkeypatch.setattr(room, "MAX_SIZE", limit)
        with pytest.raises(FormatError, match=f"expected at most {limit}"):
            store.put_manifest(referrer(1), OCI_MANIFEST)
        monkeypatch.setattr(room, "MAX_ENTRIES", 0)
        with pytest.raises(FormatError, match="more than 0 referrers"):
            listed(store)


@pytest.mark.parametrize("kinds_of_fault", [{"drop": True}, {"drop_answer": True}, {"status": 502}])
def test_put_manifest_when_writing_the_list_fails_then_repeated(registry, kinds_of_fault):
    registry.fault("PUT", LIST, times=2, **kinds_of_fault)
    with store_of(registry) as store:
        store.put_manifest(referrer(0), OCI_MANIFEST)
        assert listed(store) == kinds(1)


# -- several writers -------------------------------------------------------------------------------


def store_with(registry, clock):
    reference = RegistryReference(registry.host, "team/app")
    return open_repository(reference, RegistryOptions(_clock=clock))


class Steps:
    """Return a sleep in which two writers wait for each other the first time that each sleeps."""

    def __init__(self):
        self.met = threading.Barrier(2)
        self.seen = threading.local()

    def sleep(self, _):
        if not getattr(self.seen, "slept", False):
            self.seen.slept = True
            self.met.wait(20)


@pytest.mark.parametrize("entity_tags", [False, True])
def test_two_writers_when_both_read_first_then_no_entry_is_lost(registry, entity_tags):
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


def test_two_writers_when_one_overwrites_after_a_check_then_checked_again(registry):
    """The list differs from what was written, so other clients are active."""
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
def test_many_writers_when_concurrent_then_no_entry_is_lost(registry, entity_tags):
    registry.entity_tags = entity_tags
    start = threading.Barrier(6)

    def write(number):
        with store_with(registry, Clock()) as store:  # the real clock
            start.wait(20)
            store.put_manifest(referrer(number), OCI_MANIFEST)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    with store_of(registry) as store:
        assert sorted(listed(store)) == kinds(6)


def test_writer_when_others_never_stop_then_an_error(registry):
    empty = ImageIndex(()).to_json()

    def erase(_):
        repository = registry.repository("team/app")
        repository.manifests[digest_of(empty)] = (OCI_INDEX, empty)
        repository.tags[TAG] = digest_of(empty)

    refused = pytest.raises(RegistryError, match="other clients replaced the list")
    with store_with(registry, Clock(sleep=erase)) as store, refused as caught:
        store.put_manifest(referrer(0), OCI_MANIFEST)
    assert caught.value.temporary
    assert len(registry.asked("PUT", LIST)) == room.MAX_ROUNDS


# -- tags that cannot be replaced ------------------------------------------------------------------

IMMUTABLE = b'{"errors":[{"code":"TAG_INVALID","message":"the tag is immutable"}]}'


@pytest.mark.parametrize("entity_tags", [False, True])
@pytest.mark.parametrize("status", [400, 403, 405, 409, 412])
def test_put_manifest_when_the_tag_is_immutable_then_an_error_with_a_hint(
    registry, status, entity_tags
):
    registry.entity_tags = entity_tags
    time = FakeTime()
    with store_of(registry, time=time) as store:
        store.put_manifest(referrer(0), OCI_MANIFEST)
        before = len(time.slept)
        registry.requests.clear()
        registry.fault("PUT", LIST, status=status, body=IMMUTABLE, times=99)
        with pytest.raises(RegistryError) as caught:
            store.put_manifest(referrer(1), OCI_MANIFEST)
        assert listed(store) == kinds(1)
    assert f'HTTP {status} TAG_INVALID: "the tag is immutable"' in caught.value.message
    assert "tocsin convert" in caught.value.hint
    assert "sha256-*" in caught.value.hint
    assert not caught.value.temporary
    maybe_a_race = status in (409, 412)
    refusals = (3 if entity_tags else 2) if maybe_a_race else 1
    assert len(registry.asked("PUT", LIST)) == refusals
    assert sum(time.slept[before:]) < 1


def test_put_manifest_when_others_write_between_refusals_then_it_is_a_race(registry):
    numbers = iter(range(1, 9))

    def another_writes():
        entries = [
            replace(Descriptor.of(referrer(n), OCI_MANIFEST), artifact_type=kinds(n + 1)[n])
            for n in range(next(numbers))
        ]
        data = ImageIndex(tuple(entries)).to_json()
        registry.repository("team/app").manifests[digest_of(data)] = (OCI_INDEX, data)
        registry.repository("team/app").tags[TAG] = digest_of(data)

    registry.fault("PUT", LIST, status=409, times=4, before=another_writes)
    with store_of(registry) as store:
        store.put_manifest(referrer(8), OCI_MANIFEST)
        assert listed(store) == [*kinds(4), "application/vnd.test.8"]


def test_put_manifest_when_the_condition_is_refused_then_written_without(registry):
    registry.entity_tags = True
    with store_of(registry) as store:
        store.put_manifest(referrer(0), OCI_MANIFEST)
        registry.requests.clear()
        registry.fault("PUT", LIST, status=412, times=2)
        store.put_manifest(referrer(1), OCI_MANIFEST)
        assert listed(store) == kinds(2)
    conditions = [r.headers.get("if-match") for r in registry.asked("PUT", LIST)]
    assert [condition is not None for condition in conditions] == [True, True, False]


# -- deleting --------------------------------------------------------------------------------------


def test_delete_when_listed_then_the_list_changes_before_the_manifest(registry):
    with store_of(registry) as store:
        put = store.put_manifest(referrer(0), OCI_MANIFEST)
        registry.requests.clear()
        store.delete(put)
    changes = [r.method for r in registry.requests if r.method in ("PUT", "DELETE")]
    assert changes == ["PUT", "DELETE"]


@pytest.mark.parametrize("status", [400, 403, 409, 412])
def test_delete_when_the_list_cannot_change_then_the_manifest_is_kept(registry, status):
    with store_of(registry) as store:
        put = store.put_manifest(referrer(0), OCI_MANIFEST)
        registry.fault("PUT", LIST, status=status, body=IMMUTABLE, times=99)
        with pytest.raises(RegistryError, match="the tag is immutable") as caught:
            store.delete(put)
        assert "sha256-*" in caught.value.hint
        assert store.referrers(SUBJECT.digest) == [replace(put, annotations={"made-by": "test"})]
        assert store.manifest(put) == referrer(0)
    assert registry.asked("DELETE") == []


def test_delete_when_unsupported_then_the_hint_says_what_was_changed(registry):
    with store_of(registry) as store:
        put = store.put_manifest(referrer(0), OCI_MANIFEST)
        registry.fault("DELETE", "/manifests/", status=405)
        with pytest.raises(RegistryError) as caught:
            store.delete(put)
        assert listed(store) == []
    assert "removed from the list of referrers" in caught.value.hint


def test_delete_when_the_api_lists_then_no_tag_is_written(registry):
    registry.referrers_api = registry.oci_subject = True
    registry.fault("GET", LIST, status=403, times=9)
    with store_of(registry) as store:
        put = store.put_manifest(referrer(0), OCI_MANIFEST)
        store.delete(put)
        assert listed(store) == []
    assert registry.asked("PUT", LIST) == []
