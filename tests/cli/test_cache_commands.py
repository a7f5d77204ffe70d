"""``tocsin cache ls`` and ``tocsin cache prune``."""

import fcntl
import json
import os

import pytest

from support.cli_in_process import tocsin
from tocsin.cli import words

LAYER, TABLE = "a" * 64, "b" * 64
USED = 1_700_000_000


@pytest.fixture
def cache(tmp_path):
    """A cache with an inflated layer of which 8 KiB of 1 GiB are on the disk, and a span."""
    path = tmp_path / "cache" / "inflated" / f"{LAYER}-{TABLE}"
    path.mkdir(parents=True)
    with (path / "data").open("wb") as data:
        data.write(b"x" * 8192)
        data.truncate(1 << 30)
    (path / "lock").touch()
    for file in path.iterdir():
        os.utime(file, (USED, USED))
    span = tmp_path / "cache" / "spans" / LAYER / TABLE / "0"
    span.parent.mkdir(parents=True)
    span.write_bytes(b"y" * 4096)
    return tmp_path / "cache"


def lines(done):
    assert (done.returncode, done.stderr) == (0, b"")
    return [" ".join(line.split()) for line in done.stdout.decode().splitlines() if line]


def test_ls_when_cache_is_filled_then_layers_parts_and_total_are_printed(cache):
    assert lines(tocsin("cache", "ls", "--cache-dir", cache, COLUMNS="200")) == [
        "LAYER INDEX ON DISK LAST USED (UTC) STATE",
        f"{'a' * 12} {'b' * 12} 8.0 KiB 2023-11-14 22:13 {words.NOTHING}",
        "CONTENTS FILES ON DISK",
        "compressed spans 1 4.0 KiB",
        "zTOCs 0 0 B",
        "parts of seek tables 0 0 B",
        "manifests and configs 0 0 B",
        "answers of registries 0 0 B",
        f"1 inflated layer, 12.0 KiB on disk, in {cache}",
    ]


def test_ls_when_a_layer_is_mounted_then_pinned(cache):
    with (cache / "inflated" / f"{LAYER}-{TABLE}" / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        found = lines(tocsin("cache", "ls", TOCSIN_CACHE_DIR=str(cache), COLUMNS="200"))
    assert found[1].endswith(" pinned")
    assert found[-1] == f"1 inflated layer, 12.0 KiB on disk, 8.0 KiB pinned, in {cache}"


def test_ls_when_no_directory_is_given_then_that_of_the_user(tmp_path):
    found = lines(tocsin("cache", "ls", XDG_CACHE_HOME=str(tmp_path)))
    assert found[-1] == f"0 inflated layers, 0 B on disk, in {tmp_path / 'tocsin'}"
    found = lines(tocsin("cache", "ls", XDG_CACHE_HOME="relative", HOME=str(tmp_path)))
    assert found[-1].endswith(f"in {tmp_path / '.cache' / 'tocsin'}")
    assert list(tmp_path.iterdir()) == []


def test_prune_when_small_enough_then_nothing_is_removed(cache):
    assert lines(tocsin("cache", "prune", "--cache-dir", cache)) == [
        "removed 0 inflated layers and 0 other files, 0 B",
        f"12.0 KiB left in {cache}",
    ]


def test_prune_when_dry_run_then_it_says_what_would_be_removed(cache):
    found = lines(tocsin("cache", "prune", "--all", "--dry-run", "--cache-dir", cache))
    assert found[-2:] == [
        "would remove 1 inflated layer and 1 other file, 12.0 KiB",
        f"0 B would be left in {cache}",
    ]
    assert (cache / "inflated" / f"{LAYER}-{TABLE}" / "data").exists()


def test_prune_when_a_size_is_given_then_the_oldest_goes_first(cache):
    found = lines(tocsin("cache", "prune", "--max-size", "4KiB", "--cache-dir", cache))
    assert found[-2:] == [
        "removed 1 inflated layer and 0 other files, 8.0 KiB",
        f"4.0 KiB left in {cache}",
    ]


def test_prune_when_json_then_the_document_is_printed(cache):
    done = tocsin("cache", "prune", "--json", "--cache-dir", cache, TOCSIN_CACHE_SIZE="0")
    assert json.loads(done.stdout)["removed_size"] == 12288


def test_cache_when_the_directory_is_unsafe_then_it_is_an_error(cache):
    cache.chmod(0o777)
    done = tocsin("cache", "ls", "--cache-dir", cache)
    assert done.returncode == 5
    assert b"all users can write to it" in done.stderr
