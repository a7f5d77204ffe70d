"""Uploads of blobs, with the methods that a registry supports.

A blob of at most one chunk is uploaded with one PUT, or in chunks if that is refused. A longer blob
is uploaded in chunks, each of which is kept until the registry has it; after a lost connection, the
registry is asked how many bytes it has. If a registry refuses chunks, the blob is sent in one long
request. The expected digest and size are verified before the upload is closed with the digest, so
a damaged blob is never stored.

Source: OCI distribution-spec 1.1, "Pushing blobs".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from tocsin.errors import RegistryError
from tocsin.stores.hashing import hashed
from tocsin.stores.http.status import ACCEPTED, CREATED, OK
from tocsin.stores.http.transport import MAX_TRIES
from tocsin.stores.registry.endpoint import PUSH, PUSH_AGAIN
from tocsin.stores.registry.scopes import Scopes
from tocsin.stores.registry.upload_session import (
    MethodRefusedError,
    SessionLostError,
    UploadSession,
)
from tocsin.stores.window import PIECE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tocsin.model.descriptor import Descriptor
    from tocsin.model.digest import Digest
    from tocsin.stores.hashing import HashedStream
    from tocsin.stores.registry.endpoint import Endpoint

CHUNK_SIZE = 8 << 20
"""Bytes per chunk, kept until the registry has them; S3 requires parts of at least 5 MiB."""

MAX_CHUNK_SIZE = 64 << 20
"""Maximum bytes per chunk; if a registry requires more, one long request is sent."""


class BlobPush:
    """Uploads to one repository; may be used by several threads.

    Args:
        endpoint: endpoint of the repository.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._refuses_chunks = False
        self._refuses_single_puts = False
        self._refuses_mounts: set[str] = set()

    def put(
        self,
        source: bytes | Iterable[bytes],
        digest: Digest | None,
        size: int | None,
        *,
        is_new: bool = False,
    ) -> tuple[Digest, int]:
        """Store a blob and return its digest and size; see `Sink.put_blob`.

        Bytes that are new are uploaded without asking whether they exist.

        Raises:
            VerificationError: the bytes have a different digest or size.
            RegistryError: the registry refused; or it lost the upload, and `source` can be read
                only once.
        """
        place = f"{self._endpoint.name}: new blob"
        expected = None if digest is None or size is None else (digest, size)
        replayable = not isinstance(source, Iterator)
        for tries in range(1, MAX_TRIES + 1):
            stream = hashed(source, place=place, digest=digest, size=size)
            try:
                if digest is not None and self._exists(digest, size):
                    stream.drain()
                elif isinstance(source, bytes):
                    stream.drain()
                    if is_new:
                        self._put_missing_bytes(source, stream.digest)
                    else:
                        self._put_bytes(source, stream.digest)
                else:
                    self._put_stream(stream, expected)
            except SessionLostError as lost:
                if not replayable or tries == MAX_TRIES:
                    raise self._lost(stream.size, lost) from None
                self._pause(tries)
            except MethodRefusedError as refused:
                if not replayable or self._refuses_chunks:
                    raise refused.error from None
                self._refuses_chunks = True
            else:
                return stream.digest, stream.size
        raise AssertionError  # the last iteration returned or raised

    def may_mount(self, source_repository: str) -> bool:
        """Return whether no mount from `source_repository` has been refused yet."""
        return source_repository not in self._refuses_mounts

    def mount(self, descriptor: Descriptor, source_repository: str) -> bool:
        """Mount a blob from another repository of this registry; return ``False`` if refused.

        All refusals are ignored, including that of the token, which covers two repositories: the
        blob can be uploaded instead. If pushing is not allowed, the upload reports it.
        """
        endpoint = self._endpoint
        doing = f"mount blob {descriptor.digest} from {source_repository}"
        mount = {"mount": str(descriptor.digest), "from": source_repository}
        try:
            answer = endpoint.send(
                "POST",
                endpoint.url("blobs", "uploads", "", query=mount),
                doing=doing,
                expect={CREATED, ACCEPTED},
                actions=PUSH,
                also=Scopes.repository(source_repository, "pull"),
            )
        except RegistryError:
            self._refuses_mounts.add(source_repository)
            return False
        answer.discard()
        if answer.status == CREATED:
            return True
        self._refuses_mounts.add(source_repository)
        if answer.header("Location"):
            with suppress(RegistryError):
                UploadSession(endpoint, endpoint.location(answer, doing)).cancel()
        return False

    def _put_bytes(self, data: bytes, digest: Digest) -> None:
        if not self._exists(digest, len(data)):
            self._put_missing_bytes(data, digest)

    def _put_missing_bytes(self, data: bytes, digest: Digest) -> None:
        if not self._refuses_single_puts:
            session = UploadSession.start(self._endpoint)
            try:
                session.put_all(data, digest)
            except MethodRefusedError as refused:
                session.cancel()
                self._put_bytes_in_chunks(data, digest)
                self._refuses_single_puts = not refused.error.temporary
            except Exception:
                session.cancel()
                raise
            return
        self._put_bytes_in_chunks(data, digest)

    def _put_bytes_in_chunks(self, data: bytes, digest: Digest) -> None:
        for tries in range(1, MAX_TRIES + 1):
            session = UploadSession.start(self._endpoint)
            try:
                step = _chunk_size(session)
                for at in range(0, len(data), step):
                    session.send_chunk(data[at : at + step])
                session.close(digest, len(data))
            except SessionLostError as lost:
                session.cancel()
                if tries == MAX_TRIES:
                    raise self._lost(len(data), lost) from None
                self._pause(tries)
            except MethodRefusedError as refused:
                session.cancel()
                raise refused.error from None
            except Exception:
                session.cancel()
                raise
            else:
                return

    def _put_stream(self, stream: HashedStream, expected: tuple[Digest, int] | None) -> None:
        chunks = _Chunks(stream)
        first = chunks.take(CHUNK_SIZE)
        if chunks.at_end:
            self._put_bytes(first, stream.digest)
            return
        session = UploadSession.start(self._endpoint)
        try:
            if not self._refuses_chunks and session.least_chunk <= MAX_CHUNK_SIZE:
                more = _chunk_size(session) - len(first)
                first += chunks.take(more) if more > 0 else b""
                session = self._send_first(session, first)
            if session.confirmed == 0:
                body = _Body(_one_behind(first, chunks.rest()))
                self._send_long(session, body, stream, expected)
                return
            while chunk := chunks.take(_chunk_size(session)):
                session.send_chunk(chunk)
            session.close(stream.digest, stream.size)
        except Exception:
            session.cancel()
            raise

    def _send_first(self, session: UploadSession, chunk: bytes) -> UploadSession:
        """Send the first chunk and return its session, or a new session if it is refused."""
        for tries in range(1, MAX_TRIES + 1):
            try:
                session.send_chunk(chunk)
            except MethodRefusedError:
                session.cancel()
                break
            except SessionLostError:
                if tries < MAX_TRIES:
                    self._pause(tries)
                    session = UploadSession.start(self._endpoint)
            else:
                return session
        self._refuses_chunks = True
        return UploadSession.start(self._endpoint)

    def _send_long(
        self,
        session: UploadSession,
        body: _Body,
        stream: HashedStream,
        expected: tuple[Digest, int] | None,
    ) -> None:
        try:
            if expected is not None:
                digest, size = expected
                session.close_with(digest, _SizedBody(body, size))
            else:
                session.send_rest(iter(body))
                session.close(stream.digest, stream.size)
        except _SourceError:
            assert body.error is not None  # noqa: S101 (set before _SourceError is raised)
            raise body.error from None

    def _exists(self, digest: Digest, size: int | None) -> bool:
        """Return whether the blob exists; ``False`` if HEAD is refused."""
        url = self._endpoint.url("blobs", str(digest))
        answer = self._endpoint.attempt("HEAD", url, expect={OK})
        if answer is None:
            return False
        answer.discard()
        return size is None or answer.is_encoded or answer.content_length in (None, size)

    def _pause(self, failures: int) -> None:
        clock = self._endpoint.clock
        clock.sleep(clock.backoff(failures))

    def _lost(self, size: int, lost: Exception) -> RegistryError:
        return RegistryError(
            f"{self._endpoint.name}: upload: the registry lost the session after {size} bytes had "
            f"been read: {lost}",
            code="BLOB_UPLOAD_UNKNOWN",
            temporary=True,
            hint=PUSH_AGAIN,
        )


def _chunk_size(session: UploadSession) -> int:
    """Return `CHUNK_SIZE`, rounded up to a multiple of the registry's minimum.

    Some registries accept a chunk only at the beginning of one of their parts.
    """
    least = max(1, session.least_chunk)
    return -(-CHUNK_SIZE // least) * least


class _Chunks:
    """Pieces of any size, regrouped into chunks of a given size."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._held = bytearray()
        self._ended = False

    @property
    def at_end(self) -> bool:
        """Whether all bytes have been taken."""
        return self._ended and not self._held

    def take(self, size: int) -> bytes:
        """Return `size` bytes, or fewer at the end; reads one byte ahead to detect the end."""
        while len(self._held) <= size and not self._ended:
            piece = next(self._pieces, None)
            if piece is None:
                self._ended = True
            else:
                self._held += piece
        chunk = bytes(self._held[:size])
        del self._held[:size]
        return chunk

    def rest(self) -> Iterator[bytes]:
        """Yield the remaining bytes."""
        while piece := self.take(PIECE_SIZE):
            yield piece


class _SourceError(Exception):
    """Reading the source failed; not an ``OSError``, which would look like a network failure."""


class _Body:
    """A body that is read once; `error` is the exception that reading it raised."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._pieces
        except Exception as error:
            self.error = error
            raise _SourceError from None


class _SizedBody:
    """A body of known length, which is sent with ``Content-Length``."""

    def __init__(self, body: Iterable[bytes], size: int) -> None:
        self._body = body
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)


def _one_behind(first: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    """Yield `first` and `rest`, each after reading the next one, the last after reading the end.

    If the stream fails verification at its end, the body is incomplete and is not stored.
    """
    held = first
    for piece in rest:
        yield held
        held = piece
    yield held
