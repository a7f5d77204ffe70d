"""``tocsin run``, with real mounts and namespaces."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from support.cli_process import TOCSIN


@pytest.fixture
def image(layout):
    return f"oci:{layout}:seek"


def left_over(machine):
    return [path.name for path in machine.directory.iterdir() if path.name.startswith("tocsin-run")]


def test_run_when_no_command_then_that_of_the_image(machine, image):
    assert machine.ok("run", image) == "hi\n"
    assert machine.mounts() == []
    assert left_over(machine) == []


def test_run_when_command_then_environment_is_that_of_the_image(machine, image):
    out = machine.ok("run", image, "--", "sh", "-c", 'echo "$GREETING $PATH $HOME"; pwd')
    assert out == "hi /bin /root\n/data\n"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -9 $$"], 137),
        (["missing"], 127),
        (["/etc/passwd"], 126),
    ],
    ids=["exit", "signal", "missing", "not-executable"],
)
def test_run_when_program_ends_then_its_exit_code(machine, image, command, code):
    assert machine.tocsin("run", image, "--", *command).returncode == code
    assert machine.mounts() == []


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("app", "uid=1000(app) gid=1000(app) groups=2000(extra)\n"),
        ("app:extra", "uid=1000(app) gid=2000(extra)\n"),
        ("4321:17", "uid=4321 gid=17\n"),
    ],
)
def test_run_when_user_then_program_has_its_ids(machine, image, user, expected):
    out = machine.ok("run", "-u", user, image, "id")
    assert out.replace(" groups=2000(extra)\n", "\n") == expected.replace(
        " groups=2000(extra)\n", "\n"
    )


def test_run_when_user_is_unknown_then_not_found(machine, image):
    done = machine.tocsin("run", "-u", "nobody", image, "id")
    assert done.returncode == 3
    assert 'user "nobody": not found' in done.stderr


def test_run_when_files_change_then_only_for_the_program(machine, image):
    command = "echo new > /etc/passwd; rm -f x; cat /etc/passwd; echo made > /data/x; cat /data/x"
    assert machine.ok("run", image, "--", "sh", "-c", command) == "new\nmade\n"
    assert machine.ok("run", image, "ls", "/data/0.bin") == "/data/0.bin\n"
    assert machine.tocsin("run", image, "ls", "/data/x").returncode == 1


def test_run_when_read_only_then_only_tmp_can_be_written(machine, image):
    command = "echo x > /data/x || echo refused; echo x > /tmp/x && cat /tmp/x"
    assert machine.ok("run", "--read-only", image, "--", "sh", "-c", command) == "refused\nx\n"


def test_run_when_options_follow_the_image_then_they_are_the_programs(machine, image):
    assert machine.ok("run", image, "echo", "--json", "-q") == "--json -q\n"


def test_run_when_entrypoint_and_variables_then_they_replace(machine, image):
    out = machine.ok(
        "run", "--entrypoint", "sh", "-e", "GREETING=bye", image, "-c", "echo $GREETING"
    )
    assert out == "bye\n"


def test_run_when_in_namespaces_then_program_sees_only_its_processes(machine, image):
    out = machine.ok("run", image, "--", "sh", "-c", "echo $$; ls -d /proc/[0-9]*")
    pid, *processes = out.split()
    assert int(pid) < 10
    assert f"/proc/{os.getpid()}" not in processes
    assert len(processes) < 10


def test_run_when_as_root_then_the_machine_cannot_be_changed(machine, image):
    done = machine.tocsin("run", image, "--", "sh", "-c", "echo x > /proc/sys/kernel/hostname")
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr


def start(machine, image):
    process = subprocess.Popen(  # noqa: S603
        [TOCSIN, "run", image, "sleep", "60"], env=machine.environment
    )
    deadline = time.monotonic() + 20
    while not any(each["state"] != "starting" for each in machine.mounts()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    return process


def test_run_when_terminated_then_program_gets_the_signal(machine, image):
    with start(machine, image) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
    assert machine.mounts() == []
    assert left_over(machine) == []


def test_run_when_killed_then_program_and_mount_end(machine, image):
    with start(machine, image) as process:
        process.kill()
    deadline = time.monotonic() + 20
    while machine.mounts() or left_over(machine):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not [line for line in _commands() if "sleep\x0060" in line and image in line]


def _commands():
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield path.read_text()
