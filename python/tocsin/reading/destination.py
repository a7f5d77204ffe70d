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
from typing import TYPE_CHECKING, Self

from tocsin.quoting import quoted
from tocsin.reading.metadata import MetadataWriter, NamedFile, OpenFile
from tocsin.stores.staged_file import placed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

    from tocsin.reading.metadata import Metadata

_PREFIX = ".tocsin-extract-"
_OPEN_DIRECTORIES = 128
"""Descriptors kept; a process may often have no more than 1,024."""
_MAX_NAME = 255
"""Bytes of one name, of Linux."""
_MAX_FILE_SIZE = (1 << 63) - 1
"""Bytes of a file, of Linux."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_STAGED = "new"
_OF_ONE_FILE = {
    errno.EPERM,  # links, FIFOs and devices on a file system without them
    errno.EINVAL,
    errno.EILSEQ,  # a name that is not UTF-8, on a file system that demands it
    errno.ENAMETOOLONG,
    errno.ENOTSUP,
    errno.ENOSYS,
    errno.EFBIG,
    errno.EOVERFLOW,
    errno.EMLINK,
    errno.EISDIR,
    errno.EXDEV,  # something is mounted at its directory
    errno.EBUSY,  # something is mounted in its place
}
"""Errors that other files of the same tree need not have."""


class NotMadeError(OSError):
    """One file cannot be made, for a reason that does not concern other files.

    Such as a name that the file system does not take. A full or broken disk is another `OSError`.
    """

    @property
    def reason(self) -> str:
        """The reason, to be read after the path of the file."""
        text = self.strerror or "input/output error"
        return text[:1].lower() + text[1:]


class Destination:
    """A directory to put things into; a context manager. Paths are relative to it, ``""`` is it.

    Args:
        root: the directory, made if missing; the only path that may lead through links.
        owners: whether files get the image's owners.
        note: called with what was not preserved, and the path of the file.

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
        self._metadata = MetadataWriter(owners=owners, note=note)
        self._uid = os.geteuid()
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
            check_name(name)
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
            raise _placed(error, self.shown(path)) from error
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
                check_name(name)
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
            self._metadata.write(OpenFile(self.directory(path)), path, metadata)

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
            check_name(name)
            return os.lstat(name, dir_fd=self.directory(parent))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _placed(error, self.shown(_join(parent, name))) from error

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
                self._metadata.write(OpenFile(fd), _join(parent, name), metadata)
            finally:
                os.close(fd)
            self._publish(parent, name)
        except OSError as error:
            self._drop_staged()
            raise _placed(error, self.shown(_join(parent, name))) from error

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
        if size > _MAX_FILE_SIZE:
            raise NotMadeError(errno.EFBIG, os.strerror(errno.EFBIG), self.shown(path))
        try:
            with self._naming(path):
                fd = os.open(_STAGED, _NEW_FILE, 0o600, dir_fd=self._stage)
            try:
                for at, piece in pieces:
                    with self._naming(path):
                        _write_at(fd, piece, at)
                with self._naming(path):
                    os.ftruncate(fd, size)
                    self._metadata.write(OpenFile(fd), path, metadata)
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
            raise _placed(error, self.shown(path)) from error

    def make_symlink(self, target: str, parent: str, name: str, metadata: Metadata) -> None:
        """Make a symbolic link, which may say anything: nothing here follows it."""
        with self._naming(_join(parent, name)):
            if not target:
                raise OSError(errno.EINVAL, "the target of the link is empty")
            if "\0" in target:
                raise OSError(errno.EINVAL, "the target of the link contains a NUL byte")
            os.symlink(target, _STAGED, dir_fd=self._stage)
            link = NamedFile(self._stage, _STAGED, has_mode=False)
            self._metadata.write(link, _join(parent, name), metadata)
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
            node = NamedFile(self._stage, _STAGED, has_mode=True)
            self._metadata.write(node, _join(parent, name), metadata)
            self._publish(parent, name)

    def make_link(self, first: tuple[str, str], parent: str, name: str) -> bool:
        """Make a hard link to something put here before; return whether it was missing."""
        with self._naming(_join(parent, name)):
            check_name(name)
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
        check_name(name)
        os.rename(_STAGED, name, src_dir_fd=self._stage, dst_dir_fd=self.directory(parent))

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


def check_name(name: str) -> None:
    """Refuse what is not the name of a file, whoever let it through.

    Raises:
        NotMadeError: it is not.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise NotMadeError(errno.EINVAL, f"{quoted(name)} is not a possible file name")
    # A character has at most four bytes.
    if len(name) > _MAX_NAME // 4 and len(os.fsencode(name)) > _MAX_NAME:
        size = len(os.fsencode(name))
        raise NotMadeError(
            errno.ENAMETOOLONG, f"the name has {size} bytes, at most {_MAX_NAME} are possible"
        )


def _placed(error: OSError, path: str) -> OSError:
    """Return `error` naming `path`; a `NotMadeError` if it does not concern other files."""
    if error.errno not in _OF_ONE_FILE:
        return placed(error, path)
    reason = "a directory is in its place" if error.errno == errno.EISDIR else error.strerror
    return NotMadeError(error.errno, reason, path)


def _write_at(fd: int, piece: bytes, at: int) -> None:
    rest = memoryview(piece)
    while rest:
        written = os.pwrite(fd, rest, at)
        rest, at = rest[written:], at + written


def _join(parent: str, name: str) -> str:
    return f"{parent}/{name}" if parent else name
