"""Programs that read a mount in every way: many at once, mapped, direct, beyond the end."""

import hashlib
import mmap
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

import tocsin
from support.mounts import DATA_FILES, DATA_SIZE, data_of
from support.registry import Registry

RIGHT = [data_of(number) for number in range(DATA_FILES)]
READER = """
import hashlib, os, random, sys
seed, top = int(sys.argv[1]), sys.argv[2]
random.seed(seed)
digest = hashlib.sha256()
for _ in range(40):
    fd = os.open(f"{top}/data/{random.randrange(6)}.bin", os.O_RDONLY)
    digest.update(os.pread(fd, random.randrange(1, 100_000), random.randrange(0, 1 << 20)))
    os.close(fd)
print(digest.hexdigest())
"""


def expected_of(seed):
    """Return what a reader with this seed prints."""
    random = Random(seed)  # noqa: S311 (test data)
    digest = hashlib.sha256()
    for _ in range(40):
        data = RIGHT[random.randrange(6)]
        size, at = random.randrange(1, 100_000), random.randrange(0, 1 << 20)
        digest.update(data[at : at + size])
    return digest.hexdigest()


@pytest.fixture(params=["seek", "v2", "plain"])
def mounted(machine, layout, request):
    machine.mount(f"oci:{layout}:{request.param}", "--background-rate", "2MiB")
    return machine.mount_point


@pytest.fixture
def file(mounted):
    fd = os.open(mounted / "data/3.bin", os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("tag", ["seek", "v2"])
def test_readers_when_64_processes_while_loading_then_each_gets_the_right_bytes(
    machine, layout, tag
):
    with Registry() as registry:
        image = f"{registry.host}/app/it:1"
        tocsin.copy(f"oci:{layout}:{tag}", image)
        machine.mount(image, "--background-rate", "4MiB")
        processes = [
            subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-S", "-c", READER, str(seed), str(machine.mount_point)],
                stdout=subprocess.PIPE,
                text=True,
            )
            for seed in range(64)
        ]
        found = [process.communicate(timeout=60)[0].strip() for process in processes]
        assert found == [expected_of(seed) for seed in range(64)]
        machine.ok("umount", machine.mount_point)


def test_threads_when_they_read_at_random_then_right(mounted):
    def reader(seed):
        random = Random(seed)  # noqa: S311 (test data)
        for _ in range(50):
            number, at = random.randrange(DATA_FILES), random.randrange(DATA_SIZE)
            size = random.choice([1, 4096, 200_000])
            with (mounted / f"data/{number}.bin").open("rb", buffering=0) as opened:
                found = os.pread(opened.fileno(), size, at)
            assert found == RIGHT[number][at : at + size]

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(reader, range(16)))


def test_mmap_when_read_backwards_then_right(file):
    with mmap.mmap(file, 0, prot=mmap.PROT_READ) as mapped:
        for at in range(DATA_SIZE - 4096, -1, -12_288):
            assert mapped[at : at + 4096] == RIGHT[3][at : at + 4096]


def test_sendfile_when_to_a_socket_then_right(file):
    ours, theirs = socket.socketpair()
    with ours, theirs, ThreadPoolExecutor(1) as pool:

        def send():
            at = 0
            while at < DATA_SIZE:
                at += os.sendfile(ours.fileno(), file, at, DATA_SIZE - at)
            ours.shutdown(socket.SHUT_WR)

        sending = pool.submit(send)
        data = b"".join(iter(lambda: theirs.recv(1 << 16), b""))
        sending.result()
    assert data == RIGHT[3]


def test_splice_when_to_a_pipe_then_right(file):
    read, write = os.pipe()
    try:
        count = os.splice(file, write, 4096, offset_src=700_000)
        assert os.read(read, count) == RIGHT[3][700_000 : 700_000 + count]
    finally:
        os.close(read)
        os.close(write)


def test_cp_when_used_then_right(mounted, machine):
    target = machine.directory / "copied"
    subprocess.run(["cp", "-a", mounted / "data", target], check=True)  # noqa: S603, S607
    assert [(target / f"{number}.bin").read_bytes() for number in range(DATA_FILES)] == RIGHT


def test_direct_reads_when_anywhere_then_right(mounted):
    fd = os.open(mounted / "data/4.bin", os.O_RDONLY | os.O_DIRECT)
    try:
        buffer = mmap.mmap(-1, 64 << 10)
        for at in (0, 4096, 512 << 10, DATA_SIZE - 4096, 0):
            count = os.preadv(fd, [buffer], at)
            assert buffer[:count] == RIGHT[4][at : at + count]
            assert count == min(64 << 10, DATA_SIZE - at)
        assert os.preadv(fd, [buffer], DATA_SIZE) == 0
    finally:
        os.close(fd)


def test_reads_when_past_the_end_then_nothing(file):
    assert os.pread(file, 10, DATA_SIZE) == b""
    assert os.pread(file, 10, DATA_SIZE - 3) == RIGHT[3][-3:]
    for at in (DATA_SIZE + 1, 1 << 32, 1 << 40, (1 << 62) + 7):
        assert os.lseek(file, at, os.SEEK_SET) == at
        assert os.read(file, 4096) == b""
    assert os.lseek(file, 0, os.SEEK_END) == DATA_SIZE


def test_files_when_changed_then_read_only(mounted):
    path = mounted / "data/3.bin"
    attempts = [
        lambda: path.write_bytes(b"x"),
        path.unlink,
        lambda: path.rename(mounted / "x"),
        (mounted / "new").mkdir,
        lambda: path.chmod(0o600),
        lambda: os.setxattr(path, "user.x", b"1"),
        lambda: os.utime(path),
        lambda: os.truncate(path, 0),
        lambda: (mounted / "link").symlink_to("x"),
        lambda: os.link(path, mounted / "link"),
    ]
    for attempt in attempts:
        with pytest.raises(OSError, match="Read-only"):
            attempt()
    assert path.read_bytes() == RIGHT[3]
