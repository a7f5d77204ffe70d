"""Random kills of a mount's process and of its readers; ``TOCSIN_SLOW=1`` for 100 of them."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from random import Random

import pytest

import tocsin
from support.mounts import DATA_FILES, data_of, wait_for_end
from support.registry import Registry
from support.shell import SLOW_ENABLED

KILLS = 100 if SLOW_ENABLED else 5
GONE = {"ENOTCONN", "ECONNABORTED", "EIO"}
READER = """
import errno, os, random, sys
from support.mounts import data_of
right = [data_of(number) for number in range(6)]
top = sys.argv[1]
print("ready", flush=True)
while True:
    number, at, size = random.randrange(6), random.randrange(1 << 20), random.randrange(1, 200_000)
    try:
        fd = os.open(f"{top}/data/{number}.bin", os.O_RDONLY)
        try:
            found = os.pread(fd, size, at)
        finally:
            os.close(fd)
    except OSError as error:
        print(errno.errorcode[error.errno], flush=True)
        break
    # A read that fails in the middle returns what came before.
    if not found or found != right[number][at : at + len(found)]:
        print(f"WRONG {number} {at} {size}", flush=True)
        break
"""


def start_reader(machine):
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", READER, str(machine.mount_point)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["tests", "python"])},
    )


@pytest.mark.slow
@pytest.mark.parametrize("tag", ["seek", "v2"])
def test_kills_when_random_then_no_wrong_byte_and_no_stale_mount(machine, layout, tag):
    random = Random(tag)  # noqa: S311 (test data)
    with Registry() as registry:
        image = f"{registry.host}/app/it:1"
        tocsin.copy(f"oci:{layout}:{tag}", image)
        for number in range(KILLS // 2):
            rate = random.choice(["500KiB", "5MiB", "500MiB"])
            if number % 10 == 9:  # begin with nothing
                subprocess.run(["rm", "-rf", machine.cache], check=True)  # noqa: S603, S607
            mounted = machine.mount(image, "--background-rate", rate)
            pid = mounted["pid"]
            readers = [start_reader(machine) for _ in range(2)]
            for reader in readers:
                assert reader.stdout.readline() == "ready\n"
            time.sleep(random.random() * 0.3)
            readers[0].kill()
            time.sleep(random.random() * 0.1)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            wait_for_end(pid)
            # What the kernel has of the files stays readable; a reader that hangs cannot be killed.
            with suppress(subprocess.TimeoutExpired):
                readers[1].wait(0.3)
            readers[1].kill()
            for reader in readers:
                out, _ = reader.communicate(timeout=20)
                assert out.strip() in GONE | {""}, (number, out)
            assert [each["state"] for each in machine.mounts()] == ["dead"]
        machine.mount(image)
        right = [data_of(number) for number in range(DATA_FILES)]
        found = [(machine.mount_point / f"data/{n}.bin").read_bytes() for n in range(DATA_FILES)]
        assert found == right
        machine.ok("umount", machine.mount_point)
        assert not machine.is_mounted()
        assert machine.mounts() == []
