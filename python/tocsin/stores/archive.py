"""OCI archives: tar files of an OCI layout, read in place and written as a whole.

Reading does not unpack the archive. Writing collects blobs in temporary files next to the archive
(`spool`); `commit` writes a new tar under a temporary name and renames it, so a reader sees either
the old archive or the new one. Existing content is kept. Blobs from another archive or layout are
not collected: `commit` copies them from their files. A streamed blob is therefore written twice.

Equal content gives equal bytes: members are sorted by name (``blobs/…``, ``index.json``,
``oci-layout``), times and owners are 0, and modes are those that the reference writes. skopeo,
podman and containerd accept members in any order.

Source: OCI image-spec 1.1.1, image-layout.md; awslabs/soci-snapshotter,
cmd/soci/commands/internal/standalone.go.
"""

from __future__ import annotations

import os
import re
import tarfile
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

from tocsin.errors import FormatError, NotFoundError, UnsupportedError
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.go_json import MAX_SIZE
from tocsin.model.media_types import OCTET_STREAM
from tocsin.quoting import shown
from tocsin.staged_file import StagedFile, remove_abandoned
from tocsin.stores.base import MustStream, TakenOver
from tocsin.stores.file_store import FileSource, manifest_descriptor
from tocsin.stores.hashing import hashed
from tocsin.stores.layout_index import LAYOUT_FILE, LayoutIndex, check_layout_file
from tocsin.stores.origins import ArchiveOrigin
from tocsin.stores.spool import Spool
from tocsin.stores.tar_members import TarMembers
from tocsin.stores.verification import verified as checked
from tocsin.stores.window import holds
from tocsin.tar.headers import BLOCK_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from tocsin.stores.origins import BlobOrigin
    from tocsin.stores.window import Window

_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")
_BLOB_MODE = 0o444
_INDEX_MODE = 0o644
_DIRECTORY_MODE = 0o755


class OciArchive(FileSource):
    """A tar file of an OCI layout; see `Sink` for the contract of each method.

    Args:
        path: path of the file; with `write`, the file may be missing or empty.
        write: whether the archive is opened for writing.
        name: name in messages; default ``oci-archive:PATH``.
        members: members of the archive if it is already open, only for reading; `close` closes
            them.

    Raises:
        OSError: the file cannot be read, or it is missing and not opened for writing.
        FormatError: the file is not a tar archive, or does not contain a layout; `what` is
            ``archive`` or ``layout``.
        UnsupportedError: the archive is compressed or not a regular file, or it is opened for
            writing and has members that do not belong to a layout.
    """

    def __init__(
        self,
        path: Path,
        *,
        write: bool = False,
        name: str = "",
        members: TarMembers | None = None,
    ) -> None:
        super().__init__(name or f"oci-archive:{path}")
        self.path = Path(os.path.realpath(path)) if write else path
        self._write = write
        self._lock = RLock()
        self._staged: dict[Digest, Callable[[], Window]] = {}
        self._spool = Spool(self.path.parent)
        self._changed = False
        self._members = self._open_members() if members is None else members
        try:
            self._layout = self._read_layout()
        except BaseException:
            self.close()
            raise

    @property
    def origin(self) -> ArchiveOrigin:
        """The file, and the position of each blob in it."""
        return ArchiveOrigin(self.path, self._window)

    def put_blob(
        self,
        source: bytes | Iterable[bytes],
        *,
        digest: Digest | None = None,
        size: int | None = None,
        media_type: str = OCTET_STREAM,
    ) -> Descriptor:
        """Keep a blob for `commit`."""
        self._check_writable()
        stream = hashed(source, place=f"{self._name}: new blob", digest=digest, size=size)
        promised = None if digest is None or size is None else Descriptor(media_type, digest, size)
        if promised is not None and self.has_blob(promised):
            stream.drain()
            return promised
        window = self._spool.stage(stream)
        stored = Descriptor(media_type, stream.digest, stream.size)
        self._stage(stored.digest, lambda: window)
        return stored

    def take_over(self, descriptor: Descriptor, origin: BlobOrigin) -> TakenOver | MustStream:
        """Remember the file of a blob; `commit` copies and verifies the blob from there."""
        self._check_writable()
        if self.has_blob(descriptor):
            return TakenOver()
        if not self.origin.takes_from(origin) or not holds(origin.window, descriptor):
            return MustStream()
        self._stage(descriptor.digest, partial(origin.window, descriptor.digest))
        return TakenOver()

    def put_manifest(self, data: bytes, media_type: str, *, tag: str | None = None) -> Descriptor:
        """Keep a manifest for `commit`; it is listed if it has a tag or a subject."""
        descriptor, refers = manifest_descriptor(data, media_type, place=self._name)
        self.put_blob(data, digest=descriptor.digest, size=descriptor.size)
        if tag is not None or refers:
            self._list(descriptor, tag)
        return descriptor

    def tag(self, descriptor: Descriptor, tag: str) -> None:
        """Tag a manifest when `commit` is called."""
        self._check_writable()
        if not self.has_blob(descriptor):
            raise NotFoundError(
                f"{self._place(descriptor.digest)}: not found, so it cannot be tagged"
            )
        self._list(descriptor, tag)

    def delete(self, descriptor: Descriptor) -> None:
        """Raise `UnsupportedError`: deleting from archives is not supported."""
        raise UnsupportedError(f"{self._name}: manifests of an archive cannot be deleted")

    def commit(self) -> None:
        """Write the archive if its content has changed.

        Raises:
            OSError: the archive cannot be written; the old one is unchanged.
            VerificationError: a blob that was taken over does not match its descriptor.
        """
        with self._lock:
            if not self._changed:
                return
            remove_abandoned(self.path.parent)
            try:
                with StagedFile(self.path.parent) as staged:
                    self._write_tar(staged)
                    staged.publish(self.path)
            except BaseException:
                self.close()  # some staged blobs may have been released already
                raise
            self._forget()
            self._members = self._open_members()

    def close(self) -> None:
        """Close the file and discard what was not committed; nothing can be written afterwards."""
        with self._lock:
            self._forget()
            self._write = False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with closing(self):
            if error is None:
                self.commit()

    def _forget(self) -> None:
        self._staged.clear()
        self._spool.close()
        self._changed = False
        if self._members is not None:
            self._members.close()
            self._members = None

    def _window(self, digest: Digest) -> Window:
        with self._lock:
            staged = self._staged.get(digest)
            if staged is not None:
                return staged()
            name = f"blobs/sha256/{digest.hex}"
            if self._members is None or name not in self._members:
                raise FileNotFoundError(name)
            return self._members.window(name)

    def _index(self) -> LayoutIndex:
        return self._layout

    def _open_members(self) -> TarMembers | None:
        if self.path.is_dir():
            raise UnsupportedError(
                f"{self._name}: is a directory", hint="Write the name of a layout as oci:DIR."
            )
        if self._write:
            if not self.path.exists() or (self.path.is_file() and not self.path.stat().st_size):
                return None
            if not self.path.is_file():
                raise UnsupportedError(f"{self._name}: not a regular file, cannot be replaced")
        return TarMembers(self.path)

    def _read_layout(self) -> LayoutIndex:
        if self._members is None:
            return LayoutIndex.empty()
        for name in ("oci-layout", "index.json"):
            if name not in self._members:
                is_docker = "manifest.json" in self._members
                raise FormatError(
                    f"{self._name}: not an OCI archive: {name} is missing",
                    what="layout",
                    hint="Write its name as docker-archive:FILE." if is_docker else None,
                )
        check_layout_file(self._members.read("oci-layout", max_size=MAX_SIZE), self._name)
        if self._write:
            self._refuse_other_members(self._members.names)
        return LayoutIndex.from_json(self._members.read("index.json", max_size=MAX_SIZE))

    def _refuse_other_members(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in ("oci-layout", "index.json") and not _BLOB.fullmatch(name):
                raise UnsupportedError(
                    f"{self._name}: cannot be rewritten: {shown(name)} is not part of a layout",
                    hint="Write to another file.",
                )

    def _check_writable(self) -> None:
        if not self._write:
            raise self._read_only()

    def _stage(self, digest: Digest, window: Callable[[], Window]) -> None:
        with self._lock:
            self._staged[digest] = window
            self._changed = True

    def _list(self, descriptor: Descriptor, tag: str | None) -> None:
        with self._lock:
            self._layout = self._layout.with_entry(descriptor, tag=tag)
            self._changed = True

    def _write_tar(self, staged: StagedFile) -> None:
        for name in ("blobs/", "blobs/sha256/"):
            staged.write(_header(name, 0, _DIRECTORY_MODE))
        kept = self._members.names if self._members is not None else []
        digests = {Digest(found[1]) for name in kept if (found := _BLOB.fullmatch(name))}
        for digest in sorted(digests | set(self._staged)):
            self._write_blob(staged, digest)
        _write_member(staged, "index.json", self._layout.to_json(), _INDEX_MODE)
        _write_member(staged, "oci-layout", LAYOUT_FILE, _BLOB_MODE)
        staged.write(bytes(2 * BLOCK_SIZE))

    def _write_blob(self, staged: StagedFile, digest: Digest) -> None:
        with self._open(digest) as window:
            staged.write(_header(f"blobs/sha256/{digest.hex}", window.size, _BLOB_MODE))
            place = self._place(digest)
            for piece in checked(window.pieces(), place=place, digest=digest, size=window.size):
                staged.write(piece)
            staged.write(bytes(-window.size % BLOCK_SIZE))
        self._spool.release(window)


def _write_member(staged: StagedFile, name: str, data: bytes, mode: int) -> None:
    staged.write(_header(name, len(data), mode))
    staged.write(data)
    staged.write(bytes(-len(data) % BLOCK_SIZE))


def _header(name: str, size: int, mode: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = mode
    if name.endswith("/"):
        info.type = tarfile.DIRTYPE
    # USTAR sizes end at 8 GiB; every tool that supports such layers reads GNU's binary sizes.
    large = size >= 8 << 30
    return info.tobuf(format=tarfile.GNU_FORMAT if large else tarfile.USTAR_FORMAT)
