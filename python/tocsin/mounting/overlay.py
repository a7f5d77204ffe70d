"""Whether a mounted image can be a lower directory of an overlay file system."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tocsin.mounting import system_calls

if TYPE_CHECKING:
    from pathlib import Path


def refusal_as_lower(directory: Path, *, beside: Path) -> str | None:
    """Return why the kernel refuses a directory as a lower directory of an overlay.

    It does if it has no overlay, or if too many file systems would be below each other
    (FILESYSTEM_MAX_STACK_DEPTH). The only way to find out is to make one.

    Args:
        directory: the directory.
        beside: another one on a file system with room for more below it, since an overlay without
            an upper directory needs two lower ones.

    Returns:
        ``None`` if the kernel accepts the directory, or cannot be asked.

    Source: torvalds/linux, include/linux/fs.h.
    """
    with ExitStack() as stack:
        try:
            opened = []
            for each in (directory, beside):
                fd = os.open(each, os.O_PATH | os.O_CLOEXEC)
                stack.callback(os.close, fd)
                # Descriptors, since a path may contain colons and commas.
                opened.append(f"/proc/self/fd/{fd}")
            system_calls.check_mount("overlay", {"lowerdir": ":".join(opened)})
        except OSError as error:
            return None if error.errno == errno.ENOSYS else error.strerror
    return None
