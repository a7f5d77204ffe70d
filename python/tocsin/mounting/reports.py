"""What the process of a mount reports to the one that started it, until the mount is ready.

Reports are pickled, since both processes are ours and errors have their class, hint and details.
"""

from __future__ import annotations

import os
import pickle
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tocsin.errors import TocsinError

if TYPE_CHECKING:
    from typing import BinaryIO

    from tocsin.model.document import Document
    from tocsin.model.events import Event, Progress


@dataclass(frozen=True, slots=True)
class Ready:
    """The mount is ready.

    Attributes:
        directory: absolute path of the directory.
        image: reference of the image, as given.
        manifest: digest of the image's manifest.
        platform: platform of the image; empty if unknown.
        index: as in `MountStatus`.
        files: number of files and directories.
        size: size of the layers as the registry stores them, in bytes.
        pid: number of the mount's process.
        seconds: time from the start of that process.
        config: the image's config; ``None`` unless it was asked for.
    """

    directory: str
    image: str
    manifest: str
    platform: str
    index: str
    files: int
    size: int
    pid: int
    seconds: float
    config: Document | None = None


class Report(Protocol):
    """Receives what happens until a mount is ready."""

    def note(self, text: str) -> None: ...  # noqa: D102 (in the class docstring)
    def progress(self, event: Event) -> None: ...  # noqa: D102
    def ready(self, ready: Ready) -> None: ...  # noqa: D102


class PipeReport:
    """Writes reports to a pipe.

    Args:
        pipe: descriptor of the end for writing, which `close` closes.
    """

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def note(self, text: str) -> None:
        """Report a message for the user; does nothing once the mount is ready."""
        self._write("note", text)

    def progress(self, event: Event) -> None:
        """Report progress."""
        self._write("progress", event)

    def ready(self, ready: Ready) -> None:
        """Report that the mount is ready, which is the last report.

        Raises:
            BrokenPipeError: the process that started this one has died.
        """
        self._write("ready", ready)
        self.close()

    def error(self, error: BaseException) -> None:
        """Report why there is no mount, which is the last report."""
        if not isinstance(error, TocsinError | OSError | MemoryError):
            error = RuntimeError(f"{type(error).__name__}: {error}")
        with suppress(OSError):
            self._write("error", error)
        self.close()

    def close(self) -> None:
        """Close the pipe."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    def _write(self, kind: str, value: object) -> None:
        if self._pipe < 0:
            return
        rest = memoryview(pickle.dumps((kind, value)))
        while rest:
            rest = rest[os.write(self._pipe, rest) :]


def await_ready(pipe: BinaryIO, report: Report, progress: Progress | None = None) -> Ready | None:
    """Pass reports on until the mount is ready.

    Args:
        pipe: the end for reading, buffered.
        report: receives notes.
        progress: receives events.

    Returns:
        ``None`` if the process ended without a last report.

    Raises:
        TocsinError, OSError, RuntimeError: why there is no mount.
    """
    while True:
        try:
            kind, value = _read(pipe)
        except (EOFError, pickle.UnpicklingError):
            return None
        if kind == "note":
            report.note(value)
        elif kind == "progress" and progress is not None:
            progress(value)
        elif kind == "error":
            raise value
        elif kind == "ready" and isinstance(value, Ready):
            return value


def _read(pipe: BinaryIO) -> tuple[str, Any]:
    found: tuple[str, Any] = pickle.load(pipe)  # noqa: S301 (written by our own process)
    return found
