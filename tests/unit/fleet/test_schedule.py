"""The order of tasks, limits per registry and limits of bytes."""

import random
from collections import Counter

import pytest

from tocsin.fleet.plans import Plan, PlannedImage, PlannedLayer
from tocsin.fleet.schedule import IMAGE, LAYER, Schedule
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.media_types import OCI_LAYER_GZIP


def layer(name, size, **fields):
    return PlannedLayer(Descriptor(OCI_LAYER_GZIP, Digest.of(name.encode()), size), **fields)


def image(name, *layers, host="h.io", skipped=None):
    digest = str(Digest.of(name.encode()))
    return PlannedImage(f"{host}/{name}", digest, ("1",), layers=layers, skipped=skipped)


def plan_of(layers, images):
    return Plan(tuple(images), tuple(layers), 4 << 20, 0)


def schedule_of(plan, known=(), images=None, **limits):
    return Schedule(plan, known=known, images=images or {}, **limits)


SMALL, LARGE, MIDDLE = layer("small", 10), layer("large", 30), layer("middle", 20)


def drained(schedule):
    """Run everything at once, and return the items in order."""
    done = []
    while (item := schedule.next()) is not None:
        done.append(item)
        schedule.ended(item)
        if item[0] == LAYER:
            schedule.layer_known(item[1])
    return done


def test_layers_when_scheduled_then_largest_first_and_images_at_once():
    plan = plan_of([SMALL, LARGE, MIDDLE], [image("a", 0, 1), image("b", 1), image("c", 2)])
    assert drained(schedule_of(plan)) == [
        (LAYER, 1),
        (IMAGE, 1),
        (LAYER, 2),
        (IMAGE, 2),
        (LAYER, 0),
        (IMAGE, 0),
    ]


def test_layers_when_their_ztoc_exists_then_first():
    found = layer("found", 5, ztoc=LARGE.layer, repository="h.io/z")
    plan = plan_of([LARGE, found], [image("a", 0, 1)])
    assert drained(schedule_of(plan)) == [(LAYER, 1), (LAYER, 0), (IMAGE, 0)]


def test_items_when_done_before_then_not_scheduled():
    plan = plan_of([SMALL, LARGE], [image("a", 0), image("b", 1), image("c", 0, 1)])
    schedule = schedule_of(plan, known=[1], images={0: "done", 1: "pending", 2: "skipped"})
    assert drained(schedule) == [(IMAGE, 1)]


def test_layers_when_only_skipped_images_have_them_then_not_scheduled():
    plan = plan_of([SMALL, LARGE], [image("a", 0, skipped="reason"), image("b", 1)])
    assert drained(schedule_of(plan)) == [(LAYER, 1), (IMAGE, 1)]


def test_images_when_a_layer_failed_then_dropped():
    plan = plan_of([SMALL, LARGE], [image("a", 0, 1), image("b", 1), image("c", 0)])
    schedule = schedule_of(plan)
    assert schedule.next() == (LAYER, 1)
    schedule.ended((LAYER, 1))
    assert schedule.layer_failed(1) == [0, 1]
    assert drained(schedule) == [(LAYER, 0), (IMAGE, 2)]


def test_hosts_when_limited_then_others_go_on():
    plan = plan_of(
        [LARGE, MIDDLE, SMALL],
        [image("a", 0), image("b", 1), image("c", 2, host="other.io")],
    )
    schedule = schedule_of(plan, max_per_host=1)
    assert [schedule.next(), schedule.next(), schedule.next()] == [(LAYER, 0), (LAYER, 2), None]
    schedule.ended((LAYER, 0))
    assert schedule.next() == (LAYER, 1)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (60, [LARGE, MIDDLE, SMALL]),
        (59, [LARGE, MIDDLE]),
        (45, [LARGE, SMALL]),
        (10, [SMALL]),
        (9, []),
    ],
)
def test_layers_when_bytes_are_limited_then_those_that_fit(limit, expected):
    layers = [SMALL, LARGE, MIDDLE]
    plan = plan_of(layers, [image("a", 0), image("b", 1), image("c", 2)])
    schedule = schedule_of(plan, max_bytes=limit)
    read = [layers[at] for kind, at in drained(schedule) if kind == LAYER]
    assert read == expected
    assert schedule.stopped_by_bytes == (len(expected) < 3)


@pytest.mark.parametrize("seed", range(20))
def test_plans_when_random_then_everything_runs_once_and_in_order(seed):
    chance = random.Random(seed)  # noqa: S311 (reproducible)
    layers = [layer(f"l{at}", chance.randrange(1, 1000)) for at in range(30)]
    images = [
        image(
            f"i{at}",
            *chance.sample(range(30), chance.randrange(1, 6)),
            host=chance.choice(["a.io", "b.io"]),
        )
        for at in range(40)
    ]
    plan = plan_of(layers, images)
    schedule = schedule_of(plan, max_per_host=3)
    running, seen, known = [], [], set()
    while True:
        while (item := schedule.next()) is not None:
            if item[0] == IMAGE:
                assert known >= set(images[item[1]].layers)
            running.append(item)
            hosts = Counter(schedule.host_of(each) for each in running)
            assert max(hosts.values()) <= 3
        if not running:
            break
        item = running.pop(chance.randrange(len(running)))
        schedule.ended(item)
        seen.append(item)
        if item[0] == LAYER:
            known.add(item[1])
            schedule.layer_known(item[1])
    used = {at for each in images for at in each.layers}
    assert Counter(seen) == Counter(
        [(LAYER, at) for at in used] + [(IMAGE, at) for at in range(40)]
    )
