"""The descriptions of mounts, the socket of a mount, and the status made of them."""

import json
import os
import subprocess
import threading

import pytest

from tocsin.errors import ConflictError
from tocsin.mounting import control
from tocsin.mounting.processes import is_running, start_time
from tocsin.mounting.registered import Registration, Registry, own_start_time, runtime_directory
from tocsin.mounting.status import MountStatus, of_live, of_silent

COUNTERS = {
    "bytes_fetched": 30,
    "fetches": 2,
    "bytes_left": 50,
    "bytes_total": 100,
    "spans": 10,
    "spans_here": 5,
    "reads": 8,
    "reads_waiting": 1,
    "hits": 6,
    "failures": 0,
    "last_error": None,
    "disk_error": None,
    "pack": None,
    "complete": False,
}


def registration(directory="/mnt", **changes):
    values = {
        "directory": directory,
        "image": "oci:x",
        "manifest": "sha256:" + "a" * 64,
        "platform": "linux/amd64",
        "index": "seek",
        "pid": os.getpid(),
        "started": own_start_time(),
        "since": 1.5,
        "cache_dir": "/cache",
        "mounted": True,
        **changes,
    }
    return Registration(**values)


@pytest.fixture
def registry(tmp_path):
    tmp_path.chmod(0o700)
    return Registry(tmp_path / "tocsin")


def test_registry_when_written_then_found_listed_and_removed(registry):
    first, second = registration("/b"), registration("/a/\udcff")
    registry.write(first)
    registry.write(second)
    assert registry.all() == [second, first]
    assert registry.find("/b") == first
    registry.remove(first)
    assert registry.find("/b") is None
    assert registry.all() == [second]


def test_registry_when_missing_then_empty(registry):
    assert registry.all() == []
    assert registry.find("/mnt") is None


def test_registry_when_another_process_took_over_then_remove_keeps_it(registry):
    registry.write(registration(pid=1, started=1))
    registry.remove(registration())
    assert registry.find("/mnt") is not None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"directory": "/mnt"}', " " * (65 << 10)])
def test_registry_when_a_file_is_damaged_then_it_is_left_out(registry, text):
    registry.write(registration("/other"))
    (registry.directory / f"{registration().name}.json").write_text(text)
    assert [each.directory for each in registry.all()] == ["/other"]


def test_registry_when_a_file_has_another_name_then_it_is_left_out(registry):
    registry.write(registration("/other"))
    path = registry.directory / f"{registration('/other').name}.json"
    path.rename(registry.directory / f"{registration().name}.json")
    assert registry.all() == []


def test_registry_when_others_may_write_to_it_then_error(registry):
    registry.directory.mkdir()
    registry.directory.chmod(0o777)
    with pytest.raises(PermissionError, match="other users can write"):
        registry.write(registration())


def test_process_when_it_ended_then_not_running():
    with subprocess.Popen(["true"]) as process:  # noqa: S607
        started = start_time(process.pid)
    assert not is_running(process.pid, started or 1)
    assert not is_running(os.getpid(), own_start_time() + 1)
    assert is_running(os.getpid(), own_start_time())


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"XDG_RUNTIME_DIR": "/run/user/7"}, "/run/user/7/tocsin"),
        ({"XDG_RUNTIME_DIR": "relative"}, None),
        ({}, None),
    ],
)
def test_runtime_directory_when_variable_is_set_then_below_it(monkeypatch, variables, expected):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert str(runtime_directory()) == (expected or "/run/tocsin")
    monkeypatch.setattr(os, "geteuid", lambda: 12)
    assert runtime_directory().name == ("tocsin" if expected else "tocsin-12")


def test_status_when_live_then_numbers_add_up():
    found = of_live(registration(), COUNTERS, background=True)
    assert (found.state, found.bytes_cached, found.hit_rate) == ("lazy", 20, 0.75)
    assert MountStatus.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize(
    ("changes", "background", "state", "words"),
    [
        ({"complete": True}, True, "complete", "no longer needed"),
        ({}, False, "lazy", "background loading is off"),
        ({"disk_error": "the disk is full"}, True, "lazy", "the disk is full"),
        ({"failures": 3, "last_error": "refused"}, True, "lazy", "a fetch failed"),
        ({}, True, "lazy", "loading in the background"),
    ],
)
def test_status_when_lazy_then_reason_says_why(changes, background, state, words):
    found = of_live(registration(), {**COUNTERS, **changes}, background=background)
    assert found.state == state
    assert words in found.reason


@pytest.mark.parametrize(
    ("changes", "state"),
    [({"started": 1}, "dead"), ({"mounted": False}, "starting"), ({}, "lazy")],
)
def test_status_when_process_does_not_answer_then_state_says_why(changes, state):
    found = of_silent(registration(**changes))
    assert (found.state, found.bytes_total, found.hit_rate) == (state, 0, None)


def test_control_when_asked_then_answers_even_after_nonsense(tmp_path):
    deep = tmp_path / ("d" * 120)  # longer than the path of a socket may be
    deep.mkdir()
    path = deep / "x.sock"
    listening = control.ControlSocket(path, lambda question: {"question": question})

    def serve():
        for _ in range(2):
            threading.Event().wait(0.05)
            listening._socket.settimeout(5)
            listening.serve_one()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with control.socket.socket(control.socket.AF_UNIX) as other:
            with control._short(path) as name:
                other.connect(name)
            other.sendall(b"nonsense\n")
        assert control.ask(path, "status") == {"question": "status"}
    finally:
        thread.join()
        listening.close()


def test_control_when_nobody_listens_then_nothing(tmp_path):
    assert control.ask(tmp_path / "missing.sock", "status") is None
    assert control.ask(tmp_path / "no" / "directory.sock", "status") is None


def test_registry_when_another_process_is_faster_then_conflict(registry):
    with subprocess.Popen(["sleep", "60"]) as other:  # noqa: S607
        first = registration(pid=other.pid, started=start_time(other.pid))
        registry.claim(first)
        with pytest.raises(ConflictError, match="already mounted"):
            registry.claim(registration())
        other.kill()
    registry.claim(registration())
    assert registry.find("/mnt") == registration()
    assert registry.all() == [registration()]
