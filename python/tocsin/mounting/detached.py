"""Processes of mounts that outlive the snapshotter that starts them.

Such a process is not a child of the snapshotter, and has its own session. Python and its modules
take a while to start, so a process is started as soon as an image is looked for, and waits until it
learns what to mount.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from tocsin.errors import UnsupportedError
from tocsin.mounting import process
from tocsin.mounting.reports import await_ready
from tocsin.mounting.spawned import Start, send, start
from tocsin.mounting.spawned import main as serve_one
from tocsin.quoting import quoted

if TYPE_CHECKING:
    from pathlib import Path

    from tocsin.mounting.options import MountOptions
    from tocsin.mounting.reports import Ready, Report

_STANDBY_LIFE = 60.0
"""Seconds after which a process that waits for a mount ends, to free its memory."""


class DetachedProcesses:
    """Starts processes that outlive this one; may be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._standby: _Waiting | None = None

    def expect(self) -> None:
        """Start a process now, since a mount will probably be needed; failures are ignored."""
        with self._lock:
            if self._standby is None or not self._standby.is_there():
                if self._standby is not None:
                    self._standby.close()
                self._standby = None
                with suppress(UnsupportedError, OSError):
                    self._standby = _Waiting()

    def mount(self, options: MountOptions, directory: str, report: Report, *, log: Path) -> Ready:
        """Mount an image with such a process, and return when the mount is ready.

        Args:
            options: options of the mount.
            directory: absolute path of an empty directory.
            report: receives notes.
            log: file to which the process appends its messages.

        Raises:
            TocsinError, OSError: there is no mount.
        """
        process.prepare(options, directory)
        with self._lock:
            waiting, self._standby = self._standby, None
        for each in (waiting, None):
            if each is None or each.is_there():
                ready = (each or _Waiting()).mount(options, directory, report, log)
                if ready is not None:
                    return ready
            else:
                each.close()
        raise UnsupportedError(
            f"{quoted(directory)}: the process of the mount ended before the mount was ready",
            hint="Read its messages in the log of the mount.",
        )

    def close(self) -> None:
        """End a process that waits."""
        with self._lock:
            if self._standby is not None:
                self._standby.close()
            self._standby = None


class _Waiting:
    """A process that waits for a mount.

    Raises:
        UnsupportedError, OSError: it cannot be started.
    """

    def __init__(self) -> None:
        reports, self._report_end = os.pipe()
        self._reports = os.fdopen(reports, "rb")
        try:
            self._child = start("detached", self._report_end)
        except BaseException:
            self._reports.close()
            raise
        finally:
            os.close(self._report_end)
        # The child ends as soon as it has started the process that waits.
        self._reaper = threading.Thread(target=self._child.wait, daemon=True)
        self._reaper.start()

    def is_there(self) -> bool:
        """Return whether the process has not ended; then it has closed its end of the pipe."""
        return not select.select([self._reports], [], [], 0)[0]

    def mount(
        self, options: MountOptions, directory: str, report: Report, log: Path
    ) -> Ready | None:
        """Let the process mount an image; return ``None`` if it ended without a report."""
        try:
            send(self._child, options, directory, Start(self._report_end, log=str(log)))
            # If this is interrupted, the pipe is closed, and the process ends when it reports.
            return await_ready(self._reports, report)
        finally:
            self.close()

    def close(self) -> None:
        """Forget the process, which ends if it is still waiting."""
        assert self._child.stdin is not None  # noqa: S101 (it is a pipe)
        with suppress(OSError):
            self._child.stdin.close()
        self._reports.close()
        self._reaper.join()


def main() -> None:
    """Leave the program that started this process, and wait for a mount."""
    if os.fork():  # there is only one thread yet
        os._exit(0)
    os.chdir("/")
    # What a mount needs, before it is needed.
    import tocsin.mounting.engine  # noqa: PLC0415
    import tocsin.mounting.opening  # noqa: PLC0415
    import tocsin.mounting.pull_credentials  # noqa: PLC0415, F401 (and so that of registries)

    if select.select([sys.stdin], [], [], _STANDBY_LIFE)[0]:
        with suppress(EOFError):
            serve_one()
