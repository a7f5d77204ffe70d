"""Owner, mode, times and extended attributes of a file that is being extracted.

Images contain attributes of other file systems, owners outside a user namespace, and times that
file systems cannot store. If the system refuses one, that is noted and the file is extracted
without it.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tocsin import operating_system as system
from tocsin.quoting import shown
from tocsin.reading.stat import NO_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_KEEP_ID = -1
_MAX_MTIME_NS = (1 << 63) - 1
"""Latest time, in the year 2262; later times, and those before 1970, become 0. Source:
containerd/containerd, archive/time.go."""
_TRUSTED = "trusted."
"""Prefix of attributes that are never taken from an image. Source: containerd/containerd,
archive/tar_unix.go."""

_REFUSED = {
    errno.EPERM,  # the file has another owner, or its file system has no owners and modes
    errno.EINVAL,  # an owner that a user namespace does not map, or a mode that FAT lacks
    errno.ENOTSUP,
    errno.ENOSYS,
    errno.EOVERFLOW,
}
_XATTR_REFUSED = {
    *_REFUSED,
    errno.EACCES,
    errno.ERANGE,
    errno.E2BIG,
    errno.ENOSPC,  # attributes too large for ext4; a full disk is detected when data is written
}


class Metadata(NamedTuple):
    """Metadata of a file in an image.

    Attributes:
        mode: permission bits with set-id and sticky bits.
        uid: user id.
        gid: group id.
        mtime_ns: nanoseconds since 1970, UTC.
        xattrs: extended attributes.
    """

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    xattrs: Mapping[str, bytes]


class Target(Protocol):
    """A local file whose metadata is set."""

    def chown(self, uid: int, gid: int) -> None:
        """Set its owner."""
        ...

    def setxattr(self, key: str, value: bytes) -> None:
        """Set an extended attribute."""
        ...

    def chmod(self, mode: int) -> None:
        """Set its permission bits, if it has any."""
        ...

    def utime(self, mtime_ns: int) -> None:
        """Set its times."""
        ...


@dataclass(slots=True)
class OpenFile:
    """An open file or directory."""

    fd: int

    def chown(self, uid: int, gid: int) -> None:
        """Set its owner."""
        os.fchown(self.fd, uid, gid)

    def setxattr(self, key: str, value: bytes) -> None:
        """Set an extended attribute."""
        system.set_attribute(self.fd, key, value)

    def chmod(self, mode: int) -> None:
        """Set its permission bits."""
        os.fchmod(self.fd, mode)

    def utime(self, mtime_ns: int) -> None:
        """Set its times."""
        os.utime(self.fd, ns=(mtime_ns, mtime_ns))


@dataclass(slots=True)
class NamedFile:
    """A file that cannot be opened, by its name in a directory that only this process uses.

    Attributes:
        directory: descriptor of the directory.
        name: name in the directory; a symbolic link is not followed.
        has_mode: whether the file has permission bits; a symbolic link has none.
    """

    directory: int
    name: str
    has_mode: bool

    def chown(self, uid: int, gid: int) -> None:
        """Set its owner."""
        os.chown(self.name, uid, gid, dir_fd=self.directory, follow_symlinks=False)

    def setxattr(self, key: str, value: bytes) -> None:
        """Set an extended attribute."""
        place = f"/proc/self/fd/{self.directory}/{self.name}"
        system.set_attribute(place, key, value, follow_symlinks=False)

    def chmod(self, mode: int) -> None:
        """Set its permission bits, if it has any."""
        if self.has_mode:
            os.chmod(self.name, mode, dir_fd=self.directory)

    def utime(self, mtime_ns: int) -> None:
        """Set its times."""
        times = (mtime_ns, mtime_ns)
        os.utime(self.name, ns=times, dir_fd=self.directory, follow_symlinks=False)


class MetadataWriter:
    """Sets the metadata of files.

    Args:
        owners: whether files get the image's owners.
        note: called with a description of what was not preserved, and the path of the file.
    """

    def __init__(self, *, owners: bool, note: Callable[[str, str], None]) -> None:
        self._owners = owners
        self._note = note
        self._uid, self._gid = os.geteuid(), os.getegid()

    def write(self, target: Target, path: str, metadata: Metadata) -> None:
        """Set all metadata of a file.

        Raises:
            OSError: the disk is full or broken; metadata that the system refuses is only noted.
        """
        mode, uid, gid, mtime_ns, xattrs = metadata
        # The order matters: a change of owner removes set-id bits and capabilities, and attributes
        # cannot be set on a file without write permission.
        if not self._owners or not self._chown(target, path, uid, gid):
            mode = self._without_set_id(mode, uid, gid, path)
        for key, value in xattrs.items():
            self._setxattr(target, path, key, value)
        try:
            target.chmod(mode)
        except OSError as error:
            self._refused("mode", error, path)
        time = bounded_mtime(mtime_ns)
        if time != mtime_ns:
            self._note("time not preserved (before 1970 or after 2262)", path)
        try:
            target.utime(time)
        except OSError as error:
            self._refused("time", error, path)

    def _chown(self, target: Target, path: str, uid: int, gid: int) -> bool:
        if NO_ID in (uid, gid):
            self._note(f"owner not preserved ({NO_ID} means no owner)", path)
            uid, gid = (_KEEP_ID if each == NO_ID else each for each in (uid, gid))
        try:
            target.chown(uid, gid)
        except OSError as error:
            self._refused("owner", error, path)
            return False
        return True

    def _without_set_id(self, mode: int, uid: int, gid: int, path: str) -> int:
        """Return `mode` without the set-id bits that were meant for another owner."""
        kept = mode
        if uid != self._uid:
            kept &= ~stat.S_ISUID
        if gid != self._gid:
            kept &= ~stat.S_ISGID
        if kept != mode:
            self._note("set-id bits not preserved (the file has another owner in the image)", path)
        return kept

    def _setxattr(self, target: Target, path: str, key: str, value: bytes) -> None:
        what = f"extended attribute {shown(key)}"
        if key.startswith(_TRUSTED):
            self._note(f"{what} not preserved (trusted attributes are never set)", path)
            return
        try:
            target.setxattr(key, value)
        except OSError as error:
            self._refused(what, error, path, refused=_XATTR_REFUSED)
        except ValueError:  # a NUL byte in its name, or text that cannot be encoded
            self._note(f"{what} not preserved (not a valid name)", path)

    def _refused(
        self, what: str, error: OSError, path: str, *, refused: set[int] = _REFUSED
    ) -> None:
        if error.errno not in refused:
            raise error
        self._note(f"{what} not preserved ({os.strerror(error.errno).lower()})", path)


def bounded_mtime(mtime_ns: int) -> int:
    """Return the time that an extracted file gets."""
    return mtime_ns if 0 <= mtime_ns <= _MAX_MTIME_NS else 0
