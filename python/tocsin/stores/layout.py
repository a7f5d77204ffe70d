"""OCI layout directories, for reading and writing. Source: OCI image-spec 1.1.1, image-layout.md.

Writes are atomic: a blob gets its name once all its bytes are on disk. ``index.json`` is
replaced last, under a lock on the file ``oci-layout``, so that concurrent writers keep each other's
entries; other tools do not take this lock. A killed run leaves the existing images unchanged. It
may also leave blobs without references, which the next run reuses, and files ``.tocsin-*.tmp``,
which the next run removes.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tocsin import operating_system as system
from tocsin.errors import FormatError, NotFoundError, VerificationError
from tocsin.model.descriptor import Descriptor
from tocsin.model.go_json import MAX_SIZE
from tocsin.model.media_types import OCTET_STREAM
from tocsin.quoting import shown
from tocsin.regular_file import open_regular
from tocsin.staged_file import (
    StagedFile,
    place_in_errors,
    remove_abandoned,
    sync_directory,
    sync_file,
)
from tocsin.stores.base import MustStream, MustVerify, TakenOver
from tocsin.stores.file_store import FileSource, manifest_descriptor
from tocsin.stores.hashing import hashed
from tocsin.stores.layout_index import LAYOUT_FILE, LayoutIndex, check_layout_file
from tocsin.stores.linking import link_file, others_may_write
from tocsin.stores.origins import LayoutOrigin, layout_blob_path
from tocsin.stores.verification import verified
from tocsin.stores.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from tocsin.model.digest import Digest
    from tocsin.stores.base import Takeover
    from tocsin.stores.origins import BlobOrigin

    _Identity = tuple[int, int, int, int]

_OWN_NAMES = frozenset({"blobs", "oci-layout", "index.json", "ingest"})
_LOCK_FILE = (
    os.O_RDWR
    | os.O_CREAT
    | system.O_BINARY
    | system.O_CLOEXEC
    | system.O_NONBLOCK
    | system.O_NOFOLLOW
)


class OciLayout(FileSource):
    """An OCI layout directory; see `Sink` for the contract of each method.

    Args:
        path: the directory; with `write`, it may be missing or empty, and the first write creates
            it.
        write: whether the layout is opened for writing.

    Raises:
        FileNotFoundError: the directory is missing and not opened for writing.
        FormatError: the directory is not a layout; `what` is ``layout``.
        OSError: the directory cannot be read.
    """

    def __init__(self, path: Path, *, write: bool = False) -> None:
        super().__init__(f"oci:{path}")
        self.path = path
        self._write = write
        self._prepared = False
        if not write or self._is_layout():
            self._check_layout()
        else:
            self._refuse_other_content()

    @property
    def origin(self) -> LayoutOrigin:
        """The directory, and the file system of its blobs."""
        return LayoutOrigin(self.path, self._device())

    def put_blob(
        self,
        source: bytes | Iterable[bytes],
        *,
        digest: Digest | None = None,
        size: int | None = None,
        media_type: str = OCTET_STREAM,
    ) -> Descriptor:
        """Store a blob; it becomes visible once its bytes are on disk."""
        self._prepare()
        stream = hashed(source, place=f"{self._name}: new blob", digest=digest, size=size)
        promised = None if digest is None or size is None else Descriptor(media_type, digest, size)
        if promised is not None and self.has_blob(promised):
            stream.drain()
            return promised
        with StagedFile(self.path) as staged:
            for piece in stream:
                staged.write(piece)
            staged.publish(self._blob_path(stream.digest))
        return Descriptor(media_type, stream.digest, stream.size)

    def take_over(self, descriptor: Descriptor, origin: BlobOrigin) -> Takeover:
        """Take a blob over from another layout, with a hard link or by sharing its blocks.

        Only files that other users cannot write to are linked. Symbolic links are followed, so the
        new name always refers to the file itself.
        """
        self._check_writable()
        if self.has_blob(descriptor):
            return TakenOver()
        if not self.origin.takes_from(origin):
            return MustStream()
        try:
            with origin.window(descriptor.digest) as window:
                status = os.fstat(window.fd)
                is_other = others_may_write(status) or status.st_dev != self.origin.device
                if is_other and status.st_size == descriptor.size:
                    return TakenOver() if self._share(descriptor, window) else MustStream()
        except FileNotFoundError:
            return _Link(self, descriptor, origin, None)
        except OSError:  # reading the blob will report the error
            return MustStream()
        return _Link(self, descriptor, origin, _identity(status))

    def put_manifest(self, data: bytes, media_type: str, *, tag: str | None = None) -> Descriptor:
        """Store a manifest; ``index.json`` lists it if it has a tag or a subject."""
        descriptor, refers = manifest_descriptor(data, media_type, place=self._name)
        self.put_blob(data, digest=descriptor.digest, size=descriptor.size)
        if tag is not None or refers:
            self._change_index(lambda index: index.with_entry(descriptor, tag=tag))
        return descriptor

    def tag(self, descriptor: Descriptor, tag: str) -> None:
        """Tag a stored manifest atomically."""
        if not self.has_blob(descriptor):
            raise NotFoundError(
                f"{self._place(descriptor.digest)}: not found, so it cannot be tagged"
            )
        self._change_index(lambda index: index.with_entry(descriptor, tag=tag))

    def delete(self, descriptor: Descriptor) -> None:
        """Remove a manifest and its entries in ``index.json``, but not its children."""
        path = self._blob_path(descriptor.digest)
        if not self.has_blob(descriptor):
            raise NotFoundError(f"{self._place(descriptor.digest)}: not found")
        self._change_index(lambda index: index.without(descriptor.digest))
        with place_in_errors(path):
            path.unlink(missing_ok=True)

    def commit(self) -> None:
        """Do nothing: writes are visible at once."""

    def close(self) -> None:
        """Do nothing: no file stays open between calls."""

    def _window(self, digest: Digest) -> Window:
        return Window.open(self._blob_path(digest))

    def _index(self) -> LayoutIndex:
        try:
            return LayoutIndex.from_json(self._read("index.json"))
        except FileNotFoundError:
            if self._write:
                return LayoutIndex.empty()
            raise

    def _blob_path(self, digest: Digest) -> Path:
        return layout_blob_path(self.path, digest)

    def _device(self) -> int:
        """Return the device number of the file system that contains, or will contain, the blobs."""
        blobs = self.path.absolute() / "blobs" / "sha256"
        for folder in (blobs, *blobs.parents):
            with suppress(OSError):
                return folder.stat().st_dev
        return 0

    def _read(self, name: str) -> bytes:
        with Window.open(self.path / name) as window:
            return window.read(0, MAX_SIZE + 1)

    def _is_layout(self) -> bool:
        return (self.path / "index.json").exists()

    def _check_layout(self) -> None:
        os.stat(self.path)  # noqa: PTH116 (raises if the directory itself is missing)
        for name in ("oci-layout", "index.json"):
            try:
                data = self._read(name)
            except (FileNotFoundError, NotADirectoryError):
                raise FormatError(
                    f"{self._name}: not an OCI layout: {name} is missing", what="layout"
                ) from None
            if name == "oci-layout":
                check_layout_file(data, self._name)

    def _refuse_other_content(self) -> None:
        try:
            with os.scandir(self.path) as entries:
                names = sorted(e.name for e in entries if not e.name.startswith("."))
        except FileNotFoundError:
            return
        others = [name for name in names if name not in _OWN_NAMES]
        if others:
            raise FormatError(
                f"{self._name}: neither an OCI layout nor empty (found {shown(others[0])})",
                what="layout",
                hint="Use an empty or new directory.",
            )

    def _check_writable(self) -> None:
        if not self._write:
            raise self._read_only()

    def _prepare(self) -> None:
        self._check_writable()
        if self._prepared:
            return
        blobs = self.path / "blobs" / "sha256"
        with place_in_errors(blobs):
            blobs.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.path)
        self._prepared = True

    def _link(
        self, descriptor: Descriptor, origin: LayoutOrigin, window: Window, *, verify: bool
    ) -> TakenOver | MustStream:
        self._prepare()
        target = self._blob_path(descriptor.digest)
        if target.exists():  # its size is wrong, so it is damaged: put_blob will replace it
            return MustStream()
        if verify:
            _verify(descriptor, origin, window)
        try:
            if not link_file(origin.blob_path(descriptor.digest), window.fd, target):
                return MustStream()
        except FileExistsError:
            return TakenOver() if self.has_blob(descriptor) else MustStream()
        except OSError:  # another file system, or hard links are unsupported or forbidden
            return MustStream()
        with place_in_errors(target):
            sync_file(target)
            sync_directory(target.parent)
        return TakenOver()

    def _share(self, descriptor: Descriptor, window: Window) -> bool:
        """Create a blob that shares the blocks of an open file; return whether that succeeded."""
        self._prepare()
        with StagedFile(self.path) as staged:
            if not system.share_blocks(window.fd, staged.fileno()):
                return False
            copy = Window(staged.fileno(), 0, os.fstat(staged.fileno()).st_size)
            place = self._place(descriptor.digest)
            try:
                for _ in verified(
                    copy.pieces(), place=place, digest=descriptor.digest, size=descriptor.size
                ):
                    pass
            except VerificationError:  # streaming the blob will report the error
                return False
            staged.publish(self._blob_path(descriptor.digest))
        return True

    def _change_index(self, change: Callable[[LayoutIndex], LayoutIndex]) -> None:
        self._prepare()
        with self._locked():
            before = self._index()
            after = change(before)
            if after.document == before.document and self._is_layout():
                return
            data = after.to_json()
            if len(data) > MAX_SIZE:
                raise FormatError(
                    f"{self._name}: index.json would be too large (found {len(data)} bytes, "
                    f"expected at most {MAX_SIZE})",
                    what="layout",
                )
            with StagedFile(self.path) as staged:
                staged.write(data)
                staged.publish(self.path / "index.json")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock on ``oci-layout``, which is created if missing and never replaced."""
        path = self.path / "oci-layout"
        with place_in_errors(path):
            fd, may_write = _open_for_lock(path)
        try:
            with place_in_errors(path):
                system.lock(fd)
                # The file is new, or the process that created it died before writing to it.
                if may_write and os.fstat(fd).st_size < len(LAYOUT_FILE):
                    system.write_at(fd, LAYOUT_FILE, 0)
                    os.fsync(fd)
            yield
        finally:
            os.close(fd)


class _Link(MustVerify):
    """A blob of another layout to link, after verification: both layouts will share its file."""

    def __init__(
        self,
        layout: OciLayout,
        descriptor: Descriptor,
        origin: LayoutOrigin,
        identity: _Identity | None,
    ) -> None:
        self._layout = layout
        self._descriptor = descriptor
        self._origin = origin
        self._identity = identity

    def prepare(self) -> None:
        """Flush the blob to the disk, since its writer may not have done so."""
        with suppress(OSError):  # `finish` reports the error
            sync_file(self._origin.blob_path(self._descriptor.digest))

    def finish(self) -> TakenOver | MustStream:
        """Link the blob if its file has not changed since `take_over`."""
        return self._link(verify=False)

    def verify_and_finish(self) -> TakenOver | MustStream:
        """Read and verify the blob, then link it."""
        return self._link(verify=True)

    def _link(self, *, verify: bool) -> TakenOver | MustStream:
        descriptor = self._descriptor
        if self._layout.has_blob(descriptor):
            return TakenOver()
        try:
            opened = self._origin.window(descriptor.digest)
        except FileNotFoundError:
            return MustStream()
        with opened as window:
            status = os.fstat(window.fd)
            is_same = _identity(status) == self._identity and status.st_size == descriptor.size
            if not is_same or others_may_write(status):
                return MustStream()
            return self._layout._link(descriptor, self._origin, window, verify=verify)


def _identity(status: os.stat_result) -> _Identity:
    """Return a value that changes if a file is replaced or modified."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _verify(descriptor: Descriptor, origin: LayoutOrigin, window: Window) -> None:
    place = f"oci:{origin.path}: blob {descriptor.digest}"
    for _ in verified(window.pieces(), place=place, digest=descriptor.digest, size=descriptor.size):
        pass


def _open_for_lock(path: Path) -> tuple[int, bool]:
    """Open a file for locking; return the file descriptor and whether it is writable.

    A symbolic link is never opened for writing.
    """
    try:
        return os.open(path, _LOCK_FILE, 0o666), True
    except PermissionError:  # read-only in exported layouts
        pass
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    return open_regular(path), False
