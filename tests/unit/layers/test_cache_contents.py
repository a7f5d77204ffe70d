"""Listing and pruning a cache directory: sizes on the disk, pins, hostile directories."""

import fcntl
import os
import stat
import threading
from contextlib import contextmanager

import pytest

from support.disks import NOBODY
from tocsin.layers import inflated_layers
from tocsin.layers.cache_contents import cache_contents, prune_cache
from tocsin.layers.disk_cache import DiskCache
from tocsin.model.digest import Digest

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
BLOCK = 4096
TABLE = "e" * 64
A, B, C = (Digest.of(name) for name in (b"a", b"b", b"c"))


class Cache:
    """A cache directory that is filled as mounts fill it."""

    def __init__(self, directory):
        self.directory = directory
        self.notes = []
        self.disk = DiskCache(directory, self.notes.append)

    def layer(self, digest):
        return self.directory / "inflated" / f"{digest.hex}-{TABLE}"

    def add(self, digest, *, blocks=1, used=1):
        """Add a layer of 1 GiB of which some blocks are inflated."""
        path = self.layer(digest)
        path.mkdir(0o700, parents=True)
        path.parent.chmod(0o700)
        with (path / "data").open("wb") as data:
            data.write(b"x" * (blocks * BLOCK))
            data.truncate(1 << 30)
        (path / "spans").write_bytes(b"s")
        (path / "lock").touch()
        for file in path.iterdir():
            os.utime(file, (used, used))
        return path

    def contents(self):
        return cache_contents(self.directory)

    def digests(self):
        return {layer.digest for layer in self.contents().layers}

    def prune(self, max_size=0, **options):
        return prune_cache(self.directory, max_size=max_size, **options)

    def sizes(self):
        return {part.name: (part.file_count, part.disk_size) for part in self.contents().parts}


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@contextmanager
def mounted(path):
    """Hold the lock that a mount holds."""
    with (path / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def test_contents_when_directory_is_missing_then_empty_and_not_made(cache):
    contents = cache.contents()
    assert (contents.layers, contents.disk_size) == ((), 0)
    assert cache.prune().removed_size == 0
    assert not cache.directory.exists()


def test_contents_when_files_have_holes_then_only_blocks_are_counted(cache):
    cache.add(A, blocks=3)
    (layer,) = cache.contents().layers
    assert (layer.digest, layer.table, layer.is_pinned) == (A, TABLE, False)
    assert 4 * BLOCK <= layer.disk_size <= 8 * BLOCK


def test_contents_when_listed_then_most_recently_used_first(cache):
    for digest, used in ((A, 5), (B, 50), (C, 20)):
        cache.add(digest, used=used)
    os.utime(cache.layer(A) / "spans", (30, 30))
    found = [(layer.digest, layer.used_ns) for layer in cache.contents().layers]
    assert found == [(B, 50 * 10**9), (A, 30 * 10**9), (C, 20 * 10**9)]


def test_contents_when_there_are_other_files_then_counted_by_kind(cache):
    cache.disk.spans_of(A, f"sha256:{TABLE}").keep(0, b"x" * 5000)
    cache.disk.keep_blob(B, b"z" * 10)
    cache.disk.parts_of(C).keep(7, b"p")
    (cache.directory / "images").mkdir(0o700)
    (cache.directory / "images" / A.hex).write_bytes(b"{}")
    assert cache.sizes() == {
        "spans": (1, 2 * BLOCK),
        "ztocs": (1, BLOCK),
        "seek": (1, BLOCK),
        "images": (1, BLOCK),
        "answers": (0, 0),
    }
    assert cache.contents().disk_size == 5 * BLOCK


def test_contents_when_read_then_half_written_files_are_kept(cache):
    cache.disk.keep_blob(B, b"z" * 10)
    half = cache.directory / "ztocs" / ".tocsin-0123"
    half.write_bytes(b"")
    assert cache.sizes()["ztocs"][0] == 1
    assert half.exists()


def test_prune_when_too_large_then_the_least_recently_used_go_first(cache):
    for digest, used in ((A, 5), (B, 50), (C, 20)):
        cache.add(digest, used=used)
    each = cache.contents().layers[0].disk_size
    result = cache.prune(2 * each)
    assert [layer.digest for layer in result.layers] == [A]
    assert (result.removed_size, result.disk_size) == (each, 2 * each)
    assert cache.digests() == {B, C}
    assert cache.prune(2 * each).layers == ()
    assert cache.contents().disk_size == 2 * each


def test_prune_when_all_is_removed_then_no_layer_directory_is_left(cache):
    cache.add(A)
    cache.disk.keep_blob(B, b"z" * 10)
    cache.disk.spans_of(A, f"sha256:{TABLE}").keep(0, b"x")
    result = cache.prune()
    assert (len(result.layers), result.file_count, result.disk_size) == (1, 2, 0)
    assert list((cache.directory / "inflated").iterdir()) == []
    assert cache.contents().disk_size == 0


def test_prune_when_files_are_removed_then_the_total_is_counted_again(cache):
    cache.disk.keep_blob(B, b"z" * 10)
    cache.prune()
    assert (cache.directory / ".tocsin-usage").read_bytes().startswith(b"0 ")
    cache.disk.keep_blob(Digest.of(b"z"), b"z")
    assert cache.disk.blob(Digest.of(b"z"), 1) == b"z"
    assert cache.notes == []


def test_prune_when_a_layer_is_pinned_then_neither_removed_nor_counted(cache):
    path = cache.add(A, used=1)
    cache.add(B, used=2)
    with mounted(path):
        pinned, free = sorted(cache.contents().layers, key=lambda each: each.digest != A)
        assert (pinned.is_pinned, free.is_pinned) == (True, False)
        assert cache.contents().pinned_size == pinned.disk_size
        assert cache.prune(free.disk_size).layers == ()
        result = cache.prune()
        assert [layer.digest for layer in result.layers] == [B]
        assert (result.disk_size, result.pinned_size) == (pinned.disk_size, pinned.disk_size)
        assert (path / "data").stat().st_size == 1 << 30
    assert [layer.digest for layer in cache.prune().layers] == [A]


def test_prune_when_dry_run_then_nothing_is_removed(cache):
    cache.add(A)
    cache.disk.keep_blob(B, b"z" * 10)
    before = sorted(cache.directory.rglob("*"))
    result = cache.prune(dry_run=True)
    assert (len(result.layers), result.file_count) == (1, 1)
    assert sorted(cache.directory.rglob("*")) == before
    again = cache.prune()
    assert (again.layers, again.removed_size) == (result.layers, result.removed_size)


def test_prune_when_a_mount_locks_it_after_listing_then_it_is_kept(cache, monkeypatch):
    path = cache.add(A)
    real = inflated_layers.open_directory
    held = []

    @contextmanager
    def lock_meanwhile(root, names, **options):
        with real(root, names, **options) as directory:
            yield directory
        if not held:
            held.append(mounted(path))
            held[0].__enter__()

    monkeypatch.setattr(inflated_layers, "open_directory", lock_meanwhile)
    result = cache.prune()
    assert (result.layers, result.removed_size) == ((), 0)
    assert (path / "data").exists()
    held[0].__exit__(None, None, None)


def test_prune_when_another_prune_removed_the_layer_then_it_is_not_counted(cache, monkeypatch):
    path = cache.add(A)
    real = inflated_layers.open_file
    calls = []

    @contextmanager
    def remove_meanwhile(name, directory, *, write=False):
        with real(name, directory, write=write) as fd:
            if write and not calls:
                calls.append(True)
                for file in path.iterdir():
                    file.unlink()
                path.rmdir()
            yield fd

    monkeypatch.setattr(inflated_layers, "open_file", remove_meanwhile)
    assert cache.prune().layers == ()
    assert not path.exists()


def test_prune_when_many_run_with_mounts_then_no_mounted_layer_is_lost(cache):
    def mount_and_check(digest, name):
        for _ in range(20):
            path = cache.layer(digest)
            path.mkdir(0o700, parents=True, exist_ok=True)
            try:
                with (path / "lock").open("wb") as lock:
                    fcntl.flock(lock, fcntl.LOCK_SH)
                    if os.fstat(lock.fileno()).st_nlink:
                        (path / name).write_bytes(b"x")
                        if (path / name).read_bytes() != b"x":
                            lost.append(name)
            except FileNotFoundError as error:
                # A prune may remove the directory before the lock is opened, but not later.
                if not str(error.filename).endswith("lock"):
                    lost.append(name)

    lost = []
    mounts = [(A, "data"), (B, "data"), (A, "spans")]
    threads = [threading.Thread(target=mount_and_check, args=each) for each in mounts]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        cache.prune()
    for thread in threads:
        thread.join()
    assert lost == []


def test_prune_when_it_dies_after_one_file_then_the_layer_is_invalid(cache, monkeypatch):
    path = cache.add(A)
    real = os.unlink

    def die_after_one(name, **options):
        real(name, **options)
        raise OSError("killed")

    monkeypatch.setattr(inflated_layers.os, "unlink", die_after_one)
    assert cache.prune().layers == ()
    assert not (path / "spans").exists()
    assert (path / "data").exists()


@pytest.mark.parametrize("name", ["x", "a" * 64, f"{'a' * 64}-", f"{'A' * 64}-{TABLE}", "lock"])
def test_prune_when_a_directory_has_another_name_then_left_alone(cache, name):
    path = cache.directory / "inflated" / name
    path.mkdir(parents=True, mode=0o700)
    path.parent.chmod(0o700)
    (path / "data").write_bytes(b"the user's")
    assert cache.contents().layers == ()
    cache.prune()
    assert (path / "data").read_bytes() == b"the user's"


def test_prune_when_a_layer_is_a_link_then_its_target_is_not_touched(cache, tmp_path):
    cache.add(A)
    target = tmp_path / "target"
    cache.layer(A).rename(target)
    cache.layer(A).symlink_to(target)
    assert cache.contents().layers == ()
    cache.prune()
    assert sorted(file.name for file in target.iterdir()) == ["data", "lock", "spans"]


def test_prune_when_a_file_is_a_link_then_only_the_link_is_removed(cache, tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"x" * 10_000)
    path = cache.add(A)
    (path / "data").unlink()
    (path / "data").symlink_to(victim)
    (path / "ztoc").symlink_to(tmp_path)
    assert len(cache.prune().layers) == 1
    assert not path.exists()
    assert victim.stat().st_size == 10_000


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("data")])
def test_prune_when_the_lock_is_not_a_file_then_it_does_not_block(cache, make):
    path = cache.add(A)
    (path / "lock").unlink()
    make(path / "lock")
    assert [layer.is_pinned for layer in cache.contents().layers] == [False]
    assert cache.prune().layers == ()
    assert (path / "data").exists()


def test_prune_when_a_layer_holds_a_directory_then_the_rest_is_kept(cache):
    path = cache.add(A)
    (path / "below").mkdir()
    assert cache.prune().layers == ()
    assert path.exists()


@as_root
def test_prune_when_a_layer_is_another_users_then_left_alone(cache):
    path = cache.add(A)
    os.chown(path, NOBODY, NOBODY)
    assert cache.contents().layers == ()
    assert cache.prune().layers == ()
    assert (path / "data").exists()


def test_contents_when_all_users_can_write_then_os_error(cache):
    cache.directory.mkdir()
    cache.directory.chmod(0o777)
    for act in (cache.contents, cache.prune):
        with pytest.raises(PermissionError, match="all users can write to it") as refusal:
            act()
        assert refusal.value.filename == str(cache.directory)


def test_prune_when_a_half_written_file_is_old_then_it_is_removed(cache):
    cache.add(A)
    above = cache.directory / "inflated"
    for name in (".tocsin-old", ".tocsin-new", "other"):
        (above / name).write_bytes(b"x")
    for name in (".tocsin-old", "other"):
        os.utime(above / name, (1, 1))
    cache.prune(1 << 40)
    assert {file.name for file in above.iterdir() if file.is_file()} == {".tocsin-new", "other"}
    assert cache.digests() == {A}


def test_documents_when_made_then_as_on_the_page(cache):
    cache.add(A, used=1_700_000_000)
    (document,) = cache.contents().to_dict()["layers"]
    assert document["last_used"] == "2023-11-14T22:13:20Z"
    assert document["digest"] == str(A)
    assert document["table"] == f"sha256:{TABLE}"
    assert stat.S_ISDIR(cache.layer(A).stat().st_mode)
