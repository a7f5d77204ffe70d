"""A file given a second name, or its blocks shared, instead of being copied.

A hard link is one file with two names: whoever may write to it changes both. So a file is linked
only if nobody else may: its owner is this user or root, and neither group nor others may write.
(With an access control list, the bits of the group are the most that any user or group in it has.)
A reflink shares blocks until one of the two files is written to, so it is safe for any file.
"""

from __future__ import annotations

import fcntl
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_FICLONE = 0x40049409
"""As linux/fs.h has it, which Python does not before 3.14; see ioctl_ficlone(2)."""
_WRITABLE = stat.S_IWGRP | stat.S_IWOTH
_ROOT = 0


def others_may_write(status: os.stat_result) -> bool:
    """Return whether anyone but this user and root may write to a file, or let others do so."""
    return status.st_uid not in (os.geteuid(), _ROOT) or bool(status.st_mode & _WRITABLE)


def link_file(path: Path, fd: int, target: Path) -> bool:
    """Give the file that `path` leads to one more name; return whether that is the open file.

    If it is not, since somebody has changed where `path` leads, the name is removed again.

    Raises:
        FileExistsError: something has the name already.
        OSError: another file system, one without hard links, or the system does not allow it.
    """
    # Of a symbolic link, link(2) would make another symbolic link.
    os.link(os.path.realpath(path), target)
    if os.path.samestat(os.lstat(target), os.fstat(fd)):
        return True
    target.unlink()
    return False


def share_blocks(source: int, target: int) -> bool:
    """Let an open, empty file have the bytes of another; return whether the file system can."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True
