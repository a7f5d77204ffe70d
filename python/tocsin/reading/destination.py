"""A directory of this machine that files of an image are put into, and nothing outside it.

Every step goes from a directory's descriptor to one name in it, and no symbolic link is followed,
whether it was there before or the image has brought it. What is made is made in a directory of its
own beside it, complete with owner, mode and times, and then renamed to its place: under its name
there is what was there before, or all of it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections import OrderedDict
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, Self

from tocsin.quoting import quoted, shown
from tocsin.stores.staged_file import placed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

_PREFIX = ".tocsin-extract-"
_OPEN_DIRECTORIES = 128
"""Descriptors kept; a process may often have no more than 1,024."""
_MAX_NAME = 255
"""Bytes of one name, of Linux."""
_NO_ID = 0xFFFFFFFF
"""As an owner it means to the system: leave it."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_STAGED = "new"


class Metadata(NamedTuple):
    """What a file has besides data.

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


class Destination:
    """A directory to put things into; a context manager. Paths are relative to it, ``""`` is it.

    Args:
        root: the directory, made if missing; the only path that may lead through links.
        owners: whether files get the image's owners.
        note: called with what could not be kept, and the path it was not kept of.

    Raises:
        OSError: it cannot be made or written to.
    """

    def __init__(
        self,
        root: Path,
        *,
        owners: bool,
        note: Callable[[str, str], None] = lambda what, path: None,
    ) -> None:
        self._root = root
        self._owners = owners
        self._note = note
        self._uid, self._gid = os.geteuid(), os.getegid()
        # Least recently used first; each may be opened again from the root.
        self._open: OrderedDict[str, int] = OrderedDict()
        self._at, self._at_fd = "", -1
        self._stage = -1
        self._stage_name = ""
        try:
            self._new_root = not root.is_dir()
            root.mkdir(parents=True, exist_ok=True)
            self._root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise placed(error, root) from error
        try:
            self._remove_abandoned()
            self._make_stage()
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise placed(error, root) from error
            raise

    @property
    def root_is_new(self) -> bool:
        """Whether the root was not there before."""
        return self._new_root

    def shown(self, path: str) -> str:
        """Return how messages call `path`."""
        return str(self._root / path)

    # -- directories ---------------------------------------------------------------------------

    def make_directory(self, parent: str, name: str) -> bool:
        """Make a directory that only its owner may enter; return whether it was missing.

        A symbolic link or a file in its place is replaced.
        """
        path = f"{parent}/{name}" if parent else name
        try:
            self._check(name)
            above = self.directory(parent)
            for _ in range(2):
                try:
                    os.mkdir(name, 0o700, dir_fd=above)
                except FileExistsError:
                    if stat.S_ISDIR(os.lstat(name, dir_fd=above).st_mode):
                        self._make_passable(above, name)
                        return False
                    os.unlink(name, dir_fd=above)
                else:
                    return True
        except OSError as error:
            raise placed(error, self.shown(path)) from error
        raise placed(OSError(errno.EEXIST, "made again and again by others"), self.shown(path))

    def directory(self, path: str) -> int:
        """Return the descriptor of a directory, good until the next one is asked for.

        Raises:
            OSError: it is none; a symbolic link is none.
        """
        if path == self._at and self._at_fd >= 0:
            return self._at_fd
        if not path:
            return self._root_fd
        fd = self._open.get(path)
        if fd is None:
            self._at_fd = -1  # it may be the one that is closed to make room
            at, missing = path, []
            while at and at not in self._open:
                at, _, name = at.rpartition("/")
                missing.append(name)
            fd = self._open[at] if at else self._root_fd
            while missing:
                name = missing.pop()
                self._check(name)
                at = f"{at}/{name}" if at else name
                fd = self._open[at] = os.open(name, _DIRECTORY, dir_fd=fd)
                if len(self._open) > _OPEN_DIRECTORIES:
                    os.close(self._open.popitem(last=False)[1])
        else:
            self._open.move_to_end(path)
        self._at, self._at_fd = path, fd
        return fd

    def finish_directory(self, path: str, metadata: Metadata) -> None:
        """Give a directory its owner, mode and times, when all that is in it is there."""
        with self._naming(path):
            self._dress(self.directory(path), path, metadata)

    def _make_passable(self, above: int, name: str) -> None:
        """Let the owner write into a directory that was there before, such as one of an image."""
        if self._uid == 0:
            return
        fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        try:
            found = os.fstat(fd)
            if ~found.st_mode & stat.S_IRWXU and found.st_uid == self._uid:
                # Of a descriptor without rights the mode can be changed by this name only.
                os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(found.st_mode) | stat.S_IRWXU)  # noqa: PTH101 (by descriptor)
        finally:
            os.close(fd)

    # -- what directories hold -----------------------------------------------------------------

    def lstat(self, parent: str, name: str) -> os.stat_result | None:
        """Return what is there, if anything."""
        try:
            self._check(name)
            return os.lstat(name, dir_fd=self.directory(parent))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise placed(error, self.shown(_join(parent, name))) from error

    def readlink(self, parent: str, name: str) -> str:
        """Return the target of the symbolic link there."""
        return os.readlink(name, dir_fd=self.directory(parent))

    def put_bytes(self, data: memoryview, parent: str, name: str, metadata: Metadata) -> None:
        """Make a file of all its data."""
        try:
            fd = os.open(_STAGED, _NEW_FILE, 0o600, dir_fd=self._stage)
            try:
                while data:
                    data = data[os.write(fd, data) :]
                self._dress(fd, _join(parent, name), metadata)
            finally:
                os.close(fd)
            self._publish(parent, name)
        except OSError as error:
            self._drop_staged()
            raise placed(error, self.shown(_join(parent, name))) from error

    def put_pieces(
        self,
        pieces: Iterable[tuple[int, bytes]],
        size: int,
        parent: str,
        name: str,
        metadata: Metadata,
    ) -> None:
        """Make a file of pieces, each with where it belongs; what lies between them is a hole.

        Raises:
            OSError: the file cannot be made; ``filename`` is its path. What `pieces` raises, it
                raises as it is.
        """
        path = _join(parent, name)
        try:
            with self._naming(path):
                fd = os.open(_STAGED, _NEW_FILE, 0o600, dir_fd=self._stage)
            try:
                for at, piece in pieces:
                    with self._naming(path):
                        _write_at(fd, piece, at)
                with self._naming(path):
                    os.ftruncate(fd, size)
                    self._dress(fd, path, metadata)
            finally:
                os.close(fd)
            with self._naming(path):
                self._publish(parent, name)
        except BaseException:
            self._drop_staged()
            raise

    def _drop_staged(self) -> None:
        if self._stage >= 0:
            with suppress(OSError):
                os.unlink(_STAGED, dir_fd=self._stage)

    @contextmanager
    def _naming(self, path: str) -> Iterator[None]:
        """Let an OSError raised inside say which file could not be made, and drop the new one."""
        try:
            yield
        except OSError as error:
            self._drop_staged()
            raise placed(error, self.shown(path)) from error

    def make_symlink(self, target: str, parent: str, name: str, metadata: Metadata) -> None:
        """Make a symbolic link, which may say anything: nothing here follows it."""
        with self._naming(_join(parent, name)):
            if "\0" in target:
                raise OSError(errno.EINVAL, "its target has a zero byte")
            os.symlink(target, _STAGED, dir_fd=self._stage)
            self._dress_name(_join(parent, name), metadata, mode=False)
            self._publish(parent, name)

    def make_node(self, kind: int, device: int, parent: str, name: str, metadata: Metadata) -> None:
        """Make a fifo or a device node.

        Args:
            kind: the type bits of its mode.
            device: its number, as of ``os.makedev``.
            parent: the directory.
            name: in it.
            metadata: of the node.
        """
        with self._naming(_join(parent, name)):
            os.mknod(_STAGED, kind | 0o600, device, dir_fd=self._stage)
            self._dress_name(_join(parent, name), metadata, mode=True)
            self._publish(parent, name)

    def make_link(self, first: tuple[str, str], parent: str, name: str) -> bool:
        """Make a hard link to something put here before; return whether it was missing."""
        with self._naming(_join(parent, name)):
            self._check(name)
            found = os.lstat(first[1], dir_fd=self.directory(first[0]))
            there = self.lstat(parent, name)
            if there is not None and os.path.samestat(found, there):
                return False
            os.link(
                first[1],
                _STAGED,
                src_dir_fd=self.directory(first[0]),
                dst_dir_fd=self._stage,
                follow_symlinks=False,
            )
            self._publish(parent, name)
        return True

    def _publish(self, parent: str, name: str) -> None:
        self._check(name)
        os.rename(_STAGED, name, src_dir_fd=self._stage, dst_dir_fd=self.directory(parent))

    def _check(self, name: str) -> None:
        """Refuse what is no name, whoever let it through.

        Raises:
            OSError: it is none.
        """
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise OSError(
                errno.EINVAL, f"{quoted(name)} is not a file name, extract what is beside it"
            )
        # No character has more than four bytes.
        if len(name) > _MAX_NAME // 4 and len(os.fsencode(name)) > _MAX_NAME:
            raise OSError(
                errno.ENAMETOOLONG,
                f"a name of {len(os.fsencode(name))} bytes, and {_MAX_NAME} are the most, extract "
                "what is beside it",
            )

    # -- metadata ------------------------------------------------------------------------------

    def _dress(self, fd: int, path: str, metadata: Metadata) -> None:
        mode, uid, gid, mtime_ns, xattrs = metadata
        # In this order: a change of owner takes set-id bits and capabilities away, and a file
        # without write permission takes no attributes.
        if self._owners:
            self._check_owner(uid, gid)
            os.fchown(fd, uid, gid)
        else:
            mode = self._own_mode(mode, uid, gid, path)
        for key, value in xattrs.items():
            self._set_xattr(fd, key, value, path)
        os.fchmod(fd, mode)
        os.utime(fd, ns=(mtime_ns, mtime_ns))

    def _dress_name(self, path: str, metadata: Metadata, *, mode: bool) -> None:
        """Do as `_dress` does for what cannot be opened; nobody else can reach it yet."""
        if self._owners:
            self._check_owner(metadata.uid, metadata.gid)
            os.chown(_STAGED, metadata.uid, metadata.gid, dir_fd=self._stage, follow_symlinks=False)
        place = f"/proc/self/fd/{self._stage}/{_STAGED}"
        for key, value in metadata.xattrs.items():
            self._set_xattr(place, key, value, path)
        if mode:
            bits = metadata.mode
            if not self._owners:
                bits = self._own_mode(bits, metadata.uid, metadata.gid, path)
            os.chmod(_STAGED, bits, dir_fd=self._stage)
        times = (metadata.mtime_ns, metadata.mtime_ns)
        os.utime(_STAGED, ns=times, dir_fd=self._stage, follow_symlinks=False)

    def _own_mode(self, mode: int, uid: int, gid: int, path: str) -> int:
        """Return `mode` without bits that would act for another owner than the image says."""
        kept = mode
        if uid != self._uid:
            kept &= ~stat.S_ISUID
        if gid != self._gid:
            kept &= ~stat.S_ISGID
        if kept != mode:
            self._note("set-id bits, since the owner is another than in the image", path)
        return kept

    def _set_xattr(self, target: int | str, key: str, value: bytes, path: str) -> None:
        try:
            if isinstance(target, int):
                os.setxattr(target, key, value)
            else:
                os.setxattr(target, key, value, follow_symlinks=False)
        except (OSError, ValueError) as error:
            code = error.errno if isinstance(error, OSError) else errno.EINVAL
            if code not in _XATTR_REFUSED:
                raise
            self._note(f"extended attribute {shown(key)}: {os.strerror(code).lower()}", path)

    def _check_owner(self, uid: int, gid: int) -> None:
        if _NO_ID in (uid, gid):
            raise OSError(errno.EINVAL, f"owner {uid}:{gid} is nobody's, extract without owners")

    # -- the beginning and the end -------------------------------------------------------------

    def _make_stage(self) -> None:
        while True:
            name = f"{_PREFIX}{os.urandom(8).hex()}"
            os.mkdir(name, 0o700, dir_fd=self._root_fd)
            self._stage_name = name
            fd = os.open(name, _DIRECTORY, dir_fd=self._root_fd)
            with suppress(OSError):  # where nothing can be locked, nobody removes it either
                fcntl.flock(fd, fcntl.LOCK_EX)
            # Between these lines another run may have taken it for abandoned.
            if os.fstat(fd).st_nlink:
                self._stage = fd
                return
            os.close(fd)

    def _remove_abandoned(self) -> None:
        """Remove what runs left that were killed: their directories are locked by nobody."""
        if self._new_root:
            return
        with os.scandir(self._root_fd) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(_PREFIX)]
        for name in names:
            with suppress(OSError):
                fd = os.open(name, _DIRECTORY, dir_fd=self._root_fd)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    with suppress(FileNotFoundError):
                        os.unlink(_STAGED, dir_fd=fd)
                    os.rmdir(name, dir_fd=self._root_fd)
                finally:
                    os.close(fd)

    def remove_stage(self) -> None:
        """Remove what only the making needed; nothing more can be made."""
        if self._stage >= 0:
            self._drop_staged()
            with suppress(OSError):
                os.rmdir(self._stage_name, dir_fd=self._root_fd)
            os.close(self._stage)
            self._stage = -1

    def close(self) -> None:
        """Remove what only the making needed, and close everything."""
        self.remove_stage()
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()
        self._at, self._at_fd = "", -1
        if self._root_fd >= 0:
            os.close(self._root_fd)
            self._root_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


_XATTR_REFUSED = {
    errno.ENOTSUP,  # not on this file system, or not on a file of this kind
    errno.EPERM,  # security.* and trusted.* are root's
    errno.EACCES,
    errno.EINVAL,  # a value the kernel does not take, such as an ACL with owners unknown here
    errno.ERANGE,
    errno.E2BIG,
    errno.ENOSPC,  # more than ext4 has room for in an inode's block; a full disk shows with data
}


def _write_at(fd: int, piece: bytes, at: int) -> None:
    rest = memoryview(piece)
    while rest:
        written = os.pwrite(fd, rest, at)
        rest, at = rest[written:], at + written


def _join(parent: str, name: str) -> str:
    return f"{parent}/{name}" if parent else name
