from __future__ import annotations

import signal
import subprocess

import pytest

from support.cli_inputs import endless_layer, put_endless_image
from support.cli_process import TOCSIN, environment, start
from support.cli_signals import at_work, stopped, wait_for

GIBIBYTES = 64
"""Size of a layer that takes many seconds to index; a command that finished would return 0."""


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    path = tmp_path_factory.mktemp("endless") / "layer.tar.gz"
    path.write_bytes(endless_layer(GIBIBYTES))
    return path


@pytest.fixture
def hangup():
    """Let commands receive SIGHUP, which they ignore if the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def content(directory):
    return {
        path: path.read_bytes() if path.name == "index.json" else path.stat().st_ino
        for path in directory.rglob("*")
        if path.is_file()
    }


def build(*arguments, **streams):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return start("ztoc", "build", *arguments, **pipes)


@pytest.mark.usefixtures("hangup")
@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGINT, 130, "interrupted\n"),
        (signal.SIGTERM, 143, "terminated\n"),
        (signal.SIGHUP, 129, "terminated\n"),
    ],
)
def test_build_stops_at_once_and_leaves_nothing(endless, tmp_path, number, code, word):
    with build(endless, "-o", tmp_path / "z") as process:
        wait_for(lambda: list(tmp_path.iterdir()))  # its temporary file exists
        at_work(process)
        returned, words = stopped(process, number)
    assert (returned, words) == (code, word)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["create", "convert"])
def test_indexing_an_image_stops_at_once_and_changes_nothing(tmp_path, number, command):
    layout = tmp_path / "layout"
    put_endless_image(layout, GIBIBYTES)
    before = content(layout)
    destination = (f"oci:{layout}:soci",) if command == "convert" else ()
    with start(
        command, f"oci:{layout}:app", *destination, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        at_work(process, seconds=1.0)
        returned, words = stopped(process, number)
    assert returned == 128 + number
    assert words.splitlines()[-1] in ("interrupted", "terminated")
    assert content(layout) == before


def test_waiting_for_stdin_can_be_interrupted(tmp_path):
    with build("-", "-o", tmp_path / "z", stdin=subprocess.PIPE) as process:
        wait_for(lambda: list(tmp_path.iterdir()))
        returned, words = stopped(process, signal.SIGINT)
    assert (returned, words) == (130, "interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_second_interrupt_within_a_second_is_ignored(endless, tmp_path):
    with build(endless, "-o", tmp_path / "z") as process:
        at_work(process)
        process.send_signal(signal.SIGINT)
        returned, words = stopped(process, signal.SIGINT)
    assert (returned, words) == (130, "interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_ignored_interrupt_stays_ignored(endless, tmp_path):
    script = 'trap "" INT; exec "$0" "$@"'
    with subprocess.Popen(  # noqa: S603 (a shell, which ignores SIGINT)
        ["/bin/sh", "-c", script, TOCSIN, "ztoc", "build", endless, "-o", tmp_path / "z"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        at_work(process)
        process.send_signal(signal.SIGINT)
        at_work(process)
        returned, _ = stopped(process, signal.SIGTERM)
    assert returned == 143
