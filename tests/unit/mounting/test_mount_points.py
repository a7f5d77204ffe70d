"""Which directories can be mounted on, and what the kernel lists."""

import errno
import os

import pytest

from tocsin.errors import ConflictError, NotFoundError, UnsupportedError
from tocsin.mounting import mount_points

MOUNTINFO = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
90 22 0:45 / /mnt/a\\040b ro,nosuid - fuse.tocsin tocsin ro,user_id=0
91 22 0:46 / /mnt/twice rw - tmpfs tmpfs rw
92 91 0:47 / /mnt/twice ro master:1 propagate_from:2 - fuse.tocsin tocsin ro
garbage
93 22 x:y / /mnt/odd rw - tmpfs tmpfs rw
"""


@pytest.fixture
def listed(tmp_path, monkeypatch):
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTINFO)
    monkeypatch.setattr(mount_points, "_MOUNTS", path)


@pytest.mark.usefixtures("listed")
def test_mounted_at_when_listed_then_the_last_one():
    found = mount_points.mounted_at("/mnt/a b")
    assert (found.kind, found.source) == ("fuse.tocsin", "tocsin")
    assert found.device == os.makedev(0, 45)
    assert mount_points.mounted_at("/mnt/twice").kind == "fuse.tocsin"
    assert mount_points.mounted_at("/mnt/odd") is None
    assert mount_points.mounted_at("/mnt") is None


def test_absolute_when_last_part_is_a_link_then_its_target(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    expected = os.path.realpath(tmp_path / "real")
    for name in ("real", "link", "./real/", "real/../link", tmp_path / "link"):
        assert mount_points.absolute(name) == expected


def test_directory_when_empty_then_usable(tmp_path):
    mount_points.check_directory(str(tmp_path))


def test_directory_when_missing_or_not_empty_or_a_file_then_error(tmp_path):
    with pytest.raises(NotFoundError, match="directory not found"):
        mount_points.check_directory(str(tmp_path / "missing"))
    (tmp_path / "file").touch()
    with pytest.raises(ConflictError, match='directory not empty \\(found "file"\\)'):
        mount_points.check_directory(str(tmp_path))
    with pytest.raises(ConflictError, match="not a directory"):
        mount_points.check_directory(str(tmp_path / "file"))


@pytest.fixture
def user(tmp_path, monkeypatch):
    """A machine on which this process is not root, and everything else is in place."""
    fuse = tmp_path / "fuse"
    fuse.touch()
    settings = tmp_path / "fuse.conf"
    settings.write_text("# user_allow_other\n")
    monkeypatch.setattr(mount_points, "_FUSE", fuse)
    monkeypatch.setattr(mount_points, "_FUSE_SETTINGS", settings)
    monkeypatch.setattr(mount_points, "_found", lambda program: f"/usr/bin/{program}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return tmp_path


def test_system_when_all_is_there_then_no_error(user):
    mount_points.check_system(allow_other=False)
    (user / "fuse.conf").write_text("user_allow_other\n")
    mount_points.check_system(allow_other=True)


def test_system_when_device_is_missing_then_hint(user):
    (user / "fuse").unlink()
    with pytest.raises(UnsupportedError, match="not found") as caught:
        mount_points.check_system(allow_other=False)
    assert "modprobe fuse" in caught.value.hint


def test_system_when_program_is_missing_then_hint(user, monkeypatch):
    monkeypatch.setattr(mount_points, "_found", lambda _: None)
    with pytest.raises(UnsupportedError, match="fusermount3: program not found") as caught:
        mount_points.check_system(allow_other=False)
    assert "fuse3" in caught.value.hint
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    mount_points.check_system(allow_other=True)


@pytest.mark.usefixtures("user")
def test_system_when_others_are_not_allowed_then_hint():
    with pytest.raises(UnsupportedError, match="--allow-other") as caught:
        mount_points.check_system(allow_other=True)
    assert "user_allow_other" in caught.value.hint


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EPERM, UnsupportedError),
        (errno.EACCES, UnsupportedError),
        (errno.ENODEV, UnsupportedError),
        (errno.ENOMEM, OSError),
    ],
)
def test_mount_when_kernel_refuses_then_error_says_what_to_do(number, kind):
    found = mount_points.mount_refused(OSError(number, os.strerror(number)), "/mnt")
    assert isinstance(found, kind)
    assert isinstance(found, OSError) or found.hint


def test_mount_when_program_refuses_then_its_message_and_a_hint():
    found = mount_points.mount_refused(OSError("fusermount3: no"), "/mnt")
    assert isinstance(found, UnsupportedError)
    assert found.message == '"/mnt": it cannot be mounted there: fusermount3: no'
    assert found.hint
