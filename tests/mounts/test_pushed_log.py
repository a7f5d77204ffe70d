"""Mounts and the access log beside their image: when it is used, and what it may cost."""

import json
import os
import time
from itertools import pairwise

import pytest

import tocsin
from support.mounts import DATA_FILES, data_of
from support.registry import Registry
from tocsin.model.access_log import AccessedFile, AccessLog

SIZE = 1 << 20
FIRST = AccessedFile(0.1, "data/4.bin", ((0, SIZE),))
SECOND = AccessedFile(0.2, "data/1.bin", ((294_912, 303_104),))


@pytest.fixture
def registry(layout):
    with Registry() as registry:
        tocsin.copy(f"oci:{layout}:seek", f"{registry.host}/app:1")
        tocsin.copy(f"oci:{layout}:v2", f"{registry.host}/app:v2")
        yield registry


def push(registry, *files, tag="1", image=None):
    log = AccessLog(tuple(files), image=image)
    pushed = tocsin.push_access_log(f"{registry.host}/app:{tag}", log)
    registry.requests.clear()
    return str(pushed.manifest.digest)


def wait_until(machine, condition):
    deadline = time.monotonic() + 60
    while not condition(found := machine.status()):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def settled(machine):
    """Return the status once a log is used and nothing more is fetched."""
    found = wait_until(machine, lambda status: status["access_log"] is not None)
    while True:
        time.sleep(0.5)
        before, found = found, machine.status()
        if before["fetches"] == found["fetches"]:
            return found


def layer_ranges(registry):
    """Return the ranges that were requested of the large layer, in order."""
    blobs = registry.repository("app").blobs
    large = max(blobs, key=lambda digest: len(blobs[digest]))
    asked = registry.asked("GET", f"/blobs/{large}")
    texts = [each.headers["range"].removeprefix("bytes=") for each in asked]
    return [tuple(map(int, text.split("-"))) for text in texts]


@pytest.mark.parametrize("tag", ["1", "v2"])
def test_mount_when_image_has_a_log_then_only_what_it_lists_is_fetched(machine, registry, tag):
    used = push(registry, FIRST, SECOND, tag=tag)
    mounted = machine.mount(f"{registry.host}/app:{tag}", "--no-background")
    found = settled(machine)
    assert (found["access_log"], found["reads"]) == (used, 0)
    assert SIZE <= found["bytes_fetched"] < 2 * SIZE
    assert found["bytes_total"] > DATA_FILES * SIZE
    # The log is looked for when the mount is ready, and costs two requests.
    assert len(registry.asked("GET", f"/manifests/{used}")) == 1
    assert mounted["notes"] == []
    registry.__exit__()
    path = machine.mount_point / "data"
    assert (path / "4.bin").read_bytes() == data_of(4)
    with (path / "1.bin").open("rb", buffering=0) as file:
        # Without it, the kernel reads more than the log lists.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        file.seek(300_000)
        assert file.read(1) == data_of(1)[300_000:300_001]


def test_mount_when_a_range_ends_after_its_file_then_no_other_is_fetched(machine, registry):
    image = tocsin.resolve(f"{registry.host}/app:1").digest
    push(registry, AccessedFile(0, "data/4.bin", ((0, (1 << 63) - 1),)), image=image)
    machine.mount(f"{registry.host}/app:1", "--no-background")
    assert SIZE <= settled(machine)["bytes_fetched"] < 2 * SIZE


def test_mount_when_pinned_then_the_log_is_used_too(machine, registry):
    digest = tocsin.resolve(f"{registry.host}/app:1").digest
    used = push(registry, FIRST)
    machine.mount(f"{registry.host}/app@{digest}", "--no-background")
    assert settled(machine)["access_log"] == used


def test_mount_when_no_log_may_be_used_then_none_is_requested(machine, registry):
    used = push(registry, FIRST)
    machine.mount(f"{registry.host}/app:1", "--no-background", "--access-log", "none")
    time.sleep(1)
    found = machine.status()
    assert (found["access_log"], found["bytes_fetched"]) == (None, 0)
    assert registry.asked("GET", f"/manifests/{used}") == []


def test_mount_when_a_file_is_given_then_no_other_log_is_requested(machine, registry):
    used = push(registry, FIRST)
    file = machine.directory / "other.log"
    AccessLog((SECOND,)).write(file)
    machine.mount(f"{registry.host}/app:1", "--no-background", "--access-log", file)
    found = settled(machine)
    assert found["access_log"] == str(file)
    assert found["bytes_fetched"] < SIZE
    assert registry.asked("GET", f"/manifests/{used}") == []


def test_mount_when_complete_then_no_log_is_requested(machine, registry):
    machine.mount(f"{registry.host}/app:1")
    machine.wait_for("complete")
    machine.ok("umount", machine.mount_point)
    used = push(registry, FIRST)
    machine.mount(f"{registry.host}/app:1")
    time.sleep(1)
    assert machine.status()["access_log"] is None
    assert registry.asked("GET", f"/manifests/{used}") == []


@pytest.mark.parametrize("fault", [{"status": 500}, {"stall": True, "close_after": 0}])
def test_mount_when_the_registry_fails_for_the_log_then_it_works_without(machine, registry, fault):
    used = push(registry, FIRST)
    registry.fault("GET", f"/manifests/{used}", times=100, **fault)
    begun = time.monotonic()
    machine.mount(f"{registry.host}/app:1", "--no-background")
    assert (machine.mount_point / "data/2.bin").read_bytes() == data_of(2)
    assert time.monotonic() - begun < 20
    assert machine.status()["access_log"] is None
    machine.ok("umount", machine.mount_point)


def test_mount_when_the_log_is_hostile_then_each_span_is_fetched_once(machine, registry):
    everything = ((0, (1 << 63) - 1),) * 1000
    names = [f"data/{n % 10}.bin" for n in range(100)]
    names += ["", "../etc/passwd", "/", "data", "bin/sh", "no/such/file", "a" * 4096]
    files = [AccessedFile(0, name, everything) for name in names if name]
    image = tocsin.resolve(f"{registry.host}/app:1").digest
    used = push(registry, *files, image=image)
    machine.mount(f"{registry.host}/app:1", "--no-background")
    found = settled(machine)
    assert found["access_log"] == used
    ranges = sorted(layer_ranges(registry))
    # Neighbouring spans may share a byte.
    assert all(end <= start for (_, end), (start, _) in pairwise(ranges))
    assert found["bytes_fetched"] <= found["bytes_total"]
    assert found["failures"] == 0


def test_mount_in_python_when_image_has_a_log_then_used_unless_none(machine, registry, monkeypatch):
    used = push(registry, FIRST)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(machine.run_directory))
    name = f"{registry.host}/app:1"
    for access_log, expected in ((None, None), ("auto", used)):
        cache = machine.directory / f"cache-{access_log}"
        options = {"background": False, "cache_dir": cache, "access_log": access_log}
        mount = tocsin.mount(name, **options)
        with mount:
            deadline = time.monotonic() + 30
            while mount.status().access_log != expected:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            if expected is None:
                time.sleep(0.5)
                assert mount.status().bytes_fetched == 0


def test_status_when_a_log_is_used_then_shown(machine, registry):
    used = push(registry, FIRST)
    machine.mount(f"{registry.host}/app:1", "--no-background")
    settled(machine)
    assert used in machine.ok("status", machine.mount_point)
    assert json.loads(machine.ok("index", "ls", "--json", f"{registry.host}/app:1"))
