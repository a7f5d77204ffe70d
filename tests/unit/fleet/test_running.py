"""Plans and runs with an in-process registry: what is read, pushed, skipped and repeated."""

import json
import pickle
from collections import Counter
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

import pytest

import tocsin
from support import fleets
from support.images import image_of
from support.registry import Registry
from tocsin import fleet
from tocsin.fleet import connections
from tocsin.fleet.journal import Journal
from tocsin.fleet.tasks import CheckPush, IndexImage, IndexLayer, perform
from tocsin.model.media_types import OCI_LAYER_GZIP
from tocsin.model.reference import parse_registry_name
from tocsin.stores.registry import open_repository

ALL = tocsin.IndexingOptions(min_layer_size=0)
SHARED = {"a/one": ("base", "one"), "a/two": ("base", "two"), "b/three": ("base", "two", "three")}


@pytest.fixture
def registry():
    with Registry() as started:
        yield started


@pytest.fixture
def filled(registry):
    registry.digests = {
        name: fleets.put(registry.host, name, *layers) for name, layers in SHARED.items()
    }
    registry.requests.clear()
    return registry


def planned(registry, *more, **how):
    sources = [f"{registry.host}/{name}:1" for name in SHARED] + list(more)
    return fleet.plan(sources, options=ALL, **how)


def assert_all_indexed(registry):
    for name, layers in SHARED.items():
        assert fleets.soci_indexes(registry, name) == {
            registry.digests[name]: fleets.layer_digests(layers)
        }


def test_run_when_images_share_layers_then_each_is_read_once(filled, tmp_path):
    plan = planned(filled)
    assert len(plan.layers) == 4
    filled.requests.clear()
    result = fleet.run(plan, tmp_path / "j", jobs=2)
    read = fleets.blobs_read(filled)
    layers = fleets.layer_digests(["base", "one", "two", "three"])
    assert {digest: read[digest] for digest in layers} == dict.fromkeys(layers, 1)
    assert result.status.images == fleet.FleetCounts(done=3)
    assert result.status.layers == fleet.FleetCounts(done=4)
    assert (result.stopped, result.status.is_complete) == (None, True)
    assert_all_indexed(filled)


def test_run_when_compared_with_create_then_the_same_blobs_exist(filled, tmp_path):
    fleet.run(planned(filled), tmp_path / "j", jobs=2)
    with Registry() as other:
        for name, layers in SHARED.items():
            fleets.put(other.host, name, *layers)
            tocsin.create(f"{other.host}/{name}:1", options=ALL)
        for name in SHARED:
            assert filled.repository(name).blobs == other.repository(name).blobs
            assert filled.repository(name).manifests.keys() == (
                other.repository(name).manifests.keys()
            )


def test_run_when_the_registry_refuses_mounts_then_ztocs_are_copied(filled, tmp_path):
    filled.mounts = False
    fleet.run(planned(filled), tmp_path / "j", jobs=2)
    assert_all_indexed(filled)


def test_run_when_ztocs_are_built_then_pushed_without_asking(filled, tmp_path):
    plan = planned(filled)
    fleet.run(plan, tmp_path / "j", jobs=1)
    layers = set(fleets.layer_digests(["base", "one", "two", "three"]))
    with Journal.open_for_reading(tmp_path / "j") as journal:
        built = {str(known.result.ztoc.digest) for known in journal.known_layers().values()}
    assert len(built) == len(layers)
    asked = [r for r in filled.asked("HEAD", "/blobs/") if r.path.rpartition("/")[2] in built]
    assert {request.status for request in asked} == {200}  # only by images, later
    stored = fleet.status(tmp_path / "j").traffic
    blobs = [filled.repository(name).blobs for name in SHARED]
    sizes = {digest: len(each[digest]) for each in blobs for digest in each if digest in built}
    assert stored.ztocs == sum(sizes.values()) + 2 * len(SHARED)  # and the config {} of each index


def test_run_when_it_was_complete_then_no_layer_is_read_again(filled, tmp_path):
    plan = planned(filled)
    fleet.run(plan, tmp_path / "j")
    filled.requests.clear()
    again = fleet.run(plan, tmp_path / "j")
    assert filled.requests == []
    assert again.status == fleet.status(tmp_path / "j")


def test_plan_when_another_repository_has_the_ztoc_then_not_read(filled, tmp_path):
    tocsin.create(f"{filled.host}/b/three:1", options=ALL)
    plan = planned(filled)
    assert [image.skipped for image in plan.images] == [None, None, "already has SOCI indexes"]
    filled.requests.clear()
    fleet.run(plan, tmp_path / "j")
    read = fleets.blobs_read(filled)
    assert [read[digest] for digest in fleets.layer_digests(["base", "two", "one"])] == [0, 0, 1]
    assert_all_indexed(filled)


def test_plan_when_rebuilt_then_existing_ztocs_are_ignored(filled):
    tocsin.create(f"{filled.host}/b/three:1", options=ALL)
    plan = fleet.plan(
        [f"{filled.host}/b/three:1"],
        options=tocsin.IndexingOptions(min_layer_size=0, rebuild=True),
    )
    assert [layer.is_read for layer in plan.layers] == [True] * 3


def test_run_when_the_existing_ztoc_is_damaged_then_the_layer_is_read(filled, tmp_path):
    created = tocsin.create(f"{filled.host}/a/one:1", options=ALL)
    plan = planned(filled)
    ztoc = str(created.platforms[0].layers[0].ztoc.digest)
    filled.repository("a/one").blobs[ztoc] = b"damaged"
    filled.requests.clear()
    result = fleet.run(plan, tmp_path / "j")
    assert result.status.images.done == 2
    assert fleets.blobs_read(filled)[fleets.layer_digests(["base"])[0]] == 1
    assert fleets.soci_indexes(filled, "a/two")


def test_run_when_a_local_store_has_ztocs_then_layers_are_not_read(filled, tmp_path):
    store = tocsin.ZtocDirectory(tmp_path / "ztocs")
    with Registry() as other:
        fleets.put(other.host, "x", "base", "one", "two", "three")
        tocsin.create(f"{other.host}/x:1", options=ALL, known=store)
    plan = planned(filled)
    filled.requests.clear()
    result = fleet.run(plan, tmp_path / "j", known=store)
    assert result.status.images.done == 3
    assert not fleets.blobs_read(filled).keys() & set(
        fleets.layer_digests(["base", "one", "two", "three"])
    )
    assert_all_indexed(filled)


def test_plan_when_layers_are_small_then_they_are_left_out(filled, tmp_path):
    fleets.put(filled.host, "c/large", "base", "big", size=30_000)
    options = tocsin.IndexingOptions(min_layer_size=25_000)
    plan = fleet.plan([f"{filled.host}/a/one:1", f"{filled.host}/c/large:1"], options=options)
    assert plan.images[0].skipped.startswith("nothing to index: size 2")
    assert [layer.skipped for layer in plan.layers] == [None, None]
    result = fleet.run(plan, tmp_path / "j")
    assert result.status.images == fleet.FleetCounts(done=1, skipped=1)


def test_run_when_no_layer_can_be_indexed_then_skipped_with_reason(registry, tmp_path):
    with open_repository(parse_registry_name(f"{registry.host}/odd"), write=True) as store:
        image_of((b"not gzip at all" * 100, OCI_LAYER_GZIP)).put(store, "1")
    plan = fleet.plan(f"{registry.host}/odd:1", options=ALL)
    result = fleet.run(plan, tmp_path / "j")
    (problem,) = result.status.problems
    assert (problem.state, problem.reason.startswith("nothing to index: ")) == ("skipped", True)
    assert result.status.is_complete


def test_run_when_images_are_converted_then_tags_have_the_suffix(filled, tmp_path):
    plan = planned(filled, convert_suffix="-soci")
    result = fleet.run(plan, tmp_path / "j")
    assert result.status.images.done == 3
    read = fleets.blobs_read(filled)
    assert [read[digest] for digest in fleets.layer_digests(["base", "one"])] == [1, 1]
    with Registry() as other:
        for name, layers in SHARED.items():
            fleets.put(other.host, name, *layers)
            image = f"{other.host}/{name}:1"
            tocsin.convert(image, f"{image}-soci", options=ALL)
            assert filled.repository(name).tags == other.repository(name).tags


# Bad input


def test_run_when_a_tag_has_moved_then_skipped_with_both_digests(filled, tmp_path):
    plan = planned(filled)
    moved = fleets.put(filled.host, "a/one", "base", "other")
    result = fleet.run(plan, tmp_path / "j")
    (problem,) = result.status.problems
    assert problem.state == "skipped"
    assert (moved in problem.reason, filled.digests["a/one"] in problem.reason) == (True, True)
    assert result.status.images == fleet.FleetCounts(done=2, skipped=1)
    assert fleets.soci_indexes(filled, "a/one") == {}


def test_run_when_another_tag_still_names_the_image_then_indexed(filled, tmp_path):
    fleets.put(filled.host, "a/one", "base", "one", tag="stable")
    plan = fleet.plan([f"{filled.host}/a/one:*"], options=ALL)
    assert plan.images[0].tags == ("1", "stable")
    fleets.put(filled.host, "a/one", "base", "other")
    assert fleet.run(plan, tmp_path / "j").status.images == fleet.FleetCounts(done=1)


def test_run_when_images_vanished_then_others_are_indexed(filled, tmp_path):
    plan = planned(filled)
    del filled.repositories["b/three"]
    filled.repository("a/two").manifests.clear()
    filled.repository("a/two").tags.clear()
    result = fleet.run(plan, tmp_path / "j")
    assert {problem.reason for problem in result.status.problems} == {"the image no longer exists"}
    assert result.status.images == fleet.FleetCounts(done=1, skipped=2)
    assert fleets.soci_indexes(filled, "a/one")


def test_run_when_images_vanished_then_nothing_stays_pending(filled, tmp_path):
    plan = planned(filled)
    for name in ("a/one", "a/two"):
        filled.repository(name).manifests.clear()
        filled.repository(name).tags.clear()
        filled.repository(name).blobs.clear()
    for _ in range(2):
        result = fleet.run(plan, tmp_path / "j")
        assert result.status.images == fleet.FleetCounts(done=1, skipped=2)
        assert result.status.layers == fleet.FleetCounts(done=3, failed=1)


def test_run_when_a_layer_vanished_then_its_images_fail(filled, tmp_path):
    plan = planned(filled)
    (digest,) = fleets.layer_digests(["one"])
    del filled.repository("a/one").blobs[digest]
    result = fleet.run(plan, tmp_path / "j")
    (problem,) = result.status.problems
    assert (problem.state, problem.code) == ("failed", "not-found")
    assert result.status.images == fleet.FleetCounts(done=2, failed=1)


def test_run_when_a_layer_is_damaged_then_its_images_fail(filled, tmp_path):
    plan = planned(filled)
    (digest,) = fleets.layer_digests(["one"])
    data = filled.repository("a/one").blobs[digest]
    filled.repository("a/one").blobs[digest] = data[:-1] + bytes([data[-1] ^ 1])
    result = fleet.run(plan, tmp_path / "j")
    (problem,) = result.status.problems
    assert problem.reason.startswith(f"layer {digest}: ")
    filled.repository("a/one").blobs[digest] = data
    assert fleet.run(plan, tmp_path / "j").status.images == fleet.FleetCounts(done=3)


def test_run_when_pushing_is_denied_then_error_before_work(filled, tmp_path):
    plan = planned(filled)
    filled.requests.clear()
    filled.fault("POST", "/v2/a/two/blobs/uploads/", times=99, status=403)
    with pytest.raises(tocsin.AuthError) as caught:
        fleet.run(plan, tmp_path / "j")
    assert caught.value.message.startswith(f"no permission to push to {filled.host}/a/two: ")
    assert fleets.blobs_read(filled) == {}
    assert fleet.status(tmp_path / "j").images.pending == 3


@pytest.mark.parametrize("status", [429, 503])
def test_run_when_the_registry_is_busy_then_images_are_tried_again(filled, tmp_path, status):
    plan = planned(filled)
    for method, path in (("GET", "/blobs/"), ("PUT", "/manifests/"), ("HEAD", "/manifests/")):
        fault = filled.fault(method, path, times=11, status=status)
        fault.headers = {"Retry-After": "0"}
    result = fleet.run(plan, tmp_path / "j", pause=0.0)
    assert result.status.images == fleet.FleetCounts(done=3)
    assert_all_indexed(filled)


def test_run_when_an_error_is_final_then_not_tried_again(filled, tmp_path):
    plan = planned(filled)
    filled.fault("PUT", "/v2/a/one/manifests/", times=99, status=400)
    result = fleet.run(plan, tmp_path / "j", pause=0.0)
    assert result.status.images == fleet.FleetCounts(done=2, failed=1)
    assert len(filled.asked("PUT", "/v2/a/one/manifests/")) == 1


def test_run_when_max_bytes_is_reached_then_the_next_run_continues(filled, tmp_path):
    plan = planned(filled)
    sizes = sorted(layer.layer.size for layer in plan.layers)
    first = fleet.run(plan, tmp_path / "j", max_bytes=sizes[-1] + sizes[-2])
    assert first.stopped == "max-bytes"
    assert first.status.layers.done == 2
    assert first.status.read <= sizes[-1] + sizes[-2]
    second = fleet.run(plan, tmp_path / "j")
    assert (second.stopped, second.status.images.done) == (None, 3)
    read = fleets.blobs_read(filled)
    assert {read[digest] for digest in fleets.layer_digests(["base", "one", "two", "three"])} == {1}


def test_run_when_progress_raises_then_stopped_and_resumable(filled, tmp_path):
    plan = planned(filled)
    seen = []

    def stop(event):
        seen.append(event)
        if event.finished:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fleet.run(plan, tmp_path / "j", progress=stop)
    assert seen[0].images.pending == 3
    assert fleet.run(plan, tmp_path / "j").status.images.done == 3


# Executors


def test_run_when_tasks_run_in_other_processes_then_same_result(filled, tmp_path):
    plan = planned(filled)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        result = fleet.run(plan, tmp_path / "j", executor=executor, jobs=2)
    assert result.status.images == fleet.FleetCounts(done=3)
    assert_all_indexed(filled)


class Losing:
    """An executor that loses each task a number of times, as if its worker had died."""

    def __init__(self, losses, error):
        self.losses, self.error = losses, error
        self.seen = {}

    def submit(self, function, task):
        future = Future()
        key = repr(task)
        self.seen[key] = self.seen.get(key, 0) + 1
        if self.seen[key] <= self.losses:
            future.set_exception(self.error)
        else:
            try:
                future.set_result(function(pickle.loads(pickle.dumps(task))))  # noqa: S301
            except Exception as error:
                future.set_exception(error)
        return future


def test_run_when_workers_are_lost_then_tasks_are_repeated(filled, tmp_path):
    executor = Losing(2, RuntimeError("worker lost"))
    plan = planned(filled)
    result = fleet.run(plan, tmp_path / "j", executor=executor, pause=0.0)
    assert result.status.images == fleet.FleetCounts(done=3)
    assert_all_indexed(filled)


class LosingResults(Losing):
    """An executor that runs each task, but loses the first result, as if its worker had died."""

    def submit(self, function, task):
        key = repr(task).replace("is_repeated=True", "is_repeated=False")
        self.seen[key] = self.seen.get(key, 0) + 1
        function(task)
        future = Future()
        if self.seen[key] <= self.losses:
            future.set_exception(self.error)
        else:
            future.set_result(function(task))
        return future


def test_run_when_results_of_images_are_lost_then_none_is_stored_twice(filled, tmp_path):
    plan = planned(filled)
    fleet.run(plan, tmp_path / "j", executor=LosingResults(1, RuntimeError("lost")), pause=0.0)
    assert_all_indexed(filled)
    for name, digest in filled.digests.items():
        stored = [
            request
            for request in filled.asked("PUT", f"/v2/{name}/manifests/sha256:")
            if request.path.rpartition("/")[2] != digest
        ]
        assert len(stored) == 1


def test_batch_when_one_image_fails_then_the_others_are_done(filled, tmp_path):
    plan = planned(filled)
    filled.fault("PUT", "/v2/a/one/manifests/", times=99, status=400)
    executor = Losing(0, None)
    result = fleet.run(plan, tmp_path / "j", executor=executor, jobs=1)
    assert result.status.images == fleet.FleetCounts(done=2, failed=1)
    assert any("Batch(" in task for task in executor.seen)


@pytest.mark.parametrize(("limit", "largest"), [(None, 4), (4, 2), (1, 1)])
def test_batch_when_tasks_per_host_are_limited_then_smaller(registry, tmp_path, limit, largest):
    names = [f"app{at}" for at in range(16)]
    for name in names:
        fleets.put(registry.host, name, name)
    sizes = []

    class Measuring(Losing):
        def submit(self, function, task):
            if not isinstance(task, CheckPush):
                sizes.append(len(getattr(task, "tasks", [task])))
            return super().submit(function, task)

    plan = fleet.plan([f"{registry.host}/{name}:1" for name in names], options=ALL)
    how = {"executor": Measuring(0, None), "jobs": 2, "max_per_host": limit}
    assert fleet.run(plan, tmp_path / "j", **how).status.images.done == 16
    assert sum(sizes) == 32
    assert max(sizes) == largest if limit else max(sizes) >= largest
    # Towards the end, batches are smaller.
    assert sizes[-1] <= 2


def test_connections_when_a_run_ends_then_few_were_opened_all_closed(filled, tmp_path):
    filled.accepted.clear()
    plan = planned(filled, jobs=1)
    fleet.run(plan, tmp_path / "j", jobs=1)
    # One for planning and a few for the run, each after a probe for TLS, for over 50 requests.
    assert len(filled.accepted) <= 6
    assert len(filled.requests) > 50
    assert connections._PROCESS.kept._connections == {}


def test_run_when_workers_are_always_lost_then_failed_with_reason(filled, tmp_path):
    executor = Losing(99, RuntimeError("worker\x1b lost"))
    plan = planned(filled)
    result = fleet.run(
        plan, tmp_path / "j", executor=executor, pause=0.0, tries=3, check_push=False
    )
    assert result.status.images == fleet.FleetCounts(failed=3)
    assert {problem.code for problem in result.status.problems} == {"worker"}
    assert "\x1b" not in result.status.problems[0].reason


def test_run_when_the_executor_breaks_then_engine_error(filled, tmp_path):
    plan = planned(filled)
    with pytest.raises(tocsin.EngineError) as caught:
        fleet.run(plan, tmp_path / "j", executor=Losing(99, BrokenProcessPool("gone")))
    assert caught.value.error_code == "engine"
    assert fleet.run(plan, tmp_path / "j").status.images.done == 3


def test_tasks_when_pickled_then_without_secrets(filled, tmp_path):
    sent = []

    class Recording(Losing):
        def submit(self, function, task):
            sent.append(pickle.dumps((function, task)))
            future = super().submit(function, task)
            sent.append(pickle.dumps(future.result()))
            return future

    plan = planned(filled)
    registry = tocsin.RegistryOptions(username="alice-user", password="secret-word")  # noqa: S106
    fleet.run(plan, tmp_path / "j", executor=Recording(0, None), jobs=1, registry=registry)
    everything = (
        b"".join(sent) + (tmp_path / "j").read_bytes() + json.dumps(plan.to_dict()).encode()
    )
    for secret in (b"secret-word", b"alice-user"):
        assert secret not in everything
    tasks = [pickle.loads(one)[1] for one in sent[::2]]  # noqa: S301 (ours)
    single = [each for task in tasks for each in getattr(task, "tasks", [task])]
    kinds = Counter(map(type, single))
    assert kinds == {CheckPush: 1, IndexLayer: 4, IndexImage: 3}
    assert len(tasks) < len(single)  # some were sent together
    assert all(task.registry._kept is None for task in single)


def test_task_when_its_repository_is_gone_then_the_next_is_used(filled):
    base = planned(filled).layers[0].layer
    assert str(base.digest) == fleets.layer_digests(["base"])[0]
    names = (f"{filled.host}/gone", f"{filled.host}/a/one")
    done = perform(IndexLayer(base, names, None, b"", ALL, None))
    assert done.known.repository == names[1]
