"""A cache that several mounts use, or that is changed behind the back of a mount."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

import tocsin
from support.mounts import DATA_FILES, data_of, is_mounted
from support.registry import Registry

RIGHT = [data_of(number) for number in range(DATA_FILES)]
MOUNTS = 10


@pytest.fixture(params=["seek", "v2"])
def image(layout, request):
    """An image in a registry, which is asked often enough for races."""
    with Registry() as registry:
        tocsin.copy(f"oci:{layout}:{request.param}", f"{registry.host}/app/it:1")
        yield f"{registry.host}/app/it:1"


def read_all(top):
    return [(top / f"data/{number}.bin").read_bytes() for number in range(DATA_FILES)]


def files_of(machine, name):
    found = sorted(machine.cache.glob(f"inflated/*/{name}"))
    assert found
    return found


def damage(path, random, *, start=0):
    """Flip bytes all over a file."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        for _ in range(200):
            at = random.randrange(start, size)
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 0x55]))


def complete(machine, image):
    machine.mount(image)
    machine.wait_for("complete")
    machine.ok("umount", machine.mount_point)


def read_again(path):
    """Read a file that the kernel has forgotten."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return file.read()


@pytest.mark.parametrize("is_damaged", [False, True])
def test_cache_when_ten_mounts_share_it_then_all_read_the_same(machine, image, is_damaged):
    if is_damaged:
        complete(machine, image)
        for path in files_of(machine, "data"):
            damage(path, Random(1))  # noqa: S311 (test data)
    directories = [machine.directory / f"mnt{number}" for number in range(MOUNTS)]

    def use(directory):
        directory.mkdir()
        machine.ok("mount", "-q", image, directory)
        return read_all(directory)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(use, directories)) == [RIGHT] * MOUNTS
    assert all(map(is_mounted, directories))
    assert len(machine.mounts()) == MOUNTS
    machine.ok("umount", *directories)
    assert machine.mounts() == []


@pytest.mark.parametrize(
    ("name", "start"), [("data", 0), ("spans", 0), ("spans", 32)], ids=["data", "header", "digests"]
)
def test_cache_when_bytes_are_flipped_then_fetched_again(machine, image, name, start):
    complete(machine, image)
    for path in files_of(machine, name):
        damage(path, Random(2), start=start)  # noqa: S311 (test data)
    machine.mount(image)
    assert read_all(machine.mount_point) == RIGHT
    assert machine.wait_for("complete")["bytes_left"] == 0


@pytest.mark.parametrize("size", [0, 1, 100_000])
@pytest.mark.parametrize("name", ["data", "spans"])
def test_cache_when_truncated_then_fetched_again(machine, image, name, size):
    complete(machine, image)
    for path in files_of(machine, name):
        os.truncate(path, size)
    machine.mount(image)
    assert read_all(machine.mount_point) == RIGHT
    assert machine.wait_for("complete")["bytes_left"] == 0


@pytest.mark.parametrize("order", [1, -1])
# Not EROFS with background loading: if all has arrived before it is mounted, it needs no process.
@pytest.mark.parametrize("options", [["--no-background"], ["--front", "fuse"]])
def test_cache_when_truncated_while_mounted_then_no_zeros(machine, image, options, order):
    machine.mount(image, *options)
    assert read_all(machine.mount_point) == RIGHT
    for path in files_of(machine, "data"):
        os.truncate(path, 0)
    for _ in range(2):
        for number in range(DATA_FILES)[::order]:
            assert read_again(machine.mount_point / f"data/{number}.bin") == RIGHT[number]


def test_cache_when_truncated_under_plain_files_then_eio_and_no_zeros(machine, image):
    complete(machine, image)
    machine.mount(image)
    assert read_all(machine.mount_point) == RIGHT
    for path in files_of(machine, "data"):
        os.truncate(path, 0)
    problems = set()
    for number in range(DATA_FILES):
        try:
            assert read_again(machine.mount_point / f"data/{number}.bin") == RIGHT[number]
        except OSError as error:
            problems.add(error.errno)
    assert problems == {errno.EIO}


@pytest.mark.parametrize("size", [0, 100_000])
def test_cache_when_truncated_and_mounted_again_then_first_has_no_zeros(machine, image, size):
    machine.mount(image, "--front", "fuse")
    machine.wait_for("complete")
    assert read_all(machine.mount_point) == RIGHT
    for path in files_of(machine, "data"):
        os.truncate(path, size)
    second = machine.directory / "second"
    second.mkdir()
    machine.ok("mount", "-q", image, second)
    assert read_all(second) == RIGHT
    paths = [machine.mount_point / f"data/{number}.bin" for number in range(DATA_FILES)]
    assert [read_again(path) for path in paths] == RIGHT
    machine.ok("umount", second)
