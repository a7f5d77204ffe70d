"""Machines and users that cannot mount: what to do, in one line; and users who can."""

import os
import shutil
import subprocess

import pytest

from support.cli_process import TOCSIN
from support.mounts import ACCOUNTS
from support.tools import missing

NOBODY = 65534


@pytest.fixture
def image(layout):
    return f"oci:{layout}:seek"


def need_setpriv():
    if shutil.which("setpriv") is None:
        missing("setpriv is not installed")


def in_namespaces(machine, script, *arguments):
    """Run a shell script in a new mount namespace, as root."""
    command = ["unshare", "--mount", "sh", "-ec", script, "sh", *map(str, arguments)]
    return subprocess.run(  # noqa: S603
        command,
        env=machine.environment,
        cwd=machine.directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def only_one_error(done):
    """Return the error and the hint, which are all that is printed."""
    lines = done.stderr.splitlines()
    assert len(lines) == 2, done.stderr
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("hint: ")
    assert done.returncode != 0
    assert done.stdout == ""
    return lines


def test_mount_when_there_is_no_fuse_then_says_what_to_do(machine, image):
    script = 'mount -t tmpfs tmpfs /dev; : > /dev/null; "$1" mount "$2" "$3"'
    done = in_namespaces(machine, script, TOCSIN, image, machine.mount_point)
    error, hint = only_one_error(done)
    assert "/dev/fuse: not found" in error
    assert "modprobe fuse" in hint
    assert machine.mounts() == []


def test_mount_when_capabilities_are_missing_then_says_what_to_do(machine, image):
    need_setpriv()
    script = 'exec setpriv --bounding-set -sys_admin --inh-caps -sys_admin "$1" mount "$2" "$3"'
    done = in_namespaces(machine, script, TOCSIN, image, machine.mount_point)
    error, hint = only_one_error(done)
    assert "mounting is not permitted" in error
    assert "SYS_ADMIN" in hint
    assert machine.mounts() == []


def as_nobody(machine, *arguments, path=None):
    """Run ``tocsin`` as a user who may read every file, such as Python's, but nothing else."""
    need_setpriv()
    machine.cache.mkdir(mode=0o700)
    for place in (machine.directory, machine.run_directory, machine.mount_point, machine.cache):
        os.chown(place, NOBODY, NOBODY)
    environment = dict(machine.environment, HOME=str(machine.directory))
    if path is not None:
        environment["PATH"] = str(path)
    return subprocess.run(  # noqa: S603
        [
            shutil.which("setpriv"),
            *(f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
            *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
            *(TOCSIN, *map(str, arguments)),
        ],
        env=environment,
        cwd=machine.directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_mount_when_user_has_no_fusermount_then_says_what_to_do(machine, image):
    empty = machine.directory / "empty"
    empty.mkdir()
    done = as_nobody(machine, "mount", image, machine.mount_point, path=empty)
    error, hint = only_one_error(done)
    assert "fusermount3: program not found" in error
    assert "apt install fuse3" in hint


def test_mount_when_user_may_not_open_the_device_then_says_what_to_do(machine, image):
    if os.stat("/dev/fuse").st_mode & 0o006:  # noqa: PTH116
        missing("every user may open /dev/fuse here")
    error, hint = only_one_error(as_nobody(machine, "mount", image, machine.mount_point))
    assert "/dev/fuse" in error
    assert "chmod 666 /dev/fuse" in hint


def test_mount_when_in_a_user_namespace_then_it_works(machine, image):
    script = '"$1" mount --json -q "$2" "$3" > ready && cat "$3/etc/passwd" && "$1" umount "$3"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", script, "sh"]
    done = subprocess.run(  # noqa: S603
        [*command, TOCSIN, image, str(machine.mount_point)],
        env=machine.environment,
        cwd=machine.directory,
        capture_output=True,
        timeout=60,
        check=False,
    )
    if b"unshare failed" in done.stderr:
        missing("this kernel has no user namespaces")
    assert (done.returncode, done.stdout) == (0, ACCOUNTS), done.stderr
    assert not machine.is_mounted()
