"""Mounts whose cache directory is full, read-only, removed or damaged."""

import shutil
import subprocess

import pytest

from support.mounts import DATA_FILES, data_of


def read_all(machine):
    return [(machine.mount_point / f"data/{n}.bin").read_bytes() for n in range(DATA_FILES)]


RIGHT = [data_of(number) for number in range(DATA_FILES)]


@pytest.fixture
def small_disk(machine):
    """A cache directory on a disk of its own, which is too small for the image."""
    machine.cache.mkdir(mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", machine.cache]
    subprocess.run(command, check=True)  # noqa: S603
    yield machine.cache
    machine.kill()
    subprocess.run(["umount", "-l", machine.cache], check=True)  # noqa: S603, S607


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("tag", ["seek", "v2", "plain"])
def test_cache_when_full_then_reads_are_right_and_status_says_so(machine, layout, tag):
    machine.mount(f"oci:{layout}:{tag}")
    assert read_all(machine) == RIGHT
    assert machine.status()["disk_error"]


def test_cache_when_read_only_then_reads_are_right(machine, layout, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)  # noqa: S603, S607
    done = machine.tocsin("mount", f"oci:{layout}:seek", machine.mount_point)
    assert done.returncode == 0, done.stderr
    assert "read-only" in done.stderr.lower()
    assert read_all(machine) == RIGHT


def test_cache_when_removed_while_mounted_then_reads_are_right(machine, layout):
    machine.mount(f"oci:{layout}:seek", "--no-background")
    assert (machine.mount_point / "data/0.bin").read_bytes() == data_of(0)
    while machine.cache.exists():
        # The mount may write to a directory while it is removed.
        shutil.rmtree(machine.cache, ignore_errors=True)
    assert read_all(machine) == RIGHT


def test_cache_when_damaged_then_data_is_fetched_again(machine, layout):
    machine.mount(f"oci:{layout}:seek")
    machine.wait_for("complete")
    machine.ok("umount", machine.mount_point)
    for path in machine.cache.glob("inflated/*/data"):
        with path.open("r+b") as file:
            file.write(b"damage" * 1000)
            file.seek(700_000)
            file.write(b"damage" * 1000)
    machine.mount(f"oci:{layout}:seek")
    assert read_all(machine) == RIGHT
    assert machine.status()["bytes_fetched"] > 0


def test_cache_when_chunks_are_damaged_then_they_are_fetched_again(machine, layout):
    machine.mount(f"oci:{layout}:seek")
    machine.wait_for("complete")
    machine.ok("umount", machine.mount_point)
    shutil.rmtree(machine.cache / "inflated")
    for path in machine.cache.glob("seek/*/*"):
        path.write_bytes(bytes(path.stat().st_size))
    machine.mount(f"oci:{layout}:seek")
    assert read_all(machine) == RIGHT


def test_cache_when_it_belongs_to_others_then_memory_is_used(machine, layout):
    machine.cache.mkdir()
    machine.cache.chmod(0o777)
    done = machine.tocsin("mount", f"oci:{layout}:seek", machine.mount_point)
    assert "all users can write to it" in done.stderr
    assert read_all(machine) == RIGHT


def test_mount_when_listed_by_the_kernel_then_it_is_read_only_and_safe(machine, layout):
    machine.mount(f"oci:{layout}:seek", "--front", "fuse")
    lines = subprocess.run(["mount"], check=True, capture_output=True, text=True).stdout  # noqa: S607
    (line,) = [each for each in lines.splitlines() if f" {machine.mount_point} " in each]
    assert line.startswith("tocsin on ")
    assert " type fuse" in line
    options = line.rpartition("(")[2].rstrip(")").split(",")
    assert {"ro", "nosuid", "nodev"} <= set(options)
    assert "allow_other" not in options
