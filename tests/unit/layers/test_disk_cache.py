"""`tocsin.layers.disk_cache`: a directory that another user may have prepared, and its limit."""

import fcntl
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from support.disks import NOBODY
from tocsin.cli.image_files import DEFAULT_CACHE_SIZE
from tocsin.cli.parameters import size as parsed_size
from tocsin.layers import cache_space
from tocsin.layers.disk_cache import DEFAULT_DISK_CACHE_SIZE, DiskCache
from tocsin.model.digest import Digest

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
LAYER = Digest.of(b"layer")
ZTOC = "sha256:" + "a" * 64
DATA = b"compressed bytes of a span" * 100
BLOCK = 4096
USAGE = ".tocsin-usage"


class Cache:
    """A `DiskCache` of one layer, with its notes."""

    def __init__(self, directory, **options):
        self.notes = []
        self.disk = DiskCache(directory, self.notes.append, **options)
        self.spans = self.disk.spans_of(LAYER, ZTOC)
        self.directory = directory

    def path(self, span_id):
        return self.directory / "spans" / LAYER.hex / ("a" * 64) / str(span_id)

    def found(self, span_id, data=DATA):
        return self.spans.part(span_id, len(data)) == data


@pytest.fixture
def cache(tmp_path):
    """A cache with one span."""
    found = Cache(tmp_path / "cache")
    found.spans.keep(3, DATA)
    assert found.found(3)
    assert found.notes == []
    return found


@pytest.fixture
def victim(tmp_path):
    """A file that only its owner may change, with the data that the cache would hold."""
    path = tmp_path / "victim"
    path.write_bytes(DATA)
    os.utime(path, ns=(5, 5))
    return path


def state_of(path):
    status = path.stat()
    return path.read_bytes(), status.st_mtime_ns, status.st_mode, status.st_uid


def used(directory):
    """Return the bytes of all files below a directory."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


# -- files replaced by another user ------------------------------------------------------------


def put_symlink(path, victim):
    path.symlink_to(victim)


def put_endless(path, _victim):
    path.symlink_to("/dev/zero")


def put_fifo(path, _victim):
    os.mkfifo(path)


def put_socket(path, _victim):
    # The path of a socket may have at most 107 bytes, so it is made elsewhere.
    with socket.socket(socket.AF_UNIX) as made:
        place = f"/tmp/{os.urandom(8).hex()}"  # noqa: S108 (moved at once)
        made.bind(place)
        os.rename(place, path)  # noqa: PTH104


def put_sparse(path, _victim):
    with path.open("wb") as file:
        file.truncate(1 << 40)


def put_short(path, _victim):
    path.write_bytes(DATA[:-1])


def put_hard_link(path, victim):
    os.link(victim, path)


def put_file_of_another(path, _victim):
    path.write_bytes(DATA)
    os.chown(path, NOBODY, -1)


def put_device(path, _victim):
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("device nodes cannot be made on this machine")


@pytest.mark.parametrize(
    ("put", "reason"),
    [
        (put_symlink, "not a regular file"),
        (put_endless, "not a regular file"),
        (put_fifo, "not a regular file"),
        (put_socket, "not a regular file"),
        (put_sparse, f"the file has {1 << 40} bytes, expected {len(DATA)}"),
        (put_short, f"the file has {len(DATA) - 1} bytes, expected {len(DATA)}"),
        (put_hard_link, "the file has 2 hard links"),
        pytest.param(put_file_of_another, f"it belongs to user {NOBODY}", marks=as_root),
        pytest.param(put_device, "not a regular file", marks=as_root),
    ],
)
def test_span_when_another_file_has_its_name_then_ignored_and_replaced(cache, victim, put, reason):
    before = state_of(victim)
    path = cache.path(3)
    path.unlink()
    put(path, victim)
    for _ in range(2):
        assert cache.spans.part(3, len(DATA)) is None
    place = path.relative_to(cache.directory)
    assert cache.notes == [
        f"cache {cache.directory}: {place} is ignored and fetched again: {reason}"
    ]
    cache.spans.keep(3, DATA)
    assert cache.found(3)
    assert stat.S_ISREG(path.lstat().st_mode)
    assert state_of(victim) == before
    assert len(cache.notes) == 1


def test_span_when_a_directory_has_its_name_then_ignored_and_it_stays(cache):
    path = cache.path(3)
    path.unlink()
    (path / "mine").mkdir(parents=True)
    assert cache.spans.part(3, len(DATA)) is None
    cache.spans.keep(3, DATA)
    cache.spans.keep(4, DATA)
    assert cache.found(4)
    assert (path / "mine").is_dir()
    assert len(cache.notes) == 1
    assert sorted(each.name for each in path.parent.iterdir()) == ["3", "4"]


def test_span_when_its_file_grows_during_a_read_then_no_more_is_read(cache):
    path = cache.path(3)
    with path.open("ab") as file:
        file.write(b"more")
    assert cache.spans.part(3, len(DATA)) is None


# -- directories changed by another user -------------------------------------------------------


@pytest.mark.parametrize("level", [1, 2, 3])
def test_cache_when_a_directory_is_a_link_then_its_target_is_not_touched(cache, tmp_path, level):
    names = ["spans", LAYER.hex, "a" * 64]
    inside = cache.directory.joinpath(*names[:level])
    outside = tmp_path / "outside"
    inside.rename(outside)
    inside.symlink_to(outside)
    before = {path: path.lstat().st_mtime_ns for path in [outside, *outside.rglob("*")]}
    assert cache.spans.part(3, len(DATA)) is None
    cache.spans.keep(3, DATA)
    cache.spans.keep(4, DATA)
    assert {path: path.lstat().st_mtime_ns for path in [outside, *outside.rglob("*")]} == before
    (note,) = cache.notes
    assert note.endswith(f"is ignored and fetched again: {names[level - 1]} is not a directory")


def test_cache_when_full_then_nothing_behind_links_is_removed(tmp_path):
    cache = Cache(tmp_path / "cache", size=2 * BLOCK)
    outside = tmp_path / "outside"
    layer = outside / ("b" * 64) / ("c" * 64)
    layer.mkdir(parents=True)
    (layer / "1").write_bytes(b"mine")
    cache.spans.keep(0, DATA)
    (cache.directory / "spans" / ("b" * 64)).symlink_to(outside / ("b" * 64))
    (cache.directory / "ztocs").symlink_to(layer)
    for span_id in range(5):
        cache.spans.keep(span_id, DATA)
    assert (layer / "1").read_bytes() == b"mine"


@pytest.mark.parametrize("mode", [0o777, 0o702])
def test_cache_when_all_users_can_write_to_it_then_not_used(cache, mode):
    cache.directory.chmod(mode)
    before = sorted(cache.directory.rglob("*"))
    for span_id in (3, 4):
        assert cache.spans.part(span_id, len(DATA)) is None
        cache.spans.keep(span_id, DATA)
    assert sorted(cache.directory.rglob("*")) == before
    assert cache.notes == [f"cache {cache.directory}: not used: all users can write to it"]


def test_cache_when_its_directory_is_sticky_or_of_a_group_then_used(cache):
    for mode in (0o1777, 0o775, 0o755):
        cache.directory.chmod(mode)
        assert cache.found(3)
    assert cache.notes == []


@as_root
def test_cache_when_it_belongs_to_another_user_then_not_used(cache):
    os.chown(cache.directory, NOBODY, -1)
    assert cache.spans.part(3, len(DATA)) is None
    cache.spans.keep(4, DATA)
    assert not cache.path(4).exists()
    assert cache.notes == [f"cache {cache.directory}: not used: it belongs to user {NOBODY}"]


@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_cache_when_others_can_write_to_a_subdirectory_then_ignored(cache, mode):
    cache.path(3).parent.chmod(mode)
    assert cache.spans.part(3, len(DATA)) is None
    cache.spans.keep(3, DATA)
    (note,) = cache.notes
    assert note.endswith(f"fetched again: other users can write to the directory {'a' * 64}")


@as_root
def test_cache_when_another_user_made_a_subdirectory_then_ignored(cache):
    os.chown(cache.directory / "spans", NOBODY, -1)
    assert cache.spans.part(3, len(DATA)) is None
    (note,) = cache.notes
    assert note.endswith(f"fetched again: the directory spans belongs to user {NOBODY}")


def test_cache_when_made_then_only_its_owner_may_enter(tmp_path):
    before = os.umask(0)
    try:
        cache = Cache(tmp_path / "new" / "cache")
        cache.spans.keep(0, DATA)
        cache.disk.keep_blob(Digest.of(DATA), DATA)
    finally:
        os.umask(before)
    modes = {
        (stat.S_IFMT(path.stat().st_mode), stat.S_IMODE(path.stat().st_mode))
        for path in [cache.directory, *cache.directory.rglob("*")]
    }
    assert modes == {(stat.S_IFDIR, 0o700), (stat.S_IFREG, 0o600)}


def test_cache_when_its_own_path_is_a_link_then_it_is_followed(cache, tmp_path):
    (tmp_path / "link").symlink_to(cache.directory)
    assert Cache(tmp_path / "link").found(3)


@pytest.mark.parametrize("name", ["3", "new"])
def test_keep_when_its_temporary_name_is_taken_then_nothing_is_followed(
    cache, victim, monkeypatch, name
):
    monkeypatch.setattr(os, "urandom", bytes)
    span_id = int(name) if name.isdigit() else 9
    cache.path(3).with_name(f".tocsin-{'00' * 8}").symlink_to(victim)
    before = state_of(victim)
    cache.spans.keep(span_id, b"other")
    assert state_of(victim) == before
    assert cache.notes == [f"cache {cache.directory}: no longer written to: File exists"]


@pytest.mark.parametrize("put", [put_symlink, put_fifo, put_hard_link])
def test_usage_when_it_is_not_a_plain_file_then_replaced(cache, victim, put):
    before = state_of(victim)
    usage = cache.directory / USAGE
    usage.unlink()
    put(usage, victim)
    cache.spans.keep(4, DATA)
    assert cache.found(4)
    assert state_of(victim) == before
    assert stat.S_ISREG(usage.lstat().st_mode)
    assert cache.notes == []


def test_usage_when_it_is_a_directory_then_read_but_not_written(cache):
    (cache.directory / USAGE).unlink()
    (cache.directory / USAGE).mkdir()
    cache.spans.keep(4, DATA)
    assert cache.found(3)
    assert cache.notes == [
        f"cache {cache.directory}: no longer written to: .tocsin-usage is a directory"
    ]


# -- the limit ---------------------------------------------------------------------------------


def test_default_size_when_given_by_the_command_line_then_the_same():
    assert parsed_size(DEFAULT_CACHE_SIZE) == DEFAULT_DISK_CACHE_SIZE


def test_cache_when_full_then_the_least_recently_used_is_removed(tmp_path):
    cache = Cache(tmp_path, size=10 * BLOCK)
    for span_id in range(10):
        cache.spans.keep(span_id, DATA)
    for span_id in (0, 5):
        assert cache.found(span_id)
    cache.spans.keep(10, DATA)
    left = {span_id for span_id in range(11) if cache.path(span_id).exists()}
    # Down to nine tenths, including the new file.
    assert left == {0, 4, 5, 6, 7, 8, 9, 10} | {3}
    assert cache.notes == []


def test_cache_when_ztocs_are_oldest_then_they_are_removed_too(tmp_path):
    cache = Cache(tmp_path, size=3 * BLOCK)
    digests = [Digest.of(bytes([number])) for number in range(2)]
    for number, digest in enumerate(digests):
        cache.disk.keep_blob(digest, bytes([number]))
    for span_id in range(3):
        cache.spans.keep(span_id, DATA)
    assert [cache.disk.blob(digest, 1) for digest in digests] == [None, None]
    assert cache.found(2)


def test_cache_when_a_file_is_larger_than_the_limit_then_not_kept(tmp_path):
    cache = Cache(tmp_path / "cache", size=BLOCK)
    cache.spans.keep(0, bytes(BLOCK + 1))
    assert not cache.directory.exists()
    cache.spans.keep(1, DATA)
    cache.spans.keep(0, bytes(BLOCK + 1))
    assert cache.found(1)


def test_cache_when_its_limit_is_lower_than_before_then_it_shrinks(tmp_path):
    for span_id in range(20):
        Cache(tmp_path).spans.keep(span_id, DATA)
    cache = Cache(tmp_path, size=5 * BLOCK)
    cache.spans.keep(20, DATA)
    assert used(tmp_path) <= 5 * BLOCK
    assert cache.found(20)


def test_cache_when_layers_are_evicted_then_their_directories_are_removed(tmp_path):
    cache = Cache(tmp_path, size=2 * BLOCK)
    for number in range(5):
        cache.disk.spans_of(Digest.of(bytes([number])), "made:4194304").keep(0, DATA)
    assert len(list((tmp_path / "spans").iterdir())) == 1


def test_cache_when_full_then_files_of_the_user_stay(tmp_path):
    mine = [tmp_path / "mine", tmp_path / "spans" / "notes.txt", tmp_path / "ztocs" / "README"]
    cache = Cache(tmp_path, size=2 * BLOCK)
    cache.spans.keep(0, DATA)
    for path in mine:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_bytes(bytes(100 * BLOCK))
    for span_id in range(5):
        cache.spans.keep(span_id, DATA)
    assert all(path.stat().st_size == 100 * BLOCK for path in mine)


def test_cache_when_a_writer_died_then_half_written_files_are_removed(tmp_path):
    cache = Cache(tmp_path, size=4 * BLOCK)
    cache.spans.keep(0, DATA)
    left = cache.path(0).with_name(".tocsin-0011223344556677")
    left.write_bytes(DATA[:9])
    for span_id in range(1, 5):
        cache.spans.keep(span_id, DATA)
    assert not left.exists()


@pytest.mark.parametrize("text", [b"", b"\0" * 40, b"-1 0\n", b"9" * 60, b"0 0\n", b"0 1"])
def test_usage_when_it_is_wrong_or_old_then_all_files_are_counted(tmp_path, text):
    cache = Cache(tmp_path, size=4 * BLOCK)
    for span_id in range(4):
        cache.spans.keep(span_id, DATA)
    (tmp_path / USAGE).write_bytes(text)
    cache.spans.keep(4, DATA)
    assert used(tmp_path / "spans") <= 4 * BLOCK
    assert not cache.path(0).exists()


def test_usage_when_a_file_was_removed_then_it_is_counted_before_others_go(tmp_path):
    cache = Cache(tmp_path, size=4 * BLOCK)
    for span_id in range(4):
        cache.spans.keep(span_id, DATA)
    cache.path(2).unlink()
    cache.spans.keep(4, DATA)
    assert all(cache.found(span_id) for span_id in (0, 1, 3, 4))


def test_cache_when_a_huge_file_was_put_inside_then_only_that_is_removed(tmp_path):
    cache = Cache(tmp_path, size=10 * BLOCK)
    for span_id in range(5):
        cache.spans.keep(span_id, DATA)
    put_sparse(cache.path(99), None)
    (tmp_path / USAGE).unlink()
    cache.spans.keep(5, DATA)
    assert not cache.path(99).exists()
    assert all(cache.found(span_id) for span_id in range(6))


def test_cache_when_another_process_locks_it_then_read_but_not_written(cache, monkeypatch):
    monkeypatch.setattr(cache_space, "_LOCK_TIMEOUT", 0)
    with (cache.directory / USAGE).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        cache.spans.keep(4, DATA)
        assert not cache.path(4).exists()
        assert cache.found(3)
    assert cache.notes == [
        f"cache {cache.directory}: no longer written to: another process keeps it locked"
    ]


def test_cache_when_forked_while_locked_then_it_is_unlocked(cache, monkeypatch):
    """A forked process also has the locked file open, and may live longer."""
    children = []
    real = cache_space._write_usage

    def fork_once(*arguments):
        real(*arguments)
        if not children:
            children.append(waiting_copy())

    monkeypatch.setattr(cache_space, "_write_usage", fork_once)
    cache.spans.keep(4, DATA)
    monkeypatch.setattr(cache_space, "_LOCK_TIMEOUT", 0)
    cache.spans.keep(5, DATA)
    [(child, stop)] = children
    os.close(stop)
    os.waitpid(child, 0)
    assert cache.found(5)
    assert cache.notes == []


def waiting_copy():
    """Fork; return the child's id, and the descriptor to close to end it."""
    wait, stop = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(stop)
        os.read(wait, 1)
        os._exit(0)
    os.close(wait)
    return child, stop


_WRITER = """
import fcntl, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from unit.layers.test_disk_cache import BLOCK, USAGE, Cache, used
directory, first = Path(sys.argv[1]), int(sys.argv[2])
cache = Cache(directory, size=20 * BLOCK)
most = 0
for span_id in range(first, first + 150):
    cache.spans.keep(span_id, bytes(BLOCK))
    with (directory / USAGE).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # so that no other process writes meanwhile
        most = max(most, used(directory / "spans"))
assert cache.notes == [], cache.notes
print(most)
"""


def test_cache_when_several_processes_fill_it_then_below_its_limit(tmp_path):
    code = _WRITER.format(tests=str(Path(__file__).parents[2]))
    processes = [
        subprocess.Popen(  # noqa: S603 (this interpreter)
            [sys.executable, "-c", code, str(tmp_path), str(number * 1000)],
            stdout=subprocess.PIPE,
        )
        for number in range(4)
    ]
    most = [int(process.communicate()[0]) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert max(most) <= 20 * BLOCK
    assert 10 * BLOCK <= used(tmp_path / "spans") <= 20 * BLOCK


# -- zTOCs -------------------------------------------------------------------------------------


def test_blob_when_it_has_other_bytes_of_the_same_size_then_ignored(cache):
    digest = Digest.of(DATA)
    cache.disk.keep_blob(digest, DATA)
    assert cache.disk.blob(digest, len(DATA)) == DATA
    (cache.directory / "ztocs" / digest.hex).write_bytes(bytes(len(DATA)))
    assert cache.disk.blob(digest, len(DATA)) is None
    assert cache.notes == [
        f"cache {cache.directory}: ztocs/{digest.hex} is ignored and fetched again: "
        "does not match its digest"
    ]


def test_blob_when_larger_than_the_maximum_ztoc_then_not_read(cache):
    digest = Digest.of(DATA)
    cache.disk.keep_blob(digest, DATA)
    with (cache.directory / "ztocs" / digest.hex).open("r+b") as file:
        file.truncate(1 << 41)
    assert cache.disk.blob(digest, 1 << 41) is None
