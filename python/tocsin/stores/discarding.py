"""The sink of a dry run: reads come from another store, writes are discarded."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Self

from tocsin.errors import NotFoundError
from tocsin.model.descriptor import Descriptor
from tocsin.model.digest import Digest
from tocsin.model.media_types import OCTET_STREAM
from tocsin.stores.base import TakenOver
from tocsin.stores.origins import Nowhere

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from tocsin.stores.base import Source
    from tocsin.stores.origins import BlobOrigin


class DiscardingSink:
    """A sink that reads from `inner`, if given, and discards writes; see `Sink`.

    `close` leaves `inner` open.
    """

    def __init__(self, name: str, inner: Source | None) -> None:
        self._name = name
        self._inner = inner
        self._taken: set[Digest] = set()

    @property
    def name(self) -> str:
        """Name of the destination in messages."""
        return self._name

    @property
    def origin(self) -> BlobOrigin:
        """Location of the blobs of `inner`."""
        return Nowhere() if self._inner is None else self._inner.origin

    def _existing(self) -> Source:
        if self._inner is None:
            raise NotFoundError(f"{self._name}: does not exist yet")
        return self._inner

    def resolve(self, selector: str | Digest | None, *, will_read: bool = False) -> Descriptor:
        """Return the descriptor of an image of `inner`."""
        return self._existing().resolve(selector, will_read=will_read)

    def tags(self) -> list[str]:
        """Return the tags of `inner`."""
        return [] if self._inner is None else self._inner.tags()

    def manifest(self, descriptor: Descriptor) -> bytes:
        """Return a manifest of `inner`."""
        return self._existing().manifest(descriptor)

    def blob(self, descriptor: Descriptor, *, verify: bool = True) -> Iterator[bytes]:
        """Stream a blob of `inner`."""
        return self._existing().blob(descriptor, verify=verify)

    def blob_range(self, descriptor: Descriptor, start: int, end: int) -> bytes:
        """Return bytes of a blob of `inner`."""
        return self._existing().blob_range(descriptor, start, end)

    def referrers(
        self, subject: Digest, artifact_type: str | None = None, *, lenient: bool = False
    ) -> list[Descriptor]:
        """Return the referrers in `inner`."""
        if self._inner is None:
            return []
        return self._inner.referrers(subject, artifact_type, lenient=lenient)

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Return whether `inner` has a blob, or would have it after the discarded writes."""
        if descriptor.digest in self._taken:
            return True
        return self._inner is not None and self._inner.has_blob(descriptor)

    def put_blob(
        self,
        source: bytes | Iterable[bytes],
        *,
        digest: Digest | None = None,
        size: int | None = None,
        media_type: str = OCTET_STREAM,
    ) -> Descriptor:
        """Read a blob to its end and return its descriptor."""
        sha256, length = hashlib.sha256(), 0
        for piece in [source] if isinstance(source, bytes) else source:
            sha256.update(piece)
            length += len(piece)
        put = Descriptor(media_type, Digest.parse(f"sha256:{sha256.hexdigest()}"), length)
        self._taken.add(put.digest)
        return put

    def take_over(self, descriptor: Descriptor, origin: BlobOrigin) -> TakenOver:
        """Discard a blob, which does not need to be streamed for that."""
        self._taken.add(descriptor.digest)
        return TakenOver()

    def put_manifest(self, data: bytes, media_type: str, *, tag: str | None = None) -> Descriptor:
        """Return the descriptor of a manifest."""
        return Descriptor.of(data, media_type)

    def tag(self, descriptor: Descriptor, tag: str) -> None:
        """Do nothing."""

    def delete(self, descriptor: Descriptor) -> None:
        """Do nothing."""

    def commit(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Leave `inner` open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        self.close()
