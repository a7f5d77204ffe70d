"""What differs between operating systems: locks, flags and modes of files, users, signals.

No other module imports ``fcntl`` or ``msvcrt``. All of tocsin runs on Linux. macOS lacks ``/proc``,
``O_PATH`` and mounts; Windows also lacks directory descriptors, users with numbers, hard links that
can be trusted, and Unix sockets. What cannot be done without them raises `UnsupportedError`.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import sys
import threading
import time
from typing import TYPE_CHECKING

from tocsin.errors import UnsupportedError

if TYPE_CHECKING:
    import socket

    from typing_extensions import Buffer

O_BINARY: int = getattr(os, "O_BINARY", 0)
"""Without it, Windows converts line ends."""
O_CLOEXEC: int = getattr(os, "O_CLOEXEC", 0)
O_DIRECTORY: int = getattr(os, "O_DIRECTORY", 0)
O_NOCTTY: int = getattr(os, "O_NOCTTY", 0)
O_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
O_NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)

HAS_DIRECTORY_DESCRIPTORS = sys.platform != "win32"
"""Whether a directory can be opened, flushed, and used instead of a path."""
OPEN_FILES_CAN_BE_RENAMED = sys.platform != "win32"
"""Whether a file can be renamed or removed while it is open."""
STOP_SIGNALS: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Signals that ask a process to end; Windows has no SIGHUP."""

_NAMES = {"darwin": "macOS", "win32": "Windows"}
_PAUSE = 0.01
"""Seconds between two attempts to lock a file, where the system cannot wait for a lock."""


def name() -> str:
    """Return the name of this operating system, for messages."""
    return _NAMES.get(sys.platform, sys.platform.capitalize())


def require_linux(what: str) -> None:
    """Check that this is Linux.

    Args:
        what: what needs Linux, for the message.

    Raises:
        UnsupportedError: this is another system.
    """
    if sys.platform != "linux":
        raise UnsupportedError(f"{what}: supported on Linux only (found {name()})")


def require_directory_descriptors(what: str) -> None:
    """Check that files can be used by the descriptor of their directory.

    Args:
        what: what needs that, for the message.

    Raises:
        UnsupportedError: this is Windows.
    """
    if not HAS_DIRECTORY_DESCRIPTORS:
        raise UnsupportedError(f"{what}: supported on Linux and macOS only (found {name()})")


if sys.platform == "win32":
    import msvcrt

    _LOCKED_BYTE = 1 << 30
    """Offset of the byte that is locked: locks of Windows prevent reads, so not a byte of data."""
    _position = threading.Lock()

    def lock(fd: int) -> None:
        """Lock a file for this process, and wait while another one has locked it."""
        while not try_lock(fd):
            time.sleep(_PAUSE)

    def lock_shared(fd: int) -> None:
        """Lock a file exclusively, since the C library of Windows offers nothing else."""
        lock(fd)

    def try_lock(fd: int) -> bool:
        """Lock a file; return whether that succeeded."""
        return _locking(fd, msvcrt.LK_NBLCK)

    def unlock(fd: int) -> None:
        """Release the lock."""
        _locking(fd, msvcrt.LK_UNLCK)

    def _locking(fd: int, mode: int) -> bool:
        with _position:
            position = os.lseek(fd, 0, os.SEEK_CUR)
            os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
            try:
                msvcrt.locking(fd, mode, 1)
            except PermissionError:
                return False
            finally:
                os.lseek(fd, position, os.SEEK_SET)
        return True

    def read_at(fd: int, size: int, offset: int) -> bytes:
        """Read at most `size` bytes at `offset`; on Windows, this moves the position of `fd`."""
        with _position:
            os.lseek(fd, offset, os.SEEK_SET)
            return os.read(fd, size)

    def write_at(fd: int, data: Buffer, offset: int) -> int:
        """Write at `offset` and return the number of bytes; on Windows, this moves the position."""
        with _position:
            os.lseek(fd, offset, os.SEEK_SET)
            return os.write(fd, data)

    def share_blocks(source: int, target: int) -> bool:
        """Return that blocks cannot be shared."""
        return False

    def user_id() -> int | None:
        """Return the effective number of this user; ``None`` on Windows."""
        return None

    def real_user_id() -> int | None:
        """Return the number of the user that started this process; ``None`` on Windows."""
        return None

else:
    import fcntl

    _FICLONE = 0x40049409
    """From linux/fs.h; Python defines it since 3.14. See ioctl_ficlone(2)."""

    def lock(fd: int) -> None:
        """Lock a file for this process, and wait while another one has locked it."""
        fcntl.flock(fd, fcntl.LOCK_EX)

    def lock_shared(fd: int) -> None:
        """Lock a file together with others, and wait while one has locked it exclusively."""
        fcntl.flock(fd, fcntl.LOCK_SH)

    def try_lock(fd: int) -> bool:
        """Lock a file; return whether that succeeded."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(fd: int) -> None:
        """Release the lock.

        Closing is not enough: a process forked meanwhile has a copy that holds the lock.
        """
        fcntl.flock(fd, fcntl.LOCK_UN)

    def read_at(fd: int, size: int, offset: int) -> bytes:
        """Read at most `size` bytes at `offset`."""
        return os.pread(fd, size, offset)

    def write_at(fd: int, data: Buffer, offset: int) -> int:
        """Write at `offset`, and return the number of bytes written."""
        return os.pwrite(fd, data, offset)

    def share_blocks(source: int, target: int) -> bool:
        """Make an empty file share the blocks of another; return whether that succeeded."""
        if sys.platform != "linux":  # the number means something else there
            return False
        try:
            fcntl.ioctl(target, _FICLONE, source)
        except OSError:
            return False
        return True

    def user_id() -> int | None:
        """Return the effective number of this user; ``None`` on Windows."""
        return os.geteuid()

    def real_user_id() -> int | None:
        """Return the number of the user that started this process; ``None`` on Windows."""
        return os.getuid()


if sys.platform == "linux":

    def set_attribute(
        file: int | str, name: str, value: bytes, *, follow_symlinks: bool = True
    ) -> None:
        """Set an extended attribute of a file, given by its descriptor or path."""
        os.setxattr(file, name, value, follow_symlinks=follow_symlinks)

    def add_mode(name: str, bits: int, *, directory: int) -> None:
        """Add permission bits to a directory of this user, even if it cannot be read.

        Args:
            name: name in `directory`; a symbolic link is not followed.
            bits: the permission bits.
            directory: a descriptor.

        Raises:
            OSError: the mode cannot be changed, or `name` is not a directory.
        """
        fd = os.open(name, os.O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, dir_fd=directory)
        try:
            found = os.fstat(fd)
            if bits & ~found.st_mode and found.st_uid == user_id():
                # fchmod() does not work on an O_PATH descriptor, but this path does.
                os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(found.st_mode) | bits)  # noqa: PTH101
        finally:
            os.close(fd)

else:

    def set_attribute(
        file: int | str,
        name: str,
        value: bytes,
        *,
        follow_symlinks: bool = True,
    ) -> None:
        """Raise OSError: Python supports extended attributes only on Linux."""
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    def add_mode(name: str, bits: int, *, directory: int) -> None:
        """Add permission bits to a directory of this user; symbolic links are not followed."""
        found = os.lstat(name, dir_fd=directory)
        if bits & ~found.st_mode and found.st_uid == user_id():
            mode = stat.S_IMODE(found.st_mode) | bits
            os.chmod(name, mode, dir_fd=directory, follow_symlinks=False)


def is_root() -> bool:
    """Return whether this process has the rights of root."""
    return user_id() == 0


def unix_socket(what: str) -> socket.socket:
    """Return a new Unix socket for a stream.

    Args:
        what: what needs it, for the message.

    Raises:
        UnsupportedError: this is Windows.
    """
    import socket  # noqa: PLC0415 (seldom needed)

    if sys.platform == "win32":
        raise UnsupportedError(f"{what}: supported on Linux and macOS only (found {name()})")
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
