"""Sources and sinks that count the bytes read from a store and written to it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

from tocsin.model.descriptor import Descriptor
from tocsin.model.media_types import OCTET_STREAM
from tocsin.stores.base import MustVerify, TakenOver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from tocsin.model.digest import Digest
    from tocsin.model.document import Document
    from tocsin.stores.base import MustStream, Sink, Source, Takeover
    from tocsin.stores.origins import BlobOrigin


@dataclass(frozen=True, slots=True)
class Traffic:
    """Numbers of bytes transferred; in a dry run, those that would be transferred.

    Attributes:
        read: bytes of blobs and manifests read from the source and the destination.
        ztocs: bytes of zTOCs and other generated blobs that were missing from the destination.
        manifests: bytes of SOCI indexes, manifests and image indexes written.
        blobs: bytes of layers and configs copied to the destination.
        mounted: bytes of layers and configs that the destination took over without a copy.
    """

    read: int = 0
    ztocs: int = 0
    manifests: int = 0
    blobs: int = 0
    mounted: int = 0

    @property
    def pushed(self) -> int:
        """All bytes written to the destination."""
        return self.ztocs + self.manifests + self.blobs

    def to_dict(self) -> Document:
        """Return the traffic as ``--json`` prints it."""
        return {
            "read": self.read,
            "pushed": self.pushed,
            "ztocs": self.ztocs,
            "manifests": self.manifests,
            "blobs": self.blobs,
            "mounted": self.mounted,
        }


class Meter:
    """Counters shared by any number of sources, sinks and threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(Traffic.__slots__, 0)

    def add(self, what: str, byte_count: int) -> None:
        """Count bytes; `what` is an attribute of `Traffic`."""
        with self._lock:
            self._counts[what] += byte_count

    @property
    def traffic(self) -> Traffic:
        """The counts so far."""
        with self._lock:
            return Traffic(**self._counts)


class MeteredSource:
    """A source that counts the bytes read from `inner`; see `Source`. `close` leaves it open."""

    def __init__(self, inner: Source, meter: Meter) -> None:
        self._inner = inner
        self._meter = meter

    @property
    def name(self) -> str:
        """Name of `inner` in messages."""
        return self._inner.name

    @property
    def origin(self) -> BlobOrigin:
        """Location of the blobs of `inner`."""
        return self._inner.origin

    def resolve(self, selector: str | Digest | None, *, will_read: bool = False) -> Descriptor:
        """Return the descriptor of an image of `inner`."""
        return self._inner.resolve(selector, will_read=will_read)

    def tags(self) -> list[str]:
        """Return the tags of `inner`."""
        return self._inner.tags()

    def manifest(self, descriptor: Descriptor) -> bytes:
        """Return a manifest of `inner`."""
        data = self._inner.manifest(descriptor)
        self._meter.add("read", len(data))
        return data

    def blob(self, descriptor: Descriptor, *, verify: bool = True) -> Iterator[bytes]:
        """Stream a blob of `inner`."""
        for piece in self._inner.blob(descriptor, verify=verify):
            self._meter.add("read", len(piece))
            yield piece

    def blob_range(self, descriptor: Descriptor, start: int, end: int) -> bytes:
        """Return bytes of a blob of `inner`."""
        data = self._inner.blob_range(descriptor, start, end)
        self._meter.add("read", len(data))
        return data

    def referrers(
        self, subject: Digest, artifact_type: str | None = None, *, lenient: bool = False
    ) -> list[Descriptor]:
        """Return the referrers in `inner`."""
        return self._inner.referrers(subject, artifact_type, lenient=lenient)

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Return whether `inner` has a blob."""
        return self._inner.has_blob(descriptor)

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


class MeteredSink(MeteredSource):
    """A sink that counts the bytes read from and written to `inner`; see `Sink`."""

    def __init__(self, inner: Sink, meter: Meter) -> None:
        super().__init__(inner, meter)
        self._sink = inner

    def put_blob(
        self,
        source: bytes | Iterable[bytes],
        *,
        digest: Digest | None = None,
        size: int | None = None,
        media_type: str = OCTET_STREAM,
    ) -> Descriptor:
        """Store a blob in `inner`; one given as bytes is not counted if it already exists."""
        is_generated = isinstance(source, bytes) and digest is None
        exists = isinstance(source, bytes) and self._inner.has_blob(
            Descriptor.of(source, media_type)
        )
        put = self._sink.put_blob(source, digest=digest, size=size, media_type=media_type)
        if not exists:
            self._meter.add("ztocs" if is_generated else "blobs", put.size)
        return put

    def take_over(self, descriptor: Descriptor, origin: BlobOrigin) -> Takeover:
        """Let `inner` take a blob over; the blob is counted when that is finished."""
        takeover = self._sink.take_over(descriptor, origin)
        count = partial(self._count, descriptor, origin)
        if isinstance(takeover, MustVerify):
            return _CountedWhenFinished(takeover, count)
        count(takeover)
        return takeover

    def _count(
        self, descriptor: Descriptor, origin: BlobOrigin, outcome: TakenOver | MustStream
    ) -> None:
        if isinstance(outcome, TakenOver):
            # The sink of a dry run takes over every blob, even those that a real run would copy.
            mounted = self._sink.origin.takes_from(origin)
            self._meter.add("mounted" if mounted else "blobs", descriptor.size)

    def put_manifest(self, data: bytes, media_type: str, *, tag: str | None = None) -> Descriptor:
        """Store a manifest in `inner`."""
        put = self._sink.put_manifest(data, media_type, tag=tag)
        self._meter.add("manifests", len(data))
        return put

    def tag(self, descriptor: Descriptor, tag: str) -> None:
        """Tag a manifest in `inner`."""
        self._sink.tag(descriptor, tag)

    def delete(self, descriptor: Descriptor) -> None:
        """Delete a manifest from `inner`."""
        self._sink.delete(descriptor)

    def commit(self) -> None:
        """Commit `inner`."""
        self._sink.commit()


class _CountedWhenFinished(MustVerify):
    def __init__(self, inner: MustVerify, count: Callable[[TakenOver | MustStream], None]) -> None:
        self._inner = inner
        self._count = count

    def prepare(self) -> None:
        self._inner.prepare()

    def finish(self) -> TakenOver | MustStream:
        outcome = self._inner.finish()
        self._count(outcome)
        return outcome

    def verify_and_finish(self) -> TakenOver | MustStream:
        outcome = self._inner.verify_and_finish()
        self._count(outcome)
        return outcome
