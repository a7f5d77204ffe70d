"""An OCI layout directory, read and written. Source: OCI image-spec 1.1.1, image-layout.md.

Writing never leaves anything half-made: a blob gets its name when all its bytes are on the disk,
and ``index.json`` is replaced last, under a lock on the file ``oci-layout``, so that two writers
keep each other's entries. The lock binds tocsin only; other tools take none. A run that is killed
leaves the images that were there, and maybe blobs nobody refers to, which the next run uses, and a
file ``.tocsin-*.tmp``, which it removes.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tocsin.errors import FormatError, NotFoundError, VerificationError
from tocsin.model.descriptor import Descriptor
from tocsin.model.go_json import MAX_SIZE
from tocsin.model.media_types import OCTET_STREAM
from tocsin.quoting import shown
from tocsin.regular_file import open_regular
from tocsin.stores.base import MustStream, MustVerify, TakenOver
from tocsin.stores.file_store import FileSource, manifest_descriptor
from tocsin.stores.hashing import hashed
from tocsin.stores.layout_index import LAYOUT_FILE, LayoutIndex, check_layout_file
from tocsin.stores.linking import link_file, others_may_write
from tocsin.stores.origins import LayoutOrigin, layout_blob_path
from tocsin.stores.staged_file import (
    StagedFile,
    place_in_errors,
    remove_abandoned,
    sync_directory,
    sync_file,
)
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


class OciLayout(FileSource):
    """An OCI layout directory; see `Sink` for what each method promises.

    Args:
        path: the directory; with `write` it may be missing or empty, and is made when the first
            blob comes.
        write: whether anything may be put.

    Raises:
        FileNotFoundError: there is no such directory, and it is not to be written.
        FormatError: the directory is no layout; `what` is ``layout``.
        OSError: it cannot be read.
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
        """The directory, and the file system that has its blobs or will have them."""
        return LayoutOrigin(self.path, self._device())

    def put_blob(
        self,
        source: bytes | Iterable[bytes],
        *,
        digest: Digest | None = None,
        size: int | None = None,
        media_type: str = OCTET_STREAM,
    ) -> Descriptor:
        """Store a blob; it has its name once its bytes are on the disk."""
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
        """Take a blob over from another layout: by a hard link, or else by sharing blocks.

        Linked is only what others cannot write to, and always the file itself, never a link to it.
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
        except OSError:  # whoever reads the blob reports it
            return MustStream()
        return _Link(self, descriptor, origin, _identity(status))

    def put_manifest(self, data: bytes, media_type: str, *, tag: str | None = None) -> Descriptor:
        """Store a manifest; one with a tag or a subject is listed in ``index.json``."""
        descriptor, refers = manifest_descriptor(data, media_type, place=self._name)
        self.put_blob(data, digest=descriptor.digest, size=descriptor.size)
        if tag is not None or refers:
            self._change_index(lambda index: index.with_entry(descriptor, tag=tag))
        return descriptor

    def tag(self, descriptor: Descriptor, tag: str) -> None:
        """Let `tag` name a stored manifest, atomically."""
        if not self.has_blob(descriptor):
            raise NotFoundError(f"{self._place(descriptor.digest)}: is not there, cannot tag it")
        self._change_index(lambda index: index.with_entry(descriptor, tag=tag))

    def delete(self, descriptor: Descriptor) -> None:
        """Take a manifest off ``index.json`` and remove its blob; what it lists stays."""
        path = self._blob_path(descriptor.digest)
        if not self.has_blob(descriptor):
            raise NotFoundError(f"{self._place(descriptor.digest)}: is not there")
        self._change_index(lambda index: index.without(descriptor.digest))
        with place_in_errors(path):
            path.unlink(missing_ok=True)

    def commit(self) -> None:
        """Do nothing: what was put is visible at once."""

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
        """Return the file system that has the blobs, or will have them."""
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
        os.stat(self.path)  # noqa: PTH116 (says whether the directory itself is missing)
        for name in ("oci-layout", "index.json"):
            try:
                data = self._read(name)
            except (FileNotFoundError, NotADirectoryError):
                raise FormatError(
                    f"{self._name}: is no OCI layout, it has no file {name}", what="layout"
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
                f"{self._name}: is no OCI layout and not empty, it has {shown(others[0])}",
                what="layout",
                hint="Name an empty or a new directory.",
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
        if target.exists():  # of another size, so broken: let put_blob replace it
            return MustStream()
        if verify:
            _verify(descriptor, origin, window)
        try:
            if not link_file(origin.blob_path(descriptor.digest), window.fd, target):
                return MustStream()
        except FileExistsError:
            return TakenOver() if self.has_blob(descriptor) else MustStream()
        except OSError:  # another file system, one without hard links, or they are forbidden
            return MustStream()
        with place_in_errors(target):
            sync_file(target)
            sync_directory(target.parent)
        return TakenOver()

    def _share(self, descriptor: Descriptor, window: Window) -> bool:
        """Make a blob that shares the blocks of an open file; return whether that can be done."""
        self._prepare()
        with StagedFile(self.path) as staged:
            copy = staged.share(window.fd)
            if copy is None:
                return False
            place = self._place(descriptor.digest)
            try:
                for _ in verified(
                    copy.pieces(), place=place, digest=descriptor.digest, size=descriptor.size
                ):
                    pass
            except VerificationError:  # whoever streams the blob reports it
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
                    f"{self._name}: index.json would have {len(data)} bytes, at most {MAX_SIZE}",
                    what="layout",
                )
            with StagedFile(self.path) as staged:
                staged.write(data)
                staged.publish(self.path / "index.json")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock on ``oci-layout``, which is made here if need be and never replaced."""
        path = self.path / "oci-layout"
        with place_in_errors(path):
            fd, may_write = _open_for_lock(path)
        try:
            with place_in_errors(path):
                fcntl.flock(fd, fcntl.LOCK_EX)
                # New, or its maker died in between.
                if may_write and os.fstat(fd).st_size < len(LAYOUT_FILE):
                    os.pwrite(fd, LAYOUT_FILE, 0)
                    os.fsync(fd)
            yield
        finally:
            os.close(fd)


class _Link(MustVerify):
    """A blob of another layout, to be linked: its bytes are shared from then on, so verified."""

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
        """Flush the blob to the disk: its writer may have left it in memory."""
        with suppress(OSError):  # `finish` reports it
            sync_file(self._origin.blob_path(self._descriptor.digest))

    def finish(self) -> TakenOver | MustStream:
        """Link the blob, if it is still the file that was there before it was read."""
        return self._link(verify=False)

    def verify_and_finish(self) -> TakenOver | MustStream:
        """Read the blob, and link it."""
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
    """Return what tells whether a file is the one that was read, and unchanged."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _verify(descriptor: Descriptor, origin: LayoutOrigin, window: Window) -> None:
    place = f"oci:{origin.path}: blob {descriptor.digest}"
    for _ in verified(window.pieces(), place=place, digest=descriptor.digest, size=descriptor.size):
        pass


def _open_for_lock(path: Path) -> tuple[int, bool]:
    """Return a descriptor to lock, and whether it may be written to: never through a link."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o666), True
    except PermissionError:  # exported layouts have it read-only
        pass
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    return open_regular(path), False
