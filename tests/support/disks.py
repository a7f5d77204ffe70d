"""Full disks, and users without access to them."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextmanager
def mounted(directory: Path, options: str) -> Iterator[Path]:
    """Mount a tmpfs with `options` at a directory, or skip the test if that is not permitted."""
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:  # noqa: S603
        pytest.skip("cannot mount a tmpfs: needs root and a machine that permits it")
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)  # noqa: S603, S607


@contextmanager
def tiny_disk(directory: Path, *, size: int) -> Iterator[Path]:
    """Create a directory and mount a disk of `size` bytes on it."""
    directory.mkdir()
    with mounted(directory, f"size={size}"):
        yield directory


def fill_up(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """Make ``os.write`` and ``os.pwrite`` fail as on a full disk after `room` more bytes."""

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
    """Run as an unprivileged user."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
