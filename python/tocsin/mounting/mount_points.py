"""Directories that images are mounted in: which can be used, what is mounted there, unmounting."""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from tocsin.errors import ConflictError, NotFoundError, UnsupportedError
from tocsin.mounting.processes import users_of
from tocsin.quoting import escaped, quoted

_MOUNTS = Path("/proc/self/mountinfo")
_FUSE = Path("/dev/fuse")
_FUSE_SETTINGS = Path("/etc/fuse.conf")
_UNMOUNT_PROGRAMS = ("fusermount3", "fusermount")
_OCTAL = re.compile(r"\\([0-7]{3})")
_PROGRAM_TIMEOUT = 30.0
SOURCE = "tocsin"
"""What the kernel lists as source of our FUSE mounts."""
FILE_SYSTEM = "fuse.tocsin"
"""Type of our mounts, as the kernel lists it."""
OPEN_FILES = "/proc/self/fd/"
"""How the process of a mount names the files that the kernel mounts with EROFS."""
_ALLOW_OTHER = "user_allow_other"
_GONE = frozenset({errno.ENOTCONN, errno.ECONNABORTED, errno.EIO})
"""Errors of a mount whose process has died."""


@dataclass(frozen=True, slots=True)
class MountPoint:
    """An entry of the kernel's list of mounts.

    Attributes:
        directory: where it is mounted.
        device: device number of the file system.
        kind: type of the file system.
        source: what is mounted, as the program that mounted it says.
    """

    directory: str
    device: int
    kind: str
    source: str


def is_ours(point: MountPoint) -> bool:
    """Return whether a mount is an image, or the layers of one."""
    if point.kind == "erofs":
        return point.source.startswith(OPEN_FILES)
    return point.source == SOURCE and point.kind.startswith("fuse")


def absolute(directory: str | os.PathLike[str]) -> str:
    """Return the absolute path of a directory without symbolic links.

    Nothing is asked of the directory itself, which may be a mount whose process does not answer.
    """
    path = Path(os.path.abspath(os.fsdecode(directory)))  # noqa: PTH100 (`absolute` keeps ..)
    # Not `Path.is_symlink`, which raises an error for a mount whose process has died.
    if os.path.islink(path):  # noqa: PTH114 (see above)
        return absolute(path.parent / path.readlink())
    return str(Path(os.path.realpath(path.parent)) / path.name)


def mounted_at(directory: str) -> MountPoint | None:
    """Return what is mounted in a directory, the last if there are several; else ``None``."""
    found = None
    try:
        lines = _MOUNTS.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    for line in lines:
        point = _parsed(line)
        if point is not None and point.directory == directory:
            found = point
    return found


def _parsed(line: str) -> MountPoint | None:
    """Parse a line of ``mountinfo``. Source: Linux man-pages, proc_pid_mountinfo(5)."""
    before, _, after = line.partition(" - ")
    fields, rest = before.split(" "), after.split(" ")
    try:
        major, minor = fields[2].split(":")
        device = os.makedev(int(major), int(minor))
        return MountPoint(_unescaped(fields[4]), device, rest[0], _unescaped(rest[1]))
    except (ValueError, IndexError):
        return None


def _unescaped(text: str) -> str:
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), text)


def check_directory(directory: str) -> None:
    """Check that an image can be mounted in a directory.

    Raises:
        NotFoundError: it is missing.
        ConflictError: it is not a directory, or not empty.
        OSError: it cannot be read.
    """
    name = quoted(directory)
    try:
        status = os.lstat(directory)
        if not stat.S_ISDIR(status.st_mode):
            raise ConflictError(f"{name}: not a directory", hint="Choose an empty directory.")
        with os.scandir(directory) as entries:
            first = next(entries, None)
    except FileNotFoundError:
        raise NotFoundError(
            f"{name}: directory not found", hint="Create the directory with mkdir first."
        ) from None
    except OSError as error:
        if error.errno not in _GONE:
            raise
        raise ConflictError(
            f"{name}: the mount there does not answer: its process has died",
            hint="Remove the mount with tocsin umount and the directory.",
        ) from None
    if first is not None:
        raise ConflictError(
            f"{name}: directory not empty (found {quoted(first.name)})",
            hint="Choose an empty directory, or remove what is in it.",
        )


def check_system(*, allow_other: bool) -> None:
    """Check that this machine can mount FUSE file systems.

    Raises:
        UnsupportedError: it cannot; the hint says what to do.
    """
    if not _FUSE.exists():
        raise UnsupportedError(
            f"{_FUSE}: not found, so that nothing can be mounted",
            hint="Load the kernel module with modprobe fuse as root; start a container with "
            "--device /dev/fuse --cap-add SYS_ADMIN.",
        )
    if os.geteuid() == 0:
        return
    if _found(_UNMOUNT_PROGRAMS[0]) is None:
        raise UnsupportedError(
            "fusermount3: program not found, which mounts for users other than root",
            hint="Install it, for example with apt install fuse3, or run tocsin as root.",
        )
    if not os.access(_FUSE, os.R_OK | os.W_OK):
        raise UnsupportedError(
            f"{_FUSE}: permission denied",
            hint="Allow it with chmod 666 /dev/fuse as root, or run tocsin as root.",
        )
    if allow_other and not _users_may_allow_others():
        raise UnsupportedError(
            f"--allow-other: not allowed for users other than root by {_FUSE_SETTINGS}",
            hint="Add the line user_allow_other to /etc/fuse.conf as root.",
        )


def _found(program: str) -> str | None:
    from shutil import which  # noqa: PLC0415 (only without root)

    return which(program)


def _users_may_allow_others() -> bool:
    try:
        lines = _FUSE_SETTINGS.read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    return any(line.strip() == _ALLOW_OTHER for line in lines)


def mount_refused(error: OSError, directory: str) -> UnsupportedError | OSError:
    """Return the error to raise if the kernel refuses a mount."""
    if error.errno in (errno.EPERM, errno.EACCES):
        return UnsupportedError(
            f"{quoted(directory)}: mounting is not permitted",
            hint="Run tocsin as root, or install fuse3; start a container with "
            "--device /dev/fuse --cap-add SYS_ADMIN.",
        )
    if error.errno in (errno.ENODEV, errno.ENOENT):
        return UnsupportedError(
            f"{_FUSE}: the kernel does not support FUSE",
            hint="Load the kernel module with modprobe fuse as root.",
        )
    if error.errno is None:  # a message of fusermount3
        return UnsupportedError(
            f"{quoted(directory)}: it cannot be mounted there: {escaped(f'{error}')}",
            hint="Use a directory of your own, or run tocsin as root; start a container with "
            "--device /dev/fuse --cap-add SYS_ADMIN.",
        )
    return OSError(error.errno, error.strerror, directory)


def unmount(point: MountPoint, *, lazy: bool = False) -> None:
    """Unmount a file system.

    Args:
        point: the mount.
        lazy: whether to remove it at once even if it is in use; programs that use it keep it.

    Raises:
        ConflictError: it is in use.
        OSError: it cannot be unmounted.
    """
    number = _unmount(point.directory, lazy=lazy)
    if number == 0:
        return
    if number == errno.EBUSY:
        users = users_of(point.device)
        by = f" by {', '.join(map(str, users))}" if users else ""
        raise ConflictError(
            f"{quoted(point.directory)}: in use{by}",
            hint="End these programs, or unmount with --lazy, which lets them finish.",
        )
    if number == errno.EINVAL and mounted_at(point.directory) is None:
        return  # somebody else was faster
    raise OSError(number, os.strerror(number), point.directory)


def _unmount(directory: str, *, lazy: bool) -> int:
    """Unmount a directory; return 0 or the number of the error."""
    from tocsin.mounting import system_calls as calls  # noqa: PLC0415 (not to mount)

    flags = calls.UMOUNT_NOFOLLOW | (calls.MNT_DETACH if lazy else 0)
    number = calls.unmount(directory, flags)
    if number != errno.EPERM or os.geteuid() == 0:
        return number
    program = next(filter(None, map(_found, _UNMOUNT_PROGRAMS)), None)
    if program is None:
        return number
    return _unmount_by(program, directory, lazy=lazy)


def _unmount_by(program: str, directory: str, *, lazy: bool) -> int:
    import subprocess  # noqa: PLC0415 (only without root)

    command = [program, "-u", *(["-z"] if lazy else []), "--", directory]
    try:
        done = subprocess.run(  # noqa: S603 (a program of the system, found by its name)
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_PROGRAM_TIMEOUT,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return errno.EIO
    if done.returncode == 0:
        return 0
    return errno.EBUSY if b"busy" in done.stderr else errno.EPERM
