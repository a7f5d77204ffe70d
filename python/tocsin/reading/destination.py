"""A local directory that files of an image are extracted to; nothing outside it is written.

Each step goes from the descriptor of a directory to one name in it. No symbolic link is followed,
whether it already existed or comes from the image. A file is made in a staging directory, complete
with owner, mode and times, and then renamed: its name leads to the old file or to the complete new
one.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

from tocsin import operating_system as system
from tocsin.quoting import quoted
from tocsin.reading.metadata import MetadataWriter, NamedFile, OpenFile
from tocsin.staged_file import placed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

    from tocsin.reading.metadata import Metadata

_PREFIX = ".tocsin-extract-"
_MAX_OPEN_DIRECTORIES = 128
"""Maximum number of descriptors kept open; the usual limit of a process is 1,024."""
_MAX_NAME_SIZE = 255
"""Limit of Linux for a file name, in bytes."""
_MAX_FILE_SIZE = (1 << 63) - 1
"""Limit of Linux for a file, in bytes."""
_ROOT_DIRECTORY = os.O_RDONLY | system.O_DIRECTORY | system.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | system.O_DIRECTORY | system.O_NOFOLLOW | system.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | system.O_NOFOLLOW | system.O_CLOEXEC
_STAGED = "new"
_SINGLE_FILE_ERRORS = {
    errno.EPERM,  # links, FIFOs and devices on a file system without them
    errno.EINVAL,
    errno.EILSEQ,  # a name that is not UTF-8, on a file system that requires it
    errno.ENAMETOOLONG,
    errno.ENOTSUP,
    errno.ENOSYS,
    errno.EFBIG,
    errno.EOVERFLOW,
    errno.EMLINK,
    errno.EISDIR,
    errno.EXDEV,  # its directory is a mount point
    errno.EBUSY,  # it is a mount point
}
"""Errors that do not mean that other files of the same tree fail too."""


class NotMadeError(OSError):
    """One file cannot be made, for a reason that does not affect other files.

    For example, the file system does not support its name. A full or broken disk raises another
    `OSError`.
    """

    @property
    def reason(self) -> str:
        """The reason in lower case, to follow the path of the file."""
        text = self.strerror or "input/output error"
        return text[:1].lower() + text[1:]


class Destination:
    """A directory to extract to; a context manager. Paths are relative to it; ``""`` is its path.

    Args:
        root: the directory, made if missing; the only path that may lead through links.
        owners: whether files get the image's owners.
        note: called with a description of what was not preserved, and the path of the file.

    Raises:
        UnsupportedError: this is Windows.
        OSError: the directory cannot be made or written to.
    """

    def __init__(
        self,
        root: Path,
        *,
        owners: bool,
        note: Callable[[str, str], None] = lambda what, path: None,
    ) -> None:
        system.require_directory_descriptors("extracting files")
        self._root = root
        self._metadata = MetadataWriter(owners=owners, note=note)
        self._uid = system.user_id()
        # The least recently used first; a closed one is opened again from the root.
        self._open: OrderedDict[str, int] = OrderedDict()
        self._at, self._at_fd = "", -1
        self._stage = -1
        self._stage_name = ""
        try:
            self._new_root = not root.is_dir()
            root.mkdir(parents=True, exist_ok=True)
            self._root_fd = os.open(root, _ROOT_DIRECTORY)
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
        """Whether the root was made by this object."""
        return self._new_root

    def shown(self, path: str) -> str:
        """Return `path` as messages show it."""
        return str(self._root / path)

    # -- directories ---------------------------------------------------------------------------

    def make_directory(self, parent: str, name: str) -> bool:
        """Make a directory that only its owner may enter; return whether it was missing.

        An existing symbolic link or file with this name is replaced.
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
        raise placed(OSError(errno.EEXIST, "another process keeps replacing it"), self.shown(path))

    def directory(self, path: str) -> int:
        """Return the descriptor of a directory, valid until the next call.

        Raises:
            OSError: it is not a directory, or a symbolic link to one.
        """
        if path == self._at and self._at_fd >= 0:
            return self._at_fd
        if not path:
            return self._root_fd
        fd = self._open.get(path)
        if fd is None:
            self._at_fd = -1  # the loop below may close it
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
                if len(self._open) > _MAX_OPEN_DIRECTORIES:
                    os.close(self._open.popitem(last=False)[1])
        else:
            self._open.move_to_end(path)
        self._at, self._at_fd = path, fd
        return fd

    def finish_directory(self, path: str, metadata: Metadata) -> None:
        """Set the owner, mode and times of a directory once everything in it has been made."""
        with self._naming(path):
            self._metadata.write(OpenFile(self.directory(path)), path, metadata)

    def _make_passable(self, above: int, name: str) -> None:
        """Give the owner full access to an existing directory, such as an extracted one."""
        if self._uid == 0:
            return
        system.add_mode(name, stat.S_IRWXU, directory=above)

    # -- files in directories ------------------------------------------------------------------

    def lstat(self, parent: str, name: str) -> os.stat_result | None:
        """Return the status of a file; ``None`` if it is missing."""
        try:
            check_name(name)
            return os.lstat(name, dir_fd=self.directory(parent))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _placed(error, self.shown(_join(parent, name))) from error

    def readlink(self, parent: str, name: str) -> str:
        """Return the target of a symbolic link."""
        return os.readlink(name, dir_fd=self.directory(parent))

    def put_bytes(self, data: memoryview, parent: str, name: str, metadata: Metadata) -> None:
        """Make a file from its complete data."""
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
        """Make a file from pieces with their offsets; gaps between them become holes.

        Raises:
            OSError: the file cannot be made; ``filename`` is its path. Exceptions of `pieces` pass
                through unchanged.
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
        """Add the path of the file to an OSError raised inside, and remove the staged file."""
        try:
            yield
        except OSError as error:
            self._drop_staged()
            raise _placed(error, self.shown(path)) from error

    def make_symlink(self, target: str, parent: str, name: str, metadata: Metadata) -> None:
        """Make a symbolic link; its target may be anything, since nothing here follows it."""
        with self._naming(_join(parent, name)):
            if not target:
                raise OSError(errno.EINVAL, "the link target is empty")
            if "\0" in target:
                raise OSError(errno.EINVAL, "the link target contains a NUL byte")
            os.symlink(target, _STAGED, dir_fd=self._stage)
            link = NamedFile(self._stage, _STAGED, has_mode=False)
            self._metadata.write(link, _join(parent, name), metadata)
            self._publish(parent, name)

    def make_node(self, kind: int, device: int, parent: str, name: str, metadata: Metadata) -> None:
        """Make a fifo or a device node.

        Args:
            kind: the type bits of its mode.
            device: its device number, as ``os.makedev`` returns it.
            parent: the directory.
            name: name in the directory.
            metadata: metadata of the node.
        """
        with self._naming(_join(parent, name)):
            os.mknod(_STAGED, kind | 0o600, device, dir_fd=self._stage)
            node = NamedFile(self._stage, _STAGED, has_mode=True)
            self._metadata.write(node, _join(parent, name), metadata)
            self._publish(parent, name)

    def make_link(self, first: tuple[str, str], parent: str, name: str) -> bool:
        """Make a hard link to a file made before; return whether the link was missing."""
        with self._naming(_join(parent, name)):
            check_name(name)
            found = os.lstat(first[1], dir_fd=self.directory(first[0]))
            existing = self.lstat(parent, name)
            if existing is not None and os.path.samestat(found, existing):
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

    # -- staging directory ---------------------------------------------------------------------

    def _make_stage(self) -> None:
        while True:
            name = f"{_PREFIX}{os.urandom(8).hex()}"
            os.mkdir(name, 0o700, dir_fd=self._root_fd)
            self._stage_name = name
            fd = os.open(name, _DIRECTORY, dir_fd=self._root_fd)
            with suppress(OSError):  # without locks, no other run removes it either
                system.lock(fd)
            # Before it was locked, another run may have removed it as abandoned.
            if os.fstat(fd).st_nlink:
                self._stage = fd
                return
            os.close(fd)

    def _remove_abandoned(self) -> None:
        """Remove staging directories left by killed runs, which no process has locked."""
        if self._new_root:
            return
        with os.scandir(self._root_fd) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(_PREFIX)]
        for name in names:
            with suppress(OSError):
                fd = os.open(name, _DIRECTORY, dir_fd=self._root_fd)
                try:
                    if system.try_lock(fd):
                        with suppress(FileNotFoundError):
                            os.unlink(_STAGED, dir_fd=fd)
                        os.rmdir(name, dir_fd=self._root_fd)
                finally:
                    os.close(fd)

    def remove_stage(self) -> None:
        """Remove the staging directory; no more files can be made."""
        if self._stage >= 0:
            self._drop_staged()
            with suppress(OSError):
                os.rmdir(self._stage_name, dir_fd=self._root_fd)
            os.close(self._stage)
            self._stage = -1

    def close(self) -> None:
        """Remove the staging directory and close all descriptors."""
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
    """Check that a name can be that of a file, although earlier code may have checked it too.

    Raises:
        NotMadeError: it cannot.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise NotMadeError(errno.EINVAL, f"{quoted(name)} is not a valid file name")
    # A character has at most four bytes.
    if len(name) > _MAX_NAME_SIZE // 4 and len(os.fsencode(name)) > _MAX_NAME_SIZE:
        size = len(os.fsencode(name))
        raise NotMadeError(
            errno.ENAMETOOLONG,
            f"file name too long (found {size} bytes, expected at most {_MAX_NAME_SIZE})",
        )


def _placed(error: OSError, path: str) -> OSError:
    """Return `error` with `path`; a `NotMadeError` if it does not affect other files."""
    if error.errno not in _SINGLE_FILE_ERRORS:
        return placed(error, path)
    reason = "a directory has this name" if error.errno == errno.EISDIR else error.strerror
    return NotMadeError(error.errno, reason, path)


def _write_at(fd: int, piece: bytes, at: int) -> None:
    rest = memoryview(piece)
    while rest:
        written = system.write_at(fd, rest, at)
        rest, at = rest[written:], at + written


def _join(parent: str, name: str) -> str:
    return f"{parent}/{name}" if parent else name
