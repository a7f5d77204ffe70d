"""What the kernel mounts: FUSE, or EROFS over the layers, which is faster and needs more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.errors import FormatError, UnsupportedError
from tocsin.mounting.machine import Machine
from tocsin.quoting import quoted

if TYPE_CHECKING:
    from tocsin.mounting.options import MountOptions

AUTO = "auto"
FUSE = "fuse"
EROFS = "erofs"
FRONTS = (AUTO, FUSE, EROFS)
_OLDEST_KERNEL = (6, 12)
"""The first that mounts EROFS from files. See erofs_fc_get_tree in fs/erofs/super.c."""
_OTHERS_MAY_PASS = 0o011


def front_of(text: str) -> str:
    """Return a front that a caller has chosen.

    Raises:
        FormatError: there is no such front.
    """
    if text not in FRONTS:
        expected = ", ".join(FRONTS)
        raise FormatError(
            f"front: unknown (found {quoted(text)}, expected one of {expected})", what="front"
        )
    return text


def front_for(options: MountOptions, directory: str, machine: Machine | None = None) -> str:
    """Return what to try first: `FUSE` or `EROFS`.

    Raises:
        UnsupportedError: EROFS is asked for, and cannot be used.
    """
    if options.front == FUSE:
        return FUSE
    reason, hint = _obstacle(options, directory, machine or Machine.this(options.cache_dir))
    if not reason:
        return EROFS
    if options.front == EROFS:
        raise UnsupportedError(f"--front erofs: {reason}", hint=hint)
    return FUSE


def _obstacle(options: MountOptions, directory: str, machine: Machine) -> tuple[str, str]:
    """Return why EROFS cannot be used and what to do; empty texts if it can."""
    if options.record is not None:
        return "--record needs FUSE, since EROFS does not say what is read", "Use --front fuse."
    if machine.kernel < _OLDEST_KERNEL:
        found = ".".join(map(str, machine.kernel))
        return f"Linux is too old (found {found}, expected 6.12 or later)", "Use --front fuse."
    if not machine.may_mount:
        return "only root may mount EROFS", "Run tocsin as root, or use --front fuse."
    if not machine.has_file_system("erofs"):
        return "the kernel has no EROFS", "Load it with modprobe erofs, or use --front fuse."
    if not options.allow_other and not _is_private(directory):
        return (
            f"other users could use the mount in {quoted(directory)}",
            "Give --allow-other, use --front fuse, or mount below a directory that only root may "
            "enter (mode 0700).",
        )
    return "", ""


def _is_private(directory: str) -> bool:
    """Return whether a directory above keeps other users out; EROFS itself does not."""
    for parent in Path(directory).parents:
        status = os.stat(parent)  # noqa: PTH116 (its fields are needed)
        if status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_MAY_PASS:
            return True
    return False
