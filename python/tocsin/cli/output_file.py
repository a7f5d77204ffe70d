"""The file that ``-o`` names: it appears whole or not at all."""

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
    """Give the function that writes to the file at `path`; it gets its name when all went well.

    A device or a pipe, and ``-`` for stdout, are written as the bytes come. Opened at once, so that
    a place where nothing can be written is found before any work is done.

    Raises:
        OSError: it cannot be written.
    """
    if path == STDOUT:
        yield streams.write_bytes
        streams.flush()
        return
    target = Path(path).resolve()  # what a symbolic link points to is replaced, not the link
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a directory", path)
    if target.exists() and not target.is_file():
        with target.open("wb", buffering=0) as device:
            yield lambda data: _write_all(device.write, data, path)
        return
    from tocsin.stores.staged_file import StagedFile, remove_abandoned  # noqa: PLC0415

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
