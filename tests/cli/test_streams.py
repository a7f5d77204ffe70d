from __future__ import annotations

import os
import re
import stat
import subprocess

import pytest

from support.cli_inputs import BINARY
from support.cli_process import TOCSIN, environment, on_terminal, start, tocsin

SMALL = ("--min-layer-size", "1KiB", "--span-size", "1MiB")


def test_pipes_get_no_escape_codes(layout, files):
    for command in (
        ("create", f"oci:{layout}:app", *SMALL),
        ("info", f"oci:{layout}:app"),
        ("index", "info", f"oci:{layout}:app"),
        ("ztoc", "info", files.ztoc),
        ("ztoc", "build", files.layer),
        ("ztoc", "nonsense"),
    ):
        for changes in ({}, {"FORCE_COLOR": "1"}):
            done = tocsin(*command, **changes)
            assert b"\x1b" not in done.stdout + done.stderr


def test_terminal_shows_bars_that_vanish_and_then_the_table(layout):
    shown, code = on_terminal("create", f"oci:{layout}:app", *SMALL)
    assert code == 0
    assert b"\x1b[1mLAYER" in shown
    assert b"\x1b[2K" in shown  # bars were cleared
    assert "→ zTOC".encode() not in shown  # no lines besides the table
    assert shown.rstrip().splitlines()[-1].startswith(b"1 zTOC for 2 layers")


def test_no_color_shows_bars_without_colours(layout):
    shown, _ = on_terminal("create", f"oci:{layout}:app", *SMALL, NO_COLOR="1")
    assert not re.search(rb"\x1b\[[0-9;]*m", shown)
    assert b"\x1b[2K" in shown


def test_dumb_terminal_gets_plain_lines(layout):
    shown, _ = on_terminal("create", f"oci:{layout}:app", *SMALL, TERM="dumb")
    assert b"\x1b" not in shown
    assert "MiB → zTOC ".encode() in shown


def test_dumb_terminal_gets_a_line_for_each_seek_blob(layout):
    command = ("create", f"oci:{layout}:app", "--seek-only", "--existing-index", "allow")
    shown, code = on_terminal(*command, TERM="dumb")
    assert code == 0
    assert shown.count("B → seek blob ".encode()) == 2
    assert b"skipped" not in shown


def test_quiet_prints_nothing_on_a_terminal(layout):
    shown, code = on_terminal("create", f"oci:{layout}:app", *SMALL, "-q")
    assert re.fullmatch(rb"sha256:[0-9a-f]{64}\r\n", shown)
    assert code == 0


@pytest.mark.parametrize("columns", [40, 80, 100])
def test_build_on_a_terminal_of_any_width(files, columns):
    shown, code = on_terminal("ztoc", "build", files.layer, columns=columns)
    assert code == 0
    assert b"sha256:" in shown


def test_errors_on_a_terminal_are_coloured_unless_asked_not_to(tmp_path):
    missing = tmp_path / "x"
    assert b"\x1b[1;31merror:\x1b[0m" in on_terminal("ztoc", "info", missing)[0]
    assert b"\x1b" not in on_terminal("ztoc", "info", missing, NO_COLOR="1")[0]


def test_reader_that_closes_the_pipe_is_silent_success(files):
    read, write = os.pipe()
    with start(
        "ztoc",
        "cat",
        files.ztoc,
        files.layer,
        "usr/bin/app",
        stdout=write,
        stderr=subprocess.PIPE,
        bufsize=0,
    ) as process:
        os.close(write)
        assert os.read(read, 10) == BINARY[:10]
        os.close(read)
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize("command", [("--help",), ("ztoc", "ls")], ids=" ".join)
def test_missing_reader_is_silent_success(files, command):
    read, write = os.pipe()
    os.close(read)
    arguments = (*command, files.ztoc) if command[0] == "ztoc" else command
    with start(*arguments, stdout=write, stderr=subprocess.PIPE) as process:
        os.close(write)
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_closed_stderr_does_not_stop_the_work(layout):
    read, write = os.pipe()
    os.close(read)
    with start(
        "create", f"oci:{layout}:app", *SMALL, stdout=subprocess.PIPE, stderr=write
    ) as process:
        os.close(write)
        out = process.stdout.read()
    assert process.returncode == 0
    assert b"index sha256:" in out


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
@pytest.mark.parametrize(
    "command", [("--help",), ("ztoc", "info"), ("ztoc", "ls", "--json")], ids=" ".join
)
def test_full_disk_behind_stdout_is_an_error(files, command):
    arguments = (*command, files.ztoc) if command[0] == "ztoc" else command
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        process = subprocess.run(  # noqa: S603
            [TOCSIN, *map(str, arguments)],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            check=False,
        )
    assert process.returncode == 5
    assert process.stderr.decode().startswith("error: the disk is full")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_full_disk_under_the_output_file_says_how_much_was_needed(files):
    done = tocsin("ztoc", "build", files.layer, "-o", "/dev/full", "-q")
    first, hint = done.stderr.decode().splitlines()
    assert re.fullmatch(r"error: the disk is full · /dev/full · [0-9.]+ KiB needed", first)
    assert hint == "hint: Free some space, or write to another location."
    assert done.returncode == 5


def test_device_as_output_stays_a_device(files):
    done = tocsin("ztoc", "build", files.layer, "-o", "/dev/null")
    assert done.returncode == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)  # noqa: PTH116


def test_fifo_as_output_gets_the_bytes(files, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with start(
        "ztoc", "build", files.layer, "--span-size", "1MiB", "-o", fifo, stdout=subprocess.DEVNULL
    ) as process:
        data = fifo.read_bytes()
    assert data == files.ztoc.read_bytes()
    assert process.returncode == 0
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_closed_stdout_is_an_error_for_results(files):
    script = 'exec "$@" >&-'
    done = subprocess.run(  # noqa: S603
        ["/bin/sh", "-c", script, "sh", TOCSIN, "ztoc", "info", str(files.ztoc)],
        stderr=subprocess.PIPE,
        env=environment(),
        check=False,
    )
    assert done.returncode == 5
    assert b"bad file descriptor" in done.stderr.lower()


def test_ascii_only_locale_gets_words_without_special_characters(files, layout):
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = tocsin("create", f"oci:{layout}:app", *SMALL, **plain)
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert b" -> oci:" in done.stdout
    listed = tocsin("ztoc", "ls", files.ztoc, **plain)
    assert listed.stdout == tocsin("ztoc", "ls", files.ztoc).stdout
