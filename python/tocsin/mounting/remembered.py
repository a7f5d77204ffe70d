"""A registry whose manifests are remembered on disk, so that a mount can start without it.

What a digest names never changes, so manifests, configs and roots of seek tables are requested
once. What a tag names, and which manifests refer to an image, may change: the registry is asked,
and its last answer is used only if it cannot be reached.
"""

from __future__ import annotations

import hashlib
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from tocsin.errors import FormatError, RegistryError, UnsupportedError
from tocsin.layers.cache_space import ANSWERS, IMAGES
from tocsin.layers.untrusted_directory import (
    UntrustedFileError,
    open_directory,
    open_file,
    open_root,
    read_file,
    write_file,
)
from tocsin.model.access_log_manifest import ACCESS_LOG_GZIP
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.go_json import MAX_SIZE
from tocsin.model.image_config import MAX_CONFIG_SIZE
from tocsin.model.manifest import ImageIndex, sniff_media_type
from tocsin.model.media_types import OCI_INDEX
from tocsin.model.seek_manifest import SEEK_ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

    from tocsin.stores.base import Source
    from tocsin.stores.origins import BlobOrigin

_PROBLEMS = (OSError, UntrustedFileError)


class RememberedSource:
    """A repository of a registry; implements `Source`.

    The registry is not contacted until it has to be. A cache that cannot be used only means that
    the registry is asked every time.

    Args:
        name: name of the repository in messages.
        open_store: opens the repository.
        directory: the cache directory.
        note: called with messages for the user.
    """

    def __init__(
        self,
        name: str,
        open_store: Callable[[], Source],
        directory: Path,
        note: Callable[[str], None],
    ) -> None:
        self._name = name
        self._open_store = open_store
        self._directory = directory
        self._note = note
        self._lock = threading.Lock()
        self._store: Source | None = None

    @property
    def name(self) -> str:
        """Name in messages."""
        return self._name

    @property
    def origin(self) -> BlobOrigin:
        """Location of the blobs."""
        return self._inner.origin

    @property
    def _inner(self) -> Source:
        with self._lock:
            if self._store is None:
                self._store = self._open_store()
            return self._store

    def resolve(self, selector: str | Digest | None, *, will_read: bool = False) -> Descriptor:
        """Return the descriptor of an image; one given by digest is not requested twice."""
        if isinstance(selector, Digest):
            data = self._read(IMAGES, selector.hex, MAX_SIZE)
            if data is not None and Digest.of(data) == selector:
                with suppress(FormatError):
                    return Descriptor(sniff_media_type(data), selector, len(data))
        key = self._key("tag", str(selector))
        try:
            found = self._inner.resolve(selector, will_read=will_read)
        except RegistryError as error:
            (known,) = self._last_answer(key, error) or (None,)
            if known is None:
                raise
            self._note(
                f"{self._name}: the registry cannot be reached, so the image is the one that "
                f"{selector} named when it was last asked, {known.digest}"
            )
            return known
        if not isinstance(selector, Digest):
            self._keep_answer(key, [found])
        return found

    def tags(self) -> list[str]:
        """Return all tags, sorted."""
        return self._inner.tags()

    def manifest(self, descriptor: Descriptor) -> bytes:
        """Return a manifest or image index, verified."""
        return self._small(descriptor, MAX_SIZE, lambda: self._inner.manifest(descriptor))

    def blob(self, descriptor: Descriptor, *, verify: bool = True) -> Iterator[bytes]:
        """Stream a blob, verified; small ones that are needed for every mount are kept."""
        kind = descriptor.media_type
        is_small = kind.endswith("+json") or kind in (SEEK_ROOT, ACCESS_LOG_GZIP)
        if descriptor.size <= MAX_CONFIG_SIZE and is_small:
            read = self._inner_blob(descriptor)
            yield self._small(descriptor, MAX_CONFIG_SIZE, read)
        else:
            yield from self._inner.blob(descriptor, verify=verify)

    def blob_range(self, descriptor: Descriptor, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)`` of a blob, unverified."""
        return self._inner.blob_range(descriptor, start, end)

    def referrers(
        self, subject: Digest, artifact_type: str | None = None, *, lenient: bool = False
    ) -> list[Descriptor]:
        """Return the manifests that refer to `subject`."""
        key = self._key("referrers", f"{subject} {artifact_type}")
        try:
            # Not lenient: an empty list instead of an error would replace the last answer.
            found = self._inner.referrers(subject, artifact_type)
        except RegistryError as error:
            known = self._last_answer(key, error)
            if known is not None:
                return known
            if not lenient:
                raise
            return self._inner.referrers(subject, artifact_type, lenient=True)
        self._keep_answer(key, found)
        return found

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Return whether a blob or manifest exists."""
        return self._inner.has_blob(descriptor)

    def close(self) -> None:
        """Close the repository."""
        with self._lock:
            if self._store is not None:
                self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- the cache -----------------------------------------------------------------------------

    def _inner_blob(self, descriptor: Descriptor) -> Callable[[], bytes]:
        return lambda: b"".join(self._inner.blob(descriptor))

    def _small(self, descriptor: Descriptor, limit: int, read: Callable[[], bytes]) -> bytes:
        name = descriptor.digest.hex
        if descriptor.size <= limit:
            data = self._read(IMAGES, name, descriptor.size)
            is_right = data is not None and len(data) == descriptor.size
            if data is not None and is_right and Digest.of(data) == descriptor.digest:
                return data
        data = read()
        self._write(IMAGES, name, data)
        return data

    def _key(self, kind: str, question: str) -> str:
        text = f"{kind}\n{self._name}\n{question}"
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def _last_answer(self, key: str, error: RegistryError) -> list[Descriptor] | None:
        """Return the last answer, if the registry cannot be reached."""
        if not error.temporary:
            return None
        data = self._read(ANSWERS, key, MAX_SIZE)
        if data is None:
            return None
        try:
            return list(ImageIndex.from_json(data).manifests or ())
        except (FormatError, UnsupportedError):
            return None

    def _keep_answer(self, key: str, found: list[Descriptor]) -> None:
        data = ImageIndex(tuple(found), media_type=OCI_INDEX).to_json()
        if data != self._read(ANSWERS, key, MAX_SIZE):
            self._write(ANSWERS, key, data)

    def _read(self, kind: str, name: str, limit: int) -> bytes | None:
        with (
            suppress(*_PROBLEMS),
            open_root(self._directory) as root,
            open_directory(root, [kind]) as directory,
        ):
            with open_file(name, directory) as fd:
                size = os.fstat(fd).st_size
            if size <= limit:
                return read_file(name, directory, size)
        return None

    def _write(self, kind: str, name: str, data: bytes) -> None:
        with (
            suppress(*_PROBLEMS),
            open_root(self._directory, make=True) as root,
            open_directory(root, [kind], make=True) as directory,
        ):
            write_file(name, directory, data)
