"""Hard links, which avoid copying a file.

A hard link gives a file a second name, so a write to one changes both. A file is therefore linked
only if no other user can write to it: its owner is this user or root, and neither the group nor
others have write permission. (With an access control list, the permissions of the group are the
maximum for all users and groups in the list.) A reflink (`operating_system.share_blocks`)
shares blocks only until one of the two files is written, so it is safe for any file.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from tocsin.operating_system import user_id

if TYPE_CHECKING:
    from pathlib import Path

_WRITABLE = stat.S_IWGRP | stat.S_IWOTH
_ROOT = 0


def others_may_write(status: os.stat_result) -> bool:
    """Return whether users other than this one and root can write to a file or make it writable.

    On Windows, permissions are unknown, so they may.
    """
    user = user_id()
    return user is None or status.st_uid not in (user, _ROOT) or bool(status.st_mode & _WRITABLE)


def link_file(path: Path, fd: int, target: Path) -> bool:
    """Link the file at `path` as `target`; return whether the linked file is the open file `fd`.

    If `path` was replaced by another file in the meantime, the link is removed.

    Raises:
        FileExistsError: `target` exists.
        OSError: `target` is on another file system, or hard links are unsupported or forbidden.
    """
    # If `path` is a symbolic link, link(2) would link the symbolic link itself.
    os.link(os.path.realpath(path), target)
    if os.path.samestat(os.lstat(target), os.fstat(fd)):
        return True
    target.unlink()
    return False
