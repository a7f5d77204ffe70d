"""Disks that fill up."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def fill_up(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """Let ``os.write`` take `room` more bytes, then find the disk full."""
    real = os.write

    def write(fd, data):
        nonlocal room
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real(fd, data[:room])
        room -= written
        return written

    monkeypatch.setattr(os, "write", write)
