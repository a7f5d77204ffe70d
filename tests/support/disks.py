"""Disks that fill up, and people who may not use them."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest


def fill_up(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """Let ``os.write`` and ``os.pwrite`` take `room` more bytes, then find the disk full."""

    def limited(real: Callable[..., int]) -> Callable[..., int]:
        def write(fd: int, data: bytes, *offset: int) -> int:
            nonlocal room
            if room <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written = real(fd, data[:room], *offset)
            room -= written
            return written

        return write

    monkeypatch.setattr(os, "write", limited(os.write))
    monkeypatch.setattr(os, "pwrite", limited(os.pwrite))


NOBODY = 65534


@contextmanager
def unprivileged() -> Iterator[None]:
    """Run as somebody who may not do everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
