"""Processes that wait for a mount, and outlive the program that started them."""

import os
import signal
import time
from pathlib import Path

import pytest

from support.mounts import data_of, wait_for_end
from tocsin.errors import UnsupportedError
from tocsin.model.reference import parse_reference
from tocsin.mounting import detached
from tocsin.mounting.detached import DetachedProcesses
from tocsin.mounting.options import MountOptions
from tocsin.mounting.registered import Registry


class Reports:
    def note(self, text):
        pass

    def progress(self, event):
        pass

    def ready(self, ready):
        pass


@pytest.fixture
def processes():
    processes = DetachedProcesses()
    yield processes
    processes.close()


def waiting():
    """Return the processes that wait for a mount of this test, and are not children of it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
            parent = (path.parent / "stat").read_text().rpartition(")")[2].split()[1]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"tocsin.mounting.detached" in command and int(parent) != os.getpid():
            found.append(int(path.parent.name))
    return set(found)


def mount(machine, processes, image):
    options = MountOptions(
        reference=parse_reference(image),
        cache_dir=machine.cache,
        run_directory=machine.run_directory / "tocsin",
    )
    place = str(machine.mount_point)
    return processes.mount(options, place, Reports(), log=machine.directory / "log")


def appears(before):
    deadline = time.monotonic() + 60
    while not (found := waiting() - before):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (pid,) = found
    return pid


def test_mount_when_expected_then_the_waiting_process_serves_it(machine, layout, processes):
    before = waiting()
    processes.expect()
    pid = appears(before)
    processes.expect()  # one is enough
    ready = mount(machine, processes, f"oci:{layout}:seek")
    assert ready.pid == pid
    assert (machine.mount_point / "data/1.bin").read_bytes() == data_of(1)
    assert waiting() - before == {pid}


def test_mount_when_the_waiting_process_has_ended_then_another_serves_it(
    machine, layout, processes
):
    before = waiting()
    processes.expect()
    pid = appears(before)
    os.kill(pid, signal.SIGKILL)
    wait_for_end(pid)
    assert mount(machine, processes, f"oci:{layout}:seek").pid != pid
    assert (machine.mount_point / "data/1.bin").read_bytes() == data_of(1)


def test_waiting_process_when_the_program_closes_it_or_dies_then_ends(processes):
    before = waiting()
    processes.expect()
    pid = appears(before)
    processes.close()
    wait_for_end(pid)


def test_mount_when_processes_end_at_once_then_error(machine, layout, processes, monkeypatch):
    real = detached.start
    monkeypatch.setattr(detached, "start", lambda _, *pipes: real("no_such_module", *pipes))
    with pytest.raises(UnsupportedError, match="ended before the mount was ready"):
        mount(machine, processes, f"oci:{layout}:seek")
    assert Registry(machine.run_directory / "tocsin").all() == []


def test_mount_when_the_image_is_missing_then_its_error(machine, layout, processes):
    processes.expect()
    with pytest.raises(Exception, match="not found"):
        mount(machine, processes, f"oci:{layout}:missing")
