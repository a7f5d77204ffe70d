"""Starts the process of a mount for a Python program, which may have threads and cannot be forked.

The program in it is this module's `main`. Its options come from the standard input, since a command
line is visible to other users. The process either ends with the program that started it, or, for
the mounts of a snapshotter, outlives it.
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
    "from tocsin.mounting.spawned import main; main()"
)
"""Imports the same modules as the program that starts it."""


def spawn_detached(options: MountOptions, directory: str, report: Report, *, log: Path) -> Ready:
    """Mount an image with a process that outlives this one, and return when the mount is ready.

    The process is not a child of this one, and has its own session.

    Args:
        options: options of the mount.
        directory: absolute path of an empty directory.
        report: receives notes.
        log: file to which the process appends its messages.

    Raises:
        TocsinError, OSError: there is no mount.
    """
    process.prepare(options, directory)
    reports, report_end = os.pipe()
    with os.fdopen(reports, "rb") as pipe:
        try:
            child = _start(report_end)
        finally:
            os.close(report_end)
        _send(child, options, directory, _Start(report_end, log=str(log)))
        child.wait()
        # If this is interrupted, the pipe is closed, and the process ends when it reports.
        ready = await_ready(pipe, report)
    if ready is None:
        raise UnsupportedError(
            f"{quoted(directory)}: the process of the mount ended before the mount was ready",
            hint="Read its messages in the log of the mount.",
        )
    return ready


@dataclass(frozen=True, slots=True)
class _Start:
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


def _start(*pipes: int) -> subprocess.Popen[bytes]:
    if not sys.executable:
        raise UnsupportedError("mounting needs the Python interpreter, whose path is unknown")
    return subprocess.Popen(  # noqa: S603 (our own program)
        [sys.executable, "-c", _PROGRAM, json.dumps(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=pipes,
        start_new_session=True,
    )


def _send(
    child: subprocess.Popen[bytes], options: MountOptions, directory: str, start: _Start
) -> None:
    registry = options.registry
    # Pickling drops the credentials, which must not get into queues or files. This is a pipe.
    secrets = None if registry is None else (registry.username, registry.password)
    message = pickle.dumps((options, secrets, directory, start))
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
                self._process = _start(report_end, lifeline)
            except BaseException:
                os.close(self._lifeline)
                raise
            finally:
                os.close(report_end)
                os.close(lifeline)
            try:
                start = _Start(report_end, lifeline, temporary)
                _send(self._process, options, directory, start)
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
    """Serve the mount that the standard input describes; never returns normally on errors."""
    message: Any = pickle.load(sys.stdin.buffer)  # noqa: S301 (written by our own process)
    options, secrets, directory, start = message
    if start.lifeline is None:
        _leave_parent()
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
    report = PipeReport(start.report)
    signal.signal(signal.SIGTERM, _raise)
    try:
        process.redirect(None if start.log is None else Path(start.log))
        process.serve(
            options,
            directory,
            report,
            lifeline=start.lifeline,
            temporary=[Path(directory)] if start.is_temporary else (),
        )
    except Exception as error:
        process.log_failure(error)
        report.error(error)
        sys.exit(1)


def _leave_parent() -> None:
    """Continue in a process that is not a child of the program that started this one.

    So that program need not wait for it, and cannot end it by accident.
    """
    if os.fork():  # there is only one thread yet
        os._exit(0)
    os.chdir("/")


def _raise(_number: int, _frame: object) -> None:
    raise SystemExit(1)
