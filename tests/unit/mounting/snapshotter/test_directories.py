"""The directories of snapshots: made at once, measured, and removed whatever is in them."""

import os
import shutil
import subprocess

import pytest

from tocsin.mounting.snapshotter.directories import Directories, measured
from tocsin.mounting.snapshotter.snapshot import Kind


@pytest.fixture
def directories(tmp_path):
    return Directories(tmp_path / "snapshots")


def made(directories, number, kind=Kind.ACTIVE, owner=None, mode=None):
    with directories.new(kind, owner, mode) as path:
        directories.keep(path, number)
    return directories.files(number)


def test_new_when_not_kept_then_nothing_is_left(directories):
    with pytest.raises(KeyError), directories.new(Kind.ACTIVE, None, None):
        raise KeyError
    assert list(directories.root.iterdir()) == []


def test_keep_when_number_is_given_again_then_the_leftover_is_replaced(directories):
    (made(directories, 1) / "old").touch()
    assert list(made(directories, 1).iterdir()) == []


def test_new_when_mode_is_given_then_root_has_it(directories):
    assert made(directories, 1, mode=0o1777).stat().st_mode & 0o7777 == 0o1777
    assert made(directories, 2).stat().st_mode & 0o7777 == 0o755


def test_leftover_when_snapshots_are_known_then_it_is_everything_else(directories):
    for number in (1, 2):
        made(directories, number)
    (directories.root / "new-1").mkdir()
    assert sorted(directories.leftover({2})) == ["1", "new-1"]


def test_remove_when_tree_is_deeper_than_any_path_then_it_is_gone(directories):
    top = os.open(made(directories, 1), os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d" * 100, dir_fd=top)
        below = os.open("d" * 100, os.O_RDONLY, dir_fd=top)
        os.close(top)
        top = below
    os.close(top)
    assert measured(directories.files(1)).inodes > 1
    directories.remove("1")
    assert list(directories.root.iterdir()) == []


def test_remove_when_links_lead_outside_then_their_targets_stay(directories, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    files = made(directories, 1)
    (files / "link").symlink_to(kept)
    directories.remove("1")
    assert (kept / "file").exists()


def test_usage_when_files_have_several_names_then_it_is_that_of_du(directories):
    files = made(directories, 1)
    (files / "a").write_bytes(bytes(100_000))
    os.link(files / "a", files / "b")
    (files / "sub").mkdir()
    (files / "sub" / "c").write_bytes(b"c")
    (files / "sub" / "s").symlink_to("c")
    command = [shutil.which("du"), "-s", "-B1", files]
    du = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    usage = directories.usage(1)
    assert usage.size == int(du.stdout.split()[0])
    assert usage.inodes == 5
