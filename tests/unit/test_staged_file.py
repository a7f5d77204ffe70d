import errno
import fcntl
import os
from contextlib import suppress

import pytest

from support.disks import fill_up, tiny_disk
from support.images import make_image
from tocsin.staged_file import StagedFile, place_in_errors, remove_abandoned
from tocsin.stores.layout import OciLayout


def test_publish_when_done_then_the_file_is_complete_and_nothing_else_left(tmp_path):
    (tmp_path / "target").write_text("old")
    with StagedFile(tmp_path) as staged:
        staged.write(b"ab")
        staged.write(memoryview(b"cd"))
        assert staged.size == 4
        assert (tmp_path / "target").read_text() == "old"
        staged.publish(tmp_path / "target")
    assert [p.name for p in tmp_path.iterdir()] == ["target"]
    assert (tmp_path / "target").read_bytes() == b"abcd"


def test_staged_file_when_not_published_then_it_is_removed(tmp_path):
    with StagedFile(tmp_path) as staged:
        staged.write(b"x")
    assert list(tmp_path.iterdir()) == []


def test_remove_abandoned_when_one_writer_is_alive_then_its_file_is_kept(tmp_path):
    (tmp_path / ".tocsin-0123.tmp").write_bytes(b"of a killed run")
    (tmp_path / ".tocsin-notes").write_bytes(b"the user's")
    with StagedFile(tmp_path) as staged:
        staged.write(b"alive")
        remove_abandoned(tmp_path)
        assert len(list(tmp_path.iterdir())) == 2
        staged.publish(tmp_path / "target")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".tocsin-notes", "target"]


def test_staged_file_when_removed_before_it_is_locked_then_it_is_recreated(tmp_path, monkeypatch):
    real = fcntl.flock
    taken = []

    def flock(fd, operation):
        if not taken:
            taken.append(True)
            next(tmp_path.iterdir()).unlink()
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with StagedFile(tmp_path) as staged:
        staged.write(b"x")
        staged.publish(tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        (errno.ENOSPC, OSError, "disk is full"),
        (errno.EDQUOT, OSError, "quota"),
        (errno.EACCES, PermissionError, "no write permission"),
        (errno.EROFS, OSError, "read-only"),
        (errno.EIO, OSError, "Input/output error"),
    ],
)
def test_place_in_errors_when_writing_fails_then_path_and_problem_named(tmp_path, code, kind, says):
    with pytest.raises(kind, match=says) as refusal, place_in_errors(tmp_path):
        raise OSError(code, os.strerror(code))
    assert refusal.value.errno == code
    assert refusal.value.filename == str(tmp_path)


def test_staged_file_when_directory_is_missing_then_the_error_names_it(tmp_path):
    with pytest.raises(FileNotFoundError) as refusal:
        StagedFile(tmp_path / "none")
    assert str(tmp_path / "none") in str(refusal.value)


@pytest.mark.parametrize("room", [0, 1, 1000, 65536, 100_003])
def test_layout_when_disk_is_full_during_a_write_then_it_is_unchanged(tmp_path, monkeypatch, room):
    layout = OciLayout(tmp_path / "D", write=True)
    layout.put_blob(b"before")
    fill_up(monkeypatch, room)
    with pytest.raises(OSError, match="disk is full") as refusal:
        layout.put_blob(iter([b"x" * 1000] * 200))
    assert refusal.value.errno == errno.ENOSPC
    assert refusal.value.filename == str(tmp_path / "D")
    assert len(list((tmp_path / "D" / "blobs" / "sha256").iterdir())) == 1
    assert [p.name for p in (tmp_path / "D").iterdir()] == ["blobs"]


@pytest.fixture
def disk(tmp_path):
    """A file system of 256 KiB."""
    with tiny_disk(tmp_path / "tiny", size=256 << 10) as place:
        yield place


def test_layout_when_a_real_disk_is_full_then_old_images_are_kept(disk):
    layout = OciLayout(disk / "D", write=True)
    image = make_image({"a": b"hello"})
    image.put(layout, "old")
    with pytest.raises(OSError, match="disk is full") as refusal:
        layout.put_blob(os.urandom(1 << 20))
    assert refusal.value.errno == errno.ENOSPC
    assert str(disk) in str(refusal.value)
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as out:
        for _ in range(1000):
            out.write(b"x" * 4096)
    with pytest.raises(OSError, match="disk is full"):
        layout.tag(image.descriptor, "new")
    assert layout.tags() == ["old"]
    assert b"".join(layout.blob(image.layer_descriptors[0])) == image.layers[0]
    assert sorted(p.name for p in layout.path.iterdir()) == ["blobs", "index.json", "oci-layout"]
    filler.unlink()
    layout.tag(image.descriptor, "new")
    assert layout.tags() == ["new", "old"]
