from __future__ import annotations

import pytest

from support.cli_in_process import tocsin
from support.cli_process import tocsin_without_root_rights
from support.disks import mounted

SMALL = ("--min-layer-size", "1KiB", "--span-size", "1MiB")
READERS = [("ztoc", "build"), ("ztoc", "info"), ("ztoc", "ls")]


@pytest.mark.parametrize(
    "command", [("ztoc", "build"), ("ztoc", "info"), ("ztoc", "ls")], ids=" ".join
)
def test_missing_file_is_not_found_and_named(tmp_path, command):
    done = tocsin(*command, tmp_path / "nothing")
    assert done.stderr.decode() == f"error: no such file or directory · {tmp_path / 'nothing'}\n"
    assert (done.returncode, done.stdout) == (3, b"")


@pytest.mark.parametrize(
    "command", [("ztoc", "build"), ("ztoc", "info"), ("ztoc", "ls")], ids=" ".join
)
def test_directory_instead_of_a_file_is_an_io_error(tmp_path, command):
    done = tocsin(*command, tmp_path)
    assert done.stderr.decode() == f"error: is a directory, not a file · {tmp_path}\n"
    assert done.returncode == 5


def test_output_into_a_directory_is_refused_before_any_work(files, tmp_path):
    done = tocsin("ztoc", "build", files.layer, "-o", tmp_path)
    assert done.stderr.decode() == f"error: is a directory, not a file · {tmp_path}\n"
    assert done.returncode == 5


def test_output_into_a_missing_directory_names_the_directory(files, tmp_path):
    done = tocsin("ztoc", "build", files.layer, "-o", tmp_path / "no" / "z")
    assert done.stderr.decode() == f"error: no such file or directory · {tmp_path / 'no'}\n"
    assert done.returncode == 3


def test_output_below_a_file_is_an_io_error(files, tmp_path):
    (tmp_path / "file").touch()
    done = tocsin("ztoc", "build", files.layer, "-o", tmp_path / "file" / "z")
    assert done.returncode == 5
    assert str(tmp_path / "file") in done.stderr.decode()


def test_layout_below_a_file_is_an_io_error(layout, tmp_path):
    (tmp_path / "file").touch()
    done = tocsin("convert", f"oci:{layout}:app", f"oci:{tmp_path}/file/x", *SMALL)
    assert done.returncode == 5
    assert "a part of the path is a file, not a directory · " in done.stderr.decode()


def test_unreadable_layer_is_permission_denied(files, tmp_path):
    """Runs a separate process, which drops the permissions of root."""
    layer = tmp_path / "layer"
    layer.write_bytes(b"")
    layer.chmod(0)
    done = tocsin_without_root_rights("ztoc", "build", layer)
    assert done.returncode == 5
    assert done.stderr.decode().splitlines()[0] == f"error: permission denied · {layer}"


def test_unwritable_directory_is_permission_denied(files, tmp_path):
    """Runs a separate process, which drops the permissions of root."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    done = tocsin_without_root_rights("ztoc", "build", files.layer, "-o", closed / "z")
    assert done.returncode == 5
    assert done.stderr.decode().splitlines()[0] == f"error: permission denied · {closed}"


def test_read_only_file_system_is_an_io_error_with_a_hint(files, tmp_path):
    with mounted(tmp_path, "ro"):
        done = tocsin("ztoc", "build", files.layer, "-o", tmp_path / "z")
    assert done.returncode == 5
    assert done.stderr.decode().splitlines() == [
        f"error: the file system is read-only · {tmp_path}",
        "hint: Write to another location.",
    ]


def test_full_file_system_leaves_nothing_behind(files, layout, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    with mounted(small, "size=64k"):
        done = tocsin("ztoc", "build", files.layer, "--span-size", "64KiB", "-o", small / "z")
        assert done.returncode == 5
        assert done.stderr.decode().startswith(f"error: the disk is full · {small} · 1.")
        assert list(small.iterdir()) == []
        done = tocsin("convert", f"oci:{layout}:app", f"oci:{small / 'l'}:soci", *SMALL)
        assert done.returncode == 5
        assert "error: the disk is full · " in done.stderr.decode()
        assert not [p for p in small.rglob("*") if p.is_file() and p.stat().st_size]


def test_tracebacks_are_printed_only_with_debug(tmp_path):
    plain = tocsin("ztoc", "info", tmp_path / "x")
    assert b"Traceback" not in plain.stderr
    for done in (
        tocsin("--debug", "ztoc", "info", tmp_path / "x"),
        tocsin("ztoc", "info", tmp_path / "x", TOCSIN_DEBUG="1"),
    ):
        assert b"Traceback" in done.stderr
        assert done.stderr.endswith(plain.stderr)
        assert done.returncode == 3


def test_control_characters_in_a_path_do_not_reach_the_terminal(tmp_path):
    done = tocsin("ztoc", "info", tmp_path / "\x1b[31mred\n")
    assert done.stderr.decode().endswith("/\\x1b[31mred\\n\n")
