"""A command has the same result in this process and in a separate one, and leaves no state."""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path

import pytest

from support import cli_in_process, cli_process


def described(done):
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        (("--help",), {"COLUMNS": "70"}),
        (("--version",), {}),
        ((), {}),
        (("ztoc", "info", "ZTOC"), {}),
        (("ztoc", "ls", "-l", "-", "/etc"), {"stdin": "ZTOC"}),
        (("ztoc", "cat", "ZTOC", "LAYER", "usr/bin/app"), {}),
        (("ztoc", "ls", "nothing"), {"cwd": Path("/")}),
        (("ztoc", "ls", "--nothing"), {"FORCE_COLOR": "1"}),
        (("index", "info", "-"), {"stdin": "LAYER"}),
        ((), {"_TOCSIN_COMPLETE": "bash_complete", "COMP_WORDS": "tocsin z", "COMP_CWORD": "1"}),
    ],
    ids=str,
)
def test_command_when_run_either_way_then_outputs_and_codes_are_equal(files, arguments, changes):
    """Runs each command in a separate process and in this one."""
    paths = {"ZTOC": files.ztoc, "LAYER": files.layer}
    arguments = [paths.get(argument, argument) for argument in arguments]
    if "stdin" in changes:
        changes = {**changes, "stdin": paths[changes["stdin"]].read_bytes()}
    done = [runner.tocsin(*arguments, **changes) for runner in (cli_in_process, cli_process)]
    assert described(done[0]) == described(done[1])


def state():
    open_files = [Path(f"/proc/self/fd/{number}") for number in range(100)]
    descriptors = {path: path.readlink() for path in open_files if path.is_symlink()}
    signals = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return dict(os.environ), Path.cwd(), signals, streams, gc.get_threshold(), descriptors


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("arguments", [("ztoc", "info", "-"), ("--debug", "ztoc", "info", "x")])
def test_command_when_run_in_this_process_then_it_leaves_no_state(files, tmp_path, arguments):
    before = state()
    for _ in range(2):
        stdin = files.layer.read_bytes()  # more than the command reads
        done = cli_in_process.tocsin(*arguments, stdin=stdin, cwd=tmp_path, TOCSIN_X="1")
        assert done.returncode
    assert state() == before


@pytest.mark.parametrize("changes", [{"LC_ALL": "C"}, {"PYTHONUTF8": "0"}])
def test_command_when_it_needs_a_separate_interpreter_then_refused(changes):
    with pytest.raises(AssertionError, match="needs a process"):
        cli_in_process.tocsin("--help", **changes)
