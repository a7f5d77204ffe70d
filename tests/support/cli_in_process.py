"""Running ``tocsin`` inside the test process, which saves the start of an interpreter.

Arguments, environment, working directory, standard streams and exit code behave as in a process,
and everything is restored afterwards. Use `support.cli_process` to test the process itself:
signals, kills, terminals, broken pipes, locales, limits, start-up, several commands at once.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, TYPE_CHECKING

from support.cli_process import environment
from tocsin.cli import main
from tocsin.layers.known_ztocs import KNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ONLY_FOR_A_PROCESS = ("PYTHON", "LC_", "LANG")
"""Variables that the interpreter reads only when it starts."""
_STDIN, _STDOUT, _STDERR = range(3)
_RUNNING = threading.Lock()


def tocsin(
    *arguments: str | Path,
    stdin: bytes = b"",
    cwd: Path | None = None,
    merged: bool = False,
    **changes: str,
) -> subprocess.CompletedProcess[bytes]:
    """Run ``tocsin`` like `support.cli_process.tocsin`; `changes` are environment variables.

    With `merged`, stderr goes to stdout, in the order in which both are written.
    """
    assert not any(name.startswith(_ONLY_FOR_A_PROCESS) for name in changes), "needs a process"
    assert _RUNNING.acquire(blocking=False), "one command at a time: others need a process"
    command = [*map(str, arguments)]
    with ExitStack() as stack:
        stack.callback(_RUNNING.release)
        stack.enter_context(_environment(environment(**changes)))
        stack.enter_context(_working_directory(cwd))
        stack.enter_context(_interpreter_settings())
        stack.enter_context(_input(stdin))
        out, err = stack.enter_context(_outputs(merged=merged))
        KNOWN.clear()
        code = main(command)
        # An interpreter flushes when it exits; streams redirected to /dev/null discard the rest.
        sys.stdout.flush()
        sys.stderr.flush()
        return subprocess.CompletedProcess(["tocsin", *command], code, _content(out), _content(err))


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    _set_environment(variables)
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(variables: dict[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


@contextmanager
def _working_directory(path: Path | None) -> Iterator[None]:
    if path is None:
        yield
        return
    before = os.open(".", os.O_RDONLY)
    os.chdir(path)
    try:
        yield
    finally:
        os.fchdir(before)
        os.close(before)


@contextmanager
def _interpreter_settings() -> Iterator[None]:
    """Restore the settings that the command line changes for the whole process."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = [(number, signal.getsignal(number)) for number in signals]
    threshold = gc.get_threshold()
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
        for number, handler in handlers:
            signal.signal(number, handler)


@contextmanager
def _input(data: bytes) -> Iterator[None]:
    """Replace stdin with a pipe that contains `data`."""
    read, write = os.pipe()
    feeder = threading.Thread(target=_feed, args=(write, data))
    before = sys.stdin
    with _moved(read, _STDIN):
        os.close(read)
        feeder.start()
        with open(_STDIN, closefd=False) as file:
            sys.stdin = file
            try:
                yield
            finally:
                sys.stdin = before
    feeder.join()


def _feed(pipe: int, data: bytes) -> None:
    with suppress(BrokenPipeError), open(pipe, "wb", buffering=0) as file:
        while data:
            data = data[file.write(data) :]


@contextmanager
def _outputs(*, merged: bool) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Redirect stdout and stderr to files, which like pipes are not terminals, and yield both."""
    before = sys.stdout, sys.stderr
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        _moved(out.fileno(), _STDOUT),
        _moved((out if merged else err).fileno(), _STDERR),
        open(
            _STDOUT,
            "w",
            1 if merged else -1,
            encoding="utf-8",
            errors="surrogateescape",
            closefd=False,
        ) as stdout,
        open(_STDERR, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False) as stderr,
    ):
        sys.stdout, sys.stderr = stdout, stderr
        try:
            yield out, err
        finally:
            sys.stdout, sys.stderr = before


@contextmanager
def _moved(source: int, target: int) -> Iterator[None]:
    """Redirect the file descriptor `target` to `source`, also for C, Rust and child processes."""
    before = os.dup(target)
    os.dup2(source, target)
    try:
        yield
    finally:
        os.dup2(before, target)
        os.close(before)


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()
