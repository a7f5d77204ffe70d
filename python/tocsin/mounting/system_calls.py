"""The system calls of Linux that Python 3.11 does not have: namespaces, mounts, capabilities."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

_FSOPEN = 430
"""Number of ``fsopen``, the same on all architectures, like that of ``fsconfig``."""
_FSCONFIG = 431
_CLOEXEC = 1
_SET_FLAG = 0
_SET_STRING = 1
_CREATE = 6
_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_LAST_CAPABILITY = 63
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}
"""Number of ``pivot_root`` by machine; the C library has no function for it."""
_KEPT_CAPABILITIES = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31})
"""Capabilities of a program that runs as root: those that Docker keeps, by number.

Source: Linux man-pages, capabilities(7); moby/moby, daemon/pkg/oci/caps/defaults.go.
"""


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def load() -> None:
    """Load the C library now, since it is not found after the root has changed."""
    _libc()


def release_memory() -> None:
    """Give memory that was freed back to the system, if the C library can (glibc)."""
    trim = getattr(_libc(), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _check(result: int, path: str | None = None) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """Attach a file system to a directory, like the program of that name.

    Raises:
        OSError: the kernel refused; ``filename`` is the target.
    """
    words = (os.fsencode(each) or None for each in (source, target, kind))
    _check(_libc().mount(*words, ctypes.c_ulong(flags), os.fsencode(data) or None), target)


def unmount(target: str, flags: int) -> int:
    """Detach a file system, as umount2(2) does; return 0 or the number of the error."""
    result: int = _libc().umount2(os.fsencode(target), flags)
    return 0 if result == 0 else ctypes.get_errno()


def check_mount(kind: str, options: dict[str, str]) -> None:
    """Let the kernel make a read-only file system without attaching it anywhere.

    Args:
        kind: type of the file system.
        options: its options.

    Raises:
        OSError: the kernel refused; ``errno`` is ``ENOSYS`` if it is older than Linux 5.2.

    Source: torvalds/linux, include/uapi/linux/mount.h.
    """
    call = _libc().syscall
    fd = call(ctypes.c_long(_FSOPEN), os.fsencode(kind), _CLOEXEC)
    _check(fd)
    try:
        for name, value in options.items():
            words = os.fsencode(name), os.fsencode(value)
            _check(call(ctypes.c_long(_FSCONFIG), fd, _SET_STRING, *words, 0))
        _check(call(ctypes.c_long(_FSCONFIG), fd, _SET_FLAG, b"ro", None, 0))
        _check(call(ctypes.c_long(_FSCONFIG), fd, _CREATE, None, None, 0))
    finally:
        os.close(fd)


def unshare(flags: int) -> None:
    """Move this process to new namespaces.

    Raises:
        OSError: the kernel refused.
    """
    _check(_libc().unshare(flags))


def change_root(directory: str) -> None:
    """Make a mounted file system the root of this process, and remove the old one.

    Raises:
        OSError: the kernel refused.
    """
    os.chdir(directory)
    number = _PIVOT_ROOT.get(platform.machine())
    if number is None:
        os.chroot(".")
    else:
        # Both directories may be the same; then the old root is mounted on the new one.
        _check(_libc().syscall(ctypes.c_long(number), b".", b"."), directory)
        _check(_libc().umount2(b".", MNT_DETACH), directory)
    os.chdir("/")


def die_with_parent(signal: int) -> None:
    """Let the kernel send this process a signal when its parent ends; see prctl(2)."""
    _check(_libc().prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal), 0, 0, 0))


def limit_privileges() -> None:
    """Let programs that this process runs gain no privileges, and keep few as root.

    Raises:
        OSError: the kernel refused.
    """
    for capability in range(_LAST_CAPABILITY + 1):
        if capability not in _KEPT_CAPABILITIES:
            # An error means that the kernel has fewer capabilities, or that this one is dropped.
            _libc().prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0)
    _check(_libc().prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0))
