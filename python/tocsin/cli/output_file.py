"""Writes the file given with ``-o`` atomically."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.cli import streams, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STDOUT = "-"


@contextmanager
def output_file(path: str) -> Iterator[Callable[[bytes], None]]:
    """Yield a function that writes to the file at `path`, which appears only on success.

    Devices, pipes and ``-`` (stdout) are written directly. The output is opened immediately, so
    that a location that is not writable is reported before any work is done.

    Raises:
        OSError: the file cannot be written.
    """
    if path == STDOUT:
        yield streams.write_bytes
        streams.flush()
        return
    target = Path(path).resolve()  # replaces the target of a symbolic link, not the link
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a directory", path)
    if target.exists() and not target.is_file():
        with target.open("wb", buffering=0) as device:
            yield lambda data: _write_all(device.write, data, path)
        return
    from tocsin.staged_file import StagedFile, remove_abandoned  # noqa: PLC0415

    remove_abandoned(target.parent)
    with StagedFile(target.parent) as staged:
        yield lambda data: _write_staged(staged.write, data)
        staged.publish(target)


def _write_staged(write: Callable[[bytes], None], data: bytes) -> None:
    try:
        write(data)
    except OSError as error:
        error.add_note(f"{words.size(len(data))} needed")
        raise


def _write_all(write: Callable[[memoryview], int | None], data: bytes, path: str) -> None:
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[write(rest) or 0 :]
    except OSError as error:
        error.filename = path
        error.add_note(f"{words.size(len(data))} needed")
        raise
