"""Starts the process of a mount for a Python program, which may have threads and cannot be forked.

The program in it is this module's `main`. Its options come from the standard input, since a command
line is visible to other users.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tocsin.errors import UnsupportedError
from tocsin.mounting import process
from tocsin.mounting.reports import PipeReport, await_ready
from tocsin.quoting import quoted

if TYPE_CHECKING:
    from tocsin.model.events import Progress
    from tocsin.mounting.options import MountOptions
    from tocsin.mounting.reports import Ready, Report

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from tocsin.mounting.{module} import main; main()"
)
"""Imports the same modules as the program that starts it."""


@dataclass(frozen=True, slots=True)
class Start:
    """How the process of a mount starts and ends.

    Attributes:
        report: descriptor of the pipe for reports.
        lifeline: descriptor of a pipe that is closed when the mount must end; ``None`` for a
            process that outlives the program.
        is_temporary: whether the directory is removed when the mount has ended.
        log: file for its messages; ``None`` to discard them.
    """

    report: int
    lifeline: int | None = None
    is_temporary: bool = False
    log: str | None = None


def start(module: str, *pipes: int) -> subprocess.Popen[bytes]:
    """Start the function ``main`` of a module of this room in a new process and session.

    Args:
        module: name of the module.
        pipes: descriptors that the process keeps.

    Raises:
        UnsupportedError, OSError: the process cannot be started.
    """
    if not sys.executable:
        raise UnsupportedError("mounting needs the Python interpreter, whose path is unknown")
    return subprocess.Popen(  # noqa: S603 (our own program)
        [sys.executable, "-c", _PROGRAM.format(module=module), json.dumps(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=pipes,
        start_new_session=True,
    )


def send(child: subprocess.Popen[bytes], options: MountOptions, directory: str, how: Start) -> None:
    """Send a process that waits in `main` what to mount; does nothing if it has ended."""
    registry = options.registry
    # Pickling drops the credentials, which must not get into queues or files. This is a pipe.
    secrets = None if registry is None else (registry.username, registry.password)
    message = pickle.dumps((options, secrets, directory, how))
    assert child.stdin is not None  # noqa: S101 (it is a pipe)
    with suppress(BrokenPipeError), child.stdin as stdin:
        stdin.write(message)


class Spawned:
    """The process of a mount, which ends when this object is closed.

    Args:
        options: options of the mount.
        directory: absolute path of an empty directory.
        report: receives notes.
        progress: receives events while layers are read.
        temporary: whether to remove the directory when the mount has ended.

    Attributes:
        ready: what was mounted.

    Raises:
        TocsinError, OSError: there is no mount.
    """

    ready: Ready

    def __init__(
        self,
        options: MountOptions,
        directory: str,
        report: Report,
        *,
        progress: Progress | None = None,
        temporary: bool = False,
    ) -> None:
        process.prepare(options, directory)
        reports, report_end = os.pipe()
        lifeline, self._lifeline = os.pipe()
        with os.fdopen(reports, "rb") as pipe:
            try:
                self._process = start("spawned", report_end, lifeline)
            except BaseException:
                os.close(self._lifeline)
                raise
            finally:
                os.close(report_end)
                os.close(lifeline)
            try:
                how = Start(report_end, lifeline, temporary)
                send(self._process, options, directory, how)
                ready = await_ready(pipe, report, progress)
                self.ready = ready or self._fail(directory)
            except BaseException:
                self._process.terminate()
                self.close()
                raise

    def _fail(self, directory: str) -> NoReturn:
        code = self._process.wait()
        raise UnsupportedError(
            f"{quoted(directory)}: the process of the mount ended with exit code {code}"
        )

    def wait(self, timeout: float | None = None) -> bool:
        """Return whether the process has ended, after `timeout` seconds at most."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """Let the mount end, if it has not been unmounted; wait until it has."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        self._process.wait()

    def detach(self) -> None:
        """Keep the process until the programs that use its mount have ended, or this one ends."""
        _DETACHED[:] = [each for each in _DETACHED if not each.wait(0)]
        if not self.wait(0):
            _DETACHED.append(self)


_DETACHED: list[Spawned] = []
"""Processes whose mounts were removed while they were in use."""


def main() -> None:
    """Serve the mount that the standard input describes; never returns normally on errors.

    Raises:
        EOFError: it describes none.
    """
    message: Any = pickle.load(sys.stdin.buffer)  # noqa: S301 (written by our own process)
    options, secrets, directory, how = message
    if secrets is not None and secrets[0] is not None:
        username, password = secrets
        options = replace(
            options,
            registry=replace(
                options.registry,
                username=username,
                password=password,
                credentials_dropped=False,
            ),
        )
    report = PipeReport(how.report)
    signal.signal(signal.SIGTERM, _raise)
    try:
        process.redirect(None if how.log is None else Path(how.log))
        process.serve(
            options,
            directory,
            report,
            lifeline=how.lifeline,
            temporary=[Path(directory)] if how.is_temporary else (),
        )
    except Exception as error:
        process.log_failure(error)
        report.error(error)
        sys.exit(1)


def _raise(_number: int, _frame: object) -> None:
    raise SystemExit(1)
