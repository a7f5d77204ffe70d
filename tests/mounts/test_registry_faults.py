"""Mounts whose registry is slow, hangs, lies or is gone, and readers that wait meanwhile."""

import errno
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

import tocsin
from support.mounts import DATA_FILES, data_of, wait_for_end
from support.registry import Registry

IMAGE = "app/it:1"
BLOBS = "/blobs/"
LONG = 10_000
"""More often than any test asks."""


@pytest.fixture(params=["seek-fuse", "v2-auto"])
def registry(layout, request):
    tag, front = request.param.split("-")
    with Registry() as registry:
        registry.front = front
        tocsin.copy(f"oci:{layout}:{tag}", f"{registry.host}/{IMAGE}")
        yield registry


def mount(machine, registry, *options):
    return machine.mount(f"{registry.host}/{IMAGE}", "--front", registry.front, *options)


def path_of(machine, number):
    return machine.mount_point / f"data/{number}.bin"


def read(machine, number):
    return path_of(machine, number).read_bytes()


def fails_in_time(machine, number, seconds):
    """Read a file, which must fail with EIO before long; then wait until reads are tried again."""
    begun = time.monotonic()
    with pytest.raises(OSError, match=r".") as caught:
        read(machine, number)
    assert caught.value.errno == errno.EIO
    assert time.monotonic() - begun < seconds
    time.sleep(0.15)


@contextmanager
def waiting_reader(machine, number):
    """Start a process that reads a file, and wait until the read has reached the mount."""
    command = ["cat", str(path_of(machine, number))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reader:  # noqa: S603
        deadline = time.monotonic() + 10
        while not machine.status()["reads_waiting"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield reader


@pytest.mark.parametrize("status", [401, 404, 429, 503])
def test_read_when_registry_refuses_then_eio_and_the_next_works(machine, registry, status):
    mount(machine, registry, "--no-background", "--read-timeout", "1")
    fault = registry.fault("GET", BLOBS, times=LONG, status=status)
    fails_in_time(machine, 1, 2)
    fails_in_time(machine, 1, 2)
    registry.faults.remove(fault)
    assert read(machine, 1) == data_of(1)


def test_read_when_registry_sends_slowly_then_it_is_right(machine, registry):
    mount(machine, registry, "--no-background")
    registry.fault("GET", BLOBS, times=LONG, before=lambda: time.sleep(0.3))
    assert read(machine, 1) == data_of(1)


@pytest.mark.parametrize("skip", [0, 1, 2])
def test_read_when_some_bytes_are_wrong_then_fetched_again_at_once(machine, registry, skip):
    mount(machine, registry, "--no-background")
    fault = registry.fault("GET", BLOBS, times=2, skip=skip, flip=True)
    begun = time.monotonic()
    assert [read(machine, number) for number in range(DATA_FILES)] == [
        data_of(number) for number in range(DATA_FILES)
    ]
    assert time.monotonic() - begun < 5
    # All data may arrive with two requests.
    was_used = fault.times < 2
    assert was_used or skip == 2
    assert (machine.status()["failures"] > 0) == was_used


def test_read_when_all_bytes_are_wrong_then_eio_and_the_next_works(machine, registry):
    mount(machine, registry, "--no-background", "--read-timeout", "2")
    fault = registry.fault("GET", BLOBS, times=LONG, flip=True)
    fails_in_time(machine, 3, 3)
    registry.faults.remove(fault)
    assert read(machine, 3) == data_of(3)


@pytest.mark.parametrize("kind", [{"short_range": 100}, {"length_delta": 3}, {"reset_after": 50}])
def test_read_when_lengths_are_wrong_then_eio_and_the_next_works(machine, registry, kind):
    mount(machine, registry, "--no-background", "--read-timeout", "1")
    fault = registry.fault("GET", BLOBS, times=LONG, **kind)
    fails_in_time(machine, 3, 2)
    registry.faults.remove(fault)
    assert read(machine, 3) == data_of(3)


def test_read_when_ranges_are_ignored_then_it_is_right(machine, registry):
    mount(machine, registry, "--no-background")
    registry.fault("GET", BLOBS, times=LONG, ignore_range=True)
    assert read(machine, 3) == data_of(3)


def test_read_when_one_connection_hangs_then_another_one_brings_it(machine, registry):
    mount(machine, registry, "--no-background", "--read-timeout", "8")
    registry.fault("GET", BLOBS, times=1, stall=True, close_after=0)
    assert read(machine, 0) == data_of(0)


def test_read_when_background_connections_hang_then_readers_do_not(machine, registry):
    hanging = registry.fault("GET", BLOBS, times=0, stall=True, close_after=0)
    mount(machine, registry, "--no-background", "--read-timeout", "6")
    machine.ok("umount", machine.mount_point)
    hanging.times = 4
    mount(machine, registry, "--read-timeout", "6")
    deadline = time.monotonic() + 10
    while hanging.times:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with ThreadPoolExecutor(DATA_FILES) as pool:
        found = list(pool.map(lambda number: read(machine, number), range(DATA_FILES)))
    assert found == [data_of(number) for number in range(DATA_FILES)]


def test_read_when_background_has_a_low_rate_then_readers_have_none(machine, registry):
    mount(machine, registry, "--background-rate", "50KiB", "--read-timeout", "10")
    time.sleep(0.5)  # so that the background is pacing itself
    begun = time.monotonic()
    assert [read(machine, number) for number in range(DATA_FILES)] == [
        data_of(number) for number in range(DATA_FILES)
    ]
    assert time.monotonic() - begun < 8
    machine.ok("umount", machine.mount_point)


def test_mount_when_registry_is_gone_then_only_missing_bytes_fail(machine, registry):
    mount(machine, registry, "--no-background", "--read-timeout", "1")
    assert read(machine, 0) == data_of(0)
    registry.__exit__()
    assert read(machine, 0) == data_of(0)
    for _ in range(2):
        fails_in_time(machine, 5, 2)
    assert (machine.mount_point / "data/5.bin").stat().st_size == len(data_of(5))
    status = machine.status()
    assert status["reads_waiting"] == 0
    assert status["last_error"]
    begun = time.monotonic()
    machine.ok("umount", machine.mount_point)
    assert time.monotonic() - begun < 5


def test_read_when_many_wait_in_vain_then_all_fail_in_time(machine, registry):
    mount(machine, registry, "--no-background", "--read-timeout", "2")
    fault = registry.fault("GET", BLOBS, times=LONG, stall=True, close_after=0)
    with ThreadPoolExecutor(32) as pool:
        begun = time.monotonic()
        tasks = [pool.submit(read, machine, number % DATA_FILES) for number in range(32)]
        errors = [task.exception() for task in tasks]
    assert {getattr(error, "errno", error) for error in errors} == {errno.EIO}
    assert time.monotonic() - begun < 5
    time.sleep(0.15)
    registry.faults.remove(fault)
    assert read(machine, 3) == data_of(3)


def test_reader_when_killed_while_it_waits_then_ends_in_time(machine, registry):
    mount(machine, registry, "--no-background", "--read-timeout", "3")
    fault = registry.fault("GET", BLOBS, times=LONG, stall=True, close_after=0)
    with waiting_reader(machine, 2) as reader:
        reader.kill()
        assert reader.wait(8) == -signal.SIGKILL
    registry.faults.remove(fault)
    assert read(machine, 2) == data_of(2)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_mount_when_it_ends_then_waiting_readers_get_an_error(machine, registry, number):
    mount(machine, registry, "--no-background", "--read-timeout", "60")
    registry.fault("GET", BLOBS, times=LONG, stall=True, close_after=0)
    with waiting_reader(machine, 2) as reader:
        begun = time.monotonic()
        machine.kill(number)
        out, _ = reader.communicate(timeout=10)
        assert out == b""
        assert reader.returncode != 0
        assert time.monotonic() - begun < 8
    registry.faults.clear()
    mount(machine, registry)
    assert read(machine, 2) == data_of(2)


def test_umount_when_a_reader_waits_then_in_use_unless_lazy(machine, registry):
    mount(machine, registry, "--no-background", "--read-timeout", "4")
    pid = machine.status()["pid"]
    registry.fault("GET", BLOBS, times=LONG, stall=True, close_after=0)
    with waiting_reader(machine, 2) as reader:
        done = machine.tocsin("umount", machine.mount_point)
        assert done.returncode == 1
        assert f"in use by cat ({reader.pid})" in done.stderr
        machine.ok("umount", "--lazy", machine.mount_point)
        assert not machine.is_mounted()
        registry.faults.clear()
        mount(machine, registry)
        assert read(machine, 2) == data_of(2)
        out, _ = reader.communicate(timeout=15)
        assert out in (b"", data_of(2))
    wait_for_end(pid)


def test_commands_when_the_process_is_stopped_then_none_hangs(machine, registry):
    mount(machine, registry, "--no-background")
    pid = machine.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        assert [each["state"] for each in machine.mounts()] == ["lazy"]
        done = machine.tocsin("mount", "oci:x:y", machine.mount_point)
        assert "is already mounted there" in done.stderr
        assert time.monotonic() - begun < 8
    finally:
        os.kill(pid, signal.SIGCONT)
    assert read(machine, 4) == data_of(4)
