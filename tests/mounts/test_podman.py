"""A mounted image as the root of a container of Podman, whose overlay takes what is written."""

import os
import resource

import pytest

from support.registry_real import program
from support.tools import missing, tool

pytestmark = [pytest.mark.interop, pytest.mark.slow]
COMMAND = "wc -c < /data/0.bin; echo new > /data/new; cat /data/new"

LIMITS = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}


def _limit(kind):
    known = [number for number in resource.getrlimit(kind) if number != resource.RLIM_INFINITY]
    return min([1024, *known])


@pytest.mark.parametrize("front", ["fuse", "erofs"])
def test_podman_when_its_root_is_a_mount_then_it_writes_above(machine, layout, front):
    if os.geteuid() != 0:
        missing("this user is not root, which podman needs for its overlay on a mount")
    storage = machine.directory / "podman"
    podman = tool(
        "podman",
        f"--root={storage / 'root'}",
        f"--runroot={storage / 'run'}",
        f"--runtime={program('runc')}",
        "--cgroup-manager=cgroupfs",
    )
    machine.mount(f"oci:{layout}:seek", "--front", front, "--allow-other")
    # By default Podman raises these limits, which root in a container may not do.
    limits = [f"--ulimit={name}={_limit(kind)}:{_limit(kind)}" for name, kind in LIMITS.items()]
    image = f"{machine.mount_point}:O"
    options = ("--rm", "--network=none", "--log-driver=none", *limits)
    found = podman("run", *options, "--rootfs", image, "/bin/sh", "-c", COMMAND)
    size = (machine.mount_point / "data/0.bin").stat().st_size
    assert found.split() == [str(size), "new"]
    assert not (machine.mount_point / "data/new").exists()
    assert machine.status()["state"] != "dead"
